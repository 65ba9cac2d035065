"""The verdict of a deletion report: one word, the rule that it follows from, findings and limits."""

import math

from megu.figures.deletion import PARTS

_FEW = 5.0  # percent of a class that a model which forgot it may name right


def verdict(asked, measured, changes, attacked):
    """Word, its rule, what, and findings and limits in sentences.

    A reference whose interval lies above 5 % knows the class and sets no limit.  Attacks alone judge single images and
    sub-classes, whose labels stay.

    Args:
        asked, measured, attacked: "asked", "accuracy" and "attacks" of the report.
        changes: part -> `megu.own.findings.change`.
    """
    rows = {row["model"]: row for row in measured if row["part"] == "forget"}
    before, after, reference = (rows.get(model) for model in ("before", "after", "reference"))
    whole, (success, sentences) = asked["scenario"] == "class", attack_succeeds(attacked)
    compared = "; no retrained reference was given"
    if reference:
        compared = f", {_percent(reference)} by the retrained reference"
    findings = [
        f"{PARTS['forget'].capitalize()} named right: {_percent(before)} before, {_percent(after)} after{compared}.",
        *sentences,
    ]
    for part, (by, reach) in changes.items():
        findings.append(f"{PARTS[part].capitalize()}: {by:+.1f} ± {reach:.1f} points of accuracy.")
    if whole:
        word, rule = _of_class(before, after, reference, success)
    else:
        word = {None: "not told", True: "trace", False: "no trace"}[success]
        rule = (
            "trace = an attack's 95 % interval leaves 0.5 out, and its AUC differs from the reference's where there is"
            " one; accuracy does not enter."
        )
    if word in ("partly", "not forgotten"):
        findings.append(
            "More epochs (recipe.epochs), a larger learning rate (recipe.lr) or another method may forget more; choose"
            " on images outside the test."
        )
    what = ", ".join(asked["names"]) or f"{before['images']} single images"
    limits = _limits(whole, reference, asked["data"])
    return {"word": word, "rule": rule, "what": what, "findings": findings, "limits": limits}


def _of_class(before, after, reference, success):
    limit = max(_FEW, reference["high"] if reference and reference["low"] <= _FEW else 0)
    word = "partly" if after["high"] < before["low"] else "not forgotten"
    if after["high"] <= limit or after["percent"] == 0:
        word = "forgotten, with a trace" if success else "forgotten"
    whose = ", which is the retrained reference's" if limit > _FEW else ""
    rule = (
        f"forgotten = at most {limit:.3g} % of the forgotten training images are named right by the upper end of the 95"
        f" % interval{whose}, or none at all; partly = fewer than before by both intervals; a trace = an attack's 95 %"
        f" interval leaves 0.5 out{', and its AUC differs from the reference' if reference else ''}"
        f"{'; no attack was measured' if success is None else ''}."
    )
    return word, rule


def _limits(whole, reference, data):
    limits = {
        "This is evidence, not a proof of deletion: a short training changed the weights, and what remains in them is"
        " seen only as far as these numbers see.": True,
        "A stronger attack may see more: one with shadow models (not run here), with access to the weights, or one that"
        " trains the model on for some steps.": True,
        "Without a model retrained on the retained images alone, nothing says how near the result is to never having"
        " seen the forgotten ones.": not reference,
        "The retrained reference names images of the class right, which a model that never saw it does not: it is not"
        " taken as a measure.": whole and reference and reference["low"] > _FEW,
        f"Only {data['training_images']:,} of {data['trained_on'] or 0:,} training images were given: what the model"
        " lost on the others was neither repaired nor measured, and no metric on retained training images speaks for"
        " them beyond its interval.": data["retain_is_sample"],
        "Single images and sub-classes share labels with what stays: naming them right is no sign of memory, naming"
        " them wrong no sign of deletion.": not whole,
    }
    return [sentence for sentence, holds in limits.items() if holds]


def attack_succeeds(attacked):
    r"""Whether an attack tells forgotten images from unseen ones: (bool, or None without attacks; list of sentences).

    It does where the 95 % interval of its AUC leaves 0.5 out and a reference's AUC differs by more than
    $\sqrt{h_1^2 + h_2^2}$ of the half-widths: the images may be harder or easier than the unseen ones.
    """
    references = {row["attack"]: row for row in attacked if row["model"] == "reference"}
    judged = []
    for at, row in enumerate(row for row in attacked if row["model"] == "after"):
        apart, reference = not row["low"] <= 0.5 <= row["high"], references.get(row["attack"])
        succeeds = apart and (reference is None or _differ(row, reference))
        judged.append((succeeds, abs(row["auc"] - 0.5), at, row, apart, reference))
    if not judged:
        return None, ["No attack was measured: there are no unseen images of the same classes."]
    success, _, _, row, apart, reference = max(judged)
    sentences = [
        f"An attacker who sees the {row['attack']} of each image can{' still' if apart else 'not'} tell forgotten"
        f" images from unseen ones of the same classes: {_auc(row)}; 0.5 is a coin."
    ]
    if apart and row["auc"] < 0.5:
        sentences.append(
            "Below 0.5 the forgotten images stand out the other way: they look less like training images than unseen"
            " ones do."
        )
    if apart and reference:
        differs = "differs" if success else "cannot be told from it"
        sentences.append(f"The retrained reference gives {_auc(reference)}, which {differs}.")
    return success, sentences


def _differ(row, reference):
    reach = [(one["high"] - one["low"]) / 2 for one in (row, reference)]
    return abs(row["auc"] - reference["auc"]) > math.hypot(*reach)


def _auc(row):
    return f"AUC {row['auc']:.3f} (95 % interval {row['low']:.3f} to {row['high']:.3f})"


def _percent(row):
    return f"{row['percent']:.1f} % ({row['low']:.1f} to {row['high']:.1f})"
