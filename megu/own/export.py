r"""A model that a run kept, as a checkpoint for others."""

import json
from pathlib import Path

import pandas as pd

import megu
from megu.core.loading import weights_digest
from megu.own.checkpoint import STEMS, Checkpoint, check_about, read_net
from megu.settings.errors import SettingsError
from megu.settings.files import hash_file
from megu.settings.values import closest


def export(run_dir, method, seed):
    r"""The `Checkpoint` of a model that a run kept.

    Args:
        run_dir: of `megu.runs.experiment.Experiment`; its data are not needed.
        method: in `megu.methods.METHODS`, ``original`` and ``retrain`` among them.  seed: of pre-training.
    Raises: SettingsError where the directory is none of a run or does not hold the model, or a file is not the one that
        was written.
    """
    folder = Path(run_dir)
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        known, settings, notes = manifest["artefacts"], manifest["settings"], manifest["notes"]
        images = dict(notes["images"])
    except (OSError, ValueError, KeyError, TypeError):
        raise SettingsError(
            f"{folder.name!r} is no run directory of this version: give one that `megu run` made"
        ) from None
    name = f"models/{method}-{seed}.safetensors"
    if name not in known:
        models_there = [Path(one).stem for one in known if one.startswith("models/")]
        if not models_there:
            raise SettingsError(f"{folder.name!r} holds no models yet: run first")
        raise SettingsError(closest(f"{method}-{seed}", models_there, f"in {folder.name!r} the model"))
    if not (folder / name).is_file() or hash_file(folder / name) != known[name]["sha256"]:
        raise SettingsError(
            f"{name} in {folder.name!r} is not the file that was written there: remove it and run again"
        )
    about = {
        "arch": settings["arch"],
        "stem": STEMS[settings["arch"]],
        "method": method,
        "seed": seed,
        "split": notes["split"],
        "data": images.pop("name"),
        "forget": None if method == "original" else settings["forget"],
        **{key: images.pop(key) for key in ("classes", "shape", "mean", "std")},
        "images": images,
        "code": manifest["code"],
        "megu": megu.__version__,
        "measured": measured(folder, known, method, seed),
        "weights": "",
    }
    about = check_about(about, f"manifest.json in {folder.name!r}")
    net = read_net(about, folder / name)
    return Checkpoint(net, about.model_copy(update={"weights": weights_digest(net)}))


def measured(folder, known, method, seed):
    r"""Metric -> (value, that of the retrained model of the same seed, unit, mode), as far as a run has measured
    them."""
    names = {one: f"rows/{one}-{seed}-0.csv" for one in (method, "retrain")}
    rows = {one: pd.read_csv(folder / name).set_index("metric") for one, name in names.items() if name in known}
    if method not in rows:
        return {}
    other = rows["retrain"]["value"] if "retrain" in rows else {}

    def number(value):
        return None if pd.isna(value) else float(value)

    return {
        metric: (number(row["value"]), number(other.get(metric)), row["unit"], row["mode"])
        for metric, row in rows[method].iterrows()
    }
