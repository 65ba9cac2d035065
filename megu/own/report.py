"""The deletion report: a JSON file with a schema, and one HTML file that needs no other."""

import json
import logging
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import jinja2
import torch

import megu
from megu.core import models
from megu.core.architectures import read_model
from megu.core.device import usual_torch
from megu.core.keymap import same_weights
from megu.core.loading import check_and_copy, weights_digest
from megu.figures import deletion
from megu.measure.distances import two_errors
from megu.methods.goal import known_classes
from megu.own.class_order import HIDDEN, LEFT, LOST, check_class_order, check_header, said_of_classes
from megu.own.findings import measure
from megu.own.tuning import PARTS, Trial
from megu.own.verdict import DOUBTED, verdict
from megu.runs.store import PACKAGES, in_memory
from megu.settings.errors import SettingsError
from megu.settings.extras import versions
from megu.settings.files import atomic, hash_bytes, hash_file, ordinary, write_json
from megu.settings.known import SHARED
from megu.settings.place import ONNX, SUMS, WORK, place
from megu.settings.progress import collect_notices

NAME = "megu deletion report 2"
NEAR = 5.0  # points from the goal of the check that are near enough
_log = logging.getLogger("megu")
HASHES = {  # what the report's hashes are of, besides those of files
    "index_sha256": "names or positions of the forgotten images, sorted as text, joined by line breaks, in UTF-8",
    "pixels_sha256": "the forgotten images, resized and not normalised, (C, H, W) row by row, one after the"
    " other in the order of the training images",
    "answers_sha256": "lines of each answer's question, a space and the quoted raw answer, joined by line breaks",
    "matrix_sha256": "the transition matrix, row by row, as little-endian float64",
    "sha256_before": "of each tensor of the state_dict, after half precision was read as float32, in its order the text"
    " 'name dtype shape' and its bytes",
    "sha256_after": "as sha256_before",
}


def compose(checked, new, guide, training, found):
    """The report as ``megu/own/assets/report.schema.json`` describes it.

    Args: checked: `megu.own.request.CheckedRequest`.  new: the model after.  guide: of
        `megu.own.guide_choice.transition`.  training: seconds, history.  found: of `megu.own.findings.measure`.
    """
    images, forget, trained_on = checked.images, checked.settings.forget, checked.request.trained_on
    asked = {
        "scenario": forget.scenario, "names": list(forget.classes), "images": len(checked.split.forget),
        "index_sha256": checked.digest,
        "pixels_sha256": hash_bytes(images.x[checked.split.forget].cpu().numpy().tobytes()),
        "data": {
            "name": images.name, "digest": images.digest(), "classes": list(images.classes),
            "shape": list(images.shape), "training_images": images.num_train,
            "test_images": len(images.y) - images.num_train, "trained_on": trained_on,
            "retain_is_sample": (trained_on or 0) > images.num_train,
        },
    }  # fmt: skip
    done = {
        "method": checked.request.method, "title": checked.method.title,
        "settings": checked.parameters.model_dump(mode="json"), "seed": checked.settings.seed, "guide": guide,
        **(training.get("made") or made_on(checked.compute)), "history": training["history"],
        "check": training["check"], "search": training["search"],
        "notices": list(dict.fromkeys(checked.notices)),
        "seconds": {part: round(value, 3) for part, value in checked.clock.seconds.items()} | training["seconds"],
        "model": {
            "class": type(checked.given).__name__, "parameters": sum(w.numel() for w in checked.given.parameters()),
            "sha256_before": checked.weights, "sha256_after": weights_digest(new),
            "reference": checked.reference is not None,
        },
    }  # fmt: skip
    judge = checked.reference if forget.scenario == "class" else None
    known = [] if judge is None else known_classes(judge, images, checked.split.forget)
    said = verdict(asked, *(found[part] for part in ("accuracy", "changes", "attacks", "lost", "left")), known)
    for sentence in (*said["findings"], *said["limits"]):
        if sentence.startswith((LOST, LEFT, HIDDEN, DOUBTED)):
            _log.warning(sentence)
    facts = {"report": NAME, "megu": megu.__version__, "asked": asked, "done": done, **found, "verdict": said}
    return json.loads(json.dumps(facts | {"hashes": HASHES, "files": {}}, allow_nan=False))


