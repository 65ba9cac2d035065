r"""The only training loop, from pre-training to unlearning."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from megu.core.device import Compute, Stopwatch, compile_errors, forward, in_batches, too_big
from megu.core.models import asked
from megu.core.optimiser import look_ahead, optimiser, smoothed
from megu.core.resume import Checkpoint, digest, draws_of, interruptible, put_back
from megu.settings.config import Recipe
from megu.settings.errors import MeguError, SettingsError
from megu.settings.progress import Bar

EXPLODED = 1e4  # nats: no classifier that still learns is so wrong


class DivergedError(MeguError, FloatingPointError):
    """A training ran away; ``last_good`` is the model after the last sound epoch."""

    def __init__(self, message, last_good=None):
        super().__init__(message)
        self.last_good = last_good


@dataclass
class Position:
    r"""Where a training is: its epoch, from 0, and how many steps are done."""

    epoch: int = 0
    step: int = 0


def fit(
    model: nn.Module,
    batch: Callable,
    count: int,
    recipe: Recipe,
    gen: torch.Generator,
    compute: Compute,
    *,
    loss: Callable = F.cross_entropy,
    after: Callable | None = None,
    label: str = "training",
    moments: dict | None = None,
    at: Position | None = None,
    draws: Sequence[torch.Generator] = (),
    checkpoint: Checkpoint | None = None,
) -> list[float]:
    r"""Train a model in place; it ends in eval mode.

    Args:
        batch: function of positions ``(b,)`` int64 to (images ``(b, C, H, W)`` float, labels ``(b, ...)``).
        count: of items; each epoch is a permutation by ``gen``, in the recipe's batches.
        loss: function of (logits float32, labels), mean over the batch.
        after: function of the model after every step.
        moments: what the optimiser keeps of each weight, taken over from earlier trainings of this model and left to
            later ones; None starts afresh.
        at: kept up to date, for ``batch``, ``loss`` and ``after``.  draws: generators that these draw from.
        checkpoint: where the state is kept, every few minutes and when SIGTERM or Ctrl-C comes; the same call goes on
            from there with the same bits.  What ``batch``, ``loss`` and ``after`` change themselves is not kept.
    Returns: mean loss of each epoch.
    Raises: ValueError for ``count`` 0, DivergedError where the loss explodes or weights are no numbers any more,
        SettingsError where the model cannot be compiled, one image or the optimiser does not fit into memory, or labels
        would be smoothed in another loss than cross-entropy.

    A batch that does not fit into memory is summed over parts: the same up to rounding, but for dropout, drawn anew,
    and batch statistics, those of the parts and of the failed attempt.
    """
    if count < 1:
        raise ValueError(f"{label}: there are {count} items to train on")
    training = _Training(model, batch, count, recipe, gen, compute, loss, after, label, at or Position(), draws)
    training.opt.state.update(moments or {})
    training.run(checkpoint)
    if moments is not None:
        moments.update(training.opt.state)
    compute.team.left()
    model.eval()
    return training.history


class _Training:
    # Whatever the steps change is kept by `_state`.

    def __init__(self, model, batch, count, recipe, gen, compute, loss, after, label, at, draws):
        self.sizes, self.team = recipe.batches(count), compute.team
        self.batches = len(self.sizes)
        if (least := min(self.sizes)) < self.team.size:
            what = f"{label}: a batch of {least} images cannot be shared by {self.team.size} processes"
            raise SettingsError(f"{what}: use fewer, or a larger batch")
        self.batch, self.count, self.recipe, self.gen, self.compute = batch, count, recipe, gen, compute
        self.loss, self.named = smoothed(loss, recipe, label), loss is F.cross_entropy
        self.after, self.label, self.draws = after, label, (gen, *draws)
        self.model = model.to(compute.device).train()
        self.opt, self.schedule = optimiser(model, recipe, self.batches)
        self.history, self.parts, self.good, self.at = [], 1, deepcopy(model.state_dict()), at
        self.slow = deepcopy(self.good) if recipe.lookahead else {}
        self.order, at.epoch, at.step = None, 0, 0
        self.forward = forward(model, compute)

    def run(self, checkpoint):
        team, recipe, at, began = self.team, self.recipe, self.at, Stopwatch.now()
        of = checkpoint and self._digest(checkpoint.about)
        saved = checkpoint and checkpoint.read(of)
        saved = team.told(saved) if team.size > 1 else saved  # the first process alone has one
        if saved:
            self._resume(saved)
            del saved

        def write():
            checkpoint.write(of, self._state(Stopwatch.now() - began))

        watch = interruptible(write, checkpoint.every) if checkpoint else nullcontext(lambda: None)
        last = recipe.epochs * self.batches
        with watch as stepped, Bar(total=last, initial=at.step, desc=self.label, unit="batch") as bar:
            while at.epoch < recipe.epochs:
                bar.set_description(f"{self.label}, epoch {at.epoch + 1} of {recipe.epochs}")
                if at.step == at.epoch * self.batches:
                    self.order = torch.randperm(self.count, generator=self.gen)
                    self.total, self.right = (torch.zeros((), device=self.compute.device) for _ in range(2))
                for index in self.order.split(self.sizes)[at.step - at.epoch * self.batches :]:
                    self._step(index, last)
                    stepped()
                    bar.update()
                values = self._epoch()
                bar.epoch(at.epoch, **values)

    def _step(self, index, last):
        value = self._gradient(index)
        try:
            self.opt.step()
        except torch.OutOfMemoryError:  # some weights may have moved
            what = f"{self.label}: what {type(self.opt).__name__} keeps of each weight"
            raise SettingsError(f"{what} does not fit into the device's memory: use device cpu") from None
        self.schedule.step()
        self.at.step += 1
        if self.slow:
            look_ahead(self.slow, self.model.state_dict(), self.recipe.lookahead, self.at.step, last)
        if self.after is not None:
            self.after(self.model)
        self.total += value * (len(index) / self.count)

    def _gradient(self, index):
        drawn, made = self.gen.get_state(), None
        while True:
            try:
                self.opt.zero_grad(set_to_none=True)  # leaves its room to the batch
                made = made or self.batch(index)
                return self._summed(*made)
            except torch.OutOfMemoryError:  # its memory is freed when this block ends
                if made is None:
                    self.gen.set_state(drawn)  # the next attempt augments in the same way
            except compile_errors() as error:
                why = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
                what = f"{self.label}: {type(self.model).__name__} cannot be compiled here ({why})"
                raise SettingsError(f"{what}: set compile to False") from error
            if self.team.size > 1 or (made is None and self.parts == len(index)):
                # A team shares gradients of the same parts.
                what = f"{self.label}: {len(index)} images do not fit into the memory of {self.team.size} devices"
                raise SettingsError(f"{what}: use more, or a smaller batch")
            self.parts = too_big(self.parts, len(index), self.label)

    def _summed(self, x, y):
        value, team = 0.0, self.team
        for part, wanted in zip(*(team.share(all_).tensor_split(self.parts) for all_ in (x, y)), strict=True):
            with self.compute.cast():
                logits = self.forward(part.contiguous(memory_format=torch.channels_last))
            share = self.loss(logits.float(), wanted) * team.weight(len(part), len(x))
            share.backward()
            value += share.detach()
            if self.named and wanted.ndim == 1:
                self.right += (logits.detach().argmax(1) == wanted).sum() * (team.size / self.count)
        return value

    def _epoch(self):
        # Ends an epoch: what is shown of it.
        self.at.epoch += 1
        self.history.append(loss := self.team.mean(self.total).item())
        if not abs(loss) < EXPLODED or not all(p.isfinite().all() for p in self.model.parameters()):
            what = f"{self.label}: the loss is {loss:.3g} in epoch {self.at.epoch}; {self._remedy()}"
            self.model.load_state_dict(self.good)
            raise DivergedError(what, self.model.eval())
        self.good, right = deepcopy(self.model.state_dict()), self.team.mean(self.right).item()
        return {"loss": loss, **({"accuracy": right} if right else {})}

    def _remedy(self):
        # No rate mends a gradient that is no number at the last sound weights.
        self.model.load_state_dict(self.good)
        sound = self._gradient(self.order[: self.sizes[0]]).isfinite()
        for name, p in self.model.named_parameters():
            if sound and p.grad is not None and not p.grad.isfinite().all():
                why = f"the gradient of {name} has values that are no numbers, though the loss is one"
                return f"{why}: look in forward() for a root, logarithm or quotient of 0"
        return f"try a smaller learning rate than {self.recipe.lr:g}"

    def _digest(self, about):
        state, gens = self.model.state_dict(), [gen.get_state() for gen in self.draws]
        what = about, self.recipe.model_dump_json(), self.count, self.label, [*state]
        how = self.compute.hardware, torch.__version__, torch.get_num_threads(), self.team.size
        return digest(f"{what} {how}", *state.values(), *gens)

    def _state(self, seconds):
        state = {name: getattr(self, name) for name in _CHANGING} | {"seconds": seconds, "at": vars(self.at)}
        state |= {name: getattr(self, name).state_dict() for name in _LOADED}
        return state | {"draws": draws_of(self.draws, self.compute.device)}

    def _resume(self, saved):
        device = self.compute.device
        for name in _CHANGING:
            setattr(self, name, saved[name])
        for name in _LOADED:
            getattr(self, name).load_state_dict(saved[name])
        self.total, self.right = self.total.to(device), self.right.to(device)
        self.slow = {name: tensor.to(device) for name, tensor in self.slow.items()}
        vars(self.at).update(saved["at"])
        put_back(self.draws, saved["draws"], device)
        Stopwatch.earlier += saved["seconds"]


_CHANGING = ("history", "parts", "good", "slow", "order", "total", "right")
_LOADED = ("model", "opt", "schedule")


@torch.no_grad()
def predict(model: nn.Module, images, index: Int[Tensor, " n"], *, batch: int = 500) -> Float[Tensor, "n K"]:
    r"""Logits of images in eval mode and float32; the model's mode is restored."""
    training = model.training
    model.eval()

    def look(part):
        return asked(model, images.batch(part).contiguous(memory_format=torch.channels_last))

    parts = in_batches(look, index, batch, "prediction", fitted=True)
    model.train(training)
    return torch.cat(parts).float() if parts else torch.empty(0, images.num_classes, device=images.x.device)
