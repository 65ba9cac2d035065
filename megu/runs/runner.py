r"""Jobs that wait for each other, on any ``concurrent.futures`` executor."""

import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tqdm import tqdm

from megu.settings.errors import WorkError

BREAKS = 10  # an executor that breaks so often without having finished anything will not recover


class JobError(RuntimeError):
    """Why a job failed: one ``line``, and the whole ``trace``.  It is text, because not every exception can travel
    between processes."""

    def __init__(self, line, trace=""):
        super().__init__(line, trace)
        self.line, self.trace = line, trace

    def __str__(self):
        return self.line


@dataclass(frozen=True)
class Job:
    r"""One call.

    Attributes:
        name: unique.
        function, arguments: picklable; what shall stay, the function keeps on a disk that all workers share.
        needs: names of the jobs that come first; those that are not among the jobs are taken as done.
    """

    name: str
    function: Callable
    arguments: tuple = ()
    needs: tuple[str, ...] = ()

    def __call__(self):
        """Raises: JobError for any error of the function."""
        try:
            self.function(*self.arguments)
        except Exception as error:
            line = (str(error).strip().splitlines() or ["no message"])[0]
            trace = "".join(traceback.format_exception(error))
            raise JobError(f"{type(error).__name__}: {line}", trace) from None


class Inline(Executor):
    """Runs each call at once, in this process."""

    def submit(self, function, /, *args, **kwargs):
        """A future that is done already."""
        future = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def run_jobs(
    jobs: Iterable[Job],
    executor: Callable[[], AbstractContextManager[Executor]],
    label: str = "",
    report: Callable[[str, JobError], object] = lambda name, error: None,
) -> dict[str, JobError]:
    r"""Run jobs as soon as those that they need are done; one failure stops only what needs it.

    Where a worker dies, what was under way is tried again, one job at a time: a job that kills its worker by itself
    fails alone.

    Args:
        jobs: of those that are ready, earlier ones go first.
        executor: gives an executor, see `megu.runs.executors.executor`; called again where one broke.
        label: text of the progress bar, which shows jobs done, time left and failures.
        report: called with name and error of each failure when it happens.
    Returns: name -> error of every job that did not succeed.
    Raises: WorkError where a cluster's scheduler is gone.
    """
    queue = _JobQueue({job.name: job for job in jobs}, report)
    total = len(queue.open)
    with tqdm(total=total, desc=label, unit="job", smoothing=0.1) as bar:
        while queue.open:
            with executor() as pool:
                try:
                    while queue.open or queue.running:
                        queue.submit(pool)
                        for future in wait(queue.running, return_when=FIRST_COMPLETED).done:
                            queue.finish(future)
                        bar.n = total - len(queue.open) - len(queue.running)
                        bar.set_postfix(failed=len(queue.failed))
                except BrokenExecutor as error:
                    queue.recover(error)
                except CancelledError:
                    raise WorkError(
                        "the scheduler is gone; what is finished is kept, and the same command goes on with the rest"
                    ) from None
                except BaseException:
                    getattr(pool, "stop", lambda: [future.cancel() for future in queue.running])()
                    raise
    return queue.failed


def run_all(jobs: Iterable[Job], executor: Callable, label: str = ""):
    r"""`run_jobs` where all must succeed.  Raises: WorkError, after all of them, with those that failed and why."""
    jobs = list(jobs)
    if failed := run_jobs(jobs, executor, label):
        why = "; ".join(f"{name}: {error}" for name, error in sorted(failed.items()))
        raise WorkError(f"{len(failed)} of {len(jobs)} jobs failed ({label}); the others are kept.  {why}")


class _JobQueue:
    """What is open, what is under way, what failed."""

    def __init__(self, jobs, report):
        self.open, self.running, self.failed, self.report = jobs, {}, {}, report
        self.suspects, self.breaks = set(), 0

    def submit(self, pool):
        """Submit what is ready; what needs a failed job fails with it; of jobs that were under way when a worker died,
        one at a time."""
        waiting = {*self.open, *(job.name for job in self.running.values())}  # what fails below is looked up first
        for job in list(self.open.values()):
            if broken := next((name for name in job.needs if name in self.failed), None):
                del self.open[job.name]
                self._fail(job.name, JobError(f"it needs {broken}, which failed", self.failed[broken].trace))
            elif waiting.isdisjoint(job.needs) and not (
                self.suspects and (self.running or job.name not in self.suspects)
            ):
                future = pool.submit(job)
                del self.open[job.name]
                self.running[future] = job
                if future.done():  # inline: what it makes possible may go first
                    return

    def finish(self, future):
        """Take the result of a job that ended.  Raises: BrokenExecutor where it did not end by itself."""
        error = future.exception()
        if isinstance(error, BrokenExecutor):
            raise error
        job, self.breaks = self.running.pop(future), 0
        self.suspects.discard(job.name)
        if error is not None:
            self._fail(job.name, error if isinstance(error, JobError) else JobError(f"{type(error).__name__}: {error}"))

    def recover(self, error):
        """After a worker died: what was under way is suspected; a suspect that was alone, then, has killed it."""
        lost, self.running, self.breaks = list(self.running.values()), {}, self.breaks + 1
        if self.breaks > BREAKS or any(job.name in self.suspects for job in lost):
            for job in lost if self.breaks <= BREAKS else (*lost, *self.open.values()):
                self.open.pop(job.name, None)
                self.suspects.discard(job.name)
                line = f"its worker died ({type(error).__name__}); memory may have been short"
                self._fail(job.name, JobError(line))
        else:
            self.suspects |= {job.name for job in lost}
            self.open = {**{job.name: job for job in lost}, **self.open}

    def _fail(self, name, error):
        self.failed[name] = error
        self.report(name, error)
