r"""The most memory that a block of work held."""

import ctypes
import gc
import threading
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch


@dataclass
class Peak:
    """``mb``: the most that was held in the block beyond what was held before it, MB (1e6 bytes)."""

    mb: float = float("nan")


def _given_back():
    # The C library keeps freed memory; without this the next block would seem to need none.
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextmanager
def watched(every=0.002):
    r"""A block whose memory is watched; gives a `Peak` that is filled in at the end.

    On CUDA what torch allocates, exactly; on a CPU the growth of the process, sampled every ``every`` seconds, so that what
    lives for less may be missed.
    """
    peak = Peak()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        try:
            yield peak
        finally:
            peak.mb = (torch.cuda.max_memory_allocated() - before) / 1e6
        return
    _given_back()
    held, process, over = [psutil.Process().memory_info().rss], psutil.Process(), threading.Event()

    def look():
        while not over.wait(every):
            held.append(process.memory_info().rss)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()
        peak.mb = (max(*held, process.memory_info().rss) - held[0]) / 1e6
