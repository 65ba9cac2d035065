r"""The classifier itself as guide: what it half believes, what it mistakes for what, whose features are alike."""

import hashlib
from functools import cached_property

import torch

from megu.core import models
from megu.core.train import predict
from megu.guide.base import ImageGuide
from megu.guide.features import FeatureGuide


class OwnGuide(ImageGuide):
    r"""A guide that is made from the original model, and knows its exemplars alone."""

    needs_model, any_image = True, False

    def __init__(self, context):
        super().__init__(context)
        digest = hashlib.sha256()
        for name, value in sorted(context.model.state_dict().items()):
            digest.update(name.encode() + value.cpu().numpy().tobytes())
        self.version = f"weights {digest.hexdigest()[:8]}, exemplars {context.exemplar_images[2]}"


class PosteriorGuide(OwnGuide, source="posterior", compared=True):
    r"""Log-odds that the original model gives a candidate label: $s(x, l) = \log p_l(x) - \log(1 - p_l(x))$ with $p$
    its softmax, held within [1e-6, 1 - 1e-6].  Source: A12."""

    name, log_odds = "the classifier's posterior", True

    def share(self, index):
        """``(n, K)``: probability of every label for images of the pool."""
        return predict(self.context.model, self.context.images, index).double().softmax(1)

    def score_images(self, images):
        """See `ImageGuide`."""
        return self.share(self.context.pool_index(images)).clamp(1e-6, 1 - 1e-6).logit()


class ConfusionGuide(PosteriorGuide, source="confusion", compared=True):
    r"""Log-odds, as of `PosteriorGuide`, that the original model takes a validation image of the exemplar's class for a
    candidate label: $p_{kl} = (C_{kl} + 1) / (\sum_j C_{kj} + K)$ with the confusion matrix C.  Source: A12."""

    name = "the classifier's confusion"

    @cached_property
    def _confusion(self):
        images, held_out, k = self.context.images, self.context.held_out, len(self.class_names)
        predicted = predict(self.context.model, images, held_out).argmax(1)
        counts = torch.bincount(images.y[held_out] * k + predicted, minlength=k * k).view(k, k).double() + 1
        return counts / counts.sum(1, keepdim=True)

    def share(self, index):
        """``(n, K)``: share of each label among the answers about validation images of the same class."""
        return self._confusion[self.context.images.y[index]]


class OwnFeatureGuide(OwnGuide, FeatureGuide, source="own-features", compared=True):
    r"""`FeatureGuide` with the original model's own features, those that its head receives.  Source: A12."""

    name = "the classifier's class-mean features"

    @torch.no_grad()
    def features(self, images):
        """See `FeatureGuide`."""
        index = self.context.pool_index(images)
        return models.features(self.context.model.eval(), self.context.images.batch(index))[1].float().cpu()
