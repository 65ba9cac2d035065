"""Single images, listed as people write them."""

import json
import sys
import unicodedata

import numpy as np
import pandas as pd
import pytest
import torch
from pixels import as_dataset, check, reader, write
from refusals import refused
from safetensors.torch import save_file

import megu
from megu.cli import main as command

NAMES = ("ant", "bee", "cow", "dog")


@pytest.fixture
def root(tmp_path):
    return write(tmp_path / "photos", NAMES)


LISTS = {  # what is written -> positions
    "bee\\0006.png\r\nbee\\0008.png\r\n": [6, 8], "./bee/0006.png\n\n# why\n": [6], "0006.png\n17": [6, 17],
    "'bee/0006.png'": [6], "photos/bee/0006.png": [6], "{root}/bee/0006.png": [6],
    "{root}/../photos/ant/0000.png": None,
    "bee/0000.png": None, "/elsewhere/photos/bee/0006.png": None, "other/bee/0006.png": None, "path\n0006.png": None,
    "0006": None,
}  # fmt: skip


@pytest.mark.parametrize("text", LISTS)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_of_files(root, tmp_path, text, encoding, caplog):
    path = tmp_path / "list.txt"
    path.write_bytes(text.format(root=root).encode(encoding))
    if (expected := LISTS[text]) is None:
        with refused(
            "list.txt has '.*' in line 1: give a position or the name of a training image, as in 'ant/0000.png'"
        ):
            check(reader(range(4)), root, path)
    else:
        assert check(reader(range(4)), root, path).split.forget.tolist() == expected
        assert f"as torchvision's ImageFolder does: {expected[0]} is bee/0006.png" in caplog.text


def test_names_of_images_in_place_of_a_list(root):
    assert check(reader(range(4)), root, ["bee/0006.png", "dog/0018.png"]).split.forget.tolist() == [6, 18]
    named = "a position or the name of a training image, as in 'ant/0000.png'; for classes"
    with refused(f"forget has 'cow': beside single images give {named}"):
        check(reader(range(4)), root, ["bee/0006.png", "cow"])
    for missing in ("bee/0000.png", "photos/test/bee/0006.png"):
        for names in ([missing], ["bee/0006.png", missing]):  # no remedy names the class
            with refused(f"forget has '{missing}', and no training image is called so: give e.g. 'ant/0000.png'"):
                check(reader(range(4)), root, names)
    with refused(
        "the class '1/6.png' does not exist; choose from.*; of images give a position; images of a Dataset have"
    ):
        check(reader(range(4)), as_dataset(), ["1/6.png"])
    with refused("the class 'bee/0006' does not exist; choose from"):
        check(reader(range(4)), root, "bee/0006")
    with refused("forget is 6: give names, positions or a pathlib.Path"):
        check(reader(range(4)), root, 6)
    with refused(
        "forget has 'x': beside single images give a position; images of a Dataset have no names; for classes"
    ):
        check(reader(range(4)), as_dataset(), [6, "x"])


def test_paths_and_truth_values_in_python(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mask = np.arange(24) == 6
    for given in ([root / "bee" / "0006.png"], "photos/bee/0006.png", ["0006.png"], mask, mask.tolist()):
        assert check(reader(range(4)), root, given).split.forget.tolist() == [6]
    (root / "dog" / "0006.png").write_bytes((root / "dog" / "0018.png").read_bytes() + b"\0")
    with refused("forget has '0006.png', which 2 images are called: say which, e.g. bee/0006.png, dog/0006.png"):
        check(reader(range(4)), root, ["0006.png"])


def test_names_of_images_in_a_config_and_in_the_shell(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_file(reader(range(4)).state_dict(), "model.safetensors")
    net = "nn.Sequential(nn.Flatten(), nn.Linear(192, 4))"
    (tmp_path / "net.py").write_text(f"from torch import nn\ndef net(): return {net}")
    usual = "model: model.safetensors\narch: net.py:net\ndata: photos\nnormalise: unit\nguide: model\n"
    (tmp_path / "request.yaml").write_text(usual + "forget: [bee/0006.png, photos/dog/0018.png]")
    assert "single images: bee/0006.png, dog/0018.png" in str(megu.unlearn(config="request.yaml", dry_run=True))
    (tmp_path / "list.txt").write_text("bee/0006.png")
    for forget, said in (("photos/bee/0006.png", "single images: bee/0006.png, 1 of"), ("list.txt", "(--forget-list)")):
        words = ["megu", "unlearn", "--config", "request.yaml", "--forget", forget, "--dry-run"]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit):
            command.main()
        assert said in "".join(capsys.readouterr())


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, pd.Series])
def test_truth_values_of_other_images_than_the_training_ones_are_refused(root, kind):
    for data, said in ((root, "names, as 'ant/0000.png'"), (as_dataset(), "positions")):
        with refused(f"forget has 30 truth values for 24 training images: give {said}, or one for each of these alone"):
            check(reader(range(4)), data, kind([*[True] * 6, *[False] * 24]))
        with refused("forget has 24 truth values, and none is true: mark at least one image"):
            check(reader(range(4)), data, kind([False] * 24))
        assert check(reader(range(4)), data, kind([True, *[False] * 23])).split.forget.tolist() == [0]


def test_truth_values_of_pandas_in_no_order_are_refused(root):
    mask = pd.Series([i == 6 for i in range(24)], index=range(0, 48, 2))  # of rows that were filtered
    assert check(reader(range(4)), root, mask).split.forget.tolist() == [6]
    shuffled = mask.sample(frac=1, random_state=0)
    with refused("truth values whose index is not in order: give .sort_index.. of it, .*or .to_numpy"):
        check(reader(range(4)), root, shuffled)
    assert check(reader(range(4)), root, shuffled.sort_index()).split.forget.tolist() == [6]


