r"""What is done with any classifier, one seam: it maps images to logits, `activations` reads what any layer sees."""

import copy
import json
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from megu.core.networks import RESNETS, ResNet, ViT, build, reset, resized  # noqa: F401  (one door to all of them)
from megu.core.tensors import read_tensors


def head(model: nn.Module) -> nn.Linear:
    r"""The classification head: the last linear layer of any classifier.

    Raises: ValueError where the model has no linear layer.
    """
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError(f"{type(model).__name__} has no linear layer, so its features cannot be told from its head")
    return linear[-1]


def activations(
    model: nn.Module, x: Float[Tensor, "n C H W"], layers: tuple[str | None, ...] = ()
) -> tuple[Float[Tensor, "n K"], dict]:
    r"""Logits and the activations of several layers, from one forward pass: the seam that all analyses use, for any
    classifier.

    Args:
        model: not altered, its train or eval mode is kept.  x: normalised.
        layers: names of sub-modules whose output is wanted; None stands for what the head receives.
    Returns: (logits, name -> ``(n, d)``, a map ``(n, d, h, w)``, or tokens ``(n, t, d)``).
    """
    outputs, hooks = {}, []

    def keep(name, output):
        outputs[name] = output[0] if isinstance(output, tuple) else output

    try:
        for name in layers:
            if name is None:
                hooks.append(head(model).register_forward_pre_hook(lambda _, inputs: keep(None, inputs)))
            else:
                hooks.append(
                    model.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: keep(name, out))
                )
        logits = model(x)
    finally:
        for hook in hooks:
            hook.remove()
    if None in layers and None not in outputs:
        raise ValueError(
            f"the last linear layer of {type(model).__name__} plays no part in its logits, so its features cannot be"
            " told from its head"
        )
    return logits, {name: outputs[name] for name in layers}


def pooled(found: Float[Tensor, "n _ ..."]) -> Float[Tensor, "n _"]:
    r"""One number for each unit: a map ``(n, d, h, w)`` or tokens ``(n, t, d)`` averaged over their places."""
    return found.mean((2, 3)) if found.ndim == 4 else found.mean(1) if found.ndim == 3 else found


def features(
    model: nn.Module, x: Float[Tensor, "n C H W"], layer: str | None = None
) -> tuple[Float[Tensor, "n K"], Float[Tensor, "n d"]]:
    r"""Logits and features of a batch: `pooled` `activations` of one layer, by default what the head receives."""
    logits, outputs = activations(model, x, (layer,))
    return logits, pooled(outputs[layer])


@torch.no_grad()
def blocks(model: nn.Module, x: Float[Tensor, "n C H W"], most: int = 8) -> list[str]:
    r"""Names of the blocks of a network in the order of its forward pass, for analyses along the depth.

    A block is a member of a container (``Sequential``, ``ModuleList``) whose members all have parts of their own;
    blocks inside blocks are left out.

    Args:
        model: any classifier.  x: images that show which modules take part.
        most: of many blocks, so many at equal distances, the last among them.
    Returns: names; none where the network has no such container.
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


def copy_of(model: nn.Module) -> nn.Module:
    r"""A deep copy: what a method trains, while the original stays as it is bit for bit."""
    return copy.deepcopy(model)


def frozen(model: nn.Module) -> nn.Module:
    r"""A copy in eval mode whose weights take no gradient."""
    return copy_of(model).eval().requires_grad_(False)


def save(model: nn.Module, path: Path, about: dict) -> None:
    r"""Weights as safetensors; ``about`` (flat dictionary) goes into the file's header."""
    state = {
        name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()
    }  # tied weights: each in a place of its own
    save_file(state, path, {"megu": json.dumps(about)})


def load(path: Path, model: nn.Module) -> nn.Module:
    r"""Read weights saved by `save` into a model of the same architecture; returns it in eval mode."""
    model.load_state_dict(read_tensors(path))
    return model.eval()
