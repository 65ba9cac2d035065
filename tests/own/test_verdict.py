"""The word of a deletion report follows from its rule, and the rule stands beside it."""

from functools import cache

import numpy as np
import pytest
import torch
from scipy import stats

from megu.measure.attacks import auc_interval, detectable_auc
from megu.measure.distances import paired_difference
from megu.own.findings import attack_rows
from megu.own.verdict import LEVEL, verdict

ATTACKS, N, UNSURE = ("loss", "entropy"), 400, "cannot be told, the class was not surely known before"
GOOD, FAIR, POOR, CHANCE = 0.9, 0.84, 0.4, 0.1


def accuracy(rights):
    """Rows of accuracy and changes of models that name these images right: part -> model -> ``(n,)`` bool."""
    rows, changes = [], []
    for part, models in rights.items():
        for model, right in models.items():
            share = stats.binomtest(int(right.sum()), len(right))
            low, high = (100 * end for end in share.proportion_ci(method="wilson"))
            percent = 100 * right.float().mean().item()
            about = {"model": model, "part": part, "images": len(right), "chance": 100 * CHANCE}
            rows.append({**about, "percent": percent, "low": low, "high": high})
        changes += differences(part, models)
    return rows, changes


def differences(part, models):
    """Rows of changes of models that name these images right."""
    out = []
    for model, than in (("after", "before"), ("before", "reference"), ("after", "reference")):
        if than in models:
            points, low, high = (100 * end for end in paired_difference(models[model], models[than], LEVEL))
            out.append({"model": model, "than": than, "part": part, "points": points, "low": low, "high": high})
    return out


def share(count, n=N):
    return torch.arange(n) < count


def attack(model, auc, n=N, m=N, name="loss"):
    low, high = auc_interval(auc, *one_class(n, m), LEVEL)
    row = {"attack": name, "model": model, "auc": auc, "low": low, "high": high, "without_unseen": ["boot"] * (n < N)}
    return size(n, m, auc if model == "reference" else None) | row


def one_class(n, m):
    return np.array([n]), np.array([m])


@cache
def size(n, m, goal=None):
    return {"members": n, "others": m, "detectable": detectable_auc(*one_class(n, m), LEVEL, goal)}


def judged(before, after, reference=None, attacked=(), scenario="class", n=N, kept=None, classes=10, roll=0):
    """The verdict on models that name so many of the n forgotten images right; ``roll``: the others that one keeps."""
    named = {"before": before, "after": after, "reference": reference}
    rights = {"forget": {model: share(count, n) for model, count in named.items() if count is not None}}
    if kept:
        rights["test_retain"] = {model: share(round(1000 * part), 1000) for model, part in kept.items()}
        rights["test_retain"]["after"] = rights["test_retain"]["after"].roll(roll)
    data = {"training_images": 500, "trained_on": None, "retain_is_sample": False, "classes": "abcdefghij"[:classes]}
    asked = {"names": ["rocket"], "scenario": scenario, "data": data, "images": 450}
    return verdict(asked, *accuracy(rights), list(attacked))


@pytest.mark.parametrize(("before", "after", "n", "word"), [
    (360, 0, N, "forgotten"), (360, 8, N, "forgotten"), (360, 14, N, "partly"), (360, 80, N, "partly"),
    (360, 350, N, "not forgotten"), (360, 360, N, "not forgotten"), (9, 0, 10, "forgotten"), (9, 1, 10, "partly"),
    (90, 1, 100, "partly"), (20, 0, N, UNSURE), (1, 1, 5, "cannot be told"),
])  # fmt: skip
def test_a_class_is_forgotten_by_a_limit_that_does_not_grow_as_classes_get_fewer(before, after, n, word):
    found = judged(before, after, n=n)
    assert found["word"].startswith(word) and "at most 5 %" in found["rule"]
    hint = any("recipe.epochs" in sentence for sentence in found["findings"])
    assert hint == (word in ("partly", "not forgotten"))
    assert judged(before, after, n=n, classes=2)["parts"]["forgetting"] != "forgotten" or before > n / 2


