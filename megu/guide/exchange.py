"""Answers from elsewhere: OpenAI batch files and their replies, tables of other programs."""

import json
from collections import Counter
from contextlib import suppress
from dataclasses import MISSING, fields
from itertools import groupby
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from tqdm import tqdm

from megu.guide.answers import Answer, AnswerStore, checksum
from megu.guide.base import Guide
from megu.guide.questions import Question
from megu.guide.reply import ReplyError, choices_of, log_odds, log_odds_of_texts, read
from megu.guide.served import ServedMllm
from megu.settings.errors import SettingsError
from megu.settings.files import atomic, ordinary

NO_PARQUET = "Parquet needs pyarrow: `pip install 'megu[parquet]'`, or choose .csv or .jsonl"
ROW = TypeAdapter(Answer)
COLUMNS, CHECK = tuple(one.name for one in fields(Answer)), "check"
NEEDED = tuple(one.name for one in fields(Answer) if one.default is MISSING)
GARBAGE = (ValueError, AttributeError, TypeError, LookupError)  # errors of a line that is no reply
REQUESTS, BYTES = 50_000, 200_000_000  # in one file, at most, for OpenAI


def _check_batches(guide):
    if not isinstance(guide, ServedMllm):
        raise SettingsError(f"guide.source={guide.source} sends no requests: a batch file needs --source served")


def write_batch(guide: Guide, questions: list[Question], path: Path, sampled: bool = False) -> list[Path]:
    """Write all questions as OpenAI batch files: ``path``, and beside it ``<stem>-2``... of what is too much for one.

    ``sampled``, for servers without log-probabilities: ``repeats`` replies to each question.
    Raises: SettingsError where the guide is not the served one.
    """
    _check_batches(guide)
    path, written, guide.sampling = Path(path), [], sampled
    fixed = {"method": "POST", "url": "/v1/chat/completions"}
    requests = (
        json.dumps({"custom_id": one.key(guide), **fixed, "body": guide.body(one)}).encode() + b"\n"
        for one in tqdm(questions, desc="requests", unit="request", leave=False)
    )
    number, count, size = 1, 0, 0

    def file_of(request):
        nonlocal number, count, size
        if count and (count == REQUESTS or size + len(request) > BYTES):
            number, count, size = number + 1, 0, 0
        count, size = count + 1, size + len(request)
        return path.with_stem(f"{path.stem}-{number}") if number > 1 else path

    for target, some in groupby(requests, key=file_of):
        with atomic(target) as part, open(part, "wb") as file:
            file.writelines(some)
        written.append(target)
    return written


def _put(store, found):
    # ``found``: (question, answer or None, why there is none)
    fresh, left_out = {}, Counter()
    for key, answer, why in found:
        if known := fresh.get(key) or store.answers.get(key):
            differs = answer is not None and answer.raw != known.raw
            left_out["another answer stands" if differs else "answered before"] += 1
        elif answer is None:
            left_out[why] += 1
        else:
            fresh[key] = answer
    store.add(fresh.values())
    return len(fresh), left_out


def _replies(guide, questions, path):
    pending = {}
    for guide.sampling in (True, False):  # so that answers of either kind have their own key
        pending |= {one.key(guide): one for one in questions}
    with open(ordinary(path), "rb") as file:
        for line in tqdm(filter(bytes.strip, file), desc="replies", unit="line", leave=False):
            key, answer, why = None, None, "no reply to any of the questions"
            with suppress(*GARBAGE):
                reply = json.loads(line)
                key, question = reply["custom_id"], pending[reply["custom_id"]]
                answer, why = _reply(guide, question, reply)
                key = answer.question if answer else key
            yield key, answer, why


