"""Relearn time: how many steps of ordinary training bring the forgotten back."""

from megu.core.models import accuracy, copy_of
from megu.core.train import Position, predict
from megu.settings.config import Recipe

RECIPE = Recipe(epochs=2, batch=256, optimiser="adam", lr=1e-3, schedule="constant", weight_decay=0.0)


class _BackError(Exception):
    """The forgotten is known again."""


def relearn_steps(task, model) -> int:
    r"""Training steps on all training images until the forget images are known as the original knew them.

    $\min\{t : \mathrm{acc}_f(\theta_t) \ge 0.95\,\mathrm{acc}_f(\theta_{orig})\}$, on about 200 forget images of the
    `megu.methods.task.Task`; the number of all steps + 1 where they do not come back.

    Source: Chundawat et al. 2023, zero-shot unlearning: Adam 1e-3, batches of 256.
    """
    y, train, at = task.images.y, task.split.train, Position()
    forget = task.split.forget[:: max(1, len(task.split.forget) // 200)]

    def known(model):
        return accuracy(predict(model, task.images, forget), y[forget])

    goal = 0.95 * known(task.original)
    if known(model) >= goal:
        return 0

    def check(model):
        if known(model) >= goal:
            raise _BackError

    how = {"after": check, "at": at, "label": "relearning", "purpose": "relearn order"}
    try:
        task.train_on(copy_of(model), train, y[train], RECIPE, **how)
    except _BackError:
        return at.step
    return at.step + 1
