r"""One thing at a time: MeGU's open points (A2, A6-A10, A12 and tau), each changed alone."""

import pandas as pd
from tqdm import tqdm

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
        "both weights / 3": {"noise.weight_pos": 0.13, "noise.weight_neg": 0.5}, "both weights x 3": {"noise.weight_pos": 1.2, "noise.weight_neg": 4.5},
    },
    "noise": {kind: {"noise.kind": kind} for kind in ("none", "pos", "neg", "random")},
    "A12": {f"labels: {choice}": {"labels.choice": choice} for choice in ("random", "nearest", "farthest", "posterior")},
    "tau": {f"tau {tau:g}": {"labels.tau": tau} for tau in (0.1, 0.5, 0.8)},
}  # fmt: skip


def ablate(lab):
    r"""Measure every variant on the seeds of a run; each is kept when it is done.

    Args:
        lab: `megu.experiment.Experiment`.
    Returns: rows as `megu.evaluate.rows` gives them, with columns point and variant in place of method, and retrain's among them.
    """
    out = [lab.rows("retrain", seed).assign(point="retrain", variant="retrain") for seed in lab.seeds]
    cases = [(point, variant, seed) for point, variants in ABLATIONS.items() for variant in variants for seed in lab.seeds]
    for point, variant, seed in tqdm(cases, desc="ablation", unit="model"):
        name = f"ablation/{point} {variant.replace('/', 'by')}-{seed}.csv"
        out.append(lab.run.table(name, lambda p=point, v=variant, s=seed: _measure(lab, p, v, s)))
    return pd.concat(out, ignore_index=True).drop(columns=["method", "repeat", "goal", "images"])


def _measure(lab, point, variant, seed):
    return lab.attempt_rows("megu", seed, ABLATIONS[point][variant]).assign(point=point, variant=variant)
