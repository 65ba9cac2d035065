"""A served multimodal LLM: a real server on loopback, with a tiny model behind it, and one that fails in every way."""

import base64
import io
import json
import math
import socket
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image
from tiny_mllm import llava

from megu import guide
from megu.config import Guide
from megu.guide import Question, ServedMllm


def reply(odds, with_probabilities=True):
    p = 1 / (1 + math.exp(-odds))
    top = [{"token": token, "logprob": math.log(share), "bytes": None} for token, share in (("True", p), ("False", 1 - p))]
    said = {"content": [{**top[0], "top_logprobs": top}]} if with_probabilities else None
    texts = ["True"] * round(10 * p) + ["False"] * (10 - round(10 * p))
    choices = [{"index": i, "finish_reason": "length", "message": {"role": "assistant", "content": text}, "logprobs": said} for i, text in enumerate(texts)]
    usage = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}
    return json.dumps({"id": "1", "object": "chat.completion", "created": 0, "model": "tiny", "choices": choices, "usage": usage}).encode()


def odds_of(body):
    """An answer that depends on everything that was asked."""
    return len(json.dumps(body["messages"])) % 97 / 40 - 1


@pytest.fixture
def serve():
    """Start servers: serve(function of the request's body and number -> (status, bytes) or None to cut the connection) gives the address."""
    servers = []

    def start(answer):
        lock, seen = threading.Lock(), Counter()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    seen["requests"] += 1
                    number = seen["requests"]
                found = answer(body, number)
                if found is None:
                    self.close_connection = True
                    return self.connection.shutdown(socket.SHUT_RDWR)
                status, content = found
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content)])

            def log_message(self, *args):
                """Quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/v1", seen

    yield start
    for server in servers:
        server.shutdown()


def client(url, **more):
    return ServedMllm(settings=Guide(model="tiny", url=url, **{"retries": 0, "timeout": 5, "shots": 0, **more}))


def asked(n, labels=("shirt", "coat")):
    images = np.random.default_rng(0).integers(0, 255, (n, 1, 28, 28), dtype=np.uint8)
    return [Question(image, label) for image in images for label in labels]


def test_a_thousand_faults_lose_nothing_and_invent_nothing(serve, tmp_path):
    rng, faults, answered = np.random.default_rng(1), Counter(), Counter()

    def moody(body, number):
        kind = rng.choice(["fine", "429", "500", "cut", "garbage", "half", "neither"], p=[0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
        if kind == "fine" or faults.total() >= 1000:
            answered[json.dumps(body["messages"])] += 1
            return 200, reply(odds_of(body))
        faults[kind] += 1
        whole = reply(odds_of(body))
        odd = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Well"}, "finish_reason": "stop", "logprobs": {"content": [
            {"token": "Well", "logprob": -0.1, "top_logprobs": [{"token": "Well", "logprob": -0.1}]}]}}]}  # fmt: skip
        return {
            "429": (429, b"{}"), "500": (500, b"oops"), "cut": None, "garbage": (200, b"<html>"), "half": (200, whole[: len(whole) // 2]),
            "neither": (200, json.dumps(odd).encode()),
        }[kind]  # fmt: skip

    url, _ = serve(moody)
    questions, path, rounds = asked(350), tmp_path / "a.jsonl", 0
    while True:
        rounds += 1
        try:
            answers = guide.ask(client(url, concurrency=8), questions, guide.Book(path))
            break
        except guide.AnswersMissingError as missing:
            assert "The others are kept" in str(missing)
    assert faults.total() >= 1000 and len(faults) == 6 and rounds > 3
    expected = [odds_of(client(url).body(question)) for question in questions]
    assert [answer.raw for answer in answers] == pytest.approx(expected, abs=1e-5)
    assert set(answered.values()) == {1}  # what was answered was never asked again
    assert len(guide.Book(path).answers) == len(questions)


def test_retries_are_the_clients(serve):
    url, seen = serve(lambda body, number: (200, reply(0.5)) if number == 3 else (500, b"oops"))
    assert list(client(url, retries=3, concurrency=1).score(asked(1)[:1])) == pytest.approx([0.5])
    assert seen["requests"] == 3


def test_a_refused_key_or_model_ends_it_at_once_and_the_key_is_nowhere(serve, monkeypatch, tmp_path):
    monkeypatch.setenv("MEGU_GUIDE_KEY", "sk-secret")
    url, seen = serve(lambda body, number: (401, b"{}"))
    with pytest.raises(guide.GuideUnavailableError, match="refuses .AuthenticationError.") as refused:
        guide.ask(client(url, concurrency=1), asked(100), guide.Book(tmp_path / "a.jsonl"))
    assert "sk-secret" not in str(refused.value) and seen["requests"] <= 2


def test_a_slow_server_times_out_and_is_no_answer(serve):
    release = threading.Event()
    url, _ = serve(lambda body, number: (release.wait(3), (200, reply(0.0)))[1])
    slow = client(url, timeout=0.3)
    assert all(map(math.isnan, list(slow.score(asked(1))))) and slow.failures == {"APITimeoutError": 2}
    release.set()


def test_without_log_probabilities_replies_are_counted(serve):
    url, seen = serve(lambda body, number: (200, reply(math.log(0.7 / 0.3), with_probabilities=False)))
    assert list(client(url).score(asked(1)[:1])) == pytest.approx([math.log(7.5 / 3.5)]) and seen["requests"] == 2


def test_a_batch_written_here_and_run_elsewhere_is_read_back(serve, tmp_path):
    url, seen = serve(lambda body, number: (500, b""))
    one, questions = client(url), asked(3)
    guide.write_batch(one, questions, tmp_path / "in.jsonl")
    lines = [json.loads(line) for line in open(tmp_path / "in.jsonl")]
    done = [{"custom_id": line["custom_id"], "response": {"body": json.loads(reply(odds_of(line["body"])))}} for line in lines[:-1]]
    (tmp_path / "out.jsonl").write_text("\n".join(map(json.dumps, done)) + '\n{"custom_id": "other"}\nhalf')
    book = guide.Book()
    assert guide.read_batch(one, questions, tmp_path / "out.jsonl", book) == (5, 2)
    assert book.answers[questions[0].key(one)].raw == pytest.approx(odds_of(one.body(questions[0])), abs=1e-5) and not seen


def test_the_same_model_says_the_same_locally_and_served(serve, tmp_path):
    llava(tmp_path / "llava")
    local = guide.LocalMllm((), settings=Guide(path=str(tmp_path / "llava"), shots=0, dtype="float32"))

    def ask_local(body, number):
        content = body["messages"][0]["content"]
        image = Image.open(io.BytesIO(base64.b64decode(content[0]["image_url"]["url"].partition(",")[2])))
        label = content[1]["text"].split('"')[1]
        return 200, reply(list(local.score([Question(np.asarray(image).transpose(2, 0, 1), label)]))[0])

    url, _ = serve(ask_local)
    questions = asked(2)
    assert list(client(url, concurrency=1).score(questions)) == pytest.approx(list(local.score(questions)), abs=1e-4)


def test_what_is_missing_is_said_in_one_line():
    with pytest.raises(guide.GuideUnavailableError, match="needs guide.model and guide.url"):
        ServedMllm(settings=Guide(model="tiny"))
