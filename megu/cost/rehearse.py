r"""A rehearsal: every stage of a run once, before a GPU is paid for."""

from math import isnan, nan

import pandas as pd

from megu.core.device import Stopwatch
from megu.cost.flops import counted, forward_flops
from megu.cost.memory import peak_memory
from megu.cost.stages import Rehearsal, Result


def rehearse(settings, batch=None, say=lambda text: None):
    r"""Try every stage of `megu.cost.stages.Rehearsal`, also after one that fails.

    Returns: DataFrame of stage; times that a seed of the run has it; shape, dtype, note of what it made; seconds
        (counting, too); process_mb, tensor_mb: `megu.cost.memory.peak_memory`; gflop, counted; pflop, of one whole
        time; full_mb, of tensors with the run's batch, if larger on the line through this one and its half; failed.
    """
    rehearsal, rows = Rehearsal(settings, batch), []
    if rehearsal.batch < settings.training.batch:
        say(f"batches of {rehearsal.batch} instead of {settings.training.batch} images")
    for stage in rehearsal.stages():
        rows.append(_row(rehearsal, stage))
        say(_line(rows[-1]))
    table = pd.DataFrame(rows)
    say(verdict(table, settings.shadows))
    return table


def _row(rehearsal, stage):
    clock, result, why, full, pflop = Stopwatch(), Result((), ""), "", nan, nan
    where, count, images = rehearsal.compute.device, stage.images, (stage.images,) if stage.images else ()
    with peak_memory(where) as peak, counted() as operations:
        try:
            with clock(stage.name):
                result = stage.work(*images)
        except Exception as error:  # what a rehearsal is for
            why = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"
    if images and not why:
        whole, full = stage.whole(), peak.tensors
        if whole.most > count:
            with peak_memory(where) as half:
                stage.work(count // 2)
            full += (peak.tensors - half.tensors) / (count - count // 2) * (whole.most - count)
        data = rehearsal.images
        pflop = whole.flops(forward_flops(rehearsal.settings.arch, data.num_classes, data.shape)) / 1e15 or nan
    return {
        "stage": stage.name, "times": stage.times, "seconds": clock.total,
        "shape": " x ".join(f"{n:,}" for n in result.shape), "dtype": str(result.dtype).removeprefix("torch."),
        "process_mb": peak.process, "tensor_mb": peak.tensors, "gflop": operations.get_total_flops() / 1e9,
        "pflop": pflop, "full_mb": full, "note": result.note, "failed": why,
    }  # fmt: skip


def _line(row):
    head = f"{row['stage']:24s}"
    if row["failed"]:
        return f"{head} FAILED: {row['failed']}"
    often = {0: ", not in this run", 1: ""}.get(row["times"], f" x {row['times']}")
    parts = (
        f"{head} {row['shape']:22s} {row['dtype']:9s} {row['seconds']:7.2f} s {row['tensor_mb']:7,.0f} MB",
        f" (process {row['process_mb']:6,.0f})",
        f" {row['gflop']:9,.1f} GFLOP" if row["gflop"] else "",
        "" if isnan(row["pflop"]) else f" | as a whole {row['pflop']:,.4g} PFLOP{often}",
        "" if isnan(row["full_mb"]) else f" | full batch {row['full_mb'] / 1e3:,.1f} GB",
        f" | {row['note']}" if row["note"] else "",
    )
    return "".join(parts)


def verdict(table, shadows=0):
    r"""What one seed of the run needs, of which stages, and whether it would run."""
    failed, mine = table[table["failed"] != ""], table[table["times"] > 0]
    known = mine[mine["pflop"].notna()]
    pairs = known[["stage", "times"]].itertuples(index=False)
    names = ", ".join(stage.rpartition(" ")[0] + (f" x {times}" if times > 1 else "") for stage, times in pairs)
    names += f"; not counted: {shadows} shadow models" if shadows else ""
    total, most = (known["pflop"] * known["times"]).sum(), mine["full_mb"].max() / 1e3
    needs = f"one seed of this run: {total:,.4g} PFLOP ({names}), at most {most:,.1f} GB of tensors at a time"
    if len(failed):
        why = "; ".join(f"{row.stage}: {row.failed}" for row in failed.itertuples())
        return f"{needs} (without what failed)\nwould not run: {why}"
    return f"{needs}\nwould run: {len(table)} of {len(table)} stages"
