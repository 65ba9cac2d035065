r"""A copy of any classifier that gives logits ``(n, K)`` in both modes, by hooks: no weight has another name.

What the user gave is seen again by `megu.core.models.given_back`.
"""

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from megu.core.device import generator, seeded
from megu.core.weights import check_modes, check_sources, takes
from megu.settings.errors import SettingsError, why

_LOG = logging.getLogger("megu")
_TINY = 1e-30  # the logarithm of a probability that is 0 in float32
_SAME = ("View", "Reshape", "UnsafeView", "Squeeze", "Clone", "ToCopy", "Clamp", "Alias")  # steps of autograd
_FORMS = {"probabilities": "ends in a softmax", "percents": "ends in a softmax, times 100"}
_FORMS |= {"log-probabilities": "ends in a log-softmax"}


def copy_of(model: nn.Module) -> nn.Module:
    r"""A deep copy, for methods to train; activations that a layer kept are copied without their history."""
    kept = (tensor for module in model.modules() for _, tensor in leaves(vars(module)) if not tensor.is_leaf)
    return copy.deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in kept})


def unwrapped(model: nn.Module) -> nn.Module:
    r"""What ``torch.compile``, ``DataParallel`` and ``DistributedDataParallel`` were given."""
    parallel = nn.DataParallel | nn.parallel.DistributedDataParallel
    while inner := getattr(model, "_orig_mod", model.module if isinstance(model, parallel) else None):
        model = inner
    return model


def trainable(model: nn.Module) -> list[nn.Parameter]:
    r"""The weights that may move."""
    return [weight for weight in model.parameters() if weight.requires_grad]


def tensors(model: nn.Module) -> dict[str, Tensor]:
    r"""The tensors of ``state_dict``, which may hold other things."""
    return {name: value for name, value in unwrapped(model).state_dict().items() if isinstance(value, Tensor)}


def leaves(found, path=()):
    r"""(Names, tensor) of every tensor in nested containers."""
    if isinstance(found, Tensor):
        yield path, found
    for name, value in _members(found) if len(path) < 9 else ():  # some refer to themselves
        yield from leaves(value, (*path, name))


def _members(found):
    if isinstance(found, Mapping):  # transformers' ModelOutput too
        return list(found.items())
    if hasattr(found, "_asdict"):
        return list(found._asdict().items())
    if isinstance(found, list | tuple):
        return list(enumerate(found))
    fields = () if isinstance(found, nn.Module) else getattr(found, "__dataclass_fields__", ())  # some have slots
    return [(name, getattr(found, name)) for name in fields if hasattr(found, name)]


@dataclass(frozen=True)
class _Hooks:
    # still: names of parts that stay in eval mode.  read: training or not -> how logits are read, see `read_output`.
    # fresh: it writes into its images, or takes them in one order of memory alone, so it is given copies.
    still: frozenset
    read: dict
    fresh: bool

    def before(self, model, inputs):
        if model.training:  # one image has no batch statistics: those of all images stand for them
            alone = len(inputs[0]) == 1
            for name, module in model.named_modules():
                if name in self.still or isinstance(module, _BatchNorm):
                    module.training = name not in self.still and not alone
        return (inputs[0].clone(memory_format=torch.contiguous_format), *inputs[1:]) if self.fresh else None

    def after(self, model, inputs, output):
        path, form = self.read[model.training]
        return as_logits(_at(output, path), form)


def _at(output, path):
    if isinstance(path, list):
        return sum(_at(output, one) for one in path) / len(path)
    for name in path:
        output = dict(_members(output))[name]
    return output


def as_logits(found: Float[Tensor, "n K"], form: str | None) -> Float[Tensor, "n K"]:
    r"""Logits of a form, see `form_of`: those that a softmax takes for the same probabilities."""
    return found.float().clamp_min(_TINY).log() if form in ("probabilities", "percents") else found


def form_of(found: Float[Tensor, "n K"]) -> str | None:
    r"""A name in ``_FORMS``, or None for what may be logits."""
    found = found.detach().double()
    for form, p in zip(_FORMS, (found, found / 100, found.exp()), strict=True):
        signs = found <= 0 if form == "log-probabilities" else found >= 0
        if ((p.sum(1) - 1).abs() < 0.02).all() and signs.all():
            return form
    return None


