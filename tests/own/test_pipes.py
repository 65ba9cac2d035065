"""What is no ordinary file is refused by name, and nobody waits for it."""

import os
import signal
import socket
from pathlib import Path

import pytest
from bad import NAMES, ask, folder, linear
from refusals import refused
from safetensors.torch import save_file

import megu
from megu.datasets.sources import load
from megu.guide.answers import AnswerStore
from megu.own.report import read as read_report
from megu.settings.known import check_arch
from megu.settings.profiles import resolve
from megu.settings.request_file import read, request_of

NO_FILE = "is a pipe, a socket or a device"


@pytest.fixture(autouse=True)
def nobody_waits():
    def waited(*_):
        pytest.fail("it was opened and waited for")

    before = signal.signal(signal.SIGALRM, waited)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pipe(path):
    os.mkfifo(path)
    return path


def plugged(path):
    with socket.socket(socket.AF_UNIX) as one:
        os.chdir(path.parent)  # its own path may be no longer than some hundred characters
        one.bind(path.name)
    return path


@pytest.mark.parametrize("make", [pipe, plugged])
def test_among_images(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = folder(tmp_path)
    make(root / "bee" / "2.png")
    with refused(f"bee/2.png {NO_FILE}: remove it"):
        ask(data=root, classes=None)
    (root / "bee" / "2.png").unlink()
    (root / "bee" / "2.png").symlink_to(pipe(tmp_path / "behind"))
    with refused(f"bee/2.png {NO_FILE}: remove it"):
        ask(data=root, classes=None)


def test_listed_in_a_csv(tmp_path):
    root = folder(tmp_path)
    pipe(root / "ape" / "2.png")
    lines = [f"{name}/{i}.png,{name}" for name in NAMES for i in range(2)]
    (root / "list.csv").write_text("\n".join(["path,label", "ape/2.png,ape", *lines]))
    with refused("list.csv, image 1: '2.png' is no file"):
        ask(data=root / "list.csv", classes=None)


ASKED = {  # name of the pipe -> what opens it
    "m.safetensors": lambda path, root: megu.unlearn(path, root, "ape", arch="resnet18"),
    "images.csv": lambda path, root: ask(data=path, classes=None),
    "unseen.csv": lambda path, root: ask(data=root, classes=None, test=path),
    "classes.txt": lambda path, root: ask(classes=path),
    "list.txt": lambda path, root: ask(path),
    "list.npy": lambda path, root: ask(path),
    "matrix.npy": lambda path, root: ask(guide=path),
    "matrix.csv": lambda path, root: ask(guide=str(path)),
    "request.toml": lambda path, root: read(path),
    "answers.jsonl": lambda path, root: AnswerStore(path),
    "mine.npz": lambda path, root: load(resolve(overrides={"data.name": "npz", "data.path": str(path)})),
    "report.json": lambda path, root: read_report(path),
    "net.py": lambda path, root: check_arch(f"{path}:net"),
}


@pytest.mark.parametrize("name", ASKED)
def test_as_a_file_that_is_named(name, tmp_path):
    root = folder(tmp_path)
    with refused(f"{name}' {NO_FILE}: save|'{name}' does not exist: give a .safet|there is no file '{name}'"):
        ASKED[name](pipe(tmp_path / name), root)


@pytest.mark.parametrize("name", ["model", "data", "test", "reference", "classes", "forget_list"])
def test_as_an_option(name, tmp_path):
    with refused(f"'one' {NO_FILE}: save"):
        request_of({name: str(pipe(tmp_path / "one"))}).arguments()


def test_ordinary_files_and_links_to_them_are_read(tmp_path):
    save_file(linear().state_dict(), tmp_path / "kept")
    (link := tmp_path / "one.safetensors").symlink_to(tmp_path / "kept")
    assert request_of({"model": link}).arguments() == {"model": Path(link)}
