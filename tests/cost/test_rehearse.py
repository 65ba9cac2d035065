"""A rehearsal tries every stage, counts what it takes, and says which one fails."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from megu import methods
from megu.cli.main import app
from megu.core.splits import make_split
from megu.cost import stages as acts
from megu.cost.dummy import shortened, stand_in
from megu.cost.flops import counted, forward_flops
from megu.cost.memory import Tensors, per_image, watched
from megu.cost.rehearse import rehearse, verdict
from megu.cost.work import WORK, Sizes, work
from megu.datasets.sources import load
from megu.settings.errors import SettingsError
from megu.settings.profiles import resolve


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def played(tiny_overrides):
    """(settings, table, what was said) of a rehearsal with batches of 4."""
    torch.set_num_threads(1)
    settings, said = (
        resolve(overrides={**tiny_overrides, "arch": "vit-tiny", "compare": ("megu-no-noise", "scrub"), "repeats": 3}),
        [],
    )
    return settings, rehearse(settings, 4, said.append).set_index("stage"), said


def test_every_stage_is_tried_and_counted(played):
    _, table, said = played
    assert (table["failed"] == "").all() and len(table) == 20
    assert said[0] == "batches of 4 instead of 32 images" and said[-1].endswith("would run: 20 of 20 stages")
    steps = table[table.index.str.endswith(" step")].drop(
        "scrub step"
    )  # which the paper does not have: tried, but not predicted
    assert len(steps) == 10 and (steps["tensor_mb"] > 0).all()
    # What is predicted for a step is what it took, but for the gradient of the first layer's input, which nothing
    # needs.
    assert (steps["gflop"] / steps["predicted_gflop"]).between(0.9, 1.1).all(), steps[["gflop", "predicted_gflop"]]


def test_a_broken_stage_is_reported_and_the_others_run(tiny_npz, monkeypatch, tmp_path):
    def broken(*_, **__):
        raise RuntimeError("expected all tensors to be on the same device\nmore lines")

    monkeypatch.setattr(acts, "perturbing_labels", broken)
    values = [f"--set={value}" for value in ("data.name=npz", f"data.path={tiny_npz}", "compare=[]", "threads=1")]
    run = CliRunner().invoke(
        app, ["cost", "rehearse", "--profile", "quick", "--batch", "4", "--out", str(tmp_path), *values]
    )
    table = pd.read_csv(tmp_path / "rehearsal.csv", keep_default_na=False).set_index("stage")
    assert table["failed"].loc["perturbing labels"] == "RuntimeError: expected all tensors to be on the same device"
    assert table["failed"].loc["noise step"] == "MissingError: needs the labels, which failed"
    assert set(table.index[table["failed"] != ""]) == {"perturbing labels", "noise step", "perturbed images"}
    assert run.exit_code == 1 and "would not run: perturbing labels: RuntimeError" in run.output


def test_the_sum_is_that_of_the_run_itself(played):
    settings, table, said = played
    last, parts = (
        said[-1].splitlines()[0],
        {"pre-training step": 1, "retrain step": 1, "megu-no-noise step": 3, "evaluation batch": 1},
    )
    assert "(pre-training, retrain, megu-no-noise x 3, evaluation; not predicted: scrub)" in last
    assert float(last.split("this run: ")[1].split(" PFLOP")[0]) == pytest.approx(
        sum(table["pflop"][name] * n for name, n in parts.items()), rel=1e-3
    )
    assert "not predicted: scrub, 4 shadow models)" in verdict(table.reset_index(), shadows=4)
    assert table["pflop"]["finetune step"] > 0 and table["times"]["finetune step"] == 0, "tried, not compared"
    images = load(settings)
    split = make_split(images, settings)
    # 1 retrained model and 3 of each method; the original and an untrained network; and that again in train mode
    seen = 9 * sum(map(len, vars(split).values())) + len(split.forget) + len(split.test_forget)
    assert table["pflop"]["evaluation batch"] == pytest.approx(
        seen * forward_flops("vit-tiny", images.num_classes, images.shape) / 1e15
    )


def test_the_verdict_names_the_largest_memory_of_this_run(played):
    table = played[1].reset_index()
    mine = table["times"] > 0
    assert mine.any() and not mine.all()
    table["full_mb"] = [
        9000.0 * (not its) + 100 * k for k, its in enumerate(mine)
    ]  # what is not compared would need most
    most = table["full_mb"][mine].max() / 1e3
    assert f", at most {most:.1f} GB of tensors at a time" in verdict(table) and 1 < most < 3


@pytest.mark.parametrize("importance", ["sample", "batch"])
def test_the_memory_of_a_full_step_is_what_it_took(importance, tiny_overrides):
    settings = resolve(
        overrides={
            **tiny_overrides,
            "training.batch": 64,
            "methods.amnesiac.recipe.batch": 64,
            "methods.ssd.importance": importance,
        }
    )
    made = acts.Acts(settings)
    for act in (made.data, made.weights, made.transition, made.memory):
        act()
    for name in ("amnesiac", "ssd"):
        with watched() as peak:
            done = made.method(name)
        assert 1 / 1.5 < done.full_mb / peak.tensors < 1.5, (name, done.full_mb, peak.tensors)
    assert done.dtype == torch.float32 and (peak.tensors > 2 * made._mb("weighed", 1, 5)) == (importance == "batch"), (
        "64 images are not one"
    )


@pytest.mark.parametrize(
    ("scenario", "name", "forget", "classes", "images"),
    [("class", "cifar100", ["rocket"], 100, 450), ("class", "cifar20", ["vehicles 2"], 20, 2250), ("subclass", "cifar20", ["rocket"], 20, 450),
     ("random", "cifar10", [], 10, 100)],
)  # fmt: skip
def test_images_that_are_not_here_have_the_true_numbers(scenario, name, forget, classes, images):
    settings = resolve(
        "paper", overrides={"data.name": name, "forget.scenario": scenario, "forget.classes": forget or ["rocket"]}
    )
    pool = stand_in(settings)
    split = make_split(pool, settings)
    assert (pool.num_classes, len(split.forget), len(pool.y)) == (classes, images, 60_000)
    with pytest.raises(SettingsError, match="numbers of data 'npz' are not known"):
        stand_in(resolve(overrides={"data.name": "npz"}))


@pytest.fixture(scope="module")
def task(tiny_npz):
    """A request with a handful of images."""
    made = acts.Acts(resolve(overrides={"data.name": "npz", "data.path": str(tiny_npz), "arch": "resnet-small"}), 8)
    for act in (made.data, made.weights, made.transition):
        act()
    return made.task()


@pytest.mark.parametrize("name", [name for name in WORK if name != "original"])
def test_the_work_of_a_method_is_what_it_does(name, task):
    # Noise of each image: how many labels are chosen, and so how many noises are shared, is not known beforehand.
    parameters = shortened(methods.method_settings(name, resolve(overrides={"methods.megu.noise.per": "image"})), 8)
    parts = len(task.split.forget), len(task.split.retain), len(task.retain_sample())
    predicted = work(name, Sizes(*parts, labels=1, classes=task.num_classes), parameters, task.training)
    with counted() as count:
        methods.method(name).unlearn(task, parameters)
    passes = count.get_total_flops() / forward_flops(task.arch, task.num_classes, task.images.shape)
    assert passes / predicted.flops(1) == pytest.approx(1, abs=0.01)
    more = [
        replace(predicted, **{kind: getattr(predicted, kind) + 1})
        for kind in ("trained", "noised", "seen")
        if getattr(predicted, kind)
    ]
    assert all(abs(passes / other.flops(1) - 1) > 0.01 for other in more), "one image more would be noticed"


def test_every_label_can_be_chosen_for_single_images(task):
    parameters = methods.method_settings("megu", resolve())
    single, of_class = (
        work("megu", Sizes(50, 900, 100, labels=10, classes=10, barred=barred), parameters, task.training)
        for barred in (0, 1)
    )
    assert single.noised == 20 * parameters.noise.steps and of_class.noised == 19 * parameters.noise.steps


def test_work_of_other_methods_is_not_made_up():
    with pytest.raises(SettingsError, match="'scrub' is not modelled"):
        work("scrub", Sizes(1, 1, 1, 1, 2), None, resolve().training)


def test_memory_is_that_of_live_tensors():
    with watched() as peak:
        for _ in range(3):  # one at a time
            block = torch.ones(1_000_000)
            block = block.view(1000, 1000).t()[0]  # a view holds no memory of its own
        del block
    assert peak.tensors == pytest.approx(8, rel=0.01)  # the next is made before the last one goes
    with watched() as peak:
        kept = [torch.ones(10_000_000) for _ in range(3)]  # so large that the C library never keeps them for later
    assert peak.tensors == pytest.approx(120, rel=0.01) and len(kept) == 3 and peak.process > 60
    net = torch.nn.Sequential(torch.nn.Linear(1000, 1000), torch.nn.ReLU(), torch.nn.Linear(1000, 1000)).requires_grad_(
        False
    )
    grown = per_image(lambda count: net(torch.ones(count, 1000, requires_grad=True)).sum().backward(), 100)
    assert 0.012 <= grown < 0.02  # input, what the activation lets through and output or a gradient: 4 kB each
    with Tensors() as tensors:
        net[1].forward(kept[0])
    assert tensors.most == 40_000_000, "what was there before is not counted"
