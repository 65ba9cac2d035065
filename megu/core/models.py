r"""The classifiers, behind one seam: every model maps images to logits, `activations` reads what any layer sees."""

import copy
import json

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from megu.core import weights as pretrained
from megu.core.device import generator, seeded
from megu.settings.errors import SettingsError

RESNETS = {  # arch -> (blocks, widths) of the stages
    "resnet-small": ((1, 1, 1, 1), (16, 32, 64, 128)),
    "resnet18": ((2, 2, 2, 2), (64, 128, 256, 512)),
}


class _Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut (He et al. 2016, figure 2)."""

    def __init__(self, width_in, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    r"""Residual network with the CIFAR stem: a 3 x 3 convolution at full resolution, no pooling before the first block.

    Args:
        num_classes: K.
        channels: of the images.
        blocks, widths: residual blocks and channels of each stage; every stage but the first halves the resolution.
    Source: He et al. 2016; the stem as in the SSD code base that the paper follows.
    """

    def __init__(self, num_classes, channels, blocks, widths):
        super().__init__()
        self.blocks = tuple(blocks)
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        layers, width_in = [], widths[0]
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            for i in range(count):
                layers.append(_Block(width_in, width, 2 if stage > 0 and i == 0 else 1))
                width_in = width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(width_in, num_classes)

    def forward(self, x):
        """``(n, C, H, W)`` float to logits ``(n, K)``."""
        return self.head(self.layers(self.stem(x)).mean((2, 3)))


class ViT(nn.Module):
    r"""Vision transformer; images of another size are resized on the device, batch by batch.

    The images stay as they are, uint8 at their own size: 184 MB for the 60,000 of CIFAR, which would be 36 GB as floats
        of 224 px. A batch of n takes 4 n C S^2 bytes at the size S of the network: 77 MB for 128 of 224 px, before the
        network's own activations.
    They are normalised as for every other network, by the moments of their own training images; Google's ViT was
    trained with mean and standard deviation 0.5, the public unlearning code gives CIFAR-100's to every data set.

    Args:
        net: `transformers.ViTForImageClassification`.
    Source: Dosovitskiy et al. 2021.
    """

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.size = net.config.image_size

    def forward(self, x):
        """``(n, C, H, W)`` float of any size to logits ``(n, K)``."""
        if x.shape[-2:] != (self.size, self.size):
            x = resized(x, self.size)
        return self.net(pixel_values=x).logits


def resized(x, size):
    r"""``(n, C, H, W)`` float to ``(n, C, size, size)``, bilinear and antialiased, in float32.

    Two matrix products give the values of ``F.interpolate``, whose gradient on a GPU is another one every time.
    """
    with torch.autocast(x.device.type, enabled=False):
        rows, columns = (
            F.interpolate(torch.eye(n, device=x.device)[None, None], (size, n), mode="bilinear", antialias=True)[0, 0]
            for n in x.shape[-2:]
        )
        return rows @ x @ columns.T


def build(arch, num_classes, shape, seed, purpose="original", weights=None):
    r"""A new classifier with weights drawn from ``seed`` and ``purpose``, ready for training.

    Args:
        arch: ``resnet-small``, ``resnet18``, ``vit-tiny`` (from a configuration) or ``vit-b16`` (ImageNet weights, a
            new head).
        num_classes: K.
        shape: (C, H, W) of the images.
        seed, purpose: see `megu.core.device.generator`.
        weights: of ``vit-b16``, see `megu.core.weights.find`.
    Returns: ``nn.Module``, images ``(n, C, H, W)`` to logits ``(n, K)``; on the CPU.
    Raises: SettingsError where the ImageNet weights cannot be had, or the images have no three channels for them.
    """
    with seeded(generator(seed, purpose, "weights")):
        if arch in RESNETS:
            return ResNet(num_classes, shape[0], *RESNETS[arch]).to(memory_format=torch.channels_last)
        if arch == "vit-tiny":
            size = {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 192}
            more = {"image_size": shape[1], "num_channels": shape[0], "patch_size": 4, "hidden_dropout_prob": 0.0}
            return ViT(pretrained.blank(num_labels=num_classes, **size, **more))
        if shape[0] != 3:
            raise SettingsError(f"arch vit-b16 takes images of 3 channels, these have {shape[0]}: use arch vit-tiny")
        return ViT(pretrained.vit_b16(num_classes, weights))


def reset(model, seed, purpose):
    r"""A copy of any classifier whose weights are drawn anew by its layers' own ``reset_parameters``.

    Args:
        model: ``nn.Module``; not altered.
        seed, purpose: see `megu.core.device.generator`.
    Raises: SettingsError where a weight belongs to no layer that can draw it anew.
    """
    model = copy_of(model)
    with seeded(generator(seed, purpose, "weights")):
        drawn = set()
        for module in model.modules():
            draw = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if draw is not None:
                draw()
                drawn |= {id(p) for p in module.parameters(recurse=False)}
    left = [name for name, p in model.named_parameters() if id(p) not in drawn]
    if left:
        raise SettingsError(
            f"an untrained {type(model).__name__} cannot be made ({left[0]} has no initialiser): choose a method"
            " without an untrained network"
        )
    return model


def head(model):
    r"""The classification head: the last linear layer of any classifier.

    Raises: ValueError where the model has no linear layer.
    """
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError(f"{type(model).__name__} has no linear layer, so its features cannot be told from its head")
    return linear[-1]


def activations(model, x, layers=()):
    r"""Logits and the activations of several layers, from one forward pass: the seam that all analyses use, for any
    classifier.

    Args:
        model: images to logits; not altered, its train or eval mode is kept.
        x: ``(n, C, H, W)`` float, normalised.
        layers: names of sub-modules whose output is wanted; None stands for what the head receives.
    Returns: (logits ``(n, K)``, name -> ``(n, d)``, a map ``(n, d, h, w)``, or tokens ``(n, t, d)``).
    """
    seen, hooks = {}, []

    def keep(name, found):
        seen[name] = found[0] if isinstance(found, tuple) else found

    try:
        for name in layers:
            if name is None:
                hooks.append(head(model).register_forward_pre_hook(lambda _, inputs: keep(None, inputs)))
            else:
                hooks.append(
                    model.get_submodule(name).register_forward_hook(lambda _, __, found, name=name: keep(name, found))
                )
        logits = model(x)
    finally:
        for hook in hooks:
            hook.remove()
    if None in layers and None not in seen:
        raise ValueError(
            f"the last linear layer of {type(model).__name__} plays no part in its logits, so its features cannot be"
            " told from its head"
        )
    return logits, {name: seen[name] for name in layers}


def pooled(found):
    r"""One number for each unit: a map ``(n, d, h, w)`` or tokens ``(n, t, d)`` averaged over their places, to ``(n,
    d)``."""
    return found.mean((2, 3)) if found.ndim == 4 else found.mean(1) if found.ndim == 3 else found


def features(model, x, layer=None):
    r"""(logits ``(n, K)``, features ``(n, d)``) of a batch: `pooled` `activations` of one layer, by default what the
    head receives."""
    logits, seen = activations(model, x, (layer,))
    return logits, pooled(seen[layer])


@torch.no_grad()
def blocks(model, x, most=8):
    r"""Names of the blocks of a network in the order of its forward pass, for analyses along the depth.

    A block is a member of a container (``Sequential``, ``ModuleList``) whose members all have parts of their own;
    blocks inside blocks are left out.

    Args:
        model: any classifier.  x: ``(n, C, H, W)`` float, images that show which modules take part.
        most: of many blocks, so many at equal distances, the last among them.
    Returns: list of names; empty where the network has no such container.
    """
    containers = [
        (name, list(module.named_children()))
        for name, module in model.named_modules()
        if isinstance(module, nn.Sequential | nn.ModuleList)
    ]
    found = [
        f"{name}.{child}".lstrip(".")
        for name, members in containers
        if all([*part.children()] for _, part in members)
        for child, _ in members
    ]
    found = {name for name in found if not any(name.startswith(f"{other}.") for other in found)}
    order, hooks = [], []
    for name in found:
        hooks.append(model.get_submodule(name).register_forward_hook(lambda _, __, ___, name=name: order.append(name)))
    try:
        model(x)
    finally:
        for hook in hooks:
            hook.remove()
    order = list(dict.fromkeys(order))
    return [order[round((i + 1) * len(order) / most) - 1] for i in range(most)] if len(order) > most else order


def copy_of(model):
    r"""A deep copy: what a method trains, while the original stays as it is bit for bit."""
    return copy.deepcopy(model)


def frozen(model):
    r"""A copy in eval mode whose weights take no gradient."""
    return copy_of(model).eval().requires_grad_(False)


def save(model, path, about):
    r"""Weights as safetensors; ``about`` (flat dictionary) goes into the file's header."""
    state = {
        name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()
    }  # tied weights: each in a place of its own
    save_file(state, path, {"megu": json.dumps(about)})


def load(path, model):
    r"""Read weights saved by `save` into a model of the same architecture; returns it in eval mode."""
    model.load_state_dict(load_file(path))
    return model.eval()
