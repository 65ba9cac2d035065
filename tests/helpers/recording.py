"""Methods on a small request, and what they train on."""

from types import SimpleNamespace

from megu.methods import METHODS
from megu.methods.task import Task


def unlearn(name, task, **values):
    """The model that a method with these settings makes."""
    return METHODS[name].unlearn(task, METHODS[name].settings(**values))


def recorded(monkeypatch, task, name, **values):
    """How a method calls train_on; nothing is trained."""
    seen = []

    def train_on(self, model, index, labels, recipe, **how):
        seen.append(SimpleNamespace(model=model, index=index, labels=labels, recipe=recipe, **how))
        return model

    monkeypatch.setattr(Task, "train_on", train_on)
    unlearn(name, task, **values)
    return seen
