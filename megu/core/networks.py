r"""The classifiers that are built here."""

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

from megu.core import weights as pretrained
from megu.core.adapted import copy_of
from megu.core.device import generator, seeded
from megu.settings.errors import SettingsError

# (blocks, widths) of the stages
RESNETS = {"resnet-small": ((1,) * 4, (16, 32, 64, 128)), "resnet18": ((2,) * 4, (64, 128, 256, 512))}
# (convolutions of a group, widths of the groups)
AIRBENCH = {"airbench": (2, (64, 256, 256)), "airbench-wide": (3, (128, 384, 576))}
STEMS = {  # as a checkpoint names them
    **dict.fromkeys(RESNETS, "convolution 3 x 3, stride 1, no pooling (CIFAR)"),
    **dict.fromkeys(AIRBENCH, "whitening convolution 2 x 2 of the training images' patches, no padding"),
    "vit-tiny": "patches of 4 px at the images' own size",
    "vit-b16": "patches of 16 px, images resized to 224 px",
}


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


class _Whitening(nn.Conv2d):
    # 2 x 2, no padding; its filters are no parameters, but taken from the images of a training.

    def __init__(self, channels):
        super().__init__(channels, 8 * channels, 2)
        filters = self.weight.detach()
        del self.weight
        self.register_buffer("weight", filters)

    def whiten(self, x):
        patches = x.unfold(2, 2, 1).unfold(3, 2, 1).transpose(1, 3).flatten(3).flatten(0, 2).double()
        values, axes = torch.linalg.eigh(patches.T @ patches / len(patches))
        scaled = (axes / (values + 5e-4).sqrt()).T.view(-1, x.shape[1], 2, 2)
        self.weight.copy_(torch.cat([scaled, -scaled]))


class _Conv(nn.Conv2d):
    # 3 x 3; starts as the identity where it can.

    def __init__(self, width_in, width):
        super().__init__(width_in, width, 3, 1, 1, bias=False)

    def reset_parameters(self):
        super().reset_parameters()
        nn.init.dirac_(self.weight.data[: self.in_channels])


class _Norm(nn.BatchNorm2d):
    # Without scale.

    def __init__(self, width):
        super().__init__(width, momentum=0.4, affine=False)
        self.bias = nn.Parameter(torch.zeros(width))

    def reset_parameters(self):
        super().reset_parameters()
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class _Group(nn.Module):
    def __init__(self, width_in, width, convolutions):
        super().__init__()
        self.first = nn.Sequential(_Conv(width_in, width), nn.MaxPool2d(2), _Norm(width), nn.GELU())
        more = [layer for _ in range(convolutions - 1) for layer in (_Conv(width, width), _Norm(width), nn.GELU())]
        self.more, self.residual = nn.Sequential(*more), convolutions > 2

    def forward(self, x):
        x = self.first(x)
        return x + self.more(x) if self.residual else self.more(x)


class Airbench(nn.Module):
    r"""Convolutional network that trains in few epochs: a frozen whitening stem, wide groups with max-pooling, GELU,
    batch normalisation without scale, a head whose input is scaled down.

    Args: convolutions: of each group; of three, the last two are bridged.  widths: of the groups.
    Source: Jordan 2024, arXiv 2404.00498, with its recipe: epochs=10 batch=1024 lr=1.5 momentum=0.85
        weight_decay=0.00133 norm_bias_lr=64 label_smoothing=0.2 lookahead=5 schedule=triangular
        augment.padding=reflection augment.flip=alternate.  Departs: the bias of the stem is trained to the end; torch's
        epsilon in the normalisation; the maximum of the last map, whatever its size.
    """

    def __init__(self, num_classes, channels, convolutions, widths):
        super().__init__()
        self.stem = _Whitening(channels)
        ins = (self.stem.out_channels, *widths)
        self.layers = nn.Sequential(*(_Group(a, b, convolutions) for a, b in zip(ins, widths, strict=False)))
        self.head = nn.Linear(widths[-1], num_classes, bias=False)

    def forward(self, x):
        """``(n, C, H, W)`` float, of at least 9 px, to logits ``(n, K)``."""
        return self.head(self.layers(F.gelu(self.stem(x))).amax((2, 3)) / 9)

    @torch.no_grad()
    def prepare(self, x):
        r"""Before a training: the stem's filters are $\pm v_i / \sqrt{\lambda_i + 0.0005}$, with eigenvectors $v_i$ and
        eigenvalues $\lambda_i$ of the second moments of 2 x 2 patches of images ``(n, C, H, W)`` of this training."""
        self.stem.whiten(x)


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
        arch: see `megu.settings.config.Settings`; an `Airbench` is to be ``prepare``d.  shape: (C, H, W) of the images.
        seed, purpose: see `megu.core.device.generator`.  weights: of vit-b16, see `megu.core.weights.find`.
    Raises: SettingsError where the ImageNet weights cannot be had, or the images have too few channels or pixels.
    """
    with seeded(generator(seed, purpose, "weights")):
        if arch in RESNETS:
            return ResNet(num_classes, shape[0], *RESNETS[arch]).to(memory_format=torch.channels_last)
        if arch in AIRBENCH:
            if min(shape[1:]) < 9:
                raise SettingsError(f"arch {arch} takes images of at least 9 px, not {min(shape[1:])}: use vit-tiny")
            return Airbench(num_classes, shape[0], *AIRBENCH[arch]).to(memory_format=torch.channels_last)
        if arch == "vit-tiny":
            size = {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 192}
            images = {"image_size": shape[1], "num_channels": shape[0], "patch_size": 4}
            return ViT(pretrained.blank(num_labels=num_classes, **size, **images))
        if shape[0] != 3:
            raise SettingsError(f"arch vit-b16 takes images of 3 channels, these have {shape[0]}: use arch vit-tiny")
        return ViT(pretrained.vit_b16(num_classes, weights))


def prepare(model: nn.Module, images, index: Int[Tensor, " n"]) -> None:
    r"""What an untrained network takes from its training images before the first step: see `Airbench.prepare`.

    Args: images: `megu.datasets.images.Images`.  index: those that it is trained on; about a million patches are used.
    """
    if isinstance(model, Airbench):
        height, width = images.shape[1:]
        model.prepare(images.batch(index[:: -(-len(index) * height * width // 1_000_000)]))


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
