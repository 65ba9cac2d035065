"""The client against a real OpenAI-style server in a process of its own: `transformers serve` with a tiny LLaVA."""

import importlib.util
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from loopback import asked
from scipy import stats
from tiny_mllm import decided

from megu.guide import AnswerStore, GuideContext, ask
from megu.guide.mllm import LocalMllm
from megu.guide.served import ServedMllm
from megu.settings.config import Guide

NEEDS = ("fastapi", "uvicorn", "accelerate", "openai")
ABSENT = [name for name in NEEDS if importlib.util.find_spec(name) is None]
REPEATS = 20


@pytest.fixture
def server(tmp_path):
    """(address, folder of the model) of a server that speaks True and False by chance."""
    prompt = 'user: <image>Does this image show a photo of "shirt"? Answer True or False.\nassistant:'
    decided(tmp_path / "tiny", prompt)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = "-m transformers.cli.transformers serve tiny --device cpu --host 127.0.0.1 --default-seed 0 --port"
    command = [*command.split(), str(port)]
    with open(tmp_path / "log.txt", "w") as log:
        process = subprocess.Popen([sys.executable, *command], cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except OSError:
                assert process.poll() is None, (tmp_path / "log.txt").read_text()[-2000:]
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1", tmp_path / "tiny"
    finally:
        process.kill()
        process.wait()


def far(counts, p):
    """Probability of counts that lie as far from the probabilities p, or farther, by chance: Pearson's test."""
    return stats.chi2.sf(((counts - REPEATS * p) ** 2 / (REPEATS * p * (1 - p))).sum(), len(p))


@pytest.mark.slow
@pytest.mark.skipif(bool(ABSENT), reason=f"needs {', '.join(ABSENT)}: pip install -e '.[test]'")
def test_a_real_server_says_what_the_model_says_here(server, tmp_path):
    url, folder = server
    questions = asked(6, labels=("shirt",))
    settings = Guide(model="tiny", url=url, shots=0, repeats=REPEATS, retries=0, concurrency=1, timeout=20)
    served = ServedMllm(GuideContext(settings=settings))
    answers = ask(served, questions, AnswerStore(tmp_path / "a.jsonl"))
    # This server gives no log-probabilities.
    counts = np.array([(REPEATS + 1) / (1 + np.exp(-answer.raw)) - 0.5 for answer in answers])
    assert np.allclose(counts, counts.round(), atol=1e-3) and not served.failures
    local = LocalMllm(GuideContext(settings=Guide(path=str(folder), shots=0, dtype="float32", reuse=False)))
    p = 1 / (1 + np.exp(-np.array(list(local.score(questions)))))
    assert far(counts, p) > 1e-3
    assert far(counts, np.roll(p, 1)) < 1e-4 and far(counts, np.full(6, 0.5)) < 1e-4  # nor another image, nor a coin
    assert served.cost.answers == 6 and served.cost.mass == pytest.approx(6) and served.cost.tokens > 6 * REPEATS * 70
