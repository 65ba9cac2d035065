r"""Shadow models: classifiers trained on random halves of all images, for the likelihood-ratio attack."""

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from megu.core.device import generator
from megu.core.train import predict
from megu.measure.attacks import logit_confidence

FIRST_SEED = 5000  # of the shadows; never that of a model which is attacked


def halves(count, pool, first=FIRST_SEED):
    r"""Which shadow is trained on which image: every image is in half of the shadows, or as near as an odd number
    allows.

    Args:
        count: S.  pool: N.  first: seed.
    Returns: ``(S, N)`` bool tensor.
    """
    order = torch.rand(count, pool, generator=generator(first, "shadow halves")).argsort(0)
    return order < (count + 1) // 2


def confidences(models, count):
    r"""Confidence of every shadow model on every image that is not for validation; each shadow is trained once and
    kept.

    Test images are in the pool, too: an image that is in half of the trainings, whichever part it comes from, makes
        members and non-members of the attacked model exchangeable for the shadows.

    Args:
        models: `megu.runs.models.Models`.  count: S, at least 2.
    Returns: (`megu.measure.attacks.logit_confidence` ``(S, N)`` float, inside ``(S, N)`` bool) over the whole pool;
        validation images are in no shadow.
    Source: Carlini et al. 2022, arXiv 2112.03570; recipe and architecture are those of the attacked models.
    """
    pool, chosen = _pool(models.split).cpu(), halves(count, len(_pool(models.split)))
    found = np.zeros((count, len(models.images.y)))
    for k in tqdm(range(count), desc="shadows", leave=False):
        found[k, pool] = confidence(models, k, count)
    inside = np.zeros(found.shape, bool)
    inside[:, pool] = chosen
    return found, inside


def confidence(models, k, count):
    r"""Confidence of shadow k of ``count`` on the images of the pool ``(n,)``: trained once for all runs with the same
    originals."""
    images, pool = models.images, _pool(models.split)

    def make():
        index = pool[halves(count, len(pool))[k].to(pool.device)]
        model = models.trained(FIRST_SEED + k, "shadow", index, f"shadow {k + 1} of {count}")
        return {"confidence": logit_confidence(predict(model, images, pool), images.y[pool])}, {}

    return models.share(f"shadows/{k}-of-{count}.safetensors", make, save_file, load_file)["confidence"]


def _pool(split):
    return torch.cat([split.train, split.test_retain, split.test_forget]).sort().values
