"""What people bring as images: nothing is taken for something else in silence."""

import re
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pixels import as_dataset, check, reader, write
from refusals import refused
from torch.utils.data import ConcatDataset, Subset, TensorDataset, random_split

from megu.datasets import folder
from megu.datasets.pairs import read_dataset
from megu.guide import codes
from megu.own.class_order import natural
from megu.own.guide_choice import choose_guide

NAMES = ("ant", "bee", "cow", "dog")
TWELVE = tuple(map(str, range(12)))
MIXED = ("Ant", "bee", "Cow", "dog", "Elk", "fox")


@pytest.fixture
def root(tmp_path):
    return write(tmp_path / "photos", NAMES)


@pytest.mark.parametrize(("names", "trained"), [
    (TWELVE, TWELVE), (MIXED, MIXED), (MIXED, MIXED[::-1]), (TWELVE, (*TWELVE[3:], *TWELVE[:3])),
    (NAMES, ("bee", "ant", "cow", "dog")),
])  # fmt: skip
def test_another_order_of_the_classes_is_found_and_offered(tmp_path, names, trained):
    root = write(tmp_path, names, 12)
    model = reader([names.index(name) for name in trained])
    offered = re.escape(f"if these are its outputs, give classes={[*trained]} (--classes")
    with refused(f"outputs follow another order of the classes: .* 100 % in the one found: {offered}"):
        check(model, root, trained[0])
    assert check(model, root, trained[0], classes=list(trained)).accuracy == 1


@pytest.mark.parametrize("wrong", [0.0, 0.3, 0.6])
def test_a_model_that_errs_in_the_right_order_is_not_taken_for_another_order(wrong):
    data, gen = as_dataset(10, 40), torch.Generator().manual_seed(0)
    x, y = data.tensors
    other = torch.where(torch.rand(len(y), generator=gen) < wrong, torch.randint(10, (len(y),), generator=gen), y)
    assert check(reader(range(10)), TensorDataset(x, other), "3").accuracy > 0.9 - wrong


def test_the_order_of_a_dataset_is_that_of_its_numbers():
    with refused(r"number the classes of the images as its outputs are: \['0', '2', '1', '3'\]"):
        check(reader([0, 2, 1, 3]), as_dataset(n=12), "1")


def test_natural_order_is_that_of_timm(tmp_path):
    reading = pytest.importorskip("timm.data.readers.reader_image_folder")
    names = ("b10", "B9", "a", "C1", "10", "9x")
    _, index = reading.find_images_and_targets(str(write(tmp_path, names, 1)))
    assert sorted(names, key=natural) == sorted(index, key=index.get)


def test_a_class_that_the_model_does_not_know_cannot_be_forgotten(root):
    model = reader(range(4), blind=(2,))
    with refused("gives the name 'cow' to 0 of 6 of its training images"):
        check(model, root, "cow")
    check(model, root, "bee")
    check(model, root, [12, 13])  # single images of it


def test_test_images_that_are_training_images_are_no_test_images(root, tmp_path, caplog):
    model, unseen = reader(range(4)), write(tmp_path / "unseen", NAMES, seed=1)
    assert len(check(model, root, "bee", test=unseen).split.test_forget) == 6 and not caplog.messages
    with refused("24 of 24 test images are training images, .*test image ant/0000.png = training image ant/0000.png"):
        check(model, root, "bee", test=root)
    (unseen / "bee" / "copy.png").write_bytes((root / "dog" / "0018.png").read_bytes())
    split = check(model, root, "bee", test=unseen).split
    assert len(split.test_forget) == 6 and "1 of 25 test images are training images" in caplog.text
    data = as_dataset()
    with refused("24 of 24 test images are training images"):
        check(model, data, "1", test=data)


def test_copies_of_forgotten_images_do_not_stay_in_silence(root, caplog):
    model = reader(range(4))
    (root / "bee" / "again.png").write_bytes((root / "bee" / "0006.png").read_bytes())
    for how in (None, "all"):
        with refused("bee/again.png = bee/0006.png.*'forget'.*'keep'" if how is None else "choose forget or keep"):
            check(model, root, [6, 7], duplicates=how)
    assert check(model, root, [6, 7], duplicates="keep").split.forget.tolist() == [6, 7]
    assert "1 retained images have the pixels of forgotten ones" in caplog.text and "these stay" in caplog.text
    assert check(model, root, [6, 7], duplicates="forget").split.forget.tolist() == [6, 7, 12]
    assert check(model, root, [0, 1]).split.forget.tolist() == [0, 1]
    caplog.clear()
    (root / "dog" / "bee.png").write_bytes((root / "bee" / "0006.png").read_bytes())
    assert len(check(model, root, "bee").split.forget) == 7 and "dog/bee.png = bee/0006.png" in caplog.text


