"""Downloads: resumed, checked, said to be slow; against a host on loopback that fails in every way."""

import hashlib
import itertools
import logging
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from archives import archive, loaded, random_parts
from refusals import refused
from tenacity import wait_none

from megu.datasets import cifar as reader
from megu.datasets import download, identity
from megu.settings.errors import StageError

FILE = np.random.default_rng(0).bytes(3_000_000)
MD5 = hashlib.md5(FILE).hexdigest()
PIECE = 2**20
OTHERWISE = "set data.source to 'hub'"
NAME, PART = "data.tar.gz", "data.tar.gz.part"


class Host:
    """A host of one file.  ``cut``: bytes after which each of the first ``cuts`` connections breaks; ``ranges``:
    honour, ignore or odd; ``status`` of first answers."""

    def __init__(self):
        self.file, self.cut, self.cuts, self.ranges, self.status, self.asked = FILE, 0, 0, "honour", [], []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked, whole = self.headers.get("Range"), len(host.file)
                host.asked.append(asked)
                if host.status:
                    return self.send_error(host.status.pop(0))
                start = int(asked[6:-1]) if asked and host.ranges != "ignore" else 0
                if start >= whole:
                    return self.send_error(416)
                self.send_response(206 if start else 200)
                if start:
                    said = start + (host.ranges == "odd")
                    self.send_header("Content-Range", f"bytes {said}-{whole - 1}/{whole}")
                self.send_header("Content-Length", str(whole - start))
                self.end_headers()
                stop = start + host.cut if host.cuts else whole
                host.cuts = max(0, host.cuts - 1)
                self.wfile.write(host.file[start:stop])

            def log_message(self, *args):
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # a client that hangs up
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/{NAME}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setattr(download, "WAIT", wait_none())
    host = Host()
    yield host
    host.close()


@pytest.fixture
def get(host, tmp_path):
    def get(name=NAME, **more):
        path = tmp_path / name
        download.fetch(host.url, path, MD5, OTHERWISE, **more)
        assert path.read_bytes() == FILE and not list(path.parent.glob("*.part"))

    return get


@pytest.mark.parametrize(("there", "content", "asked"), [
    (None, b"", None), (NAME, FILE[:-1], None), (PART, FILE, f"bytes={len(FILE)}-"),
], ids=["nothing", "damaged", "finished part"])  # fmt: skip
def test_a_file_comes_once_whatever_is_there(get, host, tmp_path, there, content, asked):
    if there:
        (tmp_path / there).write_bytes(content)
    name = NAME if there else f"folder/{NAME}"
    for _ in range(2):
        get(name)
    assert host.asked == [asked]


@pytest.mark.parametrize(("ranges", "cuts"), [("honour", 2), ("ignore", 1), ("odd", 1)])
def test_a_broken_connection_goes_on_where_it_stopped_or_from_the_start(get, host, ranges, cuts):
    host.cut, host.cuts, host.ranges = PIECE, cuts, ranges
    get()
    asked = [None, "bytes=1048576-", "bytes=2097152-"]
    assert host.asked == asked if ranges == "honour" else host.asked[:2] == asked[:2]


def test_the_next_call_goes_on_where_the_last_one_gave_up(get, host, tmp_path):
    host.cut, host.cuts = PIECE // 8, 7
    why = r"data.tar.gz could not be downloaded from 127.0.0.1 \(the connection broke\); 0.8 MB are here"
    with refused(f"{why}: repeat .*, or set"):
        get()
    assert len(host.asked) == download.ATTEMPTS and not (tmp_path / NAME).exists()
    get()
    assert host.asked[download.ATTEMPTS] == "bytes=786432-"


def test_another_file_is_refused_and_removed(get, host, tmp_path):
    host.file = FILE[:-1] + bytes([FILE[-1] ^ 1])
    with refused(f"127.0.0.1 gave another file than data.tar.gz .MD5 .*, not {MD5}., which was removed: .*{OTHERWISE}"):
        get()
    assert not list(tmp_path.iterdir())
    (tmp_path / PART).write_bytes(b"of another file")
    host.file = FILE
    with refused("gave another file"):
        get()
    get()


def test_a_busy_host_is_asked_again_and_a_missing_file_is_not(get, host):
    host.status = [503, 429]
    get()
    assert len(host.asked) == 3
    host.status = [404, 404]
    with refused("HTTP 404.; 0.0 MB are here"):
        get("other")
    assert len(host.asked) == 4


