r"""CLIP: how well an image fits a caption for each candidate, by any open_clip model."""

from functools import cached_property
from pathlib import Path

import torch
from torch.nn import functional as F

from megu.guide.base import GuideUnavailableError
from megu.guide.composed import by_image
from megu.guide.prompt import files_digest, image_of

CAPTION = "a photo of a {}"


class ClipGuide:
    r"""Log-odds of a label among all candidates, by the softmax of scaled cosines.

    $p(l \mid x) = \mathrm{softmax}_l(t \cos(v(x), u(l)))$, $s = \log p - \log(1 - p)$, with the model's own scale t.

    Args:
        class_names: the candidate labels.  images, exemplars: not used.
        settings: `megu.settings.config.Guide`: model is the open_clip architecture, revision its ``pretrained`` tag, or
            path a file of weights (safetensors).
        device: torch device.
    Raises: GuideUnavailableError where the weights cannot be had.
    Source: Radford et al. 2021, arXiv 2103.00020; the "CLIP" alternative of A12 in the assumption log.
    """

    log_odds = True

    def __init__(self, class_names, images=None, exemplars=None, settings=None, device="cpu"):
        if not settings.model or not (settings.revision or settings.path):
            raise GuideUnavailableError(
                "guide.source=clip needs guide.model, e.g. ViT-B-32, and guide.revision, e.g. laion2b_s34b_b79k (or"
                " guide.path)"
            )
        self.class_names, self.settings, self.device = tuple(class_names), settings, device
        if settings.revision and settings.path:
            raise GuideUnavailableError(
                "guide.revision and guide.path both name weights of guide.source=clip: set one of them"
            )
        if settings.path and not Path(settings.path).is_file():
            raise GuideUnavailableError(
                f"guide.path: {Path(settings.path).name!r} is no file: set it to the weights of guide.model"
                " (safetensors)"
            )
        self.name = f"open_clip {settings.model}"
        weights = settings.revision or f"weights {files_digest([settings.path])}"
        self.version = f"{weights}, {CAPTION!r}, {len(self.class_names)} labels: {'|'.join(self.class_names)}"

    @cached_property
    def _loaded(self):
        import open_clip  # noqa: PLC0415  (slow to import, needed by this guide alone)

        s = self.settings
        try:
            model, _, transform = open_clip.create_model_and_transforms(
                s.model, pretrained=s.path or s.revision, device=self.device
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise GuideUnavailableError(
                f"{self.name} could not be loaded ({str(error).splitlines()[0]}): check guide.model and guide.revision,"
                " or set guide.path"
            ) from None
        model.eval()
        with torch.no_grad():
            texts = model.encode_text(
                open_clip.get_tokenizer(s.model)([CAPTION.format(name) for name in self.class_names]).to(self.device)
            )
        return model, transform, F.normalize(texts, dim=1)

    @torch.no_grad()
    def score(self, questions):
        r"""Raw scores of questions; an image is looked at once for all its labels in a row."""
        model, transform, texts = self._loaded
        column, groups = {name: k for k, name in enumerate(self.class_names)}, by_image(questions)
        for start in range(0, len(groups), self.settings.batch):
            part = groups[start : start + self.settings.batch]
            x = torch.stack([transform(image_of(group[0].image)) for group in part]).to(self.device)
            log_p = (
                (model.logit_scale.exp() * F.normalize(model.encode_image(x), dim=1) @ texts.T).double().log_softmax(1)
            )
            odds = log_p - torch.log(-torch.expm1(log_p.clamp(max=-1e-12)))
            yield from (odds[i, column[question.label]].item() for i, group in enumerate(part) for question in group)
