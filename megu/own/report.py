r"""The deletion report of one unlearned model: a JSON file with a schema, and one HTML file that needs no other."""

import json
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import jinja2

import megu
from megu import methods
from megu.core.loading import weights_digest
from megu.figures import deletion
from megu.own import findings
from megu.own.verdict import verdict
from megu.runs.store import PACKAGES
from megu.settings.errors import SettingsError
from megu.settings.extras import versions
from megu.settings.files import atomic, hash_bytes, write_json

NAME = "megu deletion report 1"
_ASSETS = files("megu.own") / "assets"
_AGAIN = "give the folder of `megu unlearn`, or its report.json"


def compose(checked, done, models, transition, disentanglement):
    r"""The report as a JSON-like dictionary that ``megu/own/assets/report.schema.json`` describes.

    Args:
        checked: `megu.own.request.CheckedRequest`.
        done: what was done, see `provenance`.
        models: `megu.own.findings.Models`.
        transition: ``(K, K)`` array or None.
        disentanglement: list of rows or None.
    """
    images, forget, trained_on = checked.images, checked.forget, checked.request.trained_on
    sample = (images.num_train, trained_on) if trained_on is not None and trained_on > images.num_train else None
    measured, attacked = findings.accuracies(models, images), findings.attack_curves(models, images)
    facts = {
        "report": NAME,
        "megu": megu.__version__,
        "asked": {
            "scenario": forget.scenario,
            "names": list(forget.names),
            "images": len(forget.split.forget),
            "index_sha256": forget.digest,
            "pixels_sha256": hash_bytes(images.x[forget.split.forget].cpu().numpy().tobytes()),
            "data": {
                "name": images.name,
                "digest": images.digest(),
                "classes": list(images.classes),
                "shape": list(images.shape),
                "training_images": images.num_train,
                "test_images": len(images.y) - images.num_train,
                "trained_on": trained_on,
                "retain_is_sample": sample is not None,
            },
        },
        "done": done,
        "accuracy": measured,
        "attacks": attacked,
        "metrics": findings.metrics(models, images),
        "predictions": findings.predictions(models, images, checked.ids),
        "nearest": findings.nearest(models, images, transition),
        "verdict": verdict(forget, models, images, sample, measured, attacked),
        "disentanglement": disentanglement,
    }
    return json.loads(json.dumps(facts, allow_nan=False))


def provenance(checked, before, new, guide, training):
    r"""What the report says of how the new model was made; ``training``: facts of `megu.own.unlearn.unlearned`."""
    return {
        "method": checked.request.method,
        "title": methods.method(checked.request.method).title,
        "settings": checked.parameters.model_dump(mode="json"),
        "seed": checked.settings.seed,
        "guide": guide,
        "device": str(checked.compute.device.type),
        "precision": "bfloat16 autocast" if checked.compute.autocast else "float32",
        "versions": versions(PACKAGES),
        "history": training["history"],
        "notices": list(dict.fromkeys(checked.notices)),
        "seconds": {part: round(value, 3) for part, value in checked.clock.seconds.items()} | training["seconds"],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {
            "class": type(checked.given).__name__,
            "parameters": sum(w.numel() for w in checked.given.parameters()),
            "sha256_before": before,
            "sha256_after": weights_digest(new),
            "reference": checked.reference is not None,
        },
    }


def write(facts, folder):
    r"""Write report.json and report.html into a folder, each whole or not at all; returns the folder."""
    folder = Path(folder)
    write_json(folder / "report.json", facts, locked=True)
    write_html(facts, folder)
    return folder


def write_html(facts, folder):
    r"""Write report.html into a folder; returns its path."""
    page, path = html(facts), Path(folder) / "report.html"
    with atomic(path, locked=True) as part:
        part.write_text(page, encoding="utf-8")
    return path


def read(path):
    r"""The report of a folder, or of its report.json.  Raises: SettingsError where there is none, or it is none."""
    path = Path(path)
    path = path / "report.json" if path.is_dir() else path
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path.name} cannot be read ({type(error).__name__}): {_AGAIN}") from None
    if not isinstance(facts, dict) or facts.get("report") != NAME:
        raise SettingsError(f"{path.name} is no {NAME!r}: {_AGAIN}")
    return facts


def schema():
    r"""The JSON schema of a report."""
    return json.loads((_ASSETS / "report.schema.json").read_text())


def html(facts):
    r"""One HTML page without outside references: light or dark as the reader's screen, and for paper."""
    place = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    place.filters |= {"num": _num, "count": "{:,}".format}
    page = place.from_string((_ASSETS / "report.html.j2").read_text(encoding="utf-8"))
    try:
        return page.render(
            r=facts,
            titles=deletion.MODELS,
            named=[name for name in deletion.MODELS if any(row["model"] == name for row in facts["accuracy"])],
            parts=deletion.PARTS,
            attacks=deletion.ATTACKS,
            curves=deletion.curves(facts["attacks"]),
            bars=deletion.bars(facts["accuracy"]),
            shares=deletion.shares(facts["predictions"]["shares"]),
        )
    except (jinja2.UndefinedError, TypeError, KeyError) as error:
        raise SettingsError(f"the report is not complete ({error}): make it again by `megu unlearn`") from None


def _num(value, digits=1):
    return "not available" if value is None else f"{value:.{digits}f}"