def test_paths_of_a_folder_called_training_and_of_a_csv_elsewhere(root, tmp_path):
    write(tmp_path / "all" / "Training", NAMES)
    (table := tmp_path / "tables" / "images.csv").parent.mkdir()
    table.write_text("path,label\n" + "\n".join(f"{file},{file.parent.name}" for file in sorted(root.rglob("*.png"))))
    cases = [
        (tmp_path / "all", name) for name in ("all/Training/bee/0006.png", f"{tmp_path}/all/Training/bee/0006.png")
    ]
    for data, name in (*cases, (table, f"{root}/bee/0006.png"), (table, "../photos/bee/0006.png")):
        (path := tmp_path / "list.txt").write_text(name)
        assert check(reader(range(4)), data, path).split.forget.tolist() == [6]


def test_a_number_that_is_a_position_and_another_images_name_is_refused(root, tmp_path):
    (root / "dog" / "0018.png").rename(root / "dog" / "7.png")
    (path := tmp_path / "list.txt").write_text("7")
    with refused("list.txt has '7' in line 1, a position, but also the name of dog/7.png: write names with endings"):
        check(reader(range(4)), root, path)
    path.write_text("7.png\n6")
    assert check(reader(range(4)), root, path).split.forget.tolist() == [6, 23]


def test_a_name_that_several_images_have_is_refused(root, tmp_path):
    (root / "dog" / "0006.png").write_bytes((root / "dog" / "0018.png").read_bytes() + b"\0")
    (path := tmp_path / "list.txt").write_text("0006.png")
    with refused("0006.png' in line 1, which 2 images are called: say which, e.g. bee/0006.png, dog/0006.png"):
        check(reader(range(4)), root, path)


def test_two_files_of_one_name_in_two_forms_of_unicode_are_told_apart(root, tmp_path):
    forms = [unicodedata.normalize(form, "bee/é.png") for form in ("NFC", "NFD")]
    for number, name in zip((6, 7), forms, strict=True):
        (root / "bee" / f"000{number}.png").rename(root / name)
    for name in forms:
        (path := tmp_path / "list.txt").write_text(name)
        checked = check(reader(range(4)), root, path)
        assert [checked.ids[i] for i in checked.split.forget.tolist()] == [name]
    path.write_text(f"./{name}")
    with refused("which 2 images are called"):
        check(reader(range(4)), root, path)
    (root / forms[0]).unlink()
    for name in forms:
        path.write_text(name)
        assert len(check(reader(range(4)), root, path).split.forget) == 1


def test_a_name_that_looks_like_a_comment_is_a_name(root, tmp_path):
    (root / "bee" / "0006.png").rename(root / "bee" / "#6.png")
    (path := tmp_path / "list.txt").write_text("# why\n#6.png\nbee/0007.png")
    assert check(reader(range(4)), root, path).split.forget.tolist() == [6, 7]
    path.write_text("0007.png\nbee/0007.png")
    with refused(r"forget has position 7 .bee/0007.png. twice: list it once"):
        check(reader(range(4)), root, path)
    (path := tmp_path / "list.json").write_text('["# why", "#6.png"]')
    with refused("list.json has '# why' in line 1"):
        check(reader(range(4)), root, path)
    path.write_text('["a"')
    with refused("^list.json cannot be read as JSON"):  # said once
        check(reader(range(4)), root, path)


def test_lists_in_other_formats(root, tmp_path):
    def forgotten(name, content):
        path = tmp_path / name
        np.save(path, content) if path.suffix == ".npy" else path.write_text(json.dumps(content))
        return check(reader(range(4)), root, path).split.forget.tolist()

    assert forgotten("a.npy", np.array([6, 7])) == forgotten("a.json", [6, "bee/0007.png"]) == [6, 7]
    assert forgotten("a.npy", np.array(["bee/0006.png"])) == forgotten("b.npy", np.arange(24) == 6) == [6]
    assert forgotten("b.json", [i == 6 for i in range(24)]) == [6]
    for name, content, said in (
        ("a.npy", np.arange(5) == 3, "a.npy has 5 truth values for 24"), ("a.npy", np.ones(2), "is no list"),
        ("a.json", {"bee": 1}, "is no list"), ("a.json", [1.5], "'1.5'"), ("a.json", [True, 1], "'True'"),
    ):  # fmt: skip
        with refused(said):
            forgotten(name, content)


def test_what_is_meant_by_positions_and_names_is_said(caplog):
    data = as_dataset()
    check(reader(range(4)), data, np.array([3, 7]))
    assert "count from 0, in the Dataset: 3 is an image of '0', 7 is an image of '1'" in caplog.text
    assert "positions name all" not in caplog.text
    check(reader(range(4)), data, range(6, 13))
    assert "positions name all 6 training images of '1', which are forgotten one by one: to forget" in caplog.text
    for named, said in ((["a", "b"], True), (["a"], False), (["a", "c"], False)):
        caplog.clear()
        checked = check(reader(range(4)), data, named, subclasses=[*"aaabbbcccddd" * 2])
        assert ("hold all 6 training images of '0', which are forgotten as sub-c" in caplog.text) == said
        assert any("with a verdict on it, give its name (--forget '0')" in one for one in checked.notices) == said
    halves = [*"000000111111"]
    for sub, said in ((["0", "1", "x"] * 8, True), (["x", "y"] * 12, False), (halves + ["x"] * 12, False)):
        caplog.clear()
        assert len(check(reader(range(4)), data, "1", subclasses=sub).split.forget) == 6
        assert ("'1' is a class and a sub-class" in caplog.text) == said
