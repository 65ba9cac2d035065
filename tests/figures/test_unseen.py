"""The measurement on images that no choice was made on: its table, going on, its judgement, its section."""

import sys
from argparse import Namespace

import documents
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from shared import unseen as section
from torch import nn

import megu
from megu.figures.markdown import SPAN

DATA = ROOT / "paper_figures" / "data"
NEAR = {"forget_train_gap": 0, "forget_train_gap_low": -4, "forget_train_gap_high": 4}
NEAR |= {"retain_test_gap": 0, "retain_test_gap_low": -4, "retain_test_gap_high": 4}
FINE = {**NEAR, "forgetting": "forgotten", "trace": "none found", "utility": "kept"}
SINGLE = {**FINE, "forgetting": None}
FAR = {"forget_train_gap": 20, "forget_train_gap_low": 9, "forget_train_gap_high": 31}
PERHAPS = {**FAR, "forget_train_gap_low": -1}
WORSE = {"retain_test_gap": -9, "retain_test_gap_low": -14, "retain_test_gap_high": -4}


@pytest.mark.parametrize(("row", "near", "verdict"), [
    (FINE, (True, True), "right"),
    (FINE | FAR, (False, True), "wrong"),  # silent about what is sure
    (FINE | FAR | {"forgetting": "partly"}, (False, True), "right"),
    (FINE | {"forgetting": "partly"}, (True, True), "wrong"),  # blames what is near
    (SINGLE | FAR | {"trace": "no trace"}, (False, True), "wrong"),
    (SINGLE | FAR | {"trace": "trace"}, (False, True), "right"),
    (SINGLE | PERHAPS | {"trace": "no trace"}, (False, True), "silent"),
    (SINGLE | PERHAPS | {"trace": "cannot be told"}, (False, True), "open"),
    (SINGLE | FAR | {"trace": "cannot be told"}, (False, True), "wrong"),  # it can
    (FINE | WORSE, (True, False), "wrong"),
    (FINE | WORSE | {"retain_test_gap_high": 1}, (True, False), "silent"),
    (FINE | WORSE | {"utility": "damaged"}, (True, False), "right"),
    (FINE | WORSE | {"retain_test_gap_high": 1, "utility": "cannot be told"}, (True, False), "open"),
    (FINE | WORSE | {"utility": "cannot be told"}, (True, False), "wrong"),  # it can
    (FINE | {"retain_test_gap": 5, "retain_test_gap_high": 9}, (True, False), "right"),  # better is no loss
    (FINE | {"forget_test_gap": -20, "forget_test_gap_low": -30, "forget_test_gap_high": -9}, (False, True), "wrong"),
])  # fmt: skip
def test_a_verdict_is_wrong_where_it_hides_a_sure_miss_or_blames_what_is_near(row, near, verdict):
    found = section.judged(row)
    assert (found["near_forget"], found["near_retain"]) == near and found["verdict"] == verdict


@pytest.fixture
def unseen(monkeypatch, tmp_path):
    """The script, on three superclasses of made-up images, one method each, and a network of few weights."""
    monkeypatch.syspath_prepend(ROOT / "tests" / "bench")
    monkeypatch.delitem(sys.modules, "unseen", raising=False)
    import unseen  # noqa: PLC0415  (a script)

    known, draw = np.array([fine for names in list(unseen.NAMES.values())[:3] for fine in names]), np.random.default_rng
    arrays = {"class_names": np.char.replace(known, " ", "_")}
    for part, count, seed in (("train", 20, 0), ("test", 8, 1)):
        y = np.tile(np.arange(len(known)), count)
        mean = np.eye(6)[y] @ draw(2).integers(40, 216, (6, 3))
        x = mean[:, None, None] + draw(seed).normal(0, 30, (len(y), 32, 32, 3))
        arrays |= {f"x_{part}": x.clip(0, 255).astype(np.uint8), f"y_{part}": y}
    np.savez(tmp_path / "images.npz", **arrays)
    small = {"SIZE": 8, "TRAINED": 20, "TESTED": 8, "SINGLE": 12, "RECIPES": {"tiny": {"epochs": 20, "lr": 0.02}}}
    small |= {"NAMES": dict(list(unseen.NAMES.items())[:3]), "HOW": {"tune": 1, "guide": "model", "retain_images": 60}}
    small |= {"recommended": lambda data: dict.fromkeys(("class", "subclass", "random"), ["finetune"])}
    small |= {"tiny": lambda k: nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 16), nn.ReLU(),
                                              nn.Linear(16, k))}  # fmt: skip
    for name, value in small.items():
        monkeypatch.setattr(unseen, name, value, raising=False)
    return unseen


