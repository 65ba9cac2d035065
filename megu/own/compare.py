"""Every method on a user's own request, side by side, and which of them to take."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from megu.core.parallel import as_before
from megu.figures.deletion import PARTS as MEASURED
from megu.methods import METHODS
from megu.own import report
from megu.own.guide_choice import transition
from megu.own.request import WHAT, CheckedRequest, Request
from megu.own.tuning import PARTS, check_answers
from megu.own.unlearn import OUT, carry_out, dependencies, retrained
from megu.own.verdict import DOUBTED, LEVEL
from megu.runs.executors import check_sent, executor
from megu.runs.runner import Job, run_jobs
from megu.runs.store import RunDirectory
from megu.settings.errors import SettingsError, WorkError
from megu.settings.files import alone, atomic
from megu.settings.known import check_method, check_shared
from megu.settings.place import place
from megu.settings.request_file import arguments_of
from megu.settings.values import nest

ALIKE = 0.02  # scores that differ by less are not told apart
_METRICS = {part: f"acc_{part.removeprefix('test_')}_{'test' if 'test' in part else 'train'}" for part in MEASURED}
_AXES = ["forget", "retain"]  # of the picture, where their goals are known
_OVERHEAD = ("reading", "retraining", "evaluation")  # seconds that are no method's


@dataclass(frozen=True)
class Comparison:
    """What `compare` returns.

    Attributes:
        recommended: name of the method to take, and ``reasons`` for it.
        table: tidy: method (original and reference among them), metric, value, low, high, goal, images; percent, and
            shares for AUC and score.
        failed: method -> why it gave no model.
        folder: ``comparison.html``, ``comparison.csv``, and a folder of each method as `megu.unlearn` writes it.
    """

    recommended: str
    reasons: list[str]
    table: pd.DataFrame = field(repr=False)
    failed: dict[str, str]
    folder: Path = field(repr=False)


@as_before()
def compare(
    model=None, data=None, forget=None, *, config=None, out=None, methods=None, workers=1, **options
) -> Comparison:
    """Make copies of a classifier forget by every method that fits the request, and recommend one.

    The choice is made on training images (`megu.own.tuning.Trial`), so that test images stay what they are: unseen.

    Args:
        model, data, forget, options: see `megu.own.request.Request`; ``settings`` of guide, training and device only.
            A reference that is made here (``retrain``) is made once, for all methods.
        config: a TOML or YAML file of them, see `megu.settings.request_file`; what is given here wins.
        out: folder, where an interrupted call goes on.
        methods: names in `megu.methods.METHODS`; None: all that fit.
        workers: processes, see `megu.runs.executors.executor`; several need a model and data that can be sent to them,
            e.g. files.
    Raises: SettingsError before any work; WorkError where no method gave a model.
    """
    if "method" in options:
        raise SettingsError(f"method is {options['method']!r}: name what to compare by methods")
    given = arguments_of(config, model=model, data=data, forget=forget, out=out, method=methods, **options)
    out, methods = given.pop("out", None), given.pop("method", None)
    if (out := place(out, given, comparison=True)) is None:
        raise SettingsError("out is None: say which folder the models and tables go to")
    request, methods = _request(given, methods)
    if type(workers) is not int or workers < 1:
        raise SettingsError(f"workers is {str(workers)[:50]!r}: give how many processes, at least 1")
    if workers > 1:
        check_sent(request)
    return carry_out_all(request, out, methods, executor(workers))


def _request(given, methods):
    """(The request for all methods, their names or None)."""
    methods = [methods] if isinstance(methods, str) else methods
    for name in methods or ():
        check_method(name, {one: entry.reference for one, entry in METHODS.items()})
    check_shared(given.get("settings"))
    return Request.of({**given, "method": next(iter(methods or ("finetune",)))}), methods


def check_methods(given: dict, methods: Sequence[str] | None = None) -> tuple[CheckedRequest, list[str]]:
    """(The request of the first method, names of all) of arguments.  Raises: SettingsError where one does not fit."""
    return _fitting(*_request(given, methods))


def carry_out_all(request: Request, out: Path, methods: Sequence[str] | None, how: Callable) -> Comparison:
    """The work of `compare`; ``how``: see `megu.runs.executors.executor`."""
    checked, names = _fitting(request, methods)
    needs = dependencies(checked).items()
    about = {name: value for name, value in needs if name not in ("parameters", "guide")}  # those are of one method
    with alone(out, called := OUT.format(out.name)):
        store = RunDirectory(out, about, [request.seed], called=called)
        check_answers(checked, store, called)
        failed = run_jobs(_jobs(request, names, store), how, "comparison")
        facts = {name: report.read(out / name) for name in names if name not in failed}
        asked = store.manifest["notes"].get("guide", {"seconds": {}})["seconds"]
        for name in facts:  # asked once for all; each found its answers there
            facts[name]["done"]["seconds"] |= asked if METHODS[name].guided else {}
        why = {name: str(failed[name]) for name in names if name in failed}
        if not facts:
            raise WorkError("no method gave a model: " + "; ".join(f"{name}: {said}" for name, said in why.items()))
        table, (best, reasons) = tidy(facts), recommend(facts)
        with atomic(out / "comparison.csv", locked=True) as part:
            table.to_csv(part, index=False)
        with atomic(out / "comparison.html", locked=True) as part:
            part.write_text(_page(facts, table, best, reasons, why), encoding="utf-8")
    return Comparison(best, reasons, table, why, out)


def _fitting(request, methods):
    checked = CheckedRequest(request)
    scenario = checked.settings.forget.scenario
    fits = [name for name, about in METHODS.items() if scenario in about.scenarios and not about.reference]
    if unfit := [name for name in methods or () if name not in fits]:
        what = f"method {unfit[0]!r} does not fit, as {WHAT[scenario]} are asked for"
        raise SettingsError(f"{what}: choose from {', '.join(fits)}")
    return checked, list(dict.fromkeys(methods or fits))


def _jobs(request, names, store):
    settings = nest({"guide.answers": str(store.path / "answers.jsonl"), **(request.settings or {})})
    others = {part: value for part, value in settings.items() if part != "guide"}  # of methods that ask none
    request, guided = replace(request, settings=settings), [name for name in names if METHODS[name].guided]
    jobs = [Job("guide", _ask, (replace(request, method=guided[0]), store))] if guided else []
    own = [replace(request, method=name, settings=settings if name in guided else others) for name in names]
    jobs += [Job("reference", _retrain, (own[0], store))] if request.retrain else []
    for name, of_method in zip(names, own, strict=True):
        needs = ("guide",) * (name in guided) + ("reference",) * request.retrain
        jobs.append(Job(name, _unlearn, (of_method, store), needs))
    return jobs


def _ask(request, store):
    transition(CheckedRequest(request), store)  # once: its answers are kept


def _retrain(request, store):
    retrained(CheckedRequest(request), store)


def _unlearn(request, store):
    checked = CheckedRequest(request)
    checked.request = replace(checked.request, retrain=False)
    if request.retrain:  # made by the job before
        checked.reference = retrained(checked, store)
    carry_out(checked, place(store.path / request.method, {}))


def tidy(facts: dict[str, dict]) -> pd.DataFrame:
    """The table of a `Comparison` from the deletion report of each method."""
    rows = []

    def add(name, metric, value, **more):
        if value is not None:
            rows.append({"method": name, "metric": metric, "value": value, **more})

    for name, one in facts.items():
        called = {"after": name} | ({"before": "original", "reference": "reference"} if not rows else {})
        for row in one["accuracy"]:
            if row["model"] in called:
                more = {key: row[key] for key in ("low", "high", "images")} | {"interval": 95.0}
                add(called[row["model"]], _METRICS[row["part"]], row["percent"], **more)
        for row in one["attacks"]:
            if row["model"] in called:
                more = {"low": row["low"], "high": row["high"], "images": row["members"]}
                more["interval"] = round(100 * (1 - LEVEL), 1)
                add(called[row["model"]], f"mia_{row['attack']}_auc", row["auc"], **more)
        for part, row in one["done"]["check"]["parts"].items():
            add(name, f"check_{part}", row["after"], goal=row["goal"], images=row["images"])
        add(name, "score", one["done"]["check"]["score"], goal=1.0)
        add(name, "seconds", _seconds(one))
    columns = "method metric value low high interval goal images".split()
    return pd.DataFrame(rows, columns=columns).astype({"images": "Int64"})


def _seconds(one):
    return round(sum(value for part, value in one["done"]["seconds"].items() if part not in _OVERHEAD), 3)


def recommend(facts: dict[str, dict]) -> tuple[str, list[str]]:
    """(Method to take, why): of those in which `report.faults` finds none, or of all where there is none, the fastest
    of the ones whose score is within `ALIKE` of the best."""
    checks = {name: one["done"]["check"] for name, one in facts.items()}
    passed = [name for name in facts if not report.faults(facts[name])]
    among = passed or list(facts)
    most = max(checks[name]["score"] for name in among)
    alike = [name for name in among if checks[name]["score"] >= most - ALIKE]
    best = min(alike, key=lambda name: _seconds(facts[name]))
    parts, title = checks[best]["parts"], facts[best]["done"]["title"]
    there = {part: words for part, words in PARTS.items() if parts[part]["images"]}
    reasons = [f"{_accuracy(parts[part])} of the {words} are named right" for part, words in there.items()]
    reasons = [f"{title}: {'; '.join(reasons)}."]
    if others := ", ".join(facts[name]["done"]["title"] for name in alike if name != best):
        reasons.append(
            f"Its score, {checks[best]['score']:.3f} of 1, is not told apart from that of {others} (within {ALIKE} of"
            f" the best); it is the fastest of them, {_seconds(facts[best]):.1f} s."
        )
    else:
        of = f", the largest of the {len(among)} in question by more than {ALIKE}" if len(among) > 1 else ""
        reasons.append(f"Its score is {checks[best]['score']:.3f} of 1{of}.")
    if passed:
        near = f"come within {report.NEAR:g} points and two standard errors of every goal, and lose no single class"
        reasons.append(f"{len(passed)} of {len(facts)} methods {near}.")
    else:
        said = "; ".join(report.faults(facts[best]))
        reasons.append(f"No method comes near enough to its goals.  Of this one: {said}.  A search may help: tune.")
    doubts = [one for one in facts[best]["verdict"]["limits"] if one.startswith(DOUBTED)]
    reasons += [*doubts, "The choice was made on training images; the numbers on test images had no part in it."]
    reasons.append(f"Its report, which looks at these, too, says: {facts[best]['verdict']['word']}.")
    return best, reasons


def _accuracy(row):
    goal = "goal not known" if row["goal"] is None else f"goal {row['goal']:.1f}"
    return f"{row['after']:.1f} % ({goal}; before {row['before']:.1f})"


def front(table: pd.DataFrame) -> list[bool]:
    """Of each row whether no other is smaller in one column and not larger in the rest."""
    values = table.to_numpy(float)
    return [not ((values <= row).all(1) & (values < row).any(1)).any() for row in values]


def _page(facts, table, best, reasons, failed):
    away = []
    for name, one in facts.items():
        parts = [one["done"]["check"]["parts"][part] for part in ("forget", "held_out")]
        if all(row["images"] and row["goal"] is not None for row in parts):
            points = {key: abs(row["after"] - row["goal"]) for key, row in zip(_AXES, parts, strict=True)}
            away.append({"title": one["done"]["title"], **points, "recommended": name == best})
    for row, first in zip(away, front(pd.DataFrame(away, columns=_AXES)), strict=True):
        row["front"] = first
    wide = {name: rows.set_index("metric").to_dict("index") for name, rows in table.groupby("method", sort=False)}
    order = sorted(facts, key=lambda name: (name != best, -facts[name]["done"]["check"]["score"]))
    more = {"order": order, "wide": wide, "reasons": reasons, "failed": failed, "points": away, "best": best}
    more["said"] = {name: report.faults(one) for name, one in facts.items()}
    return report.render("comparison", facts=facts, titles=METHODS, **more)
