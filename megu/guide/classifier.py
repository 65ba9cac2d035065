"""The classifier itself as guide: what it half believes, what it mistakes for what, whose features are alike."""

from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from megu.core import models
from megu.core.train import predict
from megu.guide.base import ImageGuide
from megu.guide.features import FeatureGuide
from megu.settings.files import hash_bytes


class OwnGuide(ImageGuide):
    """A guide that is made from the original model and knows its exemplars alone."""

    needs_model, any_image, language = True, False, False

    def __init__(self, context):
        super().__init__(context)
        state = sorted(context.model.state_dict().items())
        weights = hash_bytes(*(name.encode() + value.cpu().numpy().tobytes() for name, value in state))[:8]
        self.version = f"weights {weights}, exemplars {context.exemplar_images[2]}"


class PosteriorGuide(OwnGuide, source="posterior", compared=True):
    r"""The original model's log-odds: $s(x, l) = \log p_l(x) - \log(1 - p_l(x))$ with $p$ its softmax, held within
    [1e-6, 1 - 1e-6].  Source: A12."""

    name, log_odds = "the classifier's posterior", True

    def _shares(self, index) -> Float[Tensor, "n K"]:
        return predict(self.context.model, self.context.images, index).double().softmax(1)

    def score_images(self, images):
        """See `ImageGuide`."""
        return self._shares(self.context.pool_index(images)).clamp(1e-6, 1 - 1e-6).logit()


class ConfusionGuide(PosteriorGuide, source="confusion", compared=True):
    r"""Log-odds that the original model takes a validation image of the exemplar's class for a candidate label:
    $p_{kl} = (C_{kl} + 1) / (\sum_j C_{kj} + K)$ with the confusion matrix C.  Source: A12."""

    name = "the classifier's confusion"

    @cached_property
    def _confusion(self):
        images, held_out, k = self.context.images, self.context.held_out, len(self.class_names)
        predicted = predict(self.context.model, images, held_out).argmax(1)
        counts = torch.bincount(images.y[held_out] * k + predicted, minlength=k * k).view(k, k).double() + 1
        return counts / counts.sum(1, keepdim=True)

    def _shares(self, index):
        return self._confusion[self.context.images.y[index]]


class OwnFeatureGuide(OwnGuide, FeatureGuide, source="own-features", compared=True):
    """`FeatureGuide` with the features that the original model's head receives.  Source: A12."""

    name = "the classifier's class-mean features"

    @torch.no_grad()
    def features(self, images):
        """See `FeatureGuide`."""
        index = self.context.pool_index(images)
        return models.features(self.context.model.eval(), self.context.images.batch(index))[1].float().cpu()
