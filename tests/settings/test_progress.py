"""Bars and callbacks: one mechanism, heard also where nothing is shown."""

import io
import subprocess
import sys
from threading import Thread
from weakref import WeakSet

import pytest
from refusals import refused

from megu.settings.progress import EVENTS, LOG, Bar, Callback, collect_notices, tell, watching


class Heard(Callback):
    """Everything that is told."""

    def __init__(self):
        self.said, self.closed = [], 0
        for name in EVENTS:
            setattr(self, name, lambda *about, name=name: self.said.append((name, *about)))

    def close(self):
        self.closed += 1


@pytest.mark.parametrize("shown", [True, False])
def test_a_bar_tells_each_step_and_each_epoch(shown):
    heard, screen = Heard(), io.StringIO()
    how = {"disable": not shown, "file": screen, "delay": 0, "mininterval": 0}
    with watching([heard]):
        assert list(Bar(range(2), desc="steps", **how)) == [0, 1]
        with Bar(total=4, desc="training", **how) as bar:
            bar.update(3)
            bar.epoch(1, loss=0.25)
    steps = [("on_progress", "steps", 1, 2), ("on_progress", "steps", 2, 2), ("on_progress", "training", 3, 4)]
    assert heard.said == [*steps, ("on_epoch", "training", 1, {"loss": 0.25})]
    assert ("steps" in screen.getvalue() and "loss=0.250" in screen.getvalue()) == shown


def test_a_stage_is_told_once_and_nobody_hears_after_the_block():
    outer, inner = Heard(), Heard()
    with watching([outer]):
        with watching([inner]):
            for stage in ("noise", "noise", "guide", "noise"):
                tell("on_stage", stage)
        tell("on_end", 1)
    tell("on_stage", "late")
    assert [stage for _, stage in inner.said] == ["noise", "guide", "noise"] and inner.closed == 1
    assert outer.said == [*inner.said, ("on_end", 1)]


def test_an_error_of_a_callback_ends_the_block_and_all_are_closed():
    class Stop:
        def on_stage(self, stage):
            raise KeyboardInterrupt

    heard = Heard()
    with pytest.raises(KeyboardInterrupt), watching([heard, Stop()]):
        tell("on_stage", "noise")
    assert heard.closed == 1


def test_an_error_at_the_very_end_takes_no_result_away(caplog):
    def fails(self, *_):
        raise ConnectionError("no network\nmore")

    heard, odd = Heard(), type("Odd", (), {"on_end": fails, "close": fails})()
    with watching([odd, heard]):
        tell("on_end", 1)
    assert heard.said == [("on_end", 1)] and heard.closed == 1
    for event in ("on_end", "close"):
        assert f"Odd.{event} failed (ConnectionError: no network), after all was done" in caplog.text


@pytest.mark.parametrize(("callback", "said"), [
    (type("Mine", (), {"on_epohc": lambda self: 0})(), "did you mean 'on_epoch'"),
    (Callback, "an object of it"), (print, "no callback"),
])  # fmt: skip
def test_what_would_never_hear_of_anything_is_refused(callback, said):
    with refused(said), watching([callback]):
        pytest.fail("work began")


def test_a_bar_below_another_is_not_shown_where_every_step_would_be_a_line(monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr(Bar, "_instances", WeakSet())  # none that another test left open
    with Bar(total=2, desc="outer") as outer, Bar(total=2, desc="inner") as inner:
        assert not outer.disable and inner.disable
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with Bar(total=2, desc="outer") as outer, Bar(total=2, desc="inner") as inner:
        assert not outer.disable and not inner.disable
    monkeypatch.setenv("TQDM_DISABLE", "1")  # set after tqdm was imported
    with Bar(total=2, desc="alone") as alone:
        assert alone.disable


def test_a_notebook_shows_a_bar_as_output_and_not_as_an_error(monkeypatch, capsys):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr(Bar, "_instances", WeakSet())
    monkeypatch.setitem(sys.modules, "ipykernel", sys)  # imported, as by papermill: that alone is no notebook

    class OfKernel(io.StringIO):
        __module__ = "ipykernel.iostream"

    kernel = OfKernel()
    for shown, other in (("err", "out"), ("out", "err")):
        with Bar(total=2, desc="alone", delay=0) as bar:
            bar.refresh()
        plain = capsys.readouterr()
        said = {"err": plain.err, "out": plain.out + kernel.getvalue()}
        assert "alone" in said[shown] and not said[other]
        monkeypatch.setattr(sys, "stdout", kernel)  # from now on


def test_a_bar_works_where_nobody_can_be_shown_one(monkeypatch):
    class Bare(io.StringIO):
        isatty = property()  # as of a stream of a service's own

    for stream in (None, Bare()):
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TQDM_DISABLE", "1")
        assert list(Bar(range(2), desc="alone")) == [0, 1]


def test_notices_of_another_thread_are_of_another_request():
    mine = []
    with collect_notices(mine):
        (other := Thread(target=LOG.warning, args=("theirs",))).start()
        other.join()
        LOG.warning("mine")
    assert mine == ["mine"]


def test_notices_of_a_request_inside_another_are_its_own():
    outer, inner = [], []
    with collect_notices(outer):
        with collect_notices(inner):
            LOG.warning("inner")
        LOG.warning("outer")
    assert (outer, inner) == (["outer"], ["inner"])


@pytest.mark.parametrize("configured", [False, True])
def test_a_notice_is_shown_once_also_in_two_blocks(configured):
    code = f"""
import logging
from megu.settings.progress import LOG, collect_notices
logging.basicConfig() if {configured} else None
with collect_notices([]), collect_notices([]):
    LOG.warning("said")
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert shown == ("WARNING:megu:said\n" if configured else "said\n")


def test_a_silent_log_is_read_and_stays_silent_while_any_thread_does_so(monkeypatch, caplog):
    monkeypatch.setattr(LOG, "disabled", True)
    first, second = [], []
    one, other = collect_notices(first), collect_notices(second)
    one.__enter__()
    other.__enter__()  # as in another thread: the first ends before it
    one.__exit__(None, None, None)
    LOG.warning("said")
    assert not LOG.disabled and (first, second) == ([], ["said"]) and not caplog.text
    other.__exit__(None, None, None)
    assert LOG.disabled and "isEnabledFor" not in vars(LOG)
