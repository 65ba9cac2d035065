"""Documents say what the tracked tables say: numbers stand in spans that are written from them, or are constants of the
method."""

import re
import shutil

import documents
import jupytext
import nbformat
import pandas as pd
import pytest
from conftest import ROOT
from shared import cifar100, findings, hidden, mechanism, method_list, notebook_map, rulers, tracked

from megu.figures.markdown import SPAN
from megu.methods import method_settings
from megu.settings.errors import MeguError
from megu.settings.profiles import resolve

DATA = ROOT / "paper_figures" / "data"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
# The paper's number and sections, Python's, names with digits; tau, alpha and 1 - alpha of the method, the level of
# intervals and of tests.
CONSTANTS = {"2602.17088", "4.1", "4.2", "3.11", "2.0", "2.5", "0.7", "0.3", "95 %", "5 %"}
CONSTANTS |= {"1 %", "0.5", "0.15", "80 %"}  # limits in the rules of served guides and of verdicts


def typed(text):
    """Decimal numbers, percentages and intervals of a text, without code."""
    prose = re.sub(r"```.*?```|`[^`\n]*`|\]\([^)]*\)", "", text, flags=re.S)
    return [number for number in re.findall(r"\d+(?:\.\d+)? %|±|\d*\.\d+", prose) if number not in CONSTANTS]


@pytest.mark.parametrize("name", documents.DOCUMENTS)
def test_every_span_is_what_the_data_say(name):
    text = (ROOT / name).read_text()
    assert documents.filled(text, documents.DOCUMENTS[name], DATA) == text, f"{name} is stale: make figures"
    assert not name.endswith(("README.md", "REPRODUCIBILITY.md")) or typed(SPAN.sub("", text)) == [], (
        "a measured number is typed by hand"
    )


def test_the_map_says_what_the_notebooks_say_they_feed():
    for name, (_, figures) in notebook_map.MAP.items():
        rows = re.findall(r"^# \|.*\| ([^|]*) \|$", (ROOT / "notebooks" / f"{name}.py").read_text(), re.M)
        assert name == "06_your_own_model" or figures == rows[rows.index("feeds") + 1], name


def test_an_altered_number_in_a_span_is_noticed():
    text, spans = (ROOT / "README.md").read_text(), documents.DOCUMENTS["README.md"]
    altered = text.replace(re.search(r"MeGU, (0\.\d{3}) ±", text)[1], "0.999")
    assert documents.filled(altered, spans, DATA) == text != altered
    with pytest.raises(ValueError, match="both of its marks"):
        documents.filled(text.replace("<!-- begin findings -->", "<!-- begin findigns -->"), spans, DATA)


def altered(folder, metric, value, seed=0):
    """A folder with the comparison in which MeGU has another value, of one seed of the class-wise request."""
    folder.mkdir()
    for table in (*DATA.glob("comparison*"), *DATA.glob("hidden*")):
        shutil.copy(table, folder)
    rows = pd.read_csv(DATA / "comparison.csv").set_index(["metric", "method", "scenario", "seed"]).sort_index()
    rows.loc[(metric, "megu", "class", seed), "value"] = value
    rows.to_csv(folder / "comparison.csv")
    return folder


def test_a_finding_moves_with_its_table_until_its_words_are_wrong(tmp_path):
    moved, wrong = (altered(tmp_path / str(value), "acc_forget_test", value) for value in (8.0, 42.0))
    own, other = (findings.forgetting(data).split("still names ")[1].split(" ±")[0] for data in (DATA, moved))
    assert float(other) > float(own)
    with pytest.raises(MeguError, match="no longer bear 'MeGU forgets shirt"):
        findings.forgetting(wrong)


def test_a_place_has_the_range_of_its_seeds(tmp_path):
    shutil.copy(DATA / "disentanglement_all.csv", altered(tmp_path / "first", "tow", 1.0))
    own, first = (rulers.standings(data)["ToW"] for data in (DATA, tmp_path / "first"))
    assert own.by_seed[0] > first.by_seed[0] == 1 and first.by_seed[1:] == own.by_seed[1:]
    assert first.nearer == [] and set(own.nearer) <= set(first.alike), "scattered seeds tell fewer methods apart"


def test_an_attack_must_take_the_original_for_more_of_a_member(tmp_path):
    seen = {words: one.sees for words, one in rulers.standings(DATA).items()}
    assert seen["LiRA online, AUC"] and not seen["SSD member rate (compat), %"], "there the original is less of one"
    assert seen["steps of relearning"], "what is no attack may be away on either side"


