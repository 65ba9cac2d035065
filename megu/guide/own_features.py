r"""The classifier itself as guide: whose features are alike."""

import torch

from megu.core import models
from megu.guide.base import source
from megu.guide.features import FeatureGuide
from megu.guide.posterior import weights_digest


@source("own-features", compared=True)
class OwnFeatureGuide(FeatureGuide):
    r"""`megu.guide.features.FeatureGuide` with the original model's own features, those that its head receives.

    Source: the "class-mean features" alternative of A12 in the assumption log.
    """

    name, needs_model, any_image = "the classifier's class-mean features", True, False

    def __init__(self, context):
        super().__init__(context)
        self.version = f"weights {weights_digest(context.model)}, exemplars {context.exemplar_images[2]}"

    @torch.no_grad()
    def features(self, images):
        """See `megu.guide.features.FeatureGuide`."""
        index = self.context.pool_index(images)
        return models.features(self.context.model.eval(), self.context.images.batch(index))[1].float().cpu()
