"""A grid that nobody ran: made-up numbers in the shape of a real one."""

import json

import numpy as np
import pandas as pd

from megu.settings.files import hash_file

CELLS = (
    ("cifar100", "resnet-small", "class", "rocket"),
    ("cifar100", "resnet-small", "class", "mushroom"),
    ("cifar20", "resnet-small", "subclass", "sea"),
    ("cifar10", "resnet-small", "random", "100 images"),
    ("cifar10", "resnet-small", "class", "cat"),
    ("cifar100", "vit-tiny", "class", "rocket"),
)
METHODS = (
    "original",
    "retrain",
    "finetune",
    "unsir",
    "amnesiac",
    "ssd",
    "bad-teacher",
    "megu",
    "retrain-head",
    "unsir-ssd",
    "ssd-code",
    "scrub",
)
METRICS = {  # metric -> (unit, mode, middle)
    "acc_retain_test": ("percent", "strict", 70),
    "acc_forget_test": ("percent", "strict", 20),
    "acc_forget_train": ("percent", "strict", 25),
    "mia_loss_auc": ("share", "strict", 0.5),
    "batch_acc_retain": ("percent", "compat", 70),
    "batch_acc_forget": ("percent", "compat", 20),
    "mia_ssd_member_rate": ("percent", "compat", 30),
    "tow": ("share", "strict", 0.9),
}
REFERENCES = ("original", "retrain", "retrain-head")
CELL = ["dataset", "arch", "scenario", "forget"]


def grid(cells=CELLS, seeds=(0, 1), repeats=2, methods=METHODS):
    """(rows, seconds, source) as `python -m megu grid` writes them."""
    draw, rows, seconds = np.random.default_rng(0), [], []
    for cell in cells:
        for name in methods:
            if (name.startswith("unsir") and cell[2] == "random") or (name == "bad-teacher" and cell[2] != "random"):
                continue
            for seed in seeds:
                for repeat in range(1 if name in REFERENCES else repeats):
                    key = dict(zip(CELL, cell, strict=True)) | {"method": name, "seed": seed, "repeat": repeat}
                    for metric, (unit, mode, middle) in METRICS.items():
                        rows.append(
                            key
                            | {"metric": metric, "unit": unit, "mode": mode, "value": middle * draw.uniform(0.9, 1.1)}
                        )
                    parts = (
                        {"total": 100.0}
                        if name in REFERENCES
                        else {"fine-tuning": draw.uniform(5, 12), "evaluation": 3.0}
                    )
                    parts |= {"noise": 2.0, "labels": 0.5} if name == "megu" else {}
                    parts.setdefault("total", sum(parts.values()) - 3)
                    seconds += [key | {"part": part, "seconds": value} for part, value in parts.items()]
    source = {
        "profile": "small",
        "command": "python -m megu grid --profile small --out paper_figures/data",
        "preset": ["tuned"],
        "seeds": list(seeds),
        "repeats": repeats,
        "device": ["cpu"],
        "torch": "2.14.1",
        "code": "0123456789ab",
        "measured": len(rows),
        "retain_images": [8000],
        "epochs": {"cifar100, resnet-small": 12, "cifar10, resnet-small": 20},
        "not_run": 0,
        "data": {
            name: {"digest": "0", "train": 10_000 if name == "cifar10" else 25_000, "test": 2000} for name, *_ in cells
        },
    }
    return pd.DataFrame(rows), pd.DataFrame(seconds), source


def write(data, rows, seconds, source, profile="small"):
    """Files of a grid in the folder ``data``."""
    data.mkdir(exist_ok=True, parents=True)
    rows.to_csv(data / f"grid_{profile}.csv", index=False)
    seconds.to_csv(data / f"grid_{profile}_seconds.csv", index=False)
    files = {name: hash_file(data / name) for name in (f"grid_{profile}.csv", f"grid_{profile}_seconds.csv")}
    (data / f"grid_{profile}_source.json").write_text(json.dumps({"files": files} | source))
    return data


def in_cell(rows, arch, forget):
    """Which rows are of a request on a network."""
    return rows["arch"].eq(arch) & rows["forget"].eq(forget)
