"""A run from end to end on tiny data: made once, resumed after an interrupt with the same results."""

import pandas as pd
import pytest
from conftest import similarity_like

from megu.core import models as kept
from megu.measure.metrics import expected
from megu.measure.summary import summary
from megu.perturbing_labels import transition_matrix
from megu.runs.experiment import NOISES, Experiment, run_directory
from megu.settings.errors import StageError
from megu.settings.files import hash_json
from megu.settings.profiles import resolve

MEASURED = len(expected())


@pytest.fixture
def no_guide(monkeypatch):
    """The guide has its own tests."""

    def transition(self, source=None):
        return transition_matrix(similarity_like(self.images.num_classes))

    monkeypatch.setattr(Experiment, "transition", transition)


def test_an_interrupted_run_gives_the_same_tidy_results(no_guide, monkeypatch, tiny_overrides, tmp_path):
    def run(name):
        return Experiment(run_dir=tmp_path / name / "run", overrides=tiny_overrides)

    undisturbed = run("a").results()
    real, calls = kept.save, []

    def dies(model, path, about):
        calls.append(path)
        if len(calls) in (2, 5):  # in the middle of writing a model, twice
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        real(model, path, about)

    monkeypatch.setattr(kept, "save", dies)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run("b").results()
    resumed = run("b")
    pd.testing.assert_frame_equal(resumed.results(), undisturbed, check_exact=True)
    assert len(calls) == 2 * len(resumed.method_names) + 4 + 2, (
        "originals and retrained models are kept twice, two died: nothing finished was made again"
    )
    assert not list((tmp_path / "b").rglob("*.part*"))
    assert set(resumed.timings()["part"]) >= {"total", "noise", "labels", "fine-tuning"}
    assert len(summary(undisturbed)) == len(resumed.method_names) * MEASURED


@pytest.mark.parametrize("scenario", ["subclass", "random"])
def test_the_other_scenarios_run_to_the_end(no_guide, tiny_overrides, tmp_path, scenario):
    other = {"forget.scenario": scenario, "forget.count": 20, "seeds": 1}
    lab = Experiment(run_dir=tmp_path, overrides={**tiny_overrides, **other})
    results = lab.results()
    assert len(summary(results)) == len(lab.method_names) * MEASURED
    table = results.pivot(index="method", columns="metric", values="value")
    assert table.drop(columns=["acc_forget_test", "probe_forget_acc"]).notna().all().all()
    assert table["acc_forget_test"].isna().all() == (scenario == "random")


def test_a_notebook_that_comes_too_early_names_the_one_before(tiny_overrides, tmp_path):
    lab = Experiment(run_dir=tmp_path, overrides=tiny_overrides, stage="unlearn")
    with pytest.raises(StageError, match="run notebooks/00_prepare first"):
        lab.require("prepare", "labels")
    with pytest.raises(ValueError, match="stage 'unlern' does not exist"):
        Experiment(run_dir=tmp_path, overrides=tiny_overrides, stage="unlern")


def test_run_directories_never_mix(tiny_overrides, tmp_path):
    a, b = ({"settings": {"x": x}} for x in (1, 2))
    assert len({hash_json(about) for about in (a, b, {**a, "data": "other"})}) == 3
    assert run_directory(resolve(), a) != run_directory(resolve(), b)
    assert run_directory(resolve(), a, "elsewhere").name == "elsewhere"
    assert run_directory(resolve(), a, study=tmp_path).parent == tmp_path
    lab = Experiment(run_dir=tmp_path / "run", overrides=tiny_overrides)
    assert not (tmp_path / "run").exists(), "nothing is written before something is kept"
    lab.run.note("one", 1)
    with pytest.raises(StageError, match=r"parameters\.megu\.noise\.lam was 0\.1, is 0\.2"):
        Experiment(run_dir=tmp_path / "run", overrides={**tiny_overrides, "methods.megu.noise.lam": 0.2})
    manifest = (tmp_path / "run" / "manifest.json").read_text()
    assert tiny_overrides["data.path"] not in manifest and str(tmp_path) not in manifest


def test_predictions_are_shares_of_the_forget_images(no_guide, tiny):
    shares = tiny.predictions().groupby(["method", "seed"])["share"].sum()
    assert len(shares) == len(tiny.method_names) * len(tiny.seeds) and shares.between(99.99, 100.01).all()


def test_every_seed_is_compared_with_the_retrained_model_of_its_own(tiny):
    assert len(tiny.seeds) == 2
    for seed in tiny.seeds:
        same, original = (tiny.rows(name, seed).set_index("metric")["value"] for name in ("retrain", "original"))
        for metric, value in {"tow": 1, "tow_mia": 1, "js_retrain": 0, "activation_distance": 0}.items():
            assert same[metric] == pytest.approx(value, abs=1e-6)
        assert original["js_retrain"] > 1e-3 and original["tow"] < 0.999, "negative control"
        assert original["cka_original_forget"] == pytest.approx(1, abs=1e-5) and same["cka_original_forget"] < 0.999


@pytest.mark.parametrize("scenario", ["class", "random"])
def test_disentanglement_of_every_method_is_kept(no_guide, tiny_overrides, tmp_path, scenario):
    whole = {"forget.scenario": scenario, "forget.classes": ["trouser"], "forget.count": 20}
    lab = Experiment(run_dir=tmp_path, overrides={**tiny_overrides, **whole, "seeds": 1, "compare": ["megu"]})
    found = lab.disentanglement().set_index(["method", "view", "measure"])["value"].sort_index()
    noises = {f"megu, {kind} noise" for kind in NOISES}
    assert set(found.index.get_level_values("method")) == {"original", "retrain", "megu"} | noises
    assert ("retrain", "in place", "kept") not in found.index and (tmp_path / "patterns" / "megu-0.csv").exists()
    if scenario == "random":
        assert found.isna().all(), "no concept goes, so nothing is measured"
    else:
        assert found["original", "in place", "suppressed"] == 0 and found["original", "in place", "kept"] == 1


def test_the_walk_adds_with_one_thread():
    """Sums of other numbers of threads have other last digits, which training grows into other models."""
    assert resolve().threads == 1, "the same bits on any number of cores"
    assert resolve("small").threads == 0
