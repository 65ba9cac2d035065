"""The verdict of a deletion report: one word, the rule that it follows from, findings and limits."""

import math
from textwrap import shorten

from megu.figures.deletion import PARTS
from megu.own.class_order import said_of_classes

LEVEL = 0.05 / 3  # of each test: two attacks and the accuracy together raise a false alarm in 5 % of requests
FEW = 5.0  # percent of a class that a model which forgot it may name right
_MARK = 0.15  # in AUC: what a test of a whole class must be able to find before "none found" is said
DOUBTED = "The reference is in doubt: it "  # such limits are also said while it works
_LEFT = {"ruined": 0.5, "damaged": 0.95}  # of the accuracy above chance: with less left, the model is called so
NEAR = {"forget": 3.0, "retain": 2.0}  # points of accuracy: a model further from the reference is not called like it
_KEPT = ("test_retain", "retain")


def verdict(asked: dict, measured: list, changes: list, attacked: list, lost=(), left=(), known=()) -> dict:
    """Word, its parts (forgetting, trace, utility), rule (a line each), than (by which model), what, findings, limits,
    by "asked", "accuracy", "changes", "attacks", "lost", "left" of a report and the classes the reference knows."""
    rows = {(row["model"], row["part"]): row for row in measured}
    moved = {(row["model"], row["than"], row["part"]): row for row in changes}
    whole, there = asked["scenario"] == "class", ("reference", "forget") in rows
    unfit = _unfit(rows, moved, whole, known) if there else None
    judge = "reference" if there and not unfit else None
    tests = {(row["model"], row["attack"]): row for row in attacked}
    trace, without, trace_rule, sentences = _trace(tests, moved, judge, whole, rows["after", "forget"]["images"])
    lost, left = ([row for row in rows if row["than"] == (judge or "before")] for rows in (lost, left))
    hidden = [row for row in left if row.get("prepared")]
    utility, utility_rule = _utility(rows, moved, judge, any(row["surely"] for row in lost))
    sentences += [*_said_of_changes(changes), *said_of_classes(lost, left, PARTS)]
    forgetting, rule = _forgetting(asked, rows, moved, judge, len(left) > len(hidden)) if whole else (None, None)
    word = [forgetting or (f"{trace} {without}" if trace == "cannot be told" else trace)]
    word += [f"model {utility}"] * (utility in _LEFT) + ["what is kept cannot be told"] * (utility == "cannot be told")
    if forgetting == "forgotten":
        word[1:1] = ["perhaps hidden"] * bool(hidden)
        word += {"none found": [], "trace": ["with a trace"]}.get(trace, [f"a trace {trace} {without}"])
    gains = [moved[key] for part in _KEPT if (key := ("after", "before", part)) in moved][:1]
    hints = {
        "More epochs (recipe.epochs), a larger learning rate (recipe.lr) or another method may forget more; choose on"
        " images outside the test.": forgetting in ("partly", "not forgotten"),
        "Fewer epochs (recipe.epochs), a smaller learning rate (recipe.lr) or more retain images may keep more; choose"
        " on images outside the test.": utility in _LEFT,
        "More than before is named right of what is retained: the model was trained too little, or on images of another"
        " size, part, colour or normalisation.": any(one["low"] > 0 and one["points"] >= FEW for one in gains),
    }
    return {
        "word": ", ".join(word),
        "parts": {"forgetting": forgetting, "trace": trace, "utility": utility},
        "rule": "\n".join(filter(None, (rule, trace_rule, utility_rule))),
        "than": judge or "before",
        "what": ", ".join(asked["names"]) or f"{asked['images']} single images",
        "findings": [_first(rows, hidden), *sentences, *[one for one in hints if hints[one]]],
        "limits": _limits(whole, judge, unfit, asked["data"], rows, moved),
    }


def limit(base: float, chance: float, left: str) -> float:
    """Percent below which a model is ruined, damaged or (else) worse, by what ``base`` has above chance, or has."""
    chance = chance if base > chance else 0.0
    return chance + _LEFT.get(left, 1.0) * (base - chance)


def _unfit(rows, moved, whole, known):
    """Why a reference is not taken as a measure, or None."""
    if whole and (known or rows["reference", "forget"]["low"] > FEW):
        return f"names images of {', '.join(known) or 'the class'} right, which a model that never saw them does not"
    return (worse := _worse(rows, moved, "ruined")) and f"names the {worse} far worse than the model before"


def _worse(rows, moved, grade):
    """What is retained and so much worse named by the reference than by the model before, or None."""
    for part in _KEPT:
        if (row := rows.get(("reference", part))) and moved["before", "reference", part]["low"] > 0:
            if row["percent"] < limit(rows["before", part]["percent"], row["chance"], grade):
                return PARTS[part]
    return None


