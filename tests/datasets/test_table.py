"""Images in a CSV: what it says is what is taken, and what it cannot be told is refused."""

import numpy as np
import pandas as pd
import pytest
from pixels import check, reader, write
from refusals import refused

from megu.datasets.folder import find_classes


def rows(root, *lines, head="path,label,split"):
    (root / "images.csv").write_text("\n".join((head, *lines)), encoding="utf-8-sig")
    return root / "images.csv"


def test_images_in_a_csv(tmp_path, caplog):
    root = write(tmp_path / "photos", ("a", "b"), seed=1)
    files = sorted(path.relative_to(tmp_path) for path in root.rglob("*.png"))
    lines = [f"{file},{'dog' if i < 6 else 'cat'},{'test' if i % 3 == 0 else 'train'}" for i, file in enumerate(files)]
    checked = check(reader([1, 0]), rows(tmp_path, *lines), "dog")
    assert checked.images.classes == ("cat", "dog") and len(checked.split.forget) == 4
    assert len(checked.images.y) == 12 and checked.ids[0] == "photos/a/0001.png" and not caplog.text
    assert check(reader([1, 0]), tmp_path / "images.csv", "dog", classes=["cat", "dog"]).ids == checked.ids
    with refused("follow another order of the classes"):
        check(reader([1, 0]), write(tmp_path / "more", ("a", "b"), 20), "a")
    lines = [f"{tmp_path / file},{i // 6}" for i, file in enumerate(files)]
    numbered = check(reader([0, 1]), rows(tmp_path, *lines, head="file_name,category"), "dog", classes=["dog", "cat"])
    assert numbered.split.forget.tolist() == list(range(6)) and numbered.ids == tuple(map(str, files))


@pytest.mark.parametrize(("head", "line", "said"), [
    ("name,label", "x.png,a", "has the columns 'name, label': name them path, label"),
    ("path;label", "none.png;a", "image 1: 'none.png' is no file"),
    ("path,label", "none.png,a", "image 1: 'none.png' is no file"),
    ("path,label", "a/0000.png,", "images.csv, image 1: class name '' is empty"),
    ("path,label,split", "a/0000.png,a,other", "the split 'other': write train, test or val"),
    ("path,label", "a/0000.png,a\na/0000.png,a", "'0000.png' is listed twice"),
    ("path,label", "a/0000.png,a\na/../a/0000.png,b", "'0000.png' is listed twice"),
    ("path,label,split", "a/0000.png,a,test\na/0001.png,b,", "image 2 has the split '': write train"),
    ("path,label", "a/0000.png,a,\na/0001.png,a", "at least two"),
    ("path,label", "a/0000.png,a\na/0001.png,b, red", "image 2, has more cells than the 2 columns: quote"),
    ("path,label", "a/0000.png,①\na/0001.png,①", "at least two"),
    ("path,label", f"a/0000.png,{'a' * 200_000}", "cannot be read as a CSV .field larger"),
    ("path,label,split", "a/0000.png,a,train\na/0001.png,b,test", "images.csv lists no training image of the class"),
    ("path,label,label", "a/0000.png,a,b", "columns 'label' and 'label', each of which may be the label: keep one"),
    ("path,label,Label ", "a/0000.png,a,b", "columns 'label' and 'Label', each"),
    ("path,class,label", "a/0000.png,a,1", "columns 'class' and 'label', each of which may be the label"),
    ("file,label,path", "a/0000.png,a,a/0001.png", "columns 'file' and 'path', each of which may be the path"),
    ("path,label,split,set", "a/0000.png,a,train,test", "columns 'split' and 'set', each of which may be the split"),
    ("path,label,phase", "a/0000.png,a,train\na/0001.png,b,Val", "the column 'phase', which seems to say what was"),
    ("path,label,Usage", "a/0000.png,a,Training\na/0001.png,b,PublicTest", "the column 'Usage', which seems to say"),
    ("path,label,is_valid", "a/0000.png,a,False\na/0001.png,b,True", "the column 'is_valid', .* call it split, with"),
    ("path,label,isTest", "a/0000.png,a,0\na/0001.png,b,1", "the column 'isTest', which seems to say"),
])  # fmt: skip
def test_what_is_wrong_in_a_csv_is_named(tmp_path, head, line, said):
    write(tmp_path, ("a", "b"))
    with refused(said):
        find_classes(rows(tmp_path, line, head=head))
    with refused("none.csv cannot be read"):
        find_classes(tmp_path / "none.csv")


