r"""What training, evaluation and the noise pair take above the passes that they need, side by side: `make bench`.
The metrics beside the passes of an evaluation.

On an untrained small network and the embedded images; printed are median, minimum and maximum of the seconds over the
turns, and the ratio of the medians.  The bare way draws the same images in the same order, and keeps nothing.
"""

from functools import partial

import numpy as np
import torch
from torch.nn import functional as F
from turns import in_turns, shown

from megu.core.device import choose
from megu.core.models import build, frozen
from megu.core.splits import make_split
from megu.core.train import fit
from megu.datasets.sources import load
from megu.measure.metrics import References, metrics
from megu.measure.outputs import blank_logits, collect_outputs
from megu.methods import method_settings
from megu.noise_pair import optimise_noise
from megu.settings.profiles import resolve

TURNS, BATCHES, STEPS = 5, (125, 250, 500), 20


def training(images, new, compute, recipe):
    r"""One epoch of pre-training: ours, and a bare loop."""
    count = len(images.x) // 2

    def batch(gen, index):
        return images.batch(index, recipe.augment, gen), images.y[index]

    def ours():
        gen = torch.Generator().manual_seed(0)
        fit(new(), partial(batch, gen), count, recipe, gen, compute)

    def bare():
        gen, model = torch.Generator().manual_seed(0), new().train()
        opt = torch.optim.SGD(model.parameters(), recipe.lr, recipe.momentum, nesterov=recipe.nesterov)
        for index in torch.randperm(count, generator=gen).split(recipe.batches(count)):
            x, y = batch(gen, index)
            opt.zero_grad(set_to_none=True)
            with compute.cast():
                logits = model(x.contiguous(memory_format=torch.channels_last))
            F.cross_entropy(logits.float(), y).backward()
            opt.step()

    return {"a bare loop": bare, "training": ours}


@torch.no_grad()
def passes(model, images, index, size):
    r"""Logits, batch by batch, and nothing else."""
    for part in index.split(size):
        model(images.batch(part).contiguous(memory_format=torch.channels_last))


def evaluation(images, settings, new):
    r"""What a new model makes of every part of a split, and its forward passes in batches of several sizes."""
    split, model = make_split(images, settings), new().eval()
    index = torch.cat(list(vars(split).values()))
    bare = {f"passes of {size}": partial(passes, model, images, index, size) for size in BATCHES}
    return bare | {"evaluation": partial(collect_outputs, model, images, split)}


def numbers(images, settings, new):
    r"""Those outputs, and every metric of them, attacks included."""
    split, model, other, blank = make_split(images, settings), *(new(seed).eval() for seed in range(3))
    outputs, seen = (collect_outputs(of, images, split) for of in (model, other))
    compat = {part: blank_logits(blank, images, getattr(split, part)) for part in ("forget", "test_forget")}
    references = References(seen, seen, seen.logits["forget"], compat)
    return {"its passes": partial(collect_outputs, model, images, split),
            "the metrics": lambda: metrics(outputs, images, split, references)}  # fmt: skip


def noise(images, settings, new):
    r"""One noise for each of 240 images, and as many passes forth and back to the input."""
    model, y = frozen(new()), torch.arange(240) % images.num_classes
    how = method_settings("megu", settings).noise.model_copy(update={"steps": STEPS})

    def ours():
        optimise_noise(model, y, images.shape, 1, how, torch.Generator().manual_seed(0))

    def bare(size):
        for labels in y.split(size):
            x = torch.randn(len(labels), *images.shape)
            for _ in range(STEPS):
                x.requires_grad_()
                logits = model(x.contiguous(memory_format=torch.channels_last))
                (step,) = torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), x)
                x = x.detach() - step

    return {f"to the input, {size}": partial(bare, size) for size in BATCHES} | {"noise": ours}


def main():
    settings = resolve()
    compute, images = choose(settings), load(settings)
    recipe = settings.training.model_copy(update={"epochs": 1})

    def new(seed=0):
        return build(settings.arch, images.num_classes, images.shape, seed).to(memory_format=torch.channels_last)

    looked = (of(images, settings, new) for of in (evaluation, noise, numbers))
    for ways in (training(images, new, compute, recipe), *looked):
        seconds = in_turns(ways, TURNS)
        for name, found in seconds.items():
            print(f"{name:21s} {shown(found)} s")
        *bare, whole = map(np.median, seconds.values())
        print(f"{'ratio of medians':21s} {whole / min(bare):.2f}\n")


if __name__ == "__main__":
    main()
