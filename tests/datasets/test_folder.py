"""Folders of images: one reader for runs and for a user's own, one rule for the size; what is refused."""

import re

import numpy as np
import pytest
import torch
from bad import NAMES, folder, linear, refused
from PIL import Image

from megu.datasets.folder import find_classes, read_image
from megu.datasets.listing import list_images
from megu.datasets.sources import load
from megu.own.inputs import read_inputs
from megu.own.request import Request
from megu.settings.profiles import resolve


@pytest.fixture
def photos(mini, tmp_path):
    for start, part in enumerate(("train", "test")):
        for k in range(3):
            (tmp_path / part / mini.classes[k]).mkdir(parents=True)
            for i in range(4):
                pixels = mini.x[k + 10 * i + 40 * start, 0].numpy()
                Image.fromarray(pixels).save(tmp_path / part / mini.classes[k] / f"{i}.png")
    return tmp_path


def of_a_run(root, forget="trouser", **more):
    overrides = {"data.name": "folder", "data.path": str(root), "forget.classes": [forget], **more}
    return load(resolve(overrides=overrides))


def test_a_folder_of_a_run(mini, photos):
    images = of_a_run(photos)
    assert images.classes == ("pullover", "t-shirt", "trouser") and images.shape == (3, 28, 28) and len(images.y) == 24
    assert torch.equal(images.x[0, 0], mini.x[2, 0])
    (photos / "train" / ".hidden").mkdir()
    (photos / "train" / "trouser" / "notes.txt").write_text("no image")
    assert of_a_run(photos).digest() == images.digest()
    for odd, forget, said in (
        ("train/dress", "dress", ["train/dress holds no images"]),
        ("test/trousers", "trouser", ["'test' has a class folder", "'trousers'", "did you mean 'trouser'"]),
        ("test/trouser ", "trouser", ["'test' has the class 'trouser' twice"]),
    ):
        (photos / odd).mkdir()
        refused(lambda forget=forget: of_a_run(photos, forget), *said)
        (photos / odd).rmdir()
    (photos / "train" / "trouser" / "4.png").write_bytes(b"no image")
    refused(lambda: of_a_run(photos), "trouser/4.png is not a readable image")


def test_unseen_images_without_class_folders_are_said_with_the_way_out(photos):
    for file in (photos / "test").rglob("*.png"):
        file.rename(photos / "test" / f"{file.parent.name}{file.name}")
    for name in ("pullover", "t-shirt", "trouser"):
        (photos / "test" / name).rmdir()
    said = "'test' holds 12 images without class folders, whose classes nobody knows", "into one folder per class"
    refused(lambda: find_classes(photos), *said, f"or give {photos.name}/train to leave test out")
    refused(lambda: list_images(photos / "test", ("pullover", "trouser")), *said)
    assert find_classes(photos / "train").test is None


@pytest.mark.parametrize(("size", "other", "expected"), [(20, 28, 20), (None, 28, 28), (None, 40, 224), (20, 40, 20)])
def test_a_run_and_a_users_request_read_a_folder_alike(photos, size, other, expected, caplog):
    """As chosen; their own where all training images have one; else 224."""
    odd = photos / "train" / "trouser" / "0.png"
    Image.open(odd).resize((other, other)).save(odd)
    run = of_a_run(photos, **{"data.size": size})
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), linear())  # of colour images
    _, _, own, _ = read_inputs(Request(model, photos, "trouser", size=size), "cpu")
    assert ("photos of several sizes are resized to 224 x 224 pixels" in caplog.text) == (expected == 224)
    assert run.shape == own.shape == (3, expected, expected) and torch.equal(run.x, own.x) and torch.equal(run.y, own.y)


