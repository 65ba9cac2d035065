"""Which images there are: as torchvision's ImageFolder counts them, behind links and in splits."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pixels import check, photos, reader, write
from refusals import refused
from safetensors.torch import save_file
from torchvision.datasets import ImageFolder

import megu
from megu.datasets.folder import find_classes
from megu.datasets.listing import TRAIN, list_images
from megu.datasets.pairs import as_pairs, read_dataset

NAMES = ("ant", "bee", "cow")
LAYOUTS = (
    (), ("2023/a.png",), ("0/a.png", "0/b.png"), ("0000a.gif",), ("B1.PNG", "a1.png", "a-1.png", "a.png", "a b.png"),
    ("a/0.png", "a b/0.png", "a-b/0.png", "a.b/0.png", "a/b/c.png"), ("x.JPEG", "x.tif", "x.webp", "notes.txt"),
)  # fmt: skip


@pytest.mark.parametrize("classes", [NAMES, NAMES[::-1]])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_positions_are_those_of_imagefolder(tmp_path, layout, classes, caplog):
    root = write(tmp_path, NAMES, 2)
    for name in layout:
        (file := root / "bee" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(file, None if file.suffix != ".txt" else "PNG")
    theirs = [Path(file).relative_to(root).as_posix() for file, _ in ImageFolder(root).samples]
    found = find_classes(root, classes)
    assert list(found.train.ids) == theirs and len(theirs) >= 6
    assert all(file.relative_to(root).parts[0] == classes[k] for file, k, _ in found.train.files)
    found.read(found.train)
    odd = [name for name in layout if name.endswith((".gif", ".txt"))]
    assert ("1 files are left out" in caplog.text) == bool(odd) and all(name in caplog.text for name in odd)


def test_hidden_images_are_said_and_positions_beside_them_refused(tmp_path, caplog):
    root = write(tmp_path, NAMES)
    (root / "ant" / "._0000.png").write_bytes(b"fork")
    (root / "bee" / ".ipynb_checkpoints").mkdir()
    Image.new("RGB", (8, 8)).save(root / "bee" / ".ipynb_checkpoints" / "0.png")
    assert len(check(reader(range(3)), root, "bee").split.forget) == 6
    assert "2 hidden images are left out" in caplog.text and "ant/._0000.png" in caplog.text
    (listed := tmp_path / "list.txt").write_text("bee/0006.png")
    assert check(reader(range(3)), root, listed).split.forget.tolist() == [6]
    listed.write_text("bee/0006.png\n'3'")
    for forget in ([3], np.arange(18) == 3, listed):
        with refused("hidden images, e.g. ant/._0000.png, .* so positions would mean other images"):
            check(reader(range(3)), root, forget)


def test_a_hidden_class_folder_shifts_the_positions_of_the_others(tmp_path, caplog):
    root = write(tmp_path, NAMES)
    (root / ".checkpoints").mkdir()
    (root / ".checkpoints" / "note.txt").write_text("none of ImageFolder's")
    assert len(check(reader(range(3)), root, [3]).split.forget) == 1
    Image.new("RGB", (8, 8)).save(root / ".checkpoints" / "0.png")
    assert ImageFolder(root).classes[0] == ".checkpoints"
    with refused("hidden images, e.g. .checkpoints/0.png, .* so positions would mean other images"):
        check(reader(range(3)), root, [3])
    assert len(check(reader(range(3)), root, "bee").split.forget) == 6


def test_a_file_of_weights_that_counts_a_hidden_folder_is_told_of_it(tmp_path):
    root, file = write(tmp_path / "photos", NAMES), tmp_path / "model.safetensors"
    save_file(torch.nn.Linear(2, 4).state_dict(), file)  # of no such network
    ask = partial(megu.unlearn, file, root, "bee", arch="resnet18", guide="model")
    with refused("is no resnet18 with 3 classes .*reference, the model's.$"):
        ask()
    (root / ".checkpoints").mkdir()
    Image.new("RGB", (8, 8)).save(root / ".checkpoints" / "0.png")
    with refused("; the folder has hidden images, e.g. .checkpoints/0.png, which torchvision's ImageFolder counts$"):
        ask()


def test_images_behind_links_are_read(tmp_path, caplog):
    root, store = write(tmp_path / "photos", NAMES), write(tmp_path / "store", (None, "more"), seed=1)
    (root / "bee" / "second").symlink_to(store / "more")
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in NAMES:
        (linked / name).symlink_to(root / name)
    for place in (root, linked):
        theirs = [Path(file).relative_to(place).as_posix() for file, _ in ImageFolder(place).samples]
        assert list(list_images(place, NAMES).ids) == theirs and len(theirs) == 24
    assert not caplog.text
    (store / "more" / "back").symlink_to(root / "bee")
    (root / "bee" / "up").symlink_to(root)
    assert list(list_images(root, NAMES).ids) == [*theirs]
    assert "bee/up links back" in caplog.text and "bee/second/back links back" in caplog.text
    (root / "cow" / "gone").symlink_to(tmp_path / "nothing")
    with refused("cow/gone is a link to nothing"):
        find_classes(root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_refused(tmp_path):
    root = write(tmp_path, NAMES)
    (root / "bee" / "mine").mkdir(mode=0o000)
    with refused("'mine' cannot be read"):
        list_images(root, NAMES)


@pytest.mark.parametrize(("folders", "classes", "expected", "said"), [
    (("bus", "car", "train"), None, ("bus", "car", "train"), "photos/train is taken for a class beside bus, car"),
    (("bus/old", "car/old", "train/old"), None, ("bus", "car", "train"), "is taken for a class beside bus, car"),
    (("train/bus", "train/car", "test/bus"), None, ("bus", "car"), ""),
    (("train/bus", "train/train"), None, ("bus", "train"), ""),
    (("train/bus", "train/car", "val/bus"), None, ("bus", "car"), "photos: val is taken for unseen images"),
    (("Training/bus", "Training/car", "Testing/bus"), None, ("bus", "car"), "photos: Testing is taken for unseen"),
    (("train/bus", "train/car", "test/bus", "val/car"), None, ("bus", "car"), "test is taken for unseen images; val"),
    (("train/bus", "train/car", "extra"), ("bus", "car"), ("bus", "car"), ""),
    (("train", "test"), ("train", "test"), ("train", "test"), "photos/train is taken for a class"),
    (("bus", "car", "test"), None, ("bus", "car", "test"), ""),
])  # fmt: skip
def test_a_folder_called_train(tmp_path, folders, classes, expected, said, caplog):
    found = find_classes(write(tmp_path / "photos", folders, 2), classes)
    assert found.classes == expected and (said in caplog.text if said else not caplog.text)
    assert (found.train.root.name.lower() in TRAIN) == folders[0].lower().startswith(("train/", "training/"))


def test_a_folder_without_images_beside_train_is_no_class(tmp_path):
    root = write(tmp_path, ("train/bus", "train/car"))
    (root / "labels").mkdir()
    (root / "labels" / "all.txt").write_text("bus")
    assert find_classes(root).classes == ("bus", "car")


@pytest.mark.parametrize(("other", "said"), [
    ("Train", "has training images in Train and in train: put them into one folder, or give photos/Train"),
    ("training", "has training images in train and in training"), ("Test", ""), ("VAL", ""),
])  # fmt: skip
def test_a_second_folder_of_training_images_is_refused_and_of_unseen_ones_said(tmp_path, other, said, caplog):
    root = write(tmp_path / "photos", ("train/bus", "train/car", "test/bus", f"{other}/bus"))
    if said:
        with refused(said):
            find_classes(root)
    else:
        assert find_classes(root).classes == ("bus", "car") and "is not used" in caplog.text


def test_what_is_not_taken_is_not_said_to_be_taken(tmp_path, caplog):
    root = write(tmp_path / "photos", ("train/ant", "train/bee", "val/cow"))
    unseen = write(tmp_path / "unseen", NAMES[:2], 4, seed=1)
    checked = check(reader([0, 1]), root, "bee", test=unseen)
    assert len(checked.images.y) == 20 and not caplog.text  # val has another class, and does not matter


def test_folders_of_training_and_unseen_images_within_each_class_are_refused(tmp_path):
    root = write(tmp_path / "photos", [f"{name}/{part}" for name in NAMES for part in ("train", "test")])
    with refused(
        "hold folders train and test, all of which would be trained on: put the classes into these .train/ant"
    ):
        find_classes(root)
    root = write(tmp_path / "toys", ("doll/small", "train", "toy/train"))
    assert find_classes(root).classes == ("doll", "toy", "train")


def test_of_several_frames_the_first_is_read_and_it_is_said(tmp_path, caplog):
    root, frames = write(tmp_path, NAMES), [Image.new("RGB", (8, 8), (level,) * 3) for level in (7, 200)]
    for name in ("pages.tiff", "moving.png", "moving.webp"):
        frames[0].save(root / "bee" / name, save_all=True, append_images=frames[1:], lossless=True)
    found = find_classes(root)
    part = found.read(found.train)
    assert part.x[part.ids.index("bee/pages.tiff")].unique().tolist() == [7]
    assert "3 images have several frames or pages, of which the first is read" in caplog.text


def test_photos_that_carry_a_turn_are_read_as_torchvision_reads_them(tmp_path, caplog):
    root = write(tmp_path, NAMES)
    exif = Image.Exif()
    exif[0x0112] = 6
    x = photos(1, 1, 5)[0][0]
    Image.fromarray(x).save(root / "bee" / "phone.png", exif=exif)
    found = find_classes(root)
    part = found.read(found.train)
    assert np.array_equal(part.x[part.ids.index("bee/phone.png")].permute(1, 2, 0), x)
    assert "1 photos carry a turn (EXIF)" in caplog.text and "bee/phone.png" in caplog.text


class ClassLabel:
    names = list(NAMES)


class Table(list):
    """As ``datasets.Dataset`` gives its rows."""

    features = {"img": type("Image", (), {})(), "label": ClassLabel()}
    column_names = ["img", "label"]


def test_a_dataset_of_hugging_face(tmp_path):
    x, y = photos(3, 6)
    data = Table({"img": Image.fromarray(image), "label": int(k)} for image, k in zip(x, y, strict=True))
    checked = check(reader(range(3)), data, "bee", test=Table(data[:0]) or None)
    assert checked.images.classes == NAMES and torch.equal(checked.images.x[0].permute(1, 2, 0), torch.tensor(x[0]))
    with refused("data is a dict of several Datasets: give one of them: train, test"):
        check(reader(range(3)), {"train": data, "test": data}, "bee")
    for label in ("label", "labels"):  # set_transform
        rows = [{"pixel_values": torch.tensor(x[i]).movedim(2, 0) / 255, label: int(k)} for i, k in enumerate(y)]
        made = check(reader(range(3)), Table({**row, "img": None} for row in rows), "bee").images
        assert torch.equal(made.x[0], rows[0]["pixel_values"]) and made.classes == NAMES
    data.features = {**data.features, "coarse": ClassLabel()}
    with refused("data has the label columns label, coarse of img, label, coarse: choose one"):
        as_pairs(data, "data")


@pytest.mark.parametrize(("kind", "mode"), [("L", "RGB"), ("RGB", "L"), ("RGBA", "RGB"), ("P", "RGB"), ("LA", "L")])
def test_images_are_converted_to_what_the_model_takes(tmp_path, kind, mode):
    image = Image.new("RGB", (8, 8), (200, 100, 0)).convert(kind)
    for name in NAMES:
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "0.png")
    found = find_classes(tmp_path)
    part = found.read(found.train, mode)
    assert part.x.shape[1] == len(mode) and torch.equal(part.x, read_dataset([(image, 0)] * 3, 3, mode, "data").x)
