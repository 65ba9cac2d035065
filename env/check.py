r"""Prints what a run would use: versions, extras, device, precision, free memory, and the guide's weights."""

import os
import re
import tomllib
from pathlib import Path

import torch

import megu
from megu.core.device import choose
from megu.guide import GuideUnavailableError
from megu.guide.composed import lite0, minilm
from megu.guide.tiny import smollm2
from megu.settings.extras import versions
from megu.settings.profiles import resolve

EXTRAS = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["optional-dependencies"]

there = versions(["torch", "torchvision", "transformers", "open_clip_torch", "jupyterlab", "papermill"])
for name, version in {"megu": megu.__version__, **there}.items():
    print(f"{name:18s} {version}")
for name, needs in EXTRAS.items():
    needs = [re.match(r"[\w.-]+", one)[0] for one in needs if not one.startswith("megu")]
    missing = [one for one in needs if one not in versions(needs)]
    remedy = f"lacks {', '.join(missing)}: `pip install '.[{name}]'`"
    print(f"extra {name:12s} {remedy if missing else 'here'}")
compute = choose(resolve())
print(f"{'device':18s} {compute} in training, {torch.get_num_threads()} threads")
if compute.device.type == "cuda":
    free, total = torch.cuda.mem_get_info()
    print(f"{'GPU memory':18s} {free / 1e9:.1f} of {total / 1e9:.1f} GB free")
print(f"{'memory':18s} {os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.1f} GB free")
for name, load in (("EfficientNet-Lite0", lite0), ("all-MiniLM-L6-v2", minilm), ("SmolLM2-135M", smollm2)):
    try:
        load()
        print(f"{name:18s} here")
    except GuideUnavailableError as missing:
        print(f"{name:18s} {missing}")