def _reply(guide, question, reply):
    # (answer or None, why there is none)
    try:
        response = reply.get("response") or {"body": reply}  # what expired has an error of its own
        choices = choices_of(read(json.dumps(response["body"]), response.get("status_code", 200)))
        odds = log_odds(choices)
        guide.sampling = odds is None
        if guide.sampling:
            if len(choices) < (repeats := guide.settings.repeats):
                return None, f"without log-probabilities and with fewer than {repeats} replies"
            odds = log_odds_of_texts(choices)
        return Answer.of(guide, question, odds), ""
    except ReplyError as error:
        return None, str(error)


def read_batch(guide: Guide, questions: list[Question], path: Path, store: AnswerStore) -> tuple[int, Counter[str]]:
    """Put the replies of a batch into a store: (answers put in, lines left out by the reason).

    Without log-probabilities ``repeats`` replies are needed; the first answer to a question stands.
    Raises: as `write_batch`.
    """
    _check_batches(guide)
    return _put(store, _replies(guide, questions, path))


def _kind(path):
    if (kind := Path(path).suffix) not in (".parquet", ".csv", ".jsonl"):
        raise SettingsError(f"{Path(path).name!r} is no .parquet, .csv or .jsonl: choose one of these endings")
    return kind


def export_answers(store: AnswerStore, path: Path):
    """Write all answers of a store to a .parquet or .csv with the columns of `megu.guide.Answer` and their checksums,
    or add them to a .jsonl.  Raises: SettingsError for another ending, or where Parquet cannot be written."""
    if (kind := _kind(path)) == ".jsonl":
        return AnswerStore(path).add(store.answers.values())
    rows = [{**vars(answer), CHECK: checksum(vars(answer))} for answer in store.answers.values()]
    import pandas as pd  # noqa: PLC0415  (half a second, for few)

    table = pd.DataFrame(rows, columns=[*COLUMNS, CHECK])
    try:
        with atomic(path) as part:
            table.to_csv(part, index=False) if kind == ".csv" else table.to_parquet(part, index=False)
    except ImportError:
        raise SettingsError(NO_PARQUET) from None


def _table(path, kind):
    import pandas as pd  # noqa: PLC0415  (half a second, for few)

    ordinary(path)
    try:
        if kind == ".csv":  # "null" and "nan" may be names of classes
            table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        else:
            table = pd.read_parquet(path)
    except ImportError:
        raise SettingsError(NO_PARQUET) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path.name!r} is not in UTF-8: save it as such") from None
    except (ValueError, OSError) as error:
        why = str(error).splitlines()[0].replace(str(path), "it")
        raise SettingsError(f"{path.name!r} cannot be read: {why}") from None
    given = list(map(str, table.columns))
    wrong = [f"no column {name!r}" for name in NEEDED if name not in given]
    wrong += [f"a column {name!r} that no answer has" for name in given if name not in (*COLUMNS, CHECK)]
    if wrong:
        remedy = f"give {', '.join(NEEDED)}" if len(given) > 1 else "put commas between columns, a point in numbers"
        raise SettingsError(f"{path.name!r} has {wrong[0][:60]}: {remedy}")
    return table.to_dict("records")


def _rows(path):
    kind, path = _kind(path), Path(path)
    if not path.is_file():
        raise SettingsError(f"{path.name!r} does not exist")
    if kind == ".jsonl":
        other = AnswerStore(path)
        rows = map(vars, other.answers.values())
        yield from [(None, None, "damaged")] * other.damaged
    else:
        rows = _table(path, kind)
    for row in rows:
        try:
            answer = ROW.validate_python({name: value for name, value in row.items() if name != CHECK})
        except ValidationError as error:
            yield None, None, f"no answer ({error.errors()[0]['loc'][0]})"
        else:
            changed = row.get(CHECK) and row[CHECK] != checksum(vars(answer))
            yield answer.question, *((None, "changed since its export") if changed else (answer, ""))


def import_answers(path: Path, store: AnswerStore) -> tuple[int, Counter[str]]:
    """Put the answers of a table into a store, as `read_batch`; every row is checked.  Raises: SettingsError where the
    file is not there or no such table."""
    return _put(store, _rows(path))
