"""Training steps whose speed is measured, and measurements as they are printed and kept: one line each."""

from contextlib import contextmanager

import numpy as np
import torch
from torch.nn import functional as F

from megu.core import models
from megu.core.device import Stopwatch, choose, forward
from megu.datasets import images as data
from megu.settings.profiles import resolve


def synthetic(size, device):
    """Random colour images of 32 x 32 and 10 classes, on the device as real ones are."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (size, 32, 32, 3), np.uint8), np.arange(size) % 10
    return data.pool("synthetic", (x, y), (x[:10], y[:10]), [str(k) for k in range(10)], device)


def new(arch, images, device, default_layout=False):
    model = models.build(arch, 10, images.shape, 0, weights="random").to(device)
    return model.to(memory_format=torch.contiguous_format) if default_layout else model


def stepper(model, images, compute, default_layout=False):
    """Function of (images, labels) that makes a training step and gives its logits."""
    opt, net = torch.optim.SGD(model.train().parameters(), 0.01, 0.9), forward(model, compute)
    layout = torch.contiguous_format if default_layout else torch.channels_last

    def step(index):
        opt.zero_grad(set_to_none=True)
        with compute.cast():
            logits = net(images.batch(index).contiguous(memory_format=layout))
        F.cross_entropy(logits.float(), images.y[index]).backward()
        opt.step()
        return logits.detach().float()

    return step


def rate(work, images, warm, steps):
    """Images per second."""
    clock = Stopwatch()
    for part, count in (("warm", warm), ("steps", steps)):
        with clock(part):
            for _ in range(count):
                work()
    return images * steps / clock.seconds["steps"]


def computing(device, **settings):
    """The compute settings of a run on this device."""
    return choose(resolve(overrides={"device": str(device), **settings}))


class Report:
    """Lines as they are printed, of the part that is being measured."""

    def __init__(self, part=""):
        self.part, self.lines = part, []

    def say(self, what, value, unit, expected="", ok=None, wrong=True):
        """One measurement; ``ok``: as expected; ``wrong``: it is an error where it is not."""
        line = {"part": self.part, "what": what, "value": value, "unit": unit, "expected": expected, "ok": ok}
        self.lines.append(line | {"wrong": ok is False and wrong})
        mark = {True: "ok", False: "LOOK", None: ""}[ok]
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        expected = expected and f" expected: {expected}"
        print(f"{mark:4s} {self.part:13s} {what:44s} {shown:>10s} {unit:22s}{expected}", flush=True)

    @contextmanager
    def tried(self, what):
        """Go on where the block fails: that is a line, and wrong."""
        try:
            yield
        except Exception as error:  # whatever a driver or a compiler may raise
            why = (str(error).strip().splitlines() or [""])[0][:100]
            self.say(what, "failed", "", f"no {type(error).__name__} ({why})", False)
