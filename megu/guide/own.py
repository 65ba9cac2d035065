r"""The classifier itself as guide: what it half believes, what it mistakes for what, whose features are alike; nothing
else is asked."""

import hashlib
from functools import cached_property

import numpy as np
import torch

from megu.core import models
from megu.core.train import predict
from megu.guide.base import exemplar_images
from megu.guide.composed import by_image
from megu.guide.features import FeatureGuide


def _weights(model):
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]


class PosteriorGuide:
    r"""Log-odds that the original model gives a candidate label.

    $s(x, l) = \log p_l(x) - \log(1 - p_l(x))$ with $p$ its softmax, held within [1e-6, 1 - 1e-6].

    Args:
        class_names, images, exemplars: as of `megu.guide.features.FeatureGuide`; only exemplars can be asked about.
        model: the original classifier.
        held_out: ``(n,)`` int64, validation images; not used here.
    Source: the "model's own posterior" alternative of A12 in the assumption log.
    """

    name, log_odds, needs_model, any_image = "the classifier's posterior", True, True, False

    def __init__(self, class_names, images, exemplars, settings=None, device=None, *, model, held_out):
        self.class_names, self.images, self.model, self.held_out = tuple(class_names), images, model, held_out
        pixels, _, digest = exemplar_images(images, exemplars)
        self._index = {image.tobytes(): i for image, i in zip(pixels, exemplars.tolist(), strict=True)}
        self.version = f"weights {_weights(model)}, exemplars {digest}"

    def _share(self, index):
        """``(n, K)``: probability of every label for images of the pool."""
        return predict(self.model, self.images, index).double().softmax(1)

    def score(self, questions):
        r"""Raw scores of questions about exemplars."""
        column, groups = {name: k for k, name in enumerate(self.class_names)}, by_image(questions)
        index = torch.tensor(
            [self._index[np.ascontiguousarray(group[0].image).tobytes()] for group in groups],
            device=self.images.y.device,
        )
        odds = self._share(index).clamp(1e-6, 1 - 1e-6).logit()
        return [odds[i, column[question.label]].item() for i, group in enumerate(groups) for question in group]


class ConfusionGuide(PosteriorGuide):
    r"""Log-odds that the original model takes a validation image of the exemplar's class for a candidate label.

    $p_{kl} = (C_{kl} + 1) / (\sum_j C_{kj} + K)$, with C the confusion matrix on the validation images; $s$ as of
    `PosteriorGuide`.

    Source: the "model's own confusion" alternative of A12 in the assumption log.
    """

    name = "the classifier's confusion"

    @cached_property
    def _confusion(self):
        k, y = len(self.class_names), self.images.y[self.held_out]
        said = predict(self.model, self.images, self.held_out).argmax(1)
        counts = torch.bincount(y * k + said, minlength=k * k).view(k, k).double() + 1
        return counts / counts.sum(1, keepdim=True)

    def _share(self, index):
        return self._confusion[self.images.y[index]]


class OwnFeatureGuide(FeatureGuide):
    r"""`megu.guide.features.FeatureGuide` with the original model's own features, those that its head receives.

    Args: as of `PosteriorGuide`.
    Source: the "class-mean features" alternative of A12 in the assumption log.
    """

    name, needs_model, any_image = "the classifier's class-mean features", True, False

    def __init__(self, class_names, images, exemplars, settings=None, device=None, *, model, held_out):
        super().__init__(class_names, images, exemplars)
        self._index = {image.tobytes(): i for image, i in zip(self._x, exemplars.tolist(), strict=True)}
        self.images, self.model, self.version = (
            images,
            model,
            f"weights {_weights(model)}, {self.version.rpartition(', ')[2]}",
        )

    @torch.no_grad()
    def _look(self, pixels):
        index = torch.tensor(
            [self._index[np.ascontiguousarray(image).tobytes()] for image in pixels], device=self.images.y.device
        )
        return models.features(self.model.eval(), self.images.batch(index))[1].float().cpu()
