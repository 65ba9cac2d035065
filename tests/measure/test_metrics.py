"""Metrics: each against a model for which it must be bad."""

import numpy as np
import pytest
import torch
from conftest import confident

from megu.core.models import build
from megu.core.train import predict
from megu.measure.metrics import METRICS, References, accuracy, batch_accuracy, expected, metrics, rows
from megu.measure.outputs import Outputs, blank_logits, collect_outputs


def test_accuracy():
    assert accuracy(confident(torch.tensor([0, 1, 2, 2]), 0.9), torch.tensor([0, 1, 2, 0])) == 75
    assert np.isnan(accuracy(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)))


def saying(tiny, p, parts, features=None):
    """What a model would be seen to say that gives the true class the probability p[part] (else 0.9), with random or
    given features."""
    y, gen = tiny.images.y, torch.Generator().manual_seed(0)
    index = vars(tiny.split)
    logits = {part: confident(y[i], p if part in parts else 0.9, 10) for part, i in index.items()}
    return Outputs(logits, features or {part: torch.randn(len(i), 8, generator=gen) for part, i in index.items()})


@pytest.fixture(scope="module")
def reference(tiny):
    """A retrained model that knows nothing of the forgotten class, an original that memorised it, an untrained
    network."""
    unseen = ("forget", "val_forget", "test_forget")
    blank = build("resnet-small", 10, tiny.images.shape, 0)
    untrained = collect_outputs(blank, tiny.images, tiny.split).logits
    compat = {part: blank_logits(blank, tiny.images, getattr(tiny.split, part)) for part in ("forget", "test_forget")}
    return References(saying(tiny, 0.9, ()), saying(tiny, 0.05, unseen), untrained, compat)


def measured(seen, tiny, reference):
    return metrics(seen, tiny.images, tiny.split, reference)


def test_the_retrained_model_is_at_its_own_goal(tiny, reference):
    found = measured(reference.retrain, tiny, reference)
    assert (
        found["tow"] == 1
        and found["tow_mia"] == 1
        and found["js_retrain"] == pytest.approx(0, abs=1e-9)
        and found["activation_distance"] == 0
    )
    assert found["cka_retrain_forget"] == pytest.approx(1) and found["acc_forget_train"] == 0
    assert sorted(found) == sorted(expected())
    assert set(METRICS) - set(found) == {n for n in METRICS if n.startswith(("mia_lira", "relearn"))}


def test_a_memorising_original_fails_every_test_of_forgetting(tiny, reference):
    memorising = saying(tiny, 0.4, ("val_forget", "test_forget"))
    found = measured(memorising, tiny, reference)
    assert (
        found["acc_forget_train"] == 100
        and found["tow"] == 0
        and found["js_retrain"] > 0.3
        and found["activation_distance"] > 0.5
    )
    assert (
        found["mia_loss_auc"] == found["mia_loss_bacc"] == found["mia_loss_tpr"] == 1 and found["mia_entropy_auc"] == 1
    )
    assert found["batch_acc_forget"] == 100 and found["zrf"] < measured(reference.retrain, tiny, reference)["zrf"] - 0.1


def test_a_random_model_and_a_collapsed_one_fail_utility(tiny, reference):
    random = measured(
        collect_outputs(build("resnet-small", 10, tiny.images.shape, 1), tiny.images, tiny.split), tiny, reference
    )
    assert random["acc_retain_test"] < 40 and random["batch_acc_retain"] < 40 and random["tow"] < 0.3
    constant = {
        part: torch.zeros(len(i), 10).index_fill_(1, torch.tensor([0]), 5.0) for part, i in vars(tiny.split).items()
    }
    collapsed = measured(Outputs(constant, saying(tiny, 0.9, ()).features), tiny, reference)
    assert collapsed["acc_forget_train"] == 0 and collapsed["tow"] < 0.1 and collapsed["acc_retain_test"] < 15


def test_a_body_that_still_tells_the_class_is_caught_by_the_probe(tiny, reference):
    y = tiny.images.y
    telling = {part: torch.nn.functional.one_hot(y[i], 10).float() for part, i in vars(tiny.split).items()}
    hidden = saying(tiny, 0.05, ("forget", "val_forget", "test_forget"), telling)
    assert measured(hidden, tiny, reference)["probe_forget_acc"] == 100
    assert measured(reference.retrain, tiny, reference)["probe_forget_acc"] < 60


def test_one_forward_pass_is_what_predict_sees(tiny, reference):
    model = build("resnet-small", 10, tiny.images.shape, 0).eval()
    seen = collect_outputs(model, tiny.images, tiny.split)
    assert torch.allclose(seen.logits["forget"], predict(model, tiny.images, tiny.split.forget), atol=1e-5)
    assert torch.allclose(model.head(seen.features["test_retain"]), seen.logits["test_retain"], atol=1e-5)


def test_batch_accuracy_overweights_the_short_last_batch():
    y = torch.zeros(100, dtype=torch.int64)
    logits = confident(torch.cat([y[:64], y[64:] + 1]), 0.9)  # right on the first 64 of 100
    assert accuracy(logits, y) == pytest.approx(64) and batch_accuracy(logits, y) == pytest.approx(50)


def test_rows_say_what_they_are():
    table = rows("megu", 3, {"acc_retain_test": 90.0, "mia_ssd_member_rate": 5.0})
    assert set(table["mode"]) == {"strict", "compat"}
    assert set(table.columns) == {"method", "seed", "repeat", "metric", "value", "mode", "unit", "goal", "images"}
    assert all(
        metric.mode in ("strict", "compat") and metric.unit and metric.goal and metric.images
        for metric in METRICS.values()
    )