def adapted(model: nn.Module, x: Float[Tensor, "n C H W"], num_classes: int | None, what: str = "model") -> nn.Module:
    r"""A model, in eval mode and in place, that gives logits in both modes and keeps its frozen parts as they are.

    Frozen are weights that take no gradient, batch statistics among them only, and parts in eval mode of a model in
    training mode.

    Args: x: a few images.  num_classes: None where any number will do.  what: for messages.
    Raises: SettingsError where no logits can be told, or an image's depend on the others.
    """
    still = _still(model, what)
    check_modes(model, what)
    with torch.no_grad(), seeded(generator(0, "look")):
        whole = model(seen := x.clone())
        path, found, form = read_output(whole, (len(x), num_classes), what)
        logits = as_logits(found, form)
        if not logits.isfinite().all():
            raise SettingsError(f"{what} gives logits that are no numbers (NaN or infinite): give weights that work")
        wide = form is None and found.min() >= 0 and found.max() <= 1 and found.max() - found.min() > 0.8
        for few, asked, remedy in (
            (x, "the same images, asked again", "keep nothing from call to call, and draw nothing"),
            (x[:1], "an image alone than among others", "use no batch statistics (track_running_stats=True)"),
        ):
            now, before = as_logits(_at(model(few.clone()), path), form), logits[: len(few)]
            if now.shape != before.shape or not torch.allclose(now, before, 0.01, 0.01 * float(logits.abs().max())):
                raise SettingsError(f"{what} gives other logits for {asked}: in eval mode let forward {remedy}")
        trained = _in_training(model, x[:3], logits[:3], what, wide, path)  # of large networks this takes its time
    if path:
        _LOG.warning("%s gives a %s: %s is taken for the logits", what, type(whole).__name__, _called(path))
    if form:
        taken = "they are" if form == "log-probabilities" else "their logarithm is"
        _LOG.warning("%s gives %s (it %s): %s taken for the logits", what, form, _FORMS[form], taken)
    read, writes = {False: (path, form), True: trained}, not torch.equal(seen, x)
    fresh = writes or not takes(model, x.contiguous(memory_format=torch.channels_last))  # as .view() behind a layer
    if writes:
        _LOG.warning("%s writes into the images that it is given: it is given copies", what)
    batch_statistics = any(isinstance(module, _BatchNorm) for module in model.modules())
    if still or fresh or batch_statistics or any(reading != ((), None) for reading in read.values()):
        hooks = _Hooks(still, read, fresh)
        model.register_forward_pre_hook(hooks.before)
        model.register_forward_hook(hooks.after)
    return model


def _still(model, what):
    # A batch normalisation without weights is frozen where all weights of the nearest part that has some are.
    frozen = [weight for weight in model.parameters() if not weight.requires_grad]
    still, owner = set(), {}
    # A wrapper that is new is in training mode, whatever it wraps: that alone says nothing.
    mixed = model.training and any(m.training for name, m in model.named_modules() if name and [*m.parameters(False)])
    for name, module in model.named_modules():
        own = [*module.parameters()] or owner.get(name.rpartition(".")[0], [])
        owner[name] = own
        set_to_eval = mixed and not module.training
        if set_to_eval or (isinstance(module, _NormBase) and own and not any(w.requires_grad for w in own)):
            still.add(name)
    if frozen or still:
        _LOG.warning(
            "%s: %d of %d weights are frozen (requires_grad is False) and stay as they are; so do %d parts in eval mode"
            " or frozen, with their batch statistics",
            *(what, sum(w.numel() for w in frozen), sum(w.numel() for w in model.parameters()), len(still)),
        )
    return frozenset(still)


def _called(path):
    several = isinstance(path, list)
    return f"the mean of {', '.join(map(_called, path))}" if several else ".".join(map(str, path)) or "the output"


