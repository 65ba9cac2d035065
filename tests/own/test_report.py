"""The deletion report: its schema, and a page that needs no other."""

import hashlib
import json
import logging
import re
import subprocess
import sys

import jsonschema
import numpy as np
import pytest
import torch
from conftest import ROOT
from loopback import odds_of, reply
from own_model import QUICK, SCHEMA, forget
from refusals import refused
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import TensorDataset

from megu.cli import main as command
from megu.core.architectures import builders
from megu.measure.attacks import auc_interval, detectable_auc
from megu.own import report
from megu.own.verdict import LEVEL, _trace
from megu.settings.files import hash_file
from megu.settings.place import SUMS, WORK


def test_every_report_fits_the_schema_and_a_wrong_one_does_not(model, parts, done):
    x, y = parts[0].tensors
    convolutional = nn.Sequential(nn.Conv2d(1, 10, 28), nn.Flatten())  # no linear head, no features
    convolutional[0].weight.data.copy_(torch.stack([x[y == k].mean(0) - x.mean() for k in range(10)]))
    plain = forget(convolutional, parts, range(20), method="finetune", test=None, settings={})
    assert plain.report["asked"]["scenario"] == "random" and plain.report["done"]["guide"] is None
    assert plain.report["verdict"]["word"] == "cannot be told without unseen images"
    why = {row["metric"]: row["not_available"] for row in plain.report["metrics"]}
    assert why["cka_original_forget"] == "needs a model whose head is a linear layer"
    for facts in (done.report, plain.report):
        jsonschema.validate(json.loads(json.dumps(facts, allow_nan=False)), SCHEMA)
    for wrong in (
        {**done.report, "extra": 1},
        {**done.report, "accuracy": []},
        {**done.report, "verdict": {**done.report["verdict"], "word": "proven"}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, SCHEMA)


@pytest.mark.parametrize("silence", [
    lambda log: logging.disable(logging.CRITICAL), lambda log: log.setLevel(logging.ERROR),
    lambda log: setattr(log, "disabled", True),
])  # fmt: skip
def test_notices_are_in_the_report_of_a_silent_log(silence, model, parts, capfd):
    log = logging.getLogger("megu")
    silence(log)
    try:
        found = forget(model, parts, range(20), method="finetune", settings={"recipe.epochs": 1})
    finally:
        log.disabled, log.level = False, logging.NOTSET
        logging.disable(logging.NOTSET)
    assert "positions count from 0" in str(found.report["done"]["notices"])
    assert "positions count" not in capfd.readouterr().err


def test_the_page_needs_no_other_and_escapes_what_it_is_given(done):
    facts = done.report | {"verdict": {**done.report["verdict"], "what": "<script>alert(1)</script> $x_1$"}}
    page = report.html(facts)
    assert "<script" not in page and "&lt;script&gt;" in page
    outside = r"""(src|href)\s*=\s*["'](?!#)|url\((?!#)|@import"""
    assert not re.search(outside, page.replace("xlink:href", "href"))
    assert page.count("<svg") == 3 and page == report.html(facts)
    assert "not available" in page and "prefers-color-scheme: dark" in page and "@media print" in page


def test_the_disentanglement_score_is_in_the_report_where_it_can_be_measured(done, parts, model):
    rows = {(row["model"], row["view"], row["measure"]): row for row in done.report["disentanglement"]}
    score = rows["unlearned", "in place", "score"]
    assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1
    assert ("retrained", "aligned", "score") not in rows  # no reference was given
    assert f"{score['value']:.3f}" in report.html(done.report)
    # Of single images no concept is forgotten as a whole.
    single = forget(model, parts, range(20), method="finetune", test=None, settings={}).report
    assert single["disentanglement"] is None and "Disentanglement score: not measured" in report.html(single)


def test_the_page_is_written_again_from_its_json(done, tmp_path, monkeypatch, capsys, caplog):
    done.save(tmp_path)
    sums = (tmp_path / SUMS).read_text()
    page = (tmp_path / "report.html").read_text()
    (tmp_path / "report.html").unlink()
    monkeypatch.setattr(sys, "argv", ["megu", "report", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert not end.value.code and "written" in capsys.readouterr().out
    assert (tmp_path / "report.html").read_text() == page
    assert load_file(tmp_path / "model.safetensors").keys() == done.model.state_dict().keys()
    assert (tmp_path / SUMS).read_text() == sums
    text = (tmp_path / "report.json").read_text()
    for changed in (False, True):
        (tmp_path / "report.json").write_text(text.replace("trouser", "pants" if changed else "trouser"))
        with pytest.raises(SystemExit):
            command.main()
        assert ("report.json is not what SHA256SUMS says" in caplog.text) == changed


def test_what_is_handed_over_has_hashes_that_anyone_can_check_and_nothing_image_by_image(model, parts, tmp_path):
    result = forget(model, parts, [3, 17], method="finetune", out=tmp_path / "out", settings={"recipe.epochs": 1})
    out, given = tmp_path / "out", ["SHA256SUMS", "model.safetensors", "report.html", "report.json"]
    assert {path.name for path in out.iterdir()} == {*given, "log.csv", WORK}
    sums = dict(reversed(line.split("  ")) for line in (out / "SHA256SUMS").read_text().splitlines())
    assert sums == {name: hash_file(out / name) for name in given[1:]}
    facts = report.read(out)
    assert facts["files"] == {"model.safetensors": sums["model.safetensors"]} == result.report["files"]
    jsonschema.validate(facts, SCHEMA)
    asked = facts["asked"]
    x = parts[0].tensors[0][[3, 17]]
    assert asked["pixels_sha256"] == hashlib.sha256(x.numpy().tobytes()).hexdigest()
    assert set(facts["hashes"]) >= {key for key in asked if key.endswith("sha256")}
    assert "probability" not in (out / "report.json").read_text() and not list(out.glob("*outputs*"))
    page = (out / "report.html").read_text()
    assert "Not to be handed over: the folder work" in page and sums["model.safetensors"] in page
    kept = {path.name for path in (out / WORK).iterdir()}
    assert "predictions.json" in kept
    assert [sum(name.startswith(f"outputs-{which}-") for name in kept) for which in ("before", "after")] == [1, 1]
    listed = json.loads((out / WORK / "predictions.json").read_text())
    assert [one["image"] for one in listed] == ["3", "17"]
    (out / "model.safetensors").write_bytes(b"")  # the control
    assert hash_file(out / "model.safetensors") != sums["model.safetensors"]


def test_without_a_reference_the_field_has_rf_jsd_and_the_report_its_limits(model, parts, done):
    assert "whole class" in done.report["without_reference"]["not_available"]
    single = forget(model, parts, range(20), method="finetune", settings={"recipe.epochs": 1}).report
    apart = single["without_reference"]
    assert apart["not_available"] is None and 0 <= apart["after"] <= 0.7 and apart["reference"] is None
    assert f"after {apart['after']:.4f}" in report.html(single) and "enters no verdict" in report.html(single)


def test_no_key_reaches_model_log_or_report(model, parts, tmp_path, monkeypatch, caplog, capfd, request):
    """A served guide that is asked with a key: what is written and said holds neither the key nor the address."""
    seen = []
    address, _ = request.getfixturevalue("serve")(
        lambda body, number: (seen.append(body), (200, reply(odds_of(body))))[1]
    )
    monkeypatch.setenv("MEGU_GUIDE_KEY", "sk-planted-key")
    guide = {"guide.model": "tiny", "guide.url": address, "guide.exemplars": 1, "guide.shots": 0}
    result = forget(model, parts, guide="served", settings={**QUICK, **guide}, out=tmp_path)
    assert len(seen) == 100 and result.report["done"]["guide"]["answers"] == 100
    said = "".join([caplog.text, *capfd.readouterr(), json.dumps(result.report), repr(result)]).encode()
    for text in (said, *(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())):
        assert b"sk-planted-key" not in text and address.encode() not in text and str(tmp_path).encode() not in text
    (tmp_path / "leak.txt").write_text("sk-planted-key")  # the control
    assert any(b"sk-planted-key" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"report": "other"}', "\x00"])
def test_reports_that_are_none(tmp_path, content):
    (tmp_path / "report.json").write_text(content)
    with refused("report.json is no 'megu deletion report 2'.*: give"):
        report.read(tmp_path)


PAGE = (ROOT / "megu" / "own" / "README.md").read_text()


def rows_of(first):
    """Cells of the rows of the page's table whose first row begins so."""
    return [line.strip("|").split("|") for line in PAGE[PAGE.index(f"| {first}") :].split("\n\n")[0].splitlines()]


def test_how_many_unseen_images_are_needed_is_what_the_page_says():
    """Of each pair on the page a tenth more is enough, a tenth less is not."""

    def enough(n, m, goal):
        least = detectable_auc(np.array([n]), np.array([m]), LEVEL, goal)
        return least is not None and least <= 0.65

    (_, *sizes), _, (_, *alone), (_, *beside) = rows_of("forgotten images of one class")
    for goal, cells in ((None, alone), (0.5, beside)):
        for n, said in zip(map(int, sizes), cells, strict=True):
            if said.strip() == "never":
                assert not enough(n, 10**6, goal)
            else:
                assert enough(n, round(1.1 * int(said)), goal) and not enough(n, round(0.9 * int(said)), goal), n
    least = int(re.search(r"fewer than (\d+) forgotten ones no number", " ".join(PAGE.split()))[1])
    assert enough(least, 10**6, None) and not enough(least - 1, 10**6, None)


def test_what_single_images_need_is_what_the_page_prints_and_what_the_verdict_asks():
    code, printed = re.search(r'python -c "(from numpy.*?)"\n# ([^\n]*)', PAGE, re.S).groups()
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == printed
    for needed, m in zip(json.loads(printed.split("] ")[0] + "]"), (40, 120, 600, 5000), strict=True):
        for more, trace in ((0.01, "no trace"), (-0.01, "cannot be told")):
            rows = [row(model, auc, m) for model, auc in (("before", needed + more), ("after", 0.5))]
            assert _trace({(one["model"], "loss"): one for one in rows}, {}, None, False, 40)[0] == trace, (m, more)


def row(model, auc, m):
    sizes = np.array([40]), np.array([m])
    low, high = auc_interval(auc, *sizes, LEVEL)
    found = {"model": model, "auc": auc, "low": low, "high": high, "members": 40, "others": m, "detectable": None}
    return found | {"without_unseen": []}


@pytest.mark.parametrize("cells", rows_of("network")[2:], ids=lambda cells: cells[1].strip())
def test_last_layers_are_called_as_the_page_says(cells):
    (arch,), names = (re.findall(r"`([^`]*)`", cell) for cell in cells[1:])
    state = next(builders(arch, 7, (3, 224, 224)))().state_dict()
    assert {name for name, value in state.items() if value.shape[:1] == (7,)} == set(names)


def test_without_unseen_images_of_what_is_kept_its_training_images_are_named(model, parts, done):
    x, y = parts[1].tensors
    how = {"method": "finetune", "settings": {"recipe.epochs": 1}, "test": TensorDataset(x[y == 1], y[y == 1])}
    found = forget(model, parts, **how).report
    assert "Of training images of what it keeps it named" in report.html(found)
    assert "Of training images of what it keeps" not in report.html(done.report)
    told = ["measured on training images alone" in " ".join(one["verdict"]["limits"]) for one in (found, done.report)]
    assert told == [True, False]
