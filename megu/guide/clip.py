r"""CLIP: how well an image fits a caption for each candidate, by any open_clip model."""

from functools import cached_property
from pathlib import Path

import torch
from torch.nn import functional as F

from megu.guide.base import GuideUnavailableError, ImageGuide, require, source
from megu.guide.prompt import files_digest, image_of

CAPTION = "a photo of a {}"


@source("clip")
class ClipGuide(ImageGuide):
    r"""Log-odds of a label among all candidates, by the softmax of scaled cosines.

    $p(l \mid x) = \mathrm{softmax}_l(t \cos(v(x), u(l)))$, $s = \log p - \log(1 - p)$, with the model's own scale t.

    Settings: model is the open_clip architecture, revision its ``pretrained`` tag, or path a file of weights
        (safetensors).
    Raises: GuideUnavailableError where the weights cannot be had.
    Source: Radford et al. 2021, arXiv 2103.00020; the "CLIP" alternative of A12 in the assumption log.
    """

    log_odds = True

    def __init__(self, context):
        super().__init__(context)
        settings, self.device, self.at_once = self.settings, context.device, self.settings.batch
        wrong = None
        if not settings.model or not (settings.revision or settings.path):
            wrong = "guide.source=clip needs guide.model, e.g. ViT-B-32, and guide.revision, e.g. laion2b_s34b_b79k"
        elif settings.revision and settings.path:
            wrong = "guide.revision and guide.path both name weights of guide.source=clip: set one of them"
        elif settings.path and not Path(settings.path).is_file():
            wrong = (
                f"guide.path: {Path(settings.path).name!r} is no file: set it to weights of guide.model (safetensors)"
            )
        if wrong:
            raise GuideUnavailableError(wrong)
        self.name = f"open_clip {settings.model}"
        weights = settings.revision or f"weights {files_digest([settings.path])}"
        self.version = f"{weights}, {CAPTION!r}, {len(self.class_names)} labels: {'|'.join(self.class_names)}"

    @cached_property
    def _loaded(self):
        open_clip, s = require("open_clip"), self.settings
        weights = s.path or s.revision
        try:
            model, _, transform = open_clip.create_model_and_transforms(s.model, weights, device=self.device)
        except (OSError, RuntimeError, ValueError) as error:
            raise GuideUnavailableError(
                f"{self.name} could not be loaded ({str(error).splitlines()[0]}): check guide.model and guide.revision,"
                " or set guide.path"
            ) from None
        captions = open_clip.get_tokenizer(s.model)([CAPTION.format(name) for name in self.class_names])
        with torch.no_grad():
            texts = model.eval().encode_text(captions.to(self.device))
        return model, transform, F.normalize(texts, dim=1)

    @torch.no_grad()
    def score_images(self, images):
        """See `megu.guide.base.ImageGuide`."""
        model, transform, texts = self._loaded
        x = torch.stack([transform(image_of(image)) for image in images]).to(self.device)
        log_p = (model.logit_scale.exp() * F.normalize(model.encode_image(x), dim=1) @ texts.T).double().log_softmax(1)
        return log_p - torch.log(-torch.expm1(log_p.clamp(max=-1e-12)))
