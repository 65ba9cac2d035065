r"""Weights: the one reader of safetensors, ViT-B/16 and its ImageNet weights; which of them an answer is made of."""

import json
import logging
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from megu.settings.errors import SettingsError
from megu.settings.extras import extra
from megu.settings.files import hash_weights, weights_file

HUB = "google/vit-base-patch16-224"
CONFIG = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
CONFIG |= {"image_size": 224, "patch_size": 16, "num_channels": 3}
_log = logging.getLogger("megu")


def read_tensors(path, what="weights", device="cpu"):
    r"""The tensors of a safetensors file by name, also those that ``save_model`` left out as they are tied to others.

    Args: what: for messages, e.g. ``model``.
    Raises: SettingsError where the file is missing, of another kind or damaged.
    """
    path = weights_file(path, what)
    if path.name.endswith(".index.json"):
        return _joined(path, what, device)
    try:
        found = load_file(path, device=str(device))
        with safe_open(path, "pt") as file:
            tied = (file.metadata() or {}).items()
        return found | {name: found[other] for name, other in tied if name not in found and other in found}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        why = str(error).splitlines()[0][:100]
        raise SettingsError(f"{what} {path.name!r} is damaged ({why}): save, copy or download it again") from None


def _joined(path, what, device):
    # Tensors in several files beside their index.
    try:
        names = sorted(set(json.loads(path.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"{what} {path.name!r} is no index of safetensors ({type(error).__name__})") from None
    return {key: x for name in names for key, x in read_tensors(path.parent / Path(name).name, what, device).items()}


def find(weights):
    r"""The file of the weights; None for ``random``.

    Args: weights: None for `HUB`, a ``.safetensors`` file, a folder with ``model.safetensors``, or ``random``.
    Raises: SettingsError where there is none.
    """
    if weights == "random":
        return None
    if weights is None:
        try:
            return _from_hub()
        except OSError:
            what = f"{HUB} could not be downloaded: check the network, set weights to a local folder or .safetensors"
            raise SettingsError(f"{what}, or use arch vit-tiny") from None
    path = Path(weights)
    path = path / "model.safetensors" if path.is_dir() else path
    if path.suffix != ".safetensors" or not path.is_file():
        what = f"weights {path.name!r} in {path.parent.name!r} is no .safetensors file"
        raise SettingsError(f"{what}: give one, or a folder with model.safetensors")
    return path


def _transformers():
    with extra("guides"):
        import transformers  # noqa: PLC0415  (seconds to import)
    return transformers


@cache  # it asks the hub for a newer one
def _from_hub():
    return Path(_transformers().utils.cached_file(HUB, "model.safetensors"))


def identity(weights):
    r"""The weights in a manifest: ``random``, or SHA-256 of the file."""
    path = find(weights)
    return f"sha256 {hash_weights(path)}" if path else "random"


def blank(**config):
    r"""A ViT of a configuration, weights from torch's global generator."""
    hf = _transformers()
    return hf.ViTForImageClassification(hf.ViTConfig(**config))


def vit_b16(num_classes, weights):
    r"""ViT-B/16 with a new head, drawn from torch's global generator.

    Args: weights: see `find`; with ``random`` all are drawn, for rehearsals.
    Returns: `transformers.ViTForImageClassification` in float32.
    Raises: SettingsError where the file is of another network, or not finite.
    Source: Dosovitskiy et al. 2021.  Departs: the head is new for K = 1000 as well.
    """
    path = find(weights)
    if path is None:
        return blank(num_labels=num_classes, **CONFIG)
    state = {name: x.float() for name, x in read_tensors(path).items() if not name.startswith("classifier.")}
    if broken := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
        what = f"weights {path.name!r} holds values that are no numbers (NaN or inf), e.g. in {broken[0]}"
        raise SettingsError(f"{what}: copy or download it again")
    hf = _transformers()
    net, found = _loaded(hf.ViTForImageClassification, hf.ViTConfig(num_labels=num_classes, **CONFIG), state)
    for what, kind in (("lacks", "missing"), ("has", "unexpected"), ("has in another shape", "mismatched")):
        if names := sorted(name for name in map(str, found[f"{kind}_keys"]) if not name.startswith("classifier.")):
            why = f"the file {what} {names[0]} (of {len(names)} such tensors)"
            raise SettingsError(f"weights {path.name!r} are not of {HUB}: {why}")
    return net


def translated(net, state):
    r"""A file's tensors by the names that this version of transformers gives them; None where it knows no such names.

    Args: net: a `transformers.PreTrainedModel`.
    """
    try:
        new, found = _loaded(type(net), net.config, {name: x.float() for name, x in state.items()})
    except (RuntimeError, ValueError, TypeError, KeyError):
        return None
    if found["missing_keys"] or found["unexpected_keys"]:
        return None
    return new.state_dict() | {name: torch.empty(shape) for name, shape, _ in found["mismatched_keys"]}


def _loaded(kind, config, state):
    # (A model of a class and configuration with these tensors, which of them did not fit.)
    hf, how = _transformers(), {"ignore_mismatched_sizes": True, "output_loading_info": True}
    with ExitStack() as afterwards:  # else transformers warns of the new head and shows a bar
        afterwards.callback(hf.logging.set_verbosity, hf.logging.get_verbosity())
        hf.logging.set_verbosity_error()
        if hf.logging.is_progress_bar_enabled():
            hf.logging.disable_progress_bar()
            afterwards.callback(hf.logging.enable_progress_bar)
        # Translates the names of older versions.
        return kind.from_pretrained(None, config=config, state_dict=state, **how)


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


def _may_be_of_images(of, shape, classes):
    # Rows of features, some for each class, or images; positions, filters and moments are none of these.
    tables = of.ndim == 2 or (of.ndim > 2 and (of.shape[0] == classes or of.shape[-len(shape) :] == shape))
    return tables and not _is_mask(of)


def _is_constant(value):
    return isinstance(value, Tensor) and value.is_floating_point() and value.is_leaf and value.numel() > 1


@torch.no_grad()
def takes(model: nn.Module, x: Tensor) -> bool:
    r"""Whether a foreign forward() does not fail on images."""
    with suppress(Exception):
        model(x)
        return True
    return False


def check_modes(model: nn.Module, what: str):
    r"""A model in eval mode.  Raises: SettingsError where a method of its own does not change modes as torch's does, or
    where its state lacks weights, or has others in each mode."""
    sums = []
    for name, mode in (("train", [True]), ("train", [False]), ("eval", [])):
        try:
            if getattr(model, name)(*mode) is not model:
                raise TypeError("it does not return the model")
        except Exception as error:  # whatever a foreign method may raise
            remedy = "let it take a mode, and return self (of an exported program give the nn.Module it was made of)"
            raise SettingsError(f"{what}.{name} is unlike torch's ({error}): {remedy}") from None
        state = {name: x for name, x in model.state_dict().items() if isinstance(x, Tensor)}
        sums.append({name: x.double().sum().item() for name, x in state.items() if x.is_floating_point()})
    if other := [name for name, value in sums[0].items() if value != sums[1].get(name) and value == value]:
        told = f"{what} has other weights in training than in eval mode ({other[0]}: LoRA that is merged?)"
        raise SettingsError(f"{told}: let both have the same (merge_weights=False), so that a file holds one model")
    there = {x.data_ptr() for x in state.values() if x.layout == torch.strided}
    if lacking := [name for name, w in model.named_parameters() if name not in state and w.data_ptr() not in there]:
        told = f"{what}.state_dict() lacks {len(lacking)} of its weights ({', '.join(lacking[:3])})"
        raise SettingsError(f"{told}, which no file would have: let it give them all")


def check_sources(model: nn.Module, x: Tensor, taught: Tensor, given: Tensor, what: str, several: bool = False):
    r"""What the logits ``taught``, in training mode, and ``given``, in eval mode, of images ``x`` are made of.

    Weights that have no part in the former are said.  Raises: SettingsError where the former are made of weights that
    are none of the model's, or the latter of none that is trained, or, the former being of ``several``, of others, too.
    """
    named, classes = model.named_buffers(), given.shape[1]
    tables = [name for name, of in named if of.is_floating_point() and _may_be_of_images(of, x.shape[1:], classes)]
    weights, taught, given = {id(w): name for name, w in model.named_parameters()}, sources(taught), sources(given)
    if outside := [str(tuple(leaf.shape)) for i, leaf in taught.items() if i not in weights and leaf is not x]:
        told = f"{what} answers by {len(outside)} weights that are no parameters of it ({', '.join(outside[:3])})"
        remedy = "register them (nn.ModuleList, no list; an attribute, no function that holds a layer)"
        raise SettingsError(f"{told}, which no file would have: {remedy}, or set requires_grad to False")
    trained = weights.keys() & taught.keys()
    if id(x) in given and trained and not trained & given.keys():
        told = f"{what} answers in eval mode by other weights than those that it trains (an average of them?)"
        raise SettingsError(f"{told}: give the part that answers as the model, or let forward use one in both modes")
    if several and (more := [weights[i] for i in (weights.keys() & given.keys()) - trained]):
        told = f"{what} gives several outputs in training mode, none of which, nor their mean, is that of eval mode"
        raise SettingsError(f"{told} ({', '.join(sorted(more)[:3])} has a part in it): let forward give it in both")
    if tables := [name for name in tables if name in model.state_dict()]:
        told = "%s: neither method nor retrain changes the buffers %s: if they were made of images (prototypes), %s"
        remedy = "make them anew without those that go"
        _log.warning(told, what, ", ".join(tables[:3]) + ", ..." * (len(tables) > 3), remedy)
    owners = ((f"{of}.{name}".lstrip("."), value) for of, m in model.named_modules() for name, value in vars(m).items())
    state = model.state_dict()
    held = {x.data_ptr() for x in state.values() if isinstance(x, Tensor)}
    apart = [name for name, value in owners if _is_constant(value) and value.data_ptr() not in held]
    if apart := apart + [name for name, value in state.items() if not isinstance(value, Tensor)]:
        told = "%s: no file holds %s, which are neither weights nor buffers: who reads its file needs them, too"
        _log.warning(told, what, ", ".join(apart[:3]) + ", ..." * (len(apart) > 3))
    if idle := [name for i, name in weights.items() if i not in trained and model.get_parameter(name).requires_grad]:
        told = "%s: %d weights have no part in the logits of training mode (%s): most methods leave them as they are,"
        told += " and a copy of the network among them (EMA) would still know what goes"
        _log.warning(told, what, len(idle), ", ".join(idle[:3]) + ", ..." * (len(idle) > 3))
