"""What a run costs: lines find what is there, operations are arithmetic."""

from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from refusals import refused
from torchvision.models import ResNet50_Weights
from typer.testing import CliRunner

from megu.cli.main import app
from megu.core.train import predict
from megu.cost import gpu
from megu.cost import predict as cost
from megu.cost.flops import forward_flops
from megu.figures import cost as cost_figures
from megu.measure.count import Passes
from megu.runs import models
from megu.settings.cells import CELLS

grid, imagenet = cache(cost.grid_cost), cache(cost.imagenet_cost)
PASSES = ["models", "trained", "noised", "seen"]


@pytest.fixture(scope="module")
def tracked():
    return pd.read_csv(ROOT / "paper_figures" / "data" / "cost.csv")


def median_error(table, shuffled=None):
    """Of what is held out; where ``shuffled`` is a seed, with the seconds of each stage shuffled: the control."""
    if shuffled is not None:
        seconds = table.groupby("stage")["seconds"]
        table = table.assign(seconds=seconds.transform(lambda s: s.sample(frac=1, random_state=shuffled).to_numpy()))
    return cost.held_out(table)["error"].abs().median()


def test_a_line_is_found_and_predicts_what_was_left_out():
    passes = 100 * 2 ** np.arange(8)
    seconds = (0.05 + 2e-4 * passes) * (1 + 0.02 * np.random.default_rng(0).standard_normal(8))
    table = pd.DataFrame({"stage": "a stage", "passes": passes, "entries": 0, "seconds": seconds})
    line, errors = cost.fit(passes, seconds), cost.held_out(table)
    assert line.overhead == pytest.approx(0.05, rel=0.1) and line.each == pytest.approx(2e-4, rel=0.05)
    assert errors["error"].abs().max() < 0.1 and median_error(table, 1) > 0.4
    assert list(errors["passes"]) == list(passes), "the largest and the smallest too"
    twins = cost.held_out(pd.concat([table, table.assign(seconds=7.0)]))
    assert not np.allclose(twins["predicted"], 7, rtol=0.05)
    assert twins.groupby("passes")["predicted"].nunique().eq(1).all()
    with refused("no stage was measured at four numbers of passes"):
        cost.held_out(table.head(3))
    falling = cost.fit(passes, seconds[::-1])
    assert falling.each == 0 and falling.overhead > 0, "no image takes less than no time"


@pytest.mark.parametrize("off", [0.99, 1.01])
def test_a_large_point_does_not_move_the_line_at_a_small_one(off):
    passes = 10 * 2 ** np.arange(11)
    seconds = 1e-3 * passes * np.where(passes == passes.max(), off, 1)  # 10 ms to 10 s
    assert cost.fit(passes, seconds).seconds(10) == pytest.approx(0.01, rel=0.01)


def test_a_product_and_a_sort_are_two_terms():
    k = np.array([10, 30, 100, 300, 1000])
    seconds = 4e-8 * k**2 + 2e-5 * k
    both, one = cost.fit(k**2, seconds, k), cost.fit(k**2, seconds)
    assert both.each == pytest.approx(4e-8, rel=1e-3) and both.entry == pytest.approx(2e-5, rel=1e-3)
    assert np.abs(one.seconds(k**2) / seconds - 1).max() > 0.3


def test_operations_are_the_arithmetic_of_the_network():
    tokens, width, inner, layers = 197, 768, 3072, 12
    products = layers * tokens * (4 * width**2 + 2 * width * inner + 2 * tokens * width)
    products += 196 * 768 * width + width * 100
    assert forward_flops("vit-b16", 100, (3, 32, 32)) == pytest.approx(2 * products, rel=1e-3)
    products = 1e9 * ResNet50_Weights.IMAGENET1K_V2.meta["_ops"]  # as torchvision prints it
    assert forward_flops("resnet50", 1000, (3, 224, 224)) == pytest.approx(2 * products, rel=1e-3)


def test_the_grid_shares_its_originals():
    table, of_one = grid(), cost.grid_cost("paper", 1)
    models = table.groupby("stage")["models"].sum()
    assert models["pre-training"] == 3 * 2 * 3, "three data sets, two networks, three seeds"
    assert models["retrain"] == 24 * 3, "14 cells of the main tables, 10 of the appendix"
    assert not table.duplicated(["stage", "data", "arch", "scenario"]).any()
    for column in cost.ADDED:
        np.testing.assert_allclose(3 * of_one[column], table[column], rtol=1e-12)


