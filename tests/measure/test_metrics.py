"""Metrics are bad for bad models."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import confident

from megu.core.models import build
from megu.core.train import predict
from megu.measure.metrics import METRICS, References, accuracy, batch_accuracy, expected, metrics, rows
from megu.measure.outputs import Outputs, blank_logits, collect_outputs

UNSEEN = ("forget", "val_forget", "test_forget")


def saying(tiny, p, parts, features=None):
    y, gen, index = tiny.images.y, torch.Generator().manual_seed(0), vars(tiny.split)
    logits = {part: confident(y[i], p if part in parts else 0.9, 10) for part, i in index.items()}
    return Outputs(logits, features or {part: torch.randn(len(i), 8, generator=gen) for part, i in index.items()})


@pytest.fixture(scope="module")
def reference(tiny):
    blank = build("resnet-small", 10, tiny.images.shape, 0)
    untrained = predict(blank, tiny.images, tiny.split.forget)
    compat = {part: blank_logits(blank, tiny.images, getattr(tiny.split, part)) for part in ("forget", "test_forget")}
    return References(saying(tiny, 0.9, ()), saying(tiny, 0.05, UNSEEN), untrained, compat)


@pytest.fixture(scope="module")
def measured(tiny, reference):
    return lambda seen: metrics(seen, tiny.images, tiny.split, reference)


def test_the_retrained_model_is_at_its_own_goal(tiny, reference, measured):
    found = measured(reference.retrain)
    assert found["tow"] == found["tow_mia"] == 1 and found["activation_distance"] == found["acc_forget_train"] == 0
    assert found["js_retrain"] == pytest.approx(0, abs=1e-9) and found["cka_retrain_forget"] == pytest.approx(1)
    told = replace(reference, retrain=saying(tiny, 0.4, UNSEEN[1:]))
    assert metrics(told.retrain, tiny.images, tiny.split, told)["tow_mia"] == 1
    assert sorted(found) == sorted(expected())
    assert set(METRICS) - set(found) == {n for n in METRICS if n.startswith(("mia_lira", "relearn"))}


def test_lira_gives_both_groups_the_same_sigmas(tiny, reference):
    """Far from all shadow models, as a retrained model is, a wider group must not look like the other's opposite."""
    rng, split = np.random.default_rng(0), tiny.split
    values = rng.normal(0, 0.6, (8, len(tiny.images.y)))
    values[:, split.forget.numpy()] *= 1.2
    inside = rng.permuted(np.arange(8)[:, None] % 2 * np.ones_like(values), axis=0) == 1
    far = replace(saying(tiny, 1e-4, UNSEEN))
    found = metrics(far, tiny.images, split, replace(reference, shadows=(values, inside)))
    assert 0.2 < found["mia_lira_online_auc"] < 0.8 and 0.2 < found["mia_lira_offline_auc"] < 0.8  # ten unseen


def test_a_memorising_original_has_forgotten_nothing(tiny, reference, measured):
    found = measured(saying(tiny, 0.4, UNSEEN[1:]))
    assert found["acc_forget_train"] == found["batch_acc_forget"] == 100 and found["tow"] == 0
    assert found["js_retrain"] > 0.3 and found["activation_distance"] > 0.5
    assert {found[f"mia_{attack}"] for attack in ("loss_auc", "loss_bacc", "loss_tpr", "entropy_auc")} == {1}
    assert found["zrf"] < measured(reference.retrain)["zrf"] - 0.1


def test_random_and_collapsed_models_fail_utility(tiny, measured):
    random = measured(collect_outputs(build("resnet-small", 10, tiny.images.shape, 1), tiny.images, tiny.split))
    assert random["acc_retain_test"] < 40 and random["batch_acc_retain"] < 40 and random["tow"] < 0.3
    constant = {part: torch.eye(10)[0 * i] for part, i in vars(tiny.split).items()}
    collapsed = measured(Outputs(constant, saying(tiny, 0.9, ()).features))
    assert collapsed["acc_forget_train"] == 0 and collapsed["tow"] < 0.1 and collapsed["acc_retain_test"] < 15


def test_the_probe_finds_a_body_that_still_tells_the_class(tiny, reference, measured):
    telling = {part: torch.eye(10)[tiny.images.y[i]] for part, i in vars(tiny.split).items()}
    assert measured(saying(tiny, 0.05, UNSEEN, telling))["probe_forget_acc"] == 100
    assert measured(reference.retrain)["probe_forget_acc"] < 60


def test_one_forward_pass_is_what_predict_sees(tiny):
    model = build("resnet-small", 10, tiny.images.shape, 0).eval()
    seen = collect_outputs(model, tiny.images, tiny.split)
    for same in (predict(model, tiny.images, tiny.split.forget), model.head(seen.features["forget"])):
        assert torch.allclose(seen.logits["forget"], same, atol=1e-5)


def test_batch_accuracy_overweights_the_short_last_batch():
    y = torch.zeros(100, dtype=torch.int64)
    logits = confident(torch.cat([y[:64], y[64:] + 1]), 0.9)  # right on the first 64 of 100
    assert accuracy(logits, y) == pytest.approx(64) and batch_accuracy(logits, y) == pytest.approx(50)
    assert np.isnan(accuracy(logits[:0], y[:0]))


def test_rows_say_what_they_are():
    table = rows("megu", 3, {"acc_retain_test": 90.0, "mia_ssd_member_rate": 5.0})
    assert set(table["mode"]) == {"strict", "compat"} == {metric.mode for metric in METRICS.values()}
    assert set(table.columns) == {"method", "seed", "repeat", "metric", "value", "mode", "unit", "goal", "images"}
    assert all(metric.unit and metric.goal and metric.images for metric in METRICS.values())
