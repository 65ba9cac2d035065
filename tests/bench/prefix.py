r"""Seconds of a hundred zero-shot questions about one image, naive and with the image's prefix shared: `make bench`.

The model is LLaVA's class with random weights: 576 visual tokens an image (336 px in patches of 14) and a question of
25 tokens or so, as in the real one, but small layers.  Printed are median, minimum and maximum of the seconds and the
ratio of medians.
"""

import re
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from turns import in_turns, shown

sys.path.append(str(Path(__file__).parents[1] / "helpers"))
from tiny_mllm import llava

from megu.guide import GuideContext, Question
from megu.guide.mllm import LocalMllm
from megu.guide.prompt import PROMPT
from megu.settings.class_names import known_names
from megu.settings.config import Guide

TURNS, LEAST = 5, 10
VISION = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4}
TEXT = VISION | {"intermediate_size": 352}


def main():
    labels = known_names("cifar100")[0]
    image = np.random.default_rng(0).integers(0, 255, (3, 32, 32), dtype=np.uint8)
    questions = [Question(image, label) for label in labels]
    # Whole words as tokens, so that a question has about as many as with a trained tokenizer.
    asked = {word for label in labels for word in re.findall(r" ?\w+", PROMPT.format(label=label))}
    scores = {}

    def ask(name, guide):
        scores[name] = np.array(list(guide.score(questions)))

    with tempfile.TemporaryDirectory() as folder:
        llava(folder, sorted(asked | {"True", "False", " True", " False"}), 336, 14, VISION, TEXT)
        guides = {
            name: LocalMllm(GuideContext(labels, Guide(path=folder, shots=0, dtype="float32", reuse=name == "shared")))
            for name in ("naive", "shared")
        }
        seconds = in_turns({name: partial(ask, name, guide) for name, guide in guides.items()}, TURNS)
    for name, found in seconds.items():
        cost, turns = guides[name].cost, TURNS + 1
        print(f"{name:7s} {shown(found)} s, {cost.prefills // turns} prefills, {cost.tokens // turns} tokens")
    naive, shared = seconds.values()
    ratio = np.median(naive) / np.median(shared)
    print(f"ratio of medians {ratio:.1f} (at worst {naive.min() / shared.max():.1f})")
    differ, spread = np.abs(scores["shared"] - scores["naive"]).max(), np.ptp(scores["naive"])
    print(f"scores differ by at most {differ:.1e}, between labels by {spread:.2f}")
    if ratio < LEAST:
        sys.exit(f"less than {LEAST} times as fast")


if __name__ == "__main__":
    main()
