r"""The classifier itself as guide: what it half believes about an exemplar."""

import hashlib

import torch

from megu.core.train import predict
from megu.guide.base import ImageGuide, source


def weights_digest(model: torch.nn.Module) -> str:
    """Eight hex digits over names and values of all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]


@source("posterior", compared=True)
class PosteriorGuide(ImageGuide):
    r"""Log-odds that the original model gives a candidate label.

    $s(x, l) = \log p_l(x) - \log(1 - p_l(x))$ with $p$ its softmax, held within [1e-6, 1 - 1e-6].

    Source: the "model's own posterior" alternative of A12 in the assumption log.
    """

    name, log_odds, needs_model, any_image = "the classifier's posterior", True, True, False

    def __init__(self, context):
        super().__init__(context)
        self.version = f"weights {weights_digest(context.model)}, exemplars {context.exemplar_images[2]}"

    def share(self, index):
        """``(n, K)``: probability of every label for images of the pool."""
        return predict(self.context.model, self.context.images, index).double().softmax(1)

    def score_images(self, images):
        """See `megu.guide.base.ImageGuide`."""
        index = self.context.pool_index(images)
        return self.share(index).clamp(1e-6, 1 - 1e-6).logit()
