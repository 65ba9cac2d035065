"""A server on loopback that answers as it is told to, and questions for it."""

import json
import math
import socket
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from megu.guide import GuideContext, Question
from megu.guide.served import ServedMllm
from megu.settings.config import Guide


def reply(odds, with_probabilities=True):
    p = 1 / (1 + math.exp(-odds))
    top = [{"token": word, "logprob": math.log(q)} for word, q in (("True", p), ("False", 1 - p))]
    said = {"content": [{**top[0], "top_logprobs": top}]} if with_probabilities else None
    words = ["True"] * round(10 * p) + ["False"] * (10 - round(10 * p))
    choices = [{"message": {"role": "assistant", "content": word}, "logprobs": said} for word in words]
    return json.dumps({"choices": choices, "usage": {"total_tokens": 11}}).encode()


def odds_of(body):
    """An answer that depends on everything that was asked."""
    return len(json.dumps(body["messages"])) % 97 / 40 - 1


def fine(body, number=0):
    return 200, reply(odds_of(body))


def changed(odds, change, with_probabilities=True):
    """A reply whose JSON was changed in place."""
    whole = json.loads(reply(odds, with_probabilities))
    change(whole)
    return 200, json.dumps(whole).encode()


def first_token(whole):
    return whole["choices"][0]["logprobs"]["content"][0]


class Servers:
    """servers(function of (body, number) -> (status, bytes), or None to cut the connection) -> (address, Counter)."""

    def __init__(self):
        self.started = []

    def __call__(self, answer):
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
                self.wfile.write(content)

            def log_message(self, *_):
                """Quiet."""

        self.started.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=self.started[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.started[-1].server_port}/v1", seen

    def stop(self):
        for server in self.started:
            server.shutdown()


def client(url, **more):
    settings = Guide(**{"model": "tiny", "url": url, "retries": 0, "timeout": 5, "shots": 0, **more})
    return ServedMllm(GuideContext(settings=settings))


def asked(n, labels=("shirt", "coat")):
    images = np.random.default_rng(0).integers(0, 255, (n, 1, 28, 28), dtype=np.uint8)
    return [Question(image, label) for image in images for label in labels]
