"""Class numbers, names and images of Datasets as people bring them: none is taken for another in silence."""

import json
import os

import numpy as np
import pandas as pd
import pytest
import torch
from pixels import as_dataset, check, reader, write
from refusals import refused
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset
from torchvision import models, transforms
from torchvision.datasets import ImageFolder

from megu.datasets.folder import read_image
from megu.datasets.listing import class_name
from megu.settings.files import weights_file

NAMES = ("ant", "bee", "cow", "dog")
TURNED = (2, 0, 3, 1)  # the number that an image gets, by the one that its name has


class Around(Dataset):
    """Another Dataset's images, with other numbers."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, i):
        x, k = self.dataset[i]
        return x, TURNED[k]


def renumbered(root):
    """Of torchvision, with other numbers in the list of its files than its folders have."""
    data = ImageFolder(root)
    data.samples = data.imgs = [(path, TURNED[k]) for path, k in data.samples]
    data.targets = [k for _, k in data.samples]
    return data


@pytest.mark.parametrize("given", [
    renumbered,
    lambda root: ImageFolder(root, target_transform=TURNED.__getitem__),
    lambda root: Around(ImageFolder(root)),
    lambda root: Subset(ImageFolder(root, target_transform=TURNED.__getitem__), range(23, -1, -1)),
    lambda root: ConcatDataset([ImageFolder(root, target_transform=TURNED.__getitem__)]),
])  # fmt: skip
def test_names_of_other_numbers_than_the_images_get_are_refused(given, tmp_path):
    model, data = reader([TURNED.index(k) for k in range(4)]), given(write(tmp_path / "photos", NAMES))
    with refused("of data has class ., . by the Dataset that names them: give classes= in the order of the numbers"):
        check(model, data, "bee")
    names = [NAMES[TURNED.index(k)] for k in range(4)]
    assert check(model, data, "bee", classes=names).images.y.tolist().count(0) == 6
    unseen, plain = write(tmp_path / "unseen", NAMES, seed=1), ImageFolder(tmp_path / "photos")
    with refused("image 0 of test has class 2, 0 by the Dataset"):
        check(reader(range(4)), plain, "bee", test=Around(ImageFolder(unseen)))
    part = ConcatDataset([Subset(plain, range(12)), Subset(plain, range(12, 24))])
    assert check(reader(range(4)), part, "bee", test=ImageFolder(unseen)).images.classes == NAMES


@pytest.mark.parametrize("classes", [
    {"dog": 3, "bee": 1, "ant": 0, "cow": 2}, {3: "dog", 1: "bee", 0: "ant", 2: "cow"},
    {"3": "dog", "1": "bee", "0": "ant", "2": "cow"},
])  # fmt: skip
def test_a_dictionary_of_names_and_numbers_is_read_by_its_numbers(classes):
    data = as_dataset()
    assert check(reader(range(4)), data, "dog", classes=classes).split.forget.tolist() == [*range(18, 24)]
    halves = {i: "ab"[i % 2] for i in range(24)}
    assert check(reader(range(4)), data, "a", subclasses=halves).split.forget.tolist() == [*range(0, 24, 2)]
    data.classes = classes
    assert check(reader(range(4)), data, "dog").images.classes == NAMES


@pytest.mark.parametrize("kind", [np.array, pd.Index, pd.Series])
def test_names_of_numpy_and_pandas_are_names(kind):
    data = as_dataset()
    data.classes = kind(NAMES)
    assert check(reader(range(4)), data, "dog").images.classes == NAMES


def test_of_synonyms_the_first_is_the_name_where_it_is_one_class_alone():
    data = as_dataset()
    data.classes = [("ant", "emmet"), ("bee",), ("cow", "ox"), ("dog", "hound")]
    assert check(reader(range(4)), data, "dog").images.classes == NAMES
    data.classes[2] = ("bee", "ox")  # as the two cranes of ImageNet
    assert check(reader(range(4)), data, "bee, ox").images.classes == ("ant, emmet", "bee", "bee, ox", "dog, hound")


def test_a_folder_that_holds_no_whole_model_is_told_from_none(tmp_path):
    with refused("model 'none' does not exist: give a .safetensors file"):
        weights_file(tmp_path / "none", "model")
    with refused(f"model {tmp_path.name!r} is a folder without model.safetensors: give a .safetensors file"):
        weights_file(tmp_path, "model")
    (tmp_path / "adapter_config.json").write_text("{}")
    with refused("is an adapter of peft alone: merge it into its model"):
        weights_file(tmp_path, "model")


def test_names_of_pandas_are_read_by_their_index():
    data, model = as_dataset(), reader(range(4))
    shuffled = pd.Series({3: "dog", 1: "bee", 0: "ant", 2: "cow"})
    assert check(model, data, "dog", classes=shuffled).split.forget.tolist() == [*range(18, 24)]
    with refused("give a list, or each name with its number, from 0 on"):
        check(model, data, "dog", classes=pd.Series(NAMES, index=[0, 6, 12, 18]))  # as drop_duplicates leaves it
    kinds = pd.Series([*"ab" * 12], index=[*range(23, -1, -1)])  # of a table that was shuffled with the images
    assert check(model, data, "a", subclasses=kinds).split.forget.tolist() == [*range(0, 24, 2)]


def test_a_table_is_no_dataset(tmp_path):
    frame = pd.DataFrame({"path": ["a.png"] * 4, "label": NAMES})
    for data, more in ((frame, {}), (frame, {"size": 8}), (as_dataset(), {"test": frame})):
        with refused("is a DataFrame: write it as a .csv beside the images .frame.to_csv.*, or give a Dataset"):
            check(reader(range(4)), data, "ant", **more)


@pytest.mark.parametrize("content", [NAMES, {"dog": 3, "bee": 1, "ant": 0, "cow": 2}, dict(enumerate(NAMES))])
def test_names_in_json(content, tmp_path):
    (path := tmp_path / "names.json").write_text(json.dumps(content, indent=1))
    assert check(reader(range(4)), as_dataset(), "dog", classes=path).images.classes == NAMES
    for wrong, said in (("null", "0 class folders or names"), ("{", "names.json cannot be read as JSON")):
        path.write_text(wrong)
        with refused(said):
            check(reader(range(4)), as_dataset(), "dog", classes=path)


def test_names_have_the_joiners_of_their_script():
    names = ("می\u200cخواهم", "क्\u200dष", "👩\u200d🚀", "dog")
    assert check(reader(range(4)), as_dataset(), names[0], classes=names).images.classes == names
    with refused("no text by this system's encoding of names: set LC_ALL=C.UTF-8, or rename it"):
        class_name(os.fsdecode(b"\xd6l"))
    with refused("cannot be printed"):
        check(reader(range(4)), as_dataset(), "dog", classes=("a\u200cnt", *NAMES[1:]))


def test_outputs_that_have_no_images_are_cut_off():
    with refused("model gives .8, 6. for 8 images of 4 classes: .* cut off outputs that had no images"):
        check(reader(range(6)), as_dataset(), "ant", classes=NAMES)
    with refused("no training image is of class 'e': give some .*, or cut off its output"):
        check(reader(range(5)), as_dataset(), "ant", classes=(*NAMES, "e"))


def test_a_pointer_of_git_lfs_is_no_file(tmp_path):
    for name, read in (("a.safetensors", lambda path: weights_file(path, "model")), ("a.png", read_image)):
        (path := tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12345\n")
        with refused(f"{name}'? is a pointer of Git LFS, not the file: fetch it by `git lfs pull`"):
            read(path)


@pytest.mark.parametrize(("classes", "said"), [
    ({*NAMES}, "classes is a set, which has no order: give a list"), ({"ant": 0, "bee": 0}, "its number, from 0 on"),
    ({"ant": 1, "bee": 2}, "its number, from 0 on"), ({"ant": "x"}, "from 0 on"), ({"ant": [0]}, "from 0 on"),
])  # fmt: skip
def test_names_without_an_order_are_refused(classes, said):
    with refused(said):
        check(reader(range(4)), as_dataset(), "ant", classes=classes)


class OneBuffer(TensorDataset):
    """Fills the same tensor for every image."""

    def __getitem__(self, i):
        x, k = super().__getitem__(i)
        self.held = getattr(self, "held", torch.empty_like(x)).copy_(x)
        return self.held, k


def test_images_that_a_dataset_fills_into_one_tensor_are_kept_apart():
    data = as_dataset()
    assert torch.equal(check(reader(range(4)), OneBuffer(*data.tensors), "1").images.x, data.tensors[0])


class OfMedmnist(TensorDataset):
    """Its classes are arrays of one number."""

    def __getitem__(self, i):
        x, k = super().__getitem__(i)
        return x, np.array([int(k)])


def test_a_class_may_be_an_array_of_one_number():
    assert check(reader(range(4)), OfMedmnist(*as_dataset().tensors), "1").split.forget.tolist() == [*range(6, 12)]


@pytest.mark.parametrize("times", [255, 1 / 255])
def test_test_images_of_another_scale_are_refused(times):
    x, y = as_dataset().tensors
    data, unseen = TensorDataset(x.float() / 255, y), as_dataset(seed=1).tensors[0].float() / 255
    model = reader(range(4))  # answers the same at any scale
    with refused("standard deviations of training and test images are .*: prepare both alike"):
        check(model, data, "1", test=TensorDataset(unseen * times, y))
    assert len(check(model, data, "1", test=TensorDataset(unseen / 4, y)).images.y) == 48


@pytest.mark.parametrize(("mean", "std"), [(0.4914, 0.247), (0.49, 0.229)])
def test_test_images_that_are_normalised_by_other_numbers_are_refused(mean, std):
    (x, y), (other, _) = as_dataset().tensors, as_dataset(seed=1).tensors
    data = TensorDataset((x / 255 - 0.485) / 0.229, y)
    with refused("an 8-bit level is a step of 0.01712 in training images and of 0.01.*: normalise both by the same"):
        check(reader(range(4)), data, "1", test=TensorDataset((other / 255 - mean) / std, y))
    for alike in (other, other // 2 * 2):  # also where every second level is missing
        unseen = TensorDataset((alike / 255 - 0.485) / 0.229, y)
        assert len(check(reader(range(4)), data, "1", test=unseen).images.y) == 48
    drawn = [TensorDataset((other / 255 * a).round() / a, y) for a in (3.0, 2.0)]  # of four colours, and of three
    assert len(check(reader(range(4)), drawn[0], "1", test=drawn[1]).images.y) == 48
    noisy = TensorDataset((other / 255 - mean) / std + 0.01 * torch.rand(24, 3, 8, 8), y)  # no levels: nobody knows
    assert len(check(reader(range(4)), data, "1", test=noisy).images.y) == 48


def test_a_recipe_that_is_not_used_is_said(caplog):
    for more, said in (({}, True), ({"retrain": True}, False)):
        caplog.clear()
        check(reader(range(4)), as_dataset(), "1", settings={"training.epochs": 3}, **more)
        assert ("training.* is the recipe of retrain (--retrain), which is not asked for" in caplog.text) == said


def test_a_preset_that_also_resizes_is_no_normalisation():
    unit = transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert check(reader(range(4)), as_dataset(), "1", normalise=unit).images.std.tolist() == [0.5] * 3
    with refused("normalise is ImageClassification.*choose from imagenet"):
        check(reader(range(4)), as_dataset(), "1", normalise=models.ResNet18_Weights.DEFAULT.transforms())


def test_a_sub_class_of_several_classes_is_said(caplog):
    for kinds, said in (("plain", "striped") * 12, True), ([f"{i // 6}/{'ab'[i % 2]}" for i in range(24)], False):
        caplog.clear()
        check(reader(range(4)), as_dataset(), kinds[0], subclasses=kinds)
        assert ("data: images of several classes are of the sub-class plain, striped: who" in caplog.text) == said
