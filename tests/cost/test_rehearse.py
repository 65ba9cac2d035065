"""A rehearsal tries every stage, counts what it takes, and says which one fails."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from refusals import refused
from typer.testing import CliRunner

from megu import methods
from megu.cli.main import app
from megu.core.splits import make_split
from megu.cost import stages
from megu.cost.dummy import shortened, stand_in
from megu.cost.flops import counted, forward_flops
from megu.cost.rehearse import rehearse, verdict
from megu.datasets.sources import load
from megu.measure.count import counting, passes_of, total
from megu.settings.profiles import resolve


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def played(tiny_overrides):
    """(settings, table, what was said) of a rehearsal with batches of 4."""
    changes = {"arch": "vit-tiny", "compare": ("megu-no-noise", "scrub"), "repeats": 3}
    settings, said = resolve(overrides={**tiny_overrides, **changes}), []
    return settings, rehearse(settings, 4, said.append).set_index("stage"), said


def test_every_stage_is_tried_and_counted(played):
    _, table, said = played
    assert (table["failed"] == "").all() and len(table) == 16
    assert said[0] == "batches of 4 instead of 32 images" and said[-1].endswith("would run: 16 of 16 stages")
    steps = table[table.index.str.endswith(" step")]
    assert len(steps) == 11 and (steps["tensor_mb"] > 0).all() and (steps["gflop"] > 0).all()
    assert steps.drop("noise step")["pflop"].notna().all()


def test_a_broken_stage_is_reported_and_the_others_run(tiny_npz, monkeypatch, tmp_path):
    def broken(*_, **__):
        raise RuntimeError("expected all tensors to be on the same device\nmore lines")

    monkeypatch.setattr(stages, "collect_outputs", broken)
    values = [f"--set={value}" for value in ("data.name=npz", f"data.path={tiny_npz}", "compare=[]", "threads=1")]
    words = ["cost", "rehearse", "--profile", "quick", "--batch", "4", "--out", str(tmp_path), *values]
    run = CliRunner().invoke(app, words)
    failed = pd.read_csv(tmp_path / "rehearsal.csv", keep_default_na=False).set_index("stage")["failed"]
    assert failed[failed != ""].to_dict() == {
        "evaluation batch": "RuntimeError: expected all tensors to be on the same device",
        "every metric": "MissingError: needs the outputs, which failed",
    }
    assert run.exit_code == 1 and "would not run: evaluation batch: RuntimeError" in run.output


def test_the_sum_is_that_of_the_run_itself(played):
    settings, table, said = played
    last = said[-1].splitlines()[0]
    parts = {"pre-training step": 1, "retrain step": 1, "megu-no-noise step": 3, "scrub step": 3, "evaluation batch": 1}
    assert "(pre-training, retrain, megu-no-noise x 3, scrub x 3, evaluation)" in last
    total = sum(table["pflop"][name] * n for name, n in parts.items())
    assert float(last.split("this run: ")[1].split(" PFLOP")[0]) == pytest.approx(total, rel=1e-3)
    assert "; not counted: 4 shadow models)" in verdict(table.reset_index(), shadows=4)
    assert table["pflop"]["finetune step"] > 0 and table["times"]["finetune step"] == 0, "tried, not compared"
    images = load(settings)
    split = make_split(images, settings)
    # 1 retrained model and 3 of each method; the original; an untrained network, in eval and in train mode
    looks = 8 * sum(map(len, vars(split).values())) + 2 * len(split.forget) + len(split.test_forget)
    forward = forward_flops("vit-tiny", images.num_classes, images.shape)
    assert table["pflop"]["evaluation batch"] == pytest.approx(looks * forward / 1e15)


def test_the_verdict_names_the_largest_memory_of_this_run(played):
    table = played[1].reset_index()
    mine = table["times"] > 0
    assert mine.any() and not mine.all()
    table["full_mb"] = [9000.0 * (not its) + 100 * k for k, its in enumerate(mine)]  # the largest is not compared
    most = table["full_mb"][mine].max() / 1e3
    assert f", at most {most:.1f} GB of tensors at a time" in verdict(table) and 1 < most < 3


@pytest.mark.parametrize("importance", ["sample", "batch"])
def test_the_memory_of_a_full_step_is_what_it_takes(importance, tiny_overrides):
    changes = {"training.batch": 64, "methods.amnesiac.recipe.batch": 64, "methods.ssd.importance": importance}
    settings = resolve(overrides={**tiny_overrides, **changes, "compare": ()})
    names = [f"{name} step" for name in ("pre-training", "amnesiac", "ssd")]
    few, full = (rehearse(settings, batch).set_index("stage").loc[names] for batch in (16, 64))
    assert (few["full_mb"] / full["tensor_mb"]).between(1 / 1.5, 1.5).all(), (few["full_mb"], full["tensor_mb"])
    grows = few["full_mb"] > 1.5 * few["tensor_mb"]
    assert list(grows) == [True, True, importance == "batch"], "single images need no more, however many there are"


@pytest.mark.parametrize(("scenario", "name", "forget", "classes", "images"), [
    ("class", "cifar100", "rocket", 100, 450), ("class", "cifar20", "vehicles 2", 20, 2250),
    ("subclass", "cifar20", "rocket", 20, 450), ("random", "cifar10", "rocket", 10, 100),
])  # fmt: skip
def test_images_that_are_not_here_have_the_true_numbers(scenario, name, forget, classes, images):
    settings = resolve("paper", overrides={"data.name": name, "forget.scenario": scenario, "forget.classes": [forget]})
    pool = stand_in(settings, side=2)
    split = make_split(pool, settings)
    assert (pool.num_classes, len(split.forget), len(pool.y)) == (classes, images, 60_000)


def test_other_images_are_not_made_up():
    with refused("numbers of data 'npz' are not known"):
        stand_in(resolve(overrides={"data.name": "npz"}))


@pytest.fixture(scope="module")
def rehearsal(tiny_npz):
    """A request with a handful of images."""
    changes = {"data.name": "npz", "data.path": str(tiny_npz), "arch": "resnet-small", "compare": ()}
    made = stages.Rehearsal(resolve(overrides=changes), 8)
    made.data(), made.weights()
    return made


TRAINED = [name for name, entry in methods.METHODS.items() if "class" in entry.scenarios and name != "original"]


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_counted_on_a_stand_in_is_what_the_method_does(name, rehearsal):
    # Noise of each image: how many labels are chosen depends on the answers of the network.
    settings, task = resolve(overrides={"methods.megu.noise.per": "image", "retain_images": 8}), rehearsal.task(8)
    parameters = shortened(methods.method_settings(name, settings), 8)
    settings = settings.model_copy(update={"training": task.training, "arch": task.arch})
    passes = passes_of(name, parameters, settings, task.images, task.split)
    if name == "projection":  # its own products of matrices are no passes
        assert passes.trained == passes.noised == 0 < passes.seen
        return
    if name == "boundary-shrink":  # torch's counter of operations cannot follow its step against the image
        assert (passes.trained, passes.noised, passes.seen) == (4, 4, 4), "trained, moved and named once"
        return
    with counted() as count:
        methods.method(name).unlearn(task, parameters)
    taken = count.get_total_flops() / forward_flops(task.arch, task.num_classes, task.images.shape)
    if name == "head-only":  # counted as if the features were trained, too
        assert 0 < taken < passes.flops(1)
        return
    assert taken / passes.flops(1) == pytest.approx(1, abs=0.01)
    for kind in ("trained", "noised", "seen"):
        if count := getattr(passes, kind):
            off = replace(passes, **{kind: count + 1}).flops(1)
            assert abs(taken / off - 1) > 0.01, "one image more would be noticed"


def test_counts_do_not_depend_on_what_was_drawn_before():
    settings = resolve("paper", 0, {"data.name": "cifar100"})
    images = stand_in(settings, side=2)
    given = methods.method_settings("megu", settings), settings, images, make_split(images, settings)
    counts = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        counts.append(passes_of("megu", *given))
    assert counts[0] == counts[1] and counts[0].noised > 51 * 40


def test_epochs_are_counted_as_often_as_there_are_some(rehearsal):
    settings, task = resolve(overrides={"retain_images": 8}), rehearsal.task(8)
    usual = shortened(methods.method_settings("scrub", settings), 8)
    for epochs in (1, 3):
        parameters = usual.model_copy(update={"recipe": usual.recipe.model_copy(update={"epochs": epochs})})
        passes = passes_of("scrub", parameters, settings, task.images, task.split)
        assert passes.trained == epochs * (4 + 4) and passes.most == 4


def test_passes_are_told_apart():
    net, x = torch.nn.Linear(3, 2), torch.ones(5, 3)
    with counting(net) as batches:
        net(x).sum().backward()
        with torch.no_grad():
            net(x[:2])
        net.requires_grad_(False)(x[:3].clone().requires_grad_()).sum().backward()
        net(x[:4])
    assert vars(total(batches)) == {"trained": 5, "noised": 3, "seen": 6, "most": 5}
    net(x)
    assert len(batches) == 4, "after the block nothing is counted"
