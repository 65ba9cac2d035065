"""Work in a process of its own, so that it can be killed."""

import itertools
import os
import signal

import pytest

from megu.core import train


def often(few, many):
    """Parameters of a test that is slow with ``few`` and torture with ``many``."""
    return [pytest.param(few, marks=pytest.mark.slow), pytest.param(many, marks=pytest.mark.torture)]


def child(task):
    """Run a task in a process of its own: its process id; the task ends it by exit code 0."""
    if pid := os.fork():
        return pid
    try:
        task()
        os._exit(0)
    except BaseException:  # the parent must hear of it, and no test may run twice
        os._exit(1)


def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def stop_in(monkeypatch, *steps):
    """Ctrl-C comes in these steps of training, counted over all trainings from here on: a list of the steps made."""
    real, made, numbers = train._Training._step, [], itertools.count(1)

    def step(self, *given):
        real(self, *given)
        made.append((self.label, self.at.step))
        if next(numbers) in steps:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(train._Training, "_step", step)
    return made
