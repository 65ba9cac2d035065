"""A grid that nobody ran: made-up numbers in the shape of a real one."""

import itertools
import json

import numpy as np
import pandas as pd

from megu.settings.files import hash_file

CELLS = (
    *(("cifar100", "resnet-small", "class", forget) for forget in ("rocket", "mushroom")),
    ("cifar20", "resnet-small", "subclass", "sea"),
    ("cifar10", "resnet-small", "random", "100 images"),
    ("cifar10", "resnet-small", "class", "cat"),
    ("cifar100", "vit-tiny", "class", "rocket"),
)
REFERENCES = ("original", "retrain", "retrain-head")
METHODS = (
    "original", "retrain", "finetune", "unsir", "amnesiac", "ssd", "bad-teacher", "megu", "retrain-head", "unsir-ssd",
    "ssd-code", "scrub",
)  # fmt: skip
METRICS = {  # (mode, unit) -> metric -> middle
    ("strict", "percent"): {"acc_retain_test": 70, "acc_forget_test": 20, "acc_forget_train": 25},
    ("strict", "share"): {"mia_loss_auc": 0.5, "tow": 0.9},
    ("compat", "percent"): {"batch_acc_retain": 70, "batch_acc_forget": 20, "mia_ssd_member_rate": 30},
}


def grid(cells=CELLS, seeds=(0, 1), repeats=2, methods=METHODS):
    """(rows, seconds, source) as `python -m megu grid` writes them."""
    draw, rows, seconds = np.random.default_rng(0), [], []
    for cell, name in itertools.product(cells, methods):
        if (name.startswith("unsir") and cell[2] == "random") or (name == "bad-teacher" and cell[2] != "random"):
            continue
        for seed, repeat in itertools.product(seeds, range(1 if name in REFERENCES else repeats)):
            key = dict(zip(("dataset", "arch", "scenario", "forget"), cell, strict=True))
            key |= {"method": name, "seed": seed, "repeat": repeat}
            for (mode, unit), middles in METRICS.items():
                about = {**key, "mode": mode, "unit": unit}
                rows += [{**about, "metric": m, "value": v * draw.uniform(0.9, 1.1)} for m, v in middles.items()]
            parts = {} if name in REFERENCES else {"fine-tuning": draw.uniform(5, 12)}
            parts |= {"noise": 2.0, "labels": 0.5} if name == "megu" else {}
            parts |= {"evaluation": 3.0, "total": sum(parts.values())} if parts else {"total": 100.0}
            seconds += [{**key, "part": part, "seconds": value} for part, value in parts.items()]
    trained = {"cifar10": 10_000, "cifar20": 25_000, "cifar100": 25_000}
    of_data = {name: {"digest": "0", "train": trained[name], "test": 2000} for name, *_ in cells}
    source = {
        "profile": "small", "command": "python -m megu grid --profile small --out paper_figures/data",
        "preset": ["tuned"], "seeds": list(seeds), "repeats": repeats, "device": ["cpu"], "torch": "2.14.1",
        "code": "0123456789ab", "measured": len(rows), "retain_images": [8000], "not_run": 0, "data": of_data,
        "epochs": {"cifar100, resnet-small": 12, "cifar10, resnet-small": 20},
    }  # fmt: skip
    return pd.DataFrame(rows), pd.DataFrame(seconds), source


def write(data, rows, seconds, source):
    """Files of a grid in the folder ``data``."""
    data.mkdir(exist_ok=True, parents=True)
    hashes = {}
    for name, table in {"grid_small.csv": rows, "grid_small_seconds.csv": seconds}.items():
        table.to_csv(data / name, index=False)
        hashes[name] = hash_file(data / name)
    (data / "grid_small_source.json").write_text(json.dumps({"files": hashes} | source))
    return data


def in_cell(rows, arch, forget):
    """Which rows are of a request on a network."""
    return rows["arch"].eq(arch) & rows["forget"].eq(forget)
