r"""Images per second in training, by precision and memory layout, side by side: `make bench`.

Printed are median, minimum and maximum over the turns and the ratio of medians to float32 in the default layout.
"""

import itertools
from functools import partial

import numpy as np
import torch
from torch.nn import functional as F
from turns import in_turns, shown

from megu.core.models import build

SHAPES = {"resnet-small": (1, 28, 28), "vit-tiny": (1, 28, 28), "resnet18": (3, 32, 32)}
BATCH, STEPS = 128, {"resnet-small": 8, "vit-tiny": 8, "resnet18": 1}
LAYOUTS = {"default layout": torch.contiguous_format, "channels last": torch.channels_last}


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
        ways = {}
        for kind, (name, layout) in itertools.product(("float32", "bfloat16"), LAYOUTS.items()):
            model = build(arch, 10, shape, 0).to(memory_format=layout)
            ways[f"{kind}, {name}"] = partial(train, model, x, y, kind == "bfloat16", layout, STEPS[arch])
        rates = {name: BATCH * STEPS[arch] / found for name, found in in_turns(ways, 7).items()}
        base = np.median(rates["float32, default layout"])
        for name, found in rates.items():
            print(f"{arch:13s} {name:25s} {shown(found, 0)} images/s  x {np.median(found) / base:.2f}")


if __name__ == "__main__":
    main()
