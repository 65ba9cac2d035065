"""The report's numbers, computed again without this package: from the file of weights and the folder of photos."""

from pathlib import Path

import numpy as np
import pytest
import torch
from own_model import NAMES, files_of, network
from PIL import Image
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

import megu

GONE = NAMES.index("trouser")


@pytest.fixture(scope="module")
def asked(model, parts, tmp_path_factory):
    root = files_of(model, parts, tmp_path_factory.mktemp("numbers"))
    more = {"classes": root / "names.txt", "normalise": "half", "method": "finetune", "out": root / "out"}
    # A network that takes images of mean 0.5 and deviation 0.5, and is the same function of a photo.
    shifted = torch.nn.Sequential(Half(), network()).eval()
    shifted[1].load_state_dict(model.state_dict())
    how = {"settings": {"recipe.epochs": 1, "recipe.batch": 32}, "guide": "model"}
    return root, shifted, megu.unlearn(shifted, root / "photos", "trouser", **more, **how).report


class Half(torch.nn.Module):
    def forward(self, x):
        return x * 0.5 + 0.5


class Loud(torch.nn.Module):
    def forward(self, x):
        return 3000 * x


def logits_of(net, root, part):
    """(Logits, classes) of the photos of a part."""
    pairs = [(path, k) for k, name in enumerate(NAMES) for path in sorted((root / "photos" / part / name).iterdir())]
    pixels = np.stack([np.asarray(Image.open(path).convert("L"), dtype=np.float32) for path, _ in pairs])
    with torch.no_grad():
        logits = net((torch.from_numpy(pixels)[:, None] / 255 - 0.5) / 0.5)
    return logits.double(), torch.tensor([k for _, k in pairs])


def test_accuracies_and_attacks_are_those_of_a_few_lines_of_torch_and_scikit_learn(asked):
    root, before, report = asked
    after = torch.nn.Sequential(Half(), network()).eval()
    after.load_state_dict(load_file(Path(root) / "out" / "model.safetensors"))
    told = {(row["model"], row["part"]): row["percent"] for row in report["accuracy"]}
    attacks = {(row["model"], row["attack"]): row["auc"] for row in report["attacks"]}
    ours, aucs = {}, {}
    for name, net in (("before", before), ("after", after)):
        (train, y), (test, y_test) = (logits_of(net, root, part) for part in ("train", "test"))
        for part, logits, labels in (("", train, y), ("test_", test, y_test)):
            right = (logits.argmax(1) == labels).double()
            forget = f"{part}forget"
            ours[name, forget] = 100 * right[labels == GONE].mean().item()
            ours[name, f"{part}retain"] = 100 * right[labels != GONE].mean().item()
        seen, unseen = train[y == GONE], test[y_test == GONE]  # of one class, so matched as they are
        member = np.r_[np.ones(len(seen)), np.zeros(len(unseen))]
        log_p = torch.cat([seen, unseen]).log_softmax(1)
        aucs[name, "loss"] = roc_auc_score(member, log_p[:, GONE])
        aucs[name, "entropy"] = roc_auc_score(member, (log_p.exp() * log_p).sum(1))
    assert told == pytest.approx(ours, abs=0.001) and len(told) == 8
    assert attacks == pytest.approx(aucs, abs=0.001) and len(attacks) == 4
    changed = {**ours, ("after", "retain"): ours["after", "retain"] + 100 / 360}  # one image of 360, the control
    assert told != pytest.approx(changed, abs=0.001)
    assert abs(ours["before", "forget"] - ours["after", "forget"]) > 1  # there was something to measure


def test_losses_of_0_by_rounding_are_told_apart(model, parts, tmp_path):
    root = files_of(model, parts, tmp_path)
    loud = torch.nn.Sequential(network(), Loud()).eval()
    loud[0].load_state_dict(model.state_dict())
    how = {"classes": root / "names.txt", "normalise": "half", "method": "ssd"}
    report = megu.unlearn(torch.nn.Sequential(Half(), *loud), root / "photos", "trouser", **how).report
    found = next(row["auc"] for row in report["attacks"] if (row["model"], row["attack"]) == ("before", "loss"))
    sides, rounded = [], []
    for part in ("train", "test"):
        logits, y = logits_of(torch.nn.Sequential(Half(), *loud).eval(), root, part)
        of_class = logits[y == GONE]
        others = of_class.clone()
        others[:, GONE] = -np.inf
        sides.append(of_class[:, GONE] - others.logsumexp(1))
        rounded.append(-torch.nn.functional.softplus(-sides[-1]))
    member = np.r_[np.ones(len(sides[0])), np.zeros(len(sides[1]))]
    assert found == pytest.approx(roc_auc_score(member, torch.cat(sides)), abs=0.001)
    assert found != pytest.approx(roc_auc_score(member, torch.cat(rounded)), abs=0.001), "the control"
