"""Where jobs run: GPUs and cores shared evenly, workers that end with their caller, queues of a cluster."""

import os
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from queue import SimpleQueue

import dask_jobqueue
import psutil
import pytest
from conftest import ROOT
from dask_jobqueue.local import LocalCluster
from joblib import cpu_count
from jobs import die, toil, what_it_sees, write, written

from megu.runs.executors import _start_worker, executor, local_pool, visible_gpus
from megu.runs.runner import Job, run_all
from megu.settings.errors import SettingsError, WorkError


def seen(pool, count, others=1):
    """What workers see, until ``others`` of them have taken part, for a slow machine starts the second one late."""
    views = set()
    for _ in range(20):
        views |= set(pool.map(what_it_sees, [0.2] * count))
        if len({pid for pid, _, _ in views}) >= others:
            break
    return views


@pytest.mark.slow
def test_each_worker_sees_a_gpu_of_its_own_and_a_death_is_heard_of():
    with local_pool(gpus=["5", "GPU-abc"]) as pool:
        views = seen(pool, 4, others=2)
        assert len(views) == 2 == len({pid for pid, _, _ in views}), "a worker changed its GPU"
        assert {gpu for _, gpu, _ in views} == {"5", "GPU-abc"}
        assert {threads for _, _, threads in views} == {max(1, cpu_count() // 2)}
        for work in (die, partial(what_it_sees, 0)):
            with pytest.raises(BrokenProcessPool):
                pool.submit(work).result()


@pytest.mark.slow
def test_without_a_gpu_a_worker_sees_none():
    with local_pool(1, gpus=[]) as pool:
        assert {(gpu, threads) for _, gpu, threads in seen(pool, 1)} == {("", cpu_count())}


def worker(file):
    """The process that toils, once it does."""
    deadline = time.time() + 240  # on a busy machine
    while not file.exists():
        assert time.time() < deadline, "no worker began"
        time.sleep(0.02)
    return psutil.Process(int(file.read_text()))


def gone(process, seconds=5):
    """Whether a process ends in time, far below its minute; it is ended in any case."""
    with suppress(psutil.NoSuchProcess):
        deadline = time.time() + seconds
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.time() > deadline:
                process.kill()
                return False
            time.sleep(0.02)
    return True


@pytest.mark.slow
def test_a_pool_that_is_stopped_ends_busy_workers(tmp_path):
    pool = local_pool(1, gpus=[])
    pool.submit(toil, tmp_path / "toils")
    busy = worker(tmp_path / "toils")
    pool.stop()
    assert gone(busy, 1)


CALLER = """
import sys
from pathlib import Path
from megu.runs.executors import local_pool
from jobs import toil
pool = local_pool(1, [])
pool.submit(toil, Path(sys.argv[1])).result()
"""


@pytest.mark.slow
def test_a_killed_caller_leaves_no_worker(tmp_path):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'helpers'}"}
    command = [sys.executable, "-c", CALLER, str(tmp_path / "toils")]
    caller = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    busy = worker(tmp_path / "toils")
    assert busy.is_running()
    caller.kill()
    caller.wait()
    assert gone(busy)


SENDS = """
from megu.runs.executors import check_sent
class Net: pass
try:
    check_sent(Net())
except ValueError as error:
    print(error)
"""
GUARDED = f"if __name__ == '__main__':{SENDS.replace(chr(10), chr(10) + ' ')}"


@pytest.mark.parametrize(("file", "text", "said"), [
    ("call.py", SENDS, "each process would run call.py again: give workers=1, or put the call below `if __name__"),
    ("call.py", GUARDED, ""), ("-", SENDS, "of a class of this notebook, which other processes do not know: give w"),
])  # fmt: skip
def test_what_other_processes_could_not_have_is_refused(file, text, said, tmp_path):
    (tmp_path / "call.py").write_text(text)
    how = {"cwd": tmp_path, "input": text, "text": True, "capture_output": True}
    found = subprocess.run([sys.executable, file], **how, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    assert said in found.stdout and bool(said) == bool(found.stdout)


def test_torch_is_told_where_the_callers_main_module_imported_it(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "TQDM_DISABLE"):
        monkeypatch.setenv(name, "as before")
    slots, counts = SimpleQueue(), []
    slots.put("3")
    monkeypatch.setattr("torch.set_num_threads", counts.append)
    _start_worker(slots, 5)
    assert counts == [5] and os.environ["CUDA_VISIBLE_DEVICES"] == "3" and os.environ["OMP_NUM_THREADS"] == "5"


def test_workers_share_the_gpus_evenly(monkeypatch):
    queue = local_pool(3, ["0", "1"])._initargs[0]
    assert [queue.get() for _ in range(3)] == ["0", "1", "0"] and queue.empty()
    assert local_pool(None, ["0", "1", "2"])._max_workers == 3
    assert 1 <= local_pool(None, [])._max_workers <= 8
    monkeypatch.setattr("megu.runs.executors.MOST", 1)
    assert local_pool(None, [])._max_workers == 1


@pytest.mark.parametrize(
    ("listed", "names"),
    [(None, "0 1"), ("3, 1", "3 1"), ("MIG-a1", "MIG-a1"), ("1,-1,2", "1"), ("", ""), ("-1", ""), (None, "")],
)
def test_the_gpus_that_are_visible(monkeypatch, listed, names):
    """As CUDA reads the list: what follows a wrong entry is not there."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(names.split()))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if listed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert visible_gpus() == names.split()


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"workers": 2, "scheduler": "tcp://127.0.0.1:1"}, "give one"),
        ({"scheduler": "tcp//127.0.0.1:1"}, "is no address"),
        ({"scheduler": "nonsense://127.0.0.1:1"}, "no Dask scheduler answers at nonsense://127.0.0.1:1"),
        ({"cluster": "slurn"}, "did you mean 'slurm'"),
    ],
)
def test_executors_exclude_each_other_and_need_somebody_who_answers(choice, said):
    with pytest.raises(SettingsError, match=said), executor(**choice)():
        pass


@pytest.mark.slow
def test_a_queue_is_asked_for_jobs(monkeypatch):
    counts = []

    class Local(LocalCluster):
        def __init__(self):
            super().__init__(cores=1, memory="1GB")

        def scale(self, jobs):
            counts.append(jobs)

    monkeypatch.setattr(dask_jobqueue, "SLURMCluster", Local)
    with executor(cluster="slurm", jobs=3)() as pool:
        assert counts == [3] and hasattr(pool, "submit")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_where_all_must_succeed_failures_are_named_together_after_all(tmp_path, workers):
    work = [Job(str(k), write, (tmp_path, str(k), (), k == 1)) for k in range(4)]
    with pytest.raises(WorkError, match=r"1 of 4 jobs failed \(trial\).*1: ValueError: 1 is broken"):
        run_all(work, executor(workers), "trial")
    assert set(written(tmp_path)) == {"0", "2", "3"}
