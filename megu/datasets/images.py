r"""Labelled images on the device as uint8; they are normalised and augmented in batches there."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from megu.settings.class_names import different
from megu.settings.errors import SettingsError
from megu.settings.files import hash_bytes


@dataclass(frozen=True)
class Images:
    r"""Training and test images in one pool; every index in the project points into it.

    Attributes:
        x: on the device; the first ``num_train`` are training images.
        y: classes or superclasses, as the classifier names them (``classes``).
        fine: classes (``fine_classes``).
        mean, std: of the training images in [0, 1].
    """

    name: str
    x: UInt8[Tensor, "N C H W"] | Float[Tensor, "N C H W"]
    y: Int64[Tensor, " N"]
    fine: Int64[Tensor, " N"]
    classes: tuple[str, ...]
    fine_classes: tuple[str, ...]
    num_train: int
    mean: Float[Tensor, " C"]
    std: Float[Tensor, " C"]

    @property
    def num_classes(self):
        """K, the length of ``classes``."""
        return len(self.classes)

    def digest(self):
        """Twelve hex digits over all pixels, labels and names."""
        arrays = (tensor.cpu().contiguous().numpy() for tensor in (self.x, self.y, self.fine))
        return hash_bytes("|".join(self.classes), *arrays)[:12]

    @property
    def shape(self):
        """(C, H, W) of one image."""
        return tuple(self.x.shape[1:])

    def batch(self, index: Int[Tensor, " n"], augment=None, gen=None, epoch=0) -> Float[Tensor, "n C H W"]:
        r"""Images as the network sees them: normalised, `augmented` where asked; float ones as they came."""
        x = self.x[index]
        if x.is_floating_point():
            return x
        if augment is not None:
            turn = turned(index, epoch) if augment.flip == "alternate" else None
            x = augmented(x.float() / 255, augment, gen, turn)
        return self.normalised(x)

    def only(self, index: Int[Tensor, " n"]):
        r"""`Images` of an index alone, as training images."""
        return replace(self, x=self.x[index], y=self.y[index], fine=self.fine[index], num_train=len(index))

    def few(self, most: int = 8) -> Float[Tensor, "n C H W"]:
        r"""Training images of all parts, as the network sees them."""
        return self.batch(self.few_index(most))

    def few_index(self, most: int = 8) -> Int64[Tensor, " n"]:
        r"""Where `few` are."""
        count = min(most, self.num_train)
        return torch.arange(count, device=self.x.device) * self.num_train // count

    def normalised(self, x):
        r"""Images ``(n, C, H, W)``, uint8 or float in [0, 1], less the mean and over the std."""
        x = x if x.is_floating_point() else x.float() / 255
        return (x - self.mean.view(-1, 1, 1)) / self.std.view(-1, 1, 1)

    def hashes(self, index: Int[Tensor, " n"]) -> list[str]:
        r"""`image_hash` of each of an index, without a name; each is computed once."""
        known = self.__dict__.setdefault("_hashes", {})
        for i in index.tolist():
            if i not in known:
                known[i] = image_hash(self.x[i].cpu().numpy(), "")
        return [known[i] for i in index.tolist()]

    def restore(self, x):
        r"""The inverse of `normalised`, cut to [0, 1]."""
        return (x * self.std.view(-1, 1, 1) + self.mean.view(-1, 1, 1)).clamp(0, 1)


def _fault(x, y, num_classes):
    if x.dtype != "uint8" or x.ndim not in (3, 4):
        return f"images are {x.dtype} of shape {x.shape}; give uint8 of shape (n, H, W) or (n, H, W, C)"
    if x.ndim == 4 and x.shape[3] not in (1, 3):
        turned = ", as x.transpose(0, 2, 3, 1) gives" if x.shape[1] in (1, 3) else ""
        return f"images of shape {x.shape} would have {x.shape[3]} channels; give (n, H, W, C) with C 1 or 3{turned}"
    if min(x.shape[1:3]) < 2:
        return f"images are {x.shape[1]} x {x.shape[2]} pixels; give at least 2 x 2"
    if y.ndim != 1 or y.dtype.kind not in "iu":
        return f"labels are {y.dtype} of shape {y.shape}; give integers of shape (n,), positions of class names"
    if len(x) != len(y) or len(x) == 0:
        return f"has {len(x)} images and {len(y)} labels; give the same number of both, at least one"
    if int(y.min()) < 0 or int(y.max()) >= num_classes:
        return f"labels reach from {y.min()} to {y.max()}, but there are {num_classes} class names"


def both_parts(arrays):
    r"""(Images, labels) of training and test, for `pool`."""
    return [(arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test")]


def pool(name, train, test, fine_classes, device="cpu"):
    r"""Numpy arrays as `Images` that name classes.

    Args:
        train, test: uint8 images ``(n, H, W)`` or ``(n, H, W, C)``, C 1 or 3, sides over 1; integer labels ``(n,)``.
    Raises: SettingsError for a wrong type, shape, label or name, or an empty part.
    """
    names, xs, ys = different(fine_classes, name), [], []
    for part, (x, y) in (("train", train), ("test", test)):
        if fault := _fault(x, y, len(names)):
            raise SettingsError(f"{name}: {part} {fault}")
        xs.append(torch.from_numpy(x if x.ndim == 4 else x[..., None]).permute(0, 3, 1, 2))
        ys.append(torch.from_numpy(y.astype("int64")))
    ours, theirs = (tuple(x.shape[1:]) for x in xs)
    if ours != theirs:
        raise SettingsError(f"{name}: training images are {ours}, test images {theirs}; give one size")
    x, y = torch.cat(xs).contiguous().to(device), torch.cat(ys).to(device)
    counts, level = levels(xs[0]).double(), torch.arange(256).double() / 255
    share = counts / counts.sum(1, keepdim=True)
    mean = share @ level  # exact, without a float copy
    std = (share @ level.square() - mean.square()).sqrt().clamp_min(1e-3)
    return Images(name, x, y, y, names, names, len(xs[0]), mean.float().to(device), std.float().to(device))


def levels(x: UInt8[Tensor, "n C H W"]) -> Int[Tensor, "C 256"]:
    r"""How often each of the 256 levels occurs in each channel, on the CPU."""
    return torch.stack([torch.bincount(x[:, c].flatten().int(), minlength=256) for c in range(x.shape[1])]).cpu()


def image_hash(pixels, name):
    r"""SHA-256, 64 hex digits, of pixels ``(C, H, W)`` (numpy), their shape and their class name."""
    return hash_bytes(f"{name}|{pixels.shape}|", pixels.tobytes())


def same_pixels(known: Iterable[str], others: Iterable[str]) -> dict[int, int]:
    r"""Which of some `image_hash`es are among ``known`` ones: place -> place of the first such one."""
    first = {}
    for i, one in enumerate(known):
        first.setdefault(one, i)
    held = ((j, first.get(one)) for j, one in enumerate(others))
    return {j: i for j, i in held if i is not None}


def first_copies(images: Images, index: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    r"""For each of an index the first one with its pixels, which may be itself."""
    first, hashes = {}, zip(index.tolist(), images.hashes(index), strict=True)
    return torch.tensor([first.setdefault(one, i) for i, one in hashes], dtype=index.dtype, device=index.device)


def distinct(images: Images, index: Int[Tensor, " n"], what: str) -> Int[Tensor, " m"]:
    r"""Those of an index whose pixels no earlier one has; that others are left out is said of ``what``."""
    keep = first_copies(images, index) == index
    if left := len(keep) - int(keep.sum()):
        logging.getLogger("megu").warning(f"{left} of {len(keep)} {what} are copies of others: each is measured once")
    return index[keep]


def unseen_apart(images: Images, split):
    r"""A split without unseen images whose pixels are of what is forgotten and of what is retained; it is said."""
    parts = {part: getattr(split, part) for part in ("test_forget", "test_retain")}
    hashes = {part: images.hashes(index) for part, index in parts.items()}
    if both := set.intersection(*map(set, hashes.values())):
        told = f"{len(both)} unseen images are of what is forgotten and of what is retained: they are not measured"
        logging.getLogger("megu").warning(told)
    keep = {part: [one not in both for one in of] for part, of in hashes.items()}
    return replace(split, **{part: index[torch.tensor(keep[part], dtype=torch.bool)] for part, index in parts.items()})


def by_superclass(images: Images, coarse: tuple[str, ...]) -> Images:
    r"""Named by superclass; ``coarse``: that of each of ``fine_classes``.  Raises: SettingsError for none."""
    if not coarse:
        raise SettingsError(f"{images.name} has no superclasses: use forget.scenario class or random")
    names = tuple(dict.fromkeys(coarse))
    to_coarse = torch.tensor([names.index(c) for c in coarse], device=images.y.device)
    return replace(images, y=to_coarse[images.fine], classes=names)


def turned(index: Int[Tensor, " n"], epoch: int) -> Bool[Tensor, " n"]:
    r"""Which images an ``alternate`` flip turns in an epoch: one half, by a hash of their index; the other in the next.

    Source: Jordan 2024, arXiv 2404.00498.
    """
    return ((index.cpu() * 2_654_435_761 >> 16) + epoch) % 2 == 1


def augmented(
    x: Float[Tensor, "n C H W"], augment, gen: torch.Generator, turn: Bool[Tensor, " n"] | None = None
) -> Float[Tensor, "n C H W"]:
    r"""Random shift, flip and rotation of images in [0, 1], in one affine sampling; black or reflected at the borders.

    Args:
        augment: `megu.settings.config.Augment`: crop in pixels, flip, rotate in degrees.
        gen: CPU generator.  turn: those to flip, else half of them by chance.
    Departs: A13; torchvision's rotation takes the nearest pixel, this one interpolates; a reflection repeats borders.
    """
    n, _, height, width = x.shape
    shift = torch.randint(-augment.crop, augment.crop + 1, (n, 2), generator=gen)
    if turn is None:
        turn = torch.rand(n, generator=gen) < 0.5 * augment.flip
    flip = torch.where(turn, -1.0, 1.0)
    angle = torch.deg2rad((torch.rand(n, generator=gen) * 2 - 1) * augment.rotate)
    rows = torch.stack([
        torch.stack([flip * angle.cos(), -angle.sin() * height / width, 2 * shift[:, 0] / width], 1),
        torch.stack([flip * angle.sin() * width / height, angle.cos(), 2 * shift[:, 1] / height], 1),
    ], 1)  # fmt: skip  # (n, 2, 3)
    grid = F.affine_grid(rows.to(x.device, non_blocking=True), list(x.shape), align_corners=False)
    padding = "reflection" if augment.padding == "reflection" else "zeros"
    return F.grid_sample(x, grid, padding_mode=padding, align_corners=False)
