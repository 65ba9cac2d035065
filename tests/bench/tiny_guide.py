r"""The tiny MLLM against its goals, on images and concepts that it was not trained on: `python
tests/bench/tiny_guide.py --cifar10 FILE --cifar100 FILE`.

Writes paper_figures/data/tiny_guide.csv.  The 14,000 answers are kept in runs/tiny_guide.jsonl: it can be interrupted.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from megu import guide
from megu.core import splits
from megu.datasets.sources import load
from megu.guide.agreement import sensible_hits, shuffled_hits
from megu.measure.summary import half_width
from megu.perturbing_labels import similarity
from megu.settings.class_names import SENSIBLE_NEIGHBOURS
from megu.settings.files import project_root
from megu.settings.profiles import resolve

ROOT = project_root(Path(__file__).parent)
sys.path.insert(0, str(ROOT / "env"))
from connector_data import HELD_OUT

# Written before any guide was asked about these images.
CIFAR10_NEIGHBOURS = {
    "airplane": {"bird", "ship"}, "automobile": {"truck"}, "bird": {"airplane", "frog"}, "cat": {"dog"},
    "deer": {"horse", "dog"}, "dog": {"cat", "horse"}, "frog": {"bird", "cat"}, "horse": {"deer", "dog"},
    "ship": {"airplane", "truck"}, "truck": {"automobile"},
}  # fmt: skip
DRAWS = (100, 101, 102, 110)  # none of these exemplars was trained on: env/connector_data.py


def answers(source, images, exemplars, names):
    """Raw scores ``(m, K)`` of exemplars with the candidate labels ``names``, and the class of each."""
    asked = guide.SOURCES[source](guide.GuideContext(names, resolve().guide, images, exemplars))
    questions = [guide.Question(images.x[i].numpy(), name) for i in exemplars for name in names]
    found = guide.ask(asked, questions, guide.AnswerStore(ROOT / "runs" / "tiny_guide.jsonl"))
    scores = np.array([answer.raw for answer in found]).reshape(-1, len(names))
    return scores, np.array([names.index(images.classes[k]) for k in images.y[exemplars]])


def neighbours(images, draws, count, listed):
    """Rows: how many classes have a sensible nearest class, for each guide and draw of exemplars."""
    allowed = splits.masks(images, 0.1)[0].nonzero().flatten()
    for source in ("tiny", "composed", "features"):
        for draw in draws:
            exemplars = guide.draw_exemplars(images, allowed, count, draw)
            sim = similarity(*answers(source, images, exemplars, images.classes), images.num_classes)
            about = {"images": images.name, "guide": source, "what": "sensible neighbours", "draw": draw}
            hits, chance = (
                sensible_hits(sim, images.classes, listed),
                shuffled_hits(sim, images.classes, sensible=listed),
            )
            yield about | {"value": hits, "of": len(listed), "chance": chance[0]}


def zero_shot(images, names, count):
    """Rows: accuracy and AUC among ``names`` on ``count`` test images of each, with 95 % intervals over images."""
    test = images.y[images.num_train :]
    of_each = [(test == images.classes.index(name)).nonzero().flatten()[:count] for name in names]
    for source in ("tiny", "composed"):
        scores, of = answers(source, images, images.num_train + torch.cat(of_each), names)
        truth, n = np.eye(len(names), dtype=bool)[of], len(of)
        about = {"images": f"{images.name}, {len(names)} classes", "guide": source, "draw": count, "of": n}
        for centred, odds in (("raw", scores), ("column-centred", scores - scores.mean(0))):
            right = odds.argmax(1) == of
            low, high = stats.binomtest(int(right.sum()), n).proportion_ci(method="wilson")
            values = {"value": right.mean(), "chance": 1 / len(names), "low": low, "high": high}
            yield {**about, "what": f"accuracy, {centred}", **values}
            resampled = np.random.default_rng(0).integers(0, n, (200, n))
            auc, *others = (roc_auc_score(truth[i].ravel(), odds[i].ravel()) for i in (np.arange(n), *resampled))
            low, high = np.quantile(others, (0.025, 0.975))
            yield {**about, "what": f"AUC, {centred}", "value": auc, "chance": 0.5, "low": low, "high": high}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cifar10", required=True, help="an .npz, or a folder of an earlier download")
    parser.add_argument("--cifar100", required=True, help="the same for CIFAR-100")
    torch.manual_seed(0)
    ten, hundred = (
        load(resolve(overrides={"data.name": name, "data.path": path, "forget.scenario": "random"}))
        for name, path in vars(parser.parse_args()).items()
    )
    table = pd.DataFrame([
        *neighbours(load(resolve()), DRAWS, 20, SENSIBLE_NEIGHBOURS),
        *neighbours(ten, DRAWS[:2], 20, CIFAR10_NEIGHBOURS),
        *zero_shot(ten, list(ten.classes), 20),
        *zero_shot(hundred, list(HELD_OUT), 10),
    ])  # fmt: skip
    table.to_csv(ROOT / "paper_figures" / "data" / "tiny_guide.csv", index=False, float_format="%.4g")
    means = table.groupby(["images", "guide", "what"], sort=False)["value"].agg(["mean", half_width, "count"])
    print(means.round(3).to_string())


if __name__ == "__main__":
    main()
