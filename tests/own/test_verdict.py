"""The word of a deletion report follows from its rule, and the rule stands beside it."""

from types import SimpleNamespace

import pytest

from megu.own.verdict import attack_succeeds, verdict

BEFORE, NONE = (90.0, 87.0, 93.0), (0.0, 0.0, 0.9)


def attack(model, auc, reach=0.02, name="loss"):
    return {"attack": name, "model": model, "auc": auc, "low": auc - reach, "high": auc + reach}


def judged(after, reference=None, attacked=(), scenario="class"):
    """The verdict on models that are known by what they name right (percent, low, high) and by their attacks alone."""
    named = {"before": BEFORE, "after": after, **({"reference": reference} if reference else {})}
    measured = [
        {"model": model, "part": "forget", "images": 400, "percent": p, "low": low, "high": high}
        for model, (p, low, high) in named.items()
    ]
    request = SimpleNamespace(names=("rocket",), scenario=scenario)
    nothing = SimpleNamespace(test_retain=[], retain=[])
    return verdict(request, SimpleNamespace(outputs=named, split=nothing), None, None, measured, list(attacked))


@pytest.mark.parametrize(
    ("after", "word"),
    [
        (NONE, "forgotten"), ((2.0, 1.0, 4.0), "forgotten"), ((3.0, 1.7, 5.2), "partly"),
        ((20.0, 16.4, 24.2), "partly"), ((45.0, 40.2, 49.9), "partly"),  # below chance of 4 and of 2 classes
        ((88.0, 84.0, 91.0), "not forgotten"), ((0.0, 0.0, 27.8), "forgotten"), ((10.0, 1.8, 40.4), "partly"),  # of ten images
    ],
)  # fmt: skip
def test_a_class_is_forgotten_by_a_limit_that_does_not_grow_as_classes_get_fewer(after, word):
    found = judged(after)
    assert found["word"] == word and "at most 5 %" in found["rule"] and "no attack was measured" in found["rule"]
    assert any("recipe.epochs" in sentence for sentence in found["findings"]) == (word != "forgotten")


def test_the_reference_is_the_limit_where_images_are_few_unless_it_knows_the_class():
    few = judged((5.0, 0.9, 23.6), reference=(5.0, 0.9, 23.6))
    assert few["word"] == "forgotten" and "at most 23.6 %" in few["rule"] and "the retrained reference's" in few["rule"]
    assert judged((5.0, 0.9, 23.6))["word"] == "partly"
    wrong = judged((60.0, 55.0, 65.0), reference=(88.0, 84.0, 91.0))
    assert (
        wrong["word"] == "partly"
        and "at most 5 %" in wrong["rule"]
        and any("not taken as a measure" in limit for limit in wrong["limits"])
    )


def test_the_word_names_a_trace_that_an_attack_finds():
    coin, still = attack("after", 0.51), attack("after", 0.6, name="entropy")
    assert judged(NONE, attacked=[coin])["word"] == "forgotten"
    found = judged(NONE, attacked=[coin, still])
    assert found["word"] == "forgotten, with a trace" and "leaves 0.5 out" in found["rule"]
    assert any("can still tell" in sentence and "entropy" in sentence for sentence in found["findings"])
    assert judged((20.0, 16.4, 24.2), attacked=[still])["word"] == "partly"
    words = [judged(NONE, attacked=seen, scenario="random")["word"] for seen in ([], [coin], [still])]
    assert words == ["not told", "no trace", "trace"]


def test_what_the_reference_shows_as_well_is_no_trace():
    """A model that never saw the images may be told: they are harder, or easier, than the unseen ones."""
    assert attack_succeeds([attack("after", 0.6), attack("reference", 0.59)])[0] is False
    tells, said = attack_succeeds([attack("after", 0.6), attack("reference", 0.5)])
    assert tells is True and "which differs" in said[-1]
    assert attack_succeeds([attack("after", 0.6), attack("reference", 0.5, name="entropy")])[0] is True, (
        "of another attack"
    )
    tells, said = attack_succeeds([attack("after", 0.4)])
    assert tells is True and "stand out the other way" in said[-1] and attack_succeeds([])[0] is None