def _forgetting(asked, rows, moved, judge, left):
    before, after = rows["before", "forget"], rows["after", "forget"]
    chance = max(FEW, 100 / len(asked["data"]["classes"]))
    if judge:
        gap = moved["after", judge, "forget"]
        done = gap["points"] <= 0 or gap["high"] <= FEW or (gap["low"] <= 0 and gap["points"] <= FEW)
        told, over = done or gap["low"] > 0, "points more"
        means = (
            "of the forgotten training images no more are named right than by the retrained reference, or at most"
            f" {FEW:g} points more, by the upper end of the interval or where the interval leaves room for none"
        )
    else:
        done, told, over = after["high"] <= FEW or after["percent"] == 0, True, "%"
        means = f"at most {FEW:g} % of the forgotten training images (upper end of 95 %), or none, are named right"
    rule = (
        f"Forgotten = {means}, and of no single class surely over {FEW:g} {over} of these or of its test images"
        " (perhaps hidden = in another preparation); partly = fewer than before by both intervals, or such a class;"
        f" what was surely named right by no more than {chance:.3g} % before cannot be said to be forgotten."
    )
    if before["low"] <= chance:
        return "cannot be told, the class was not surely known before", rule
    word = "partly" if after["high"] < before["low"] else "not forgotten"
    word = "forgotten" if done else word if told else f"cannot be told with {after['images']} forgotten images"
    return "partly" if left and (done or not told) else word, rule


def _trace(attacks, moved, judge, whole, count):
    """(trace, no trace, none found or cannot be told; with which unseen images; rule; sentences), of ``count``."""
    tests = [_attack(attacks, name, judge) for model, name in attacks if model == "after"]
    without = f"with {tests[0]['others']} unseen images" if tests else "without unseen images"
    missed = count - sum(test["members"] for test in tests[:1])
    of = shorten(", ".join(tests[0]["without_unseen"] if tests else ["their kind"]), 100, placeholder=" ...")
    said = f"No attack looked at {missed:,} of the {count:,} forgotten images: there are no unseen ones of {of}."
    sentences = [said] * (missed > 0)
    tests += [_accuracy(moved, judge)] if judge and not whole else []
    goal = "the reference's value" if judge else "0.5"
    rule = (
        f"A trace = an interval of an attack's AUC{' or of the accuracy' if judge and not whole else ''} leaves {goal}"
        " out, above or below (5 % false alarms for all of them together); if attacks look at all forgotten images, "
    )
    shown = max(tests, key=lambda test: abs(test["before"]) / test["reach"], default=None)
    if whole:
        rule += f"none found = no trace, though each test would find an AUC {_MARK:g} off with 80 % power."
        clear = bool(tests) and all((test["detectable"] or 9) <= test["goal"] + _MARK for test in tests)
    else:
        also = f", and the accuracy at most {NEAR['forget']:g} points off" if judge else ""
        rule += f"no trace = the interval of what sees the model before best is less than half as far off{also}."
        near = bool(tests) and (not judge or abs(tests[-1]["at"]) <= NEAR["forget"])
        clear = near and max(-shown["low"], shown["high"]) < abs(shown["before"]) / 2
    state = "cannot be told" if missed > 0 or not clear else "none found" if whole else "no trace"
    without = "without unseen images" + " of each class" * (missed < count) if clear and missed > 0 else without
    if marks := [test for test in tests if not test["low"] <= 0 <= test["high"]]:
        state, shown = "trace", max(marks, key=lambda test: abs(test["at"]) / test["reach"])
    if shown:
        sentences.append(shown["said"].format("can still" if marks else "cannot" + " surely" * ("told" in state)))
        sentences += [shown["other_way"]] if marks and shown["at"] < 0 and "other_way" in shown else []
        sentences += [_power(shown if "detectable" in shown else tests[0], without)] if not (marks or clear) else []
    return state, without, rule, sentences


def _attack(attacks, name, judge):
    """One attack on the model after, as distances from a coin, or from what it sees in the reference."""
    after, before = attacks["after", name], attacks["before", name]
    goal = attacks[judge, name] if judge else after | dict.fromkeys(("auc", "low", "high"), 0.5)  # of a coin
    at = after["auc"] - goal["auc"]
    # Newcombe's square-and-add; both see the same images, so that it is rather too wide.
    low = at - math.hypot(after["auc"] - after["low"], goal["high"] - goal["auc"])
    high = at + math.hypot(after["high"] - after["auc"], goal["auc"] - goal["low"])
    auc = "auc", ".3f", ""
    gap = f"a difference of {at:+.3f} ({low:+.3f} to {high:+.3f})"
    against = f"the retrained reference gives AUC {_ends(goal, *auc)}, {gap}" if judge else "0.5 is a coin"
    said = (
        f"An attacker who sees the {name} of each image {{}} tell forgotten images from unseen ones of the same"
        f" classes: AUC {_ends(after, *auc)}, {before['auc']:.3f} before; {against}."
    )
    other_way = "Below that the forgotten images stand out the other way: they look less like training images."
    more = {"goal": goal["auc"], "detectable": goal["detectable"], "seen": f"{before['auc']:.3f} by the {name}"}
    return {**after, **_test(at, low, high, before["auc"] - goal["auc"], said), "other_way": other_way, **more}


