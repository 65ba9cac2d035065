r"""The classifiers that are built here: ResNets with the CIFAR stem and vision transformers."""

import copy

import torch
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
        num_classes: K.  channels: of the images.
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

    The pool keeps uint8 at the images' own size: 184 MB for the 60,000 of CIFAR, which would be 36 GB as floats of 224
    px; a batch of n takes 4 n C S^2 bytes at the network's size S.  Images are normalised by the moments of their own
    training images; Google's ViT was trained with mean and standard deviation 0.5, the public unlearning code gives
    CIFAR-100's to every data set.

    Args: net: `transformers.ViTForImageClassification`.
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
    model = copy.deepcopy(model)
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