@pytest.mark.parametrize(("names", "worded"), [
    (TWELVE, False), (("n01440764", "n01443537", "n01484850"), False), (("class_1", "class_2"), False),
    (("A1", "B2"), False), (("0", "cat"), False), (NAMES, True), (("A", "B"), True), (("vehicles 1", "sea"), True),
    (("猫", "犬"), True), (("type 2a", "boat"), True),
])  # fmt: skip
def test_a_guide_of_words_is_not_asked_about_codes(names, worded, caplog):
    assert choose_guide(None, names)[0] == ("composed" if worded else "features") and bool(caplog.text) != worded
    assert choose_guide("names", names) == ("names", None) and bool(codes(names)) != worded
    caplog.clear()
    assert choose_guide("features", names)[0] == "features" and not caplog.text


class Flipping(TensorDataset):
    """Turns every second image, by chance."""

    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return (x.flip(2) if np.random.rand() < 0.5 else x), y


def test_random_transforms_are_noticed():
    x, y = as_dataset().tensors
    for given in ({"data": Flipping(x, y)}, {"data": as_dataset(seed=1), "test": Flipping(x, y)}):
        with refused("is another one when it is read again: give a Dataset without random transforms"):
            check(reader(range(4)), given.pop("data"), "1", **given)


def test_pictures_of_a_dataset_are_read_as_those_of_a_folder(caplog):
    exif, turned = Image.Exif(), Image.new("RGB", (8, 8))
    exif[0x0112] = 6
    turned.info["exif"] = exif.tobytes()
    deep = Image.fromarray(np.full((8, 8), 40_000, "uint16"))
    part = read_dataset([(turned, 0), (deep, 1)], 2, "RGB", "data")
    assert (part.x[1] == 40_000 >> 8).all() and "data: 1 photos carry a turn" in caplog.text
    with refused("image 1 of data has 8 x 8 pixels of mode F: give 8-bit images"):
        read_dataset([(turned, 0), (deep.convert("F"), 1)], 2, "RGB", "data")


def test_what_is_not_used_is_refused_or_said(root, caplog):
    with refused("subclasses belong to a Dataset"):
        check(reader(range(4)), root, "bee", subclasses=["a"] * 24)
    data = as_dataset()
    check(reader(range(4)), Subset(data, range(23, -1, -1)), [0, 1], normalise="unit")
    assert "in the Subset that was given, not in the Dataset below it: 0 is an image of '3'" in caplog.text
    floats = TensorDataset(data.tensors[0] / 255, data.tensors[1])
    for normalise in (None, "imagenet", "half"):
        caplog.clear()
        check(reader(range(4)), floats, "1", normalise=normalise)
        assert ("normalise is applied to 8-bit images alone: these are float" in caplog.text) == bool(normalise)


class Gone(TensorDataset):
    classes = 4  # no names

    def __getitem__(self, i):
        return super().__getitem__(i) if i != 3 else open("/nowhere/3.png")


def test_a_dataset_that_fails_is_one_line():
    with refused("image 3 of data cannot be read .FileNotFoundError: .*: mend the Dataset"):
        check(reader(range(4)), Gone(*as_dataset().tensors), "1")


class Named(TensorDataset):
    classes = list(NAMES)


def test_parts_and_joined_datasets_keep_their_class_names():
    data, other = Named(*as_dataset(n=12).tensors), as_dataset(seed=1)
    half, _ = random_split(data, [0.8, 0.2], torch.Generator().manual_seed(0))
    for given in (half, ConcatDataset([data, other]), ConcatDataset([half, half.dataset])):
        assert check(reader(range(4)), given, "bee").images.classes == NAMES
    other.classes = NAMES[::-1]
    with refused("the parts of data name their classes .*'ant'.* and .*'dog'"):
        check(reader(range(4)), ConcatDataset([data, other]), "bee")
    other = as_dataset()
    other.class_to_idx = {"dog": 3, "bee": 1, "cow": 2, "ant": 0}
    assert check(reader(range(4)), other, "bee").images.classes == NAMES


