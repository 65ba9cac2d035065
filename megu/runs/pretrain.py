r"""Originals and retrained models made ahead of a run or study, by one process or several."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from megu.core.parallel import Team
from megu.runs.experiment import Experiment
from megu.runs.models import REFERENCES
from megu.settings.errors import SettingsError
from megu.settings.profiles import resolve


def pretrain(
    profile: str = "quick",
    seed: int = 0,
    run_dir: str | Path | None = None,
    overrides: dict | None = None,
    say: Callable[[str], object] = print,
    study: Path | None = None,
    seeds: Sequence[int] | None = None,
) -> Experiment | None:
    r"""Make the originals and retrained models of an `Experiment` that are not there yet.

    Several processes (of ``accelerate launch`` or ``torchrun``) train every model together, see
    `Team`; ``seconds`` in the manifest are their sum.

    Args: seeds: None for those of the settings.
    Returns: the run in the first process, None in the others.
    Raises: SettingsError where the settings are wrong, or name one GPU for several processes.
    """
    settings = resolve(profile, seed, overrides)
    wanted, given = [(name, k) for k in seeds or settings.seed_list for name in REFERENCES], (profile, seed, run_dir)
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        run = Experiment(*given, overrides, study=study)
        for name, k in wanted:
            run.unlearned(name, k)
            say(f"{name}, seed {k}: done")
        return run
    if ":" in settings.device:
        raise SettingsError(f"device is {settings.device!r}, but each process has a GPU of its own: set auto or cpu")
    team = Team(cpu=settings.device == "cpu" or not torch.cuda.is_available())
    with team.first():  # it alone keeps anything; the others make along what it starts to make
        run = Experiment(*given, overrides, study=study)
    models, made = run.models, []
    models.compute, models.started = replace(run.compute, team=team), lambda: made.append(team.told("make"))
    for name, k in wanted:
        if team.rank:
            if team.told() == "make":
                models.train(name, models.first_task(k))
            continue
        made.clear()
        models.unlearned(name, k)
        if not made:
            team.told("kept")
        say(f"{name}, seed {k}: {f'made by {team.size} processes' if made else 'was there'}")
    return None if team.rank else run
