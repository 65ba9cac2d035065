r"""The classifiers that are built here."""

import torch
from torch import nn
from torch.nn import functional as F

from megu.core import weights as pretrained
from megu.core.adapted import copy_of
from megu.core.device import generator, seeded
from megu.settings.errors import SettingsError

# (blocks, widths) of the stages
RESNETS = {"resnet-small": ((1,) * 4, (16, 32, 64, 128)), "resnet18": ((2,) * 4, (64, 128, 256, 512))}


class _Block(nn.Module):
    # He et al. 2016, figure 2.

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
    r"""Residual network with the CIFAR stem: a 3 x 3 convolution at full resolution, no pooling.

    Args: blocks, widths: of each stage; all but the first halve the resolution.
    Source: He et al. 2016; the stem as in the SSD code base that the paper follows.
    """

    def __init__(self, num_classes, channels, blocks, widths):
        super().__init__()
        self.blocks = tuple(blocks)
        width_in, layers = widths[0], []
        first = nn.Conv2d(channels, width_in, 3, 1, 1, bias=False)
        self.stem = nn.Sequential(first, nn.BatchNorm2d(width_in), nn.ReLU())
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
    r"""Vision transformer; images are resized batch by batch, as CIFAR of 224 px takes 36 GB.

    Args: net: `transformers.ViTForImageClassification`.
    Source: Dosovitskiy et al. 2021.  Departs: images are normalised by the moments of their training images, not by 0.5
        (Google's weights) or those of CIFAR-100 (public unlearning code).
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

    Matrix products, as the gradient of ``F.interpolate`` on a GPU is not deterministic.
    """
    with torch.autocast(x.device.type, enabled=False):
        rows, columns = (
            F.interpolate(torch.eye(n, device=x.device)[None, None], (size, n), mode="bilinear", antialias=True)[0, 0]
            for n in x.shape[-2:]
        )
        return rows @ x @ columns.T


def build(arch, num_classes, shape, seed, purpose="original", weights=None):
    r"""A new classifier on the CPU, images ``(n, C, H, W)`` to logits ``(n, K)``.

    Args:
        arch: see `megu.settings.config.Settings`.  shape: (C, H, W) of the images.
        seed, purpose: see `megu.core.device.generator`.  weights: of vit-b16, see `megu.core.weights.find`.
    Raises: SettingsError where the ImageNet weights cannot be had, or do not fit the images' channels.
    """
    with seeded(generator(seed, purpose, "weights")):
        if arch in RESNETS:
            return ResNet(num_classes, shape[0], *RESNETS[arch]).to(memory_format=torch.channels_last)
        if arch == "vit-tiny":
            size = {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 192}
            images = {"image_size": shape[1], "num_channels": shape[0], "patch_size": 4}
            return ViT(pretrained.blank(num_labels=num_classes, **size, **images))
        if shape[0] != 3:
            raise SettingsError(f"arch vit-b16 takes images of 3 channels, these have {shape[0]}: use arch vit-tiny")
        return ViT(pretrained.vit_b16(num_classes, weights))


def reset(model, seed, purpose):
    r"""A copy of any classifier with new weights by its layers' ``reset_parameters``.

    Raises: SettingsError where a weight's layer has none.
    """
    old, model = dict(model.named_parameters()), copy_of(model)
    with seeded(generator(seed, purpose, "weights")):
        drawn = set()
        for module in model.modules():
            if draw := getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None):
                draw()
                drawn |= {id(p) for p in module.parameters(recurse=False)}
    left = [name for name, p in model.named_parameters() if id(p) not in drawn or (p.ndim > 1 and p.equal(old[name]))]
    if left:  # of a weight norm the layer draws what is computed, not its parts
        what = f"{left[0]} of {type(model).__name__} has no initialiser of its layer"
        raise SettingsError(f"{what}: choose a method without an untrained network")
    return model
