r"""What a GPU does with this project, measured in under 10 minutes: `make gpu-smoke`, or `python env/gpu_smoke.py
[--out FOLDER]`.

Every line says what was measured and what would be expected: "ok", "LOOK" where it is otherwise, or nothing where there
is nothing to expect. The exit code is 1 where something wrong was found (a slow variant is not wrong), and 2 without a
GPU. ``--cpu`` runs the same code on tiny shapes.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from measuring import Report, computing, new, rate, stepper, synthetic
from torch.utils.flop_counter import FlopCounterMode

from megu.core import models
from megu.core.device import generator
from megu.core.train import fit, predict
from megu.datasets.sources import load
from megu.measure.metrics import accuracy
from megu.methods.megu import choose_labels
from megu.noise_pair import optimise_noise
from megu.runs.experiment import Experiment
from megu.settings.config import Augment, Noise, Recipe
from megu.settings.profiles import resolve

VARIANTS = {  # name -> (settings, default memory layout instead of channels last)
    "float32": ({"autocast": "off"}, False),
    "float32 with TF32": ({"autocast": "off", "tf32": True}, False),
    "bfloat16, default layout": ({"autocast": "on"}, True),
    "bfloat16": ({"autocast": "on"}, False),
    "bfloat16, not deterministic": ({"autocast": "on", "deterministic": False}, False),
    "bfloat16, compiled": ({"autocast": "on", "compile": True}, False),
}
FULL = SimpleNamespace(
    archs=("resnet18", "vit-b16"), batch=64, batches=(64, 128, 256), steps=20, warm=3, images=2048,
    variants=tuple(VARIANTS), unlearn={"training.epochs": 2, "seeds": 3},
)  # fmt: skip
FEW = {"training.epochs": 1, "seeds": 2, "training.batch": 32, "retain_images": 60, "guide.source": "features"}
TINY = SimpleNamespace(
    archs=("resnet-small", "vit-tiny"), batch=4, batches=(2, 4), steps=1, warm=1, images=16,
    variants=("float32", "bfloat16"), unlearn={**FEW, "methods.megu.noise.steps": 4},
)  # fmt: skip


def training(report, images, arch, shape, device):
    """Speed of a training step by variant, achieved operations per second, and how far bfloat16 is from float32."""
    index, rates, logits = torch.arange(shape.batch, device=device), {}, {}
    with FlopCounterMode(display=False) as counter:
        stepper(new(arch, images, device), images, computing(device, autocast="off"))(index)
    each = counter.get_total_flops() / len(index)
    report.say(f"{arch}: operations of a step", each / 1e9, "GFLOP an image")
    for name in shape.variants:
        settings, default_layout = VARIANTS[name]
        compute = computing(device, **settings)
        with report.tried(f"{arch}: {name}"):
            step = stepper(new(arch, images, device, default_layout), images, compute, default_layout)
            logits[name] = step(index)
            rates[name] = rate(lambda step=step: step(index), len(index), shape.warm, shape.steps)
        if name not in rates:
            continue
        base = {"float32": None} | dict.fromkeys(("bfloat16, not deterministic", "bfloat16, compiled"), "bfloat16")
        base = base.get(name, "float32")
        ratio = rates[name] / rates[base] if base in rates else None
        expected = f"at least as fast as {base}; x {ratio:.2f}" if ratio else ""
        ok = None if ratio is None or shape is TINY else ratio > 0.95
        unit = f"images/s, {rates[name] * each / 1e12:.3g} TFLOP/s"
        report.say(f"{arch}: {name}", rates[name], unit, expected, ok, wrong=False)
    if {"bfloat16", "float32"} <= set(logits):
        far = ((logits["bfloat16"] - logits["float32"]).abs().max() / logits["float32"].std()).item()
        what = f"{arch}: first logits, bfloat16 - float32"
        report.say(what, far, "standard deviations", "0 < value < 0.2", 0 < far < 0.2)


def memory(report, images, arch, shape, device):
    """Peak memory of a training step by batch size."""
    compute, peak, gpu = computing(device, autocast="on"), 0.0, device.type == "cuda"
    for batch in shape.batches:
        torch.cuda.reset_peak_memory_stats() if gpu else None
        try:
            stepper(new(arch, images, device), images, compute)(torch.arange(batch, device=device))
        except torch.OutOfMemoryError:
            expected = "fewer images at a time: megu.core.train.fit splits the batch"
            report.say(f"{arch}: batch {batch}", "no room", "", expected)
            break
        last, peak = peak, torch.cuda.max_memory_allocated() / 1e9 if gpu else "not measured"
        expected = ("more than the batch before", peak > last) if gpu else ("a GPU",)
        report.say(f"{arch}: batch {batch}", peak, "GB", *expected)


def evaluation(report, images, arch, shape, device):
    """Speed of predictions in float32, and what TF32 changes."""
    model, index, logits = new(arch, images, device).eval(), torch.arange(min(500, shape.images), device=device), {}
    for name, tf32 in (("float32", False), ("TF32", True)):
        computing(device, tf32=tf32)
        logits[name] = predict(model, images, index)
        speed = rate(lambda: predict(model, images, index), len(index), 1, max(1, shape.steps // 4))
        report.say(f"{arch}: {name}", speed, "images/s")
    far = ((logits["TF32"] - logits["float32"]).abs().max() / logits["float32"].std()).item()
    able = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    expected = "above 0 and below 0.05" if able else "0: no TF32 below compute capability 8.0"
    ok = 0 < far < 0.05 if able else far == 0
    report.say(f"{arch}: logits, TF32 - float32", far, "deviations", expected, ok)


def repeated(report, images, arch, shape, device):
    """Training with augmentation, and noise through the trained network: the same bits twice, and no step that waits
    for the device."""

    def train(deterministic, steps):
        compute = computing(device, autocast="on", deterministic=deterministic)
        model, gen = new(arch, images, device), generator(0, "twice")
        recipe = Recipe(epochs=1, batch=shape.batch, lr=0.01, augment=Augment(rotate=15.0))

        def batch(position):
            index = position.to(device, non_blocking=True)
            return images.batch(index, recipe.augment, gen), images.y[index]

        fit(model, batch, steps * shape.batch, recipe, gen, compute)
        return model

    def once(deterministic):
        model, index = train(deterministic, 3), torch.arange(4, device=device)
        noise = optimise_noise(model, index, images.shape, 1, Noise(steps=5), generator(0, "noise"))
        return [*model.state_dict().values(), noise]

    def waits(steps):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                train(True, steps)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return sum("synchroniz" in str(warning.message) for warning in caught)

    for fixed in (True, False):
        same = all(torch.equal(a, b) for a, b in zip(once(fixed), once(fixed), strict=True))
        what = f"{arch}: {'' if fixed else 'not '}deterministic, same bits twice"
        report.say(what, same, "", *(("True", same) if fixed else ()))
    if device.type == "cuda":
        more = waits(8) - waits(2)
        report.say(f"{arch}: times that 6 more steps wait for the GPU", more, "", "0", more == 0, wrong=False)


def unlearning(report, shape, device, folder):
    """MeGU on embedded images on this device and on the CPU: transition, labels, accuracies."""
    usual = shape.unlearn
    if shape is TINY:  # a few of the embedded images
        few = load(resolve(overrides={"device": "cpu"}))
        x, y = few.x[:, 0].numpy(), few.y.numpy()
        parts = {"x_train": x[:200], "y_train": y[:200], "x_test": x[-100:], "y_test": y[-100:]}
        np.savez(folder / "few.npz", **parts, class_names=np.array(few.classes))
        usual = {**usual, "data.name": "npz", "data.path": str(folder / "few.npz")}
    runs = {
        "device": Experiment(run_dir=folder / "device", overrides={**usual, "device": str(device)}),
        "cpu": Experiment(run_dir=folder / "cpu", overrides={**usual, "device": "cpu", "autocast": "off"}),
    }
    far = float(np.abs(runs["device"].transition() - runs["cpu"].transition()).max())
    report.say("transition matrix, device - CPU", far, "", "below 1e-6", far < 1e-6)
    tasks = {name: run.task("megu", 0) for name, run in runs.items()}
    tasks["device"] = replace(tasks["device"], original=models.copy_of(tasks["cpu"].original).to(device))
    labels = {name: choose_labels(task, runs[name].parameters("megu")).cpu() for name, task in tasks.items()}
    share = 100 * (labels["device"] == labels["cpu"]).double().mean().item()
    report.say("perturbing labels of one original, equal", share, "percent", "at least 99.5", share >= 99.5)
    parts, values = ("test_retain", "test_forget"), {}
    for name, run in runs.items():
        truth = [run.images.y[getattr(run.split, part)] for part in parts]
        logits = [run.logits("megu", seed) for seed in run.seeds]
        values[name] = np.array([[accuracy(of[p], y) for p, y in zip(parts, truth, strict=True)] for of in logits])
    spread = np.maximum(*(np.ptp(of, 0) for of in values.values()))
    away = np.abs(values["device"].mean(0) - values["cpu"].mean(0))
    for i, part in enumerate(parts):
        expected = f"{values['cpu'][:, i].mean():.1f} on the CPU, seed spread {spread[i]:.1f}"
        value, ok = float(values["device"][:, i].mean()), bool(away[i] <= max(spread[i], 1.0))
        report.say(f"MeGU: accuracy, {part}", value, "percent", expected, ok)
    total = "method == 'megu' and part == 'total'"
    seconds = {name: float(run.timings().query(total)["seconds"].mean()) for name, run in runs.items()}
    report.say("MeGU: seconds", seconds["device"], "s", f"{seconds['cpu']:.1f} on the CPU")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, help="folder for gpu_smoke.json, what was measured")
    arguments.add_argument("--cpu", action="store_true", help="tiny shapes on the CPU")
    chosen = arguments.parse_args()
    if not chosen.cpu and not torch.cuda.is_available():
        print("gpu-smoke needs a GPU, and torch finds none here (--cpu runs tiny shapes)", file=sys.stderr)
        raise SystemExit(2)
    shape, report, start = TINY if chosen.cpu else FULL, Report(), time.perf_counter()
    device = computing("cpu" if chosen.cpu else "auto").device
    about = {"device": "CPU" if chosen.cpu else torch.cuda.get_device_name(device), "torch": torch.__version__}
    about |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    images = synthetic(shape.images, device)
    try:
        for arch in shape.archs:
            for part in (training, memory, evaluation, repeated):
                report.part = part.__name__
                with report.tried(arch):
                    part(report, images, arch, shape, device)
        report.part = "unlearning"
        with tempfile.TemporaryDirectory() as folder, report.tried("MeGU"):
            unlearning(report, shape, device, Path(folder))
    finally:  # also where it is interrupted
        minutes = (time.perf_counter() - start) / 60
        if chosen.out:
            chosen.out.mkdir(parents=True, exist_ok=True)
            content = json.dumps({**about, "minutes": round(minutes, 2), "lines": report.lines}, indent=1)
            (chosen.out / "gpu_smoke.json").write_text(content + "\n")
    wrong = [line["what"] for line in report.lines if line["wrong"]]
    print(f"{minutes:.1f} minutes; " + (f"not as expected: {'; '.join(wrong)}" if wrong else "nothing wrong was found"))
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
