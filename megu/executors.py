r"""Where pieces of work run: in this process, in several on this machine, or on a Dask cluster."""

from contextlib import contextmanager

from megu.schedule import Inline
from megu.slots import gpu_pool
from megu.values import SettingsError

CLUSTERS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster"}  # of dask-jobqueue


def executor(workers=None, scheduler=None, cluster=None, jobs=1):
    r"""The executor of a grid, as a function that gives a context, see `megu.schedule.carry_out`.

    Args:
        workers: processes on this machine, None for one per GPU or core; 1 runs everything in this process.
        scheduler: address of a Dask scheduler, e.g. ``tcp://host:8786``; its workers need the same disk and code, and one thread each.
        cluster: name in `CLUSTERS`: workers are jobs of that queue, as ``~/.config/dask/jobqueue.yaml`` describes them.
        jobs: of the cluster.
    Raises: SettingsError where two of these are asked for, or a package or the scheduler is missing.
    """
    if sum(choice is not None for choice in (workers, scheduler, cluster)) > 1:
        raise SettingsError("--workers, --scheduler and --cluster exclude each other: give one")
    if scheduler or cluster:
        return lambda: _dask(scheduler, cluster, jobs)
    return Inline if workers == 1 else lambda: gpu_pool(workers)


@contextmanager
def _dask(scheduler, cluster, jobs):
    try:
        from distributed import Client  # noqa: PLC0415  (optional)
    except ImportError:
        raise SettingsError("--scheduler and --cluster need Dask: pip install 'megu[cluster]'") from None
    try:
        with _queue(cluster, jobs) if cluster else _address(scheduler) as address, Client(address, timeout="30s") as client:
            yield client.get_executor(pure=False)
    except (OSError, TimeoutError) as error:
        raise SettingsError(f"the scheduler {scheduler or cluster} does not answer ({error}): check the address, or start `dask scheduler`") from None


@contextmanager
def _address(scheduler):
    yield scheduler


@contextmanager
def _queue(name, jobs):
    if name not in CLUSTERS:
        raise SettingsError(f"--cluster is {name!r}: choose from {', '.join(CLUSTERS)}")
    try:
        import dask_jobqueue  # noqa: PLC0415  (optional)
    except ImportError:
        raise SettingsError("--cluster needs dask-jobqueue: pip install 'megu[cluster]'") from None
    with getattr(dask_jobqueue, CLUSTERS[name])() as cluster:
        cluster.scale(jobs=jobs)
        yield cluster
