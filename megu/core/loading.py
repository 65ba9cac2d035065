r"""A classifier that a user brings: read, checked before any work, never altered."""

import logging
import math
from contextlib import suppress
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from megu.core import keymap, models
from megu.core.adapted import adapted, copy_of, tensors, trainable, unwrapped, why
from megu.core.architectures import builders
from megu.core.device import generator, seeded
from megu.core.train import predict
from megu.core.weights import read_tensors
from megu.datasets.user_images import moments
from megu.settings.errors import MeguError, SettingsError
from megu.settings.files import hash_bytes
from megu.settings.known import NORMALISE, check_arch


def read_model(path, arch, num_classes, shape) -> nn.Module:
    r"""A classifier from a safetensors file, in eval mode.

    Args:
        arch: a torchvision classifier, one of ours, ``timm:NAME``, ``hf:FOLDER`` with the config.json of transformers,
            or ``module:function`` (``file.py:function``) of your own that returns an ``nn.Module``: called with
            ``num_classes`` and ``in_channels`` where it names them, else with the number of classes where its first
            argument needs a value, else with nothing.  The names in the file: see `megu.core.keymap`.
        shape: (C, H, W) of the images, or (H, W) for the file's channels.
    Raises: SettingsError where the file is none, damaged, a pickle, or of another architecture.
    """
    check_arch(arch)
    state, reasons = read_tensors(path, "model"), []
    if len(shape) == 2:  # of grey or of colour images
        channels = {tensor.shape[1] for tensor in state.values() if tensor.ndim == 4}
        shape = (1 if 1 in channels and 3 not in channels else 3, *shape)
    for build in builders(arch, num_classes, shape):
        with seeded(generator(0, "blank")):
            model = _built(build, arch)
        for found, named, said in keymap.readings(state, unwrapped(model)):
            own = tensors(model)
            misfit = misfits({other: own[name] for name, other in named.items()}, found)
            if not misfit:
                for line in said:
                    logging.getLogger("megu").warning("%s: %s", path.name, line)
                net = unwrapped(model)
                net.load_state_dict(net.state_dict() | {name: found[other] for name, other in named.items()})
                return model.eval()
            reasons.append(misfit)
    what = f"{path.name} is no {arch} with {num_classes} classes ({min(reasons, key=lambda one: one[0])[1]})"
    raise SettingsError(f"{what}: check arch, and that the classes are those it was trained on")


def _built(build, arch):
    try:
        return build()
    except MeguError:
        raise
    except Exception as error:  # whatever a foreign function may raise
        called = "a function is called with num_classes and in_channels where it names them, else with the number of"
        called += " classes if its first argument needs a value"
        raise SettingsError(f"arch {arch!r} cannot be built ({why(error)}): {called}") from None


def misfits(own, state):
    r"""(How many, which) tensors of a file do not fit those of a model; None where all do."""
    missing, extra = [name for name in own if name not in state], [name for name in state if name not in own]
    both = [name for name in own if name in state]
    other = [name for name in both if own[name].shape != state[name].shape]
    kinds = [name for name in both if own[name].is_floating_point() and not state[name].is_floating_point()]
    parts = [f"{len(missing)} tensors are missing, e.g. {name}" for name in missing[:1]]
    parts += [f"{len(extra)} are unknown, e.g. {name}" for name in extra[:1]]
    parts += [f"{name} is {tuple(state[name].shape)}, not {tuple(own[name].shape)}" for name in other[:1]]
    parts += [f"{name} holds {state[name].dtype}, not {own[name].dtype}: no quantised weights" for name in kinds[:1]]
    return (len(missing + extra + other + kinds), "; ".join(parts)) if parts else None


def channels_of(model, size: tuple[int, int] | None = None) -> int:
    r"""Channels that a classifier's first convolution takes; without one, 3 or 1, as images of a size (height, width)
    are taken; else 3."""
    if found := next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), None):
        return found
    with (
        suppress(Exception),
        torch.no_grad(),
    ):  # whatever a foreign forward() may raise; it is said where all is checked
        probe = copy_of(unwrapped(model)).float().eval()
        for channels in (3, 1) if size else ():
            with suppress(Exception):
                probe(torch.zeros(1, channels, *size))
                return channels
    return 3


def count_classes(model, x) -> int:
    r"""How many classes a classifier tells apart, from its outputs for a few images.

    Raises: SettingsError where that is not clear.
    """
    with torch.no_grad():
        return adapted(copied(model, "model"), x, None)(x).shape[1]


def weights_digest(model) -> str:
    r"""SHA-256 of a model's tensors in the order of ``state_dict``.

    Of each the UTF-8 of ``name dtype shape``, e.g. ``head.bias torch.float32 (10,)``, then its values, row by row as
    they lie in memory (little-endian).
    """
    parts = []
    for name, tensor in tensors(model).items():
        bits = tensor.cpu().contiguous().reshape(-1).view(torch.uint8)
        parts += [f"{name} {tensor.dtype} {tuple(tensor.shape)}", bits.numpy()]
    return hash_bytes(*parts)


