r"""Images in torch Datasets: pairs of an image and a class."""

import logging
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset

from megu.datasets.folder import ImagePart, in_8_bits, remarks, say_note
from megu.datasets.listing import class_name, in_order
from megu.datasets.npz import fits_memory
from megu.settings.errors import SettingsError
from megu.settings.progress import Bar
from megu.settings.values import shown


class _Rows:
    """A Hugging Face ``datasets.Dataset`` as pairs."""

    def __init__(self, data, what):
        kinds = {name: type(feature).__name__ for name, feature in data.features.items()}
        self.data, self.columns = data, []
        for wanted, said in (("Image", "image"), ("ClassLabel", "label")):
            found = [name for name, kind in kinds.items() if kind == wanted]
            if len(found) != 1:
                names = ", ".join(found) or "none"
                remedy = f"choose one, e.g. by select_columns, or cast_column to {wanted}"
                raise SettingsError(f"{what} has the {said} columns {names} of {', '.join(kinds)}: {remedy}")
            self.columns += found
        self.classes = data.features[self.columns[1]].names

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        row, (image, label) = self.data[i], self.columns
        if "pixel_values" in row:  # what a transform made for the model
            image, label = "pixel_values", label if label in row else "labels"
        return row[image], row[label]


def as_pairs(data, what):
    r"""What gives (image, class) pairs by position: a torch Dataset as it is, or one of Hugging Face's ``datasets``.

    Args: what: for messages.
    Raises: SettingsError for anything else, tables among it, and for several columns of images or labels.
    """
    if isinstance(data, dict) and data:
        remedy = f"give one of them: {', '.join(map(str, data))}"
        raise SettingsError(f"{what} is a {type(data).__name__} of several Datasets: {remedy}")
    if type(data).__name__ == "DataFrame":  # of pandas, polars, ...
        remedy = 'write it as a .csv beside the images (frame.to_csv("images.csv", index=False)), or give a Dataset'
        raise SettingsError(f"{what} is a DataFrame: {remedy}")
    try:
        by_position = len(data) >= 0 and data.__getitem__ and not isinstance(data, IterableDataset)
    except Exception:  # whatever a foreign Dataset may raise
        by_position = False
    if not by_position:
        remedy = "give a folder, or a torch Dataset with a length and positions (a list has both), no DataLoader"
        raise SettingsError(f"{what} is a {type(data).__name__}: {remedy}")
    return _Rows(data, what) if hasattr(data, "features") and hasattr(data, "column_names") else data


def names_of(data):
    r"""Class names that a Dataset carries, itself or in what a Subset or ConcatDataset is made of; else None.

    Raises: SettingsError where parts of a ConcatDataset, or ``classes`` and ``class_to_idx``, number them otherwise.
    """
    index = getattr(data, "class_to_idx", None) or getattr(getattr(data, "reader", None), "class_to_idx", None)
    names = getattr(data, "classes", None)
    if names is None and isinstance(index, dict):  # as timm has it
        names = index
    names = in_order(names, "the classes of data")
    if isinstance(names, list | tuple) and names:
        every = [name if isinstance(name, tuple) else (name,) for name in names]  # synonyms, as ImageNet has them
        first = [str(name[0]) for name in every if name]
        names = tuple(first if len({*first}) == len(every) else (", ".join(map(str, name)) for name in every))
        check_numbers(names, index if isinstance(index, dict) else {}, "the classes of data", "their class_to_idx")
        return names
    if hasattr(data, "dataset"):
        return names_of(data.dataset)
    found = list(dict.fromkeys(filter(None, map(names_of, getattr(data, "datasets", ())))))
    if len(found) > 1:
        raise SettingsError(f"the parts of data name their classes {found[0]} and {found[1]}: number them alike")
    return found[0] if found else None


