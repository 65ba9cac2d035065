r"""A run directory as a research object: what it holds, by what it was made and what it claims, for archives."""

import json
import os
from pathlib import Path

import typer

from megu.cli.options import argument
from megu.settings.errors import SettingsError
from megu.settings.extras import extra

PAPER = "https://arxiv.org/abs/2602.17088"
NAME = "ro-crate-metadata.json"


def crate(run_dir: argument(Path, "Run directory of megu run.")):
    """Write ro-crate-metadata.json into a run directory: its files with hashes, software, settings and claims."""
    typer.echo(f"written  {os.path.relpath(describe(run_dir))}")


def describe(run_dir: Path) -> Path:
    r"""Write the RO-Crate of a run, from its manifest; returns its path.

    Each artefact is a File with its SHA-256, each finished notebook a CreateAction with its claims.
    Source: RO-Crate 1.1, https://w3id.org/ro/crate/1.1.
    Raises: SettingsError where there is no run, or an artefact is gone; MissingExtraError without rocrate.
    """
    with extra("crate"):
        from rocrate.model import ContextEntity
        from rocrate.rocrate import ROCrate
    from megu.runs.store import STAGES

    try:
        manifest = json.loads((run_dir / "manifest.json").read_text())
        artefacts, settings, stages = (manifest[part] for part in ("artefacts", "settings", "stages"))
    except (OSError, ValueError, KeyError, TypeError):
        raise SettingsError(f"{run_dir.name!r} is no run directory of this version: give one of `megu run`") from None
    if gone := sorted(name for name in artefacts if not (run_dir / name).is_file()):
        raise SettingsError(f"{run_dir.name!r} lacks {gone[0]} of its manifest: run again")
    made = ROCrate()
    made.name, made.license = f"megu run {run_dir.name}", "https://spdx.org/licenses/MIT"
    forget = settings["forget"]
    what = ", ".join(forget["classes"]) if forget["scenario"] != "random" else f"{forget['count']} images"
    made.description = (
        f"Machine unlearning of {what} ({forget['scenario']}), data {settings['data']['name']}, network"
        f" {settings['arch']}, seeds {', '.join(map(str, manifest['seeds']))}: models, tables, figures' data."
    )
    made.root_dataset["citation"] = {"@id": PAPER}
    made.add(ContextEntity(made, PAPER, {"@type": "ScholarlyArticle", "name": "MeGU, arXiv 2602.17088"}))
    about = {"name": "megu", "version": manifest["megu"], "identifier": f"code {manifest['code']}"}
    needs = [f"{name} {version}" for name, version in {"python": manifest["python"], **manifest["versions"]}.items()]
    about |= {"@type": "SoftwareApplication", "softwareRequirements": needs}
    software = made.add(ContextEntity(made, "#megu", about))
    for name in ("manifest.json", *artefacts):
        hashed = {"sha256": artefacts[name]["sha256"]} if name in artefacts else {}
        made.add_file(run_dir / name, name, properties={"name": name, **hashed})
    for stage, record in stages.items():
        claims = [f"{one['state']}: {one['sentence']}" for one in record["claims"]]
        properties = {"name": STAGES[stage], "description": "; ".join(claims)}
        made.add_action(software, identifier=f"#{stage}", properties=properties)
    made.metadata.write(run_dir)
    return run_dir / NAME
