"""A value of a wrong kind, for every argument, in a file and in Python: an error for people, never another one."""

import datetime
from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from bad import ask
from pixels import as_dataset, check, reader, write
from refusals import refused
from safetensors.torch import save_file
from torch.utils.data import TensorDataset

import megu
from megu.own import compare as comparing
from megu.own import unlearn as unlearning
from megu.own.request import Request
from megu.settings.errors import MeguError
from megu.settings.request_file import RequestFile

BAD = [
    3, -1, True, 3.5, float("nan"), 1j, 10**30, "", "x", "x" * 5000, "a\0b", "~nobody-at-all/x", b"x", [], [1], ["x"],
    [[1]], [None], {}, {"a": 1}, {"a": {"b": 1}}, set(), (1, 2), datetime.date(2020, 1, 1), datetime.time(1), object(),
    print, int, Path("x" * 300), Path("a\0b"), np.zeros(2), np.array("x"), torch.zeros(3), torch.zeros(3, 3),
]  # fmt: skip
WRITTEN = [
    "3", "-1", "true", "3.5", ".nan", "''", "x", f"{'x' * 5000}", '"a\\0b"', "~nobody-at-all/x", "[]", "[1]", "[x]",
    "[[1]]", "[null]", "{}", "{a: 1}", "{a: {b: 1}}", "{1: 2}", "2020-01-01", "2020-01-01 10:00:00", "!!set {a}",
    "!!binary aGVsbG8=", "1" + "0" * 30,
]  # fmt: skip
ARGUMENTS = [field.name for field in fields(Request)]


class AcceptedError(Exception):
    """The request was taken: nothing is wrong with the value."""


@pytest.fixture(autouse=True)
def no_work(monkeypatch):
    def accepted(*_):
        raise AcceptedError

    monkeypatch.setattr(unlearning, "carry_out", accepted)
    monkeypatch.setattr(comparing, "carry_out_all", accepted)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    root = tmp_path_factory.mktemp("request")
    save_file(reader(range(3)).state_dict(), root / "model.safetensors")
    (root / "net.py").write_text(
        "from torch import nn\ndef net(): return nn.Sequential(nn.Flatten(), nn.Linear(192, 3))"
    )
    images = write(root / "photos", ("ape", "bee", "cat"), 9)
    given = {"model": root / "model.safetensors", "data": images, "forget": "ape", "out": root / "out"}
    return {**given, "arch": f"{root / 'net.py'}:net", "guide": "model"}


def ends(call):
    """How a call ends: with a line for people, or as it should where all is well."""
    try:
        call()
    except MeguError as error:
        assert "\n" not in str(error) and len(str(error)) > 15
        return "refused"
    except AcceptedError:
        return "accepted"


@pytest.mark.parametrize("name", [*ARGUMENTS, "out", "config", "callbacks", "log"])
def test_arguments_of_unlearn(name, good):
    ended = Counter(ends(lambda bad=bad: megu.unlearn(**{**good, name: bad})) for bad in BAD)
    assert ended.keys() <= {"refused", "accepted"} and ended["refused"] > len(BAD) / 2


@pytest.mark.parametrize("name", [*(one for one in ARGUMENTS if one != "method"), "methods", "out", "config"])
def test_arguments_of_compare(name, good):
    how = {name: value for name, value in good.items() if name != "method"}
    ended = Counter(ends(lambda bad=bad: megu.compare(**{**how, name: bad})) for bad in BAD)
    assert ended.keys() <= {"refused", "accepted"}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_beside_a_dataset(name):
    ended = Counter(ends(lambda bad=bad: ask(**{name: bad})) for bad in BAD)
    assert ended.keys() <= {"refused", "accepted"} and ended["refused"] > len(BAD) / 2


TAKEN = ("forget", "out", "retain_images", "seed", "trained_on", "tune", "retrain", "settings")  # some are good


@pytest.mark.parametrize("name", RequestFile.model_fields)
def test_keys_of_a_file(name, good, tmp_path):
    others = "".join(f"{key}: '{value}'\n" for key, value in good.items() if key != name)
    for written in WRITTEN:
        (file := tmp_path / "request.yaml").write_text(f"{others}{name}: {written}\n")
        ended = ends(lambda: megu.unlearn(config=file))
        assert ended == "refused" or name in TAKEN


def test_the_request_itself_is_good(good):
    with pytest.raises(AcceptedError):
        megu.unlearn(**good)
    with pytest.raises(AcceptedError):
        megu.compare(**good)


def test_one_position_is_a_list_of_one(good, tmp_path):
    (file := tmp_path / "request.toml").write_text("forget = 3")
    with refused("'forget' is 3: give names of classes in quotes, or a list of positions"):
        megu.unlearn(**{**good, "forget": None}, config=file)


@pytest.mark.parametrize(("true", "said"), [(0.2, "by chance"), (0.7, "follow another order")])
def test_little_more_than_chance_in_another_order_offers_no_order(true, said):
    """Untrained networks give images of a class much alike, too, and so fit some order by more than chance."""
    data, gen = as_dataset(5, 60), torch.Generator().manual_seed(0)
    x, y = data.tensors
    other = torch.where(
        torch.rand(len(y), generator=gen) < true, (y + 1) % 5, torch.randint(5, (len(y),), generator=gen)
    )
    with refused(said):
        check(reader(range(5)), TensorDataset(x, other), "3")
