r"""Which weights a classifier's answer is made of, by the graph that autograd keeps of it."""

import logging

from torch import Tensor, nn

from megu.settings.errors import SettingsError

_log = logging.getLogger("megu")


def sources(found: Tensor) -> dict[int, Tensor]:
    r"""The leaves that take a gradient from a tensor, by their ``id``."""
    todo, seen, out = [found.grad_fn], {None}, {}
    while todo:
        if (node := todo.pop()) not in seen:
            seen.add(node)
            todo += [before for before, _ in node.next_functions]
            if (leaf := getattr(node, "variable", None)) is not None:
                out[id(leaf)] = leaf
    return out


def _is_mask(tensor):
    return bool(((tensor == 0) | (tensor == 1) | tensor.isinf()).all())


def check_modes(model: nn.Module, what: str):
    r"""A model in eval mode.  Raises: SettingsError where a method of its own does not change modes as torch's does."""
    try:
        if model.train(False) is not model:
            raise TypeError("it does not return the model")
    except TypeError as error:
        raise SettingsError(f"{what}.train is unlike torch's ({error}): let it take a mode, and return self") from None


def check_sources(model: nn.Module, x: Tensor, taught: Tensor, given: Tensor, what: str):
    r"""What the logits ``taught``, in training mode, and ``given``, in eval mode, of images ``x`` are made of.

    Weights that have no part in the former are said.  Raises: SettingsError where the former are made of weights that
    are none of the model's, or the latter of none that is trained.
    """
    weights, taught, given = {id(w): name for name, w in model.named_parameters()}, sources(taught), sources(given)
    if outside := [str(tuple(leaf.shape)) for i, leaf in taught.items() if i not in weights and leaf is not x]:
        told = f"{what} answers by {len(outside)} weights that are no parameters of it ({', '.join(outside[:3])})"
        remedy = "register them (nn.ModuleList, no list; an attribute, no function that holds a layer)"
        raise SettingsError(f"{told}, which no file would have: {remedy}, or set requires_grad to False")
    trained = weights.keys() & taught.keys()
    if id(x) in given and trained and not trained & given.keys():
        told = f"{what} answers in eval mode by other weights than those that it trains (an average of them?)"
        raise SettingsError(f"{told}: give the part that answers as the model, or let forward use one in both modes")
    tables = [name for name, of in model.named_buffers() if of.ndim == 2 and of.is_floating_point()]
    if tables := [name for name in tables if not _is_mask(model.get_buffer(name)) and name in model.state_dict()]:
        told = "%s: no method changes the buffers %s: if they were made of images (prototypes, a memory bank), %s"
        remedy = "make them anew without those that go"
        _log.warning(told, what, ", ".join(tables[:3]) + ", ..." * (len(tables) > 3), remedy)
    if idle := [name for i, name in weights.items() if i not in trained and model.get_parameter(name).requires_grad]:
        told = "%s: %d weights have no part in the logits of a few images (%s), and stay as they are in the file, too"
        _log.warning(told, what, len(idle), ", ".join(idle[:3]) + ", ..." * (len(idle) > 3))