def _accuracy(moved, judge):
    """The forgotten images that are named right, as a distance in points from the reference's."""
    row, before = moved["after", judge, "forget"], moved["before", judge, "forget"]
    at, low, high = (row[key] for key in ("points", "low", "high"))
    said = (
        "By what is named right of the forgotten images the model {} be told from the retrained reference:"
        f" {at:+.1f} points ({low:+.1f} to {high:+.1f}), {before['points']:+.1f} before."
    )
    return _test(at, low, high, before["points"], said)


def _test(at, low, high, before, said):
    """A distance with its interval, that of the model before, and a sentence."""
    return {"at": at, "low": low, "high": high, "reach": max(at - low, high - at), "before": before, "said": said}


def _power(attack, without):
    if "detectable" not in attack:
        return f"Whether a trace is left cannot be told {without}: the forgotten images are too few."
    finds = f"an AUC of {attack['detectable']:.3f} or more" if attack["detectable"] else "not even an AUC of 1"
    return (
        f"So whether a trace is left cannot be told {without}: a test of this size finds {finds} with 80 % power at its"
        f" level (5 % for all tests together); in the model before it was {attack['seen']}."
    )


def _utility(rows, moved, judge, lost):
    base, grades, parts, few = judge or "before", ["damaged"] * lost, [], ""
    for part in (part for part in _KEPT if ("after", part) in rows):
        after, goal = rows["after", part], rows[base, part]["percent"]
        if goal <= after["chance"]:  # as of rare classes that were given more weight
            few = ", or has at all where one class for all names as many"
        limits = {name: limit(goal, after["chance"], name) for name in _LEFT}
        limits["damaged"] = max(limits["damaged"], goal - NEAR["retain"] if judge and part == "test_retain" else 0)
        below = next((name for name in _LEFT if after["percent"] < limits[name]), "kept")
        grades.append(below if below == "kept" or moved["after", base, part]["high"] < 0 else "cannot be told")
        parts.append(f"{PARTS[part]} {limits['ruined']:.1f} and {limits['damaged']:.1f} %")
    nearer = f", on test images at most {NEAR['retain']:g} points below it" if judge else ""
    rule = (
        "Model ruined, model damaged = fewer are named right than half and 95 % of what the"
        f" {'retrained reference' if judge else 'model before'} has above always naming one class{few}{nearer}"
        f" ({'; '.join(parts)}), and by the interval of the change, or a single class surely to less than half;"
        " cannot be told = fewer, but not by the interval."
    )
    return next((name for name in (*_LEFT, "cannot be told", "kept") if name in grades), "not measured"), rule


def _first(rows, hidden):
    said, but = [], [f"but {row['right']} of {row['images']} {row['prepared']}" for row in hidden]
    names = {"before": "before", "after": "after", "reference": "by the retrained reference"}
    for part in ("forget", *[part for part in _KEPT if ("after", part) in rows][:1]):
        compared = [f"{_ends(rows[model, part])} {name}" for model, name in names.items() if (model, part) in rows]
        said.append(f"{PARTS[part]} named right: {', '.join(compared + but[: part == 'forget'])}")
    return f"F{'; '.join(said)[1:]}" + ("." if ("reference", "forget") in rows else "; no reference was given.")


def _said_of_changes(changes):
    return [
        f"{PARTS[row['part']].capitalize()}: {row['points']:+.1f} points of accuracy ({row['low']:+.1f} to"
        f" {row['high']:+.1f}) from the {'model before' if row['than'] == 'before' else 'retrained reference'}."
        for row in changes
        if row["model"] == "after" and row["part"] in _KEPT
    ]


def _limits(whole, judge, unfit, data, rows, moved):
    worse = _worse(rows, moved, "kept")  # at all, by the interval
    limits = {
        "This is evidence, not a proof of deletion: a short training changed the weights, and what remains in them is"
        " seen only as far as these numbers see.": True,
        "A stronger attack may see more: one with shadow models (not run here), with access to the weights, or one that"
        " trains the model on for some steps.": True,
        "Without a retrained model nothing says how near the result is to never having seen the forgotten images; that"
        " they are harder or easier than unseen ones passes for memory.": not (judge or unfit),
        f"{DOUBTED}{unfit}, and is not taken as a measure.": bool(unfit),
        "What is kept was measured on training images alone, some of which the method may have been trained on: nothing"
        " is known of unseen ones.": ("after", "test_retain") not in rows,
        "The reference is one model: another retraining would differ from it as well.": bool(judge),
        f"{DOUBTED}names the {worse} worse than the model before, by the interval, so it may be trained less well and"
        " measure less; train it longer (training.epochs), or give one of your own (reference).": judge and worse,
        f"Only {data['training_images']:,} of {data['trained_on'] or 0:,} training images were given: what the model"
        " lost on the others was neither repaired nor measured, and no metric on retained training images speaks for"
        " them beyond its interval.": data["retain_is_sample"],
        "Single images and sub-classes share labels with what stays: naming them right is no sign of memory, naming"
        " them wrong no sign of deletion.": not whole and not judge,
    }
    return [limit for limit, holds in limits.items() if holds]


def _ends(row, key="percent", form=".1f", unit=" %"):
    return f"{row[key]:{form}}{unit} ({row['low']:{form}} to {row['high']:{form}})"
