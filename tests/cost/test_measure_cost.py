"""Measuring what a run costs: the points, their passes, and what is kept of them."""

import itertools
import json
from types import SimpleNamespace

import pandas as pd
import pytest
from conftest import ROOT
from refusals import refused
from typer.testing import CliRunner

from megu.cli.main import app
from megu.cost import measure as costing
from megu.cost.flops import counted, forward_flops
from megu.settings.profiles import resolve

SMALL = {
    "RETAIN": (20, 40, 60),
    "SEEN": (20,),
    "FORGET": (4,),
    "CLASSES": (5,),
    "WIDTHS": (8,),
    "NETS": (),
    "ASKED": {},
}


@pytest.fixture
def few(monkeypatch):
    for name, small in SMALL.items():
        monkeypatch.setattr(costing, name, small)


def test_a_guide_is_asked_about_new_images_with_every_label(monkeypatch):
    heard = []

    def fake(context):
        return SimpleNamespace(score=lambda questions: heard.append(questions) or [0.0] * len(questions))

    monkeypatch.setattr(costing, "ASKED", {"composed": ((1, 2), (3, 2), (4, 5))})
    monkeypatch.setitem(costing.SOURCES, "composed", fake)
    monkeypatch.setattr(costing, "imagenet_labels", lambda: [f"label {i}" for i in range(9)])
    points = list(costing.of_guides())
    assert [(point.passes, point.entries, point.value) for point in points] == [(1, 2, 2), (3, 6, 6), (4, 20, 20)]
    for point in points:
        point.work(), point.work()
        first, second = ({question.image_hash for question in questions} for questions in heard[-2:])
        assert len(first) == len(second) == point.passes and not first & second and len(heard[-1]) == point.entries
        assert len({(question.image_hash, question.label) for question in heard[-1]}) == point.entries


def test_passes_are_those_that_go_through_the_network(few):
    forward = forward_flops("resnet-small", 10, (1, 28, 28))
    of_a_pass = {"fine-tuning": 3, "evaluation": 1, "noise": 2}  # a noise: there, and back to the image
    for point in costing.of_images():
        value = 60 * point.value if point.variable == "epochs" else point.value
        # A noise: two signs, two steps.  MeGU: trained on with 100 retain images, after the forget images were seen.
        assert point.passes == {"noise": 4 * value, "MeGU without noise": 100 + value}.get(point.stage, value)
        expected = of_a_pass.get(point.stage, 3) * point.passes + value * (point.stage not in of_a_pass)
        assert point.gflop * 1e9 == pytest.approx(expected * forward, rel=1e-9), point
        with counted() as count:
            point.work()
        # Less than half a percent: the first layer needs no gradient to its images where weights are trained, and none
        # to its weights where noise is.
        assert count.get_total_flops() / 1e9 == pytest.approx(point.gflop, rel=0.005), point


def test_seconds_are_the_median_of_the_repeats(monkeypatch):
    ticks, runs = itertools.chain.from_iterable((0.0, seconds) for seconds in (5.0, 1.0, 9.0, 2.0, 3.0)), []
    monkeypatch.setattr(costing.time, "process_time", lambda: next(ticks))
    row = costing.measure_point(costing.Point(lambda: runs.append(1), "a stage", "n", 1, 1), 5)
    assert (row["seconds"], row["low"], row["high"], row["repeats"]) == (3.0, 1.0, 9.0, 5) and next(ticks, None) is None
    assert len(runs) == 7, "one to warm up, one whose memory is watched"


def test_measuring_writes_what_the_notebook_reads(few, tmp_path, monkeypatch):
    def kept(folder=tmp_path):
        return pd.read_csv(folder / "cost.csv"), json.loads((folder / "cost_source.json").read_text())

    costing.measure(tmp_path, repeats=1)
    (table, source), (tracked, about) = kept(), kept(ROOT / "paper_figures" / "data")
    assert list(table.columns) == list(tracked.columns) and set(source) == set(about)
    assert list(source["measured"]) == sorted(parts := ["images", "classes", "weights"])
    assert {part["device"] for part in source["measured"].values()} == {"cpu, float32"}
    assert costing.request()[0].device == "cpu" != resolve().device, "data and networks are on the processor"
    memory = table.set_index("stage")["tensor_mb"]
    assert pd.isna(memory["transition"]) and memory["perturbing labels"] > 0
    assert (table["low"] <= table["seconds"]).all() and (table["seconds"] <= table["high"]).all()
    assert (table.loc[table["part"] == "weights", "tensor_mb"] > 1).all()

    said = []
    monkeypatch.setattr(costing, "WIDTHS", (8, 12))
    costing.measure(tmp_path, ("weights",), repeats=2)
    again, later = kept()
    costing.measure(tmp_path, ("guides",), say=said.append)
    assert "nothing here to measure" in said[0] and kept()[1] == later, "no guide is asked here"
    pd.testing.assert_frame_equal(again[again["part"] != "weights"], table[table["part"] != "weights"])
    assert list(again.loc[again["part"] == "weights", "repeats"]) == [2, 2] and list(again["part"].unique()) == parts
    changed = {name for name, about in later["measured"].items() if about != source["measured"][name]}
    assert changed == {"weights"}


@pytest.mark.parametrize(("asked", "said"), [
    (["--part", "guide", "--out", "new"], "did you mean 'guides'"),
    (["--out", "old"], "does not say of which part"),
])  # fmt: skip
def test_a_part_that_cannot_be_measured_is_refused_before_any_is(asked, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "cost.csv").write_text("stage,seconds\nnoise,1\n")
    monkeypatch.setattr(costing, "measure_point", lambda point, repeats: pytest.fail("it was measured"))
    with refused(said):
        raise CliRunner().invoke(app, ["cost", "measure", *asked]).exception
