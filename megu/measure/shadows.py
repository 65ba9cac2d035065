"""Shadow models: classifiers trained on random halves of all images, for `megu.measure.attacks.lira_scores`."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors.numpy import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from megu.core.device import generator
from megu.core.train import predict
from megu.measure.attacks import logit_confidence

FIRST_SEED = 5000  # of the shadows; never that of a model which is attacked


def halves(count: int, pool: int) -> Bool[Tensor, "S N"]:
    """Which shadow is trained on which image: every image is in half of them, or as near as an odd number allows."""
    order = torch.rand(count, pool, generator=generator(FIRST_SEED, "shadow halves")).argsort(0)
    return order < (count + 1) // 2


def confidences(models, count: int) -> tuple[Float[np.ndarray, "S N"], Bool[np.ndarray, "S N"]]:
    """(confidences, inside) of at least two shadows of `megu.runs.models.Models` over the whole pool.

    Training and test images are in the halves, which makes members and non-members exchangeable; validation images not.

    Source: Carlini et al. 2022, arXiv 2112.03570.
    """
    pool = _pool(models.split).cpu()
    found = np.zeros((count, len(models.images.y)))
    inside = np.zeros(found.shape, bool)
    inside[:, pool] = halves(count, len(pool))
    for k in tqdm(range(count), desc="shadows", leave=False):
        found[k, pool] = confidence(models, k, count)
    return found, inside


def confidence(models, k: int, count: int) -> Float[np.ndarray, " n"]:
    """`logit_confidence` of shadow k on the pool, made once for all runs with the same originals."""
    images, pool = models.images, _pool(models.split)

    def make():
        index = pool[halves(count, len(pool))[k].to(pool.device)]
        model = models.trained(FIRST_SEED + k, "shadow", index, f"shadow {k + 1} of {count}")
        return {"confidence": logit_confidence(predict(model, images, pool), images.y[pool])}, {}

    return models.share(f"shadows/{k}-of-{count}.safetensors", make, save_file, load_file)["confidence"]


def _pool(split):
    return torch.cat([split.train, split.test_retain, split.test_forget]).sort().values
