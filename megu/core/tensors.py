r"""The one reader of safetensors."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from megu.settings.errors import SettingsError


def read_tensors(path, what="weights", device="cpu"):
    r"""The tensors of a safetensors file by name.

    Args: what: for messages, e.g. ``model``.
    Raises: SettingsError where the file is missing, of another kind or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise SettingsError(f"{what} {path.name!r} does not exist: give a .safetensors file")
    with open(path, "rb") as file:
        head = file.read(9)
    if path.suffix != ".safetensors" or head[8:] != b"{":
        raise SettingsError(
            f"{what} {path.name!r} is not a safetensors file, and nothing else is opened, since a pickle can run code:"
            " use safetensors.torch.save_file(state, 'model.safetensors'), where state is model.state_dict() or, of a"
            " .pth that you trust, torch.load(file, weights_only=True)"
        )
    try:
        return load_file(path, device=str(device))
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        why = str(error).splitlines()[0][:100]
        raise SettingsError(f"{what} {path.name!r} is damaged ({why}): save, copy or download it again") from None
