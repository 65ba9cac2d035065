r"""What a call says: bars in a terminal and callbacks, by one mechanism; and notices for its report."""

import logging
import os
import sys
from collections.abc import Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock, get_ident

from tqdm import tqdm

from megu.settings.errors import SettingsError
from megu.settings.values import closest, shown

LOG = logging.getLogger("megu")
_lock, _keeping, _silent = Lock(), [], []  # blocks of `collect_notices`; one item where the log was silenced


class Callback:
    """What `megu.unlearn` tells while it works; any object with some of these methods will do.

    An error that a callback raises ends the call; with ``out``, what is finished is kept.  A method ``close``, if there
    is one, is called in the end, come what may.  An error of it, or of ``on_end``, is said: all is done by then.  What
    an earlier call finished is not told again.
    """

    def on_stage(self, stage: str):
        """A stage begins: reading, guide, labels, noise, fine-tuning, evaluation or another of the method."""

    def on_progress(self, what: str, done: int, total: int | None):
        """``done`` of ``total`` steps (None: nobody knows how many) of what a bar in a terminal is named after."""

    def on_epoch(self, training: str, epoch: int, values: dict[str, float]):
        """Epoch number ``epoch``, from 1, of a training has ended; ``values``: its mean loss."""

    def on_end(self, result):
        """All is done and written; ``result``: what the call returns."""


EVENTS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class _Watchers:
    """Callbacks, and the stage that they know."""

    def __init__(self, callbacks=()):
        self.callbacks, self.stage = callbacks, None


_NOBODY = _Watchers()
_WATCHING: ContextVar[_Watchers] = ContextVar("watching", default=_NOBODY)


@contextmanager
def watching(callbacks: Iterable):
    """The block tells ``callbacks`` what it does.  Raises: SettingsError for one that would never hear of anything."""
    try:
        callbacks = tuple(callbacks)
    except TypeError:
        raise SettingsError(f"callbacks is {shown(callbacks)}: give a list of them") from None
    for one in callbacks:
        named = [name for name in dir(one) if name.startswith("on_") and callable(getattr(one, name))]
        if unknown := [name for name in named if name not in EVENTS]:
            raise SettingsError(closest(unknown[0], EVENTS, f"callback {type(one).__name__}: the event"))
        if not named or isinstance(one, type):
            what = f"the class {one.__name__}: give an object of it" if isinstance(one, type) else "no callback"
            raise SettingsError(f"{type(one).__name__} is {what}; its methods are some of {', '.join(EVENTS)}")
    token = _WATCHING.set(_Watchers((*_WATCHING.get().callbacks, *callbacks)))
    try:
        yield
    finally:
        _WATCHING.reset(token)
        for one in callbacks:
            _at_last(one, "close")


def _at_last(one, event, *about):
    try:
        getattr(one, event, lambda *_: None)(*about)
    except Exception as error:  # whatever a foreign method may raise
        why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:150]}"
        LOG.warning("%s.%s failed (%s), after all was done", type(one).__name__, event, why)


def tell(event: str, *about):
    """Call ``event``, in `EVENTS`, of every callback that has it; a stage is told once."""
    watchers = _WATCHING.get()
    if event == "on_stage" and watchers is not _NOBODY:
        if about == (watchers.stage,):
            return
        (watchers.stage,) = about
    for one in watchers.callbacks:
        if event == "on_end":
            _at_last(one, event, *about)
        elif hear := getattr(one, event, None):
            hear(*about)


class Bar(tqdm):
    """A bar of tqdm, of which callbacks hear as well, also where it is not shown; ``desc`` names it."""

    def __init__(self, *args, desc: str, **how):
        # A notebook puts every step of a bar below another on a line of its own, and shows stderr as it shows errors;
        # tqdm reads its variable only once.
        piped = not getattr(sys.stderr, "isatty", lambda: False)()
        quiet = (piped and len(self._instances) > 1) or bool(os.environ.get("TQDM_DISABLE"))
        # Not where a kernel is merely imported: `megu run` reads what the scripts of figures print.
        stream = sys.stdout if piped and type(sys.stdout).__module__.startswith("ipykernel") else None
        super().__init__(*args, desc=desc, **{"leave": False, "delay": 0.5, "disable": quiet, "file": stream, **how})
        self.what, self.done = desc, how.get("initial", 0)

    def __iter__(self):
        try:
            for item in self.iterable:
                yield item
                self.update()
        finally:
            self.close()

    def update(self, n: int = 1):
        """``n`` more are done."""
        super().update(n)
        self.done += n
        tell("on_progress", self.what, self.done, self.total)

    def epoch(self, number: int, **values: float):
        """The end of an epoch, from 1, of a training."""
        self.set_postfix({name: f"{value:.3f}" for name, value in values.items()})
        tell("on_epoch", self.what, number, values)


@contextmanager
def collect_notices(notices):
    r"""Appends what the block says in the log "megu", shown or not, to a list; where a record has a ``report``, which
    names no image, that.  Of blocks in each other the inner one hears it."""
    mine = get_ident(), notices
    with _lock:
        if not _keeping:
            _silent[:] = [True] * LOG.disabled
            LOG.disabled, LOG.isEnabledFor = False, logging.WARNING.__le__
            LOG.addFilter(_keep)
        _keeping.append(mine)
    try:
        yield
    finally:
        with _lock:
            _keeping[:] = [one for one in _keeping if one is not mine]
            if not _keeping:
                LOG.removeFilter(_keep)
                del LOG.isEnabledFor
                LOG.disabled = bool(_silent)


def repeat_notices(said, thread=None):
    """Appends notices to the list of the inner `collect_notices` of this thread: another has a request of its own."""
    heard = [notices for owner, notices in _keeping if owner == (thread or get_ident())]
    for notices in heard[-1:]:
        notices += said


def _keep(record):
    repeat_notices([getattr(record, "report", record.getMessage())], record.thread)
    return not _silent and type(LOG).isEnabledFor(LOG, record.levelno)
