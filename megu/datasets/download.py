r"""A large file from a host: resumed where it stopped, checked before it is used, and said to be slow."""

import logging
import os
import time
from urllib.parse import urlsplit

import requests
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential
from tqdm import tqdm

from megu.settings.errors import SettingsError
from megu.settings.files import hash_file, writing

ATTEMPTS, TIMEOUT = 6, 30  # connections in one call; seconds without a byte
SLOW, PATIENCE = 200, 30  # kB/s; seconds between two looks at the speed
WAIT = wait_exponential(max=20)  # seconds between two connections


def fetch(url, path, md5, otherwise, clock=time.monotonic):
    r"""Download a file to ``path`` unless it is there.  Not to be called by two processes at once.

    ``<name>.part`` keeps what has come; the next connection or call asks for the rest (HTTP Range).

    Args:
        md5: as published.
        otherwise: what else could be done, for messages.
        clock: gives seconds, for one warning where half a minute had less than 200 kB/s.
    Raises: SettingsError where the host gives no file, or another one, which is removed; StageError for a full disk.
    """
    part, host = path.with_name(f"{path.name}.part"), urlsplit(url).hostname
    if path.exists() and hash_file(path, "md5") == md5:
        return
    with writing(part):
        path.parent.mkdir(parents=True, exist_ok=True)
    watch = _watch(f"{path.name} comes slowly from {host}", otherwise, clock)
    retrying = Retrying(stop=stop_after_attempt(ATTEMPTS), wait=WAIT, retry=retry_if_exception(_passing), reraise=True)
    remedy = f"repeat the command, or {otherwise}"
    try:
        retrying(_receive, url, part, watch)
    except requests.RequestException as error:
        have = part.stat().st_size / 1e6 if part.exists() else 0
        what = f"{path.name} could not be downloaded from {host} ({_why(error)}); {have:.1f} MB are here"
        raise SettingsError(f"{what}: {remedy}") from None
    if (found := hash_file(part, "md5")) != md5:
        part.unlink()
        what = f"{host} gave another file than {path.name} (MD5 {found}, not {md5}), which was removed"
        raise SettingsError(f"{what}: {remedy}")
    with writing(path):
        os.replace(part, path)


def _why(error):
    if error.response is not None:
        return f"HTTP {error.response.status_code}"
    return "no answer in time" if isinstance(error, requests.Timeout) else "the connection broke"


def _passing(error):  # 404 and the like will not change
    return isinstance(error, requests.RequestException) and (
        error.response is None or error.response.status_code in (408, 429) or error.response.status_code >= 500
    )


def _receive(url, part, watch):
    have = part.stat().st_size if part.exists() else 0
    asks = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=asks, stream=True, timeout=TIMEOUT) as response:
        if have and response.status_code == 416:  # nothing is left to send
            return
        response.raise_for_status()
        if response.status_code != 206:
            have = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)
            raise requests.ConnectionError("the host sent another part than the one asked for")
        left = int(response.headers.get("Content-Length", 0))
        total = have + left if left else None
        with (
            open(part, "ab" if have else "wb") as file,
            tqdm(desc=part.stem, total=total, initial=have, unit="B", unit_scale=True) as bar,
        ):
            for chunk in response.iter_content(2**14):  # bytes, lost at most when a connection breaks
                with writing(part):
                    file.write(chunk)
                bar.update(len(chunk))
                left -= len(chunk)
                watch(len(chunk), left)


def _watch(what, otherwise, clock):
    began, got, said = clock(), 0, False

    def look(count, left):  # bytes that came, bytes that are left
        nonlocal began, got, said
        got, seconds = got + count, clock() - began
        if said or seconds < PATIENCE:
            return
        speed = got / seconds / 1e3
        began, got, said = clock(), 0, speed < SLOW
        if said:
            rest = f", about {max(1, round(left / 6e4 / speed))} more minutes" if left > 0 else ""
            logging.getLogger("megu").warning(f"{what} ({speed:.0f} kB/s{rest}): wait, or stop it and {otherwise}")

    return look
