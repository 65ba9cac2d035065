r"""Classifiers by name: of torchvision, timm, transformers, ours, or a function of the user's own; or by a file."""

import importlib
import importlib.util
import inspect
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import nn

from megu.core import keymap, models
from megu.core.adapted import tensors, unwrapped
from megu.core.device import generator, seeded
from megu.core.weights import read_tensors
from megu.settings.errors import MeguError, SettingsError, why
from megu.settings.extras import extra
from megu.settings.known import OURS, check_arch

_LOG = logging.getLogger("megu")
_AUXILIARY = ("googlenet", "inception_v3")  # published weights have no auxiliary heads
_KNOWN_AS = {
    **dict.fromkeys(("num_classes", "n_classes", "classes", "num_labels", "n_labels"), 0),
    **dict.fromkeys(("in_channels", "in_chans", "channels", "num_channels"), 1),
}


def builders(arch: str, num_classes: int, shape: tuple[int, int, int]) -> Iterator[Callable[[], nn.Module]]:
    r"""Functions, tried in turn, that build an ``arch``, see `read_model`.

    Args: shape: (C, H, W) of the images.
    Raises: SettingsError where it does not exist, see `megu.settings.known.check_arch`.
    """
    check_arch(arch)
    library, _, name = arch.partition(":")
    if library == "timm" and name:
        return _timm(name, num_classes, shape)
    if library == "hf" and name:
        return _transformers(name, num_classes)
    if name:
        return _function(arch, num_classes, shape[0])
    from torchvision import models as theirs  # noqa: PLC0415  (slow)

    known = theirs.list_models(module=theirs)
    out = [lambda: _grey(theirs.get_model(arch, **_usual(arch, num_classes)), shape[0])] if arch in known else []
    if arch in _AUXILIARY:
        out.append(lambda: _grey(theirs.get_model(arch, **_usual(arch, num_classes), aux_logits=False), shape[0]))
    out += [lambda: models.build(arch, num_classes, shape, 0, weights="random")] if arch in OURS else []
    return iter(out)


def _usual(arch, num_classes):
    slow = {"init_weights": False} if arch in _AUXILIARY else {}
    return {"weights": None, "num_classes": num_classes, **slow}


def _grey(model, channels):
    # As torchvision's networks are changed for grey images: the first convolution takes one channel.
    name, first = next((one for one in model.named_modules() if isinstance(one[1], nn.Conv2d)), (None, None))
    if name and channels == 1 and first.in_channels == 3:
        like = ("out_channels", "kernel_size", "stride", "padding", "dilation", "padding_mode")
        how = {what: getattr(first, what) for what in like} | {"bias": first.bias is not None}
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, nn.Conv2d(1, **how))
    return model


def _timm(name, num_classes, shape):
    with extra("timm"):
        import timm  # noqa: PLC0415  (seconds)
    how = {"pretrained": False, "num_classes": num_classes, "in_chans": shape[0]}

    def build(**size):
        model = timm.create_model(name, **how, **size)
        if not size:
            usual = timm.data.resolve_model_data_config(model)
            _offer(f"timm:{name}", usual["mean"], usual["std"], usual["input_size"][-1])
        return model

    yield build
    if shape[1:] != (224, 224):  # of some, weights depend on the size of the images
        try:
            model = build(img_size=shape[1:])
        except (TypeError, AssertionError, ValueError, RuntimeError):
            return
        yield lambda: model


