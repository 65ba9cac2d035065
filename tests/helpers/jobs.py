"""What test jobs do, in a module that another process imports at once."""

import os
import signal
import time


def write(folder, name, needs=(), fails=False, dies=None, seconds=0.0):
    missing = [need for need in needs if not (folder / need).exists()]
    assert not missing, f"{name} ran before {missing}"
    if fails:
        raise ValueError(f"{name} is broken")
    if dies is not None and not (folder / "died").exists():
        (folder / "died").write_text(name)
        time.sleep(0.2)
        die()
    time.sleep(seconds)
    with open(folder / name, "a") as file:
        file.write("x")


def die():
    """As a process does that the system kills for its memory."""
    os.kill(os.getpid(), signal.SIGKILL)


class CarefulError(Exception):
    def __init__(self, *, word):
        super().__init__(word)


def careful():
    raise CarefulError(word="this one cannot be unpickled")


def what_it_sees(seconds):
    """Process, GPUs and threads of a worker, which stays busy for a while so that the next job goes to another."""
    time.sleep(seconds)
    return os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"], int(os.environ["OMP_NUM_THREADS"])


def toil(file):
    """Work for a minute, after a word about which process does it."""
    file.with_suffix(".part").write_text(str(os.getpid()))
    file.with_suffix(".part").rename(file)
    time.sleep(60)


def written(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}
