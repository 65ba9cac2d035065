"""The numbers of a tiny run of everything, digit for digit as they are tracked in tiny.csv.

``python tests/golden/test_golden.py`` writes that file anew where a number had to move; the commit says why it had to.
"""

import hashlib
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from megu.datasets.sources import load
from megu.measure.outputs import collect_outputs
from megu.methods import METHODS
from megu.methods.megu import choose_labels
from megu.runs.experiment import Experiment
from megu.settings.class_names import FASHION
from megu.settings.profiles import resolve

TRACKED = Path(__file__).with_name("tiny.csv")
BRIEF = {
    "device": "cpu", "threads": 1, "autocast": "off", "seeds": 1, "retain_images": 40, "data.name": "npz",
    "guide.source": "posterior", "guide.exemplars": 2, "forget.count": 12,
    "training.epochs": 2, "training.batch": 32, "training.lr": 0.1, "methods.retrain-head.recipe.epochs": 1,
    "methods.unsir.noises": 8, "methods.unsir.noise.steps": 3, "methods.unsir-ssd.noise.steps": 3,
    "methods.unsir-ssd.noises": 4, "methods.unsir-ssd.copies": 4, "methods.megu.noise.steps": 4, "methods.ssd.images": 20,
}  # fmt: skip
ALL_METRICS = ("retrain", "megu")  # of the others only their answers: the code of the metrics is the same
VARIANTS = (  # of MeGU, class-wise
    {"noise.per": "image"}, {"noise.per": "image", "noise.around": "image"}, {"noise.combine": "separate"},
    {"noise.combine": "mix", "noise.weight_pos": 0.3, "noise.weight_neg": 0.3}, {"noise.kind": "pos"},
    {"noise.kind": "random"}, {"labels.exclude_forgotten": False, "labels.tau": 0.1}, {"labels.choice": "nearest"},
    {"labels.choice": "farthest"}, {"labels.choice": "posterior"},
)  # fmt: skip
CELLS = (("class", {"shadows": 2}), ("subclass", {}), ("random", {}), ("class", {"arch": "vit-tiny"}))


def digits(values):
    """Nine significant digits of each value, which tell any two float32 apart."""
    return " ".join(f"{value:.9g}" for value in np.ravel(np.asarray(values, float)))


def answers(logits):
    """One number for each part of the split that moves with every logit and with their order."""
    return digits([(x.double().flatten() * torch.arange(x.numel()).double().cos()).sum() for x in logits.values()])


def arithmetic():
    """Eight hex digits over a few steps of torch alone: processors and versions that round otherwise have others."""
    torch.set_num_threads(1)
    gen, total = torch.Generator().manual_seed(0), hashlib.sha256(torch.__version__.partition("+")[0].encode())
    for width, size in ((16, 14), (32, 7), (128, 2)):
        x, w = torch.randn(32, width, size, size, generator=gen), torch.randn(width, width, 3, 3, generator=gen) / width
        w, x = w.requires_grad_(), x.contiguous(memory_format=torch.channels_last)
        out = F.batch_norm(torch.conv2d(x, w, padding=1), None, None, training=True)
        out.relu().mean((2, 3)).logsumexp(1).sum().backward()
        total.update(w.grad.numpy().tobytes() + (x[:, :, 0, 0] @ w.detach()[:, :, 0, 0]).softmax(1).numpy().tobytes())
    return total.hexdigest()[:8]


def images(folder):
    """15 training and 6 test images of each embedded class, 14 px, as an .npz with superclasses."""
    mini, coarse = load(resolve()), tuple(dict.fromkeys(FASHION.values()))
    x, y = mini.x[:, 0, ::2, ::2].numpy(), mini.y.numpy()
    np.savez(
        folder / "tiny.npz",
        x_train=x[:150], y_train=y[:150], x_test=x[10_000:10_060], y_test=y[10_000:10_060],
        class_names=np.array(mini.classes), coarse_names=np.array(coarse),
        fine_to_coarse=np.array([coarse.index(c) for c in FASHION.values()]),
    )  # fmt: skip
    return {"data.path": str(folder / "tiny.npz")}


def measured(folder):
    """(cell, method, quantity) -> digits."""
    out, data = {("", "", "arithmetic"): arithmetic()}, images(folder)
    for scenario, more in CELLS:
        cell, small = f"{scenario} {more.get('arch', '')}".strip(), more.get("arch") == "vit-tiny"
        names = [n for n, entry in METHODS.items() if scenario in entry.scenarios and n not in ("original", "retrain")]
        usual = {k: v for k, v in BRIEF.items() if not k.startswith("methods.") or k.split(".")[1] in names}
        changes = {**usual, **data, **more, "forget.scenario": scenario, "compare": ["ssd", "megu"] if small else names}
        run = Experiment(run_dir=folder / cell, overrides=changes)
        out[cell, "", "transition"] = digits(run.transition())
        out[cell, "megu", "labels"] = digits(choose_labels(run.task("megu", 0), run.parameters("megu")))
        for name in run.method_names:
            out[cell, name, "answers"] = answers(run.logits(name, 0))
            if name in ALL_METRICS:
                out |= {(cell, name, row.metric): digits(row.value) for row in run.rows(name, 0).itertuples()}
        if scenario == "class" and not small:
            for source in ("confusion", "own-features"):
                out[cell, source, "transition"] = digits(run.transition(source))
            for changed in VARIANTS:
                model, _ = run.models.make("megu", 0, changes=changed)
                variant = " ".join(f"{k}={v}" for k, v in changed.items())
                out[cell, "megu", variant] = answers(collect_outputs(model, run.images, run.split).logits)
    return out


def read(path):
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return {tuple(row[:3]): row[3] for row in table.itertuples(index=False)}


def differences(before, after):
    """Sentences: what is missing, new, or has another digit."""
    moved = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return [f"{' / '.join(key)}: was {before.get(key)}, is {after.get(key)}" for key in moved]


def test_no_number_moves(tmp_path):
    tracked = read(TRACKED)
    if arithmetic() != tracked["", "", "arithmetic"]:
        pytest.skip("this processor or version of torch rounds in another way than the one that made tiny.csv")
    assert differences(tracked, measured(tmp_path)) == []


def test_one_altered_digit_is_noticed():
    tracked = read(TRACKED)
    for key, text in tracked.items():
        altered = text[:-1] + str((int(text[-1], 16) + 1) % 10) if text != "nan" else "0"
        assert len(differences(tracked, {**tracked, key: altered})) == 1
    assert len(differences(tracked, dict(list(tracked.items())[1:]))) == 1


def write():
    with tempfile.TemporaryDirectory() as folder:
        rows = [(*key, text) for key, text in measured(Path(folder)).items()]
    pd.DataFrame(rows, columns=["cell", "method", "quantity", "digits"]).to_csv(TRACKED, index=False)


if __name__ == "__main__":
    sys.exit(write())
