r"""How many images each method sends through the network: counted by hooks while it runs on a stand-in."""

from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from megu.core.device import Compute, generator
from megu.core.splits import Split, forgotten_classes
from megu.datasets.images import Images
from megu.methods import METHODS
from megu.methods.task import Task
from megu.perturbing_labels import transition_matrix
from megu.settings.config import Part, Settings


@dataclass(frozen=True)
class Passes:
    r"""Images that pass forward, and backward to the weights (``trained``), to the image (``noised``) or not at all
    (``seen``); ``most``: in the largest batch that is trained on, or else seen."""

    trained: int = 0
    noised: int = 0
    seen: int = 0
    most: int = 0

    def flops(self, forward: float) -> float:
        r"""$(3\,trained + 2\,noised + seen)\,f$, f = ``forward``: operations of one forward pass."""
        return (3 * self.trained + 2 * self.noised + self.seen) * forward


@contextmanager
def counting(model: nn.Module):
    r"""The list of (kind of pass, images) of each batch that passes through a model, or a copy, in the block."""
    batches = []

    def note(module, args):
        graph = torch.is_grad_enabled()
        weights = graph and any(weight.requires_grad for weight in module.parameters())
        kind = "trained" if weights else "noised" if graph and args[0].requires_grad else "seen"
        batches.append((kind, len(args[0])))

    with model.register_forward_pre_hook(note):
        yield batches


def total(batches: list[tuple[str, int]]) -> Passes:
    r"""The `Passes` of what `counting` lists."""
    sizes = {kind: [images for one, images in batches if one == kind] for kind in ("trained", "seen", "noised")}
    most = max(sizes["trained"] or sizes["seen"] or sizes["noised"] or [0])
    return Passes(**{kind: sum(found) for kind, found in sizes.items()}, most=most)


@dataclass(frozen=True)
class _CountedTask(Task):
    """Trainings run for one epoch, which counts as often as the recipe has epochs."""

    batches: list = field(default_factory=list)

    def remembers(self, model):
        super().remembers(model)
        return False  # as usual; a stand-in forgets nothing

    def train_on(self, model, index, labels, recipe, **more):
        start = len(self.batches)
        one = recipe.model_copy(update={"epochs": 1, "lr": 1e-9, "schedule": "constant"})
        super().train_on(model, index, labels, one, **more)
        self.batches.extend((recipe.epochs - 1) * self.batches[start:])
        return model


def _probe(images):
    inputs = int(np.prod(images.shape))
    net = nn.Sequential(nn.Flatten(), nn.Linear(inputs, images.num_classes))
    with torch.no_grad():
        net[1].bias.zero_()
        net[1].weight.copy_(10 / inputs**0.5 * torch.randn(net[1].weight.shape, generator=generator(0, "probe")))
    return net.eval()


def similar(num_classes: int) -> np.ndarray:
    """A transition matrix that stands for a guide's answers."""
    return transition_matrix(np.random.default_rng(0).random((num_classes, num_classes)) + np.eye(num_classes))


def passes_of(name: str, parameters: Part, settings: Settings, images: Images, split: Split) -> Passes:
    r"""The `Passes` of a method with its ``parameters`` on a request: it runs on one layer whose answers differ from
    image to image, with a guide without knowledge, so that nearly all labels are chosen; few pixels do."""
    model, training = _probe(images), settings.training.model_copy(update={"augment": None})
    with counting(model) as batches:
        task = _CountedTask(
            model, images, split, forgotten_classes(images, split, settings), similar(images.num_classes),
            settings.retain_images, None, training, settings.seed, Compute(images.x.device, False), batches=batches,
        )  # fmt: skip
        METHODS[name].unlearn(task, parameters)
    return total(batches)
