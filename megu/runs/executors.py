r"""Where jobs run: in this process, in several with a GPU or core each, or on a Dask cluster."""

import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

from joblib import cpu_count

from megu.runs.runner import Inline
from megu.settings.errors import SettingsError
from megu.settings.extras import extra
from megu.settings.values import closest

CLUSTERS = ("slurm", "pbs", "sge", "lsf")  # of dask-jobqueue
MOST = 8  # processes where nobody says how many


def executor(
    workers: int | None = None, scheduler: str | None = None, cluster: str | None = None, jobs: int = 1
) -> Callable[[], AbstractContextManager[Executor]]:
    r"""A function that gives an executor as a context.

    Args:
        workers: see `local_pool`; 1 runs everything in this process.
        scheduler: address of a Dask scheduler, whose workers have the same disk and code, one thread each, and of
            several GPUs one in ``CUDA_VISIBLE_DEVICES``.
        cluster: in `CLUSTERS`; ``~/.config/dask/jobqueue.yaml`` describes its ``jobs``.
    Raises: SettingsError where two of these are given or one is mistyped, or, in the context, nobody answers.
    """
    if sum(choice is not None for choice in (workers, scheduler, cluster)) > 1:
        raise SettingsError("--workers, --scheduler and --cluster exclude each other: give one")
    if cluster and cluster not in CLUSTERS:
        raise SettingsError(closest(cluster, CLUSTERS, "--cluster"))
    if scheduler and "://" not in scheduler:
        raise SettingsError(f"--scheduler {scheduler!r} is no address: write it as e.g. tcp://host:8786")
    if scheduler or cluster:
        return lambda: _dask(scheduler, cluster, jobs)
    return Inline if workers == 1 else lambda: local_pool(workers)


def check_sent(value):
    r"""Raises: SettingsError where other processes cannot have a ``value``, or would run the caller's script again."""
    main = sys.modules["__main__"]
    script, remedy = Path(getattr(main, "__file__", "")), "give workers=1, or"
    try:
        sent = bytes(ForkingPickler.dumps(value))
    except Exception as error:  # whatever a foreign object may raise
        what = f"model or data cannot be sent to other processes ({type(error).__name__}: {str(error)[:100]})"
        raise SettingsError(f"{what}: {remedy} files") from None
    if getattr(main, "__spec__", None) is not None:  # python -m
        return
    if script.is_file() and "__main__" not in script.read_text(errors="replace"):
        what = f"each process would run {script.name} again"
        raise SettingsError(f"{what}: {remedy} put the call below `if __name__ == '__main__':`")
    if not script.is_file() and b"__main__" in sent:
        what = "model or data are of a class of this notebook, which other processes do not know"
        raise SettingsError(f"{what}: {remedy} put the class into a .py file and import it")


def visible_gpus() -> list[str]:
    r"""The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` lists them, else "0", "1" and so on."""
    import torch  # noqa: PLC0415  (a worker is given its GPU first)

    count, listed = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(k) for k in range(count)] if listed is None else [name.strip() for name in listed.split(",")]
    return names[:count]


class LocalPool(ProcessPoolExecutor):
    """A process pool that can be stopped at once."""

    def stop(self):
        """End the workers without waiting for what they do."""
        self.shutdown(wait=False, cancel_futures=True)
        for process in active_children():
            process.terminate()


def local_pool(workers: int | None = None, gpus: Sequence[str] | None = None) -> LocalPool:
    r"""Spawned processes: each sees one GPU, as ``cuda:0``, and has its share of the cores.

    Args:
        workers: None for one per GPU, or without a GPU one per core, at most `MOST`; several share a GPU evenly.
        gpus: names, None for all that are visible; an empty list is the CPU.
    """
    gpus = visible_gpus() if gpus is None else gpus
    workers = workers or len(gpus) or min(cpu_count(), MOST)
    context = get_context("spawn")
    slots = context.SimpleQueue()
    for k in range(workers):
        slots.put(gpus[k % len(gpus)] if gpus else "")
    return LocalPool(workers, context, _start_worker, (slots, max(1, cpu_count() // workers)))


def _start_worker(slots, threads):
    # Before CUDA starts; bars of several processes would overwrite each other.
    os.environ.update(CUDA_VISIBLE_DEVICES=slots.get(), OMP_NUM_THREADS=str(threads), TQDM_DISABLE="1")
    if parent := parent_process():
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if "torch" in sys.modules:  # imported with the caller's main module
        sys.modules["torch"].set_num_threads(threads)


def _end_with(parent):
    # Workers of a killed parent would wait for ever.
    parent.join()
    os._exit(1)


@contextmanager
def _dask(scheduler, cluster, jobs):
    with extra("cluster"):
        from distributed import Client  # noqa: PLC0415

        if cluster:
            import dask_jobqueue  # noqa: PLC0415
    with ExitStack() as stack:
        if cluster:
            try:
                scheduler = stack.enter_context(getattr(dask_jobqueue, f"{cluster.upper()}Cluster")())
            except (ValueError, TypeError) as error:
                how = "describe one job in ~/.config/dask/jobqueue.yaml (cores: 1, processes: 1, memory, queue)"
                raise SettingsError(f"--cluster {cluster}: {error}; {how}") from None
            scheduler.scale(jobs=jobs)
        try:
            client = stack.enter_context(Client(scheduler, timeout="30s"))
        except (OSError, TimeoutError, ValueError) as error:
            where = f"{cluster or scheduler} ({error})"
            raise SettingsError(f"no Dask scheduler answers at {where}: check the address, or start one") from None
        # The executor's own context would wait for what an interrupt gave up.
        yield client.get_executor(pure=False)
