"""Kill -9, full disks, two runs in one place, a clock that jumps: the next start gives what an undisturbed run
gives."""

import errno
import itertools
import os
import random
import signal
import time
from functools import partial

import pandas as pd
import pytest
from killing import child, ended, often
from safetensors import SafetensorError

from megu.runs.store import RunDirectory
from megu.settings import files
from megu.settings.errors import StageError
from megu.settings.files import alone, write_json, writing


def work(path, pause=0.0):
    """Artefacts, each from the one before, a note and a report: what a run writes."""
    run, total = RunDirectory(path, {"settings": {"seed": 0}}), 1.0

    def make():
        time.sleep(pause)
        return pd.DataFrame({"value": [3 * total + k]})

    for k in range(2):
        total = run.table(f"rows/{k}.csv", make)["value"].item()
    run.note("guide", "none")
    write_json(run.path / "report.json", {"total": total}, locked=True)


def content(path):
    """What a run left, without its locks; the manifest's times are none."""
    files = (file for file in path.rglob("*") if file.is_file() and ".locks" not in file.parts)
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed")
    work(path)
    assert "report.json" in content(path) and not any("part" in name for name in content(path))
    return content(path)


POINTS = ("mkdir", "open", "fsync", "replace", "unlink")  # before and after each of these calls of the system


@pytest.mark.slow
def test_killed_at_every_point_of_every_write(undisturbed, tmp_path):
    """Walks on: the n-th call of the system on the way, before and after it, until a run comes through."""

    def dies(n, path):
        points = itertools.count(1)

        def point():
            if next(points) == n:
                os.kill(os.getpid(), signal.SIGKILL)

        def fatal(real):
            def call(*args, **kwargs):
                point()
                out = real(*args, **kwargs)
                point()
                return out

            return call

        for name in POINTS:
            setattr(os, name, fatal(getattr(os, name)))
        files.open = fatal(open)
        work(path)

    for n in range(1, 2000):
        path = tmp_path / str(n)
        code = ended(child(partial(dies, n, path)))
        assert code in (0, -signal.SIGKILL)
        work(path)
        assert content(path) == undisturbed, f"killed at point {n}"
        if code == 0:
            break
    assert code == 0 and n > 40


@pytest.mark.parametrize("enough", often(20, 200))
def test_killed_at_random_moments(enough, undisturbed, tmp_path):
    """Every life is cut short; the results are those of a run that nobody disturbed."""
    draw, kills, path = random.Random(0), 0, tmp_path / "0"
    while kills < enough:
        pid = child(partial(work, path, 0.004))
        time.sleep(draw.uniform(0.001, 0.03))
        os.kill(pid, signal.SIGKILL)
        if ended(pid) == 0:
            assert content(path) == undisturbed
            path = path.with_name(f"{path.name}0")
        else:
            kills += 1
    work(path)
    assert content(path) == undisturbed


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_disk_that_fails_is_said_in_one_line_and_loses_nothing(undisturbed, tmp_path, monkeypatch, number, call):
    real, calls = getattr(os, call), []

    def fails(*args):
        calls.append(args)
        if len(calls) == 4:
            raise OSError(number, os.strerror(number))
        return real(*args)

    monkeypatch.setattr(os, call, fails)
    space = "free some space or " if number in (errno.ENOSPC, errno.EDQUOT) else ""
    said = rf"could not be written to .*: {space}choose another directory; what was finished is kept"
    with pytest.raises(StageError, match=said) as caught:
        work(tmp_path)
    assert os.strerror(number) in str(caught.value) and str(tmp_path) not in str(caught.value)
    monkeypatch.undo()
    work(tmp_path)
    assert content(tmp_path) == undisturbed


def test_a_full_disk_of_which_safetensors_tells_is_one(tmp_path):
    for why, space in (("No space left on device (os error 28)", "free some space or "), ("(os error 5)", "")):
        with pytest.raises(StageError, match=rf"\): {space}choose another directory"), writing(tmp_path / "file"):
            raise SafetensorError(f"Error while serializing: {why}")


@pytest.mark.slow
def test_a_real_limit_of_the_disk(undisturbed, tmp_path):
    """The kernel itself refuses files above 300 bytes: the manifest outgrows them."""
    import resource  # noqa: PLC0415

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
        try:
            work(tmp_path)
        except StageError as error:
            os._exit(7 if "could not be written" in str(error) else 8)

    assert ended(child(limited)) == 7
    work(tmp_path)
    assert content(tmp_path) == undisturbed


def test_a_directory_that_cannot_be_one(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "run"
    for call in (lambda: RunDirectory(path, {}).note("opened", True), lambda: alone(path).__enter__()):
        with pytest.raises(StageError, match="could not be written"):
            call()


@pytest.mark.slow
def test_two_runs_in_one_directory(tmp_path):
    """The second is told so at once; when the first is killed, its lock is free."""
    ready, held = tmp_path / "ready", tmp_path / "run"

    def holds():
        with alone(held):
            ready.write_text("")
            time.sleep(60)

    pid = child(holds)
    while not ready.exists():
        time.sleep(0.01)
    said = "another run is at work in 'run': wait, or use another directory"
    with pytest.raises(StageError, match=said), alone(held):
        pass
    os.kill(pid, signal.SIGKILL)
    ended(pid)
    with alone(held):
        pass


def test_a_clock_that_jumps(undisturbed, tmp_path, monkeypatch):
    hours = iter(range(0, 10**9, 3600))
    monkeypatch.setattr(time, "time", lambda: 10**9 - next(hours))
    work(tmp_path)
    assert content(tmp_path) == undisturbed


@pytest.mark.slow
def test_the_control_a_writer_without_care_is_caught(undisturbed, tmp_path):
    """The same walk over a plain write finds a half-written file: the tests above can fail."""
    half = tmp_path / "report.json"

    def careless():
        with open(half, "w") as file:
            file.write('{"tot')
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    assert ended(child(careless)) == -signal.SIGKILL
    assert half.read_bytes() != undisturbed["report.json"]
