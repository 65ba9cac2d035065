r"""What is done with any classifier."""

import copy
import json
from contextlib import ExitStack
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from megu.core.networks import AIRBENCH, RESNETS, Airbench, ResNet, ViT, build, reset, resized  # noqa: F401  (one door)
from megu.core.tensors import read_tensors


def head(model: nn.Module) -> nn.Linear:
    r"""The classification head: the last linear layer.  Raises: ValueError where there is none."""
    if linear := [module for module in model.modules() if isinstance(module, nn.Linear)]:
        return linear[-1]
    raise ValueError(f"{type(model).__name__} has no linear layer, so its head is not known")


def activations(
    model: nn.Module, x: Float[Tensor, "n C H W"], layers: tuple[str | None, ...] = ()
) -> tuple[Float[Tensor, "n K"], dict]:
    r"""Logits and activations of layers, from one forward pass in the model's own mode.

    Args: layers: names of sub-modules whose output is wanted; None stands for what the head receives.
    Returns: (logits, name -> ``(n, d)``, a map ``(n, d, h, w)``, or tokens ``(n, t, d)``), in the order of the pass.
    Raises: ValueError where the last linear layer plays no part.
    """
    outputs = {}
    with ExitStack() as hooks:
        for name in layers:

            def keep(_, inputs, output, name=name):
                found = inputs if name is None else output
                outputs[name] = found[0] if isinstance(found, tuple) else found

            part = head(model) if name is None else model.get_submodule(name)
            hooks.enter_context(part.register_forward_hook(keep))
        logits = model(x)
    if None in layers and None not in outputs:
        raise ValueError(f"the last linear layer of {type(model).__name__} plays no part in its logits")
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


def copy_of(model: nn.Module) -> nn.Module:
    r"""A deep copy, for methods to train."""
    return copy.deepcopy(model)


def frozen(model: nn.Module) -> nn.Module:
    r"""A copy in eval mode whose weights take no gradient."""
    return copy_of(model).eval().requires_grad_(False)


def save(model: nn.Module, path: Path, about: dict) -> None:
    r"""Weights as safetensors; ``about`` goes into the file's header."""
    state = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}  # also tied ones
    save_file(state, path, {"megu": json.dumps(about)})


def load(path: Path, model: nn.Module) -> nn.Module:
    r"""The model with the weights that `save` wrote, in eval mode."""
    model.load_state_dict(read_tensors(path))
    return model.eval()
