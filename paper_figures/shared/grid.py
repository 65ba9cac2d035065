r"""The tidy tables of a grid: read as they were written, together or not at all; the times of its models."""

import json
from pathlib import Path

import pandas as pd

from megu.settings.cells import CELLS
from megu.settings.files import hash_file

LIKE = {"resnet-small": "resnet18", "vit-tiny": "vit-b16"}  # architecture of a smaller profile -> the paper's
SOURCE = "profile command preset seeds repeats device torch code retain_images epochs data measured files".split()
ORIGIN = ["profile", "preset", "code"]  # what all rows of one grid share
CELL = ["arch", "dataset", "scenario", "forget"]
KEYS = [*CELL, "method", "seed", "repeat", "metric"]


def read_grid(data: Path, profile: str) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    r"""(rows, seconds, source) of one profile's grid; every row says which profile, preset and code it is from.

    Args:
        data: folder with ``grid_<profile>.csv``, ``grid_<profile>_seconds.csv`` and ``grid_<profile>_source.json``.
        profile: name in `megu.settings.profiles.PROFILES`.  The source's "code" may be one for each architecture.
    Returns: two tables and a dictionary; where no grid was run (no such files), empty ones.
    Raises: ValueError where the source is missing, does not say all of `SOURCE`, is of another profile or of two
        presets, or where a table is not the one whose SHA-256 the source has.
    """
    tables, about = (f"grid_{profile}.csv", f"grid_{profile}_seconds.csv"), f"grid_{profile}_source.json"
    if not any((data / name).exists() for name in (*tables, about)):
        rows = pd.DataFrame(columns=[*KEYS, "unit", "mode", "value", *ORIGIN])
        return rows, pd.DataFrame(columns=[*KEYS[:-1], "part", "seconds"]), {}
    again = f"write the tables again with `python -m megu study paper --profile {profile} ... --out`"
    source = json.loads((data / about).read_text()) if (data / about).exists() else {}
    if missing := [name for name in SOURCE if source.get(name) is None]:
        raise ValueError(f"{about} does not say {', '.join(missing)}: {again}")
    if source["profile"] != profile:
        raise ValueError(f"{about} is of profile {source['profile']!r}: one file holds one profile")
    for name in tables:
        if not (data / name).exists() or hash_file(data / name) != source["files"].get(name):
            raise ValueError(
                f"{name} is not the file that {about} is of: it was changed, or an interrupted write mixed two grids;"
                f" {again}"
            )
    if len(source["preset"]) != 1:
        presets = " and ".join(source["preset"])
        raise ValueError(f"grid_{profile}.csv has the presets {presets}: one file holds one preset")
    source["command"] = source["command"].replace("megu grid", "megu study paper")  # as the command is called today
    rows, seconds = (pd.read_csv(data / name) for name in tables)
    code = rows["arch"].map(source["code"]) if isinstance(source["code"], dict) else source["code"]
    return rows.assign(profile=profile, preset=source["preset"][0], code=code), seconds, source


def one_grid(rows: pd.DataFrame):
    r"""Refuse rows that were put together from several grids, each from its own `read_grid`.

    Raises: ValueError where there are two profiles, presets or codes, a value twice, or two architectures in one place.
    """
    for name in ORIGIN:
        if rows[name].nunique() > 1:
            values = " and ".join(map(repr, rows[name].unique()))
            raise ValueError(f"one table, one grid: the rows are of {name} {values}")
    if (again := rows.duplicated(KEYS)).any():
        raise ValueError(f"one table, one grid: {', '.join(map(str, rows.loc[again, KEYS].iloc[0]))} is there twice")
    archs = rows["arch"].drop_duplicates()
    if (several := archs[archs.map(place).duplicated(keep=False)]).any():
        raise ValueError(f"one table, one profile: {' and '.join(sorted(several))} stand in one place of the paper's")


def asked(profile: str) -> dict[tuple, tuple[str, ...]]:
    r"""What a profile's grid consists of: (arch, dataset, scenario, forget) -> its methods; what is in no cell is "-"
    in a table, not "not run"."""
    return {(cell.arch, cell.data, cell.scenario, cell.request): cell.methods for cell in CELLS[profile]}


def place(arch: str) -> str:
    r"""The paper's architecture in whose place one of ours stands: a smaller one, or itself."""
    return LIKE.get(arch, arch)


def time_shares(seconds: pd.DataFrame) -> pd.DataFrame:
    r"""Time of every method by part, in percent of the retraining of the same seed, mean over seeds and repeats: the
    numbers of the paper's Figure 4.

    Args:
        seconds: from `read_grid`; a total without finer parts becomes the part training, evaluation and guide are left
            out.
    Returns: ours_arch, dataset, scenario, forget, method, part, share; without the references original and retrain.
    Raises: ValueError where a seed of a cell has no time of its retraining.
    """
    seconds = seconds[~seconds["part"].isin(["evaluation", "guide"]) & ~seconds["method"].isin(["guide", "original"])]
    finer = seconds["part"].ne("total").groupby([seconds[name] for name in KEYS[:-1]]).transform("any")
    parts = seconds[seconds["part"].ne("total") | ~finer].replace({"part": {"total": "training"}})
    retrain = parts[parts["method"] == "retrain"].groupby([*CELL, "seed"])["seconds"].sum().rename("retrain")
    parts = parts[parts["method"] != "retrain"].join(retrain, on=[*CELL, "seed"])
    if (without := parts["retrain"].isna()).any():
        which = " ".join(map(str, parts.loc[without, [*CELL, "seed"]].iloc[0]))
        raise ValueError(f"{which}: there is no time of retraining to compare with")
    runs = parts.drop_duplicates(KEYS[:-1]).groupby([*CELL, "method"]).size().rename("runs")
    parts = parts.assign(share=100 * parts["seconds"] / parts["retrain"])
    found = parts.groupby([*CELL, "method", "part"], sort=False, as_index=False)["share"].sum()
    found = found.join(runs, on=[*CELL, "method"]).rename(columns={"arch": "ours_arch"})
    return found.assign(share=found["share"] / found["runs"]).drop(columns="runs")
