"""The deletion report: its schema, and a page that needs no other."""

import json
import re

import jsonschema
import pytest
import torch
from own import forget
from torch import nn

from megu import report


def test_every_report_fits_the_schema_and_a_wrong_one_does_not(model, parts, done):
    x, y = parts[0].tensors
    convolutional = nn.Sequential(nn.Conv2d(1, 10, 28), nn.Flatten())  # no linear head, no features
    convolutional[0].weight.data.copy_(torch.stack([x[y == k].mean(0) - x.mean() for k in range(10)]))
    plain = forget(convolutional, parts, range(20), method="finetune", test=None, settings={})
    assert plain.report["asked"]["scenario"] == "random" and plain.report["done"]["guide"] is None and plain.report["verdict"]["word"] == "not told"
    assert {row["metric"]: row["not_available"] for row in plain.report["metrics"]}["cka_original_forget"] == "needs a model whose head is a linear layer"
    for facts in (done.report, plain.report):
        jsonschema.validate(json.loads(json.dumps(facts, allow_nan=False)), report.schema())
    for wrong in ({**done.report, "extra": 1}, {**done.report, "accuracy": []}, {**done.report, "verdict": {**done.report["verdict"], "word": "proven"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, report.schema())


def test_the_page_needs_no_other_and_escapes_what_it_is_given(done):
    page = report.html({**done.report, "verdict": {**done.report["verdict"], "what": "<script>alert(1)</script> $x_1$"}})
    assert "<script" not in page and "&lt;script&gt;" in page
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)|url\((?!#)|@import""", page.replace("xlink:href", "href")), "an outside reference"
    assert page.count("<svg") == 3 and page == report.html(done.report | {"verdict": {**done.report["verdict"], "what": "<script>alert(1)</script> $x_1$"}})
    assert "not available" in page and "Disentanglement score: not measured" in page and "prefers-color-scheme: dark" in page and "@media print" in page
    assert "Disentanglement score: total 0.250" in report.html({**done.report, "disentanglement": {"total": 0.25}})
