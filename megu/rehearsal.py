r"""A rehearsal: every stage of a run is tried once and measured, before a GPU is paid for."""

import pandas as pd

from megu.acts import Acts
from megu.device import Stopwatch
from megu.flops import counted
from megu.memory import watched


def rehearse(settings, batch=None, say=lambda text: None):
    r"""Try every stage; one that fails is reported and the others still run.

    Args:
        settings, batch: see `megu.acts.Acts`.  say: function of one line of text.
    Returns: DataFrame, one row per stage: stage, shape, dtype, seconds, peak_mb (beyond what was held before), full_mb (for the full batch: what grows
        with the images, scaled), gflop (counted), whole_pflop and whole_hours (the run's share, at the speed measured here), note, failed (one line, or empty).
    """
    play, rows = Acts(settings, batch), []
    for name, act in play.all():
        rows.append(attempt(name, act, play))
        say(line(rows[-1]))
    return pd.DataFrame(rows)


def attempt(name, act, play):
    r"""One stage as a row of `rehearse`."""
    clock, done, why = Stopwatch(), None, ""
    with watched() as peak, counted() as count:
        try:
            with clock(name):
                done = act()
        except Exception as error:  # the reason is what a rehearsal is for
            why = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"
    row = {"stage": name, "shape": "", "dtype": "", "seconds": clock.total, "peak_mb": peak.mb, "full_mb": peak.mb, "gflop": count.get_total_flops() / 1e9}
    row |= {"whole_pflop": float("nan"), "whole_hours": float("nan"), "note": "", "failed": why}
    if done is None:
        return row
    row |= {"shape": " x ".join(f"{n:,}" for n in done.shape), "dtype": str(done.dtype).removeprefix("torch."), "note": done.note}
    if (here := done.work.flops(1)) and (whole := done.whole.flops(1)):
        row |= {"whole_pflop": whole * play.forward / 1e15, "whole_hours": clock.total * whole / here / 3600}
    return row | {"full_mb": min(peak.mb, done.held) + max(0.0, peak.mb - done.held) * done.share}


def line(row):
    r"""A row of `rehearse` as one line of text."""
    head = f"{row['stage']:24s}"
    if row["failed"]:
        return f"{head} FAILED: {row['failed']}"
    text = f"{head} {row['shape']:22s} {row['dtype']:9s} {row['seconds']:7.2f} s {row['peak_mb']:7,.0f} MB"
    if row["gflop"]:
        text += f" {row['gflop']:9,.1f} GFLOP"
    if row["whole_hours"] == row["whole_hours"]:
        text += f" | whole run {row['whole_pflop']:10,.3f} PFLOP, {row['whole_hours']:9,.2f} h here, {row['full_mb'] / 1e3:5,.1f} GB at the full batch"
    return text + (f" | {row['note']}" if row["note"] else "")
