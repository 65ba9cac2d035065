r"""The only reader of runs: copies a run's tidy tables to paper_figures/data, `python paper_figures/collect.py
RUN_DIR`.

The tables are tracked, so that every figure can be drawn without a run. ``source.json`` says which run they came from.
"""

import json
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from megu.cli.options import parse
from megu.core.train import predict
from megu.figures.overview import typical
from megu.methods import method_settings
from megu.methods.megu import choose_labels, make_noise
from megu.noise_pair import NoisePair, add_noise_pair
from megu.perturbing_labels import association
from megu.runs.experiment import Experiment
from megu.settings.errors import MeguError
from megu.settings.profiles import resolve

DATA = Path(__file__).parent / "data"
TABLES = (
    "results",
    "summary",
    "timings",
    "transition",
    "agreement",
    "concordance",
    "entanglement",
    "maps",
    "views",
    "view_agreement",
    "label_distribution",
    "noise",
    "noise_meaning",
    "predictions",
    "disentanglement",
    "maps_after",
)


def command(manifest):
    r"""The command that repeats a run: the make target for the defaults, else `python -m megu run` with every setting
    that differs from its profile's.

    Paths of the run's machine (its own data, weights, answers) are in no manifest, and so not in the command.
    """
    profile, seed, changed = changes(manifest)
    if not changed and profile == "quick" and not seed:
        return "make reproduce"
    chosen = [part for name, value in changed.items() for part in ("--set", f"{name}={_literal(value)}")]
    return shlex.join(
        ["python", "-m", "megu", "run", "--profile", profile, *(["--seed", str(seed)] if seed else []), *chosen]
    )


def changes(manifest):
    r"""(profile, seed, every setting that differs from the profile's by dotted name) of a run."""
    settings = manifest["settings"]
    profile, seed = settings["profile"], settings["seed"]
    changed = {
        name: value
        for name, value in _changed(_dumped(resolve(profile, seed)), settings).items()
        if name.split(".")[0] in ("data", "arch", "forget")
    }
    changed |= _changed(
        _dumped(resolve(profile, seed, changed)), settings
    )  # without what a recipe for these data and this network brings along
    usual = {
        name: method_settings(name, resolve(profile, seed, changed)).model_dump(mode="json")
        for name in manifest["parameters"]
    }
    return profile, seed, changed | _changed(usual, manifest["parameters"], "methods.")


def _dumped(settings):
    return settings.model_dump(mode="json", exclude={"methods"})


def _changed(usual, values, where=""):
    """What differs in two nested dictionaries, by dotted name."""
    out = {}
    for name, value in values.items():
        if isinstance(value, dict) and isinstance(usual.get(name), dict):
            out |= _changed(usual[name], value, f"{where}{name}.")
        elif name not in usual or value != usual[name]:
            out[f"{where}{name}"] = value
    return out


def _literal(value):
    """Text that ``--set`` reads as this value."""
    if isinstance(value, str) and parse([f"name={value}"]) == {"name": value}:
        return value
    text = repr(value)
    return text if '"' in text else text.replace("'", '"')  # a shell takes it between single quotes then


def overview(lab):
    r"""One forget image on its way through the method: {"overview": what is said of it, by class; "overview_image": its
    pixels, the weighted noises and their sum}.

    It is the most typical of those that the original names right and that have the commonest perturbing label.
    """
    seed, images, forget = lab.settings.seed, lab.images, lab.split.forget
    task, settings, y = lab.task("megu", seed), lab.parameters("megu"), images.y[forget]
    posterior, y_perturb = predict(task.original, images, forget).softmax(1), choose_labels(task, settings)
    usual = (posterior.argmax(1) == y) & (y_perturb == y_perturb.mode().values)
    at = torch.tensor([typical(images.batch(forget).cpu().numpy(), usual.cpu().numpy())], device=y.device)
    x, pair = images.batch(forget[at]), make_noise(task, settings, y_perturb)
    pair, (a, b) = NoisePair(pair.pos[at], pair.neg[at]), settings.noise.weights
    models = {"original": "original", "unlearned": "megu", "retrained": "retrain"}
    said = {key: predict(lab.unlearned(name, seed), images, forget[at]).softmax(1)[0] for key, name in models.items()}
    k, ranked = int(y[at]), association(task.transition, posterior[at], y[at])[0]
    columns = {"transition": task.transition[:, k], "association": ranked, **said}
    names = np.array(images.classes)
    role = np.select([names == names[k], names == names[int(y_perturb[at])]], ["own", "chosen"], "")
    table = pd.DataFrame({"class": names, "role": role, **{name: np.asarray(of) for name, of in columns.items()}})
    joined = images.restore(add_noise_pair(x, pair, settings.noise))
    pictures = {"image": images.restore(x), "positive": a * pair.pos, "negative": b * pair.neg, "sum": joined}
    channel, row, column = np.indices(images.shape).reshape(3, -1)
    pixels = {name: picture[0].flatten().cpu().numpy() for name, picture in pictures.items()}
    place = {"channel": channel, "y": row, "x": column}
    return {"overview": table.round(4), "overview_image": pd.DataFrame(place | pixels).round(3)}


def _opened(run_dir, manifest):
    """The run with its models, or None: of images that the package has, made by this code, with MeGU."""
    profile, seed, changed = changes(manifest)
    if manifest["settings"]["data"]["name"] != resolve().data.name or "megu" not in manifest["parameters"]:
        return None
    try:
        return Experiment(profile, seed, run_dir, changed)
    except MeguError as error:
        print(f"no overview picture: {error}", file=sys.stderr)


def collect(run_dir, out=DATA):
    r"""Copy the tables of a finished run.

    Args:
        run_dir: run directory whose stages are all sealed.
        out: folder of the tidy tables.
    Raises: SystemExit naming what is missing; nothing is copied then.
    """
    try:
        manifest = json.loads((run_dir / "manifest.json").read_text())
        sealed = manifest["stages"]
    except (OSError, ValueError, TypeError, KeyError):
        raise SystemExit(f"{run_dir.name!r} is no run directory: give one that `python -m megu run` made") from None
    missing = [name for name in TABLES if not (run_dir / f"{name}.csv").exists()]
    if "evaluate" not in sealed or missing:
        raise SystemExit(
            f"run {run_dir.name} is not finished (missing: {', '.join(missing) or 'stage evaluate'}): repeat the"
            " command that made it, it goes on"
        )
    out.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        shutil.copyfile(run_dir / f"{name}.csv", out / f"{name}.csv")
    for name in ("overview", "overview_image"):
        (out / f"{name}.csv").unlink(missing_ok=True)  # of another run
    if lab := _opened(run_dir, manifest):
        for name, table in overview(lab).items():
            table.to_csv(out / f"{name}.csv", index=False)
    settings = manifest["settings"]
    source = {
        "command": command(manifest),
        "profile": settings["profile"],
        "forget": settings["forget"],
        "seeds": manifest["seeds"],
        "digest": manifest["digest"],
        "megu": manifest["megu"],
        "device": manifest["notes"]["device"],
        "torch": manifest["versions"]["torch"],
        "split": manifest["notes"]["split"],
        "retain_images": settings["retain_images"],
        "threads": settings["threads"],
        "stage_seconds": {stage: facts["seconds"] for stage, facts in manifest["stages"].items()},
    }
    (out / "source.json").write_text(json.dumps(source, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit("usage: python paper_figures/collect.py RUN_DIR [OUT_DIR]")
    collect(*map(Path, sys.argv[1:]))
