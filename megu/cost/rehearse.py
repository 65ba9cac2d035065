r"""A rehearsal: every stage of a run is tried once and measured, before a GPU is paid for."""

from math import nan

import pandas as pd

from megu.core.device import Stopwatch
from megu.cost.flops import counted, forward_flops
from megu.cost.memory import peak_memory
from megu.cost.stages import Rehearsal


def rehearse(settings, batch=None, say=lambda text: None):
    r"""Try every stage; one that fails is reported and the others still run.

    Args:
        settings, batch: see `megu.cost.stages.Rehearsal`.  say: function of one line of text.
    Returns: DataFrame, one row per stage: stage, shape, dtype; seconds (everything is counted meanwhile, which small
        networks feel); process_mb and tensor_mb, the most beyond what was held before, see
        `megu.cost.memory.peak_memory`; gflop, counted; pflop, of one whole time, see `megu.cost.count.passes_of`;
        times, how often a seed of this run has it; full_mb, tensors with the run's batch (where that is larger: on
        the line through this batch and half of it); note; failed, one line, or empty.
    """
    rehearsal, rows = Rehearsal(settings, batch), []
    if rehearsal.batch < settings.training.batch:
        say(f"batches of {rehearsal.batch} instead of {settings.training.batch} images")
    for stage in rehearsal.stages():
        rows.append(_row(rehearsal, *stage))
        say(line(rows[-1]))
    table = pd.DataFrame(rows)
    say(verdict(table, settings.shadows))
    return table


def _row(rehearsal, name, stage, count):
    clock, result, why, full = Stopwatch(), None, "", nan
    compute, settings = rehearsal.compute, rehearsal.settings
    with peak_memory(compute.device) as peak, counted() as operations:
        try:
            with clock(name):
                result = stage(count) if count else stage()
        except Exception as error:  # the reason is what a rehearsal is for
            why = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"
    pflop = nan
    if result and count:
        whole, full = rehearsal.whole(name), peak.tensors
        if (most := result.full or whole.most) > count:
            with peak_memory(compute.device) as half:
                stage(count // 2)
            full += (peak.tensors - half.tensors) / (count - count // 2) * (most - count)
        forward = forward_flops(settings.arch, rehearsal.images.num_classes, rehearsal.images.shape)
        pflop = whole.flops(forward) / 1e15 or nan
    return {
        "stage": name, "times": rehearsal.times.get(name.removesuffix(" step"), 1), "seconds": clock.total,
        "shape": " x ".join(f"{n:,}" for n in result.shape) if result else "",
        "dtype": str(result.dtype).removeprefix("torch.") if result else "",
        "process_mb": peak.process, "tensor_mb": peak.tensors, "gflop": operations.get_total_flops() / 1e9,
        "pflop": pflop, "full_mb": full, "note": result.note if result else "", "failed": why,
    }  # fmt: skip


def line(row):
    r"""A row of `rehearse` as one line of text."""
    head = f"{row['stage']:24s}"
    if row["failed"]:
        return f"{head} FAILED: {row['failed']}"
    often = f" x {row['times']}" if row["times"] else ", not in this run"
    parts = (
        f"{head} {row['shape']:22s} {row['dtype']:9s} {row['seconds']:7.2f} s {row['tensor_mb']:7,.0f} MB",
        f" (process {row['process_mb']:6,.0f})",
        f" {row['gflop']:9,.1f} GFLOP" if row["gflop"] else "",
        f" | as a whole {row['pflop']:,.4g} PFLOP{often * (row['times'] != 1)}" if row["pflop"] == row["pflop"] else "",
        f" | full batch {row['full_mb'] / 1e3:,.1f} GB" if row["full_mb"] == row["full_mb"] else "",
        f" | {row['note']}" if row["note"] else "",
    )
    return "".join(parts)


def verdict(table, shadows=0):
    r"""The last lines of a rehearsal: what one seed of the run needs, of which stages, and whether it would run."""
    failed, mine = table[table["failed"] != ""], table[table["times"] > 0]
    known = mine[mine["pflop"].notna()]
    names = ", ".join(
        row.stage.removesuffix(" step").removesuffix(" batch") + (f" x {row.times}" if row.times > 1 else "")
        for row in known.itertuples()
    )
    names += f"; not counted: {shadows} shadow models" if shadows else ""
    total, most = (known["pflop"] * known["times"]).sum(), mine["full_mb"].max() / 1e3
    needs = f"one seed of this run: {total:,.4g} PFLOP ({names}), at most {most:,.1f} GB of tensors at a time"
    if len(failed):
        why = "; ".join(f"{row.stage}: {row.failed}" for row in failed.itertuples())
        return f"{needs} (without what failed)\nwould not run: {why}"
    return f"{needs}\nwould run: {len(table)} of {len(table)} stages"
