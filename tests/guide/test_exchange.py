"""Answers from elsewhere: what a reply says, batch files, tables of other programs, a replayed file."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from loopback import asked, client, odds_of, reply
from test_asking import Constant

from megu.guide import Answer, AnswersMissingError, AnswerStore, GuideContext, GuideUnavailableError, ask, exchange
from megu.guide.exchange import export_answers, import_answers, read_batch, write_batch
from megu.guide.replay import ReplayGuide
from megu.settings.config import Guide
from megu.settings.errors import SettingsError

LABELS = ("null", 'a, "b"\n\'c', "naïve 👟")  # hard on a table
COLUMNS = "question image label source version raw time data scale check".split()
log = math.log


def batch(tmp_path, n, sampled=False):
    """Guide, questions, and the lines of their batch file."""
    one, questions = client(None), asked(n)  # no address: it is run elsewhere
    write_batch(one, questions, tmp_path / "in.jsonl", sampled)
    return one, questions, [json.loads(line) for line in open(tmp_path / "in.jsonl")]


def replies(lines, **more):
    """The replies to the lines of a batch file, as a file's text."""
    bodies = [(line["custom_id"], json.loads(reply(odds_of(line["body"]), **more))) for line in lines]
    done = [{"custom_id": key, "response": {"status_code": 200, "body": body}} for key, body in bodies]
    return "\n".join(map(json.dumps, done)) + "\n"


@pytest.mark.parametrize("sampled", [False, True])
def test_a_batch_written_here_and_run_elsewhere_is_read_back(sampled, tmp_path):
    one, questions, lines = batch(tmp_path, 3, sampled)
    assert len({line["custom_id"] for line in lines}) == 6
    about = {(line["url"], line["body"].get("n"), "logprobs" in line["body"]) for line in lines}
    assert about == {("/v1/chat/completions", 10 if sampled else None, not sampled)}
    assert all("max_completion_tokens" in line["body"] for line in lines)  # OpenAI refuses its older name
    (tmp_path / "out.jsonl").write_text(replies(lines[::-1], with_probabilities=not sampled))
    store = AnswerStore(tmp_path / "a.jsonl")
    assert read_batch(one, questions, tmp_path / "out.jsonl", store) == (6, {})
    expected = [odds_of(line["body"]) for line in lines]
    if sampled:
        expected = [log((n + 0.5) / (10 - n + 0.5)) for n in (round(10 / (1 + math.exp(-odds))) for odds in expected)]
    answers = ask(client(None), questions, AnswerStore(tmp_path / "a.jsonl"))  # all are known: there is no server
    assert {answer.source for answer in answers} == {"tiny (served, sampled)" if sampled else "tiny (served)"}
    assert [answer.raw for answer in answers] == pytest.approx(expected, abs=1e-5)
    assert read_batch(one, questions, tmp_path / "out.jsonl", store) == (0, {"answered before": 6})


@pytest.mark.parametrize("limit", ["REQUESTS", "BYTES"])
def test_what_is_too_much_for_one_batch_file_goes_on_in_the_next(limit, monkeypatch, tmp_path):
    one, questions, _ = batch(tmp_path, 3)
    (whole,) = write_batch(one, questions, tmp_path / "whole.jsonl")
    monkeypatch.setattr(exchange, limit, {"REQUESTS": 4, "BYTES": len(whole.read_bytes()) - 1}[limit])
    parts = write_batch(one, questions, tmp_path / "in.jsonl")
    assert [part.name for part in parts] == ["in.jsonl", "in-2.jsonl"]
    assert b"".join(part.read_bytes() for part in parts) == whole.read_bytes()
    monkeypatch.setattr(exchange, "BYTES", 1)  # a request that is too large is still sent, alone
    assert len(write_batch(one, questions, tmp_path / "one.jsonl")) == 6
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".jsonl"] * 9  # nothing half-written


