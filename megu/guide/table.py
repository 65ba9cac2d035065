r"""Answers as a table, for other programs and from them: Parquet, CSV or JSON lines."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from megu.guide.book import Answer, Book
from megu.settings.errors import SettingsError
from megu.settings.files import atomic

NO_PARQUET = "Parquet needs pyarrow: `pip install 'megu[parquet]'`, or choose .csv or .jsonl"
_Hash = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
_Text = Annotated[str, Field(min_length=1)]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    question: _Hash
    image: _Hash
    label: _Text
    source: _Text
    version: _Text
    raw: FiniteFloat
    time: Annotated[str, Field(pattern=r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00)?$")] = ""
    data: str = ""
    scale: Annotated[str, Field(pattern="^(log-odds)?$")] = ""


def _kind(path):
    kind = Path(path).suffix
    if kind not in (".parquet", ".csv", ".jsonl"):
        raise SettingsError(
            f"{Path(path).name!r} is no .parquet, .csv or .jsonl: the name's ending says what is written or read"
        )
    return kind


def export_answers(book, path):
    r"""Write all answers of a book to ``path`` (.parquet, .csv, .jsonl), one row each with the columns of
    `megu.guide.book.Answer`.

    JSON lines are added to those that the file has, the others are written anew.  The columns are strings but for raw
    (float64); ``source`` names the model, ``version`` its revision or weights and the prompt's version.
    Raises: SettingsError for another ending, or where Parquet cannot be written.
    """
    kind, answers = _kind(path), list(book.answers.values())
    if kind == ".jsonl":
        return Book(path).add(answers)
    table = pd.DataFrame([asdict(answer) for answer in answers], columns=list(_Row.model_fields))
    try:
        with atomic(path) as part:
            table.to_csv(part, index=False) if kind == ".csv" else table.to_parquet(part, index=False)
    except ImportError:
        raise SettingsError(NO_PARQUET) from None


def _number(text):
    try:
        return float(text)
    except ValueError:
        return text  # which is then refused


def _rows(path, kind):
    try:
        if kind == ".csv":  # text as it is: "null" and "nan" may be names of classes
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
            return [{**row, "raw": _number(row.get("raw", ""))} for row in table.to_dict("records")]
        return pd.read_parquet(path).to_dict("records")
    except ImportError:
        raise SettingsError(NO_PARQUET) from None
    except (ValueError, OSError) as error:
        why = str(error).splitlines()[0].replace(str(path), "it")
        raise SettingsError(f"{Path(path).name!r} cannot be read: {why}") from None


def import_answers(path, book):
    r"""Put the answers of a table into a book; what the book holds already stands.

    Every row is checked; one whose values are not those of an `megu.guide.book.Answer` is left out.

    Returns: (answers put in, Counter of the rows that were left out by the reason).
    Raises: SettingsError where the file is not there or no such table.
    """
    kind, left_out = _kind(path), Counter()
    if not Path(path).is_file():
        raise SettingsError(f"{Path(path).name!r} does not exist")
    if kind == ".jsonl":
        other = Book(path)
        rows, left_out["damaged"] = map(asdict, other.answers.values()), other.damaged
    else:
        rows = _rows(path, kind)
    fresh = {}
    for row in rows:
        try:
            answer = Answer(**_Row.model_validate(row).model_dump())
        except (ValidationError, TypeError) as error:
            wrong = error.errors()[0]["loc"][0] if isinstance(error, ValidationError) else "columns"
            left_out[f"no answer ({wrong})"] += 1
            continue
        if answer.question in fresh or answer.question in book.answers:
            left_out["answered before"] += 1
        else:
            fresh[answer.question] = answer
    book.add(fresh.values())
    return len(fresh), +left_out
