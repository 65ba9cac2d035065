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
from megu.datasets.download import fetch
from megu.settings.errors import StageError

FILE = np.random.default_rng(0).bytes(3_000_000)
MD5 = hashlib.md5(FILE).hexdigest()
PIECE = 2**20
OTHERWISE = "set data.source to 'hub'"


class Host:
    """A host of one file.  ``cut``: bytes after which each connection but the last breaks; ``ranges``: honour, ignore
    or odd; ``status`` of first answers."""

    def __init__(self):
        self.file, self.cut, self.cuts, self.ranges, self.status, self.asked = FILE, 0, 0, "honour", [], []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers.get("Range")
                host.asked.append(asked)
                if host.status:
                    return self.send_error(host.status.pop(0))
                start = int(asked[6:-1]) if asked and host.ranges != "ignore" else 0
                if start >= len(host.file):
                    return self.send_error(416)
                self.send_response(206 if start else 200)
                if start:
                    self.send_header(
                        "Content-Range", f"bytes {start + (host.ranges == 'odd')}-{len(host.file) - 1}/{len(host.file)}"
                    )
                self.send_header("Content-Length", str(len(host.file) - start))
                self.end_headers()
                stop = len(host.file)
                if host.cuts:
                    host.cuts, stop = host.cuts - 1, start + host.cut
                self.wfile.write(host.file[start:stop])

            def log_message(self, *args):
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # a client that hangs up
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/data.tar.gz"


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setattr(download, "WAIT", wait_none())
    host = Host()
    yield host
    host.server.shutdown()
    host.server.server_close()


def get(host, path, **more):
    fetch(host.url, path, MD5, OTHERWISE, **more)
    assert path.read_bytes() == FILE and not list(path.parent.glob("*.part"))


def test_a_file_comes_once(host, tmp_path):
    for _ in range(2):
        get(host, tmp_path / "folder" / "data.tar.gz")
    assert host.asked == [None]


def test_a_damaged_file_is_fetched_again(host, tmp_path):
    (tmp_path / "data.tar.gz").write_bytes(FILE[:-1])
    get(host, tmp_path / "data.tar.gz")
    assert host.asked == [None]


def test_a_broken_connection_goes_on_where_it_stopped(host, tmp_path):
    host.cut, host.cuts = PIECE, 2
    get(host, tmp_path / "data.tar.gz")
    assert host.asked == [None, "bytes=1048576-", "bytes=2097152-"]


def test_the_next_call_goes_on_where_the_last_one_gave_up(host, tmp_path):
    host.cut, host.cuts = PIECE // 8, 7
    with refused(
        r"data.tar.gz could not be downloaded from 127.0.0.1 \(the connection broke\); 0.8 MB are here: repeat .*,"
        r" or set"
    ):
        get(host, tmp_path / "data.tar.gz")
    assert len(host.asked) == download.ATTEMPTS and not (tmp_path / "data.tar.gz").exists()
    get(host, tmp_path / "data.tar.gz")
    assert host.asked[download.ATTEMPTS] == "bytes=786432-"


def test_a_finished_part_is_not_asked_for_again(host, tmp_path):
    (tmp_path / "data.tar.gz.part").write_bytes(FILE)
    get(host, tmp_path / "data.tar.gz")
    assert host.asked == [f"bytes={len(FILE)}-"]


@pytest.mark.parametrize("ranges", ["ignore", "odd"])
def test_a_host_without_ranges_is_read_from_the_start(host, tmp_path, ranges):
    host.cut, host.cuts, host.ranges = PIECE, 1, ranges
    get(host, tmp_path / "data.tar.gz")
    assert host.asked[:2] == [None, "bytes=1048576-"]


def test_another_file_is_refused_and_removed(host, tmp_path):
    host.file = FILE[:-1] + bytes([FILE[-1] ^ 1])
    with refused(f"127.0.0.1 gave another file than data.tar.gz .MD5 .*, not {MD5}., which was removed: .*{OTHERWISE}"):
        get(host, tmp_path / "data.tar.gz")
    assert not list(tmp_path.iterdir())
    (tmp_path / "data.tar.gz.part").write_bytes(b"of another file")
    host.file = FILE
    with refused("gave another file"):
        get(host, tmp_path / "data.tar.gz")
    get(host, tmp_path / "data.tar.gz")


def test_a_busy_host_is_asked_again_and_a_missing_file_is_not(host, tmp_path):
    host.status = [503, 429]
    get(host, tmp_path / "data.tar.gz")
    assert len(host.asked) == 3
    host.status = [404, 404]
    with refused("HTTP 404.; 0.0 MB are here"):
        get(host, tmp_path / "other")
    assert len(host.asked) == 4


