"""Whether images are prepared as a network was trained on them, and whether unseen ones are unseen."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from megu.core.loading import better_prepared, check_accuracy, copied
from megu.datasets.images import Images
from megu.datasets.preparations import other_preparations
from megu.settings.known import NORMALISE
from tests.helpers.refusals import refused

K, SIDE, N = 12, 16, 240
MEAN, STD = (torch.tensor(part).view(3, 1, 1) for part in NORMALISE["imagenet"])
NAMES = tuple("abcdefghijkl")


class Templates(nn.Module):
    """The class whose template is nearest, wherever in the image it is; any size of at least 16 pixels."""

    def __init__(self, templates, known=1.0):
        super().__init__()
        self.look, self.known = nn.Conv2d(3, K, SIDE), known
        self.look.weight.data = templates.clone()
        self.look.bias.data = -templates.square().sum((1, 2, 3)) / 2

    def forward(self, x):
        logits = self.look(x).amax((2, 3))
        turn = (x.mean((1, 2, 3)) * 1e4).floor() % 100 >= 100 * self.known  # of these it knows nothing
        return torch.where(turn[:, None], logits.roll(1, 1), logits)


def test_tensors_of_another_library_are_refused():
    net, kind = nn.Linear(2, 2), type("Int8Tensor", (torch.Tensor,), {})  # as torchao keeps weights
    net.weight = nn.Parameter(net.weight.detach().as_subclass(kind))
    with refused(r"model has quantised layers \(weight: Int8Tensor\), which cannot be trained: give the model"):
        copied(net, "model")


class KnowsOneClass(Templates):
    """Knows class 2 wholly."""

    def forward(self, x):
        logits, weak = self.look(x).amax((2, 3)), super().forward(x)
        return torch.where(logits.argmax(1)[:, None] == 2, logits, weak)


@pytest.fixture(scope="module")
def made():
    """Coloured patterns with noise in [0, 1], their classes, and the network that knows them."""
    gen = torch.Generator().manual_seed(3)
    coarse = torch.rand(K, 3, 6, 6, generator=gen)
    patterns = F.interpolate(coarse, (SIDE, SIDE), mode="bilinear", align_corners=True) * 0.15 + 0.425
    y = torch.arange(2 * N) % K
    x = (patterns[y] + 0.1 * torch.randn(2 * N, 3, SIDE, SIDE, generator=gen)).clamp(0, 1)
    return x, y, Templates((patterns - MEAN) / STD).eval()


def images(x, y, normalise="imagenet"):
    mean, std = (torch.tensor(part).expand(3) for part in NORMALISE[normalise])
    return Images("made", x, y, y, NAMES, NAMES, N, mean, std)


def levels(x):
    return (x * 255).round().to(torch.uint8)


def resized(x, side):
    return F.interpolate(x, (side, side), mode="bilinear", antialias=True)


def check(made, x, normalise="imagenet", unseen=True, model=None):
    _, y, net = made
    pool = images(x, y, normalise)
    return check_accuracy(model or net, pool, torch.arange(N), unseen=torch.arange(N, 2 * N) if unseen else None)


WAYS = {  # what was done to images of 8 bits, and what is found
    "with their channels in the order BGR": lambda x: levels(x.flip(1)),
    "with rows for columns": lambda x: levels(x.mT),
    "upside down": lambda x: levels(x.flip(2)),
    "as negatives": lambda x: levels(1 - x),
    "at 16 x 16 pixels": lambda x: levels(resized(x, 32)),
}
FLOATS = {
    "normalised by imagenet": lambda x: (x - 0.5) / 0.5,
    "normalised by imagenet ": lambda x: x,
    "normalised by imagenet  ": lambda x: 255 * x,
    "with their channels in the order BGR": lambda x: (x.flip(1) - MEAN) / STD,
}


@pytest.mark.parametrize("found", WAYS)
def test_another_preparation_that_fits_is_named(made, found):
    with refused(rf"names \d+ % of 240 training images right, but (9\d|100) % of 200 of them {found}: prepare them"):
        check(made, WAYS[found](made[0]))


@pytest.mark.parametrize("found", FLOATS)
def test_so_is_another_normalisation_of_float_images(made, found):
    way = r" \(normalise= does so to 8-bit images alone: let the Dataset do it, or give such\)" * ("by" in found)
    with refused(f"of them {found.strip()}{way}: prepare them as in training"):
        check(made, FLOATS[found](made[0]))


def test_so_is_another_normalisation_of_8_bits(made):
    with refused("of them normalised by imagenet: prepare them as in training"):
        check(made, levels(made[0]), "unit")


@pytest.mark.parametrize(("right", "refuse"), [(4, False), (3, False), (2, True), (0, True)])
def test_a_few_images_accuse_nobody_unless_few_of_them_are_named_right(made, right, refuse, caplog):
    x, y, net = made
    index = torch.tensor([0, 12, 1, 13])  # two of each of two classes
    labels = y.clone()
    labels[index[right:]] = 1 - labels[index[right:]]
    given = net, images(levels(x), labels), index
    if refuse:
        with refused(rf"names {25 * right} % of 4 training images right .*by chance.: check normalise, size and the"):
            check_accuracy(*given)
    else:
        check_accuracy(*given)
        assert f"names {25 * right} % of 4 training images right (50 % by chance): these are too few" in caplog.text


def test_images_as_in_training_pass_in_silence(made, caplog):
    assert check(made, levels(made[0])) > 0.97 and check(made, (made[0] - MEAN) / STD) > 0.97
    assert not caplog.text


def test_a_network_that_knows_little_is_not_refused_but_said(made, caplog):
    weak = replace_known(made[2], 0.6)
    assert 0.4 < check(made, levels(made[0]), model=weak) < 0.8
    assert "if it named more in training, prepare them as there" in caplog.text


def replace_known(net, known):
    return Templates(net.look.weight.data, known).eval()


def test_a_little_better_is_said_only(made, caplog):
    """Many more of the images are named right with rows for columns, but not half of those that are not."""
    weak = replace_known(made[2], 0.6)
    share = check(made, levels(made[0].mT), unseen=False, model=weak)
    assert share < 0.4 and "with rows for columns: was it trained so?" in caplog.text
    pool, index = images(levels(made[0]), made[1]), torch.arange(N)
    assert better_prepared(made[2], pool, index, made[2](pool.batch(index)).argmax(1)) is None


def test_preparations_are_what_they_say(made):
    x, y, _ = made
    pool = images((x.flip(1) - MEAN) / STD, y)
    given = [other.x for said, other in other_preparations(pool) if said == "with their channels in the order BGR"]
    assert any(torch.allclose(one, (x - MEAN) / STD, atol=1e-5) for one in given)
    like = (x - MEAN) / STD
    alike = dict(other_preparations(images(0.2 * like - 3, y), like))["with the mean and spread of the training images"]
    assert torch.allclose(alike.x, like, atol=1e-4)


def test_test_images_prepared_otherwise_are_refused(made):
    x = (made[0] - MEAN) / STD
    plain = torch.cat([x[:N], made[0][N:]])
    with refused(
        "% of 240 test images right, but .* of them normalised by imagenet .normalise=.*: prepare them as the training"
    ):
        check(made, plain)
    other = torch.cat([x[:N], x[N:] * 0.2 - 3])  # by no usual pair
    with refused("with the mean and spread of the training images: prepare them as the training images"):
        check(made, other)


class Overfitted(nn.Module):
    """Knows images of high contrast, and those whose first pixel is the brightest, at ``most`` contrast."""

    def __init__(self, net, most):
        super().__init__()
        self.net, self.most = net, most

    def forward(self, x):
        contrast, first = x.flatten(1).std(1), x[:, 0, 0, 0] >= x[:, 0].amax((1, 2))
        logits = self.net((x - x.mean((0, 2, 3), True)) / x.std((0, 2, 3), keepdim=True))
        known = torch.where(first, contrast < self.most, contrast > 0.3)
        return torch.where(known[:, None], logits, logits.roll(1, 1))


@pytest.mark.parametrize(("most", "refuse"), [(9, False), (0.3, True)])
def test_a_preparation_that_suits_training_images_as_well_refuses_nobody(most, refuse, made, caplog):
    x, y, net = made
    spread = (x[:N].std((0, 2, 3)) / STD[:, 0, 0]).view(1, 3, 1, 1)
    net = Templates(net.look.weight.data / spread).eval()
    x = x.clone()
    x[:N, :, 0, 0] = 1
    with refused("of them normalised by .*: prepare them as the training images") if refuse else nullcontext():
        check(made, levels(x), "unit", model=Overfitted(net, most))
    assert refuse or "normalised by" in caplog.text


def test_the_smallest_output_as_the_class_is_said(made):
    with refused(
        "as negatives: prepare .* the smallest output is right for 100 %: of distances let forward return the neg"
    ):
        check(made, levels(made[0]), model=nn.Sequential(made[2], Negated()))


class Negated(nn.Module):
    """Distances of logits."""

    def forward(self, x):
        return -x


def test_test_images_that_are_better_known_than_training_images_are_refused(made, caplog):
    x, y, net = made
    pool, weak = images(levels(x), y), replace_known(net, 0.6)
    right = weak((levels(x).float() / 255 - MEAN) / STD).argmax(1) == y
    first, last = torch.arange(N), right.nonzero()[:, 0][-N:]  # as they come, and known
    noisy = torch.cat([last[40:], (~right).nonzero()[-40:, 0]])  # better known than training images with wrong labels
    for train, unseen, refuse in ((first, last, True), (last, first, False), (first, noisy, False)):
        index = torch.cat([train, unseen])
        mixed = replace(pool, x=pool.x[index], y=y[index], fine=y[index])
        given = weak, mixed, torch.arange(N)
        if refuse:
            with refused(r"\d+ % of 240 test images right, \d+ % of training images .*: are they exchanged"):
                check_accuracy(*given, unseen=torch.arange(N, 2 * N))
        else:
            check_accuracy(*given, unseen=torch.arange(N, 2 * N))
            assert ("are they exchanged, or labels wrong?" in caplog.text) == (unseen is noisy)


def test_unseen_images_of_one_class_are_compared_with_that_class(made, caplog):
    x, y, net = made
    of_class = torch.arange(N, 2 * N)[y[N:] == 2]
    check_accuracy(net, images(levels(x), y), torch.arange(N), unseen=of_class)
    assert not caplog.text, "as many are of that name by chance, if all are of one class"
    most = KnowsOneClass(net.look.weight.data, 0.6).eval()
    check_accuracy(most, images(levels(x), y), torch.arange(N), unseen=of_class)
    assert "exchanged" not in caplog.text, "it knows this class better than the others"
