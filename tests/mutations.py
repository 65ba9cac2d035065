"""One-line faults, put into a copy of the package one at a time: do the tests notice each?

``python tests/mutations.py [--room ROOM]... [--number N]... [--root FOLDER] [--check | --control]``

The faults are in mutations.tsv, one a line. Each names the code that it alters by a text that stands nowhere else in
the code, wherever its file lies, and the tests that should notice it: files by name, or else those of its room.
"""

import argparse
import csv
import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

CODE = ("megu", "paper_figures")
WAIT = 900  # seconds for the tests of one fault
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", "*.egg-info", "out")
SLOW = ("torch", "transformers.models.vit.modeling_vit", "pandas", "scipy.stats", "sklearn.svm", "requests", "pydantic")
LOST, ENDLESS = "lost: rewrite it", "no end"


class Fault(NamedTuple):
    """In the room's code ``old`` becomes ``new``, which files of ``tests``, by name, should notice."""

    room: str
    tests: str
    old: str
    new: str


def faults():
    """Of mutations.tsv, in its order."""
    with open(Path(__file__).with_suffix(".tsv"), newline="") as file:
        return [Fault(**row) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def place(root, fault):
    """The file of the project in which the fault's text stands, or None where it does not stand there just once."""
    files = [file for folder in CODE for file in sorted((root / folder).rglob("*.py")) if fault.old in file.read_text()]
    return files[0] if len(files) == 1 and files[0].read_text().count(fault.old) == 1 else None


def tests_of(root, fault):
    """Paths of the tests that should notice a fault."""
    named = [path for name in fault.tests.split() for path in sorted((root / "tests").rglob(name))]
    return named or [path for path in (root / "tests" / fault.room,) if path.is_dir()]


def preload():
    """Import what takes seconds and is not of the project: each run of tests is a fork of this process."""
    for name in SLOW:
        with suppress(ImportError):
            importlib.import_module(name)


def passed(root, tests, log):
    """In a process of its own: leave it with the exit status of pytest."""
    os.chdir(root)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.path[:0] = [str(root)]
    os.environ.update({"PYTHONPATH": str(root), "TQDM_DISABLE": "1"})
    sys.dont_write_bytecode = True
    status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *map(str, tests)])
    sys.stdout.flush()
    os._exit(int(status))


def failure(root, tests):
    """What the tests say of the package in ``root``: nothing where they pass."""
    with tempfile.TemporaryFile("w+") as log:
        run = multiprocessing.get_context("fork").Process(target=passed, args=(root, tests, log))
        run.start()
        run.join(WAIT)
        if run.exitcode is None:
            run.kill()
            return ENDLESS
        log.seek(0)
        lines = [line.strip() for line in log if line.startswith(("FAILED", "ERROR"))]
    return "" if run.exitcode == 0 else (lines or [f"pytest ended with {run.exitcode}"])[0][:110]


def outcome(root, fault):
    """What the tests make of a fault in the copy ``root`` of the project, which is sound again afterwards."""
    file, tests = place(root, fault), tests_of(root, fault)
    if file is None or not tests:
        return LOST
    sound = file.read_text()
    try:
        file.write_text(sound.replace(fault.old, fault.new))
        said = failure(root, tests)
        return f"slow: {said}" if said == ENDLESS else f"caught: {said}" if said else "survived"
    finally:
        file.write_text(sound)


def controlled(root, fault):
    """What the tests of a fault make of the sound package: where they fail, they prove nothing."""
    return f"unsound: {said}" if (said := failure(root, tests_of(root, fault))) else "sound"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--room", action="append", help="only the faults of this room; may be repeated")
    parser.add_argument("--number", action="append", type=int, help="only this fault; may be repeated")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="the project that is tried")
    parser.add_argument("--check", action="store_true", help="run nothing: which faults have lost their text?")
    parser.add_argument("--control", action="store_true", help="make no fault: do the tests pass?")
    given, counts, known = parser.parse_args(), {}, set()
    with tempfile.TemporaryDirectory() as folder:  # nothing comes near the files that somebody works on
        root = given.root.resolve()
        if not given.check:
            results = {str(root): {"runs"}}  # not megu/runs and tests/runs
            left_out = lambda place, names: LEFT_OUT(place, names) | results.get(str(place), set())  # noqa: E731
            root = Path(shutil.copytree(root, Path(folder) / "megu", ignore=left_out))
            preload()
        for number, fault in enumerate(faults(), 1):
            out = fault.room not in (given.room or [fault.room]) or number not in (given.number or [number])
            if out or (given.control and fault.tests in known):
                continue
            known.add(fault.tests)
            start = time.perf_counter()
            if given.check:
                said = "there" if place(root, fault) and tests_of(root, fault) else LOST
            else:
                said = (controlled if given.control else outcome)(root, fault)
            word, spent = said.partition(":")[0], time.perf_counter() - start
            counts[word] = counts.get(word, 0) + 1
            print(f"{number:2} {fault.room:17} {spent:4.0f} s  {fault.old[:45]!r}: {said}", flush=True)  # noqa: T201
    print(", ".join(f"{count} {word}" for word, count in counts.items()))  # noqa: T201
    return 1 if set(counts) - {"caught", "there", "sound"} else 0


if __name__ == "__main__":
    sys.exit(main())
