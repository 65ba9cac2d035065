r"""Seconds of a whole evaluation against its bare forward passes, side by side: `make bench`.

On an untrained small network and the embedded images; printed are median, minimum and maximum over the turns and the
ratio of the medians.
"""

import numpy as np
import torch
from turns import in_turns, shown

from megu.core.models import build
from megu.core.splits import make_split
from megu.core.train import predict
from megu.datasets.sources import load
from megu.measure.metrics import References, metrics
from megu.measure.outputs import blank_logits, collect_outputs
from megu.settings.profiles import resolve


def main():
    settings = resolve()
    images = load(settings)
    split = make_split(images, settings)
    model, other, blank = (build(settings.arch, images.num_classes, images.shape, seed).eval() for seed in range(3))
    seen = collect_outputs(other, images, split)
    compat = {part: blank_logits(blank, images, getattr(split, part)) for part in ("forget", "test_forget")}
    references = References(seen, seen, seen.logits, compat)
    everything = torch.cat(list(vars(split).values()))
    ways = {
        "forward passes": lambda: predict(model, images, everything),
        "whole evaluation": lambda: metrics(collect_outputs(model, images, split), images, split, references),
    }
    seconds = in_turns(ways, 5)
    for name, found in seconds.items():
        print(f"{name:17s} {shown(found)} s")
    bare, whole = map(np.median, seconds.values())
    print(f"ratio of medians  {whole / bare:.2f}")


if __name__ == "__main__":
    main()
