"""Pieces wait for what they need, and one failure or one dead worker takes nothing else with it."""

import itertools
import os
import signal
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import pytest
from tqdm import tqdm

from megu.runs import schedule
from megu.runs.schedule import BREAKS, Inline, Piece, carry_out
from megu.settings.errors import WorkError

ENOUGH = 200  # looks at the bar, or calls of `submit`: none of these tests needs half as many


@pytest.fixture(autouse=True)
def shown(monkeypatch):
    """(pieces done, pieces failed) at each look at the progress bar; work that gets nowhere fails instead of looking
    for ever."""
    looks = []

    class Bar(tqdm):
        def set_postfix(self, failed):
            looks.append((self.n, failed))
            assert len(looks) < ENOUGH, "the work gets nowhere"

    monkeypatch.setattr(schedule, "tqdm", Bar)
    return looks


def write(folder, name, needs=(), fails=False, dies=None, seconds=0.0):
    missing = [need for need in needs if not (folder / need).exists()]
    assert not missing, f"{name} ran before {missing}"
    if fails:
        raise ValueError(f"{name} is broken")
    if dies is not None and not (folder / "died").exists():
        (folder / "died").write_text(name)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(seconds)
    with open(folder / name, "a") as file:
        file.write("x")


def die(folder):
    os.kill(os.getpid(), signal.SIGKILL)


def threads():
    return ThreadPoolExecutor(3)


def processes():
    apart = get_context("forkserver")  # not fork: the threads of this process have locks that a child would wait for
    apart.set_forkserver_preload(["megu.runs.schedule"])
    return ProcessPoolExecutor(2, apart)


def pieces(folder, **special):
    graph = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c"), "e": (), "f": ("e",)}
    return [
        Piece(name, write, (folder, name, needs, *special.get(name, ())), needs)
        for name, needs in sorted(graph.items(), reverse=True)
    ]


@pytest.mark.parametrize("executor", [Inline, threads, processes])
def test_every_piece_runs_once_and_after_what_it_needs(tmp_path, executor):
    assert carry_out(pieces(tmp_path), executor) == {}
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == dict.fromkeys("abcdef", "x")


def test_without_the_order_it_fails(tmp_path):
    # Negative control: the same pieces in the same order, but with nothing to wait for.
    loose = [Piece(p.name, p.function, p.arguments) for p in pieces(tmp_path)]
    assert carry_out(loose, Inline)


@pytest.mark.parametrize("executor", [Inline, threads])
def test_a_failure_stops_only_what_needs_it(tmp_path, executor):
    failed = carry_out(pieces(tmp_path, b=(True,)), executor)
    assert (
        set(failed) == {"b", "d"} and str(failed["b"]) == "ValueError: b is broken" and "in write" in failed["b"].trace
    )
    assert str(failed["d"]) == "it needs b, which failed" and failed["d"].trace == failed["b"].trace
    assert {p.name for p in tmp_path.iterdir()} == set("acef")


def test_what_is_not_carried_out_counts_as_done(tmp_path):
    (tmp_path / "a").touch()
    assert carry_out([p for p in pieces(tmp_path) if p.name != "a"], Inline) == {}
    assert (tmp_path / "d").exists() and not (tmp_path / "a").read_text()


def test_a_dead_worker_takes_nothing_with_it(tmp_path):
    made = []

    def executor():
        made.append(1)
        return processes()

    assert carry_out(pieces(tmp_path, c=(False, True)), executor) == {}
    assert len(made) == 2 and {p.name for p in tmp_path.iterdir()} == {*"abcdef", "died"}


def test_a_piece_that_always_kills_its_worker_ends(tmp_path):
    made = []

    def executor():
        made.append(1)
        return processes()

    sound = [Piece(name, write, (tmp_path, name, (), False, None, 1.0)) for name in "abc"]
    told = []
    failed = carry_out(
        [Piece("killer", die, (tmp_path,)), Piece("after", write, (tmp_path, "after"), ("killer",)), *sound],
        executor,
        tell=lambda *f: told.append(f),
    )
    assert set(failed) == {"killer", "after"} and "its worker died" in str(failed["killer"]) and dict(told) == failed
    assert {p.name for p in tmp_path.iterdir()} == set("abc") and len(made) <= 3


