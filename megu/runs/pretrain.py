r"""Originals and retrained models made ahead of a run or study, by several processes where one is slow."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from megu.core import device, splits
from megu.core.parallel import Team
from megu.datasets.sources import load
from megu.runs.experiment import Experiment
from megu.runs.models import REFERENCES, Models
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
    r"""Make the originals and the retrained models of a run that are not there yet.

    Started by ``accelerate launch --num_processes W`` or ``torchrun --nproc_per_node W``, W processes train every model
    together, see `megu.core.parallel.Team`; the manifest keeps ``processes``, ``wall_seconds``, and as ``seconds``
    their sum over the processes.

    Args:
        profile, seed, run_dir, overrides, study: see `megu.runs.experiment.Experiment`.
        say: function of one line of text.
        seeds: None for those of the settings.
    Returns: the run in the first process, None in the others.
    Raises: SettingsError where the settings do not fit together, or name one GPU for several processes.
    """
    settings = resolve(profile, seed, overrides)
    wanted = [(name, seed) for seed in seeds or settings.seed_list for name in REFERENCES]
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        run = Experiment(profile, seed, run_dir, overrides, study=study)
        for name, seed in wanted:
            run.models.unlearned(name, seed)
            say(f"{name}, seed {seed}: done")
        return run
    if ":" in settings.device:
        raise SettingsError(
            f"device is {settings.device!r}, but each process has a GPU of its own: set device to 'auto' or 'cpu'"
        )
    team = Team(cpu=settings.device == "cpu" or not torch.cuda.is_available())
    with team.first():  # which alone opens the run; a model that it starts to make, the others make along
        run = None if team.rank else Experiment(profile, seed, run_dir, overrides, study=study)
        models = _models(settings) if team.rank else run.models
    models.compute = replace(models.compute, team=team)
    if team.rank:
        for name, seed in wanted:
            if team.told() == "make":
                models.train(name, models.first_task(seed))
        return None
    made = []
    models.started = lambda: made.append(team.told("make"))
    for name, seed in wanted:
        made.clear()
        models.unlearned(name, seed)
        if not made:
            team.told("kept")
        say(f"{name}, seed {seed}: {f'made by {team.size} processes' if made else 'was there'}")
    return run


def _models(settings):
    compute = device.choose(settings)
    images = load(settings, compute.device)
    return Models(settings, images, splits.make_split(images, settings), compute)
