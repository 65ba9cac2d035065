r"""The one reader of safetensors."""

import zipfile
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from megu.settings.errors import SettingsError


def read_tensors(path, what="weights", device="cpu"):
    r"""The tensors of a safetensors file by name, also those that ``save_model`` left out as they are tied to others.

    Args: what: for messages, e.g. ``model``.
    Raises: SettingsError where the file is missing, of another kind or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise SettingsError(f"{what} {path.name!r} does not exist: give a .safetensors file")
    with open(path, "rb") as file:
        head = file.read(9)
    if path.suffix != ".safetensors" or head[8:] != b"{":
        kind = "is TorchScript" if _is_torchscript(path) else "is not a safetensors file"
        state = "torch.jit.load(file).state_dict()" if "Script" in kind else "torch.load(file, weights_only=True)"
        raise SettingsError(
            f"{what} {path.name!r} {kind}, and only safetensors are opened, since a pickle can run code:"
            " use safetensors.torch.save_file(state, 'model.safetensors'), where state is model.state_dict() or, of a"
            f" file that you trust, {state}"
        )
    try:
        found = load_file(path, device=str(device))
        with safe_open(path, "pt") as file:
            tied = (file.metadata() or {}).items()
        return found | {name: found[other] for name, other in tied if name not in found and other in found}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        why = str(error).splitlines()[0][:100]
        raise SettingsError(f"{what} {path.name!r} is damaged ({why}): save, copy or download it again") from None


def _is_torchscript(path):
    with suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(path) as file:
        return any(name.endswith("/constants.pkl") for name in file.namelist())
    return False