def read_output(output, shape: tuple[int, int | None], what: str, near: Tensor | None = None):
    r"""(Names that lead to the logits, or a list of such, whose mean they are; the tensor there; its `form_of`).

    Args: output: of a classifier.  shape: (n, K) of the logits, K None where any will do.  what: for messages.  near:
        logits in eval mode: they tell those in training mode from auxiliary ones, or are the mean of several.
    Raises: SettingsError where no logits, or several, are found.
    """
    n, k = shape
    several = (found for found in leaves(output) if found[1].ndim == 2 and found[1].shape[1] > 1)
    fits = [(path, t) for path, t in several if len(t) == n and k in (None, t.shape[1])]
    fits = [found for found in fits if found[0][-1:] == ("logits",)] or fits
    read = [(path, t, form_of(t)) for path, t in fits if t.is_floating_point()]
    if near is not None and len(read) > 1:
        joined = sum(t for _, t, _ in read) / len(read)  # of two heads, as of a distilled network
        read.append(([path for path, *_ in read], joined, form_of(joined)))
        *far, last = ((as_logits(*one[1:]).log_softmax(1) - near.log_softmax(1)).norm().item() for one in read)
        return read[-1] if last < min(far) / 10 else read[far.index(min(far))]
    read = [one for one in read if one[2] is None] or read
    if not read:
        one = isinstance(output, Tensor) and output.numel() == n  # a sigmoid between two classes
        remedy = "let forward return logits (n, classes)" + ", of one z torch.stack([-z / 2, z / 2], 1)" * one
        kind = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
        of = "" if k is None else f" of {k} classes"
        fit = "give those that it was trained on, or cut off outputs that had no images"
        if what == "reference":
            fit = "train it with as many outputs as the model, also for what goes"
        raise SettingsError(f"{what} gives {kind} for {n} images{of}: {fit}, and {remedy}")
    if len(read) > 1 and any(not torch.equal(read[0][1], other) for _, other, _ in read):
        names = ", ".join(_called(path) for path, *_ in read)
        raise SettingsError(f"{what} gives {len(read)} outputs for {n} images ({names}): return one, or call it logits")
    return read[0]


def _in_training(model, x, logits, what, wide, eval_path):
    """``wide``: whether the outputs lie in [0, 1] and fill most of it, as sigmoids do."""
    probe, shape, x = copy_of(model), tuple(logits.shape), x.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            given = _at(probe(x.clone()), eval_path)
            output = probe.train()(x.clone())
            several = sum(t.shape == shape for _, t in leaves(output)) > 1
            if several:  # which one is it that evaluation gives, by the batch statistics of now?
                now = _at(probe.eval()(x.clone()), eval_path)
                logits = as_logits(now, form_of(now))
                for module in probe.modules():  # without what it draws: dropout, drop path, ...
                    module.training = not (isinstance(module, _BatchNorm) or "Drop" in type(module).__name__)
                output = probe(x.clone())
            path, found, form = read_output(output, shape, f"{what}, in training mode,", logits)
            made = found.grad_fn
            while type(made).__name__.startswith(_SAME):
                made = made.next_functions[0][0]
            if wide or type(made).__name__.startswith("Sigmoid"):
                remedy = "let forward return logits, which a softmax takes"
                raise SettingsError(f"{what} gives values from 0 to 1 that do not sum to 1 (a sigmoid?): {remedy}")
            wanted = [x, *trainable(probe)]
            reached = found.requires_grad and torch.autograd.grad(found.sum(), wanted, allow_unused=True)
    except SettingsError:
        raise
    except Exception as error:  # whatever a foreign forward() may raise
        told = f"{what} takes images in eval mode, but not in training mode ({why(error)})"
        raise SettingsError(f"{told}: let forward work in both") from None
    check_sources(probe, x, found, given, what, several)
    if not reached or reached[0] is None or not any(gradient is not None for gradient in reached[1:]):
        remedy = "use no torch.no_grad and no detach in forward, and freeze layers by requires_grad_(False)"
        raise SettingsError(f"{what} lets no gradient through to its images or its weights: {remedy}")
    if several:
        _LOG.warning("%s gives a %s in training: only %s is trained on", what, type(output).__name__, _called(path))
    return path, form
