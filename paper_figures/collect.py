r"""The only reader of runs: copies a run's tidy tables to paper_figures/data, `python paper_figures/collect.py RUN_DIR`.

The tables are tracked, so that every figure can be drawn without a run. ``source.json`` says which run they came from.
"""

import json
import shutil
import sys
from pathlib import Path

from megu.methods import method_settings
from megu.profiles import resolve
from megu.store import differences

DATA = Path(__file__).parent / "data"
TABLES = (
    "results", "summary", "timings", "transition", "agreement", "concordance", "entanglement", "maps", "views", "view_agreement", "label_distribution",
    "noise", "noise_meaning", "predictions", "disentanglement", "maps_after",
)  # fmt: skip


def command(manifest):
    r"""What repeats a run: the make target for the defaults, else the settings that differ from its profile's."""
    settings, profile = manifest["settings"], resolve(manifest["settings"]["profile"])
    usual = {name: method_settings(name, profile).model_dump(mode="json") for name in profile.compare if name in manifest["parameters"]}
    changed = differences(json.loads(profile.model_dump_json(exclude={"methods"})), settings) + differences(usual, manifest["parameters"], "methods.")
    if not changed and settings["profile"] == "quick":
        return "make reproduce"
    return f"python -m megu run --profile {settings['profile']}" + (f" ({'; '.join(changed)})" if changed else "")


def collect(run_dir, out=DATA):
    r"""Copy the tables of a finished run.

    Args:
        run_dir: run directory whose stages are all sealed.
        out: folder of the tidy tables.
    Raises: SystemExit naming what is missing; nothing is copied then.
    """
    manifest = json.loads((run_dir / "manifest.json").read_text())
    missing = [name for name in TABLES if not (run_dir / f"{name}.csv").exists()]
    if "evaluate" not in manifest["stages"] or missing:
        raise SystemExit(f"run {run_dir.name} is not finished (missing: {', '.join(missing) or 'stage evaluate'}): run `make reproduce` again")
    out.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        shutil.copyfile(run_dir / f"{name}.csv", out / f"{name}.csv")
    settings = manifest["settings"]
    source = {
        "command": command(manifest), "profile": settings["profile"], "forget": settings["forget"], "seeds": manifest["seeds"],
        "digest": manifest["digest"], "megu": manifest["megu"], "device": manifest["notes"]["device"],
        "torch": manifest["versions"]["torch"], "split": manifest["notes"]["split"], "retain_images": settings["retain_images"],
        "stage_seconds": {stage: facts["seconds"] for stage, facts in manifest["stages"].items()},
    }  # fmt: skip
    (out / "source.json").write_text(json.dumps(source, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit("usage: python paper_figures/collect.py RUN_DIR [OUT_DIR]")
    collect(*map(Path, sys.argv[1:]))