def test_a_host_that_is_not_there(host, tmp_path):
    host.server.shutdown()
    host.server.server_close()
    with refused("the connection broke.*repeat the command"):
        get(host, tmp_path / "data.tar.gz")


def test_a_full_disk_is_one_line_and_what_came_is_kept(host, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StageError, match=r"data\.tar\.gz\.part could not be written"):
        get(host, tmp_path / "file" / "data.tar.gz")


@pytest.mark.parametrize(("seconds", "expected"), [(0.6, 1), (0.06, 0)])  # between two pieces of 16 kB
def test_a_slow_host_is_said_once(host, tmp_path, caplog, seconds, expected):
    with caplog.at_level(logging.WARNING, "megu"):
        get(host, tmp_path / "data.tar.gz", clock=itertools.count(step=seconds).__next__)
    found = [record.getMessage() for record in caplog.records]
    assert len(found) == expected
    # Seen after 30 s and 0.8 of 3 MB
    assert all(
        "data.tar.gz comes slowly from 127.0.0.1 (27 kB/s, about 1 more minutes): " in line and line.endswith(OTHERWISE)
        for line in found
    )


def test_a_host_that_takes_the_call_and_stays_silent_is_given_up(tmp_path, monkeypatch):
    for name, value in (("TIMEOUT", 0.1), ("ATTEMPTS", 2), ("WAIT", wait_none())):
        monkeypatch.setattr(download, name, value)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hangs_up = threading.Timer(5, silent.close)  # whoever waited so long sees a connection that breaks
        hangs_up.start()
        with refused(r"could not be downloaded from 127.0.0.1 \(no answer in time\)"):
            fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/data.tar.gz", tmp_path / "data.tar.gz", MD5, OTHERWISE)
        hangs_up.cancel()


@pytest.fixture
def cifar(host, monkeypatch):
    """An archive in CIFAR-10's own format, served by a host that breaks off."""
    parts = random_parts()
    host.file, host.cut, host.cuts = archive(parts, monkeypatch, host.url), 2**14, 2
    return parts


def test_an_archive_of_cifar_is_downloaded_resumed_and_read(host, cifar, tmp_path, monkeypatch):
    images = at(tmp_path / "data")
    assert host.asked == [None, "bytes=16384-", "bytes=32768-"]
    x, y = cifar["train"]
    assert torch.equal(images.x[:20].permute(0, 2, 3, 1), torch.from_numpy(x)) and images.y[:20].tolist() == y.tolist()
    assert identity.described(images)["train"]["official"] == "subset, 20 of 50000 images"

    with monkeypatch.context() as once:  # a folder that has everything may be one that cannot be written
        for name in ("fetch", "FileLock"):
            once.setattr(reader, name, lambda *_, name=name: pytest.fail(name))
        assert at(tmp_path / "data").digest() == images.digest()

    (tmp_path / "data" / "cifar-10-batches-py" / "test_batch").write_bytes(b"damaged")  # the archive is there still
    assert at(tmp_path / "data").digest() == images.digest() and len(host.asked) == 3


def at(path):
    return loaded("cifar10", path)


@pytest.mark.parametrize("typed", ["typo/data", "typo/cifar10.npzz", "cifar10.npzz", "cifar10.tar.gz"])
def test_a_mistyped_place_is_neither_made_nor_filled(host, cifar, tmp_path, typed):
    with refused(
        f"data.path is '.*{typed}', which does not exist: set it to an .npz, to cifar-10-python.tar.gz, or to a folder"
    ):
        at(tmp_path / typed)
    assert not host.asked and not list(tmp_path.iterdir())


def test_the_archive_itself_or_what_was_unpacked_from_it_may_be_given(host, cifar, tmp_path):
    given = tmp_path / "cifar-10-python.tar.gz"
    given.write_bytes(host.file)
    images = at(given)
    assert (
        at(tmp_path / "cifar-10-batches-py").digest() == images.digest() == at(tmp_path).digest()
        and len(images.y) == 30
    )
    (other := tmp_path / "cifar-100-python.tar.gz").write_bytes(host.file)
    with refused(
        "cifar-100-python.tar.gz', which is a file of another kind: set it to an .npz, to cifar-10-python.tar.gz"
    ):
        at(other)
    given.write_bytes(host.file[:-1])
    with refused("which is not the archive as published .MD5 .*: get it again"):
        at(given)
    assert not host.asked and given.read_bytes() == host.file[:-1]


def test_a_host_that_gives_another_archive(host, cifar, tmp_path):
    host.cuts, host.file = 0, host.file[:-1]
    with refused("gave another file than cifar-10-python.tar.gz.*set data.source to 'hub', or data.path to an .npz"):
        at(tmp_path / "data")
