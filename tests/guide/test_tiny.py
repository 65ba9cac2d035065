"""The tiny multimodal LLM: real weights from pip, a connector that ships, the same interface as the large ones."""

import numpy as np
import pytest
import torch
from conftest import needs_weights

from megu import guide
from megu.guide import GuideContext, tiny
from megu.guide.composed import dark_on_white, photo_like
from megu.settings.config import Guide


@pytest.fixture(scope="module")
def loaded():
    """The guide with its weights."""
    needs_weights(tiny.smollm2, tiny.lite0)
    return tiny.TinyMllm(GuideContext(settings=Guide(batch=10, dtype="float32")))


@pytest.fixture(scope="module")
def asked(mini):
    """The first test image of a trouser, a sandal and a bag with every label; no image of the test set was trained
    on."""
    first = [mini.num_train + int((mini.y[mini.num_train :] == k).nonzero()[0]) for k in (1, 5, 8)]
    return [guide.Question(mini.x[i].numpy(), label) for i in first for label in mini.classes]


def test_it_sees_what_it_is_asked_about(loaded, asked, mini):
    scores = np.array(list(loaded.score(asked))).reshape(3, 10)
    centred = scores - scores.mean(0)
    assert [mini.classes[k] for k in centred.argmax(1)] == ["trouser", "sandal", "bag"]
    assert loaded.cost.prefills == 3 and loaded.cost.mass / loaded.cost.answers > 0.9  # it does say True or False
    # The negative control: a connector of noise leaves the same networks blind.
    projector = loaded._loaded[0].model.multi_modal_projector
    kept = {name: value.clone() for name, value in projector.state_dict().items()}
    with torch.no_grad():
        for weight in projector.parameters():
            weight.copy_(weight[torch.randperm(len(weight), generator=torch.Generator().manual_seed(0))])
    blind = np.array(list(loaded.score(asked))).reshape(3, 10)
    projector.load_state_dict(kept)
    assert (blind - blind.mean(0)).std() < 0.5 * centred.std()
    whole = tiny.TinyMllm(GuideContext(settings=Guide(reuse=False, dtype="float32")))
    assert list(whole.score(asked[3:5])) == pytest.approx(scores[0, 3:5], abs=1e-3)


def test_drawings_are_turned_dark_on_white_and_photos_are_not():
    black, photo = np.zeros((1, 1, 28, 28), "uint8"), np.zeros((1, 3, 28, 28), "uint8")
    drawing = np.pad(np.full((1, 1, 8, 8), 200, "uint8"), ((0, 0), (0, 0), (10, 10), (10, 10)))
    assert dark_on_white(drawing)[0, 0, 0, 0] == 255 and dark_on_white(drawing)[0, 0, 12, 12] == 55
    assert dark_on_white(photo).max() == 0 and photo_like(photo).mean() < -0.9
    assert photo_like(black).mean() > 0.9 and photo_like(255 - black).mean() > 0.9