def test_an_executor_that_never_works_ends(tmp_path):
    failed = carry_out([Piece(str(k), die, (tmp_path,)) for k in range(BREAKS + 5)], processes)
    assert len(failed) == BREAKS + 5


def breaking(at):
    """Executors that break at those calls of `submit` whose number, from 1 on, is ``at``: before the piece is taken."""
    count = itertools.count(1)

    class Breaking(Inline):
        def submit(self, *call, **more):
            number = next(count)
            assert number < ENOUGH, "the work gets nowhere"
            if at(number):
                raise BrokenExecutor("a worker died between two pieces")
            return super().submit(*call, **more)

    return Breaking


def test_no_piece_is_lost_where_it_could_not_be_handed_over(tmp_path):
    assert carry_out(pieces(tmp_path), breaking(lambda number: number == 2)) == {}
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == dict.fromkeys("abcdef", "x")


def test_only_breaks_without_anything_finished_between_them_are_too_many(tmp_path):
    many = [Piece(str(k), write, (tmp_path, str(k))) for k in range(BREAKS + 5)]
    assert (
        carry_out(many, breaking(lambda number: number % 2 == 0)) == {} and len(list(tmp_path.iterdir())) == BREAKS + 5
    )
    assert set(carry_out(many, breaking(lambda number: True))) == {piece.name for piece in many}
    assert carry_out(many, breaking(lambda number: number <= BREAKS)) == {}, "after the last break that is borne"


def test_the_bar_shows_what_is_done_and_what_failed(tmp_path, shown):
    assert set(carry_out(pieces(tmp_path, b=(True,)), Inline)) == {"b", "d"}
    assert shown == [(1, 0), (2, 0), (3, 0), (4, 0), (5, 1), (6, 2)]


class Waiting(Executor):
    """Takes two pieces, which it does not begin; then the user interrupts."""

    def __init__(self):
        self.taken = []

    def submit(self, piece):
        if len(self.taken) == 2:
            raise KeyboardInterrupt
        self.taken.append(Future())
        return self.taken[-1]


class Stopping(Waiting):
    """As `megu.runs.slots.Pool`, which ends its workers by itself."""

    stopped = 0

    def stop(self):
        self.stopped += 1


def test_an_interrupt_leaves_nothing_to_be_begun(tmp_path):
    loose = [Piece(name, write, (tmp_path, name)) for name in "abc"]
    for pool, cancelled in ((Waiting(), True), (Stopping(), False)):
        with pytest.raises(KeyboardInterrupt):
            carry_out(loose, lambda pool=pool: pool)
        assert [future.cancelled() for future in pool.taken] == 2 * [cancelled] and getattr(pool, "stopped", 0) == (
            not cancelled
        )


class Gone(Executor):
    """A cluster without a scheduler: what it was given is cancelled."""

    def submit(self, piece):
        future = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future


def test_a_scheduler_that_is_gone_is_one_line(tmp_path):
    with pytest.raises(
        WorkError, match="^the scheduler is gone; what is finished is kept, and the same command goes on with the rest$"
    ):
        carry_out(pieces(tmp_path), Gone)


class CarefulError(Exception):
    def __init__(self, *, word):
        super().__init__(word)


def careful():
    raise CarefulError(word="this one cannot be unpickled")


def test_errors_travel_as_text(tmp_path):
    failed = carry_out([Piece("a", careful, ()), Piece("b", write, (tmp_path, "b"))], processes)
    assert str(failed["a"]) == "CarefulError: this one cannot be unpickled" and set(failed) == {"a"}


def interrupted():
    raise KeyboardInterrupt


def test_an_interrupt_is_not_a_failure(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        carry_out([Piece("a", interrupted, ())], Inline)
