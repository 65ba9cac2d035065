r"""A rehearsal: every stage of a run is tried once and measured, before a GPU is paid for."""

from math import nan

import pandas as pd

from megu.core.device import Stopwatch
from megu.cost.flops import counted, forward_flops
from megu.cost.memory import watched
from megu.cost.stages import Acts


def rehearse(settings, batch=None, say=lambda text: None):
    r"""Try every stage; one that fails is reported and the others still run.

    Args:
        settings, batch: see `megu.cost.stages.Acts`.  say: function of one line of text.
    Returns: DataFrame, one row per stage: stage, shape, dtype; seconds (everything is counted meanwhile, which small
        networks feel); process_mb and tensor_mb, the most beyond what was held before, see `megu.cost.memory.watched`;
        gflop, counted, and predicted_gflop, by `megu.cost.work`; pflop, of
        one whole time; times, how often a seed of this run has it; full_mb, tensors with the full batch; note; failed,
        one line, or empty.
    """
    acts, rows = Acts(settings, batch), []
    if acts.batch < acts.full:
        say(f"batches of {acts.batch} instead of {acts.full} images")
    for name, act in acts.all():
        rows.append(tried(name, act, acts))
        say(line(rows[-1]))
    table = pd.DataFrame(rows)
    say(verdict(table, settings.shadows))
    return table


def tried(name, act, acts):
    r"""One stage as a row of `rehearse`."""
    clock, done, why = Stopwatch(), None, ""
    with watched(acts.compute.device) as peak, counted() as count:
        try:
            with clock(name):
                done = act()
        except Exception as error:  # the reason is what a rehearsal is for
            why = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"
    row = {
        "stage": name,
        "times": acts.times.get(name.removesuffix(" step"), 1),
        "shape": "",
        "dtype": "",
        "seconds": clock.total,
        "process_mb": peak.process,
        "tensor_mb": peak.tensors,
    }
    row |= {
        "gflop": count.get_total_flops() / 1e9,
        "predicted_gflop": nan,
        "pflop": nan,
        "full_mb": nan,
        "note": "",
        "failed": why,
    }
    if done is None:
        return row
    row |= {"shape": " x ".join(f"{n:,}" for n in done.shape), "dtype": str(done.dtype).removeprefix("torch.")}
    if done.work.flops(1):
        forward = forward_flops(acts.settings.arch, acts.images.num_classes, acts.images.shape)
        row |= {"predicted_gflop": done.work.flops(forward) / 1e9, "pflop": done.whole.flops(forward) / 1e15 or nan}
    return row | {"full_mb": done.full_mb, "note": done.note}


def line(row):
    r"""A row of `rehearse` as one line of text."""
    head = f"{row['stage']:24s}"
    if row["failed"]:
        return f"{head} FAILED: {row['failed']}"
    text = (
        f"{head} {row['shape']:22s} {row['dtype']:9s} {row['seconds']:7.2f} s {row['tensor_mb']:7,.0f} MB (process"
        f" {row['process_mb']:6,.0f})"
    )
    text += f" {row['gflop']:9,.1f} GFLOP" if row["gflop"] else ""
    often = f" x {row['times']}" if row["times"] else ", not in this run"
    text += (
        f" | as a whole {row['pflop']:,.4g} PFLOP{often if row['times'] != 1 else ''}"
        if row["pflop"] == row["pflop"]
        else ""
    )
    text += f" | full batch {row['full_mb'] / 1e3:,.1f} GB" if row["full_mb"] == row["full_mb"] else ""
    return text + (f" | {row['note']}" if row["note"] else "")


def verdict(table, shadows=0):
    r"""The last lines of a rehearsal: what one seed of the run needs, of which stages, and whether it would run."""
    failed, mine = table[table["failed"] != ""], table[table["times"] > 0]
    known, steps = mine[mine["pflop"].notna()], mine[mine["stage"].str.endswith(" step") & (mine["failed"] == "")]
    names = ", ".join(_name(row.stage) + (f" x {row.times}" if row.times > 1 else "") for row in known.itertuples())
    unknown = [
        *map(_name, steps["stage"][steps["predicted_gflop"].isna()]),
        *([f"{shadows} shadow models"] if shadows else []),
    ]
    names += f"; not predicted: {', '.join(unknown)}" if unknown else ""
    total = (known["pflop"] * known["times"]).sum()
    needs = (
        f"one seed of this run: {total:,.4g} PFLOP ({names}), at most {mine['full_mb'].max() / 1e3:,.1f} GB of tensors"
        " at a time"
    )
    if len(failed):
        return (
            f"{needs} (without what failed)\nwould not run:"
            f" {'; '.join(f'{row.stage}: {row.failed}' for row in failed.itertuples())}"
        )
    return f"{needs}\nwould run: {len(table)} of {len(table)} stages"


def _name(stage):
    return stage.removesuffix(" step").removesuffix(" batch")
