"""Settings: what is wrong is said in one line, before any work."""

import re
import subprocess
import sys
from typing import Any

import pytest
from conftest import ROOT
from pydantic import ValidationError
from refusals import refused

from megu import methods
from megu.cli import main as command_line
from megu.cli.options import parse
from megu.runs.experiment import Experiment
from megu.settings import machine
from megu.settings.class_names import FASHION
from megu.settings.config import Part, _kinds
from megu.settings.errors import MeguError
from megu.settings.profiles import resolve
from megu.settings.values import closest

WRONG = [  # overrides, what the message must name
    ({"forget.clases": ["shirt"]}, "did you mean 'classes'"),
    ({"retain_imagess": 3}, "did you mean 'retain_images'"),
    ({"methods.megu.LR": 3}, "megu.LR': the name"),
    ({"forget.classes": ["shrit"]}, "did you mean 'shirt'"),
    ({"forget.classes": []}, "0 of 10"),
    ({"forget.classes": list(FASHION)}, "10 of 10"),
    ({"seed": 5}, "seed=5"),
    ({"profile": "paper"}, "profile='paper'"),
    ({"training.lr": "fast"}, "'training.lr' is 'fast'"),
    ({"data.validation": 0.7}, "'data.validation' is 0.7"),
    ({"forget.scenario": "client"}, "'client'"),
    ({"guide.model": "/models/llava"}, "set guide.path"),
    ({"guide.model": "./llava"}, "set guide.path"),
    ({"guide.model": "C:\\llava"}, "set guide.path"),
    (["forget"], "give a dictionary"),
    ({"compare": ["megu", "meg"]}, "did you mean 'megu'"),
    ({"methods.megu.noise.lamb": 1}, "did you mean 'lam'"),
    ({"methods.megu.labels.tau": 0}, "'methods.megu.labels.tau' is 0"),
    ({"methods.megu.noise.around": "image"}, "per='image'"),
    ({"methods.megu.noise": {"combine": "mix", "scale": 1.1}}, "set scale to at most 1"),
    ({"methods.ssdd.alpha": 1}, "'ssdd'"),
    ({"device": "cuda:99"}, "cuda:99"),
]


@pytest.mark.parametrize(("overrides", "expected"), WRONG)
def test_wrong_settings_are_named_before_a_run_directory_exists(overrides, expected, tmp_path):
    with refused(re.escape(expected)):
        Experiment(run_dir=tmp_path / "run", overrides=overrides)
    assert not (tmp_path / "run").exists()


def parts_of(part):
    return [part, *(one for below in part.__subclasses__() for one in parts_of(below))]


@pytest.mark.parametrize("part", [one for one in parts_of(Part)[1:] if one.__module__.startswith("megu.")])
def test_no_number_is_a_truth_value_or_infinite(part):
    for name, field in part.model_fields.items():
        kinds, wrong = _kinds(field.annotation), [True, [True]]
        if (int in kinds or float in kinds) and not (bool in kinds or Any in kinds):
            for value in [*wrong, *(["nan", "-inf", float("inf")] if float in kinds else [])]:
                with pytest.raises(ValidationError) as caught:
                    part.model_validate({name: value})
                assert name in {error["loc"][0] for error in caught.value.errors() if error["type"] != "missing"}


def test_a_truth_value_for_a_number_is_said():
    for name in ("training.lr", "training.epochs", "guide.exemplar_seed", "methods.megu.recipe.lr", "seeds"):
        with refused(f"'{name}' is True: give a number"):
            Experiment(overrides={name: True})
    for value in ("nan", "inf", float("inf"), float("nan")):
        with refused("'training.lr' is '?(nan|inf)'?: Input should be a finite number"):
            resolve(overrides={"training.lr": value})
    with refused("'training.milestones' is .3, True.: give a number"):
        resolve(overrides={"training.milestones": [3, True]})
    assert resolve(overrides={"training.lr": "1e-3"}).training.lr == 0.001, "as YAML reads it"