def copied(model, what) -> nn.Module:
    r"""A copy of what `unwrapped` gives, in float32.  Raises: SettingsError where it is none, or cannot be copied."""
    if isinstance(model, torch.jit.ScriptModule):
        remedy = "give the nn.Module that it was made of, with its weights (scripted.state_dict() has them)"
        raise SettingsError(f"{what} is TorchScript, whose layers cannot be trained one by one: {remedy}")
    if not isinstance(model, nn.Module):
        kind = type(model).__name__
        raise SettingsError(f"{what} is a {kind}: give a torch.nn.Module that maps images to logits")
    for name, module in model.named_modules():
        if ".quantized." in f"{type(module).__module__}.":
            remedy = "which cannot be trained: give the model that it was made of"
            raise SettingsError(f"{what} has quantised layers ({name}: {type(module).__name__}), {remedy}")
    for name, tensor in tensors(model).items():
        if is_lazy(tensor) or tensor.is_meta:
            raise SettingsError(f"{what}: {name} has no values yet: load its weights, and run lazy layers once")
    try:
        copy = copy_of(unwrapped(model))
        kinds = {tensor.dtype for tensor in tensors(copy).values() if tensor.is_floating_point()} - {torch.float32}
        if kinds:
            told = "%s has weights in %s: it is worked on, and given back, in float32"
            logging.getLogger("megu").warning(told, what, ", ".join(sorted(map(str, kinds))))
        return copy.float()
    except Exception as error:  # whatever a foreign module may hold
        remedy = "give one that copy.deepcopy can copy, and run lazy layers once"
        raise SettingsError(f"{what} cannot be copied ({why(error)}): {remedy}") from None


def check_and_copy(model, images, what="model") -> nn.Module:
    r"""A copy to work on, in eval mode, which gives logits, see `megu.core.adapted.adapted`.

    Raises: SettingsError where the model is none, or weights or logits are not finite or not of the classes.
    """

    def refuse(wrong, why):
        if wrong:
            raise SettingsError(f"{what}{why}")

    no_numbers = "that are no numbers (NaN or infinite): give weights that work"
    copy = copied(model, what).to(images.x.device)
    for name, tensor in tensors(copy).items():
        broken = int((~tensor.isfinite()).sum()) if tensor.is_floating_point() else 0
        refuse(broken, f": {name} has {broken} values {no_numbers}")
    refuse(not [*copy.parameters()], " has no weights that could forget: give a network that was trained")
    refuse(not trainable(copy), " has frozen weights only: set requires_grad to True where they may change")
    try:
        copy = adapted(copy, _few(images), images.num_classes, what)
    except SettingsError:
        raise
    except Exception as error:  # whatever a foreign forward() may raise
        shape = images.shape
        raise SettingsError(f"{what} takes no images of shape {shape} ({why(error)}): check size, channels") from None
    copy.zero_grad(set_to_none=True)
    return copy


def _few(images, most=8):
    count = min(most, images.num_train)
    return images.batch(torch.arange(count, device=images.x.device) * images.num_train // count)


def check_accuracy(model, images, index: Int64[Tensor, " n"], check="normalise, size and the order of the classes"):
    r"""Share of a sample of training images that the model names right.

    Raises: SettingsError where that is no better than chance, or another normalisation of 8-bit images far better.
    """
    index = _sample(index)
    (share, chance, limit), others = _right(model, images, index), {}
    if images.x.dtype == torch.uint8:
        for name in (*NORMALISE, "data"):
            mean, std = (value.to(index.device) for value in moments(name, images.x))
            others[name] = _right(model, replace(images, mean=mean, std=std), index, tried=True)[0]
    if share <= limit or share + 0.1 < max(others.values(), default=0):
        hint = ", ".join(f"{name} {100 * value:.0f} %" for name, value in others.items())
        raise SettingsError(
            f"the model names {100 * share:.0f} % of {len(index)} training images right ({100 * chance:.0f} % by"
            f" chance): check {check}{hint and f'; normalise {hint}'}"
        )
    return share


def check_unseen(model, images, index: Int64[Tensor, " n"]):
    r"""Say where a model that knows its training images names 20 or more unseen ones no better than by chance."""
    if len(index) >= 20:
        share, chance, limit = _right(model, images, index := _sample(index))
        if share <= limit:
            what = f"{100 * share:.0f} % of {len(index)} test images right ({100 * chance:.0f} % by chance)"
            asked = "are they prepared (size, normalisation) and their classes numbered as those of training images?"
            logging.getLogger("megu").warning(f"the model names {what}: {asked}")


def _sample(index):
    # At random: where labels repeat with a period, every k-th image can be of one class.
    return index[torch.randperm(len(index), generator=generator(0, "accuracy"))[:500].to(index.device)]


def _right(model, images, index, tried=False):
    # (Share named right, what the same names at random places would give, two standard deviations above that.)
    logits, y = predict(model, images, index), images.y[index]
    if (wrong := int((~logits.isfinite()).any(1).sum())) and not tried:
        what = f"the model gives logits that are no numbers (NaN or infinite) for {wrong} of {len(y)} images"
        raise SettingsError(f"{what}: mend it, or leave such images out (of one colour?)")
    named = logits.argmax(1)
    counts = (v.bincount(minlength=images.num_classes).double() / len(y) for v in (y, named))
    chance = math.prod(counts).sum().item()
    share = (named == y).double().mean().item()
    return share, chance, chance + 2 * (chance * (1 - chance) / len(y)) ** 0.5


def linear_head(model: nn.Module, images) -> nn.Linear | None:
    r"""The linear layer that makes the logits, perhaps before a softmax, of what is called last; None without one."""
    close = partial(torch.allclose, atol=1e-3, rtol=1e-3)
    try:
        with torch.no_grad():
            logits, features = models.features(model, _few(images, 2))
            for layer in model.modules():
                if isinstance(layer, nn.Linear) and (layer.in_features, layer.out_features) == (
                    features.shape[1], logits.shape[1],
                ):  # fmt: skip
                    made = layer(features)
                    if close(made, logits) or close(made.log_softmax(1), logits.log_softmax(1)):
                        return layer
    except (ValueError, RuntimeError):
        pass
    return None


def has_features(model, images):
    r"""Whether a linear layer that is called last makes the logits, so its input can stand for features."""
    return linear_head(model, images) is not None
