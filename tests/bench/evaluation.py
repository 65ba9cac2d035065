r"""Seconds of a whole evaluation against its bare forward passes, side by side: `make bench`.

The two take turns on an untrained small network and the embedded images, so that a noisy machine disturbs both alike;
printed are median, minimum and maximum over the turns and the ratio of the medians.
"""

import statistics
import time

import torch

from megu.core.models import build
from megu.core.splits import make_split
from megu.core.train import predict
from megu.datasets.sources import load
from megu.measure.metrics import References, metrics
from megu.measure.outputs import blank_logits, collect_outputs
from megu.settings.profiles import resolve

TURNS = 5


def main():
    settings = resolve()
    images = load(settings)
    split = make_split(images, settings)
    model, other = (build(settings.arch, images.num_classes, images.shape, seed).eval() for seed in (0, 1))
    seen = collect_outputs(other, images, split)
    compat = {
        part: blank_logits(build(settings.arch, images.num_classes, images.shape, 2), images, getattr(split, part))
        for part in ("forget", "test_forget")
    }
    references = References(seen, seen, seen.logits, compat)
    everything = torch.cat(list(vars(split).values()))
    ways = {
        "forward passes": lambda: predict(model, images, everything),
        "whole evaluation": lambda: metrics(collect_outputs(model, images, split), images, split, references),
    }
    seconds = {name: [] for name in ways}
    for turn in range(TURNS + 1):  # the first turn warms up
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    for name, found in seconds.items():
        print(f"{name:17s} {statistics.median(found):6.2f} s ({min(found):.2f}-{max(found):.2f})")
    print(
        "ratio of medians "
        f" {statistics.median(seconds['whole evaluation']) / statistics.median(seconds['forward passes']):.2f}"
    )


if __name__ == "__main__":
    main()