@pytest.mark.parametrize(("after", "reference", "n", "word"), [
    (1, 0, 100, "forgotten"), (4, 0, 100, "forgotten"), (20, 0, 100, "partly"), (90, 0, 100, "not forgotten"),
    (1, 1, 20, "forgotten"), (1, 0, 10, "cannot be told with 10 forgotten images"), (8, 0, N, "forgotten"),
    (60, 80, 100, "partly"),  # a reference that knows the class is none
])  # fmt: skip
def test_the_reference_decides_where_there_is_one(after, reference, n, word):
    found = judged(0.9 * n, after, reference, n=n)
    assert found["word"].startswith(word)
    assert any("not taken as a measure" in limit for limit in found["limits"]) == (reference > 0.05 * n + 1)


@pytest.mark.parametrize(("auc", "n", "m", "trace", "said"), [
    (0.51, N, N, "none found", "cannot tell"), (0.6, N, N, "trace", "can still tell"),
    (0.3, N, N, "trace", "the other way"), (0.6, N, 10, "cannot be told with 10 unseen images", "with 10 unseen"),
    # Of the classes of some there are no unseen images.
    (0.51, 300, N, "cannot be told without unseen images of each class", "looked at 100 of the 400 forgotten images"),
    (0.6, 300, N, "trace", "looked at 100"), (0.6, 300, 10, "cannot be told with 10 unseen images", "at 100"),
])  # fmt: skip
def test_the_word_on_a_class_names_a_trace_that_an_attack_finds(auc, n, m, trace, said):
    found = judged(360, 0, attacked=[attack(model, auc, n, m) for model in ("before", "after")])
    word = {"trace": ", with a trace", "none found": ""}.get(trace, f", a trace {trace}")
    assert trace.startswith(found["parts"]["trace"]) and found["word"] == f"forgotten{word}"
    assert ("there are no unseen ones of boot" in " ".join(found["findings"])) == (n < N)
    assert any(said in sentence for sentence in found["findings"])
    assert judged(360, 0)["word"] == "forgotten, a trace cannot be told without unseen images"


def test_where_images_are_too_few_the_auc_that_would_be_told_is_printed():
    found = judged(50, 50, None, [attack("before", 0.9, 50, 8), attack("after", 0.6, 50, 8)], "random", 50)
    assert found["word"] == "cannot be told with 8 unseen images"
    assert f"an AUC of {size(50, 8)['detectable']:.3f} or more with 80 % power" in str(found["findings"])
    assert size(4, 4)["detectable"] is None and 0.5 < size(500, 500)["detectable"] < 0.57
    assert "cannot surely tell" in str(found["findings"]) and "it was 0.900 by the loss" in str(found["findings"])
    few = judged(4, 4, None, [attack("before", 1.0, 4, 4), attack("after", 0.6, 4, 4)], "random", 4)
    assert few["word"] == "cannot be told with 4 unseen images" and "not even an AUC of 1" in str(few["findings"])


@pytest.mark.parametrize(("before", "after", "n", "word"), [
    (0.9, 0.52, N, "no trace"), (0.9, 0.6, N, "trace"), (0.9, 0.3, N, "trace"),
    (0.55, 0.52, N, "cannot be told with"),  # little was to be seen before
    (0.9, 0.52, N - 1, "cannot be told without unseen images of each class"),
])  # fmt: skip
def test_single_images_leave_no_trace_only_where_the_same_attack_saw_the_model_before(before, after, n, word):
    attacked = [attack(model, auc, n) for model, auc in (("before", before), ("after", after))]
    assert judged(N, 300, attacked=attacked, scenario="random")["word"].startswith(word)