@pytest.mark.parametrize("unseen", [False, True])
def test_images_that_do_not_fit_into_memory_lie_in_a_file(root, tmp_path, monkeypatch, caplog, unseen):
    test = write(tmp_path / "unseen", NAMES, seed=1)
    (test / "bee" / "copy.png").write_bytes((root / "bee" / "0006.png").read_bytes())  # makes room within the file
    given = {"test": test} if unseen else {}
    usual = check(reader(range(4)), root, "bee", **given)
    assert "are kept in a file" not in caplog.text
    monkeypatch.setattr(folder.psutil, "virtual_memory", lambda: SimpleNamespace(available=8000))
    kept = check(reader(range(4)), root, "bee", **given)
    assert "0.0 GB of free memory: they are kept in a file of the temporary folder" in caplog.text
    assert kept.images.digest() == usual.images.digest() and torch.equal(kept.images.x, usual.images.x)
    monkeypatch.setattr(folder.shutil, "disk_usage", lambda _: SimpleNamespace(free=4000))
    with refused("0.0 GB of disk: set .TMPDIR to a folder with more space"):
        check(reader(range(4)), root, "bee", **given)


def numbered(data, classes=None, index=None):
    for name, value in {"classes": classes, "class_to_idx": index}.items():
        if value is not None:
            setattr(data, name, value)
    return data


OTHER = {name: 3 - k for k, name in enumerate(NAMES)}


@pytest.mark.parametrize(("data", "more", "said"), [
    ({"classes": NAMES, "index": OTHER}, {}, "'ant' has number 0 by the classes of data, 3 by their class_to_idx"),
    ({"classes": NAMES, "index": OTHER}, {"classes": NAMES}, ""), ({"classes": [*NAMES], "index": None}, {}, ""),
    ({"classes": NAMES}, {"classes": ("bee", "ant", "cow", "dog")}, "'ant' has number 1 by classes, 0 by data"),
    ({"classes": ["n1", "n2", "n3", "n4"]}, {"classes": NAMES}, ""),
    ({"classes": NAMES}, {"test": NAMES[1:]}, "'bee' has number 1 by data, 0 by test"),
    ({"classes": NAMES}, {"test": NAMES}, ""), ({"classes": {"bee": 1, "ant": 0, "dog": 3, "cow": 2}}, {}, ""),
    ({"classes": [("ant",), ("bee", "honey bee"), "cow", "dog"]}, {"forget": "bee"}, ""),
])  # fmt: skip
def test_two_sources_of_class_numbers_must_agree(data, more, said):
    data, forget = numbered(as_dataset(), **data), more.pop("forget", "bee")
    if "test" in more:
        more["test"] = numbered(as_dataset(seed=1), more["test"])
    with refused(said) if said else nullcontext():
        assert check(reader(range(4)), data, forget, **more).split.forget.tolist() == [*range(6, 12)]


def test_unseen_images_of_another_numbering_or_preparation_are_found(caplog):
    data, (x, y) = as_dataset(n=12), as_dataset(n=12, seed=1).tensors
    with refused("of 48 test images right in the given one, 100 % in the one found: number the classes of the test im"):
        check(reader(range(4)), data, "1", test=TensorDataset(x, (y + 1) % 4))
    for turned, said in ((x, False), (x.flip(3), True)):
        check(reader(range(4)), data, "1", test=TensorDataset(turned, y))
        assert ("of 48 test images right" in caplog.text) == said


@pytest.mark.parametrize("kept", [[1], [0], [0, 1]])
def test_unseen_images_of_one_class_alone_say_nothing_of_chance(kept, caplog):
    data, (x, y) = as_dataset(2, 30), as_dataset(2, 30, seed=1).tensors
    few = torch.isin(y, torch.tensor(kept))
    check(reader(range(2)), data, "1", test=TensorDataset(x[few], y[few]))
    assert "test images right" not in caplog.text
    check(reader(range(2)), data, "1", test=TensorDataset(x.flip(3), y))
    assert "of 60 test images right" in caplog.text, "the control"


def test_a_good_model_of_a_rare_class_is_better_than_chance():
    y, x = (torch.arange(600) % 40 == 0).long(), as_dataset(2, 300).tensors[0].clone()
    x[:, 0, 0] = 0
    x[torch.arange(600), 0, 0, y * (torch.arange(600) % 80 == 0)] = 255  # half of the rare ones are seen
    accuracy = check(reader(range(2)), TensorDataset(x, y), "0").accuracy
    assert 1 - y.double().mean() < accuracy < 0.99
    with refused(r"97 % of 500 training images right \(97 % by chance\)"):
        check(reader(range(2)), TensorDataset(x.index_fill(2, torch.tensor(0), 0), y), "0")
