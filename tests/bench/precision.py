r"""Images per second in training, by precision and memory layout, side by side: `make bench`.

The variants take turns, so that a noisy machine disturbs all alike; printed are median, minimum and maximum over the
turns and the ratio of medians to float32 in the default layout.
"""

import itertools
import statistics
import time

import torch
from torch.nn import functional as F

from megu.core.models import build

SHAPES = {"resnet-small": (1, 28, 28), "vit-tiny": (1, 28, 28), "resnet18": (3, 32, 32)}
BATCH, STEPS, TURNS = 128, {"resnet-small": 8, "vit-tiny": 8, "resnet18": 1}, 7


def train(model, x, y, bf16, layout, steps):
    opt = torch.optim.SGD(model.parameters(), 0.1, 0.9)
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(x.contiguous(memory_format=layout))
        opt.zero_grad()
        F.cross_entropy(logits.float(), y).backward()
        opt.step()


def main():
    for arch, shape in SHAPES.items():
        x, y = torch.randn(BATCH, *shape), torch.randint(0, 10, (BATCH,))
        variants = list(itertools.product((False, True), (torch.contiguous_format, torch.channels_last)))
        models = {v: build(arch, 10, shape, 0).to(memory_format=v[1]) for v in variants}
        rates = {v: [] for v in variants}
        for turn in range(TURNS + 1):  # the first turn warms up
            for v in variants:
                start = time.perf_counter()
                train(models[v], x, y, *v, STEPS[arch])
                if turn:
                    rates[v].append(BATCH * STEPS[arch] / (time.perf_counter() - start))
        base = statistics.median(rates[variants[0]])
        for bf16, layout in variants:
            found = rates[bf16, layout]
            name = (
                f"{'bfloat16' if bf16 else 'float32'},"
                f" {'channels last' if layout is torch.channels_last else 'default layout'}"
            )
            print(
                f"{arch:13s} {name:25s} {statistics.median(found):6.0f} images/s ({min(found):.0f}-{max(found):.0f})  x"
                f" {statistics.median(found) / base:.2f}"
            )


if __name__ == "__main__":
    main()
