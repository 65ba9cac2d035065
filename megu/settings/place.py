"""Where a request's results go: a folder that can be written, and holds nothing of other origin."""

import json
import os
from contextlib import suppress
from pathlib import Path

from megu.settings.errors import SettingsError, StageError
from megu.settings.files import hash_file, in_utf8, ordinary
from megu.settings.values import shown

WORK, SUMS = "work", "SHA256SUMS"
MODEL, REFERENCE, ONNX = "model.safetensors", "reference.safetensors", "model.onnx"


def place(out, request, comparison=False):
    """The folder ``out`` for what is written, or None; ``request``: arguments of `megu.own.request.Request`.

    Raises: SettingsError where it is none, cannot be written, lies among the images, or holds files of other origin
        that would be overwritten or mixed with; StageError for a run.
    """
    if out is None:
        return None
    if not isinstance(out, str | Path) or (ordinary(out).exists() and not ordinary(out).is_dir()):
        raise SettingsError(f"out is {shown(str(out))}, which is no folder: name one, new or not")
    folder = in_utf8(ordinary(out), "out")
    above = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        what = f"out {str(out)!r} cannot be written, as nothing may be put into {above.name!r}"
        raise SettingsError(f"{what}: name another folder, or allow it")
    for images in (request.get("data"), request.get("test")):
        top = Path(images).expanduser().resolve() if isinstance(images, str | Path) else None
        if top and folder.resolve().is_relative_to(top):
            what = f"out {folder.name!r} lies in {top.name!r}, whose folders are classes"
            raise SettingsError(f"{what}: name one elsewhere")
    begun, kept = ((one / "manifest.json").exists() for one in (folder, folder / WORK))
    if begun and not comparison:
        raise StageError(f"{folder.name!r} is a run, a comparison, or of an earlier version: choose another folder")
    own = (MODEL, REFERENCE, ONNX, "report.html", "report.json", "log.csv", SUMS)
    checks = {() if kept else own: f"and no {WORK}/ of an unlearning that could go on"}
    if comparison:
        own = ("comparison.html", "comparison.csv", *(REFERENCE,) * bool(request.get("retrain")))
        checks = {("report.json", WORK): "of an unlearning", () if begun else own: "of no comparison that could go on"}
    for names, why in checks.items():
        if not (there := [name for name in names if (folder / name).exists()]):
            continue
        what = f"out {str(out)!r} holds {', '.join(there)}, {why}"
        raise SettingsError(f"{what}: name another folder, so that nothing is overwritten")
    if kept and not comparison and (strange := _not_as_written(folder, own, request.get("retrain"))):
        what = f"out {str(out)!r} holds {', '.join(strange)}, not as it was written there"
        raise SettingsError(f"{what}: move it away, or name another folder, so that nothing is overwritten")
    return folder


def _not_as_written(folder, names, retrain):
    # A call that was stopped may have written a report of which no sums are known yet; its models are those of work/.
    known = {ONNX: [], MODEL: []} | ({REFERENCE: []} if retrain else {})  # else the user's own may lie beside
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # damaged: said where it is gone on with
        for name, made in json.loads((folder / WORK / "manifest.json").read_text())["artefacts"].items():
            known.get(name, []).append(made["sha256"])
    with suppress(OSError, ValueError):
        for line in (folder / SUMS).read_text().splitlines():
            digest, name = line.split(maxsplit=1)
            known.setdefault(name.removeprefix("*"), []).append(digest)
    there = [name for name in names if name in known and (folder / name).is_file()]
    return [name for name in there if hash_file(folder / name) not in known[name]]
