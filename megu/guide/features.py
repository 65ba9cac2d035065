r"""The control that every guide has to beat: no language, only the similarity of pretrained image features."""

from functools import cached_property

import numpy as np
import torch
from torch.nn import functional as F

from megu.guide.base import exemplar_images
from megu.guide.composed import LITE0_SHA, by_image, image_outputs


class FeatureGuide:
    r"""Cosine between an exemplar's features and the mean features of a class, both centred.

    $s(x, l) = \cos(\phi(x) - \mu, \mu_l - \mu)$ with $\phi$ the pooled features of EfficientNet-Lite0, $\mu_l$ their
    mean over the exemplars of class l and $\mu$ the mean of the $\mu_l$.

    Args:
        class_names: the candidate labels.
        images: `megu.datasets.images.Images` that name them.
        exemplars: ``(m,)`` int64, the exemplars of all classes.
    Source: the "class-mean features" alternative of A12 in the assumption log.
    """

    name = "efficientnet-lite0 class-mean features"

    def __init__(self, class_names, images, exemplars, settings=None, device=None):
        self.class_names = tuple(class_names)
        self._x, self._y, pixels = exemplar_images(images, exemplars)
        self.version = f"lite0 {LITE0_SHA[:8]}, exemplars {pixels}"

    def _look(self, pixels):
        """``(n, d)`` features of ``(n, C, H, W)`` uint8 images."""
        return image_outputs(pixels)[1]

    @cached_property
    def _means(self):
        found = self._look(self._x)
        means = torch.stack([found[self._y == k].mean(0) for k in range(len(self.class_names))])
        return means, means.mean(0)

    def score(self, questions):
        r"""Raw scores of questions, in [-1, 1]."""
        means, centre = self._means
        column = {name: k for k, name in enumerate(self.class_names)}
        groups = by_image(questions)
        found = self._look(np.stack([group[0].image for group in groups]))
        cosine = F.normalize(found - centre, dim=1) @ F.normalize(means - centre, dim=1).T
        return [cosine[i, column[question.label]].item() for i, group in enumerate(groups) for question in group]