def test_images_of_every_kind(tmp_path):
    image = folder(tmp_path) / "ape" / "0.png"
    tiff, jpg = image.with_suffix(".tiff"), image.with_suffix(".jpg")
    Image.effect_noise((64, 64), 50).save(image)
    image.write_bytes(image.read_bytes()[:-500])
    refused(lambda: read_image(image), "ape/0.png", "truncated")
    for mode, size, file, said in (
        ("L", (1, 1), image, "1 x 1 pixels"), ("F", (8, 8), tiff, "mode F"), ("1", (20_000,) * 2, image, "ape/0.png"),
    ):  # fmt: skip
        Image.new(mode, size).save(file)
        refused(lambda file=file: read_image(file), said)
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(jpg)
    red, _ = read_image(jpg)
    assert red.shape == (8, 8, 3) and red[..., 0].min() > 200
    Image.fromarray(np.full((8, 8), 40_000, "uint16")).save(image)
    assert (read_image(image, mode="L")[0] == 40_000 >> 8).all()


def test_how_images_are_read_is_said(tmp_path, caplog):
    root = folder(tmp_path)
    Image.new("RGB", (8, 8)).save(root / "loose.png")
    Image.new("RGB", (12, 8)).save(root / "ape" / "wide.png")
    Image.fromarray(np.full((8, 8), 40_000, "uint16")).save(root / "bee" / "deep.png")
    found = find_classes(root, size=8)
    assert len(found.read(found.train).y) == 8
    for said in ("1 files are left out.*in folders of classes.*loose.png", "1 images are squeezed.*ape/wide.png",
                 "1 images have 16 bits.*bee/deep.png"):  # fmt: skip
        assert re.search(said, caplog.text)
    for name in ("ape/0", "bee/1"):
        (root / f"{name}.png").write_bytes(b"no image")
    refused(
        lambda: found.read(found.train), "ape/0.png is not a readable image", "2 cannot be read: ape/0.png, bee/1.png"
    )


@pytest.mark.parametrize(("sides", "size", "said"), [
    ((8, 16), None, "0 % and 100 % of the training and of the test images are resized: an attack may tell them apart"),
    ((8, 16), 16, "100 % and 0 % of the training"), ((8, 8), None, ""), ((8, 8), 16, ""),
])  # fmt: skip
def test_training_and_unseen_images_that_are_resized_otherwise_are_said(sides, size, said, tmp_path, caplog):
    for seed, (part, side) in enumerate(zip(("train", "test"), sides, strict=True)):
        noise = np.random.default_rng(seed)
        for name in NAMES:
            (place := tmp_path / part / name).mkdir(parents=True)
            for i in range(4):
                Image.fromarray(noise.integers(0, 256, (side, side, 3), np.uint8)).save(place / f"{i}.png")
    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 3))
    read_inputs(Request(model, tmp_path, "ape", size=size), "cpu")
    assert said in caplog.text if said else "resized" not in caplog.text


def test_images_are_grey_where_a_model_without_convolutions_takes_such(tmp_path):
    for name, size in (("grey", 64), ("colour", 192), ("neither", 9)):
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(size, 3))
        shape = read_inputs(Request(model, folder(tmp_path), "ape"), "cpu")[2].shape
        assert shape == (1 if name == "grey" else 3, 8, 8)


def test_a_part_of_another_layout_can_be_left_out(photos):
    (photos / "test").rename(photos / "val")
    (photos / "val" / "trouser").rename(photos / "val" / "images")
    refused(lambda: find_classes(photos), "'images' does not exist", "/train to leave val out")


def test_classes_and_their_folders(tmp_path):
    root = folder(tmp_path)
    (root / "cat" / "small").mkdir()
    (root / "cat" / "0.png").rename(root / "cat" / "small" / "0.png")
    assert [(k, sub) for _, k, sub in list_images(root, NAMES).files][-2:] == [(2, None), (2, "small")]
    refused(lambda: find_classes(root, ("ape", "bee")), "cat")
    refused(lambda: find_classes(root, (*NAMES, "dog")), "'dog' has no folder")
    (tmp_path / "empty").mkdir()
    refused(lambda: find_classes(tmp_path / "empty"), "at least two")