@pytest.mark.slow
def test_a_table_is_made_row_by_row_and_goes_on(unseen, tmp_path, monkeypatch):
    asked = Namespace(data=tmp_path / "images.npz", folder=tmp_path / "runs", out=tmp_path, seeds=1)
    real, calls = megu.unlearn, []

    def third_fails(**how):
        calls.append(how)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(**how)

    monkeypatch.setattr(megu, "unlearn", third_fails)
    with pytest.raises(KeyboardInterrupt):
        unseen.run(asked)
    part = (tmp_path / "unseen.csv").read_text().splitlines()
    about = section.source(tmp_path, "unseen_source")
    assert len(part) == 3 and about["seeds"] == [] and about["cells"] == "2 of 8"
    unseen.run(asked)
    table, lines = pd.read_csv(tmp_path / "unseen.csv"), (tmp_path / "unseen.csv").read_text().splitlines()
    assert len(calls) == 9 and lines[:3] == part  # eight cells, one of them begun twice
    assert [*table["request"].unique()] == [*unseen.KINDS] and {*table["method"]} == {"megu", "finetune"}
    assert table["images"].tolist() == [40, 40, 80, 80, 20, 20, 12, 12]
    whole = table["request"].isin(["class", "two classes"])
    assert (table.loc[whole, "forget_train_retrain"] == 0).all() and table["forget"].iloc[-1] == "12 images"
    assert table["forget_test"].isna().tolist() == [False] * 6 + [True] * 2
    assert table.filter(like="retrain").notna().loc[:5].all(axis=None) and table["word"].notna().all()
    unseen.run(asked)
    assert len(calls) == 9 and pd.read_csv(tmp_path / "unseen.csv").equals(table)
    page = section.page(tmp_path)
    assert f"{table['forget_train'][0]:.1f} ({table['forget_train_retrain'][0]:.1f})" in page
    assert "seed 0" in page and "make unseen DATA=images.npz" in page


def test_the_section_is_what_the_table_says_and_moves_with_it(tmp_path):
    text = (ROOT / "megu" / "methods" / "README.md").read_text()
    shown = {match[1]: match[3] for match in SPAN.finditer(text)}["unseen"]
    assert shown.strip("\n") == section.page(DATA).strip("\n"), "make figures"
    table = pd.read_csv(DATA / "unseen.csv")
    table.loc[0, ["verdict", "word"]] = "wrong", "a word that no verdict has"
    table.to_csv(tmp_path / "unseen.csv", index=False)
    (tmp_path / "unseen_source.json").write_text((DATA / "unseen_source.json").read_text())
    moved = section.page(tmp_path)
    assert "a word that no verdict has" in " ".join(moved.split("Wrong, ")[1].split()) and moved != section.page(DATA)
    assert "unseen" in documents.DOCUMENTS["megu/methods/README.md"]


def test_no_request_for_single_images_was_near_as_the_page_on_own_models_says():
    table = pd.read_csv(DATA / "unseen.csv")
    single = table[table["request"] == "images"]
    near = (single["near_forget"] & single["near_retain"]).groupby(single["method"].eq("megu")).agg(["sum", "size"])
    page = " ".join((ROOT / "megu" / "own" / "README.md").read_text().split())
    (mine, count), (others, of) = near.loc[True], near.loc[False]
    assert f"{mine} of {count} by MeGU and {others} of {of} by the recommended methods" in page
    assert not single["word"].str.contains("no trace").any() and "no such request ever came out as *no trace*" in page
