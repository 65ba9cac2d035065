"""A classifier with its normalisation, request and hashes, for others."""

from pathlib import Path
from typing import Annotated

import torch
from jaxtyping import Float, UInt8
from pydantic import Field, ValidationError, model_validator
from pydantic_core import from_json
from torch import Tensor, nn

from megu.core import models
from megu.core.adapted import read_output, tensors, unwrapped
from megu.core.architectures import read_model
from megu.core.keymap import misfits
from megu.core.loading import weights_digest
from megu.core.networks import STEMS
from megu.core.weights import read_tensors
from megu.methods import METHODS
from megu.settings.config import Forget, Part
from megu.settings.errors import SettingsError
from megu.settings.extras import extra
from megu.settings.files import atomic, hash_bytes, write_json
from megu.settings.values import closest

with extra("guides"):
    from huggingface_hub import ModelHubMixin, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

CONFIG, WEIGHTS = "config.json", "model.safetensors"
Channels, Side = Annotated[int, Field(ge=1, le=16)], Annotated[int, Field(ge=1, le=1024)]
Mean = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Std = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class Unlearnt(Part):
    """What the file of `megu.unlearn` says in its header, see `megu.own.report.about`.

    Attributes:
        arch: see `megu.core.architectures.read_model`; None where an ``nn.Module`` was given.
        classes: in the order of the logits.  shape: (C, H, W).
        mean, std: by channel; the network is given (x - mean) / std; None where it takes float images as they come.
        method: in `megu.methods.METHODS`.  seed: of unlearning.  forget, weights: digests.
        fingerprint: see `megu.core.models.fingerprint`; None in files of before.
    """

    arch: str | None
    classes: tuple[str, ...] = Field(min_length=2)
    shape: tuple[int, int, int]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    method: str
    seed: int
    forget: str
    weights: str
    fingerprint: tuple[float, ...] | None = None


