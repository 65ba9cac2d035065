r"""Ways to do the same, timed side by side."""

import time

import numpy as np


def in_turns(ways, turns):
    r"""Name of each way -> its seconds, ``(turns,)``, after one turn to warm up: a noisy machine disturbs all alike."""
    seconds = {name: [] for name in ways}
    for _ in range(turns + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(found[1:]) for name, found in seconds.items()}


def shown(found, digits=2):
    r"""Median (least-most)."""
    return f"{np.median(found):6.{digits}f} ({found.min():.{digits}f}-{found.max():.{digits}f})"
