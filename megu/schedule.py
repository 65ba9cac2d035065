r"""Pieces of work that wait for each other, on any ``concurrent.futures`` executor."""

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass

from tqdm import tqdm

BREAKS = 3  # an executor that breaks more often without having finished anything will not recover


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


def carry_out(pieces, executor, label=""):
    r"""Run pieces as soon as those that they need are done; one failure stops only what needs it.

    Args:
        pieces: list of `Piece`; of those that are ready, earlier ones go first.
        executor: function without arguments that gives a ``concurrent.futures`` executor; called again where one broke because a worker died:
            what was under way is then submitted anew.
        label: text of the progress bar, which shows pieces done, time left and failures.
    Returns: name -> exception (of the piece, or of the piece that it needed) of every piece that did not succeed.
    """
    open_, failed, breaks = {piece.name: piece for piece in pieces}, {}, 0
    done = {name for piece in pieces for name in piece.needs} - set(open_)  # what is not asked for is there
    there = len(done)
    with tqdm(total=len(pieces), desc=label, unit="piece", smoothing=0.1) as bar:
        while open_:
            with executor() as pool:
                running = {}
                try:
                    while open_ or running:
                        _submit(open_, running, done, failed, pool)
                        finished, _ = wait(running, return_when=FIRST_COMPLETED)
                        for future in finished:
                            error = future.exception()
                            if isinstance(error, BrokenExecutor):
                                raise error
                            piece = running.pop(future)
                            done.add(piece.name)
                            breaks = 0
                            if error is not None:
                                failed[piece.name] = error
                        bar.n = len(done) - there
                        bar.set_postfix(failed=len(failed))
                except BrokenExecutor as error:
                    breaks += 1
                    lost = list(running.values())
                    if breaks > BREAKS:
                        failed.update({piece.name: error for piece in (*lost, *open_.values())})
                        open_.clear()
                    else:
                        open_ = {piece.name: piece for piece in (*lost, *open_.values())}
                except BaseException:
                    for future in running:
                        future.cancel()
                    raise
    return failed


def _submit(open_, running, done, failed, pool):
    """Submit what is ready; what needs a failed piece fails with it."""
    for piece in list(open_.values()):
        if broken := next((name for name in piece.needs if name in failed), None):
            failed[piece.name] = failed[broken]
            done.add(piece.name)
            del open_[piece.name]
        elif done.issuperset(piece.needs):
            del open_[piece.name]
            future = pool.submit(piece.function, *piece.arguments)
            running[future] = piece
            if future.done():  # inline: what it makes possible may go first
                return
