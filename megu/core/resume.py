r"""Trainings that can stop: where the state of one is kept, and when; what tells the network that goes on."""

import io
import itertools
import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor, nn

from megu.core.adapted import copy_of, unwrapped
from megu.core.device import generator, seeded
from megu.settings.errors import StageError
from megu.settings.files import atomic, hash_bytes

SECONDS = 120.0  # between two writes

_open = ContextVar("checkpoints", default=None)


@dataclass(frozen=True)
class Checkpoint:
    r"""The file of one training's state.

    Attributes: about: digest of what the training depends on and does not see.  every: seconds between two writes.
    """

    path: Path
    about: str = ""
    every: float = SECONDS

    def read(self, of: str) -> dict | None:
        r"""The state that was written of a training ``of`` this digest; None where there is none, or it is damaged."""
        if not self.path.exists():
            return None
        whole = self.path.read_bytes()
        if sha256(whole[32:]).digest() != whole[:32]:
            logging.getLogger("megu").warning("%s is damaged: this training starts again", self.path.name)
            return None
        content = io.BytesIO(whole[32:])
        found = torch.load(content, "cpu", weights_only=True)
        return found["state"] if found["of"] == of else None

    def write(self, of: str, state: dict) -> None:
        r"""Replace the file; a disk that refuses it costs no training, and is warned of."""
        whole = io.BytesIO()
        torch.save({"of": of, "state": state}, whole)
        content = whole.getbuffer()
        try:
            with atomic(self.path, locked=True) as part, open(part, "wb") as file:
                file.write(sha256(content).digest())
                file.write(content)
        except StageError as error:
            logging.getLogger("megu").warning("the training goes on, but cannot be resumed: %s", error)


@contextmanager
def checkpoints(folder: Path, about: object) -> Iterator[None]:
    r"""Trainings in the block go on from, and keep, their states in ``folder``: files 0.pt, 1.pt, ... in their order.

    Args: about: what they depend on, JSON-like.
    """
    digest = hash_bytes(json.dumps(about, sort_keys=True))
    before = _open.set(Checkpoint(folder / f"{k}.pt", digest) for k in itertools.count())
    try:
        yield
    finally:
        _open.reset(before)


def next_checkpoint() -> Checkpoint | None:
    r"""Of the training that begins; None outside of `checkpoints`."""
    files = _open.get()
    return next(files) if files else None


def digest(*parts: object) -> str:
    r"""SHA-256 in hex over texts, the bits of tensors, and what else a module's extra state may be, as text."""
    texts = (p if isinstance(p, str | Tensor) else repr(p) for p in parts)
    bits = (p if isinstance(p, str) else p.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for p in texts)
    return hash_bytes(*(p if isinstance(p, str) else p.numpy() for p in bits))


def draws_of(gens: Sequence[torch.Generator], device: torch.device) -> list[Tensor]:
    r"""States of CPU generators, and of torch's global ones on the CPU and a ``device``."""
    on_gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [*(gen.get_state() for gen in gens), torch.get_rng_state(), *on_gpu]


def put_back(gens: Sequence[torch.Generator], draws: Sequence[Tensor], device: torch.device) -> None:
    r"""Set what `draws_of` gave."""
    for gen, state in zip(gens, draws, strict=False):
        gen.set_state(state)
    torch.set_rng_state(draws[len(gens)])
    if device.type == "cuda":
        torch.cuda.set_rng_state(draws[-1], device)


@contextmanager
def interruptible(write: Callable[[], object], every: float) -> Iterator[Callable[[], None]]:
    r"""A function to call after every step, which calls ``write`` every so many seconds, and at once where SIGTERM or
    SIGINT (Ctrl-C) came since; the signal then has its usual effect.  A second one does not wait for the step."""
    caught, usual, last = [], {}, time.monotonic()

    def restore():
        while usual:
            signal.signal(*usual.popitem())

    def catch(number, _):
        caught.append(number)
        restore()

    def stepped():
        nonlocal last
        if caught or time.monotonic() - last >= every:
            write()
            last = time.monotonic()
        if caught:
            signal.raise_signal(caught.pop())

    if threading.current_thread() is threading.main_thread():  # no other may set what a signal does
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not None:
                usual[number] = signal.signal(number, catch)
    try:
        yield stepped
    finally:
        restore()


def answers(model: nn.Module, images) -> dict[str, str | list[float]]:
    r"""What a model says of a few training images: their labels' logits above the mean of all, by mode (eval, train),
    and the kind of device.  Without ``train`` where it fails there, or draws from a generator of its own."""

    def says(training):
        with seeded(generator(0, "answers")), torch.set_grad_enabled(training):
            logits = copy_of(model).train(training)(x.clone()).detach().double()
        return (logits.gather(1, y[:, None])[:, 0] - logits.mean(1)).tolist()

    x, y = images.few(), images.y[images.few_index()]
    found = {"device": x.device.type, "eval": says(False)}
    with suppress(Exception):  # of a foreign forward(), which the training itself will tell
        once, again = says(True), says(True)
        found |= {"train": once} if once == again else {}
    return found


def differ(before: dict, now: dict, loosely: bool = False) -> str | None:
    r"""The mode (eval, train) in which two `answers` of the same weights are not one network's; None where they may be.

    On one device they are equal to a thousandth, on two, where dropout draws otherwise, or ``loosely`` to a hundredth.
    """
    elsewhere = before["device"] != now["device"]
    near = 1e-2 if elsewhere or loosely else 1e-3
    for mode in ("eval",) if elsewhere else ("eval", "train"):
        one, other = (torch.tensor(found.get(mode, [])) for found in (before, now))
        if len(one) and len(other) and not torch.allclose(one, other, near, near * one.abs().max().item()):
            return mode
    return None


def layers_digest(model: nn.Module) -> str:
    r"""SHA-256 of what a model is beside weights and code: kinds of its parts, their constants, what is frozen."""
    lines = [name for name, weight in model.named_parameters() if not weight.requires_grad]
    for name, part in unwrapped(model).named_modules():
        fixed = {key: getattr(part, key, None) for key in getattr(part, "__constants__", ())}
        plain = sorted(
            (key, str(value)) for key, value in fixed.items() if isinstance(value, str | int | float | tuple)
        )
        lines.append(f"{name} {type(part).__qualname__} {plain}")
    return hash_bytes(*lines)
