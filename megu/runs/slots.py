r"""A pool of processes on this machine, one for each GPU; without a GPU, one for each core."""

import os
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import active_children, get_context, parent_process

from joblib import cpu_count


def visible():
    r"""Names of the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them; empty where there is none.

    Returns: list of str: what an existing ``CUDA_VISIBLE_DEVICES`` lists (numbers, GPU or MIG identifiers), else "0",
        "1" and so on.
    """
    import torch  # noqa: PLC0415  (a worker is given its GPU before it imports torch)

    count, listed = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(k) for k in range(count)] if listed is None else [name.strip() for name in listed.split(",")]
    return names[:count]


class Pool(ProcessPoolExecutor):
    """A process pool that can be stopped at once."""

    def stop(self):
        """End the workers without waiting for what they do; files appear whole or not at all, so nothing is left
        half-written."""
        self.shutdown(wait=False, cancel_futures=True)
        for process in active_children():
            process.terminate()


def gpu_pool(workers=None, devices=None, most=8):
    r"""An executor whose workers do not get into each other's way: each has one GPU and its share of the cores.

    Args:
        workers: processes; None for one per GPU, or without a GPU one per core, at most ``most``.  More workers than
            GPUs share them evenly.
        devices: names of GPUs, None for all that are `visible`; an empty list is the CPU.
    Returns: `Pool` of fresh (spawned) processes that see one GPU as ``cuda:0``; without a GPU they see none.  Functions
        and arguments are pickled.  If a worker dies, what is under way raises ``BrokenProcessPool``: make another pool
        for it.
    """
    devices = visible() if devices is None else list(devices)
    workers = workers or len(devices) or min(cpu_count(), most)
    context = get_context("spawn")
    slots = context.SimpleQueue()
    for k in range(workers):
        slots.put(devices[k % len(devices)] if devices else "")
    return Pool(workers, context, _take, (slots, max(1, cpu_count() // workers)))


def _take(slots, threads):
    # Before CUDA starts in this process, which may have imported torch with the caller's main module.
    os.environ["CUDA_VISIBLE_DEVICES"] = slots.get()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["TQDM_DISABLE"] = "1"  # the bars of several processes would overwrite each other
    if parent := parent_process():
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _end_with(parent):
    # A killed parent cannot stop its workers; without it they would finish what is queued and then wait for ever.
    parent.join()
    os._exit(1)