class About(Part):
    """What ``config.json`` says; other keys are refused.

    Attributes:
        arch: see `megu.core.models.build`.  stem: in `megu.core.networks.STEMS`.  classes: in the order of the logits.
        shape: (C, H, W).  mean, std: by channel in [0, 1]; the network is given (x - mean) / std.
        method: in `megu.methods.METHODS`.  seed: of pre-training.  forget: None where nothing was.
        images: part -> number and hash, see `megu.datasets.identity`.  split, weights, code: digests.
        measured: metric -> (value, that of the retrained model, unit, strict or compat).
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
        if not len(self.mean) == len(self.std) == self.shape[0]:
            raise ValueError(f"mean and std are {self.mean} and {self.std}: give one of each channel ({self.shape[0]})")
        if len(set(self.classes)) < len(self.classes):
            twice = max(self.classes, key=self.classes.count)
            raise ValueError(f"two classes are called {twice!r}: rename one")
        if self.arch == "vit-tiny" and not self.shape[1] == self.shape[2] >= 4:
            raise ValueError(f"shape is {self.shape}: images for vit-tiny are square and of at least 4 px")
        return self


def _seal(about):
    return hash_bytes(about.model_dump_json(include={"classes", "shape", "mean", "std", "weights"}))


class Checkpoint(
    nn.Module,
    ModelHubMixin,
    library_name="megu",
    pipeline_tag="image-classification",
    tags=["machine-unlearning"],
    paper_url="https://arxiv.org/abs/2602.17088",
    model_card_template=(Path(__file__).parent / "assets" / "model_card.md.j2").read_text(),
):
    """``net``, a classifier of normalised images, and what it is `About`.

    ``save_pretrained(folder)`` writes it with a model card; ``push_to_hub(repo_id)`` sends it by the user's login.
    What `megu.unlearn` wrote is `Unlearnt`, and read only.
    """

    def __init__(self, net, about):
        super().__init__()
        self.net, self.about = net, about
        for name in ("mean", "std") if about.mean else ():
            self.register_buffer(name, torch.tensor(getattr(about, name)).view(-1, 1, 1), persistent=False)
        self.eval()

    def forward(self, x: UInt8[Tensor, "n C H W"] | Float[Tensor, "n C H W"]) -> Float[Tensor, "n K"]:
        """Images, uint8 or float in [0, 1], or float as they come where no mean is known, to logits.

        Raises: SettingsError for another size, uint8 where it takes floats as they come, and floats not in [0, 1].
        """
        shape = self.about.shape
        if not (isinstance(x, Tensor) and x.ndim == 4 and x.shape[1] in (1, shape[0]) and x.shape[2:] == shape[1:]):
            kind = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise SettingsError(f"images are {kind}: give a tensor (n, {str(shape)[1:]}, resized as for the training")
        kinds, levels = (w.dtype for w in self.parameters() if w.is_floating_point()), not x.is_floating_point()
        x, levels = x.expand(-1, shape[0], -1, -1).to(next(kinds, torch.float32)), levels and x.dtype != torch.bool
        if self.about.mean:
            x = x / 255 if levels else x
            if not torch.compiler.is_compiling() and not ((x - 0.5).abs() < 0.51).all():  # bicubic: a little more
                raise SettingsError("float images are not in [0, 1]: divide levels by 255, and do not normalise them")
            x = (x - self.mean) / self.std
        elif levels:
            raise SettingsError("the model takes float images as those of its training data: give such, not uint8")
        found, of = self.net(x), (len(x), len(self.about.classes))
        return found if isinstance(found, Tensor) else read_output(found, of, "the checkpoint")[1]

    def _save_pretrained(self, save_directory):
        about = self.about
        if isinstance(about, Unlearnt):
            raise SettingsError("what `megu unlearn` wrote is a checkpoint with its report: hand that folder over")
        if weights_digest(self.net) != about.weights:
            raise SettingsError("the weights have changed (by their hash): make a new checkpoint of the model")
        with atomic(save_directory / WEIGHTS) as part:
            models.save(self.net, part, {"method": about.method, "weights": about.weights})
        write_json(save_directory / CONFIG, {**about.model_dump(mode="json"), "sha256": _seal(about)})

    def generate_model_card(self, **more):
        """The model card."""
        method = self.about.method
        title = METHODS[method].title if method in METHODS else method
        return super().generate_model_card(about=self.about, title=title, **more)

    @classmethod
    def from_pretrained(cls, source, *, arch=None, net=None, revision=None, token=None):
        """The classifier of a folder or of a hub's id ``owner/name``, on the CPU and in eval mode.

        Args:
            source: of `megu export` or `megu unlearn`.  revision: commit of the hub.
            arch: of what `megu unlearn` wrote, see `read_model`, if another name leads to it here.
            net: an ``nn.Module`` of its architecture, which is not altered, where it was given one.
            token: by default that of the user's login.
        Raises: SettingsError where a file is missing or not what it should be.
        """
        folder, name, wanted = Path(source), str(source), [CONFIG, WEIGHTS]
        if not folder.is_dir():
            try:
                folder = Path(snapshot_download(name, revision=revision, token=token, allow_patterns=wanted))
            except (HfHubHTTPError, HFValidationError, OSError) as error:
                why = (str(error).splitlines() or [type(error).__name__])[0][:120]
                what = f"checkpoint {name!r} is no folder, and the hub does not give it ({why})"
                raise SettingsError(f"{what}: check name and network") from None
        if not (folder / CONFIG).exists() and (folder / WEIGHTS).is_file():
            return cls(*_read_unlearnt(folder / WEIGHTS, arch, net))
        about = _read_about(folder / CONFIG)
        net = read_net(about, folder / WEIGHTS)
        if weights_digest(net) != about.weights:
            what = f"{WEIGHTS} in {folder.name!r} holds other weights than {CONFIG} names"
            raise SettingsError(f"{what} (by their hash): get it again")
        return cls(net, about)


def _read_unlearnt(path, arch, net):
    found, where = models.about(path), f"{path.name} in {path.parent.name!r}"
    if "classes" not in found:
        what = f"{path.parent.name!r} has no {CONFIG}, nor did `megu unlearn` write its {path.name}"
        raise SettingsError(f"{what}, so it is no checkpoint of megu: use `megu export`")
    about = check_about(found, where, Unlearnt)
    if net is not None:
        net = models.copy_of(unwrapped(net)).float().eval()
        if misfit := misfits(tensors(net), state := read_tensors(path, "model")):
            raise SettingsError(f"{where} does not fit net, a {type(net).__name__} ({misfit[1]})")
        net.load_state_dict(net.state_dict() | state)
    elif (arch := arch or about.arch) is None:
        raise SettingsError(f"{where} was made of an nn.Module: give one like it, net=, or an arch")
    else:
        net = read_model(path, arch, len(about.classes), about.shape)
    if weights_digest(net) != about.weights:
        raise SettingsError(f"{where} holds other weights than its header names (by their hash): get it again")
    models.check_fingerprint(net, about.shape, len(about.classes), about.fingerprint, where)
    return net, about


def _read_about(path):
    where = f"{path.name} in {path.parent.name!r}"
    if not path.is_file():
        raise SettingsError(f"there is no {where}, so it is no checkpoint of megu: use `megu export`")
    try:
        config = from_json(path.read_bytes())
        written = config.pop("sha256", "none")
    except (ValueError, AttributeError, TypeError):
        raise SettingsError(f"{where} is no config of a checkpoint (no JSON object): get it again") from None
    about = check_about(config, where)
    if written != _seal(about):
        raise SettingsError(f"classes, shape, mean, std or weights in {where} do not fit its sha256: get it again")
    return about


def check_about(config, where, kind=About) -> About:
    """A config, checked; ``where``: for messages.  Raises: SettingsError with all that is wrong."""
    try:
        return kind.model_validate(config)
    except ValidationError as error:
        why = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'it'}: {item['msg']}" for item in error.errors())
        raise SettingsError(f"{where} is no config of a checkpoint ({why.replace('Value error, ', '')})") from None


def read_net(about, path) -> nn.Module:
    """The network of an `About` with a file's weights.  Raises: SettingsError where they do not fit."""
    net = models.build(about.arch, len(about.classes), about.shape, 0, "blank", "random")
    state = read_tensors(path, "model")
    if misfit := misfits(net.state_dict(), state):
        what = f"{path.name} in {path.parent.name!r} does not fit the architecture {about.arch}"
        raise SettingsError(f"{what} ({misfit[1]})")
    net.load_state_dict(state)
    return net
