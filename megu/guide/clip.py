"""CLIP: how well an image fits a caption for each candidate, by any open_clip model."""

from functools import cached_property
from pathlib import Path

import torch
from torch.nn import functional as F

from megu.guide.base import ImageGuide, joined, need, require, unavailable
from megu.guide.prompt import files_digest, image_of
from megu.settings.known import guide_lacks

CAPTION = "a photo of a {}"


class ClipGuide(ImageGuide, source="clip"):
    r"""Log-odds of a label among all candidates: $s = \log p - \log(1 - p)$,
    $p(l \mid x) = \mathrm{softmax}_l(t \cos(v(x), u(l)))$ with the model's own scale t.

    Raises: GuideUnavailableError where the weights cannot be had.  Source: Radford et al. 2021, arXiv 2103.00020: A12.
    """

    log_odds = True

    def __init__(self, context):
        super().__init__(context)
        s, path, self.at_once = self.settings, Path(self.settings.path or ""), self.settings.batch
        weights = s.revision or s.path
        need(not (lacking := guide_lacks("clip", s)), lacking)
        need(not (s.revision and s.path), "guide.revision and guide.path both name weights of clip: set one of them")
        need(s.revision or path.is_file(), f"guide.path: {path.name!r} is no file: name weights (.safetensors)")
        self.name, weights = f"open_clip {s.model}", s.revision or f"weights {files_digest([path])}"
        self.version = f"{weights}, {CAPTION!r}, {len(self.class_names)} labels: {joined(self.class_names)}"

    @cached_property
    def _loaded(self):
        open_clip, s, device = require("open_clip"), self.settings, self.context.device
        try:
            model, _, transform = open_clip.create_model_and_transforms(s.model, s.path or s.revision, device=device)
        except (OSError, RuntimeError, ValueError) as error:
            raise unavailable(f"{self.name} could not be loaded", error) from None
        captions = open_clip.get_tokenizer(s.model)([CAPTION.format(name) for name in self.class_names])
        with torch.no_grad():
            texts = model.eval().encode_text(captions.to(device))
        return model, transform, F.normalize(texts, dim=1)

    @torch.no_grad()
    def score_images(self, images):
        """See `ImageGuide`."""
        model, transform, texts = self._loaded
        x = torch.stack([transform(image_of(image)) for image in images]).to(self.context.device)
        log_p = (model.logit_scale.exp() * F.normalize(model.encode_image(x), dim=1) @ texts.T).double().log_softmax(1)
        return log_p - torch.log(-torch.expm1(log_p.clamp(max=-1e-12)))
