r"""A classifier that a user brings: read, checked before any work, never altered."""

import difflib
import importlib
from dataclasses import replace

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from megu.core import keymap, models
from megu.core.device import generator, seeded
from megu.core.tensors import read_tensors
from megu.core.train import predict
from megu.datasets.user_images import NORMALISE, moments
from megu.settings.errors import SettingsError
from megu.settings.files import hash_bytes

OURS = (*models.RESNETS, *models.AIRBENCH, "vit-tiny", "vit-b16")


def read_model(path, arch, num_classes, shape) -> nn.Module:
    r"""A classifier from a safetensors file, in eval mode.

    Args:
        arch: a torchvision classifier, one of ours, or ``module:function`` of your own, from K to an ``nn.Module``.
            The file of a ResNet of ours may have the names of `megu.core.keymap`.
        shape: (C, H, W) of the images, or (H, W) for the file's channels.
    Raises: SettingsError where the file is none, damaged, a pickle, or of another architecture.
    """
    state, reasons = read_tensors(path, "model"), []
    if len(shape) == 2:  # ours take 1 or 3
        channels = {tensor.shape[1] for tensor in state.values() if tensor.ndim == 4}
        shape = (1 if 1 in channels and 3 not in channels else 3, *shape)
    for build in builders(arch, num_classes, shape):
        with seeded(generator(0, "blank")):
            model = build()
        named, own = names_in(state, model), model.state_dict()
        misfit = misfits({other: own[name] for name, other in named.items()}, state)
        if not misfit:
            model.load_state_dict(own | {name: state[other] for name, other in named.items()})
            return model.eval()
        reasons.append(misfit)
    what = f"{path.name} is no {arch} with {num_classes} classes ({min(reasons)[1]})"
    raise SettingsError(f"{what}: check arch, and that the classes are those it was trained on")


def builders(arch, num_classes, shape):
    r"""Functions that build an ``arch``, see `read_model`."""
    if ":" in arch:
        module, _, function = arch.partition(":")
        try:
            make = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise SettingsError(f"arch {arch!r} cannot be imported ({error}): check module:function") from None
        return [lambda: make(num_classes)]
    from torchvision import models as theirs  # noqa: PLC0415  (slow)

    known = theirs.list_models(module=theirs)
    out = [lambda: theirs.get_model(arch, weights=None, num_classes=num_classes)] if arch in known else []
    out += [lambda: models.build(arch, num_classes, shape, 0, weights="random")] if arch in OURS else []
    if not out:
        near = difflib.get_close_matches(arch, [*OURS, *known], n=3, cutoff=0.4)
        what = f"arch {arch!r} does not exist; did you mean {' or '.join(map(repr, near or OURS))}?"
        raise SettingsError(f"{what} choose from torchvision.models, ours ({', '.join(OURS)}), or give module:function")
    return out


def names_in(state, model):
    r"""What each tensor of a model is called in a file, less counts of batches where an old PyTorch wrote none."""
    own = model.state_dict()
    before = "" if keymap.wrapped(own) else keymap.wrapped(state)
    other = isinstance(model, models.ResNet) and any("_x." in name for name in state)
    counted = any(name.endswith(".num_batches_tracked") for name in state)
    return {
        name: before + (keymap.theirs(name, model.blocks) if other else name)
        for name in own
        if counted or not name.endswith(".num_batches_tracked")
    }


def misfits(own, state):
    r"""(How many, which) tensors of a file do not fit those of a model; None where all do."""
    missing, extra = [name for name in own if name not in state], [name for name in state if name not in own]
    other = [name for name in own if name in state and own[name].shape != state[name].shape]
    parts = [f"{len(missing)} tensors are missing, e.g. {name}" for name in missing[:1]]
    parts += [f"{len(extra)} are unknown, e.g. {name}" for name in extra[:1]]
    parts += [f"{name} is {tuple(state[name].shape)}, not {tuple(own[name].shape)}" for name in other[:1]]
    return (len(missing + extra + other), "; ".join(parts)) if parts else None


