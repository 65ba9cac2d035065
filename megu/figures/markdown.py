r"""Numbers, tables and generated spans of a document in Markdown."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import pandas as pd

from megu.settings.known import method_names

SPAN = re.compile(r"<!-- begin ([\w-]+) -->(\n?)(.*?)<!-- end \1 -->", re.S)


def number(value: float, half_width: float | None = None, digits: int = 1, sign: str = "", missing: str = "-") -> str:
    r"""A number, ``digits`` decimals, with its interval; ``sign``: ``"+"`` for a difference; ``missing``: for NaN.

    >>> number(1.25, 0.5, 2, "+"), number(float("nan"))
    ('+1.25 ± 0.50', '-')
    """
    if pd.isna(value):
        return missing
    text = f"{value:{sign}.{digits}f}"
    return text if pd.isna(half_width) else f"{text} ± {half_width:.{digits}f}"


def contenders(order: Iterable[str]) -> list[str]:
    r"""The methods of unlearning among names: no `original`, `retrain` or `retrain-head`, which the registry calls
    references, and no "megu, pos noise", a method with another noise."""
    reference = method_names()
    return [name for name in order if not reference.get(name) and ", " not in name]


def place(order: Iterable[str]) -> str:
    r"""Where MeGU stands in an order of methods, references not counted.

    >>> place(["original", "retrain", "finetune", "megu", "megu, pos noise"])
    'number 2 of 2'
    """
    names = contenders(order)
    return f"number {names.index('megu') + 1} of {len(names)}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""A Markdown table.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    first, *lines = (f"| {' | '.join(row)} |" for row in (head, *rows))
    return "\n".join([first, "|---" * len(head) + "|", *lines])


def interval(seeds: Sequence[int], what: str, over: str = "seeds") -> str:
    r"""What the numbers of a table are."""
    if len(seeds) > 1:
        return f"{what} ± half-width of the 95 % t-interval over the {over}"
    return f"{what}, of one seed and so without interval"


def fill(text: str, spans: Mapping[str, Callable[[], str]]) -> str:
    r"""A document with its spans ``<!-- begin NAME -->...<!-- end NAME -->`` made anew by the function of that name; a
    first mark at the end of its line opens a block.

    Raises: ValueError where a span has no function, a function no span, or a mark no partner.

    >>> fill("It is <!-- begin x -->old<!-- end x -->.", {"x": lambda: "new"})
    'It is <!-- begin x -->new<!-- end x -->.'
    """
    names = {match[1] for match in SPAN.finditer(text)}
    if marks := set(re.findall(r"<!-- (?:begin|end) ([\w-]+) -->", SPAN.sub("", text))):
        raise ValueError(f"the span {min(marks)!r} needs both of its marks")
    if unknown := names - set(spans):
        raise ValueError(f"no function makes the span {min(unknown)!r}: choose one of {', '.join(sorted(spans))}")
    if missing := set(spans) - names:
        raise ValueError(f"the document has no span {min(missing)!r}: write its marks")

    def made(match):
        (name, end), content = match.group(1, 2), spans[match[1]]().strip("\n")
        return f"<!-- begin {name} -->{end}{content}{end}<!-- end {name} -->"

    return SPAN.sub(made, text)