@pytest.mark.parametrize(("scenario", "after", "auc", "word"), [
    ("subclass", 288, 0.55, "trace"),  # nothing has changed
    ("subclass", 196, 0.5, "no trace"), ("subclass", 100, 0.5, "trace"), ("random", 196, 0.8, "trace"),
    ("random", 196, 0.25, "trace"),
])  # fmt: skip
def test_single_images_and_sub_classes_are_judged_by_their_distance_to_the_reference(scenario, after, auc, word):
    """Before 72 %, the reference 48 %, which no rule without it tells from 72 %."""
    attacked = [attack(model, of) for model, of in (("before", 0.55), ("after", auc), ("reference", 0.5))]
    found = judged(288, after, 192, attacked, scenario)
    assert found["word"] == word and "the reference's value" in found["rule"]
    if scenario == "subclass":  # without unseen images the accuracy alone shows a trace, but not that there is none
        blind = "trace" if word == "trace" else "cannot be told without unseen images"
        assert judged(288, after, 192, [], scenario)["word"] == blind


@pytest.mark.parametrize(("after", "n", "word"), [
    (12, 24, "no trace"), (15, 24, "cannot be told"), (300, 500, "trace"),
])  # fmt: skip
def test_no_trace_is_not_said_far_from_the_reference(after, n, word):
    """The reference names 52 %; of 24 images 10 points more are no trace for sure, and no likeness either."""
    attacked = [attack(model, of) for model, of in (("before", 0.95), ("after", 0.5), ("reference", 0.5))]
    found = judged(n, after, round(0.52 * n), attacked, "subclass", n=n)
    assert found["parts"]["trace"] == word and "accuracy at most 3 points off" in found["rule"]


@pytest.mark.parametrize(("after", "roll", "utility"), [
    (0.705, 0, "kept"), (0.705, 300, "kept"), (0.675, 0, "damaged"), (0.675, 300, "cannot be told"),
    (0.6, 300, "damaged"), (0.75, 0, "kept"), (0.8, 0, "kept"),
])  # fmt: skip
def test_a_loss_that_so_few_images_do_not_show_is_not_called_kept(after, roll, utility):
    kept = {"before": 0.71, "after": after, "reference": 0.71}
    found = judged(360, 0, 0, [attack(model, 0.5) for model in kept], kept=kept, roll=roll)
    assert found["parts"]["utility"] == utility
    assert ("what is kept cannot be told" in found["word"]) == (utility == "cannot be told")
    assert ("More than before" in " ".join(found["findings"])) == (after > 0.76), "a gain is no merit"


def test_what_the_reference_shows_as_well_is_no_trace():
    """A model that never saw the images may be told: they are harder, or easier, than the unseen ones."""
    attacked = [attack(model, of) for model, of in (("before", 0.95), ("after", 0.62), ("reference", 0.6))]
    assert judged(N, 300, 300, attacked, "random")["word"] == "no trace"
    assert judged(N, 300, None, attacked[:2], "random")["word"] == "trace"


@pytest.mark.parametrize(("before", "after", "reference", "utility"), [
    (GOOD, GOOD, None, "kept"), (GOOD, 0.88, None, "kept"), (GOOD, FAIR, None, "damaged"), (GOOD, POOR, None, "ruined"),
    (GOOD, CHANCE, None, "ruined"), (GOOD, FAIR, FAIR, "kept"), (GOOD, POOR, FAIR, "ruined"),
    (GOOD, POOR, POOR, "ruined"),  # a reference that is ruined itself is none
    (0.09, 0.09, None, "kept"), (0.09, 0.03, None, "ruined"),  # rare classes with more weight: one for all names more
])  # fmt: skip
@pytest.mark.parametrize("scenario", ["class", "random"])
def test_what_the_model_lost_is_part_of_the_word(before, after, reference, utility, scenario):
    kept = {"before": before, "after": after} | ({"reference": reference} if reference else {})
    attacked = [attack("before", 0.9), attack("after", 0.5)] + ([attack("reference", 0.5)] if reference else [])
    found = judged(360, 0, 0 if reference else None, attacked, scenario, kept=kept)
    assert found["parts"]["utility"] == utility
    first = "forgotten" if scenario == "class" else "no trace"
    assert found["word"] == first + (f", model {utility}" if utility in ("ruined", "damaged") else "")
    assert f"test images of what is retained named right: {100 * before:.1f} %" in found["findings"][0]  # in the shell
    goal = reference if reference not in (None, POOR) else before
    assert f"{100 * (goal + CHANCE * (goal > CHANCE)) / 2:.1f} and" in found["rule"]
    assert ("or has at all" in found["rule"]) == (goal < CHANCE)