@pytest.mark.parametrize(("more", "named"), [(0, "farther in 0 of"), (5, "where both were measured: ")])
def test_a_default_that_is_farther_than_labels_alone_is_named(monkeypatch, more, named):
    rows, *rest = cifar100.read_grid(DATA, "small")
    left = rows["metric"].eq("acc_forget_train")
    labels = rows[left & rows["method"].eq("megu-no-noise")]
    default = labels.assign(method="megu", value=labels["value"] + more)
    changed = pd.concat([rows[~(left & rows["method"].eq("megu"))], default])
    monkeypatch.setattr(cifar100, "read_grid", lambda data, profile: (changed, *rest))
    assert named in cifar100.requests(DATA)


def test_a_method_that_no_table_has_is_called_not_measured(monkeypatch):
    def unmeasured():
        lines = method_list.table(DATA).splitlines()[2:]
        return {line.split("`")[1] for line in lines if "**not measured**" in line}

    tracked_ones, read = unmeasured(), method_list.read
    monkeypatch.setattr(method_list, "read", lambda data, name: read(data, name).query("method != 'projection'"))
    assert unmeasured() - tracked_ones == {"projection"}, "no grid has it"


def test_one_seed_has_no_interval_and_several_have(monkeypatch):
    rows, *rest = cifar100.read_grid(DATA, "fast")
    tracked_words = cifar100.said(DATA)
    one = rows[rows["seed"] == 0]
    monkeypatch.setattr(cifar100, "read_grid", lambda data, profile: (one, *rest))
    assert "(one seed)" in cifar100.said(DATA) and "without interval" in cifar100.sure(DATA)
    assert cifar100.turned(DATA) == "", "one seed tells no two methods apart"
    late = one[one["method"] != "megu"].assign(seed=1, value=one["value"] + 1)
    several = pd.concat([one, late, late.assign(seed=2)])
    monkeypatch.setattr(cifar100, "read_grid", lambda data, profile: (several, *rest))
    said = cifar100.said(DATA)
    assert re.search(r"\(3 seeds\): MeGU as printed \(rates inferred\) \d+ ± \d+ %", said)
    assert re.search(r"the default \d+ % \(one seed\)", said) and "over the seeds 0, 1, 2" in cifar100.sure(DATA)
    monkeypatch.setattr(cifar100, "read_grid", lambda data, profile: (one.iloc[:0], *rest))
    assert cifar100.said(DATA) == cifar100.turned(DATA) == ""
    both = pd.concat([rows, rows.assign(forget="mushroom", value=0.0)])
    monkeypatch.setattr(cifar100, "read_grid", lambda data, profile: (both, *rest))
    assert cifar100.said(DATA) == tracked_words, "another class is another table"
    wide = pd.concat([rows[rows["arch"] == "airbench"], one.assign(arch="airbench-wide", value=one["value"] / 2)])
    monkeypatch.setattr(cifar100, "read_grid", lambda data, profile: (wide, *rest))
    assert re.search(r" by a network of .*\(3 seeds\): .*; by another of .*\(one seed\): ", cifar100.said(DATA))
    assert re.findall(r"method, (\S+)", cifar100.sure(DATA)) == ["airbench", "airbench-wide"]
    swapped = rows.assign(method=rows["method"].replace({"megu": "finetune", "finetune": "megu"}))
    monkeypatch.setattr(cifar100, "read_grid", lambda data, profile: (swapped, *rest))
    assert cifar100.turned(DATA) == ""


def test_further_requests_on_the_fast_networks_stand_beside_the_first(monkeypatch):
    rows, seconds, about = cifar100.read_grid(DATA, "fast")
    first = rows[(rows["arch"] == "airbench") & (rows["seed"] == 0)]
    untested = first.assign(forget="9 images", dataset="cifar10", scenario="random")
    untested.loc[untested["metric"] == "acc_forget_test", "value"] = float("nan")
    more = pd.concat([first.assign(forget="mushroom"), untested])
    about["epochs"]["cifar10, airbench"] = 7
    grids = {DATA: (rows, seconds, about), DATA / cifar100.REQUESTS: (more, seconds, about)}
    monkeypatch.setattr(cifar100, "read_grid", lambda data, profile: grids[data])
    said = cifar100.others(DATA)
    assert re.search(r"of mushroom \(cifar100, 68.\d %, one seed\) MeGU as printed \d+ %, the default", said)
    assert re.search(r"of 9 images .* labels alone \d+ %, retraining 0 %;", said), "none of them is in the test set"
    assert "9 images (cifar10), 7 epochs" in cifar100.sure(DATA) and "mushroom" not in cifar100.said(DATA)
    monkeypatch.setattr(cifar100, "read_grid", lambda data, profile: (rows, seconds, about))
    assert cifar100.others(DATA) == ""


