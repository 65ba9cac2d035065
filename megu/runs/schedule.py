r"""Pieces of work that wait for each other, on any ``concurrent.futures`` executor."""

import traceback
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from dataclasses import dataclass

from tqdm import tqdm

from megu.settings.errors import WorkError

BREAKS = 10  # an executor that breaks so often without having finished anything will not recover


class PieceError(RuntimeError):
    """Why a piece failed: one ``line``, and the whole ``trace``.  It is text, because not every exception can travel
    between processes."""

    def __init__(self, line, trace=""):
        super().__init__(line, trace)
        self.line, self.trace = line, trace

    def __str__(self):
        return self.line


@dataclass(frozen=True)
class Piece:
    r"""One call.

    Attributes:
        name: unique.
        function, arguments: picklable; what shall stay, the function keeps on a disk that all workers share.
        needs: names of the pieces that come first; those that are not carried out are taken as done.
    """

    name: str
    function: Callable
    arguments: tuple
    needs: tuple[str, ...] = ()

    def __call__(self):
        """Raises: PieceError for any error of the function."""
        try:
            self.function(*self.arguments)
        except Exception as error:
            line = (str(error).strip().splitlines() or ["no message"])[0]
            raise PieceError(f"{type(error).__name__}: {line}", "".join(traceback.format_exception(error))) from None


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


def carry_out(pieces, executor, label="", tell=lambda name, error: None):
    r"""Run pieces as soon as those that they need are done; one failure stops only what needs it.

    Where a worker dies, what was under way is tried again, one piece at a time: a piece that kills its worker by itself
        fails alone.

    Args:
        pieces: list of `Piece`; of those that are ready, earlier ones go first.
        executor: function without arguments that gives a ``concurrent.futures`` executor; called again where one broke.
        label: text of the progress bar, which shows pieces done, time left and failures.
        tell: called with name and `PieceError` of each failure when it happens.
    Returns: name -> `PieceError` of every piece that did not succeed.
    Raises: WorkError where a cluster's scheduler is gone.
    """
    work = _Work({piece.name: piece for piece in pieces}, tell)
    with tqdm(total=len(pieces), desc=label, unit="piece", smoothing=0.1) as bar:
        while work.open:
            with executor() as pool:
                try:
                    while work.open or work.running:
                        work.submit(pool)
                        for future in wait(work.running, return_when=FIRST_COMPLETED).done:
                            work.finish(future)
                        bar.n = len(pieces) - len(work.open) - len(work.running)
                        bar.set_postfix(failed=len(work.failed))
                except BrokenExecutor as error:
                    work.recover(error)
                except CancelledError:
                    raise WorkError(
                        "the scheduler is gone; what is finished is kept, and the same command goes on with the rest"
                    ) from None
                except BaseException:
                    getattr(pool, "stop", lambda: [future.cancel() for future in work.running])()
                    raise
    return work.failed


class _Work:
    """What is open, what is under way, what failed."""

    def __init__(self, pieces, tell):
        self.open, self.tell, self.failed, self.running, self.suspects, self.breaks = (
            dict(pieces),
            tell,
            {},
            {},
            set(),
            0,
        )

    def submit(self, pool):
        """Submit what is ready; what needs a failed piece fails with it; of pieces that were under way when a worker
        died, one at a time."""
        waiting = {
            *self.open,
            *(piece.name for piece in self.running.values()),
        }  # what fails in this loop is looked up first
        for piece in list(self.open.values()):
            if broken := next((name for name in piece.needs if name in self.failed), None):
                del self.open[piece.name]
                self._fail(piece.name, PieceError(f"it needs {broken}, which failed", self.failed[broken].trace))
            elif waiting.isdisjoint(piece.needs) and not (
                self.suspects and (self.running or piece.name not in self.suspects)
            ):
                future = pool.submit(piece)
                del self.open[piece.name]
                self.running[future] = piece
                if future.done():  # inline: what it makes possible may go first
                    return

    def finish(self, future):
        """Take the result of a piece that ended.  Raises: BrokenExecutor where it did not end by itself."""
        error = future.exception()
        if isinstance(error, BrokenExecutor):
            raise error
        piece, self.breaks = self.running.pop(future), 0
        self.suspects.discard(piece.name)
        if error is not None:
            self._fail(
                piece.name, error if isinstance(error, PieceError) else PieceError(f"{type(error).__name__}: {error}")
            )

    def recover(self, error):
        """After a worker died: what was under way is suspected; a suspect that was alone, then, has killed it."""
        lost, self.running, self.breaks = list(self.running.values()), {}, self.breaks + 1
        if self.breaks > BREAKS or [piece.name for piece in lost if piece.name in self.suspects]:
            for piece in lost if self.breaks <= BREAKS else (*lost, *self.open.values()):
                self.open.pop(piece.name, None)
                self.suspects.discard(piece.name)
                self._fail(
                    piece.name, PieceError(f"its worker died ({type(error).__name__}); memory may have been short")
                )
        else:
            self.suspects |= {piece.name for piece in lost}
            self.open = {**{piece.name: piece for piece in lost}, **self.open}

    def _fail(self, name, error):
        self.failed[name] = error
        self.tell(name, error)
