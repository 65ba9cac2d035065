"""The word of a deletion report follows from its rule, and the rule stands beside it."""

import pytest

from megu.own.verdict import attack_succeeds, verdict

BEFORE, NONE, SOME = (90.0, 87.0, 93.0), (0.0, 0.0, 0.9), (20.0, 16.4, 24.2)
KNOWS = (88.0, 84.0, 91.0)


def attack(model, auc, reach=0.02, name="loss"):
    return {"attack": name, "model": model, "auc": auc, "low": auc - reach, "high": auc + reach}


COIN, STILL = attack("after", 0.51), attack("after", 0.6, name="entropy")


def judged(after, reference=None, attacked=(), scenario="class"):
    """The verdict on models that are known by what they name right (percent, low, high) and by their attacks alone."""
    named = {"before": BEFORE, "after": after, **({"reference": reference} if reference else {})}
    measured = [
        {"model": model, "part": "forget", "images": 400, "percent": p, "low": low, "high": high}
        for model, (p, low, high) in named.items()
    ]
    data = {"training_images": 500, "trained_on": None, "retain_is_sample": False}
    return verdict({"names": ["rocket"], "scenario": scenario, "data": data}, measured, {}, list(attacked))


@pytest.mark.parametrize(("after", "word"), [
    (NONE, "forgotten"), ((2.0, 1.0, 4.0), "forgotten"), ((3.0, 1.7, 5.2), "partly"),
    (SOME, "partly"), ((45.0, 40.2, 49.9), "partly"),  # below chance of 4 and of 2 classes
    (KNOWS, "not forgotten"), ((0.0, 0.0, 27.8), "forgotten"), ((10.0, 1.8, 40.4), "partly"),  # of ten images
])  # fmt: skip
def test_a_class_is_forgotten_by_a_limit_that_does_not_grow_as_classes_get_fewer(after, word):
    found = judged(after)
    assert found["word"] == word and "at most 5 %" in found["rule"] and "no attack was measured" in found["rule"]
    assert any("recipe.epochs" in sentence for sentence in found["findings"]) == (word != "forgotten")


def test_the_reference_is_the_limit_where_images_are_few_unless_it_knows_the_class():
    few = (5.0, 0.9, 23.6)
    found = judged(few, reference=few)
    assert found["word"] == "forgotten"
    assert "at most 23.6 %" in found["rule"] and "the retrained reference's" in found["rule"]
    assert judged(few)["word"] == "partly"
    wrong = judged((60.0, 55.0, 65.0), reference=KNOWS)
    assert wrong["word"] == "partly" and "at most 5 %" in wrong["rule"]
    assert any("not taken as a measure" in limit for limit in wrong["limits"])


@pytest.mark.parametrize(("after", "attacked", "scenario", "word"), [
    (NONE, [COIN], "class", "forgotten"), (NONE, [COIN, STILL], "class", "forgotten, with a trace"),
    (SOME, [STILL], "class", "partly"), (NONE, [], "random", "not told"), (NONE, [COIN], "random", "no trace"),
    (NONE, [STILL], "random", "trace"), (BEFORE, [COIN], "subclass", "no trace"),
])  # fmt: skip
def test_the_word_names_a_trace_that_an_attack_finds(after, attacked, scenario, word):
    found = judged(after, attacked=attacked, scenario=scenario)
    assert found["word"] == word and "leaves 0.5 out" in found["rule"]
    assert any("can still tell" in said and "entropy" in said for said in found["findings"]) == (STILL in attacked)


@pytest.mark.parametrize(("attacked", "succeeds", "said"), [
    ([], None, "No attack was measured"),
    ([attack("after", 0.6), attack("reference", 0.59)], False, "cannot be told from it"),
    ([attack("after", 0.6), attack("reference", 0.5)], True, "which differs"),
    ([attack("after", 0.6), attack("reference", 0.5, name="entropy")], True, "can still tell"),  # of another attack
    ([attack("after", 0.4)], True, "stand out the other way"),
])  # fmt: skip
def test_what_the_reference_shows_as_well_is_no_trace(attacked, succeeds, said):
    """A model that never saw the images may be told: they are harder, or easier, than the unseen ones."""
    found, sentences = attack_succeeds(attacked)
    assert found is succeeds and said in sentences[-1]