def made_on(compute) -> dict:
    """Time, device, threads, precision and versions of now, which are facts of what is trained now."""
    precision, time = "bfloat16 autocast" if compute.autocast else "float32", datetime.now(UTC)
    here = {"device": compute.device.type, "threads": torch.get_num_threads(), "precision": precision}
    return {**here, "versions": versions(PACKAGES), "time": time.isoformat(timespec="seconds")}


@usual_torch()
def recheck(checked, new, folder=None) -> dict:
    """The report, see `compose`, on ``new`` against the model of a request; nothing is trained.

    Args:
        checked: `megu.own.request.CheckedRequest`.  new: an ``nn.Module``, or weights of the request's ``arch``.
        folder: for report.html, report.json and SHA256SUMS.
    Raises: SettingsError where ``new`` has other classes, or another order of them, or is the reference itself; where
        something would have to be trained.
    """
    request = checked.request
    own = [name for name in request.settings or {} if name.partition(".")[0] not in SHARED]
    if request.retrain:
        raise SettingsError("retrain trains a reference, and here nothing is trained: give reference, or none")
    if request.tune or own:
        given = f"setting {own[0]!r} is of a method" if own else f"tune is {request.tune}"
        raise SettingsError(f"{given}, and here nothing is trained: leave it out")
    place(folder, {"data": request.data, "test": request.test})
    place(folder, {}, comparison=True)  # the report of an unlearning is not replaced
    images, training = checked.images, {"seconds": {}, "history": {}, "search": None}
    with collect_notices(checked.notices):
        if checked.request.arch is not None:
            check_header(Path(new), images)
            new = read_model(new, checked.request.arch, images.num_classes, images.shape[1:])
        new = check_and_copy(new, images, "the model to check")
        check_class_order(checked, checked.split.retain, "the model to check", new)
        if checked.reference is not None and same_weights(new, checked.reference):
            raise SettingsError("the model to check has the weights of the reference: give another reference, or none")
        found = measure(checked, in_memory(), new, None)
    facts = compose(checked, new, None, training | {"check": Trial(checked, None).look(new)}, found)
    facts["done"] |= {"method": "check", "title": "none: the new model was given", "settings": {}}
    return facts if folder is None else write(facts, folder, [])


def about(checked, new):
    """What a file of the new model says of itself, for `megu.own.checkpoint.Checkpoint.from_pretrained`."""
    images, request, pixels = checked.images, checked.request, not checked.images.x.is_floating_point()
    arch = request.arch if isinstance(request.model, Path) else None
    return named(new, {
        "method": request.method, "seed": checked.settings.seed, "forget": checked.digest,
        "arch": arch and re.sub(r"(?<![^:])/.*/", "", arch),  # no paths of this machine
        "classes": images.classes, "shape": images.shape,
        "mean": images.mean.tolist() if pixels else None, "std": images.std.tolist() if pixels else None,
    })  # fmt: skip


def named(model, said):
    """What is said of a model, with the digest of its weights and its `megu.core.models.fingerprint`."""
    fingerprint = models.fingerprint(model, said["shape"], len(said["classes"]))
    return said | {"weights": weights_digest(model), "fingerprint": fingerprint}


def complaints(check: dict) -> list[str]:
    r"""Sentences on what `Trial.look` found farther from its goal than `NEAR` and two standard errors."""
    forget, fine_tuned, held = (check["parts"][part] for part in PARTS)
    left, goal = (f"{forget[name] or 0:.0f} %" for name in ("after", "goal"))
    said = {
        f"{left} of the {PARTS['forget']} are still named right, about {goal} would be expected": _away(forget) > 0,
        f"only {left} of the {PARTS['forget']} are named right, about {goal} would be expected": _away(forget) < 0,
        f"{-_away(held):.0f} points of accuracy are lost on {PARTS['held_out']}": _away(held) < 0,
        f"{-_away(fine_tuned):.0f} points of accuracy are lost on {PARTS['fine_tuned']}": _away(fine_tuned) < 0,
        f"{_away(fine_tuned):.0f} points of accuracy are won on {PARTS['fine_tuned']}": _away(fine_tuned) > 0,
    }
    return [sentence for sentence, holds in said.items() if holds]


