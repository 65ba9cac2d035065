"""What a network is given, and what a loss is: channels last in memory everywhere, float32 in noise, means over images
and not over batches."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from megu import methods
from megu.core.device import Compute, generator
from megu.core.splits import Split
from megu.core.train import fit, predict
from megu.datasets.images import pool
from megu.measure.outputs import collect_outputs
from megu.methods import megu as method
from megu.noise_pair import optimise_noise
from megu.settings.config import Noise, Recipe

CPU = Compute(torch.device("cpu"), False)
SHAPE = (3, 4, 4)


class Probe(nn.Module):
    """A linear classifier of two classes that notes the layout of its images and the precision of its products."""

    def __init__(self):
        super().__init__()
        self.linear, self.layouts, self.kinds = nn.Linear(48, 2), [], []

    def forward(self, x):
        self.layouts.append((x.is_contiguous(memory_format=torch.channels_last), x.is_contiguous()))
        out = self.linear(x.flatten(1))
        self.kinds.append(out.dtype)
        return out

    def noted(self):
        """The notes, which a deep copy shares."""
        return set(self.layouts), set(self.kinds)

    def __deepcopy__(self, memo):
        other = Probe()
        other.load_state_dict(self.state_dict())
        other.layouts, other.kinds = self.layouts, self.kinds
        return other


@pytest.fixture(scope="module")
def images():
    x, y = (
        torch.randint(256, (6, 4, 4, 3), generator=generator(0), dtype=torch.uint8).numpy(),
        torch.tensor([0, 1] * 3).numpy(),
    )
    return pool("coloured", (x, y), (x, y), ("a", "b"))


def trained(net, images, compute=CPU):
    x, y = images.batch(torch.arange(6)), images.y[:6]
    fit(net, lambda index: (x[index], y[index]), 6, Recipe(epochs=1, batch=3, lr=0.01), generator(0), compute)


def noised(net, images):
    optimise_noise(net, torch.tensor([0, 1]), SHAPE, 1, Noise(steps=2), generator(0))


def noised_around(net, images):
    optimise_noise(net, torch.tensor([0, 1]), SHAPE, 1, Noise(steps=2), generator(0), images.batch(torch.arange(2)))


def predicted(net, images):
    predict(net, images, torch.arange(6), batch=3)


def observed(net, images):
    none = torch.empty(0, dtype=torch.int64)
    collect_outputs(
        net,
        images,
        Split(*[torch.arange(6)] + [none] * (len(Split.__dataclass_fields__) - 1)),
        look=lambda model, x: (model(x), x.flatten(1)),
    )


@pytest.mark.parametrize("use", [trained, noised, noised_around, predicted, observed])
def test_images_come_channels_last_and_in_float32(images, use):
    assert not images.batch(torch.arange(6)).is_contiguous(memory_format=torch.channels_last), (
        "so that somebody has to see to it"
    )
    net = Probe()
    use(net, images)
    assert net.noted() == ({(True, False)}, {torch.float32})


def test_the_probe_sees_another_precision(images):
    # Negative control: training in bfloat16.
    net = Probe()
    trained(net, images, replace(CPU, autocast=True))
    assert net.noted() == ({(True, False)}, {torch.bfloat16})


def test_autocast_is_for_training_and_changes_no_noise(tasks, monkeypatch):
    class EnoughError(Exception):
        pass

    def enough(*_, **__):
        raise EnoughError

    made, real = [], method.make_noise
    monkeypatch.setattr(method, "make_noise", lambda *given: made.append(real(*given)) or made[-1])
    monkeypatch.setattr("megu.methods.task.fit", enough)
    parameters = method.MeguSettings(noise=Noise(steps=5))
    for autocast in (False, True):
        task = tasks["class", "resnet-small"]
        with pytest.raises(EnoughError):
            methods.method("megu").unlearn(replace(task, compute=replace(task.compute, autocast=autocast)), parameters)
    (a, b) = made
    assert torch.equal(a.pos, b.pos) and torch.equal(a.neg, b.neg)
    with torch.autocast("cpu", torch.bfloat16):  # negative control: the same noise in bfloat16
        other = real(task, parameters, method.choose_labels(task, parameters))
    assert not torch.equal(a.pos, other.pos)


def test_the_loss_of_an_epoch_is_the_mean_over_images_also_where_batches_differ():
    net, values = (
        nn.Linear(1, 2),
        torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]),
    )  # no three of them have the mean of the other two
    sizes = []

    def mean(logits, wanted):
        sizes.append(len(wanted))
        return wanted.mean() + 0 * logits.sum()

    history = fit(
        net,
        lambda index: (torch.zeros(len(index), 1, 1, 1), values[index]),
        5,
        Recipe(epochs=2, batch=2, lr=0.01),
        generator(0),
        CPU,
        loss=mean,
    )
    assert sizes == [3, 2] * 2 and history == pytest.approx([6.2, 6.2])