def check_names(data, y, classes, names, what, whose, needed):
    r"""The ``names`` that a Dataset carries, after `check_numbers` of them and ``classes``; None where they say nothing
    as it gives its images, ``y``, other numbers than they have: a ``target_transform`` or a Dataset around it may.

    Raises: SettingsError where they differ, or say nothing and are ``needed``.
    """
    pairs = zip(_numbers(data) or (), y.tolist(), strict=False)
    if (other := next((i for i, (number, k) in enumerate(pairs) if number != k), None)) is None:
        check_numbers(classes, names or (), what, whose)
        return names
    if needed:
        told = f"image {other} of {whose} has class {y[other]}, {_numbers(data)[other]} by the Dataset that names them"
        raise SettingsError(f"{told}: give classes= in the order of the numbers that the images get")
    return None


def _numbers(data):
    """The classes that a Dataset keeps beside its names, of each of its images, or that torchvision's folders of them
    have; None where it keeps none."""
    with suppress(Exception):  # whatever a foreign Dataset calls so
        folders = [Path(path).relative_to(data.root).parts[0] for path, _ in data.samples]
        if len(folders) == len(data):
            return [data.class_to_idx[name] for name in folders]
    for name in ("targets", "labels", "_labels") if getattr(data, "classes", None) is not None else ():
        with suppress(Exception):  # whatever a foreign Dataset calls so
            if (kept := np.asarray(getattr(data, name))).dtype.kind in "iu" and kept.shape == (len(data),):
                return kept.tolist()
    if hasattr(data, "dataset"):
        inner, at = _numbers(data.dataset), getattr(data, "indices", None)
        if inner and (at is not None or len(inner) == len(data)):
            return inner if at is None else [inner[i] for i in at]
    found = [*map(_numbers, getattr(data, "datasets", ()))]
    return [number for part in found for number in part] if all(found) else None


def check_numbers(names, others, what, whose):
    r"""Raises: SettingsError where a name has another number in ``others``, names in order or name -> number."""
    place = {name: k for k, name in enumerate(names)}
    for name, k in (others if isinstance(others, dict) else {name: k for k, name in enumerate(others)}).items():
        if place.get(name, k) != k:
            remedy = "give both in one order, that of the model's outputs"
            raise SettingsError(f"class {name!r} has number {place[name]} by {what}, {k} by {whose}: {remedy}")


def read_dataset(data, num_classes, mode, what, subclasses=None) -> ImagePart:
    r"""A torch Dataset of (image, class) pairs, read once, so with the transforms of evaluation.

    Args:
        data: see `as_pairs`; gives PIL images, uint8 ``(C, H, W)`` tensors, or float ones as the network sees them.
        num_classes: None where any number will do.  mode: ``RGB`` or ``L``.  what: for messages.
        subclasses: a name for each item, or None.
    Raises: SettingsError naming the item that is not of this kind.
    """
    if not (count := len(data)):
        raise SettingsError(f"{what} is empty: give images of every class")
    if hasattr(subclasses, "tolist"):  # one for each image, whatever an index says
        subclasses = subclasses.tolist()
    subclasses = in_order(subclasses, "subclasses")
    if subclasses is not None and (isinstance(subclasses, str) or not hasattr(subclasses, "__len__")):
        raise SettingsError(f"subclasses is {shown(subclasses)}: give a list with the name of each image's sub-class")
    if subclasses is not None and len(subclasses) != count:
        raise SettingsError(f"subclasses has {len(subclasses)} names for {count} images of {what}: give one for each")
    x, labels, notes = torch.empty(0), [], {}
    for i in Bar(range(count), desc=what, unit="image"):
        where = f"image {i} of {what}"
        item = _item(data, i, where)
        image, label = _to_tensor(item[0], mode, where), _to_class(item[1], num_classes, where)
        if not labels:
            fits_memory(count * image.nbytes, "give uint8 images, or fewer")
            x = torch.empty((count, *image.shape), dtype=image.dtype)
        elif kind(image) != kind(x[0]):
            raise SettingsError(f"{where} is {kind(image)}, image 0 {kind(x[0])}: give one size and type")
        x[i] = image  # a Dataset may fill the same tensor again
        labels.append(label)
        for remark in remarks(item[0]) if isinstance(item[0], Image.Image) else ():
            notes.setdefault(remark, []).append(f"image {i}")
    for remark, names in notes.items():
        say_note(what, remark, names)
    for i in {at * (count - 1) // 49 for at in range(50)}:  # a transform of one image in ten is missed once in 190
        image, label = _item(data, i, f"image {i} of {what}")
        if not torch.equal(_to_tensor(image, mode, ""), x[i]) or _to_class(label, num_classes, "") != labels[i]:
            remedy = "give a Dataset without random transforms (crop, flip, ...), as for evaluation"
            raise SettingsError(f"image {i} of {what} is another one when it is read again: {remedy}")
    sub = None if subclasses is None else tuple(map(class_name, subclasses))
    of = [name for name, _ in {*zip(sub or (), labels, strict=False)}]  # of each class once
    if several := sorted({name for name in of if of.count(name) > 1}):
        told = f"{what}: images of several classes are of the sub-class {', '.join(several[:5])}"
        logging.getLogger("megu").warning(f"{told}: who forgets it forgets all of these")
    return ImagePart(x, torch.tensor(labels), sub, tuple(map(str, range(count))))


def _item(data, i, what):
    try:
        item = data[i]
    except Exception as error:  # whatever a foreign Dataset may raise
        why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:150]}"
        raise SettingsError(f"{what} cannot be read ({why}): mend the Dataset") from None
    if not isinstance(item, tuple | list) or len(item) != 2:
        of = f" of {len(item)}" if isinstance(item, tuple | list | dict) else ""
        remedy = "give (image, class) pairs, as torch.utils.data.TensorDataset(images, classes) does"
        raise SettingsError(f"{what} is a {type(item).__name__}{of}: {remedy}")
    return item


