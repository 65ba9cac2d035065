r"""A classifier that a user brings: read from safetensors, checked before any work, never altered."""

import difflib
import hashlib
import importlib
from dataclasses import replace

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from megu.core import keymap, models
from megu.core.device import generator, seeded
from megu.core.train import predict
from megu.datasets.folder import NORMALISE, moments
from megu.settings.errors import SettingsError

OURS = (*models.RESNETS, "vit-tiny", "vit-b16")
_FIRST = (
    "stem.0.weight",
    "conv1.0.weight",
    "net.vit.embeddings.patch_embeddings.projection.weight",
)  # what sees the images in ours
_PROBED = 500  # training images that the model is tried on before anything starts


def from_file(path, arch):
    r"""A function of (K, (height, width)) that gives the classifier of a file, see `read_model`; the file is looked at
    now."""
    state = read_weights(path)
    channels = next(
        (
            state[name].shape[1]
            for name in state
            if name.removeprefix(keymap.wrapped(state)) in _FIRST and state[name].ndim == 4
        ),
        3,
    )
    return lambda num_classes, size: read_model(path, state, arch, num_classes, (channels, *size))


def read_model(path, state, arch, num_classes, shape):
    r"""A classifier from the tensors of a safetensors file.

    Args:
        path: of the file, for messages.  state: its tensors by name.
        arch: name of a torchvision classifier, of one of ours, or ``module:function`` of your own (called with K, gives
            an ``nn.Module``). A ResNet of ours may also have the names of weiaicunzai/pytorch-cifar100, see
            `megu.core.keymap`.
        num_classes: K.  shape: (C, H, W) of the images.
    Returns: ``nn.Module`` in eval mode.
    Raises: SettingsError where the file is none, damaged, a pickle, or of another architecture.
    """
    reasons = []
    for build in builders(arch, num_classes, shape):
        with seeded(generator(0, "blank")):
            model = build()
        named = names_in(state, model)
        own = model.state_dict()
        misfit = misfits({other: own[name] for name, other in named.items()}, state)
        if not misfit:
            model.load_state_dict(own | {name: state[other] for name, other in named.items()})
            return model.eval()
        reasons.append(misfit)
    raise SettingsError(
        f"{path.name} is no {arch} with {num_classes} classes ({min(reasons)[1]}): check arch, and that the classes are"
        " those it was trained on"
    )


def read_weights(path):
    r"""The tensors of a safetensors file by name.  Raises: SettingsError where it is none; nothing else is ever
    opened."""
    if not path.is_file():
        raise SettingsError(f"model {path.name!r} does not exist: give a .safetensors file")
    with open(path, "rb") as file:
        head = file.read(9)
    if path.suffix != ".safetensors" or head[:2] in (b"PK", b"\x80\x02") or head[8:] != b"{":
        raise SettingsError(
            f"model {path.name!r} is not a safetensors file, and nothing else is opened, since a pickle can run code:"
            " save it by safetensors.torch.save_file(model.state_dict(), 'model.safetensors'); the tensors of a .pth"
            " that you trust are torch.load(file, weights_only=True)"
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise SettingsError(
            f"model {path.name!r} is damaged ({str(error).splitlines()[0][:100]}): save or copy it again"
        ) from None


def builders(arch, num_classes, shape):
    r"""Functions that build a classifier called ``arch``: torchvision's, ours, or the user's own."""
    if ":" in arch:
        module, _, function = arch.partition(":")
        try:
            make = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise SettingsError(
                f"arch {arch!r} cannot be imported ({error}): give module:function of a module that Python finds here"
            ) from None
        return [lambda: make(num_classes)]
    from torchvision import models as theirs  # noqa: PLC0415  (slow import, rarely needed)

    known = theirs.list_models(module=theirs)
    out = [lambda: theirs.get_model(arch, weights=None, num_classes=num_classes)] if arch in known else []
    out += [lambda: models.build(arch, num_classes, shape, 0, weights="random")] if arch in OURS else []
    if not out:
        near = difflib.get_close_matches(arch, [*OURS, *known], n=3, cutoff=0.4)
        raise SettingsError(
            f"arch {arch!r} does not exist; did you mean {' or '.join(map(repr, near or OURS))}? choose a classifier of"
            f" torchvision.models, one of ours ({', '.join(OURS)}), or module:function of your own"
        )
    return out


def names_in(state, model):
    r"""What each tensor of a model is called in a file: the same, or as `megu.core.keymap.theirs` says; either behind
    `megu.core.keymap.wrapped`.

    Where a file has no numbers of batches that layers have seen, as of old versions of PyTorch, they are left out and
    start at 0.
    """
    own = model.state_dict()
    before = "" if keymap.wrapped(own) else keymap.wrapped(state)
    other = isinstance(model, models.ResNet) and keymap.spoken(state)
    names = {name: before + (keymap.theirs(name, model.blocks) if other else name) for name in own}
    counted = any(name.endswith(".num_batches_tracked") for name in state)
    return {name: there for name, there in names.items() if counted or not name.endswith(".num_batches_tracked")}


def misfits(own, state):
    r"""How many tensors of a file do not fit those of a model (both by the file's names), and in a few words which;
    None where all do."""
    missing, extra = [name for name in own if name not in state], [name for name in state if name not in own]
    other = [name for name in own if name in state and own[name].shape != state[name].shape]
    parts = [
        f"{len(names)} {what}, e.g. {names[0]}"
        for names, what in ((missing, "tensors are missing"), (extra, "are unknown"))
        if names
    ]
    parts += [f"{name} is {tuple(state[name].shape)}, not {tuple(own[name].shape)}" for name in other[:1]]
    return (len(missing) + len(extra) + len(other), "; ".join(parts)) if parts else None


def channels_of(model):
    r"""Channels of the images that a classifier takes: those of its first convolution, else 3."""
    return next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), 3)


