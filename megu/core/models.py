r"""What is done with any classifier."""

import json
from contextlib import ExitStack, suppress
from functools import partial
from math import nan, prod
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from megu.core.adapted import as_logits, copy_of, read_output, tensors, trainable, unwrapped  # noqa: F401  (one door)
from megu.core.networks import AIRBENCH, RESNETS, Airbench, ResNet, ViT, build, prepare, reset, resized  # noqa: F401  (one door)
from megu.core.weights import read_tensors, takes
from megu.settings.errors import MeguError, SettingsError, why


def head(model: nn.Module) -> nn.Linear:
    r"""The classification head of a network of ours: the last linear layer.  Raises: ValueError where there is none."""
    if linear := [module for module in model.modules() if isinstance(module, nn.Linear)]:
        return linear[-1]
    raise ValueError(f"{type(model).__name__} has no linear layer, so its head is not known")


def activations(
    model: nn.Module, x: Float[Tensor, "n C H W"], layers: tuple[str | None, ...] = ()
) -> tuple[Float[Tensor, "n K"], dict]:
    r"""Logits and activations of layers, from one forward pass in the model's own mode.

    Args: layers: names of sub-modules whose output is wanted; None stands for what the head receives, the linear or
        convolutional layer that is called last.
    Returns: (logits, name -> ``(n, d)``, a map ``(n, d, h, w)``, or tokens ``(n, t, d)``), in the order of the pass.
    Raises: SettingsError where no such layer is called.
    """
    outputs = {}

    def keep(_, inputs, output, name):
        found = inputs if name is None else output
        outputs.pop(name, None)
        outputs[name] = found[0] if isinstance(found, tuple) else found

    with ExitStack() as hooks:
        for name in layers:
            heads = (module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d))
            for part in heads if name is None else [model.get_submodule(name)]:
                hooks.enter_context(part.register_forward_hook(partial(keep, name=name)))
        logits = model(x)
    if None in layers and None not in outputs:
        what = f"{type(model).__name__} calls no linear or convolutional layer, so its features are not known"
        raise SettingsError(f"{what}: choose a guide other than the model, or another layer")
    return logits, outputs


def pooled(found: Float[Tensor, "n _ ..."]) -> Float[Tensor, "n _"]:
    r"""Activations of each unit, averaged over a map ``(n, d, h, w)`` or tokens ``(n, t, d)``."""
    return found.mean((2, 3)) if found.ndim == 4 else found.mean(1) if found.ndim == 3 else found


def features(
    model: nn.Module, x: Float[Tensor, "n C H W"], layer: str | None = None
) -> tuple[Float[Tensor, "n K"], Float[Tensor, "n d"]]:
    r"""Logits, and `pooled` `activations` of a layer, by default what the head receives."""
    logits, outputs = activations(model, x, (layer,))
    return logits, pooled(outputs[layer])


@torch.no_grad()
def blocks(model: nn.Module, x: Float[Tensor, "n C H W"], most: int = 8) -> list[str]:
    r"""Names of a classifier's outermost blocks, which may be none, in the order of its forward pass.

    A block is a member of a ``Sequential`` or ``ModuleList`` whose members all have parts.

    Args: x: a few images.  most: of more blocks, so many at equal distances and the last.
    """
    found = [
        f"{name}.{child}".lstrip(".")
        for name, module in model.named_modules()
        if isinstance(module, nn.Sequential | nn.ModuleList) and all([*part.children()] for part in module.children())
        for child, _ in module.named_children()
    ]
    outer = tuple(name for name in found if not any(name.startswith(f"{other}.") for other in found))
    order = list(activations(model, x, outer)[1])
    return [order[round((i + 1) * len(order) / most) - 1] for i in range(most)] if len(order) > most else order