def few_rows(scores, n):
    """Rows of two attacks that see correlated scores of n forgotten and of unseen images, by model."""
    rows = []
    for k, name in enumerate(ATTACKS):
        y = torch.zeros(len(scores["before"][k])).long()
        rows += attack_rows(name, {model: (s[k][:n], y[:n], s[k][n:], y[n:]) for model, s in scores.items()})
    return rows


def draw(random, n, m, shift=0.0):
    first = random.normal(size=n + m) + shift * (np.arange(n + m) < n)
    return first, 0.8 * first + 0.6 * random.normal(size=n + m)


@pytest.mark.parametrize("reference", [False, True])
def test_a_method_that_changes_nothing_never_comes_out_as_no_trace(reference):
    random, seen = np.random.default_rng(0), set()
    for n, m in ((5, 5), (5, 500), (500, 5), (20, 50), (80, 80), (500, 500)):
        for shift in (0.0, 0.3, 0.7, 1.5, 4.0, -1.0):
            same = draw(random, n, m, shift)
            scores = {"before": same, "after": same} | ({"reference": draw(random, n, m)} if reference else {})
            right = (n, n) + ((n - n // 8,) if reference else ())
            found = judged(*right, attacked=few_rows(scores, n), scenario="random", n=n)
            seen.add(found["word"].split(" with ")[0])
    assert seen == {"trace", "cannot be told"}
    scores = {"before": draw(random, 200, 200, 1.5), "after": draw(random, 200, 200)}  # the control
    assert judged(200, 150, attacked=few_rows(scores, 200), scenario="random", n=200)["word"] == "no trace"


def aucs(random, count, n, m):
    """AUC of both attacks on ``count`` models that never saw the images."""
    first = random.normal(size=(count, n + m))
    both = np.stack([first, 0.8 * first + 0.6 * random.normal(size=(count, n + m))])
    ranks = stats.rankdata(both, axis=-1)[..., :n].sum(-1)
    return (ranks - n * (n + 1) / 2) / (n * m)


@pytest.mark.parametrize("n, m", [(5, 5), pytest.param(30, 12, marks=pytest.mark.slow)])
@pytest.mark.parametrize("reference", [False, True])
def test_of_a_thousand_true_retrainings_few_are_called_a_trace(n, m, reference):
    random, alarms, told = np.random.default_rng(1), 0, cache(attack)
    kinds = ("after", "reference") if reference else ("after",)
    drawn = {model: aucs(random, 1000, n, m) for model in kinds}
    right = torch.from_numpy(random.random((2, 1000, n)) < 0.8)
    data = {"training_images": 500, "trained_on": None, "retain_is_sample": False, "classes": "ab"}
    asked = {"names": [], "scenario": "random", "data": data, "images": n}
    rows, _ = accuracy({"forget": dict.fromkeys(("before", *kinds), share(n, n))})
    for i in range(1000):
        attacked = [told("before", 0.9, n, m, name) for name in ATTACKS]
        attacked += [told(model, drawn[model][k, i], n, m, name) for model in kinds for k, name in enumerate(ATTACKS)]
        rights = {"before": share(n, n), "after": right[0, i], "reference": right[1, i]}
        alarms += verdict(asked, rows, differences("forget", rights), attacked)["parts"]["trace"] == "trace"
    assert alarms <= 60