def test_a_host_that_is_not_there(get, host):
    host.close()
    with refused("the connection broke.*repeat the command"):
        get()


def test_a_full_disk_is_one_line(get, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StageError, match=r"data\.tar\.gz\.part could not be written"):
        get(f"file/{NAME}")


@pytest.mark.parametrize(("seconds", "expected"), [(0.6, 1), (0.06, 0)])  # between two pieces of 16 kB
def test_a_slow_host_is_said_once(get, caplog, seconds, expected):
    with caplog.at_level(logging.WARNING, "megu"):
        get(clock=itertools.count(step=seconds).__next__)
    said = "data.tar.gz comes slowly from 127.0.0.1 (27 kB/s, about 1 more minutes): "  # after 30 s and 0.8 of 3 MB
    assert len(caplog.messages) == expected
    assert all(line.startswith(said) and line.endswith(OTHERWISE) for line in caplog.messages)


def test_a_host_that_takes_the_call_and_stays_silent_is_given_up(tmp_path, monkeypatch):
    for name, value in (("TIMEOUT", 0.1), ("ATTEMPTS", 2), ("WAIT", wait_none())):
        monkeypatch.setattr(download, name, value)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hangs_up = threading.Timer(5, silent.close)  # whoever waited so long sees a connection that breaks
        hangs_up.start()
        with refused(r"could not be downloaded from 127.0.0.1 \(no answer in time\)"):
            download.fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/{NAME}", tmp_path / NAME, MD5, OTHERWISE)
        hangs_up.cancel()


def at(path):
    return loaded("cifar10", path)


@pytest.fixture
def cifar(host, monkeypatch):
    """An archive in CIFAR-10's own format, served by a host that breaks off."""
    parts = random_parts()
    host.file, host.cut, host.cuts = archive(parts, monkeypatch, host.url), 2**14, 2
    return parts


def test_an_archive_of_cifar_is_downloaded_resumed_and_read(host, cifar, tmp_path, monkeypatch):
    data = tmp_path / "data"
    images = at(data)
    assert host.asked == [None, "bytes=16384-", "bytes=32768-"]
    x, y = cifar["train"]
    assert torch.equal(images.x[:20].permute(0, 2, 3, 1), torch.from_numpy(x)) and images.y[:20].tolist() == y.tolist()
    assert identity.described(images)["train"]["official"] == "subset, 20 of 50000 images"

    with monkeypatch.context() as once:  # a folder that has everything may be one that cannot be written
        for name in ("fetch", "FileLock"):
            once.setattr(reader, name, lambda *_, name=name: pytest.fail(name))
        assert at(data).digest() == images.digest()

    (data / "cifar-10-batches-py" / "test_batch").write_bytes(b"damaged")  # the archive is there still
    assert at(data).digest() == images.digest() and len(host.asked) == 3


@pytest.mark.parametrize("typed", ["typo/data", "typo/cifar10.npzz", "cifar10.npzz", "cifar10.tar.gz"])
def test_a_mistyped_place_is_neither_made_nor_filled(host, cifar, tmp_path, typed):
    remedy = "set it to an .npz, to cifar-10-python.tar.gz, or to a folder"
    with refused(f"data.path is '.*{typed}', which does not exist: {remedy}"):
        at(tmp_path / typed)
    assert not host.asked and not list(tmp_path.iterdir())


def test_the_archive_itself_or_what_was_unpacked_from_it_may_be_given(host, cifar, tmp_path):
    given, other = (tmp_path / f"cifar-{classes}-python.tar.gz" for classes in (10, 100))
    given.write_bytes(host.file)
    images = at(given)
    places = (tmp_path / "cifar-10-batches-py", tmp_path)
    assert {at(place).digest() for place in places} == {images.digest()} and len(images.y) == 30
    other.write_bytes(host.file)
    with refused(f"{other.name}', which is a file of another kind: set it to an .npz, to {given.name}"):
        at(other)
    given.write_bytes(host.file[:-1])
    with refused("which is not the archive as published .MD5 .*: get it again"):
        at(given)
    assert not host.asked and given.read_bytes() == host.file[:-1]


def test_a_host_that_gives_another_archive(host, cifar, tmp_path):
    host.cuts, host.file = 0, host.file[:-1]
    with refused("gave another file than cifar-10-python.tar.gz.*set data.source to 'hub', or data.path to an .npz"):
        at(tmp_path / "data")
