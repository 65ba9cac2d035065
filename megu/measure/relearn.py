r"""Relearn time: how many steps of ordinary training bring the forgotten back."""

from megu.core.models import copy_of
from megu.core.train import predict
from megu.measure.metrics import accuracy
from megu.settings.config import Recipe

RECIPE = Recipe(epochs=2, batch=256, optimiser="adam", lr=1e-3, schedule="constant", weight_decay=0.0)


class _BackError(Exception):
    """The forgotten is known again."""


def relearn_steps(task, model, share=0.95, images=200, recipe=RECIPE):
    r"""Training steps on all training images until the forget images are known as well as the original knew them.

    $\min\{t : \mathrm{acc}_f(\theta_t) \ge 0.95\,\mathrm{acc}_f(\theta_{orig})\}$; the accuracy is taken on at most
    ``images`` forget images.

    Args:
        task: `megu.methods.task.Task`.  model: the unlearned model; it is not altered.
        share: of the original's accuracy.  recipe: `megu.settings.config.Recipe`.
    Returns: steps; 0 where nothing was forgotten; the number of all steps + 1 where it did not come back.
    Source: Chundawat et al. 2023, zero-shot unlearning: Adam 1e-3, batches of 256.
    """
    pool, y, steps = task.images, task.images.y, 0
    forget = task.split.forget[:: max(1, len(task.split.forget) // images)]

    def known(model):
        return accuracy(predict(model, pool, forget), y[forget])

    goal = share * known(task.original)
    if known(model) >= goal:
        return 0

    def check(model):
        nonlocal steps
        steps += 1
        if known(model) >= goal:
            raise _BackError

    try:
        task.train_on(
            copy_of(model),
            task.split.train,
            y[task.split.train],
            recipe,
            after=check,
            label="relearning",
            purpose="relearn order",
        )
    except _BackError:
        return steps
    return steps + 1
