"""A thousand wrong requests: each refused before long work, in one line that names the value and the remedy, with
nothing written."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from bad import NAMES, SEEN, ask, images, refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from megu.core.loading import read_model
from megu.datasets.folder import read_image
from megu.own import unlearn as unlearning
from megu.own.guide_choice import choose_guide


@pytest.fixture(autouse=True)
def no_long_work(monkeypatch):
    """Whatever is refused is refused before anything is trained or asked."""
    monkeypatch.setattr(unlearning, "carry_out", lambda *_: pytest.fail("long work began"))


def test_the_request_itself_would_be_good():
    with pytest.raises(pytest.fail.Exception, match="long work began"):
        ask()


many = settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
words = st.text(max_size=60).filter(lambda text: text.strip() not in NAMES)


@many
@given(words)
def test_names_that_are_no_class(name):
    refused(lambda: ask(name))


no_position = st.one_of(
    st.integers(max_value=-1), st.integers(min_value=30), st.floats(), st.booleans(), st.none(), st.just("ape")
)


@many
@given(st.lists(no_position, min_size=1, max_size=5))
def test_positions_that_are_none(positions):
    if set(map(str, positions)) == {"ape"}:
        positions.append(1)
    refused(lambda: ask(positions))


@many
@given(
    st.one_of(
        st.binary(min_size=1, max_size=80),
        st.lists(st.one_of(words, st.integers(min_value=30)), min_size=1).map(
            lambda v: "\n".join(map(str, v)).encode()
        ),
    )
)
def test_files_of_positions(content):
    lines = content.decode("utf-8", "ignore").split()
    if any(line.isdigit() and int(line) < 30 for line in lines if len(line) < 19):
        content = b"\xff\xfe" + content  # some are good by chance
    path = Path(TMP) / "ids.txt"
    path.write_bytes(content)
    refused(lambda: ask(path), "ids.txt" if b"\xff" in content else "")


no_label = st.floats(allow_nan=True).filter(lambda v: v not in (0, 1, 2))
no_class = st.integers(max_value=-1) | st.integers(min_value=3)


@many
@given(st.one_of(no_class, no_label, st.text(), st.none(), st.booleans()))
def test_labels_out_of_range(label):
    x, y = images()
    items = [*zip(x, y, strict=True), (x[0], label)]
    refused(lambda: ask(data=items), "image 30")


@many
@given(st.lists(st.floats(min_value=-2, max_value=3, width=32), min_size=9, max_size=9))
def test_matrices_whose_columns_do_not_sum_to_1(values):
    matrix = np.array(values).reshape(3, 3)
    if np.allclose(matrix.sum(0), 1, atol=1e-4) and (matrix >= 0).all():
        matrix[0, 0] += 1
    refused(lambda: choose_guide(matrix, 3), "guide")


no_setting, value = st.text("abcdefghij._", min_size=1, max_size=20), st.none() | st.integers() | st.text(max_size=9)


@many
@given(st.dictionaries(no_setting, value, min_size=1, max_size=3))
def test_settings_that_do_not_exist(values):
    refused(lambda: ask(settings=values))


@many
@given(st.binary(max_size=200), st.sampled_from(["", "header", "length"]))
def test_checkpoints_of_noise(content, kind):
    header = json.dumps({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    lead = {
        "": b"",
        "header": struct.pack("<Q", len(header)) + header[:-1] + b" ",
        "length": struct.pack("<Q", 2**40) + b"{",
    }[kind]
    path = Path(TMP) / "model.safetensors"
    path.write_bytes(lead + content)
    refused(lambda: read_model(path, "resnet18", 3, (32, 32)), "model.safetensors")


@many
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"II*\x00"]),
)
def test_images_of_noise(content, head):
    path = Path(TMP) / "cat" / "broken.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(head + content)
    refused(lambda: read_image(path), "cat/broken.png")


TMP = None


@pytest.fixture(autouse=True, scope="module")
def place(tmp_path_factory):
    globals()["TMP"] = tmp_path_factory.mktemp("bad")
    yield
    assert SEEN["cases"] >= 1000, SEEN
