r"""The most memory that a block of work held."""

import gc
import threading
import weakref
from contextlib import contextmanager
from types import SimpleNamespace

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from megu.core.device import fresh_peak, peak_memory_mb

CPU = torch.device("cpu")


class Tensors(TorchDispatchMode):
    """The ``most`` bytes of tensors made in the block, on any device."""

    def __init__(self):
        super().__init__()
        self._now, self.most, self._known = 0, 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        old = {storage._cdata for storage in _storages((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            if (key := storage._cdata) not in old | self._known.keys():
                self._known[key] = storage.nbytes()
                self._now += storage.nbytes()
                self.most = max(self.most, self._now)
                weakref.finalize(storage, self._gone, key)
        return out

    def _gone(self, key):
        self._now -= self._known.pop(key, 0)


def _storages(tree):
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


@contextmanager
def peak_memory(device: torch.device = CPU):
    r"""The most, MB (1e6 bytes), that ``process`` and ``tensors`` held in the block beyond what was held before it.

    The process (on a GPU: what torch allocates there) is sampled every 2 ms, and what the C library keeps from earlier
    work seems to need nothing; tensors are counted one by one.
    """
    gc.collect()  # garbage that goes inside the block would hide what it holds
    peak, tensors, over = SimpleNamespace(), Tensors(), threading.Event()
    cuda, held = device.type == "cuda", psutil.Process().memory_info
    fresh_peak(device)
    before = torch.cuda.memory_allocated(device) if cuda else held().rss
    most = [before]

    def look():
        while not over.wait(0.002):
            most.append(held().rss)

    if not cuda:
        threading.Thread(target=look, daemon=True).start()
    try:
        with tensors:
            yield peak
    finally:
        over.set()
        most.append(1e6 * peak_memory_mb(device) if cuda else held().rss)
        peak.process, peak.tensors = (max(most) - before) / 1e6, tensors.most / 1e6