def test_lines_of_a_batch_that_are_no_answer_are_counted_by_reason(tmp_path):
    one, questions, lines = batch(tmp_path, 4)
    ids = [line["custom_id"] for line in lines]
    well, single = json.loads(reply(0.0)), json.loads(reply(0.0, with_probabilities=False))
    well["choices"][0]["logprobs"]["content"][0]["top_logprobs"] = [{"token": "Well", "logprob": -0.1}]
    single["choices"] = single["choices"][:1]  # greedy and alone: a count of one would be no probability
    odd = [
        {"custom_id": ids[0], "response": {"status_code": 500, "body": {"error": {"message": "overloaded"}}}},
        {"custom_id": ids[1], "response": None, "error": {"code": 7, "message": "batch_expired"}},
        {"custom_id": ids[2], "response": {"body": well}}, {"custom_id": ids[3], "response": {"body": single}},
        {"custom_id": "other", "response": {"body": json.loads(reply(0.0))}}, {"custom_id": [1]}, 17,
    ]  # fmt: skip
    first, again = replies(lines[4:5]), json.dumps({"custom_id": ids[4], "response": {"body": json.loads(reply(2.5))}})
    file, store = tmp_path / "out.jsonl", AnswerStore()
    file.write_text("\n".join(map(json.dumps, odd)) + "\n\nhalf\n" + first + again + "\n" + replies(lines[:1]))
    stored, left_out = read_batch(one, questions, file, store)
    # An error first, an answer later; and of two lines for one question the first stands.
    expected = {ids[at]: pytest.approx(odds_of(lines[at]["body"]), abs=1e-5) for at in (0, 4)}
    assert stored == 2 and {key: answer.raw for key, answer in store.answers.items()} == expected
    assert left_out == {
        "the server says 'overloaded' (500)": 1, "the server says 'batch_expired'": 1,
        "it begins with 'Well' (90%), neither True nor False": 1,
        "without log-probabilities and with fewer than 10 replies": 1,
        "no reply to any of the questions": 4, "another answer stands": 1,
    }  # fmt: skip


class LogOdds(Constant):
    """Whose scores are those of a probability."""

    log_odds = True


@pytest.fixture
def store():
    """Answers of two guides."""
    store, questions, other = AnswerStore(), asked(3, labels=LABELS), LogOdds()
    ask(LogOdds(), questions, store)
    other.name = "another"
    ask(other, questions[:2], store)
    return store


@pytest.fixture(params=["parquet", "csv", "jsonl"])
def kind(request):
    """The ending of a table's name."""
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return request.param


def test_exported_answers_come_back_as_they_were(store, kind, tmp_path):
    file, back = tmp_path / f"out.{kind}", AnswerStore(tmp_path / "back.jsonl")
    export_answers(store, file)
    if kind == "csv":
        assert list(pd.read_csv(file).columns) == COLUMNS
    assert import_answers(file, back) == (11, {}) and back.answers == store.answers
    assert AnswerStore(tmp_path / "back.jsonl").answers == store.answers  # with checksums of their own
    assert import_answers(file, back) == (0, {"answered before": 11})


def test_rows_that_are_no_answers_are_refused_and_counted(store, kind, tmp_path):
    rows, file = [asdict(answer) for answer in store.answers.values()], tmp_path / f"in.{kind}"
    wrong = [
        ("question", "xyz"), ("image", rows[1]["image"] + "0"), ("label", ""), ("raw", np.inf), ("raw", np.nan),
        ("time", "yesterday"), ("scale", "percent"),
    ]  # fmt: skip
    for row, (column, value) in zip(rows, wrong, strict=False):
        row[column] = value
    table = pd.DataFrame(rows)
    if kind == "jsonl":
        AnswerStore(file).add([Answer(**row) for row in rows])
    else:
        table.to_csv(file, index=False) if kind == "csv" else table.to_parquet(file, index=False)
    stored, left_out = import_answers(file, AnswerStore(tmp_path / "back.jsonl"))
    assert stored == 11 - len(wrong) == len(AnswerStore(tmp_path / "back.jsonl").answers)
    once = {f"no answer ({column})": 1 for column in ("question", "image", "label", "time", "scale")}
    assert left_out == {**once, "no answer (raw)": 2}


HEAD = "question,image,label,source,version,raw"
NO_TABLE = {
    "a.parquet": (b"PAR1", "cannot be read|needs pyarrow"), "a.csv": (b"", "cannot be read"),
    "b.csv": (None, "does not exist"), "a.xls": (b"", "is no .parquet"),
    "source.csv": (HEAD.replace("source", "guide").encode(), "no column 'source': give question, image, label, source"),
    "more.csv": (f"{HEAD},more\n".encode(), "a column 'more' that no answer has"),
    "index.csv": (f",{HEAD}\n".encode(), "a column 'Unnamed: 0' that no answer has"),
    "german.csv": (HEAD.replace(",", ";").encode(), "put commas between columns, a point in numbers"),
    "latin.csv": (f"{HEAD},data\n0,0,Mütze,s,v,1,".encode("latin1"), "is not in UTF-8"),
    "wide.csv": (HEAD.encode("utf-16"), "is not in UTF-8"),
    "half.csv": (f"{HEAD}\n1,2,3,4,5,6,7,8,9\n1,\"".encode(), "cannot be read|no answer"),
}  # fmt: skip


