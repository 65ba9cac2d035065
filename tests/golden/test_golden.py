"""The numbers of a tiny run of everything, digit for digit as in tiny.csv.

``PYTHONPATH=tests/helpers python tests/golden/test_golden.py`` writes that file anew; the commit says why it had to.
"""

import hashlib
import tempfile
from pathlib import Path

import archives
import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from megu.cli.options import parse
from megu.measure.outputs import collect_outputs
from megu.methods import METHODS
from megu.methods.megu import choose_labels
from megu.runs.experiment import Experiment
from megu.settings.class_names import FASHION

FILE = Path(__file__).with_name("tiny.csv")
KEYS = ["cell", "method", "quantity"]
TRACKED = pd.read_csv(FILE, dtype=str, keep_default_na=False, index_col=KEYS)["digits"].to_dict()
BRIEF = "device=cpu threads=1 autocast=off seeds=1 retain_images=40 data.name=npz guide.source=posterior"
BRIEF += " guide.exemplars=2 forget.count=12 training.epochs=2 training.batch=32 training.lr=0.1"
OF_METHODS = "retrain-head.recipe.epochs=1 unsir.noises=8 unsir.noise.steps=3 unsir-ssd.noise.steps=3"
OF_METHODS += " unsir-ssd.noises=4 unsir-ssd.copies=4 megu.noise.steps=4 ssd.images=20"
VARIANTS = (  # MeGU
    "noise.per=image", "noise.per=image noise.around=image", "noise.combine=separate",
    "noise.combine=mix noise.alpha=0.5 noise.scale=0.6", "noise.kind=pos", "noise.kind=random",
    "labels.exclude_forgotten=False labels.tau=0.1", "labels.choice=nearest",
    "labels.choice=farthest", "labels.choice=posterior",
)  # fmt: skip
CELLS = {"class": "shadows=2", "subclass": "", "random": "", "class vit-tiny": "arch=vit-tiny compare=['ssd','megu']"}


def digits(values):
    """Nine significant digits of each value, which tell any two float32 apart."""
    return " ".join(f"{value:.9g}" for value in np.ravel(np.asarray(values, float)))


def answers(logits):
    """One number for each part of the split, which moves with every logit and their order."""
    return digits([(x.double().flatten() * torch.arange(x.numel()).double().cos()).sum() for x in logits.values()])


def arithmetic():
    """Eight hex digits over a few steps of torch alone, others where it rounds otherwise."""
    torch.set_num_threads(1)
    gen, total = torch.Generator().manual_seed(0), hashlib.sha256(torch.__version__.partition("+")[0].encode())
    for width, size in ((16, 14), (32, 7), (128, 2)):
        x, w = (torch.randn(shape, generator=gen) for shape in ((32, width, size, size), (width, width, 3, 3)))
        x, w = x.contiguous(memory_format=torch.channels_last), (w / width).requires_grad_()
        out = F.batch_norm(torch.conv2d(x, w, padding=1), None, None, training=True)
        out.relu().mean((2, 3)).logsumexp(1).sum().backward()
        total.update(w.grad.numpy().tobytes() + (x[:, :, 0, 0] @ w.detach()[:, :, 0, 0]).softmax(1).numpy().tobytes())
    return total.hexdigest()[:8]


def measured(folder):
    """(cell, method, quantity) -> digits; 15 training and 6 test images of each class."""
    out, data = {("", "", "arithmetic"): arithmetic()}, folder / "tiny.npz"
    archives.save(archives.embedded(lambda x: x[:, 0, ::2, ::2], 150, 60), data, FASHION)
    for cell, more in CELLS.items():
        scenario = cell.split()[0]
        names = [name for name, entry in METHODS.items() if scenario in entry.scenarios][2:]
        brief = [f"methods.{one}" for one in OF_METHODS.split() if one.partition(".")[0] in names]
        about = {"data.path": str(data), "forget.scenario": scenario, "compare": names}
        run = Experiment(run_dir=folder / cell, overrides=about | parse([*BRIEF.split(), *more.split(), *brief]))
        out[cell, "", "transition"] = digits(run.transition())
        out[cell, "megu", "labels"] = digits(choose_labels(run.task("megu", 0), run.parameters("megu")))
        for name in run.method_names:
            out[cell, name, "answers"] = answers(run.logits(name, 0))
            if name in ("retrain", "megu"):  # the code of the metrics is the same for the others
                out |= {(cell, name, row.metric): digits(row.value) for row in run.rows(name, 0).itertuples()}
        if cell == "class":
            for source in ("confusion", "own-features"):
                out[cell, source, "transition"] = digits(run.transition(source))
            for variant in VARIANTS:
                model, _ = run.models.make("megu", 0, changes=parse(variant.split()))
                out[cell, "megu", variant] = answers(collect_outputs(model, run.images, run.split).logits)
    return out


def differences(before, after):
    """What is missing, new or has another digit: was, is."""
    return {key: (before.get(key), after.get(key)) for key, _ in before.items() ^ after.items()}


def test_no_number_moves(tmp_path):
    if arithmetic() != TRACKED["", "", "arithmetic"]:
        pytest.skip("this processor or torch rounds otherwise than tiny.csv's")
    known = {method for _, method, _ in TRACKED}  # a method that is added moves no number
    found = {key: text for key, text in measured(tmp_path).items() if key[1] in known}
    assert differences(TRACKED, found) == {}


def test_one_altered_digit_is_noticed():
    for key, text in TRACKED.items():
        altered = text[:-1] + ("1" if text[-1] == "0" else "0")
        assert differences(TRACKED, TRACKED | {key: altered}) == {key: (text, altered)}
    assert differences({}, TRACKED).keys() == differences(TRACKED, {}).keys() == TRACKED.keys()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        pd.Series(measured(Path(folder)), name="digits").rename_axis(KEYS).to_csv(FILE)