PEAK = {"half": 165.2e12, "full": 82.6e12}  # of an RTX 4090, by its data sheet
REACHED = {"resnet18": (0.2, 0.05), "resnet50": (0.4, 0.15), "vit-b16": (0.5, 0.2)}  # assumed, for few and many hours


@pytest.mark.parametrize("table", [grid, imagenet], ids=["grid", "imagenet"])
def test_every_row_multiplies_out(table):
    for row in table().itertuples():
        trained, rest = (row.models * n * row.gflop * 1e9 for n in (3 * row.trained, 2 * row.noised + row.seen))
        assert row.pflop * 1e15 == pytest.approx(trained + rest, rel=1e-9), row
        peak = PEAK["full" if row.stage in ("ssd", "ssd-code") else "half"]
        for share, found in zip(REACHED[row.arch], (row.hours_low, row.hours_high), strict=True):
            assert found == pytest.approx((trained / peak + rest / PEAK["full"]) / share / 3600, rel=1e-9), row


REST = 1_281_167 - 1300
BY_HAND = {  # row -> models, passes that are trained, noised, seen of each
    ("retrain", "cifar20", "resnet18", "class"): [2 * 3, (45_000 - 2250) * 40, 0, 0],
    ("retrain", "cifar20", "resnet18", "subclass"): [7 * 3, (45_000 - 450) * 40, 0, 0],
    ("pre-training", "cifar20", "resnet18", ""): [3, 45_000 * 40, 0, 0],
    ("pre-training", "resnet50", REST): [1, 1_281_167 * 90, 0, 0],
    ("retrain", "vit-b16", REST): [1, REST * 8, 0, 0],
    # The original, the retrained one and MeGU's.
    ("evaluation", "resnet50", REST): [3, 0, 0, 1_281_167 + 50_000],
    # 500 images less a tenth, 10,000 retain images, 5 epochs; 25 steps of noise of most labels and the one that goes.
    ("megu", "cifar100", "vit-b16", "class"): [2 * 3, (450 + 10_000) * 5, (51, 100), 450],
    ("megu", "resnet50", 10_000): [1, (1300 + 10_000) * 3, (300, 1000), 1300],
    ("megu", "vit-b16", 100_000): [1, (1300 + 100_000) * 5, (300, 1000), 1300],
}


@pytest.mark.parametrize("row", BY_HAND, ids=str)
def test_rows_by_hand(row):
    names, table = (["arch", "retain"], imagenet()) if len(row) == 3 else (["data", "arch", "scenario"], grid())
    table = table.set_index(["stage", *names])
    (*found, noised, seen), (*expected, labels, looks) = table.loc[row, PASSES], BY_HAND[row]
    assert found == expected and seen == looks
    least, most = labels or (0, 0)
    assert noised % 25 == 0 and least * 25 <= noised <= most * 25


@pytest.mark.parametrize(("profile", "said"), [
    ("papr", "did you mean 'paper'"), ("small", "no speed on a GPU is assumed or measured .resnet-small, vit-tiny."),
])  # fmt: skip
def test_a_grid_without_a_known_speed_is_refused(profile, said):
    with refused(said):
        cost.grid_cost(profile)


def smoke(*archs, parts=3):
    said = [("training", "operations of a step", 3.3), ("training", "bfloat16", 1e4), ("evaluation", "float32", 2e4)]
    named = [(part, f"{arch}: {what}", value) for arch in archs for part, what, value in said[:parts]]
    named.append(("memory", "vit-b16: batch 256", "no room"))  # no speed, and no reason to refuse the others
    return {"device": "a card", "lines": [dict(zip(("part", "what", "value"), line, strict=True)) for line in named]}