def test_a_table_that_was_edited_by_hand_gives_what_was_said_or_nothing(store, tmp_path):
    file = tmp_path / "a.csv"
    export_answers(store, file)
    table = pd.read_csv(file, dtype=str, keep_default_na=False)

    def taken(table, **how):
        table.to_csv(file, index=False, **how)
        back = AnswerStore()
        count, left_out = import_answers(file, back)
        assert all(store.answers[key] == answer for key, answer in back.answers.items()) and count == len(back.answers)
        return count, dict(left_out)

    assert taken(table[::-1]) == taken(table, encoding="utf-8-sig") == taken(table, quoting=1) == (11, {})
    assert taken(table[:3]) == (3, {}) and taken(table[[*COLUMNS[::-1]]]) == (11, {})
    assert taken(pd.concat([table, table[:2]])) == (11, {"answered before": 2})
    assert taken(pd.concat([table, table[:1].assign(raw="7", check="")])) == (11, {"another answer stands": 1})
    assert taken(table.assign(raw=table["raw"].str.replace(".", ","))) == (0, {"no answer (raw)": 11})
    assert (
        taken(table.assign(raw=table["raw"].iloc[::-1].to_numpy()))[1]["changed since its export"] >= 8
    )  # sorted alone
    labels = {"null": "naïve 👟", "naïve 👟": "null"}
    assert taken(table.assign(label=table["label"].replace(labels)))[1] == {"changed since its export": 7}
    assert len(import_answers(file, AnswerStore())[1]) and taken(table.drop(columns="check")) == (11, {})  # of others


@pytest.mark.parametrize("name", NO_TABLE)
def test_a_file_that_is_no_table_is_refused_in_one_line(name, tmp_path):
    content, message = NO_TABLE[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingsError, match=message) as refused:
        import_answers(tmp_path / name, AnswerStore())
    assert "\n" not in str(refused.value) and str(tmp_path) not in str(refused.value)


def replayed(path, **more):
    return ReplayGuide(GuideContext(settings=Guide(path=str(path), **more)))


def test_answers_are_replayed_without_the_guide(store, tmp_path):
    path, questions = tmp_path / "a.jsonl", asked(3, labels=LABELS)
    export_answers(store, path)
    one = replayed(path, model="constant")
    assert one.log_odds and one.name == "constant (replayed)"
    AnswerStore(tmp_path / "b.jsonl").add([replace(answer, raw=answer.raw + 1) for answer in store.answers.values()])
    other = replayed(tmp_path / "b.jsonl", model="constant")
    assert questions[0].key(one) != questions[0].key(other)  # answers of another file are other answers
    expected = list(LogOdds().score(questions[::-1]))
    assert [answer.raw for answer in ask(one, questions[::-1], AnswerStore())] == pytest.approx(expected, abs=1e-6)
    part, answered = replayed(path, model="another"), AnswerStore()
    assert np.isnan(part.score(questions)).tolist() == [False] * 2 + [True] * 7
    absent = (
        r"7 of 9 .*4 x the image is not in a\.jsonl: were other exemplars asked about\?; 3 x the label 'naïve 👟' is"
        r" not in a\.jsonl, which has 'a, "
    )
    with pytest.raises(AnswersMissingError, match=absent):
        ask(part, questions[::-1], answered)
    assert len(answered.answers) == 2
    (tmp_path / "a.csv").write_text(HEAD)
    with pytest.raises(
        GuideUnavailableError, match="no answers as JSON lines: `megu guide answers NEW.jsonl --import a.csv"
    ):
        replayed(tmp_path / "a.csv")


def test_a_replay_takes_one_guide_one_version_and_one_answer_to_a_question(store, tmp_path):
    path, other, (question, *_) = tmp_path / "a.jsonl", tmp_path / "b.jsonl", asked(1)
    export_answers(store, path)
    versions = AnswerStore(other)
    (answer,) = ask(Constant(), [question], versions)

    def refused(message, path, **more):
        with pytest.raises(GuideUnavailableError, match=message):
            replayed(path, **more)

    refused("is none", f"{path}x")
    refused("needs guide.path", "")
    refused("answers of 2 guides: set guide.model to one of 'another', 'constant'", path)
    refused("no answers of the guide that is asked for, but of 'another', 'constant'", path, model="nobody")
    versions.add([replace(answer, question="0" * 16, version="2", raw=9.0)])
    refused("set guide.revision to one of '1', '2'", other)
    assert replayed(other, revision="2").score([question]) == [9.0]
    versions.add([replace(answer, question="1" * 16)])  # as with other worked examples
    refused("1 questions answered twice", other, revision="1")
