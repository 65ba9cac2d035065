"""A model that a run kept, as a checkpoint for others."""

import json
from pathlib import Path

import pandas as pd

import megu
from megu.core.loading import weights_digest
from megu.core.networks import STEMS
from megu.own.checkpoint import Checkpoint, check_about, read_net
from megu.settings.errors import SettingsError
from megu.settings.files import hash_file
from megu.settings.values import closest


def export(run_dir, method, seed) -> Checkpoint:
    """A model of a run, whose data are not needed.

    Args:
        run_dir: of `megu.runs.experiment.Experiment`.  seed: of pre-training.
        method: in `megu.methods.METHODS`, ``original`` and ``retrain`` among them.
    Raises: SettingsError where there is no such run or model, or a file has changed.
    """
    folder = Path(run_dir)
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        known, settings, notes = (manifest[part] for part in ("artefacts", "settings", "notes"))
        images = dict(notes["images"])
    except (OSError, ValueError, KeyError, TypeError):
        raise SettingsError(f"{folder.name!r} is no run directory of this version: give one of `megu run`") from None
    name, there = f"{method}-{seed}", [Path(file).stem for file in known if file.startswith("models/")]
    if not there:
        raise SettingsError(f"{folder.name!r} holds no models yet: run first")
    if name not in there:
        raise SettingsError(closest(name, there, f"in {folder.name!r} the model"))
    about = {
        "arch": settings["arch"], "stem": STEMS[settings["arch"]], "method": method, "seed": seed,
        "split": notes["split"], "data": images.pop("name"),
        "forget": None if method == "original" else settings["forget"],
        **{key: images.pop(key) for key in ("classes", "shape", "mean", "std")}, "images": images,
        "code": manifest["code"], "megu": megu.__version__,
        "measured": _measured(folder, known, method, seed), "weights": "",
    }  # fmt: skip
    about = check_about(about, f"manifest.json in {folder.name!r}")
    net = read_net(about, _written(folder, known, f"models/{name}.safetensors"))
    return Checkpoint(net, about.model_copy(update={"weights": weights_digest(net)}))


def _measured(folder, known, method, seed):
    rows = {}
    for of in (method, "retrain"):
        if (name := f"rows/{of}-{seed}-0.csv") in known:
            rows[of] = pd.read_csv(_written(folder, known, name)).set_index("metric")
    if method not in rows:
        return {}
    table = rows[method].assign(goal=rows["retrain"]["value"] if "retrain" in rows else None)
    table = table[["value", "goal", "unit", "mode"]].astype(object)
    return dict(zip(table.index, table.where(table.notna(), None).itertuples(index=False, name=None), strict=True))


def _written(folder, known, name):
    if not (folder / name).is_file() or hash_file(folder / name) != known[name]["sha256"]:
        raise SettingsError(f"{name} in {folder.name!r} is not the file that was written there: remove it, run again")
    return folder / name
