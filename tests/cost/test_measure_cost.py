"""Measuring what a run costs: the points, their passes, and what is kept of them."""

import itertools
import json
from types import SimpleNamespace

import pandas as pd
import pytest
from conftest import ROOT
from typer.testing import CliRunner

from megu.cli.main import app
from megu.cost import measure as costing
from megu.cost.flops import counted, forward_flops
from megu.settings.errors import SettingsError
from megu.settings.profiles import resolve


def test_a_guide_is_asked_about_new_images_with_every_label(monkeypatch):
    heard = []

    def fake(context):
        return SimpleNamespace(score=lambda questions: heard.append(questions) or [0.0] * len(questions))

    monkeypatch.setattr(costing, "ASKED", {"composed": ((1, 2), (3, 2), (4, 5))})
    monkeypatch.setitem(costing.SOURCES, "composed", fake)
    monkeypatch.setattr(costing, "imagenet_labels", lambda: [f"label {i}" for i in range(9)])
    points = list(costing.of_guides())
    assert [(point.passes, point.entries, point.value) for point in points] == [(1, 2, 2), (3, 6, 6), (4, 20, 20)]
    heard.clear()
    for point in points:
        point.work(), point.work()
        first, second = ({question.image_hash for question in questions} for questions in heard[-2:])
        assert len(first) == len(second) == point.passes and not first & second and len(heard[-1]) == point.entries
        assert len({(question.image_hash, question.label) for question in heard[-1]}) == point.entries


def few(monkeypatch):
    for name, small in {
        "RETAIN": (20, 40, 60),
        "SEEN": (20,),
        "FORGET": (4,),
        "CLASSES": (5,),
        "WIDTHS": (8,),
        "NETS": (),
        "ASKED": {},
    }.items():
        monkeypatch.setattr(costing, name, small)


def test_passes_are_those_that_go_through_the_network(monkeypatch):
    few(monkeypatch)
    forward = forward_flops("resnet-small", 10, (1, 28, 28))
    per_pass = {"fine-tuning": 3, "evaluation": 1, "noise": 2}  # a noise: there, and back to the image
    for point in costing.of_images():
        with counted() as count:
            point.work()
        # Less than half a percent: the first layer needs no gradient to its images where weights are trained, and none
        # to its weights where noise is.
        assert count.get_total_flops() / 1e9 == pytest.approx(point.gflop, rel=0.005), point
        expected = per_pass[point.stage] * point.passes if point.stage in per_pass else 3 * point.passes + point.value
        assert point.gflop * 1e9 == pytest.approx(expected * forward, rel=1e-9), point


def test_seconds_are_the_median_of_the_repeats(monkeypatch):
    ticks, runs = itertools.chain.from_iterable((0.0, seconds) for seconds in (5.0, 1.0, 9.0, 2.0, 3.0)), []
    monkeypatch.setattr(costing.time, "process_time", lambda: next(ticks))
    row = costing.measure_point(costing.Point("a stage", "n", 1, 1, lambda: runs.append(1)), 5)
    assert (row["seconds"], row["low"], row["high"], row["repeats"]) == (3.0, 1.0, 9.0, 5) and next(ticks, None) is None
    assert len(runs) == 7, "one to warm up, one whose memory is watched"


def test_measuring_writes_what_the_notebook_reads(tmp_path, monkeypatch):
    few(monkeypatch)
    costing.measure(tmp_path, repeats=1)
    table, source = pd.read_csv(tmp_path / "cost.csv"), json.loads((tmp_path / "cost_source.json").read_text())
    assert set(table.columns) == set(pd.read_csv(ROOT / "paper_figures" / "data" / "cost.csv").columns)
    assert set(source) == set(json.loads((ROOT / "paper_figures" / "data" / "cost_source.json").read_text()))
    assert {part["device"] for part in source["measured"].values()} == {"cpu, float32"} and set(source["measured"]) == {
        "images",
        "classes",
        "weights",
    }
    assert costing.request()[0].device == "cpu" != resolve().device, "data and networks are on the processor"
    assert (
        table.set_index("stage")["tensor_mb"].isna()["transition"]
        and table.set_index("stage")["tensor_mb"]["perturbing labels"] > 0
    )
    assert (table["low"] <= table["seconds"]).all() and (table["seconds"] <= table["high"]).all()
    assert (table.loc[table["variable"] == "weights", "tensor_mb"] > 1).all()

    kept, before = table[table["part"] != "weights"].reset_index(drop=True), (tmp_path / "cost_source.json").read_text()
    said = []
    monkeypatch.setattr(costing, "WIDTHS", (8, 12))
    costing.measure(tmp_path, ("weights",), repeats=2)
    again, later = pd.read_csv(tmp_path / "cost.csv"), json.loads((tmp_path / "cost_source.json").read_text())
    costing.measure(tmp_path, ("guides",), say=said.append)
    assert "nothing here to measure" in said[0] and json.loads((tmp_path / "cost_source.json").read_text()) == later, (
        "no guide is asked here"
    )
    pd.testing.assert_frame_equal(again[again["part"] != "weights"].reset_index(drop=True), kept)
    assert list(again.loc[again["part"] == "weights", "repeats"]) == [2, 2] and list(again["part"].unique()) == [
        "images",
        "classes",
        "weights",
    ]
    assert {name for name, about in later["measured"].items() if about != json.loads(before)["measured"][name]} == {
        "weights"
    }


@pytest.mark.parametrize(("asked", "said"), [
    (["--part", "guide", "--out", "new"], "did you mean 'guides'"),
    (["--out", "old"], "does not say of which part"),
])  # fmt: skip
def test_a_part_that_cannot_be_measured_is_refused_before_any_is(asked, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "cost.csv").write_text("stage,seconds\nnoise,1\n")
    monkeypatch.setattr(costing, "measure_point", lambda point, repeats: pytest.fail("it was measured"))
    run = CliRunner().invoke(app, ["cost", "measure", *asked])
    assert isinstance(run.exception, SettingsError) and said in str(run.exception) and "\n" not in str(run.exception)