@torch.no_grad()
def collect_features(model: nn.Module, images, index: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
    """Features (what the head receives) of images ``index``, in eval mode, on their device."""
    model.eval()
    return torch.cat([features(model, images.batch(part))[1] for part in index.split(500)])


def accuracy(logits: Float[Tensor, "n K"], y: Int[Tensor, " n"]) -> float:
    """Share of right answers in percent, NaN for no images."""
    return 100 * (logits.argmax(1) == y).double().mean().item() if len(y) else nan


def share_ends(hits: int, count: int) -> tuple[float, float]:
    """Ends of the 95 % interval of the share ``hits`` / ``count`` (Wilson 1927)."""
    from scipy import stats  # noqa: PLC0415  (half a second, before any refusal)

    ends = stats.binomtest(hits, count).proportion_ci(method="wilson")
    return ends.low, ends.high


def probe(
    train_features: Float[Tensor, "n d"],
    y_train: Int[Tensor, " n"],
    features: Float[Tensor, "m d"],
    y: Int[Tensor, " m"],
    k: int,
) -> float:
    """Accuracy (percent) on ``features``, ``y`` of a linear head that is refitted on frozen features of all k classes:
    high = the body still tells the forgotten ones apart.

    Ridge regression on one-hot labels, standardised features, penalty 1e-3 n.
    """
    std, mean = torch.std_mean(train_features.double(), 0, correction=min(1, len(train_features) - 1))
    std = std.clamp_min(1e-6)
    x, z = (F.pad((f.double() - mean) / std, (0, 1), value=1.0) for f in (train_features, features))
    gram = x.T @ x
    gram.diagonal().add_(1e-3 * len(x))
    return accuracy(z @ torch.linalg.solve(gram, x.T @ F.one_hot(y_train, k).double()), y)


def asked(model: nn.Module, x: Float[Tensor, "n C H W"], what: str = "model"):
    r"""What a model gives for images.  Raises: SettingsError where it takes the first eight of them, but not all."""
    try:
        return model(x)
    except (MeguError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a foreign forward() may raise
        memory = any(word in str(error) for word in ("alloc", "CUDA", "CUBLAS"))
        if memory or len(x) <= 8 or not takes(model, x[:8]):
            raise
        told = f"{what} takes a few images, but not {len(x)} at once ({why(error)})"
        raise SettingsError(f"{told}: let forward take any number") from error


def frozen(model: nn.Module) -> nn.Module:
    r"""A copy in eval mode whose weights take no gradient."""
    return copy_of(model).eval().requires_grad_(False)


def given_back(given: nn.Module, new: nn.Module) -> nn.Module:
    r"""A copy of what was given, unwrapped, without hooks, with the weights of ``new``, in float32 and eval mode."""
    model = copy_of(unwrapped(given)).float().eval()  # before: some merge weights as they change modes
    return refilled(model, new.state_dict()).to(next(new.parameters()).device)


def refilled(model: nn.Module, state: dict) -> nn.Module:
    r"""The model with the weights of ``state``, in eval mode; what a part kept there of others goes."""
    model.load_state_dict(state)
    return model.train().eval()


@torch.no_grad()
def fingerprint(model: nn.Module, shape: tuple[int, int, int], num_classes: int) -> list[float]:
    r"""The first eight logits of one fixed pattern, which tell an activation or another forward() apart."""
    pattern = torch.arange(prod(shape), dtype=torch.float64).sin().float().view(1, *shape)
    given = copy_of(model)(pattern.to(next(model.parameters()).device))  # it may count what it is asked
    _, found, form = read_output(given, (1, num_classes), "the model")
    return as_logits(found, form)[0, :8].tolist()


def check_fingerprint(model: nn.Module, shape: tuple[int, int, int], num_classes: int, written, where: str) -> None:
    r"""Raises SettingsError where the `fingerprint` is not the one that was ``written``; None of old files will do."""
    found = written and fingerprint(model, shape, num_classes)
    if found and max(abs(a - b) for a, b in zip(found, written, strict=True)) > 0.01 * max(map(abs, written)):
        what = "the network has its weights, but gives other logits (an activation, another forward or library?)"
        raise SettingsError(f"{where}: {what}: give one of the code that the file was made with")


def save(model: nn.Module, path: Path, about: dict) -> None:
    r"""Weights as safetensors; ``about`` goes into the file's header."""
    state = {name: x.contiguous().clone() for name, x in tensors(model).items()}  # also tied ones
    save_file(state, path, {"megu": json.dumps(about)})


def about(path: Path) -> dict:
    r"""What `save` wrote into the header of a file; nothing where it was another that wrote it."""
    read_tensors(path, "model")  # refuses what is no such file
    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get("megu", "{}")
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def load(path: Path, model: nn.Module) -> nn.Module:
    r"""The model with the weights that `save` wrote, in eval mode."""
    no_tensors = {name: value for name, value in model.state_dict().items() if not isinstance(value, Tensor)}
    return refilled(model, read_tensors(path) | no_tensors)


def channels_of(model, size: tuple[int, int] | None = None) -> int:
    r"""Channels that a classifier's first convolution takes; without one, 3 or 1, as images of a size (height, width)
    are taken; else 3."""
    if found := next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), None):
        return found
    with (
        suppress(Exception),
        torch.no_grad(),
    ):  # a foreign forward() may raise anything; it is said where all is checked
        probe = copy_of(unwrapped(model)).float().eval()
        for channels in (3, 1) if size else ():
            with suppress(Exception):
                probe(torch.zeros(1, channels, *size))
                return channels
    return 3


def linear_head(model: nn.Module, images) -> nn.Linear | None:
    r"""The linear layer that makes the logits, perhaps before a softmax, of what is called last; None without one."""
    close = partial(torch.allclose, atol=1e-3, rtol=1e-3)
    try:
        with torch.no_grad():
            logits, found = features(model, images.few(2))
            for layer in model.modules():
                if isinstance(layer, nn.Linear) and (layer.in_features, layer.out_features) == (
                    found.shape[1], logits.shape[1],
                ):  # fmt: skip
                    made = layer(found)
                    if close(made, logits) or close(made.log_softmax(1), logits.log_softmax(1)):
                        return layer
    except (ValueError, RuntimeError):
        pass
    return None


def has_features(model, images):
    r"""Whether a linear layer that is called last makes the logits, so its input can stand for features."""
    return linear_head(model, images) is not None
