r"""A classifier with all that it needs to be used elsewhere: weights, how images are normalised, what it was made to
forget, hashes."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import torch
from jaxtyping import Float, UInt8
from pydantic import Field, ValidationError, model_validator
from pydantic_core import from_json
from torch import Tensor, nn

from megu.core import models
from megu.core.loading import misfits, weights_digest
from megu.core.tensors import read_tensors
from megu.methods import METHODS
from megu.settings.config import Forget, Part
from megu.settings.errors import SettingsError
from megu.settings.extras import extra
from megu.settings.files import atomic, hash_bytes, write_json
from megu.settings.values import closest

with extra("guides"):
    from huggingface_hub import ModelHubMixin, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

STEMS = {
    **dict.fromkeys(models.RESNETS, "convolution 3 x 3, stride 1, no pooling (CIFAR)"),
    "vit-tiny": "patches of 4 px at the images' own size",
    "vit-b16": "patches of 16 px, images resized to 224 px",
}
CONFIG, WEIGHTS = "config.json", "model.safetensors"
Channels, Side = Annotated[int, Field(ge=1, le=16)], Annotated[int, Field(ge=1, le=1024)]
Mean = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Std = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class About(Part):
    r"""What ``config.json`` says; a key that is not one of these is refused.

    Attributes:
        arch: ours, see `megu.core.models.build`.  stem: in words, that of the arch.  classes: different, in the order
            of the logits.
        shape: (C, H, W) of the images, at most 16 channels and 1024 px.
        mean, std: of each channel of images in [0, 1]; the network is given (x - mean) / std.
        method: that made it, see `megu.methods.METHODS`.  seed: of pre-training.
        forget: the request, None where nothing was forgotten.  split: digest of retain, forget, validation and test
            images.
        data: name of the data set.  images: part -> number and order-free hash of what it was trained and tested on,
            see `megu.datasets.identity`.
        weights: `megu.core.loading.weights_digest` of the network.
        measured: metric -> (value, that of the retrained model, unit, strict or compat), where it was measured.
        code: digest of the code that trained it.  megu: version.
    """

    arch: str
    stem: str
    classes: tuple[str, ...] = Field(min_length=2)
    shape: tuple[Channels, Side, Side]
    mean: tuple[Mean, ...]
    std: tuple[Std, ...]
    method: str
    seed: int
    forget: Forget | None
    split: str
    data: str
    images: dict[str, dict[str, int | str]]
    weights: str
    measured: dict[str, tuple[float | None, float | None, str, str]] = {}
    code: str
    megu: str

    @model_validator(mode="after")
    def _fits_together(self):
        if self.arch not in STEMS:
            raise ValueError(closest(self.arch, STEMS, "arch"))
        if self.stem != STEMS[self.arch]:
            raise ValueError(f"stem is {self.stem!r}, but that of {self.arch} is {STEMS[self.arch]!r}")
        if len(self.mean) != self.shape[0] or len(self.std) != self.shape[0]:
            raise ValueError(f"mean and std are {self.mean} and {self.std}: give one of each channel ({self.shape[0]})")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(
                f"two classes are called {max(self.classes, key=self.classes.count)!r}: give each a name of its own"
            )
        if self.arch == "vit-tiny" and not self.shape[1] == self.shape[2] >= 4:
            raise ValueError(f"shape is {self.shape}: images for vit-tiny are square and of at least 4 px")
        return self

    def sealed(self):
        r"""SHA-256 over what logits are made from and stand for: ``classes``, ``shape``, ``mean``, ``std``,
        ``weights``."""
        content = self.model_dump_json(include={"classes", "shape", "mean", "std", "weights"})
        return hash_bytes(content)


class Checkpoint(
    nn.Module,
    ModelHubMixin,
    library_name="megu",
    pipeline_tag="image-classification",
    tags=["machine-unlearning"],
    paper_url="https://arxiv.org/abs/2602.17088",
    model_card_template=(files("megu.own") / "assets" / "model_card.md.j2").read_text(),
):
    r"""A classifier that takes images as they are.

    ``save_pretrained(folder)`` writes model.safetensors, config.json and a model card; ``push_to_hub(repo_id)`` sends
    the same to a hub, with the token of the user's login, which is written nowhere.  `from_pretrained` reads a folder
    or a hub's id.

    Args:
        net: one of ours, normalised images to logits.
        about: `About`.
    """

    def __init__(self, net, about):
        super().__init__()
        self.net, self.about = net, about
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(about, name)).view(-1, 1, 1), persistent=False)
        self.eval()

    def forward(self, x: UInt8[Tensor, "n C H W"] | Float[Tensor, "n C H W"]) -> Float[Tensor, "n K"]:
        """Images, uint8 or float in [0, 1], to logits."""
        x = x if x.is_floating_point() else x.float() / 255
        return self.net((x - self.mean) / self.std)

    def _save_pretrained(self, save_directory):
        # `save_pretrained` adds the model card.
        if (found := weights_digest(self.net)) != self.about.weights:
            raise SettingsError(
                f"the weights have changed (hash {found[:12]}, not {self.about.weights[:12]}): make a checkpoint of the"
                " model as it is now"
            )
        with atomic(save_directory / WEIGHTS) as part:
            models.save(self.net, part, {"method": self.about.method, "weights": self.about.weights})
        write_json(save_directory / CONFIG, {**self.about.model_dump(mode="json"), "sha256": self.about.sealed()})

    def generate_model_card(self, **more):
        """The model card, see ``megu/own/assets/model_card.md.j2``."""
        made = METHODS.get(self.about.method)
        return super().generate_model_card(about=self.about, title=made.title if made else self.about.method, **more)

    @classmethod
    def from_pretrained(cls, source, *, revision=None, token=None):
        r"""The classifier of a folder, or of a hub's id.

        Args:
            source: folder, or ``owner/name``.
            revision: commit of the hub.  token: for what is not public; by default that of the user's login.
        Returns: `Checkpoint` on the CPU, in eval mode.
        Raises: SettingsError where a file is missing or no safetensors, the config is not one of ours, or the weights
            are not those that it names.
        """
        folder = Path(source)
        if not folder.is_dir():
            wanted = {"revision": revision, "token": token, "allow_patterns": [CONFIG, WEIGHTS]}
            try:
                folder = Path(snapshot_download(str(source), **wanted))
            except (HfHubHTTPError, HFValidationError, OSError) as error:
                why = (str(error).splitlines() or [type(error).__name__])[0][:120]
                raise SettingsError(
                    f"checkpoint {str(source)!r} is no folder, and the hub does not give it ({why}): check name and"
                    " network"
                ) from None
        about = read_about(folder / CONFIG)
        net = read_net(about, folder / WEIGHTS)
        if (found := weights_digest(net)) != about.weights:
            raise SettingsError(
                f"{WEIGHTS} in {folder.name!r} holds other weights than {CONFIG} names ({found[:12]}, not"
                f" {about.weights[:12]}): get it again"
            )
        return cls(net, about)


def read_about(path) -> About:
    r"""What a config says.  Raises: SettingsError with each thing that is wrong."""
    where = f"{path.name} in {path.parent.name!r}"
    if not path.is_file():
        raise SettingsError(
            f"{path.parent.name!r} has no {path.name}, so it is no checkpoint of megu: export one by `megu export`"
        )
    try:
        config = from_json(path.read_bytes())
        written = config.pop("sha256", "none")
    except (ValueError, AttributeError, TypeError):
        raise SettingsError(f"{where} is no config of a checkpoint (no JSON object): get it again") from None
    about = check_about(config, where)
    if written != about.sealed():
        raise SettingsError(
            f"classes, shape, mean, std or weights in {path.name} of {path.parent.name!r} are not those that its sha256"
            " names: get it again"
        )
    return about


def check_about(config, where) -> About:
    r"""A config, checked; ``where`` it is from, for messages."""
    try:
        return About.model_validate(config)
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, item['loc'])) or 'it'}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        ]
        raise SettingsError(f"{where} is no config of a checkpoint ({'; '.join(lines)})") from None


def read_net(about, path) -> nn.Module:
    r"""The network that `About` names, with the weights of a safetensors file.  Raises: SettingsError where it is none,
    damaged, or of another architecture."""
    net, state = (
        models.build(about.arch, len(about.classes), about.shape, 0, "blank", "random"),
        read_tensors(path, "model"),
    )
    if misfit := misfits(net.state_dict(), state):
        raise SettingsError(
            f"{path.name} in {path.parent.name!r} does not fit the architecture that is named for it ({misfit[1]})"
        )
    net.load_state_dict(state)
    return net