def test_numbers_that_pandas_wrote_are_sorted_by_value(tmp_path):
    files = sorted(write(tmp_path, [*map(str, range(11))], 1).rglob("*.png"), key=lambda file: int(file.parent.name))
    table = rows(tmp_path, *(f"{file},{float(file.parent.name)}" for file in files), head="path,label")
    assert find_classes(table).classes == tuple(map(str, range(11)))
    names = [f"v{k}" for k in range(11)]
    assert [k for _, k, _ in find_classes(table, names).train.files] == [*range(11)]
    names = [f"{k}.0" for k in reversed(range(11))]
    assert [k for _, k, _ in find_classes(table, names).train.files] == [*reversed(range(11))]


def test_columns_that_are_not_read_are_said(tmp_path, caplog):
    files = sorted(write(tmp_path, ("a", "b")).rglob("*.png"))
    lines = [f"{i},{file},{file.parent.name},{i % 5},{i},train" for i, file in enumerate(files)]
    found = find_classes(rows(tmp_path, *lines, head=",path,label,fold,train_loss,split"))
    assert len(found.train.files) == 12
    assert [one.getMessage() for one in caplog.records] == ["images.csv: columns that are not read: fold, train_loss"]


def test_classes_that_differ_in_case_alone_are_said(tmp_path, caplog):
    files = sorted(write(tmp_path, ("a", "b")).rglob("*.png"))
    for label, said in (("B", "images.csv: classes differ in case alone: B, b"), ("c", "")):
        lines = [f"{file},{file.parent.name if i else label},train" for i, file in enumerate(files)]
        find_classes(rows(tmp_path, *lines))
        assert caplog.text.count("differ in case") == len(said[:1]) and said in caplog.text
        caplog.clear()


def test_a_table_of_pandas_with_tabs_and_an_index(tmp_path):
    files = sorted(write(tmp_path, ("a", "b")).rglob("*.png"))
    table = rows(tmp_path, *(f"{i}\t{file}\t{file.parent.name}" for i, file in enumerate(files)), head="\tpath\tlabel")
    assert len(find_classes(table).train.files) == 12


@pytest.mark.parametrize("first", ["train", "test"])
def test_positions_are_refused_where_rows_of_unseen_images_stand_before_training_ones(first, tmp_path, caplog):
    files = sorted(write(tmp_path, ("a", "b"), 8).rglob("*.png"), key=lambda file: file.name[3])
    splits = [first] * 8 + ["test" if first == "train" else "train"] * 8
    lines = [f"{file},{file.parent.name},{split}" for file, split in zip(files, splits, strict=True)]
    table = rows(tmp_path, *lines)
    (listed := tmp_path / "list.txt").write_text("3")
    for forget in ([3], listed, np.array([3]), pd.Index([3]), pd.Series([3])):
        if first == "train":
            assert check(reader([0, 1]), table, forget).split.forget.tolist() == [3]
            assert "positions count from 0, in the .csv's order: 3 is" in caplog.text
        else:
            with refused("'images.csv' has unseen images before training ones .image 1., .* would mean other images"):
                check(reader([0, 1]), table, forget)
    with refused("forget has 16 truth values for 8 training images: give names, as "):  # of all rows
        check(reader([0, 1]), table, pd.Series(np.arange(16) == 3))
    listed.write_text("a/0000.png" if first == "train" else lines[-1].partition(",")[0])
    assert len(check(reader([0, 1]), table, listed).split.forget) == 1


def test_unseen_rows_do_not_matter_where_other_unseen_images_are_given(tmp_path, caplog):
    files = sorted(write(tmp_path / "photos", ("a", "b")).rglob("*.png"))
    lines = (f"{file},{file.parent.name},{'val' if i % 3 == 2 else 'train'}" for i, file in enumerate(files))
    table = rows(tmp_path, *lines)
    checked = check(reader([0, 1]), table, "a", test=write(tmp_path / "unseen", ("a", "b"), 3, seed=1))
    assert len(checked.images.y) == 8 + 6 and "is taken for unseen" not in caplog.text
    assert len(check(reader([0, 1]), table, "a").images.y) == 12 and "val is taken for unseen images" in caplog.text
