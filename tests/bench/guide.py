r"""How the composed guide's constants were chosen: sensible neighbours on validation images, `python
tests/bench/guide.py`.

Exemplars are never drawn from validation images, so what notebook 02 and the tests report is independent of the choice.
"""

import itertools

import numpy as np

from megu.core.splits import validation_indices
from megu.datasets.sources import load
from megu.guide import composed, draw_exemplars
from megu.guide.agreement import sensible_hits
from megu.perturbing_labels import similarity
from megu.settings.profiles import resolve


def main():
    settings = resolve()
    images = load(settings)
    validation = validation_indices(images, settings.data.validation)
    fit = composed.embed_text(composed.imagenet_labels()) @ composed.embed_text(list(images.classes)).T
    for exemplars in (8, 20):
        draws = [draw_exemplars(images, validation, exemplars, seed) for seed in range(8)]
        logits = [composed.image_outputs(images.x[index].numpy())[0] for index in draws]
        for words, temperature in itertools.product((40, 80, 160, 1000), (1.0, 2.0, 4.0)):
            chosen, hits = fit.max(1).values.topk(words).indices, []
            for index, found in zip(draws, logits, strict=True):
                scores = (found[:, chosen] / temperature).softmax(1) @ fit[chosen]
                hits.append(sensible_hits(similarity(scores.numpy(), images.y[index].numpy(), 10), images.classes))
            what = f"{exemplars:2d} exemplars, {words:4d} words, temperature {temperature}"
            print(f"{what}: {np.mean(hits):.2f} of 9 {hits}")


if __name__ == "__main__":
    main()
