"""The local pool: a GPU and a share of the cores for each worker; a worker that dies is heard of."""

import os
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from queue import SimpleQueue

import psutil
import pytest
from joblib import cpu_count

from megu.runs.slots import _take, gpu_pool, visible


def what_it_sees(seconds):
    """Process, GPUs and threads of a worker, which stays busy for a while so that the next piece goes to another."""
    time.sleep(seconds)
    return os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"], int(os.environ["OMP_NUM_THREADS"])


def die():
    """As a process does that the system kills for its memory."""
    os._exit(1)


def seen(pool, pieces, others=1):
    """Pieces of work until ``others`` workers have taken part, for a slow machine starts the second one late."""
    found = set()
    for _ in range(20):
        found |= set(pool.map(what_it_sees, [0.2] * pieces))
        if len({pid for pid, _, _ in found}) >= others:
            break
    return found


def test_each_worker_sees_a_gpu_of_its_own_and_a_death_is_heard_of():
    with gpu_pool(devices=["5", "GPU-abc"]) as pool:
        found = seen(pool, 4, others=2)
        assert len(found) == 2 == len({pid for pid, _, _ in found}), "a worker changed its GPU"
        assert {gpu for _, gpu, _ in found} == {"5", "GPU-abc"}
        assert {threads for _, _, threads in found} == {max(1, cpu_count() // 2)}
        with pytest.raises(BrokenProcessPool):
            pool.submit(die).result()
        with pytest.raises(BrokenProcessPool):
            pool.submit(what_it_sees, 0).result()


def test_without_a_gpu_a_worker_sees_none():
    with gpu_pool(1, devices=[]) as pool:
        assert {(gpu, threads) for _, gpu, threads in seen(pool, 1)} == {("", cpu_count())}


def toil(file):
    """Work for a minute, after a word about which process does it."""
    file.with_suffix(".part").write_text(str(os.getpid()))
    file.with_suffix(".part").rename(file)
    time.sleep(60)


def worker(file):
    """The process that toils, once it does."""
    deadline = time.time() + 30
    while not file.exists():
        assert time.time() < deadline, "no worker began"
        time.sleep(0.02)
    return psutil.Process(int(file.read_text()))


def gone(process, seconds=5):
    """Whether a process ends in time, far below its minute; it is ended in any case."""
    try:
        deadline = time.time() + seconds
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.time() > deadline:
                process.kill()
                return False
            time.sleep(0.02)
    except psutil.NoSuchProcess:
        pass
    return True


def test_a_pool_that_is_stopped_ends_busy_workers(tmp_path):
    pool = gpu_pool(1, devices=[])
    pool.submit(toil, tmp_path / "toils")
    busy = worker(tmp_path / "toils")
    pool.stop()
    assert gone(busy, 1)


CALLER = """
import sys
from pathlib import Path
from megu.runs.slots import gpu_pool
from test_slots import toil
pool = gpu_pool(1, [])
pool.submit(toil, Path(sys.argv[1])).result()
"""


def test_a_killed_caller_leaves_no_worker(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(path) for path in Path(__file__).parents[:2])}
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, str(tmp_path / "toils")], env=environment, stderr=subprocess.DEVNULL
    )
    busy = worker(tmp_path / "toils")
    assert busy.is_running()
    caller.kill()
    caller.wait()
    assert gone(busy)


def test_torch_is_told_where_it_was_imported_before(monkeypatch):
    """As with a caller whose main module imports it."""
    for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "TQDM_DISABLE"):
        monkeypatch.setenv(name, "as before")
    slots, told = SimpleQueue(), []
    slots.put("3")
    monkeypatch.setattr("torch.set_num_threads", told.append)
    _take(slots, 5)
    assert told == [5] and os.environ["CUDA_VISIBLE_DEVICES"] == "3" and os.environ["OMP_NUM_THREADS"] == "5"


def test_workers_share_the_gpus_evenly():
    """The slots as they wait in the queue: three workers on two GPUs; by default one for each."""
    queue = gpu_pool(3, ["0", "1"])._initargs[0]
    assert [queue.get() for _ in range(3)] == ["0", "1", "0"] and queue.empty()
    assert gpu_pool(None, ["0", "1", "2"])._max_workers == 3
    assert gpu_pool(None, [], most=1)._max_workers == 1


@pytest.mark.parametrize(
    ("listed", "count", "names"),
    [
        (None, 2, ["0", "1"]),
        ("3, 1", 2, ["3", "1"]),
        ("MIG-a1", 1, ["MIG-a1"]),
        ("1,-1,2", 1, ["1"]),
        ("", 0, []),
        ("-1", 0, []),
        (None, 0, []),
    ],
)
def test_the_gpus_that_are_visible(monkeypatch, listed, count, names):
    """As CUDA reads the list: what follows a wrong entry is not there."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    if listed is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert visible() == names
