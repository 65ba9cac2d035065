r"""Jobs that wait for each other, on any ``concurrent.futures`` executor."""

import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tqdm import tqdm

from megu.settings.errors import WorkError

BREAKS = 10  # as often an executor may break without finishing anything


class JobError(RuntimeError):
    """Why a job failed, a line and the whole trace, as text: not every exception travels between processes."""

    def __init__(self, line: str, trace: str = ""):
        super().__init__(line, trace)
        self.trace = trace

    def __str__(self):
        return self.args[0]


@dataclass(frozen=True)
class Job:
    r"""One call, which keeps its results on a disk that all workers share; ``name`` is unique.

    needs: names of the jobs that come first; those that are not there are taken as done.
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
    """Runs each call at once."""

    def submit(self, function, /, *args, **kwargs):
        """A future that is done."""
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
    r"""Run jobs as soon as those that they need are done, earlier ones first; a failure stops only what needs it.

    Where a worker dies, what was under way is tried again one by one: a job that kills its worker fails alone.

    Args:
        executor: see `megu.runs.executors.executor`; called again where one broke.
        label: of the progress bar.  report: called with name and error of each failure.
    Returns: name -> error of every job that failed.
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
                    raise WorkError("the scheduler is gone: repeat the command, which goes on") from None
                except BaseException:
                    getattr(pool, "stop", lambda: [future.cancel() for future in queue.running])()
                    raise
    return queue.failed


def run_all(jobs: Iterable[Job], executor: Callable, label: str = ""):
    r"""`run_jobs`.  Raises: WorkError, after all of them, with what failed and why."""
    jobs = list(jobs)
    if failed := run_jobs(jobs, executor, label):
        why = "; ".join(f"{name}: {error}" for name, error in sorted(failed.items()))
        raise WorkError(f"{len(failed)} of {len(jobs)} jobs failed ({label}); the others are kept.  {why}")


class _JobQueue:
    # Suspects were under way when a worker died, and go one at a time.
    def __init__(self, jobs, report):
        self.open, self.running, self.failed, self.report = jobs, {}, {}, report
        self.suspects, self.breaks = set(), 0

    def submit(self, pool):
        waiting = {*self.open, *(job.name for job in self.running.values())}  # what fails below is looked up first
        for job in list(self.open.values()):
            if broken := next((name for name in job.needs if name in self.failed), None):
                del self.open[job.name]
                self._fail(job, f"it needs {broken}, which failed", self.failed[broken].trace)
            elif waiting.isdisjoint(job.needs) and not (
                self.suspects and (self.running or job.name not in self.suspects)
            ):
                future = pool.submit(job)
                del self.open[job.name]
                self.running[future] = job
                if future.done():  # inline: what it makes possible may go first
                    return

    def finish(self, future):
        error = future.exception()
        if isinstance(error, BrokenExecutor):
            raise error
        job, self.breaks = self.running.pop(future), 0
        self.suspects.discard(job.name)
        if isinstance(error, JobError):
            self._fail(job, *error.args)
        elif error is not None:
            self._fail(job, f"{type(error).__name__}: {error}")

    def recover(self, error):
        # A suspect that was alone has killed its worker.
        lost, self.running, self.breaks = list(self.running.values()), {}, self.breaks + 1
        if self.breaks <= BREAKS and self.suspects.isdisjoint(job.name for job in lost):
            self.suspects |= {job.name for job in lost}
            self.open = {**{job.name: job for job in lost}, **self.open}
            return
        for job in lost if self.breaks <= BREAKS else (*lost, *self.open.values()):
            self.open.pop(job.name, None)
            self.suspects.discard(job.name)
            self._fail(job, f"its worker died ({type(error).__name__}); memory may have been short")

    def _fail(self, job, line, trace=""):
        self.failed[job.name] = JobError(line, trace)
        self.report(job.name, self.failed[job.name])
