r"""One thing at a time: MeGU's open points (A2, A6-A10, A12 and tau), each changed alone."""

import pandas as pd

from megu.measure.summary import against_default
from megu.runs.workers import each
from megu.settings.files import shipped, write_json

RIVALS = ("tiny", "features", "names", "posterior", "confusion", "own-features", "shuffled")  # of the composed guide
ABLATIONS = {  # point of the assumption log -> variant -> what it changes in MeGU
    "default": {"as tuned": {}},
    "A2": {"forgotten class may be chosen": {"labels.exclude_forgotten": False}},
    "A6": {
        "lambda 0.01": {"noise.lam": 0.01}, "lambda 1": {"noise.lam": 1.0}, "10 steps": {"noise.steps": 10}, "160 steps": {"noise.steps": 160},
    },
    "A7": {"one noise per image": {"noise.per": "image"}},
    "A8": {"image + noise optimised": {"noise.per": "image", "noise.around": "image"}},
    "A9": {
        "convex mix": {"noise.combine": "mix", "noise.weight_pos": 0.3, "noise.weight_neg": 0.3}, "separate items": {"noise.combine": "separate"},
    },
    "A10": {
        "weights 0.13, 0.5": {"noise.weight_pos": 0.13, "noise.weight_neg": 0.5}, "weights 1.2, 4.5": {"noise.weight_pos": 1.2, "noise.weight_neg": 4.5},
    },
    "noise": {kind: {"noise.kind": kind} for kind in ("none", "pos", "neg", "random")},
    "A12": {f"labels: {choice}": {"labels.choice": choice} for choice in ("random", "nearest", "farthest", "posterior")}
    | {f"guide: {source}": {"guide.source": source} for source in RIVALS},
    "tau": {f"tau {tau:g}": {"labels.tau": tau} for tau in (0.1, 0.5, 0.8)},
}  # fmt: skip


def ablate(lab, workers=1):
    r"""Measure every variant on the seeds of a run; each is kept when it is done.

    Args:
        lab: `megu.runs.experiment.Experiment`.
        workers: processes, see `megu.runs.workers.each`.
    Returns: rows as `megu.measure.metrics.rows` gives them, with columns point and variant in place of method, and
        retrain's among them.
    """
    for source in (None, *RIVALS):
        lab.transition(source)  # asked once, here, and not by every process
    cases = [
        (lab, point, variant, seed)
        for point, variants in ABLATIONS.items()
        for variant in variants
        for seed in lab.seeds
    ]
    each(lab.rows, [("retrain", seed) for seed in lab.seeds], workers, "references")
    each(measured, cases, workers, "ablation")
    out = [lab.rows("retrain", seed).assign(point="retrain", variant="retrain") for seed in lab.seeds] + [
        measured(*case) for case in cases
    ]
    return pd.concat(out, ignore_index=True).drop(columns=["method", "repeat", "goal", "images"])


def measured(lab, point, variant, seed):
    r"""Rows of one variant and seed, kept in the run directory."""
    changes = dict(ABLATIONS[point][variant])
    source = changes.pop("guide.source", None)
    name = f"ablation/{point} {variant.replace('/', 'by')}-{seed}.csv"
    return lab.run.table(
        name, lambda: lab.attempt_rows("megu", seed, changes, source).assign(point=point, variant=variant)
    )


def tracked(point):
    r"""What `make ablation` measured for one point of the assumption log, see `megu.measure.summary.against_default`;
    empty where its table is not here."""
    file = shipped("paper_figures") / "data" / "ablation.csv"
    found = (
        against_default(pd.read_csv(file))
        if file.exists()
        else pd.DataFrame(columns=["point", "variant", "metric", "change", "change_half_width"])
    )
    return found[found["point"] == point]


def write_source(path, lab, workers):
    r"""Write as JSON what a table of a run comes from: profile, what is forgotten, seeds, workers, device, torch."""
    manifest = lab.run.manifest
    write_json(path, {
        "profile": lab.settings.profile, "forget": manifest["settings"]["forget"], "seeds": list(lab.seeds), "workers": workers,
        "device": manifest["notes"]["device"], "torch": manifest["versions"]["torch"],
    })  # fmt: skip


def ablate_all(lab, out, workers=1):
    r"""`ablate`, written to ``ablation.csv`` and ``ablation_source.json`` in the folder ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    ablate(lab, workers).to_csv(out / "ablation.csv", index=False, float_format="%.6g")
    write_source(out / "ablation_source.json", lab, workers)
