r"""The most memory that a block of work held: of the process, and of tensors alone."""

import gc
import threading
import weakref
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CPU = torch.device("cpu")


@dataclass
class Peak:
    """The most that was held in the block beyond what was held before it, MB (1e6 bytes): by the ``process``, by
    ``tensors``."""

    process: float = float("nan")
    tensors: float = float("nan")


class Tensors(TorchDispatchMode):
    """Counts the bytes of tensors that are made in the block, until they are gone: what CUDA's allocator would count,
    on any device."""

    def __init__(self):
        super().__init__()
        self._now, self.most, self._known = 0, 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        old = {_storage(t)._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and (key := _storage(tensor)._cdata) not in old | self._known.keys():
                self._known[key] = size = _storage(tensor).nbytes()
                self._now += size
                self.most = max(self.most, self._now)
                weakref.finalize(_storage(tensor), self._gone, key)
        return out

    def _gone(self, key):
        self._now -= self._known.pop(key, 0)


def _storage(tensor):
    return tensor.untyped_storage()


@contextmanager
def peak_memory(device: torch.device = CPU, every: float = 0.002):
    r"""A block whose memory is watched; gives a `Peak` that is filled in at the end.

    The process (where ``device`` is a GPU: what torch allocates there) is sampled every ``every`` seconds, so that what
    lives for less may be missed, and what the C library keeps from earlier work seems to need nothing; tensors are
    counted one by one.
    """
    gc.collect()  # garbage that goes inside the block would hide what the block holds
    peak, process, over = Peak(), psutil.Process(), threading.Event()
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device) if cuda else process.memory_info().rss
    most = [before]

    def look():
        while not over.wait(every):
            most.append(process.memory_info().rss)

    thread = threading.Thread(target=look, daemon=True)
    if not cuda:
        thread.start()
    tensors = Tensors()
    try:
        with tensors:
            yield peak
    finally:
        over.set()
        most.append(torch.cuda.max_memory_allocated(device) if cuda else process.memory_info().rss)
        peak.process, peak.tensors = (max(most) - before) / 1e6, tensors.most / 1e6