def test_what_a_method_only_hides_is_said(monkeypatch):
    rows = hidden.table(DATA, "hidden")
    assert "Retrain 0 ± 0." in hidden.said(DATA), "a model that never saw them gives the name to no image"
    turned = rows["metric"] == "upside down"  # where the original still knows them
    for others, named in ((turned, ": MeGU 100 ± 0, "), (rows["metric"].str.endswith("upside down"), ": MeGU 0 ± 0, ")):
        kept = rows.assign(value=rows["value"].where(rows["method"] == "original", 0.0).where(~others, 100.0))
        monkeypatch.setattr(hidden, "table", lambda data, name, kept=kept: kept)
        assert named in hidden.said(DATA), "it says nothing where all images get the name"
    assert hidden.page(DATA).count("| 0 of 3 | - |") == rows["method"].nunique() - 1  # but the original


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_measured_number_is_typed_in_a_notebook(path):
    assert [
        found
        for cell in jupytext.read(path).cells
        if cell.cell_type == "markdown" and (found := typed(SPAN.sub("", cell.source)))
    ] == []


def test_a_typed_number_is_noticed():
    found = typed("a ToW of 0.957, 42 % and 1.9 ± 4.3; `lam=0.1`; tau = 0.3; 95 % intervals")
    assert found == ["0.957", "42 %", "1.9", "±", "4.3"]


def test_constants_are_those_of_the_code():
    assert method_settings("megu", resolve()).labels.tau == 0.3


def test_one_name_has_one_value():
    """What the comparison says of the default request is what its table and its figures are made of."""
    summary = tracked.default_request(DATA)[0].set_index(["metric", "method"])
    compared = tracked.compared(DATA).loc["class"]
    for place in (
        (metric, name) for metric in ("acc_retain_test", "tow", "mia_loss_auc") for name in ("megu", "finetune")
    ):
        assert summary.loc[place, "mean"] == pytest.approx(compared.loc[place, "mean"])


def test_notebooks_and_tables_are_of_one_run():
    def last_output(name):
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        return "".join(output.get("text", "") for output in code[-1].outputs)

    evaluated, noises = last_output("05_evaluate"), last_output("03_noise_pair")
    if not (evaluated and noises):
        pytest.skip("needs executed notebooks: make notebooks, make tables")
    rows = pd.read_csv(DATA / "results.csv").query("metric == 'acc_forget_test'").groupby("method")["value"].mean()
    noise, two = (
        pd.read_csv(DATA / "noise.csv").set_index("noise")["perturbing class"],
        "two runs: make notebooks, make tables",
    )
    said = f"MeGU has forgotten: forgotten test images named right, % [{rows['megu']:.3g}, bound <= 2]"
    shown = f"[{noise['positive']:.3g}, bound > {noise['positive, shuffled']:.3g}]"
    assert said in evaluated and shown in noises, f"notebooks and data are of {two}"


def test_the_answers_on_the_pair_follow_its_table(monkeypatch):
    def line(changed):
        monkeypatch.setattr(mechanism, "read", lambda data, name: changed)
        return mechanism.said(DATA).splitlines()[-3].split("|")  # of the surest original

    rows = mechanism.read(DATA, "mechanism")
    random = rows["variant"].str.endswith(", random labels")
    usual, swapped = line(rows), rows.copy()
    assert "the cost of the guide's labels: alone ToW 0." in mechanism.labels_alone(DATA)
    swapped["variant"] = rows["variant"].str.replace(", guided", ", x").str.replace("random labels", "guided")
    swapped["variant"] = swapped["variant"].str.replace(", x", ", random labels")
    other = line(swapped)
    assert float(other[9].split("±")[0]) == -float(usual[9].split("±")[0]), "the labels were exchanged"
    assert mechanism.labels_alone(DATA) == "", "then it would be the cost of random ones"
    assert " / ".join(reversed(usual[7].strip().split(" / "))) == other[7].strip()
    left = (rows["metric"] == "acc_forget_train") & rows["variant"].notna()
    same = rows.assign(value=rows["value"].mask(left, 3.0))
    assert line(same)[5].strip() == "-", "where all leave the same there is no rank"
    worse = rows.assign(value=rows["value"] - (random & (rows["metric"] == "tow")))
    assert float(line(worse)[9].split("±")[0]) < -0.9