def weights_digest(model):
    r"""SHA-256 over names and bits of all tensors of a model."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(
            f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
            + tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()


def working_copy(model, images, what="model"):
    r"""A copy to work on, in eval mode, once it is sure that it can be worked on.

    Args:
        model: ``nn.Module``, images to logits; not altered.
        images: `megu.datasets.images.Images`.
        what: for messages.
    Raises: SettingsError where the model is none, holds NaN, does not take these images, or does not give one finite
        logit for each class.
    """
    if not isinstance(model, nn.Module):
        raise SettingsError(f"{what} is a {type(model).__name__}: give a torch.nn.Module that maps images to logits")
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise SettingsError(
                f"{what}: {name} has {int((~tensor.isfinite()).sum())} values that are no numbers (NaN or infinite):"
                " give weights that work"
            )
    try:
        copy = models.copy_of(model).to(images.x.device).eval()
        with torch.no_grad():
            logits = copy(images.batch(torch.arange(2, device=images.x.device)))
    except SettingsError:
        raise
    except Exception as error:  # whatever a foreign forward() may raise
        why = (str(error).splitlines() or [""])[0][:150]
        raise SettingsError(
            f"{what} cannot take images of shape {images.shape} ({type(error).__name__}: {why}): check size and"
            " channels"
        ) from None
    if not isinstance(logits, torch.Tensor):
        raise SettingsError(
            f"{what} gives a {type(logits).__name__}: wrap it in a module whose forward returns the logits, a tensor"
            " (n, classes)"
        )
    if logits.shape != (2, images.num_classes):
        raise SettingsError(
            f"{what} gives {tuple(logits.shape)} for 2 images, but there are {images.num_classes} classes: give the"
            " classes that it was trained on"
        )
    if not logits.isfinite().all():
        raise SettingsError(f"{what} gives logits that are no numbers (NaN or infinite): give weights that work")
    if not any(True for _ in copy.parameters()):
        raise SettingsError(f"{what} has no weights, so there is nothing that could forget")
    copy.zero_grad(set_to_none=True)
    return copy.requires_grad_(True)


def knows(model, images, index, check="normalise, size and the order of the classes"):
    r"""Share of a sample of training images that the model names right, in [0, 1].

    Args:
        model: images to logits.  images: `megu.datasets.images.Images`.  index: ``(n,)`` int64, training images.
        check: what the user can look at, for the message.
    Raises: SettingsError where that is no better than chance, or where another normalisation of 8-bit images would be
        far better.
    """
    index = index[:: max(1, len(index) // _PROBED)]
    y = images.y[index]

    def right(images):
        return (predict(model, images, index).argmax(1) == y).double().mean().item()

    share, most, others = right(images), y.bincount().max().item() / len(y), {}
    if images.x.dtype == torch.uint8:
        for name in (*NORMALISE, "data"):
            mean, std = (value.to(y.device) for value in moments(name, images.x))
            others[name] = right(replace(images, mean=mean, std=std))
    chance = (
        most + 2 * (most * (1 - most) / len(y)) ** 0.5
    )  # always naming the most frequent class, and two standard deviations
    if share <= chance or share + 0.1 < max(others.values(), default=0):
        hint = (
            "; normalise " + ", ".join(f"{name} {100 * value:.0f} %" for name, value in others.items())
            if others
            else ""
        )
        raise SettingsError(
            f"the model names {100 * share:.0f} % of {len(y)} training images right (always naming one class:"
            f" {100 * most:.0f} %): check {check}{hint}"
        )
    return share


def has_features(model, images):
    r"""Whether the input of the last linear layer is what the logits are made of, so that features can be looked at."""
    x = images.batch(torch.arange(2, device=images.x.device))
    try:
        with torch.no_grad():
            logits, found = models.features(model, x)
            return found.ndim == 2 and torch.allclose(models.head(model)(found), logits, atol=1e-3, rtol=1e-3)
    except (ValueError, RuntimeError):
        return False
