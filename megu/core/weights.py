r"""The ImageNet weights of ViT-B/16: where they are, which they are, and a network that starts from them."""

from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path

from megu.core.tensors import read_tensors
from megu.settings.errors import SettingsError
from megu.settings.extras import extra
from megu.settings.files import hash_file

HUB = "google/vit-base-patch16-224"
CONFIG = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def find(weights):
    r"""The file of the weights.

    Args:
        weights: `megu.settings.config.Settings.weights`: None for `HUB` (what was downloaded before is taken from its
            cache), a ``.safetensors`` file, a folder with a ``model.safetensors`` in it, or ``random``.
    Returns: path, or None for ``random``.
    Raises: SettingsError where there is none.
    """
    if weights == "random":
        return None
    if weights is None:
        try:
            return _from_hub()
        except OSError:
            raise SettingsError(
                f"the weights of {HUB} are not here and could not be downloaded: check the network, set weights to a"
                " local folder or .safetensors, or use arch vit-tiny"
            ) from None
    path = Path(weights)
    path = path / "model.safetensors" if path.is_dir() else path
    if path.suffix != ".safetensors" or not path.is_file():
        raise SettingsError(
            f"weights {path.name!r} in {path.parent.name!r} is no .safetensors file that can be read: give one, or a"
            " folder with model.safetensors"
        )
    return path


@cache
def _from_hub():
    with extra("guides"):
        from transformers.utils import cached_file  # noqa: PLC0415
    return Path(cached_file(HUB, "model.safetensors"))  # asks the hub whether there is a newer one: once is enough


def identity(weights):
    r"""What a manifest calls the weights: ``random``, or SHA-256 of the file, so that the same file from hub or disk is
    the same."""
    path = find(weights)
    if path is None:
        return "random"
    about = path.stat()
    return f"sha256 {_hash(path, about.st_size, about.st_mtime_ns)}"


@lru_cache
def _hash(path, size, changed):
    return hash_file(path)


def blank(**config):
    r"""`transformers.ViTForImageClassification` of a configuration, weights from torch's global generator."""
    with extra("guides"):
        from transformers import ViTConfig, ViTForImageClassification  # noqa: PLC0415  (seconds to import)
    return ViTForImageClassification(ViTConfig(**config))


def vit_b16(num_classes, weights):
    r"""ViT-B/16 with a new head, whose weights are drawn from torch's global generator.

    Args:
        num_classes: K.
        weights: see `find`; with ``random`` all weights are drawn, for rehearsals without the file.
    Returns: `transformers.ViTForImageClassification` in float32, also where the file is of half precision.
    Raises: SettingsError where the file is of another network, or holds values that are no numbers.
    Source: Dosovitskiy et al. 2021.  Departs: the head is new for K = 1000 as well.
    """
    path = find(weights)
    if path is None:
        return blank(num_labels=num_classes, **CONFIG)
    tensors = read_tensors(path)
    state = {name: tensor.float() for name, tensor in tensors.items() if not name.startswith("classifier.")}
    if broken := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
        raise SettingsError(
            f"weights {path.name!r} holds values that are no numbers (NaN or infinite), e.g. in {broken[0]}: copy or"
            " download it again"
        )
    with extra("guides"):
        from transformers import ViTConfig, ViTForImageClassification  # noqa: PLC0415
    config = ViTConfig(num_labels=num_classes, **CONFIG)
    with _quiet():  # transformers translates the names of older versions
        net, found = ViTForImageClassification.from_pretrained(
            None, config=config, state_dict=state, ignore_mismatched_sizes=True, output_loading_info=True
        )
    missing = [name for name in sorted(found["missing_keys"]) if not name.startswith("classifier.")]
    for what, names in (
        ("lacks", missing),
        ("has", sorted(found["unexpected_keys"])),
        ("has in another shape", sorted(map(str, found["mismatched_keys"]))),
    ):
        if names:
            raise SettingsError(
                f"weights {path.name!r} are not of {HUB}: the file {what} {names[0]} (of {len(names)} such tensors)"
            )
    return net


@contextmanager
def _quiet():
    from transformers.utils import logging  # noqa: PLC0415

    # The new head would be told as a warning, and the bar is full in less than a second.
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
