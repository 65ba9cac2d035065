r"""The most memory that a block of work held: of the process, and of tensors alone."""

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
        self.now, self.most, self._known = 0, 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        old = {_storage(t)._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if (
                isinstance(tensor, torch.Tensor)
                and (key := _storage(tensor)._cdata) not in old
                and key not in self._known
            ):
                self._known[key] = size = _storage(tensor).nbytes()
                self.now += size
                self.most = max(self.most, self.now)
                weakref.finalize(_storage(tensor), self._gone, key)
        return out

    def _gone(self, key):
        self.now -= self._known.pop(key, 0)


def _storage(tensor):
    return tensor.untyped_storage()


@contextmanager
def watched(device=CPU, every=0.002):
    r"""A block whose memory is watched; gives a `Peak` that is filled in at the end.

    The process (where ``device`` is a GPU: what torch allocates there) is sampled every ``every`` seconds, so that what
    lives for less may be missed, and what the C library keeps from earlier work seems to need nothing; tensors are
    counted one by one.
    """
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


def per_image(run, count=2):
    r"""MB of tensors that one more image needs in a piece of work.

    Args:
        run: function of a number of images.  count: images; twice as many are compared with them.
    """
    most = []
    for images in (count, 2 * count):
        with Tensors() as tensors:
            run(images)
        most.append(tensors.most)
    return (most[1] - most[0]) / count / 1e6


def passed(model, x, weights, image, cast):
    r"""One pass of images ``x`` through a model in the context ``cast``, and back to its ``weights``, to the ``image``,
    to both, or not at all."""
    model.requires_grad_(weights)
    for weight in (
        model.parameters() if weights else ()
    ):  # their gradients do not grow with the images, and would hide what does
        weight.register_post_accumulate_grad_hook(lambda weight: setattr(weight, "grad", None))
    with cast, torch.set_grad_enabled(weights or image):
        loss = model(x.requires_grad_(image)).float().square().sum()
    if weights or image:
        loss.backward()
