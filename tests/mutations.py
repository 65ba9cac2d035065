"""One-line faults, put into a copy of the package one at a time: do the tests notice each?

``python tests/mutations.py [--room ROOM]... [--number N]... [--root FOLDER] [--check | --control]``

The faults are in mutations.tsv, one a line. Each names the code that it alters by a text that stands nowhere else in
the code, wherever its file lies, and the tests that should notice it: files by name, or else those of its room.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

CODE = ("megu", "paper_figures")
WAIT = 900  # seconds for the tests of one fault
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", "*.egg-info", "out")
LOST, ENDLESS = "lost: rewrite it", "no end"


def faults():
    """Of mutations.tsv, in its order: in the room's code ``old`` becomes ``new``, which ``tests`` should notice."""
    with open(Path(__file__).with_suffix(".tsv"), newline="") as file:
        return [SimpleNamespace(**row) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def place(root, fault):
    """The file of the project in which the fault's text stands, or None where it does not stand there just once."""
    files = [file for folder in CODE for file in (root / folder).rglob("*.py") if fault.old in file.read_text()]
    return files[0] if len(files) == 1 and files[0].read_text().count(fault.old) == 1 else None


def tests_of(root, fault):
    """Paths of the tests that should notice a fault."""
    named = [path for name in fault.tests.split() for path in sorted((root / "tests").rglob(name))]
    return named or [*(root / "tests").glob(f"{fault.room}/")]


def failure(root, tests):
    """What the tests say of the package in ``root``: nothing where they pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    more = {"PYTHONPATH": str(root), "TQDM_DISABLE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        run = subprocess.run(command, cwd=root, env=os.environ | more, capture_output=True, text=True, timeout=WAIT)
    except subprocess.TimeoutExpired:
        return ENDLESS
    lines = [line for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return (lines or [f"pytest ended with {run.returncode}"])[0][:110] if run.returncode else ""


def outcome(root, fault, control):
    """What the tests make of a fault, or of none, in the copy ``root`` of the project, which is sound afterwards."""
    file, tests = place(root, fault), tests_of(root, fault)
    if file is None or not tests:
        return LOST
    if control:
        return f"unsound: {said}" if (said := failure(root, tests)) else "sound"
    sound = file.read_text()
    try:
        file.write_text(sound.replace(fault.old, fault.new))
        said = failure(root, tests)
        return f"slow: {said}" if said == ENDLESS else f"caught: {said}" if said else "survived"
    finally:
        file.write_text(sound)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--room", action="append", help="only the faults of this room; may be repeated")
    parser.add_argument("--number", action="append", type=int, help="only this fault; may be repeated")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="the project that is tried")
    parser.add_argument("--check", action="store_true", help="run nothing: which faults have lost their text?")
    parser.add_argument("--control", action="store_true", help="make no fault: do the tests pass?")
    given, counts, known = parser.parse_args(), Counter(), set()
    with tempfile.TemporaryDirectory() as folder:  # nothing comes near the files that somebody works on
        root = given.root.resolve()
        if not given.check:
            kept = Path(shutil.copytree(root, Path(folder) / "megu", ignore=LEFT_OUT))
            shutil.rmtree(kept / "runs", ignore_errors=True)  # results: megu/runs and tests/runs stay
            root = kept
        for number, fault in enumerate(faults(), 1):
            out = fault.room not in (given.room or [fault.room]) or number not in (given.number or [number])
            if out or (given.control and fault.tests in known):
                continue
            known.add(fault.tests)
            start = time.perf_counter()
            if given.check:
                said = "there" if place(root, fault) and tests_of(root, fault) else LOST
            else:
                said = outcome(root, fault, given.control)
            counts[said.partition(":")[0]] += 1
            line = f"{number:2} {fault.room:17} {time.perf_counter() - start:4.0f} s  {fault.old[:45]!r}: {said}"
            print(line, flush=True)  # noqa: T201
    print(", ".join(f"{count} {word}" for word, count in counts.items()))  # noqa: T201
    return 1 if set(counts) - {"caught", "there", "sound"} else 0


if __name__ == "__main__":
    sys.exit(main())
