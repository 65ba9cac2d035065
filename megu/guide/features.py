"""The control without language: the similarity of pretrained image features."""

from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from megu.guide.base import ImageGuide
from megu.guide.composed import LITE0_SHA, image_outputs
from megu.guide.questions import PixelBatch


class FeatureGuide(ImageGuide, source="features", compared=True):
    r"""$s(x, l) = \cos(\phi(x) - \mu, \mu_l - \mu)$ with $\phi$ the pooled features of EfficientNet-Lite0, $\mu_l$
    their mean over the exemplars of class l and $\mu$ the mean of the $\mu_l$; in [-1, 1].  Source: A12."""

    name, language = "efficientnet-lite0 class-mean features", False

    def __init__(self, context):
        super().__init__(context)
        self.version = f"lite0 {LITE0_SHA[:8]}, exemplars {context.exemplar_images[2]}"

    def features(self, images: PixelBatch) -> Float[Tensor, "n d"]:
        r"""$\phi$."""
        return image_outputs(images)[1]

    @cached_property
    def _means(self):
        pixels, y, _ = self.context.exemplar_images
        features = self.features(pixels)
        return torch.stack([features[y == k].mean(0) for k in range(len(self.class_names))])

    def score_images(self, images):
        """See `ImageGuide`."""
        centre = self._means.mean(0)
        return F.normalize(self.features(images) - centre, dim=1) @ F.normalize(self._means - centre, dim=1).T
