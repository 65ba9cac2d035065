r"""Where pieces of work run: in this process, in several on this machine, or on a Dask cluster."""

from contextlib import ExitStack, contextmanager

from megu.runs.schedule import Inline
from megu.runs.slots import gpu_pool
from megu.settings.errors import SettingsError
from megu.settings.values import closest

CLUSTERS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster"}  # of dask-jobqueue


def executor(workers=None, scheduler=None, cluster=None, jobs=1):
    r"""The executor of a grid, as a function that gives a context, see `megu.runs.schedule.carry_out`.

    Args:
        workers: processes on this machine, None for one per GPU or core; 1 runs everything in this process.
        scheduler: address of a Dask scheduler, e.g. ``tcp://host:8786``; its workers need the same disk and code; start
            them with one thread, for each carries out one piece at a time, and on a machine with several GPUs with one
            of them in ``CUDA_VISIBLE_DEVICES``.
        cluster: name in `CLUSTERS`: workers are jobs of that queue, as ``~/.config/dask/jobqueue.yaml`` describes them.
        jobs: of the cluster.
    Raises: SettingsError where two of these are asked for or one is mistyped; the context, where a package, the
        scheduler or a description of the jobs is missing.
    """
    if sum(choice is not None for choice in (workers, scheduler, cluster)) > 1:
        raise SettingsError("--workers, --scheduler and --cluster exclude each other: give one")
    if cluster and cluster not in CLUSTERS:
        raise SettingsError(closest(cluster, CLUSTERS, "--cluster"))
    if scheduler and "://" not in scheduler:
        raise SettingsError(
            f"--scheduler {scheduler!r} is no address: write it as `dask scheduler` prints it, e.g. tcp://host:8786"
        )
    if scheduler or cluster:
        return lambda: _dask(scheduler, cluster, jobs)
    return Inline if workers == 1 else lambda: gpu_pool(workers)


@contextmanager
def _dask(scheduler, cluster, jobs):
    try:
        from distributed import Client  # noqa: PLC0415  (optional)
    except ImportError:
        raise SettingsError("--scheduler and --cluster need Dask: pip install 'megu[cluster]'") from None
    with ExitStack() as stack:
        address = stack.enter_context(_queue(cluster, jobs)) if cluster else scheduler
        try:
            client = stack.enter_context(Client(address, timeout="30s"))
        except (OSError, TimeoutError, ValueError) as error:
            raise SettingsError(
                f"no Dask scheduler answers at {scheduler or cluster} ({error}): check the address, or start `dask scheduler`"
            ) from None
        # Not the executor's own context, which would wait for what an interrupt gave up.
        yield client.get_executor(pure=False)


def _queue(name, jobs):
    try:
        import dask_jobqueue  # noqa: PLC0415  (optional)
    except ImportError:
        raise SettingsError("--cluster needs dask-jobqueue: pip install 'megu[cluster]'") from None
    try:
        cluster = getattr(dask_jobqueue, CLUSTERS[name])()
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"--cluster {name}: {error}; describe one job in ~/.config/dask/jobqueue.yaml (cores: 1, processes: 1, memory, queue)"
        ) from None
    cluster.scale(jobs=jobs)
    return cluster