def test_a_measured_gpu_takes_the_place_of_the_assumption():
    card = gpu.measured_gpu(smoke("resnet18"))
    assert card.trained["resnet18"] == (33.0, 33.0) and card.seen["resnet18"] == pytest.approx((22.0, 22.0))
    assert all(getattr(card, kind)["vit-b16"] == getattr(gpu.CARD, kind)["vit-b16"] for kind in gpu.SHEET)
    assert card.name == f"a card, measured (vit-b16, resnet50: assumed, of an {gpu.CARD.name})"
    assert "resnet18 in part" in gpu.measured_gpu(smoke("resnet18", parts=2)).name
    assert gpu.measured_gpu(smoke(*gpu.SHARES)).name == "a card, measured"
    fewest, most = gpu.hours(Passes(trained=3600 * 10_000), 1.1e9, "resnet18", card)
    assert fewest == most == pytest.approx(1.0), "10,000 images a second, an hour"
    with refused("holds no speed"):
        gpu.measured_gpu(smoke("resnet-small"))


@pytest.mark.parametrize(("text", "said"), [
    ("seconds: 3", "Expecting value"), ("[1, 2]", "does not hold a device and lines"),
    ('{"device": "a card", "lines": [{"part": "training"}]}', "does not hold"),
    ('{"device": "a card", "lines": []}', "holds no speed"),
])  # fmt: skip
def test_a_file_that_is_no_measurement_is_refused_in_a_line(text, said, tmp_path):
    (tmp_path / "smoke.json").write_text(text)
    with refused(f"--smoke 'smoke.json' cannot be used.*{said}"):
        raise CliRunner().invoke(app, ["cost", "predict", "--smoke", str(tmp_path / "smoke.json")]).exception


def test_the_untrained_network_is_shown_forget_images_alone(tiny, monkeypatch):
    looks = []
    look = lambda model, images, index: looks.append(index) or predict(model, images, index)  # noqa: E731
    monkeypatch.setattr(models, "predict", look)
    monkeypatch.setattr(tiny.models, "_references", {})
    monkeypatch.setattr(tiny.models, "outputs", lambda name, seed: SimpleNamespace(logits=None))
    tiny.models.references(0)
    assert [len(index) for index in looks] == [len(tiny.split.forget)] and len(tiny.split.retain) > len(looks[0])
    table, cells = grid(), CELLS["paper"]
    assert table.loc[table["stage"] == "evaluation", "models"].sum() == 3 * sum(len(cell.methods) for cell in cells)


def test_an_image_is_looked_at_once_for_all_its_labels():
    images, questions = np.array([5, 10, 20, 40] * 2), np.array([50, 100, 200, 400, 500, 1000, 2000, 4000])
    line = cost.fit(images, 0.02 * images + 1e-5 * questions, questions)
    asked = cost.guide_cost({"composed": line}).set_index("data")
    assert asked["images"].to_dict() == {"cifar10": 80, "cifar20": 160, "cifar100": 800, "imagenet": 8000}
    assert asked["questions"].to_dict() == {"cifar10": 800, "cifar20": 3200, "cifar100": 80_000, "imagenet": 8_000_000}
    seconds = asked["images"] * 0.02 + asked["questions"] * 1e-5
    assert list(asked["composed, hours"]) == pytest.approx(list(seconds / 3600), rel=1e-3)


def test_the_tracked_points_lie_on_lines(tracked):
    assert len(cost.held_out(tracked)) >= 15 and median_error(tracked) < 0.1 and median_error(tracked, 3) > 0.3


def test_the_tracked_guides_carry_over_to_another_number_of_labels(tracked):
    labels = tracked["variable"].str.extract(r"questions, (\d+) labels")[0].astype(float)
    left_out = tracked[labels == 30][["stage", "passes"]].merge(cost.held_out(tracked))
    assert set(left_out["stage"]) == {"guide composed", "guide tiny"} and left_out["error"].abs().max() < 0.25
    ten, thousand = (tracked[(tracked["stage"] == "guide composed") & (labels == k)] for k in (10, 1000))
    each = (ten["seconds"] / ten["entries"]).min()
    assert (each * thousand["entries"] > 5 * thousand["seconds"]).all(), "multiplied by questions alone it does not"


def test_a_line_joins_points_of_one_number_of_labels(tracked):
    table = cost.fitted(tracked)
    ax = cost_figures.costs(table).axes[-1]
    joined = [line.get_xydata() for line in ax.lines if line.get_linestyle() == "--"]
    for _, part in table[table["part"] == "guides"].groupby(["stage", "variable"]):
        points = part.sort_values("passes")[["value", "fitted"]]
        assert any(np.array_equal(points, line) for line in joined)
    assert {text.get_text() for text in ax.texts} == {"10", "100", "1000"}
