r"""Every method in every scenario, over seeds of pre-training and of unlearning: `make comparison`."""

import pandas as pd

from megu.measure.metrics import rows
from megu.measure.relearn import relearn_steps
from megu.measure.shadows import confidence
from megu.methods import ANY, METHODS
from megu.runs.ablation import write_source
from megu.runs.experiment import NOISES, Experiment
from megu.runs.workers import each, share
from megu.settings.files import write_json
from megu.settings.values import merge, nest


def open_scenario(scenario, profile="quick", seed=0, seeds=3, repeats=3, shadows=8, overrides=None):
    r"""The `megu.runs.experiment.Experiment` of one scenario with every method that supports it."""
    names = [
        name for name, entry in METHODS.items() if scenario in entry.scenarios and name not in ("original", "retrain")
    ]
    usual = {"forget.scenario": scenario, "compare": names, "seeds": seeds, "repeats": repeats, "shadows": shadows}
    return Experiment(profile, seed, None, merge(nest(usual), nest(overrides or {})))


def prepare(labs, workers=1):
    r"""Make what several cases need, before they do: the guide's answers, originals, shadow models, retrained
    models."""
    for lab in labs:
        lab.transition()
    common = {lab.shared.path: lab for lab in labs}.values()  # scenarios with the same labels share their originals
    each(Experiment.original, [(lab, seed) for lab in common for seed in lab.seeds], workers, "originals")
    each(
        confidence,
        [(lab, k, lab.settings.shadows) for lab in common for k in range(lab.settings.shadows)],
        workers,
        "shadow models",
    )
    each(Experiment.seen, [(lab, "retrain", seed) for lab in labs for seed in lab.seeds], workers, "retrained models")


def compare(lab, workers=1):
    r"""Measure every case of one scenario; each is kept when it is done, so an interrupted comparison goes on where it
    stopped.

    Args:
        lab: `megu.runs.experiment.Experiment`.  workers: processes, see `megu.runs.workers.each`.
    Returns: (rows of every metric as `megu.measure.metrics.rows` gives them, relearn steps of the first repeats among
        them; `Experiment.timings`), both with a column scenario.
    """
    cases = [(lab, *case) for case in lab.cases()]
    each(_measured, cases, workers, lab.settings.forget.scenario)
    parts = [table for case in cases for table in _measured(*case)]
    return tuple(
        table.assign(scenario=lab.settings.forget.scenario)
        for table in (pd.concat(parts, ignore_index=True), lab.timings())
    )


def _measured(lab, name, seed, repeat):
    relearned = [] if repeat else [lab.run.table(f"relearn/{name}-{seed}.csv", lambda: _relearn(lab, name, seed))]
    return [lab.rows(name, seed, repeat), *relearned]


def _relearn(lab, name, seed):
    return rows(name, seed, {"relearn_steps": relearn_steps(lab.task("retrain", seed), lab.unlearned(name, seed))})


def compare_all(out, profile="quick", scenarios=ANY, say=print, workers=None, **settings):
    r"""Compare in every scenario and write ``comparison.csv``, ``comparison_seconds.csv`` and
    ``comparison_source.json``.

    Args:
        out: folder, made if it is not there; what a scenario found is written when it is done.
        profile, scenarios, settings: see `open_scenario`.
        say: function of one line of text.
        workers: processes, None for one per core; see `megu.runs.workers.share`.
    """
    workers, usual = share(workers)
    settings["overrides"] = merge(usual, nest(settings.get("overrides") or {}))
    labs = [
        open_scenario(scenario, profile, **settings) for scenario in scenarios
    ]  # refuses bad settings before any work
    out.mkdir(parents=True, exist_ok=True)
    prepare(labs, workers)
    tables = []
    for lab in labs:
        tables.append(compare(lab, workers))
        for name, table in zip(
            ("comparison", "comparison_seconds"), map(pd.concat, zip(*tables, strict=True)), strict=True
        ):
            about = ("goal", "images")  # of a metric, in `megu.measure.metrics.METRICS`
            table.drop(columns=[c for c in about if c in table]).to_csv(
                out / f"{name}.csv", index=False, float_format="%.6g"
            )
        s = lab.settings
        write_json(out / "comparison_source.json", {
            "profile": profile, "scenarios": [done["scenario"].iloc[0] for done, _ in tables], "seeds": list(lab.seeds), "repeats": s.repeats,
            "shadows": s.shadows, "retain_images": s.retain_images, "device": lab.run.manifest["notes"]["device"], "workers": workers,
            "torch": lab.run.manifest["versions"]["torch"],
        })  # fmt: skip
        say(f"{s.forget.scenario}: {len(lab.cases())} models measured")


def disentangle_all(out, profile="quick", workers=None, seeds=3, overrides=None):
    r"""`Experiment.disentangled` of every method, class-wise, and of MeGU's noises, written to
    ``disentanglement_all.csv`` and its source.

    Args: as of `compare_all`, whose models are taken where they are there.
    """
    workers, usual = share(workers)
    lab = open_scenario("class", profile, seeds=seeds, overrides=merge(usual, nest(overrides or {})))
    lab.transition()
    each(Experiment.original, [(lab, seed) for seed in lab.seeds], workers, "originals")
    names = [name for name in lab.method_names if name in ("original", "retrain") or not METHODS[name].reference]
    each(Experiment.seen, [(lab, "original", seed) for seed in lab.seeds], workers, "references")
    each(Experiment.disentangled, [(lab, name, seed) for name in names for seed in lab.seeds], workers, "methods")
    each(
        Experiment.disentangled, [(lab, "megu", seed, kind) for kind in NOISES for seed in lab.seeds], workers, "noises"
    )
    out.mkdir(parents=True, exist_ok=True)
    lab.disentanglement(names).to_csv(out / "disentanglement_all.csv", index=False, float_format="%.6g")
    write_source(out / "disentanglement_all_source.json", lab, workers)