def channels_of(model):
    r"""Channels that a classifier's first convolution takes, else 3."""
    return next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), 3)


def weights_digest(model) -> str:
    r"""SHA-256 over names and bits of a model's tensors."""
    parts = []
    for name, tensor in model.state_dict().items():
        bits = tensor.cpu().contiguous().reshape(-1).view(torch.uint8)
        parts += [f"{name} {tensor.dtype} {tuple(tensor.shape)}", bits.numpy()]
    return hash_bytes(*parts)


def check_and_copy(model, images, what="model") -> nn.Module:
    r"""A copy to work on, in eval mode.

    Raises: SettingsError where the model is none, or weights or logits are not finite or not of the classes.
    """

    def refuse(wrong, why):
        if wrong:
            raise SettingsError(f"{what}{why}")

    no_numbers = "that are no numbers (NaN or infinite): give weights that work"
    kind = type(model).__name__
    refuse(not isinstance(model, nn.Module), f" is a {kind}: give a torch.nn.Module that maps images to logits")
    for name, tensor in model.state_dict().items():
        broken = int((~tensor.isfinite()).sum()) if tensor.is_floating_point() else 0
        refuse(broken, f": {name} has {broken} values {no_numbers}")
    try:
        copy = models.copy_of(model).to(images.x.device).eval()
        with torch.no_grad():
            logits = copy(_two(images))
    except Exception as error:  # whatever a foreign forward() may raise
        why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:150]}"
        raise SettingsError(f"{what} takes no images of shape {images.shape} ({why}): check size, channels") from None
    kind, k = type(logits).__name__, images.num_classes
    refuse(not isinstance(logits, Tensor), f" gives a {kind}: let forward return logits (n, classes)")
    found = tuple(logits.shape)
    refuse(found != (2, k), f" gives {found} for 2 images of {k} classes: give those that it was trained on")
    refuse(not logits.isfinite().all(), f" gives logits {no_numbers}")
    refuse(not [*copy.parameters()], " has no weights that could forget")
    copy.zero_grad(set_to_none=True)
    return copy.requires_grad_(True)


def _two(images):
    return images.batch(torch.arange(2, device=images.x.device))


def check_accuracy(model, images, index: Int64[Tensor, " n"], check="normalise, size and the order of the classes"):
    r"""Share of a sample of training images that the model names right.

    Raises: SettingsError where that is no better than chance, or another normalisation of 8-bit images far better.
    """
    index = index[:: max(1, len(index) // 500)]
    y = images.y[index]

    def accuracy(images):
        return (predict(model, images, index).argmax(1) == y).double().mean().item()

    share, most, others = accuracy(images), y.bincount().max().item() / len(y), {}
    if images.x.dtype == torch.uint8:
        for name in (*NORMALISE, "data"):
            mean, std = (value.to(y.device) for value in moments(name, images.x))
            others[name] = accuracy(replace(images, mean=mean, std=std))
    chance = most + 2 * (most * (1 - most) / len(y)) ** 0.5  # two standard deviations above
    if share <= chance or share + 0.1 < max(others.values(), default=0):
        hint = ", ".join(f"{name} {100 * value:.0f} %" for name, value in others.items())
        raise SettingsError(
            f"the model names {100 * share:.0f} % of {len(y)} training images right (always naming one class:"
            f" {100 * most:.0f} %): check {check}{hint and f'; normalise {hint}'}"
        )
    return share


def has_features(model, images):
    r"""Whether the last linear layer makes the logits, so its input can stand for features."""
    try:
        with torch.no_grad():
            logits, features = models.features(model, _two(images))
            return features.ndim == 2 and torch.allclose(models.head(model)(features), logits, atol=1e-3, rtol=1e-3)
    except (ValueError, RuntimeError):
        return False
