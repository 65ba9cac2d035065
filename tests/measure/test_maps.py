"""Maps point where the pattern is."""

import numpy as np
import pytest
import torch
from torch import nn

from megu.datasets.images import pool
from megu.measure.maps import pattern_map, places
from megu.measure.patterns import moments


class Grid(nn.Module):
    def __init__(self, tokens):
        super().__init__()
        self.tokens, self.body, self.head = tokens, nn.Identity(), nn.Linear(2, 2)

    def forward(self, x):
        found = torch.cat([x, -x], 1)  # (n, 2, h, w)
        if self.tokens:
            found = torch.cat([found.mean((2, 3))[:, None], found.flatten(2).transpose(1, 2)], 1)  # (n, 1 + h w, 2)
        found = self.body(found)
        return self.head(found.mean(1) if self.tokens else found.mean((2, 3)))


@pytest.mark.parametrize("tokens", [False, True])
def test_a_map_points_at_what_the_units_see(tokens):
    x = np.random.default_rng(0).integers(90, 110, (40, 8, 8)).astype("uint8")
    x[:, 2, 5] = 250
    images = pool("spot", (x, np.arange(40) % 2), (x[:2], np.array([0, 1])), ("a", "b"))
    model, index = Grid(tokens).eval(), torch.arange(40)
    found = moments(model, images, index, ("body",), boot=0, null=0)["body"]
    sets = np.array([[True, False], [False, True], [False, False]])
    spot, other, none = (pattern_map(model, images.batch(index), "body", units, found) for units in sets)
    assert spot.shape == (40, 8, 8) and (spot.flatten(1).argmax(1) == 2 * 8 + 5).all()
    assert other[:, 2, 5].max() == 0 and none.sum() == 0


@pytest.mark.parametrize("shape", [(2, 9), (2, 8, 3)])
def test_a_vector_and_tokens_of_no_square_have_no_places(shape):
    with pytest.raises(ValueError, match="have no places"):
        places(torch.zeros(shape))