def kind(image) -> str:
    r"""Shape and type of an image, for messages."""
    return f"{tuple(image.shape)} {image.dtype}"


def _to_tensor(image, mode, what) -> UInt8[Tensor, "C H W"] | Float32[Tensor, "C H W"]:
    if isinstance(image, Image.Image):
        try:
            array = np.array(in_8_bits(image, mode))
        except ValueError as error:
            raise SettingsError(f"{what} has {error}: give 8-bit images") from None
        return torch.from_numpy(array if array.ndim == 3 else array[..., None]).permute(2, 0, 1)
    if not isinstance(image, Tensor):
        kind = type(image).__name__
    elif image.ndim != 3 or not image.numel() or not (image.dtype == torch.uint8 or image.is_floating_point()):
        kind = f"tensor of shape {tuple(image.shape)}, {image.dtype}"
    elif image.shape[2] in (1, 3, 4) and image.shape[0] > 4:
        kind = f"tensor of shape {tuple(image.shape)}, channels last (image.permute(2, 0, 1) puts them first)"
    elif wrong := int((~image.isfinite()).sum()):
        raise SettingsError(f"{what} has {wrong} values that are NaN or infinite: remove or mend it")
    else:
        return image.detach().cpu() if image.dtype == torch.uint8 else image.detach().cpu().float()
    raise SettingsError(f"{what} is a {kind}: give a PIL image, or a (C, H, W) tensor of uint8 or float")


def _to_class(label, num_classes, what):
    label = label.item() if isinstance(label, np.ndarray) and label.size == 1 else label  # as MedMNIST gives it
    try:
        k = int(label)
        if isinstance(label, bool | str) or k != label or not 0 <= k < (num_classes or k + 1):
            raise ValueError
    except (TypeError, ValueError, OverflowError, RuntimeError):
        value = label.tolist() if isinstance(label, Tensor) and label.numel() < 5 else label
        last = f" to {num_classes - 1}" if num_classes else ""
        remedy = f"give an integer from 0{last}, the number of the model's output, no name and no one-hot vector"
        raise SettingsError(f"{what} has the class {str(value)[:50]!r}: {remedy}") from None
    return k
