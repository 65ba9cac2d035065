r"""Two sets of weights: names in a file, behind a prefix, with counters, or as others give them; two models.

A ResNet's in weiaicunzai/pytorch-cifar100, which the public unlearning code uses; a ViT's in other versions of
transformers.
"""

import logging
from itertools import product

import torch
from torch import nn

from megu.core import weights
from megu.core.adapted import tensors
from megu.core.networks import ResNet
from megu.settings.errors import SettingsError

_LOG = logging.getLogger("megu")
_ENDS = {"stem": "conv1", "head": "fc"}
_BODY = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4}  # places in ``residual_function``
_COMPILED = "_orig_mod."
_BATCHES = "num_batches_tracked"
# One number each, of tools that count beside the weights: operations (thop), averaged models, steps.
_COUNTERS = {_BATCHES, "total_ops", "total_params", "n_averaged", "num_updates", "epoch", "step"}


def theirs(name, blocks):
    r"""The name there of a tensor of a `megu.core.models.ResNet` with so many ``blocks`` in its stages.

    >>> theirs("stem.0.weight", (2, 2, 2, 2)), theirs("layers.3.bn2.running_var", (2, 2, 2, 2))
    ('conv1.0.weight', 'conv3_x.1.residual_function.4.running_var')
    """
    top, _, rest = name.partition(".")
    if top != "layers":
        return f"{_ENDS[top]}.{rest}"
    block, part, rest = rest.split(".", 2)
    places = [f"conv{stage + 2}_x.{i}" for stage, count in enumerate(blocks) for i in range(count)]
    part = f"residual_function.{_BODY[part]}" if part in _BODY else part
    return f"{places[int(block)]}.{part}.{rest}"


def prefixes(names):
    r"""What all names begin with, up to each dot, nothing first.

    >>> prefixes(["net.body.0.weight", "net.body.1.weight"])
    ['', 'net.', 'net.body.']
    """
    shared, out = set.intersection(*({*_starts(name)} for name in names)) if names else set(), [""]
    return out + sorted(shared, key=len)


def _starts(name):
    return (name[: i + 1] for i, letter in enumerate(name) if letter == ".")


def readings(state, model):
    r"""What a file may mean: (its tensors, name in the model -> name in the file, what is to be said), in turn.

    Counters that the model lacks are left out; a prefix of all names may stand in the file or in the model alone.
    Counts of batches may be missing, as an old PyTorch wrote none.
    """
    own = tensors(model)
    counts = _COUNTERS - {name.rpartition(".")[2] for name in own}
    extra = [name for name, x in state.items() if x.numel() <= 1 and name.rpartition(".")[2] in counts]
    left = [f"{len(extra)} counters were left out, e.g. {name}" for name in extra[:1]]
    if any(_COMPILED in name for name in state):  # also of compiled parts
        left.append(f"{_COMPILED!r}, which torch.compile writes into names, was taken off")
    state = {name.replace(_COMPILED, ""): x for name, x in state.items() if name not in extra}
    state, aside = _without_others(state, own)
    left += [f"{len(aside)} tensors beside the network were left out, e.g. {name}" for name in aside[:1]]
    other = isinstance(model, ResNet) and any("_x." in name for name in state)

    def without(before):
        return left + ([f"the prefix {before!r} of all names was taken off"] if before else [])

    for before, inside in product(prefixes(state), prefixes(own)):
        bare = {name: name[len(inside) :].replace(_COMPILED, "") for name in own}
        named = {name: before + (theirs(short, model.blocks) if other else short) for name, short in bare.items()}
        yield state, _without_counts(named, state), without(before)
    inside, net = _of_transformers(model)
    for before in prefixes(state) if net else ():
        if found := weights.translated(net, {name[len(before) :]: x for name, x in state.items()}):
            named = {name: name.removeprefix(inside) for name in own}
            yield found, named, [*without(before), "names of another version of transformers were translated"]


def _without_others(state, own):
    # A training's checkpoint has the network under a name of its own, beside a loss with weights, or an average of it.
    needed = [name for name in own if not name.endswith(_BATCHES)]
    tops = {name.removesuffix(needed[0]) for name in state if needed and name.endswith(needed[0])}
    whole = sorted(top for top in tops if all(top + name in state for name in needed))
    if len(whole) > 1:
        places = ", ".join(top.rstrip(".") or "plain names" for top in whole)
        remedy = f"save one alone ({{name.removeprefix('{whole[-1]}'): x for name, x in state.items() if ...}})"
        raise SettingsError(f"the weights are there {len(whole)} times, as {places}: {remedy}")
    kept = {name: x for name, x in state.items() if not whole or name.startswith(whole[0])}
    return kept, [name for name in state if name not in kept]


def _without_counts(named, state):
    counted = any(name.endswith(_BATCHES) for name in state)
    return {name: other for name, other in named.items() if counted or not name.endswith(_BATCHES)}


def _of_transformers(model):
    nets = ((name, net) for name, net in model.named_modules() if hasattr(type(net), "from_pretrained"))
    return next(((f"{name}." if name else "", net) for name, net in nets if hasattr(net, "config")), ("", None))


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


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether two models have the same weights, whatever they are called, and rounded to 16 bits or not."""
    one, other = ([value for value in tensors(model).values() if value.is_floating_point()] for model in (one, other))
    alike = (a.shape == b.shape and torch.allclose(a, b, 2**-8, 1e-7) for a, b in zip(one, other, strict=False))
    return len(one) == len(other) and all(alike)


def say_hooks(model):
    r"""Say that no copy keeps hooks on gradients."""
    hooked = [name for name, weight in model.named_parameters() if weight._backward_hooks]
    if hooked:
        what = f"{len(hooked)} weights have hooks on their gradients ({', '.join(hooked[:3])}), which no copy keeps"
        _LOG.warning(f"{what}: set requires_grad to False where a weight shall stay")


def say_other_kind(model, reference):
    r"""Say that the reference is no network of the model's kind."""
    one, other = (sorted(tuple(weight.shape) for weight in net.parameters()) for net in (model, reference))
    if one != other:
        told = "the reference is of another architecture, as its weights have other shapes"
        _LOG.warning(f"{told}: what is near to it was not shown to be near to the model retrained; give such a one")


def say_zeros(before, after):
    r"""Say that pruned weights were trained, too: less than half of the zeros in the layers of a model are left."""
    layers = ([weight for weight in model.parameters() if weight.ndim > 1] for model in (before, after))
    had, left = (
        sum(int((w == 0).sum()) for w in weights) / max(1, sum(w.numel() for w in weights)) for weights in layers
    )
    if had > 0.1 and left < had / 2:
        _LOG.warning(f"{100 * had:.0f} % of the weights of the layers were 0, now {100 * left:.0f} % are")
