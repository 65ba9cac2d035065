r"""Seconds of a hundred zero-shot questions about one image, naive and with the image's prefix shared: `make bench`.

The model is LLaVA's class with random weights: 576 visual tokens an image (336 px in patches of 14) and a question of
25 tokens or so, as in the real one, but small layers.  Both ways take turns after a warm-up; printed are median,
minimum and maximum of the seconds and the ratio of medians.
"""

import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from tiny_mllm import llava

from megu.guide import GuideContext, Question
from megu.guide.mllm import LocalMllm
from megu.guide.prompt import PROMPT
from megu.settings.class_names import known_names
from megu.settings.config import Guide

TURNS, LEAST = 5, 10
VISION = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4}
TEXT = {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4}


def main():
    labels = known_names("cifar100")[0]
    image = np.random.default_rng(0).integers(0, 255, (3, 32, 32), dtype=np.uint8)
    questions = [Question(image, label) for label in labels]
    # Whole words as tokens, so that a question has about as many as with a trained tokenizer.
    words = sorted(
        {word for label in labels for word in re.findall(r" ?\w+", PROMPT.format(label=label))}
        | {"True", "False", " True", " False"}
    )
    with tempfile.TemporaryDirectory() as folder:
        llava(folder, words, 336, 14, VISION, TEXT)
        ways = {
            reuse: LocalMllm(GuideContext(labels, Guide(path=folder, shots=0, dtype="float32", reuse=reuse)))
            for reuse in (False, True)
        }
        seconds, scores = {False: [], True: []}, {}
        for turn in range(TURNS + 1):  # the first turn warms up
            for reuse, guide in ways.items():
                start = time.perf_counter()
                scores[reuse] = np.array(list(guide.score(questions)))
                if turn:
                    seconds[reuse].append(time.perf_counter() - start)
    for reuse, found in seconds.items():
        guide = ways[reuse]
        cost = f"{guide.cost.prefills // (TURNS + 1)} prefills, {guide.cost.tokens // (TURNS + 1)} tokens"
        print(
            f"{'shared' if reuse else 'naive':7s} {statistics.median(found):6.2f} s"
            f" ({min(found):.2f}-{max(found):.2f}), {cost}"
        )
    ratio = statistics.median(seconds[False]) / statistics.median(seconds[True])
    worst = min(seconds[False]) / max(seconds[True])
    print(f"ratio of medians {ratio:.1f} (at worst {worst:.1f})")
    print(
        f"scores differ by at most {np.abs(scores[True] - scores[False]).max():.1e}, between labels by"
        f" {np.ptp(scores[False]):.2f}"
    )
    if ratio < LEAST:
        sys.exit(f"less than {LEAST} times as fast")


if __name__ == "__main__":
    main()
