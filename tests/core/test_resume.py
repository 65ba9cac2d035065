"""Trainings that are stopped: at any step, by any signal, they go on with the bits of one that nobody disturbed."""

import dataclasses
import os
import random
import signal
import time
from functools import partial

import pytest
import torch
from killing import child, ended, often, stop_in
from torch import nn
from training import BRIEFLY, same, train

from megu.core import train as training
from megu.core.device import Stopwatch, generator
from megu.core.resume import Checkpoint, checkpoints
from megu.core.train import Position
from megu.methods import METHODS, method_settings
from megu.settings.config import Augment
from megu.settings.profiles import resolve

RECIPES = {
    "one-cycle": {"schedule": "onecycle", "augment": Augment()},
    "adam": {"optimiser": "adam", "schedule": "multistep", "milestones": (1,), "lr": 0.002},
    "look-ahead": {"schedule": "triangular", "lookahead": 2, "norm_bias_lr": 8.0, "label_smoothing": 0.1},
}
COUNT, STEPS = 60, 6  # images, and steps of two epochs


def network():
    """A small one that has batch statistics and draws from torch's global generator."""
    torch.manual_seed(5)
    layers = nn.Dropout(), nn.Conv2d(1, 4, 5, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    return nn.Sequential(*layers)


def run(tiny, recipe, checkpoint=None, stop=None, by=signal.SIGINT, pause=0.0):
    """(model, history, steps made, generator) of a training that a signal meets in one of its steps."""
    images, index, gen, made = tiny.images, tiny.split.train, generator(0, "order"), []
    model, at = network(), Position()

    def batch(i):
        made.append(at.step)
        time.sleep(pause)
        if len(made) == stop:
            signal.raise_signal(by)
        return images.batch(index[i], recipe.get("augment"), gen), images.y[index[i]]

    given = {"epochs": 2, "batch": 20, **recipe}
    history = train(tiny, model, COUNT, gen=gen, make=batch, how={"checkpoint": checkpoint, "at": at}, **given)[1]
    return model, history, made, gen.get_state()


@pytest.mark.parametrize("name", RECIPES)
def test_stopped_at_every_step(tiny, tmp_path, name):
    usual = run(tiny, RECIPES[name])
    assert usual[2] == list(range(STEPS))
    for step in range(1, STEPS + 1):
        checkpoint = Checkpoint(tmp_path / f"{step}.pt")
        with pytest.raises(KeyboardInterrupt):
            run(tiny, RECIPES[name], checkpoint, step)
        model, history, made, gen = run(tiny, RECIPES[name], checkpoint)
        assert made == list(range(step, STEPS)), "the steps before are not made again"
        assert same(model, usual[0]) and history == usual[1] and gen.equal(usual[3])


def test_stopped_after_every_single_step(tiny, tmp_path):
    usual, checkpoint = run(tiny, RECIPES["look-ahead"]), Checkpoint(tmp_path / "0.pt")
    for _ in range(STEPS):
        with pytest.raises(KeyboardInterrupt):
            run(tiny, RECIPES["look-ahead"], checkpoint, 1)
    assert same(run(tiny, RECIPES["look-ahead"], checkpoint)[0], usual[0])


@pytest.mark.parametrize("lost", ["draws", "opt", "slow", "order"])
def test_the_control_what_is_not_kept_changes_the_weights(tiny, tmp_path, monkeypatch, lost):
    recipe, checkpoint = {**RECIPES["look-ahead"], "augment": Augment()}, Checkpoint(tmp_path / "0.pt")
    usual = run(tiny, recipe)
    with pytest.raises(KeyboardInterrupt):
        run(tiny, recipe, checkpoint, 2)
    if lost == "draws":
        monkeypatch.setattr(training, "put_back", lambda *_: None)
    elif lost == "opt":
        monkeypatch.setattr(training, "_LOADED", ("model", "schedule"))
    real = Checkpoint.read

    def read(self, of):
        state = real(self, of)
        changed = {"slow": {k: v + 1 for k, v in state["slow"].items()}, "order": state["order"].flip(0)}
        return state | {name: value for name, value in changed.items() if name == lost}

    monkeypatch.setattr(Checkpoint, "read", read)
    assert not same(run(tiny, recipe, checkpoint)[0], usual[0])


def damage(checkpoint):
    content = bytearray(checkpoint.path.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.path.write_bytes(content)


@pytest.mark.parametrize(("change", "steps"), [
    ("nothing", 3), ("recipe", STEPS), ("about", STEPS), ("count", 9), ("one bit", STEPS), ("no file", STEPS)
])  # fmt: skip
def test_a_checkpoint_of_another_training_is_not_used(tiny, tmp_path, monkeypatch, caplog, change, steps):
    recipe, checkpoint = RECIPES["one-cycle"], Checkpoint(tmp_path / "0.pt", "settings")
    with pytest.raises(KeyboardInterrupt):
        run(tiny, recipe, checkpoint, 3)
    if change == "recipe":
        recipe = recipe | {"weight_decay": 0.0}
    elif change == "about":
        checkpoint = Checkpoint(checkpoint.path, "other settings")
    elif change == "count":
        monkeypatch.setitem(globals(), "COUNT", 90)
    elif change == "one bit":
        damage(checkpoint)
    elif change == "no file":
        checkpoint.path.unlink()
    usual, again = run(tiny, recipe), run(tiny, recipe, checkpoint)
    assert len(again[2]) == (steps if steps != 9 else len(usual[2])) and same(usual[0], again[0])
    assert ("0.pt is damaged: this training starts again" in caplog.text) == (change == "one bit")


def test_seconds_of_a_resumed_training_are_those_of_the_whole(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(Stopwatch, "earlier", 0.0)
    clock, checkpoint = Stopwatch(), Checkpoint(tmp_path / "0.pt")
    with pytest.raises(KeyboardInterrupt):
        run(tiny, RECIPES["adam"], checkpoint, 4, pause=0.05)
    with clock("training"):
        run(tiny, RECIPES["adam"], checkpoint)
    assert clock.total > 4 * 0.05 > 0.1 < Stopwatch.earlier


def test_a_disk_that_is_full_stops_no_training(tiny, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    run(tiny, RECIPES["adam"], Checkpoint(tmp_path / "file" / "0.pt", every=0))
    assert "the training goes on, but cannot be resumed: 0.pt could not be written" in caplog.text


@pytest.mark.slow
def test_sigterm_is_kept_and_obeyed(tiny, tmp_path):
    checkpoint, recipe = Checkpoint(tmp_path / "0.pt"), RECIPES["one-cycle"]
    torch.set_num_threads(1)
    usual = run(tiny, recipe)
    assert ended(child(partial(run, tiny, recipe, checkpoint, 2, signal.SIGTERM))) == -signal.SIGTERM
    again = run(tiny, recipe, checkpoint)
    assert same(again[0], usual[0]) and len(again[2]) == STEPS - 2


@pytest.mark.parametrize("enough", often(3, 50))
def test_kill_9_at_random_moments(tiny, tmp_path, enough):
    torch.set_num_threads(1)
    recipe, draw, kills, lives, gone = RECIPES["look-ahead"], random.Random(0), 0, 0, 0
    usual = run(tiny, recipe)
    while kills < enough:
        checkpoint = Checkpoint(tmp_path / f"{lives}.pt", every=0)
        pid = child(partial(run, tiny, recipe, checkpoint, pause=0.02))
        time.sleep(draw.uniform(0.02, 0.3))
        os.kill(pid, signal.SIGKILL)
        if ended(pid) == 0:
            lives += 1
        else:
            kills += 1
            gone += checkpoint.path.exists()
    for life in range(lives + 1):
        model, history, made, _ = run(tiny, recipe, Checkpoint(tmp_path / f"{life}.pt"))
        assert same(model, usual[0]) and history == usual[1] and (life == lives or not made)
    assert gone, "no life was long enough to keep anything"


COUNTING = {"l1-sparse", "salun", "scrub"}  # or drawing while they train; the others are slow to ask
SEVERAL = {"scrub", "unsir", "unsir-ssd"}
CASES = [pytest.param(name, marks=() if name in COUNTING else pytest.mark.slow) for name in METHODS]


@pytest.mark.parametrize("name", CASES)
def test_methods_keep_nothing_that_a_stop_loses(tasks, tmp_path, monkeypatch, name):
    """Stopped in its second step and later in its fifth: what a method counts and draws goes on too."""
    settings = method_settings(name, resolve(overrides={"methods": {name: BRIEFLY.get(name, {})}}))
    task = tasks["class", "resnet-small"]

    def unlearned():
        return METHODS[name].unlearn(dataclasses.replace(task, draws=[], history={}), settings)

    whole, made = unlearned(), stop_in(monkeypatch, 2, 5)
    for _ in range(3):
        try:
            with checkpoints(tmp_path, name):
                assert same(unlearned(), whole)
            break
        except KeyboardInterrupt:
            pass
    else:
        pytest.fail("it was stopped more often than there were stops")
    twice = len(made) - len(set(made))
    assert not twice or name in SEVERAL, "only short trainings before the one that was stopped are made again"
