"""Where a grid's pieces run: the same results in one process, several, and on a cluster that loses a worker."""

import json
import os
import signal
import subprocess
import sys
import time

import dask_jobqueue
import pandas as pd
import pytest
from conftest import ROOT, values
from dask_jobqueue.local import LocalCluster

from megu.runs.executors import executor
from megu.runs.grid import Grid
from megu.runs.spec import grid
from megu.settings.errors import SettingsError


def test_two_processes_find_what_one_finds(inline, changes, tmp_path):
    made, specs = (
        Grid("small", tmp_path / "pool"),
        grid("small", ("data=cifar10,arch=resnet-small,scenario=random,method=megu",), 1, changes=changes),
    )
    assert made.carry_out(specs, executor(2)) == {}
    pd.testing.assert_frame_equal(values(made, specs), values(inline[0], specs))


def test_executors_exclude_each_other_and_need_somebody_who_answers():
    with pytest.raises(SettingsError, match="give one"):
        executor(2, "tcp://127.0.0.1:1")
    with pytest.raises(SettingsError, match="is no address"):
        executor(scheduler="tcp//127.0.0.1:1")
    with (
        pytest.raises(SettingsError, match="no Dask scheduler answers"),
        executor(scheduler="nonsense://127.0.0.1:1")(),
    ):
        pass
    with pytest.raises(SettingsError, match="did you mean 'slurm'"):
        executor(cluster="slurn")


def test_a_queue_is_asked_for_jobs(monkeypatch):
    asked = []

    class Local(LocalCluster):
        def __init__(self):
            super().__init__(cores=1, memory="1GB")

        def scale(self, jobs):
            asked.append(jobs)

    monkeypatch.setattr(dask_jobqueue, "SLURMCluster", Local)
    with executor(cluster="slurm", jobs=3)() as pool:
        assert asked == [3] and hasattr(pool, "submit")


def _start(*command):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "distributed.cli." + command[0], *command[1:]],
        env=environment,
        stderr=subprocess.DEVNULL,
    )


def test_a_cluster_that_loses_a_worker_finds_what_one_process_finds(inline, tmp_path):
    made, (_, specs) = Grid("small", tmp_path / "dask"), inline
    address = tmp_path / "scheduler.json"
    scheduler = _start(
        "dask_scheduler", "--port", "0", "--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(address)
    )
    worker = (
        "dask_worker",
        "--no-nanny",
        "--nthreads",
        "1",
        "--no-dashboard",
        "--scheduler-file",
        str(address),
        "--local-directory",
        str(tmp_path),
    )
    workers = [_start(*worker), _start(*worker)]
    killed = tmp_path / "killed"
    try:
        deadline = time.time() + 60
        while not address.exists() or not json.loads(address.read_text() or "{}").get("address"):
            assert time.time() < deadline
            time.sleep(0.1)
        watch = subprocess.Popen(
            [sys.executable, "-c", KILL, str(made.path / "manifest.json"), str(workers[0].pid), str(killed)]
        )
        assert made.carry_out(specs, executor(scheduler=json.loads(address.read_text())["address"])) == {}
        watch.wait(60)
        done = json.loads(killed.read_text())
        assert 0 < len(done) < len(specs), "the worker was not killed in the middle"
        assert workers[0].poll() == -signal.SIGKILL or workers[0].wait(5) == -signal.SIGKILL
        after = made.run.manifest["artefacts"]
        results = [name for name in after if name.startswith("results/")]
        assert sorted(results) == sorted(made.name(s) for s in specs)
        assert all(after[name] == facts for name, facts in done.items()), "a finished result was made again"
        pd.testing.assert_frame_equal(values(made, specs), values(inline[0], specs))
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


# Kills a worker as soon as two results are there, and keeps what was there then.
KILL = """
import json, os, signal, sys, time
manifest, pid, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
while True:
    time.sleep(0.02)
    try:
        done = {k: v for k, v in json.load(open(manifest))["artefacts"].items() if k.startswith("results/")}
    except (OSError, ValueError):
        continue
    if len(done) >= 2:
        os.kill(pid, signal.SIGKILL)
        json.dump(done, open(out, "w"))
        break
"""
