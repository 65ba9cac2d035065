"""Work in several processes: all of it is tried, failures are told together, an interrupt ends it."""

import pytest

from megu.runs.workers import each, share
from megu.settings.errors import WorkError


def leave(path, k):
    """Leave a file, or fail."""
    if k == 1:
        raise ValueError("one is too many")
    (path / str(k)).write_text("done")


def interrupt():
    """As Ctrl-C does."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("workers", [1, 2])
def test_one_failure_takes_no_other_piece_with_it(tmp_path, workers):
    with pytest.raises(WorkError, match=r"1 of 4 pieces failed \(trial\).*1: ValueError: one is too many"):
        each(leave, [(tmp_path, k) for k in range(4)], workers, "trial")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "2", "3"]


def test_an_interrupt_is_not_a_failure():
    with pytest.raises(KeyboardInterrupt):
        each(interrupt, [()])


def test_the_cores_are_shared():
    workers, settings = share()
    assert 1 <= workers <= 8 and (settings or workers == 1)
    assert share(1) == (1, {}) and share(2) == (2, {"threads": 1})