def _transformers(name, num_classes):
    with extra("guides"):
        import transformers  # noqa: PLC0415  (seconds)
    try:
        config = transformers.AutoConfig.from_pretrained(name, num_labels=num_classes, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        what = f"arch 'hf:{name}': no config.json is on this machine ({why(error)})"
        remedy = "give hf:FOLDER, where save_pretrained wrote it, or fetch it by `hf download NAME config.json`"
        raise SettingsError(f"{what}: {remedy}") from None
    if type(config) not in transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise SettingsError(f"arch 'hf:{name}' is a {config.model_type}, which classifies no images: choose another")

    if getattr(config, "problem_type", None) == "multi_label_classification":
        told = "hf:%s was trained with several labels of an image (problem_type); here each has one, of its folder"
        _LOG.warning(told, _named(name))

    def build():
        _offer_processor(name, getattr(config, "image_size", None))
        return transformers.AutoModelForImageClassification.from_config(config)

    yield build


def _offer_processor(name, size):
    file = Path(name) / "preprocessor_config.json"
    about = json.loads(file.read_text()) if file.is_file() else {}
    size = about.get("size", size)
    size = size.get("height", size.get("shortest_edge")) if isinstance(size, dict) else size
    _offer(f"hf:{_named(name)}", about.get("image_mean"), about.get("image_std"), size)


def _named(name):
    # For the report, too: a folder without the path to it, or a name of the hub.
    return Path(name).name if Path(name).is_dir() else name


def _offer(name, mean, std, size):
    # What the library says of the images; the user's training may have been another.
    if size:
        pair = "; ".join(",".join(f"{value:g}" for value in part) for part in (mean or (), std or ()))
        takes = f"{size} px and normalise '{pair}'" if mean and std else f"images of {size} px"
        _LOG.warning("%s usually takes %s: what you give counts, and what yours was trained on", name, takes)


def _function(arch, num_classes, channels):
    # Arguments are given by name where it names them, else the number of classes where its first one needs a value.
    make = _imported(arch)

    def build():
        known, takes = (num_classes, channels), inspect.signature(make).parameters.values()
        given = {p.name: known[_KNOWN_AS[p.name]] for p in takes if p.name in _KNOWN_AS}
        free = [p for p in takes if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:1]
        first = [num_classes] if free and not given and free[0].default is inspect.Parameter.empty else []
        model = make(*first, **given)
        if not isinstance(model, nn.Module):
            what = f"arch {arch!r} gives a {type(model).__name__}"
            raise SettingsError(f"{what}: let it return a torch.nn.Module without weights")
        return model

    return iter([build])


def _beside(file, module):
    folder = Path(file).expanduser().parent
    return any((folder / name).exists() for name in (f"{module}.py", module))


def _imported(arch):
    module, _, function = arch.rpartition(":")
    try:
        if module.endswith(".py"):
            name = f"megu_arch_{Path(module).stem}"
            about = importlib.util.spec_from_file_location(name, Path(module).expanduser())
            found = sys.modules[name] = importlib.util.module_from_spec(about)
            about.loader.exec_module(found)
        else:
            found = importlib.import_module(module)
        make = getattr(found, function)
    except (Exception, SystemExit) as error:  # whatever a foreign module may raise
        remedy, lacking = "check module:function (or file.py:function)", getattr(error, "name", None)
        if module.endswith(".py") and isinstance(error, ModuleNotFoundError) and _beside(module, lacking):
            remedy = f"{lacking} lies beside the file: name its folder in PYTHONPATH"
        raise SettingsError(f"arch {arch!r} cannot be imported ({why(error)}): {remedy}") from None
    if not callable(make):
        raise SettingsError(f"arch {arch!r} is a {type(make).__name__}: name a function that returns a torch.nn.Module")
    return make


def read_model(path, arch, num_classes, shape) -> nn.Module:
    r"""A classifier from a safetensors file, in eval mode.

    Args:
        arch: a torchvision classifier, one of ours, ``timm:NAME``, ``hf:FOLDER`` with the config.json of transformers,
            or ``module:function`` (``file.py:function``) of your own that returns an ``nn.Module``: called with
            ``num_classes`` and ``in_channels`` where it names them, else with the number of classes where its first
            argument needs a value, else with nothing.  The names in the file: see `megu.core.keymap`.
        shape: (C, H, W) of the images, or (H, W) for the file's channels.
    Raises: SettingsError where the file is none, damaged, a pickle, or of another architecture.
    """
    check_arch(arch)
    state, reasons = read_tensors(path, "model"), []
    if len(shape) == 2:  # of grey or of colour images
        channels = {tensor.shape[1] for tensor in state.values() if tensor.ndim == 4}
        shape = (1 if 1 in channels and 3 not in channels else 3, *shape)
    for build in builders(arch, num_classes, shape):
        with seeded(generator(0, "blank")):
            model = _built(build, arch)
        for found, named, said in keymap.readings(state, unwrapped(model)):
            own = tensors(model)
            misfit = keymap.misfits({other: own[name] for name, other in named.items()}, found)
            if not misfit:
                for line in said:
                    _LOG.warning("%s: %s", path.name, line)
                net = unwrapped(model)
                net.load_state_dict(net.state_dict() | {name: found[other] for name, other in named.items()})
                return model.eval()
            reasons.append(misfit)
    what = f"{path.name} is no {arch} with {num_classes} classes ({min(reasons, key=lambda one: one[0])[1]})"
    remedy = "check arch (file.py:function for a network of your own), and that the classes are its outputs"
    raise SettingsError(f"{what}: {remedy} (of a reference, the model's)")


def _built(build, arch):
    try:
        return build()
    except MeguError:
        raise
    except (Exception, SystemExit) as error:  # whatever a foreign function may raise
        called = "it is called with num_classes and in_channels by name, else the number of classes if it takes one"
        raise SettingsError(f"arch {arch!r} cannot be built ({why(error)}): {called}") from None