def faults(facts: dict) -> list[str]:
    """What training images alone show to be wrong by a report: `complaints`, and classes surely lost or still known."""
    than = facts["verdict"]["than"]
    known = [row for row in facts["left"] if row["than"] == than and row["part"] == "forget"]
    # The model before was trained on what is retained, too, and no less than a reference.
    lost = [row for row in facts["lost"] if row["than"] == "before" and row["part"] == "retain" and row["surely"]]
    said = said_of_classes(lost, known, deletion.PARTS)
    return complaints(facts["done"]["check"]) + [sentence.rstrip(".") for sentence in said]


def _away(row):
    """Points from the goal, 0 where it is near or not known."""
    if row["goal"] is None or row["after"] is None:
        return 0.0
    difference = row["after"] - row["goal"]
    return difference if abs(difference) > NEAR + two_errors(row["goal"], row["images"]) else 0.0


def write(facts, folder, models):
    """Write report.json, report.html and SHA256SUMS into a folder that has these files of ``models``; returns the
    report with their hashes: the one that is there, where only the seconds would be others."""
    facts = facts | {"files": {name: hash_file(Path(folder) / name) for name in models}}
    with suppress(SettingsError):
        old = read(folder)
        facts = old if _without_seconds(old) == _without_seconds(facts) else facts
    write_json(Path(folder) / "report.json", facts, locked=True)
    write_html(facts, folder)
    return facts


def _without_seconds(facts):
    return {**facts, "done": facts["done"] | {"seconds": None}}


def write_html(facts, folder):
    """Write report.html into a folder, and SHA256SUMS, for ``sha256sum -c``; returns its path."""
    page, path = html(facts), Path(folder) / "report.html"
    with atomic(path, locked=True) as part:
        part.write_text(page, encoding="utf-8")
    names = "report.html", "report.json", *facts["files"], ONNX
    names = [name for name in names if (path.parent / name).exists()]
    with atomic(path.parent / SUMS, locked=True) as part:
        part.write_text("".join(f"{hash_file(path.parent / name)}  {name}\n" for name in names))
    return path


def write_again(path):
    """`write_html` of a folder, or of its report.json, which may have been edited: it is warned of."""
    facts, folder = read(path), Path(path) if Path(path).is_dir() else Path(path).parent
    with suppress(OSError):
        if f"{hash_file(folder / 'report.json')}  report.json" not in (folder / SUMS).read_text():
            what = "report.json is not what %s says: page and sums are made of what it says now"
            _log.warning(what, SUMS)
    return write_html(facts, folder)


def read(path):
    """The report of a folder, or of its report.json.  Raises: SettingsError where there is none."""
    path = Path(path)
    path = ordinary(path / "report.json" if path.is_dir() else path)
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["report"] != NAME:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"{path.name} is no {NAME!r} ({type(error).__name__})"
        raise SettingsError(f"{what}: give what `megu unlearn` wrote") from None
    return facts


def html(facts):
    """One HTML page without outside references, for screens and paper."""
    try:
        return render("report", r=facts, work=WORK, sums=SUMS)
    except (jinja2.UndefinedError, TypeError, KeyError, ValueError) as error:
        raise SettingsError(f"the report is not complete ({error}): make it again by `megu unlearn`") from None


def render(template, **values):
    """``assets/<template>.html.j2`` with these values; figures are those of `megu.figures.deletion`."""
    place = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    place.filters |= {"num": _num, "count": "{:,}".format}
    text = (Path(__file__).parent / "assets" / f"{template}.html.j2").read_text(encoding="utf-8")
    return place.from_string(text).render(**values, figures=deletion)


def _num(value, digits=1):
    return "not available" if value is None else f"{value:.{digits}f}"
