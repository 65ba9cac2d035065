r"""Prints what a run would use: versions, device, precision, free memory, and whether the guide's weights are here."""

import importlib.metadata
import os

import torch

from megu.core.device import choose
from megu.guide import GuideUnavailableError
from megu.guide.composed import lite0, minilm
from megu.guide.tiny import smollm2
from megu.settings.profiles import resolve

for name in ("megu", "torch", "torchvision", "transformers", "open_clip_torch", "jupyterlab", "papermill"):
    print(f"{name:18s} {importlib.metadata.version(name)}")
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
