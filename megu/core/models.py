r"""What is done with any classifier."""

import json
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from megu.core.adapted import copy_of, tensors, trainable  # noqa: F401  (one door)
from megu.core.networks import AIRBENCH, RESNETS, Airbench, ResNet, ViT, build, prepare, reset, resized  # noqa: F401  (one door)
from megu.core.weights import read_tensors
from megu.settings.errors import SettingsError


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


def frozen(model: nn.Module) -> nn.Module:
    r"""A copy in eval mode whose weights take no gradient."""
    return copy_of(model).eval().requires_grad_(False)


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
    model.load_state_dict(read_tensors(path) | no_tensors)
    return model.eval()
