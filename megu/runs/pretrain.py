r"""Originals and retrained models made ahead of a run, by several processes where one is slow: a run or grid then finds
them."""

import os
from dataclasses import replace

import torch

from megu import methods
from megu.core import device, splits
from megu.core.parallel import Team
from megu.datasets.sources import load
from megu.runs.experiment import Experiment
from megu.runs.making import MakesModels
from megu.settings.errors import SettingsError
from megu.settings.profiles import resolve

NAMES = ("original", "retrain")


class _First:
    """Mixed into an experiment: the first process.  It alone opens the run; a model that it starts to make, the others
    make along."""

    team, started = None, False

    def _timed(self, prepare, train):
        self.team.told("make")
        self.started = True
        model, facts = super()._timed(prepare, train)
        # The price of a model is what all devices spend on it: it is compared with methods that run on one.
        seconds = {part: self.team.size * value for part, value in facts["seconds"].items()}
        return model, {
            **facts,
            "seconds": seconds,
            "processes": self.team.size,
            "wall_seconds": facts["seconds"]["total"],
        }

    def make(self, name, seed):
        """The model where it is missing; whether it was."""
        self.started = False
        self.unlearned(name, seed)
        if not self.started:
            self.team.told("kept")
        return self.started


class _Other(MakesModels):
    """Any other process: what training needs of an experiment, without a run directory."""

    def __init__(self, settings, team):
        self.settings, self.team = settings, team
        self.compute = replace(device.choose(settings), team=team)
        self.images = load(settings, self.compute.device)
        self.split = splits.make_split(self.images, settings)
        self.forgotten = splits.forgotten_classes(self.images, self.split, settings)

    def make(self, name, seed):
        """Train along where the first process makes the model; whether it does."""
        if self.team.told() == "kept":
            return False
        task = self._task(self._new(seed, "original"), seed)
        if name == "original":
            self._original(task, name)
        else:
            methods.method(name).unlearn(task, self.parameters(name))
        return True


def pretrain(profile="quick", seed=0, run_dir=None, overrides=None, say=print, kind=Experiment, seeds=None):
    r"""Make the originals and the retrained models of a run that are not there yet.

    Started by ``accelerate launch --num_processes W`` or ``torchrun --nproc_per_node W``, W processes train every model
    together, see `megu.core.parallel.Team`; the manifest keeps ``processes``, ``wall_seconds``, and as ``seconds``
    their sum over the processes.

    Args:
        profile, seed, run_dir, overrides: see `megu.runs.experiment.Experiment`.
        say: function of one line of text.
        kind: of the run: `megu.runs.experiment.Experiment`, or a class made from it.
        seeds: list; None for those of the settings.
    Returns: the run in the first process, None in the others.
    Raises: SettingsError where the settings do not fit together, or name one GPU for several processes.
    """
    settings = resolve(profile, seed, overrides)
    pieces = [(name, seed) for seed in seeds or settings.seed_list for name in NAMES]
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        lab = kind(profile, seed, run_dir, overrides)
        for name, seed in pieces:
            lab.unlearned(name, seed)
            say(f"{name}, seed {seed}: done")
        return lab
    if ":" in settings.device:
        raise SettingsError(
            f"device is {settings.device!r}, but each process has a GPU of its own: set device to 'auto' or 'cpu'"
        )
    team = Team(cpu=settings.device == "cpu" or not torch.cuda.is_available())
    with team.first():
        lab = (
            _Other(settings, team)
            if team.rank
            else type("First", (_First, kind), {})(profile, seed, run_dir, overrides)
        )
    if not team.rank:
        lab.team, lab.compute = team, replace(lab.compute, team=team)
    for name, seed in pieces:
        made = lab.make(name, seed)
        if not team.rank:
            say(f"{name}, seed {seed}: {f'made by {team.size} processes' if made else 'was there'}")
    return None if team.rank else lab
