r"""The verdict of a deletion report: one word, the rule that it follows from, and findings and limits in sentences."""

import math

from megu.figures.deletion import PARTS
from megu.own.findings import change

FEW = 5.0  # percent of the forgotten training images: the most that a model which forgot a class may still name right


def verdict(forget, models, images, sample, measured, attacked):
    r"""The report in plain words.

    A whole class is *forgotten* where the upper end of the 95 % interval of the forgotten training images named right
    is at most 5 %, or at most the retrained reference's upper end where that is higher because the images are few, or
    where none is named right; *partly* where it lies below the lower end of before; else *not forgotten*.  A reference
    that is shown to name more than 5 % right knows the class and sets no limit.  A forgotten class has a *trace* where
    an attack succeeds (`attack_succeeds`).  Single images and sub-classes are judged by the attacks alone.

    Args:
        forget: `megu.own.forget_set.ForgetSet`.  models: `megu.own.findings.Models`.  images: as measured.
        sample: (images given, images trained on) where the retain images are a sample, else None.
        measured, attacked: of `megu.own.findings.accuracies` and `attack_curves`.
    Returns: dictionary: word (of a class: forgotten, "forgotten, with a trace", partly, not forgotten; else: no trace,
        trace, or not told where no attack could be made), rule, what, and findings and limits, lists of sentences.
    """
    rows = {(row["model"], row["part"]): row for row in measured}
    before, after, reference = (rows.get((model, "forget")) for model in ("before", "after", "reference"))
    whole = forget.scenario == "class"
    compared = "; no retrained reference was given."
    if reference:
        compared = f", {_percent(reference)} by the retrained reference."
    findings = [
        f"{PARTS['forget'].capitalize()} named right: {_percent(before)} before, {_percent(after)} after{compared}"
    ]
    success, sentences = attack_succeeds(attacked)
    findings += sentences
    for part in ("test_retain", "retain"):
        moved = change(models, images, part)
        if moved:
            findings.append(f"{PARTS[part].capitalize()}: {moved[0]:+.1f} ± {moved[1]:.1f} points of accuracy.")
    word, rule = _of_class(before, after, reference, success) if whole else _of_images(success)
    if word in ("partly", "not forgotten"):
        findings.append(
            "More epochs (recipe.epochs), a larger learning rate (recipe.lr) or another method may forget more; choose"
            " on images outside the test."
        )
    what = ", ".join(forget.names) or f"{before['images']} single images"
    limits = _limits(whole, "reference" in models.outputs, reference, sample)
    return {"word": word, "rule": rule, "what": what, "findings": findings, "limits": limits}


def _limits(whole, compared, reference, sample):
    """What the numbers do not say."""
    limits = [
        "This is evidence, not a proof of deletion: a short training changed the weights, and what remains in them is"
        " seen only as far as these numbers see.",
        "A stronger attack may see more: one with shadow models (not run here), with access to the weights, or one that"
        " trains the model on for some steps.",
    ]
    if not compared:
        limits.append(
            "Without a model retrained on the retained images alone, nothing says how near the result is to never"
            " having seen the forgotten ones."
        )
    elif whole and reference["low"] > FEW:
        limits.append(
            "The retrained reference names images of the class right, which a model that never saw it does not: it is"
            " not taken as a measure."
        )
    if sample:
        limits.append(
            f"Only {sample[0]:,} of {sample[1]:,} training images were given: what the model lost on the others was"
            " neither repaired nor measured, and no metric on retained training images speaks for them beyond its"
            " interval."
        )
    if not whole:
        limits.append(
            "Single images and sub-classes share labels with what stays: naming them right is no sign of memory, naming"
            " them wrong no sign of deletion."
        )
    return limits


def attack_succeeds(attacked):
    r"""Whether an attack tells forgotten images from unseen ones of the same classes.

    It does where the 95 % interval of its AUC leaves 0.5 out and, where there is a retrained reference, the difference
    of the two AUCs exceeds $\sqrt{h_1^2 + h_2^2}$ of their half-widths: a model that never saw the images may be told
    as well, because they are harder or easier than the unseen ones.

    Args:
        attacked: what `megu.own.findings.attack_curves` gave.
    Returns: (bool, or None without attacks; list of sentences about the strongest attack).
    """
    references = {row["attack"]: row for row in attacked if row["model"] == "reference"}
    rows = [row for row in attacked if row["model"] == "after"]
    if not rows:
        return None, ["No attack was measured: there are no unseen images of the same classes."]
    success = [_apart(row) and _differs(row, references.get(row["attack"])) for row in rows]
    i = max(range(len(rows)), key=lambda i: (success[i], abs(rows[i]["auc"] - 0.5), i))
    row, apart, reference = rows[i], _apart(rows[i]), references.get(rows[i]["attack"])
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
        differs = "differs" if success[i] else "cannot be told from it"
        sentences.append(f"The retrained reference gives {_auc(reference)}, which {differs}.")
    return success[i], sentences


def _apart(row):
    """Whether an AUC's interval leaves 0.5 out."""
    return not row["low"] <= 0.5 <= row["high"]


def _differs(row, reference):
    """Whether an AUC lies beyond the reference's."""
    if reference is None:
        return True
    reach = [(one["high"] - one["low"]) / 2 for one in (row, reference)]
    return abs(row["auc"] - reference["auc"]) > math.hypot(*reach)


def _of_class(before, after, reference, success):
    """Word and rule where a whole class goes."""
    limit = max(FEW, reference["high"] if reference and reference["low"] <= FEW else 0)
    word = "partly" if after["high"] < before["low"] else "not forgotten"
    if after["high"] <= limit or after["percent"] == 0:
        word = "forgotten, with a trace" if success else "forgotten"
    whose = ", which is the retrained reference's" if limit > FEW else ""
    rule = (
        f"forgotten = at most {limit:.3g} % of the forgotten training images are named right by the upper end of the 95"
        f" % interval{whose}, or none at all;"
        " partly = fewer than before by both intervals; a trace = an attack's 95 % interval leaves 0.5 out"
        f"{', and its AUC differs from the reference' if reference else ''}"
        f"{'; no attack was measured' if success is None else ''}."
    )
    return word, rule


def _of_images(success):
    """Word and rule where single images or sub-classes go: their labels stay, so that naming them right says
    nothing."""
    rule = (
        "trace = an attack's 95 % interval leaves 0.5 out, and its AUC differs from the reference's where there is one;"
        " accuracy does not enter."
    )
    return "not told" if success is None else "trace" if success else "no trace", rule


def _auc(row):
    return f"AUC {row['auc']:.3f} (95 % interval {row['low']:.3f} to {row['high']:.3f})"


def _percent(row):
    return f"{row['percent']:.1f} % ({row['low']:.1f} to {row['high']:.1f})"
