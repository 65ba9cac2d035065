r"""The classifier itself as guide: what it mistakes for what on validation images."""

from functools import cached_property

import torch

from megu.core.train import predict
from megu.guide.base import source
from megu.guide.posterior import PosteriorGuide


@source("confusion", compared=True)
class ConfusionGuide(PosteriorGuide):
    r"""Log-odds that the original model takes a validation image of the exemplar's class for a candidate label.

    $p_{kl} = (C_{kl} + 1) / (\sum_j C_{kj} + K)$, with C the confusion matrix on the validation images; $s$ as of
    `megu.guide.posterior.PosteriorGuide`.

    Source: the "model's own confusion" alternative of A12 in the assumption log.
    """

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