def test_right_settings_pass():
    settings = resolve("quick", 3, {"forget": {"classes": ["sandal"]}, "methods.megu.noise.lam": 0.2})
    assert settings.forget.classes == ("sandal",)
    assert settings.seed_list == (3, 4, 5)
    assert methods.method_settings("megu", settings).noise.lam == 0.2
    assert methods.method_settings("megu-no-noise", settings).noise.kind == "none"
    assert methods.method_settings("megu-no-noise", settings).noise.lam == 0.2
    with refused("profile 'quik' does not exist; did you mean 'quick'"):
        resolve("quik")
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 4


@pytest.mark.parametrize("profile", ["quick", "small", "fast", "paper"])
def test_every_profile_resolves(profile):
    methods.check(resolve(profile))


def test_no_path_of_this_machine_in_what_is_written(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert machine.environment(resolve()) == {} and resolve().weights is None
    assert resolve(overrides={"weights": "random"}).weights == "random"
    settings = resolve(overrides={"data.name": "npz", "data.path": "x.npz", "weights": "vit"})
    assert (settings.data.path, settings.weights) == (str(tmp_path / "x.npz"), str(tmp_path / "vit")), "absolute"
    given = {name: f"/home/me/{name}" for name in machine.NAMES.values() if name != "MEGU_ORIGINAL"}
    for name, path in given.items():
        monkeypatch.setenv(name, path)
    found = resolve()
    assert machine.environment(found) == given and found.guide.path == "/home/me/MEGU_GUIDE_PATH"
    assert machine.local(found).keys() == machine.NAMES.keys() - {"original.path"}
    assert not any(place in one.model_dump_json() for one in (settings, found) for place in (str(tmp_path), "/home/me"))
    assert resolve(overrides={"data.path": "/home/me/x.npz"}).data.path == "/home/me/x.npz"  # a setting comes first
    monkeypatch.setenv("MEGU_WEIGHTS", "")
    assert resolve().weights is None, "an empty variable gives nothing"
    overrides = {"guide": {"url": "u", "shots": 0}, "weights": "w", "data.path": "p"}
    assert machine.without_machine(overrides) == {"guide": {"shots": 0}}


def test_a_variable_that_nobody_reads_is_said(monkeypatch, caplog):
    monkeypatch.setenv("MEGU_RUN_DIR", "x")
    assert resolve() and not caplog.text
    monkeypatch.setenv("MEGU_DATAPATH", "x")
    assert [resolve(), resolve()] and caplog.text.count("'MEGU_DATAPATH'") == 1
    assert "did you mean 'MEGU_DATA_PATH'" in caplog.text


def test_command_line_values():
    assert parse(["seeds=5", "arch=resnet18", "forget.classes=['bag']"]) == {
        "seeds": 5,
        "arch": "resnet18",
        "forget.classes": ["bag"],
    }
    with refused("name=value"):
        parse(["seeds"])


@pytest.mark.slow
def test_command_line_error_is_one_line_with_an_exit_code():
    command = [sys.executable, "-m", "megu", "run", "--set", "forget.classes=['shrit']"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith("megu: forget.classes") and done.stderr.count("\n") == 1


def kinds(base=MeguError):
    """All errors for people, those of every room that can be imported here."""
    return [kind for one in base.__subclasses__() for kind in (one, *kinds(one))]


@pytest.mark.parametrize("kind", sorted({MeguError, *kinds()}, key=lambda kind: kind.__name__))
def test_errors_for_people_are_one_line_and_others_are_not_hidden(kind, monkeypatch, capsys):
    error = kind
    for raised, seen in ((error("what to do"), SystemExit), (RuntimeError("a defect"), RuntimeError)):
        monkeypatch.setattr(command_line, "app", lambda raised=raised: (_ for _ in ()).throw(raised))
        with pytest.raises(seen) as end:
            command_line.main()
        assert seen is RuntimeError or (end.value.code == 2 and capsys.readouterr().err == "megu: what to do\n")


def test_a_name_in_another_case_is_known_and_a_list_of_many_is_short():
    said = closest("NAME 7", [f"name {i}" for i in range(1000)], "the class")
    assert "did you mean 'name 7'" in said and "(1000 in all)" in said and len(said) < 500
    assert closest("d", "abc", "it").endswith("choose from: a, b, c")
    assert "'a, c' does not exist; these are several: give one by one" in closest("a, c", "abc", "it")
