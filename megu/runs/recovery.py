r"""The study of known parts: the measures of `megu.measure.recovery` over several seeds."""

import pandas as pd
import torch

from megu.core.models import blocks
from megu.measure.recovery import forgetting, recovery, units, world
from megu.runs.store import CODE, Run
from megu.settings.files import project_root, write_json


def measure(out, seeds=(0, 1, 2)):
    r"""Recovery, units and forgetting of several seeds, written to ``truth_*.csv`` and ``truth_source.json`` in the folder ``out``.

    What is measured is kept in a run directory: repeat it after an interrupt, and it goes on.
    """
    run, tables = (
        Run(project_root() / "runs" / f"truth-{CODE[:6]}", {"code": CODE}),
        {"recovery": [], "units": [], "forgetting": []},
    )
    for seed in seeds:

        def layers(seed=seed):
            here = world(seed)
            return recovery(
                here.original,
                here.data,
                here.test,
                (*blocks(here.original, here.data.images.batch(here.test[:2])), None),
            )

        make = {
            "recovery": layers,
            "units": lambda seed=seed: units(world(seed).original, world(seed).data, world(seed).test),
            "forgetting": lambda seed=seed: forgetting(world(seed), seed),
        }
        for name, rows in tables.items():
            rows.append(run.table(f"{name}-{seed}.csv", make[name]).assign(seed=seed))
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        pd.concat(rows).to_csv(out / f"truth_{name}.csv", index=False, float_format="%.6g")
    about = {
        "command": "python -m megu truth --out paper_figures/data",
        "seeds": list(seeds),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    write_json(out / "truth_source.json", about)
