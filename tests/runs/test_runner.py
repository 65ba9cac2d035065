"""Jobs wait for what they need, wherever they run; a failure, dead worker or interrupt takes nothing else with it."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context

import pytest
from conftest import ROOT
from jobs import careful, die, write, written
from tqdm import tqdm

from megu.runs import runner
from megu.runs.executors import executor, local_pool
from megu.runs.runner import BREAKS, Inline, Job, run_jobs
from megu.settings.errors import WorkError

PATHS = os.pathsep.join((str(ROOT), str(ROOT / "tests" / "helpers")))  # where other processes find what they import
ENOUGH = 200  # looks at the bar, or calls of `submit`: none of these tests needs half as many


@pytest.fixture(autouse=True)
def shown(monkeypatch):
    """(jobs done, jobs failed) at each look at the progress bar; work that gets nowhere fails instead of looking for
    ever."""
    looks = []

    class Bar(tqdm):
        def set_postfix(self, failed):
            looks.append((self.n, failed))
            assert len(looks) < ENOUGH, "the work gets nowhere"

    monkeypatch.setattr(runner, "tqdm", Bar)
    return looks


def threads():
    return ThreadPoolExecutor(3)


def processes():
    apart = get_context("forkserver")  # not fork: the threads of this process have locks that a child would wait for
    apart.set_forkserver_preload(["megu.runs.runner", "jobs"])
    return ProcessPoolExecutor(2, apart)


def graph_of(folder, **special):
    graph = {"f": ("e",), "e": (), "d": ("b", "c"), "c": ("a",), "b": ("a",), "a": ()}
    return [Job(name, write, (folder, name, needs, *special.get(name, ())), needs) for name, needs in graph.items()]


@pytest.fixture
def cluster(tmp_path_factory):
    """(a Dask executor, the processes of its two workers)."""
    folder, environment = tmp_path_factory.mktemp("dask"), os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": PATHS}
    address, deadline = folder / "scheduler.json", time.time() + 120

    def start(name, options):
        command = [sys.executable, "-m", f"distributed.cli.{name}", "--scheduler-file", address, "--no-dashboard"]
        return subprocess.Popen([*command, *options.split()], env=environment, stderr=subprocess.DEVNULL)

    scheduler = start("dask_scheduler", "--port 0 --host 127.0.0.1")
    workers = [start("dask_worker", f"--no-nanny --nthreads 1 --local-directory {folder}") for _ in range(2)]
    while not address.exists() or not json.loads(address.read_text() or "{}").get("address"):
        assert time.time() < deadline
        time.sleep(0.1)
    yield executor(scheduler=json.loads(address.read_text())["address"]), workers
    for process in (*workers, scheduler):
        process.kill()
        process.wait()


SLOW = [pytest.param(pool, marks=pytest.mark.slow) for pool in (processes, partial(local_pool, 2, []))]


@pytest.mark.parametrize("pool", [Inline, threads, *SLOW])
def test_every_job_runs_once_and_after_what_it_needs(tmp_path, pool):
    assert run_jobs(graph_of(tmp_path), pool) == {}
    assert written(tmp_path) == dict.fromkeys("abcdef", "x")


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_loses_no_job(tmp_path, cluster):
    pool, workers = cluster
    failed = run_jobs(graph_of(tmp_path, c=(False, True), f=(True,)), pool)
    assert set(failed) == {"f"} and "ValueError: f is broken" in str(failed["f"]) and "in write" in failed["f"].trace
    # Dask may do again what a worker did that died with its result; a job keeps what it made and makes it once.
    assert set(written(tmp_path)) == {*"abcde", "died"}
    assert [worker.poll() for worker in workers].count(-signal.SIGKILL) == 1, "none died: the test shows nothing"


def test_the_control_without_the_order_fails(tmp_path):
    loose = [Job(p.name, p.function, p.arguments) for p in graph_of(tmp_path)]
    assert run_jobs(loose, Inline)


@pytest.mark.parametrize("executor", [Inline, threads])
def test_a_failure_stops_only_what_needs_it(tmp_path, executor):
    failed = run_jobs(graph_of(tmp_path, b=(True,)), executor)
    lines = {name: str(error) for name, error in failed.items()}
    assert lines == {"b": "ValueError: b is broken", "d": "it needs b, which failed"}
    assert "in write" in failed["b"].trace == failed["d"].trace
    assert set(written(tmp_path)) == set("acef")


def test_what_is_not_carried_out_counts_as_done(tmp_path):
    (tmp_path / "a").touch()
    assert run_jobs([p for p in graph_of(tmp_path) if p.name != "a"], Inline) == {}
    assert (tmp_path / "d").exists() and not (tmp_path / "a").read_text()


@pytest.mark.slow
def test_a_dead_worker_takes_nothing_with_it(tmp_path):
    pools = []
    assert run_jobs(graph_of(tmp_path, c=(False, True)), lambda: pools.append(1) or processes()) == {}
    assert len(pools) == 2 and set(written(tmp_path)) == {*"abcdef", "died"}


@pytest.mark.slow
def test_a_job_that_always_kills_its_worker_ends(tmp_path):
    sound = [Job(name, write, (tmp_path, name, (), False, None, 1.0)) for name in "abc"]
    killer, reports, pools = [Job("killer", die), Job("after", write, (tmp_path, "after"), ("killer",))], {}, []
    failed = run_jobs([*killer, *sound], lambda: pools.append(1) or processes(), report=reports.__setitem__)
    assert set(failed) == {"killer", "after"} and "its worker died" in str(failed["killer"]) and reports == failed
    assert set(written(tmp_path)) == set("abc") and len(pools) <= 3


def breaking(at):
    """Executors that break at those calls of `submit` whose number, from 1 on, is ``at``: before the piece is taken."""
    count = itertools.count(1)

    class Breaking(Inline):
        def submit(self, *call, **more):
            number = next(count)
            assert number < ENOUGH, "the work gets nowhere"
            if at(number):
                raise BrokenExecutor("a worker died between two jobs")
            return super().submit(*call, **more)

    return Breaking


def test_no_job_is_lost_where_it_could_not_be_handed_over(tmp_path):
    assert run_jobs(graph_of(tmp_path), breaking(lambda number: number == 2)) == {}
    assert written(tmp_path) == dict.fromkeys("abcdef", "x")


def test_only_breaks_without_anything_finished_between_them_are_too_many(tmp_path):
    many = [Job(str(k), write, (tmp_path, str(k))) for k in range(BREAKS + 5)]
    assert run_jobs(many, breaking(lambda number: number % 2 == 0)) == {} and len(written(tmp_path)) == BREAKS + 5
    assert set(run_jobs(many, breaking(lambda number: True))) == {job.name for job in many}
    assert run_jobs(many, breaking(lambda number: number <= BREAKS)) == {}, "after the last break that is borne"


def test_the_bar_shows_what_is_done_and_what_failed(tmp_path, shown):
    assert set(run_jobs(graph_of(tmp_path, b=(True,)), Inline)) == {"b", "d"}
    assert shown == [(1, 0), (2, 0), (3, 0), (4, 0), (5, 1), (6, 2)]


class Waiting(Executor):
    """Takes two pieces, which it does not begin; then the user interrupts."""

    def __init__(self):
        self.taken = []

    def submit(self, job):
        if len(self.taken) == 2:
            raise KeyboardInterrupt
        self.taken.append(Future())
        return self.taken[-1]


@pytest.mark.parametrize("stops", [False, True], ids=["futures are cancelled", "as LocalPool it stops by itself"])
def test_an_interrupt_leaves_nothing_to_be_begun(tmp_path, stops):
    pool, stopped = Waiting(), []
    if stops:
        pool.stop = lambda: stopped.append(1)
    with pytest.raises(KeyboardInterrupt):
        run_jobs([Job(name, write, (tmp_path, name)) for name in "abc"], lambda: pool)
    assert [future.cancelled() for future in pool.taken] == 2 * [not stops] and len(stopped) == stops


class Gone(Executor):
    """A cluster without a scheduler: what it was given is cancelled."""

    def submit(self, job):
        future = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future


def test_a_scheduler_that_is_gone_is_one_line(tmp_path):
    with pytest.raises(WorkError, match="^the scheduler is gone: repeat the command, which goes on$"):
        run_jobs(graph_of(tmp_path), Gone)


@pytest.mark.slow
def test_errors_travel_as_text(tmp_path):
    failed = run_jobs([Job("a", careful), Job("b", write, (tmp_path, "b"))], processes)
    assert {name: str(e) for name, e in failed.items()} == {"a": "CarefulError: this one cannot be unpickled"}


def interrupted():
    raise KeyboardInterrupt


def test_an_interrupt_is_not_a_failure():
    with pytest.raises(KeyboardInterrupt):
        run_jobs([Job("a", interrupted)], Inline)
