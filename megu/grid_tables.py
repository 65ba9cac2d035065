r"""The tidy tables of a grid: read as one, refused where they are of two; the times of its models."""

import json

import pandas as pd

LIKE = {"resnet-small": "resnet18", "vit-tiny": "vit-b16"}  # architecture of a smaller profile -> the paper's, in whose place it stands
SOURCE = ("profile", "command", "preset", "seeds", "repeats", "device", "torch", "code", "retain_images", "epochs", "data", "measured")
ORIGIN = ["profile", "preset", "code"]  # what all rows of one grid share
KEYS = ["dataset", "arch", "scenario", "forget", "method", "seed", "repeat", "metric"]


def read_grid(data, profile):
    r"""(rows, seconds, source) of one profile's grid; every row says which profile, preset and code it is from.

    Args:
        data: folder with ``grid_<profile>.csv``, ``grid_<profile>_seconds.csv`` and ``grid_<profile>_source.json``.
        profile: name in `megu.profiles.PROFILES`.
    Returns: two DataFrames and a dictionary; where no grid was run (no such files), empty ones.
    Raises: ValueError where files and profile do not belong together, or rows of two grids are in one file.
    """
    if not (data / f"grid_{profile}.csv").exists():
        return pd.DataFrame(columns=[*KEYS, "unit", "mode", "value", *ORIGIN]), pd.DataFrame(columns=[*KEYS[:-1], "part", "seconds"]), {}
    rows, seconds = pd.read_csv(data / f"grid_{profile}.csv"), pd.read_csv(data / f"grid_{profile}_seconds.csv")
    source = json.loads((data / f"grid_{profile}_source.json").read_text())
    if missing := [name for name in SOURCE if source.get(name) is None]:
        raise ValueError(f"grid_{profile}_source.json does not say {', '.join(missing)}: write the tables again with `python -m megu grid`")
    if source["profile"] != profile:
        raise ValueError(f"grid_{profile}_source.json is of profile {source['profile']!r}: one file holds one profile")
    if len(presets := [source["preset"]] if isinstance(source["preset"], str) else source["preset"]) != 1:
        raise ValueError(f"grid_{profile}.csv has the presets {' and '.join(presets)}: one file holds one preset")
    if strange := sorted(set(rows["seed"]) - set(source["seeds"])):
        raise ValueError(f"grid_{profile}.csv has seeds {strange}, its source has {source['seeds']}: rows of another grid are in it")
    if strange := {*seconds[KEYS[:-1]].itertuples(index=False, name=None)} - {*rows[KEYS[:-1]].itertuples(index=False, name=None)}:
        raise ValueError(f"grid_{profile}_seconds.csv has the time of {' '.join(map(str, min(strange)))}, of which there is no result: it is of another grid")
    rows = rows.assign(profile=profile, preset=presets[0], code=source["code"])
    one_grid(rows)
    return rows, seconds, source


def one_grid(rows):
    r"""Raises: ValueError where ``rows`` are not of one grid: two profiles, presets or codes, a value twice, or two architectures in one place."""
    for name in ORIGIN:
        if rows[name].nunique() > 1:
            raise ValueError(f"one table, one grid: the rows are of {name} {' and '.join(map(repr, rows[name].unique()))}")
    if (again := rows.duplicated(KEYS)).any():
        raise ValueError(f"one table, one grid: {', '.join(map(str, rows.loc[again, KEYS].iloc[0]))} is there twice")
    archs = rows["arch"].drop_duplicates()
    if (several := archs[archs.map(place).duplicated(keep=False)]).any():
        raise ValueError(f"one table, one profile: {' and '.join(sorted(several))} stand in one place of the paper's")


def place(arch):
    r"""The paper's architecture in whose place one of ours stands: a smaller one, or itself."""
    return LIKE.get(arch, arch)


def minutes(seconds):
    r"""Minutes that all models of a grid took together, without guide and evaluation; an original that several cells share is counted once.

    Args:
        seconds: DataFrame of `read_grid`.
    """
    total = seconds[seconds["part"] == "total"]
    shared = total["method"].eq("original") & total.duplicated(["dataset", "arch", "seed", "seconds"])
    return float(total.loc[~shared, "seconds"].sum() / 60)


def time_shares(seconds):
    r"""Time of every method by part, in percent of the retraining of the same seed, mean over seeds and repeats: the numbers of the paper's Figure 4.

    Args:
        seconds: DataFrame of `read_grid`; a total without finer parts becomes the part training, evaluation and guide are left out.
    Returns: DataFrame with ours_arch, dataset, scenario, forget, method, part, share; the references original and retrain are left out.
    Raises: ValueError where a seed of a cell has no time of its retraining.
    """
    cell, run = ["ours_arch", "dataset", "scenario", "forget"], ["method", "seed", "repeat"]
    seconds = seconds.rename(columns={"arch": "ours_arch"})
    seconds = seconds[~seconds["part"].isin(["evaluation", "guide"]) & ~seconds["method"].isin(["guide", "original"])]
    finer = seconds["part"].ne("total").groupby([seconds[name] for name in (*cell, *run)]).transform("any")
    parts = seconds[seconds["part"].ne("total") | ~finer].replace({"part": {"total": "training"}})
    retrain = parts[parts["method"] == "retrain"].groupby([*cell, "seed"])["seconds"].sum().rename("retrain")
    parts = parts[parts["method"] != "retrain"].join(retrain, on=[*cell, "seed"])
    if (without := parts["retrain"].isna()).any():
        raise ValueError(f"{' '.join(map(str, parts.loc[without, [*cell, 'seed']].iloc[0]))}: there is no time of retraining to compare with")
    runs = parts.groupby([*cell, "method"])[["seed", "repeat"]].apply(lambda part: len(part.drop_duplicates())).rename("runs")
    found = parts.assign(share=100 * parts["seconds"] / parts["retrain"]).groupby([*cell, "method", "part"], sort=False)["share"].sum().reset_index()
    found = found.join(runs, on=[*cell, "method"])
    return found.assign(share=found["share"] / found["runs"]).drop(columns="runs")
