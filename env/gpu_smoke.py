r"""What a GPU does with this project, measured in under 10 minutes: `make gpu-smoke`, or `python env/gpu_smoke.py
[--out FILE.json]`.

Every line says what was measured and what would be expected: "ok", "LOOK" where it is otherwise, or nothing where there
    is nothing to expect. The exit code is 1 where something wrong was found (a slow variant is not wrong), and 2
    without a GPU. ``--cpu`` runs the same code on tiny shapes.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from lines import Report
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from megu.core import models
from megu.core.device import Stopwatch, choose, forward, generator
from megu.core.train import fit, predict
from megu.datasets import images as data
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
FULL = {
    "archs": ("resnet18", "vit-b16"),
    "batch": 64,
    "batches": (64, 128, 256),
    "steps": 20,
    "images": 2048,
    "variants": tuple(VARIANTS),
    "unlearn": {"training.epochs": 2, "seeds": 3},
}
TINY = {
    "archs": ("resnet-small", "vit-tiny"),
    "batch": 4,
    "batches": (2, 4),
    "steps": 1,
    "images": 16,
    "variants": ("float32", "bfloat16"),
    "unlearn": {
        "training.epochs": 1,
        "seeds": 2,
        "training.batch": 32,
        "retain_images": 60,
        "guide.source": "features",
        "methods.megu.noise.steps": 4,
    },
}


def synthetic(size, device):
    """Random colour images of 32 x 32 and 10 classes, on the device as real ones are."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (size, 32, 32, 3), np.uint8), np.arange(size) % 10
    return data.pool("synthetic", (x, y), (x[:10], y[:10]), [str(k) for k in range(10)], device)


def new(arch, images, device, default_layout=False):
    model = models.build(arch, 10, images.shape, 0, weights="random").to(device)
    return model.to(memory_format=torch.contiguous_format) if default_layout else model


def stepper(model, images, compute, default_layout=False):
    """Function of (images, labels) that makes a training step and gives its logits."""
    opt, net = torch.optim.SGD(model.train().parameters(), 0.01, 0.9), forward(model, compute)
    layout = torch.contiguous_format if default_layout else torch.channels_last

    def step(index):
        opt.zero_grad(set_to_none=True)
        with compute.cast():
            logits = net(images.batch(index).contiguous(memory_format=layout))
        F.cross_entropy(logits.float(), images.y[index]).backward()
        opt.step()
        return logits.detach().float()

    return step


def rate(work, images, warm, steps):
    """Images per second."""
    clock = Stopwatch()
    for part, count in (("warm", warm), ("steps", steps)):
        with clock(part):
            for _ in range(count):
                work()
    return images * steps / clock.seconds["steps"]


def training(report, images, arch, shape, device):
    """Speed of a training step by variant, achieved operations per second, and how far bfloat16 is from float32."""
    index, rates, logits = torch.arange(shape["batch"], device=device), {}, {}
    with FlopCounterMode(display=False) as counter:
        stepper(
            new(arch, images, device), images, choose(resolve(overrides={"autocast": "off", "device": str(device)}))
        )(index)
    each = counter.get_total_flops() / len(index)
    report.say("training", f"{arch}: operations of a step", each / 1e9, "GFLOP an image")
    for name in shape["variants"]:
        overrides, default_layout = VARIANTS[name]
        compute = choose(resolve(overrides={**overrides, "device": str(device)}))
        with report.tried("training", f"{arch}: {name}"):
            step = stepper(new(arch, images, device, default_layout), images, compute, default_layout)
            logits[name] = step(index)
            rates[name] = rate(lambda step=step: step(index), len(index), 3 if shape is FULL else 1, shape["steps"])
        if name not in rates:
            continue
        base = {"float32": None, "bfloat16, not deterministic": "bfloat16", "bfloat16, compiled": "bfloat16"}.get(
            name, "float32"
        )
        ratio = rates[name] / rates[base] if base in rates else None
        expected = f"at least as fast as {base}; x {ratio:.2f}" if ratio else ""
        ok = None if ratio is None or shape is TINY else ratio > 0.95
        report.say(
            "training",
            f"{arch}: {name}",
            rates[name],
            f"images/s, {rates[name] * each / 1e12:.3g} TFLOP/s",
            expected,
            ok,
            wrong=False,
        )
    if {"bfloat16", "float32"} <= set(logits):
        far = ((logits["bfloat16"] - logits["float32"]).abs().max() / logits["float32"].std()).item()
        report.say(
            "training",
            f"{arch}: first logits, bfloat16 - float32",
            far,
            "standard deviations",
            "0 < value < 0.2",
            0 < far < 0.2,
        )


def memory(report, images, arch, shape, device):
    """Peak memory of a training step by batch size."""
    compute, peak = choose(resolve(overrides={"autocast": "on", "device": str(device)})), 0.0
    for batch in shape["batches"]:
        torch.cuda.reset_peak_memory_stats() if device.type == "cuda" else None
        try:
            stepper(new(arch, images, device), images, compute)(torch.arange(batch, device=device))
        except torch.OutOfMemoryError:
            report.say(
                "memory",
                f"{arch}: batch {batch}",
                "no room",
                "",
                "fewer images at a time: megu.core.train.fit splits the batch",
            )
            break
        last, peak = peak, torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else "not measured"
        report.say(
            "memory",
            f"{arch}: batch {batch}",
            peak,
            "GB",
            *(("more than the batch before", peak > last) if device.type == "cuda" else ("a GPU",)),
        )


def evaluation(report, images, arch, shape, device):
    """Speed of predictions in float32, and what TF32 changes."""
    model, index, said = new(arch, images, device).eval(), torch.arange(min(500, shape["images"]), device=device), {}
    for name, tf32 in (("float32", False), ("TF32", True)):
        choose(resolve(overrides={"device": str(device), "tf32": tf32}))
        said[name] = predict(model, images, index)
        speed = rate(lambda: predict(model, images, index), len(index), 1, max(1, shape["steps"] // 4))
        report.say("evaluation", f"{arch}: {name}", speed, "images/s")
    far = ((said["TF32"] - said["float32"]).abs().max() / said["float32"].std()).item()
    able = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    expected = "above 0 and below 0.05" if able else "0: no TF32 below compute capability 8.0"
    report.say(
        "evaluation",
        f"{arch}: logits, TF32 - float32",
        far,
        "deviations",
        expected,
        0 < far < 0.05 if able else far == 0,
    )


def repeated(report, images, arch, shape, device):
    """Training with augmentation, and noise through the trained network: the same bits twice, and no step that waits
    for the device."""

    def train(deterministic, steps):
        compute = choose(resolve(overrides={"device": str(device), "autocast": "on", "deterministic": deterministic}))
        model, gen = new(arch, images, device), generator(0, "twice")
        recipe = Recipe(epochs=1, batch=shape["batch"], lr=0.01, augment=Augment(rotate=15.0))

        def batch(position):
            index = position.to(device, non_blocking=True)
            return images.batch(index, recipe.augment, gen), images.y[index]

        fit(model, batch, steps * shape["batch"], recipe, gen, compute)
        return model

    def once(deterministic):
        model = train(deterministic, 3)
        noise = optimise_noise(
            model, torch.arange(4, device=device), images.shape, 1, Noise(steps=5), generator(0, "noise")
        )
        return [*model.state_dict().values(), noise]

    def waits(steps):
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                train(True, steps)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return sum("synchroniz" in str(warning.message) for warning in heard)

    for fixed in (True, False):
        same = all(torch.equal(a, b) for a, b in zip(once(fixed), once(fixed), strict=True))
        report.say(
            "repeated",
            f"{arch}: {'' if fixed else 'not '}deterministic, same bits twice",
            same,
            "",
            *(("True", same) if fixed else ()),
        )
    if device.type == "cuda":
        more = waits(8) - waits(2)
        report.say(
            "repeated", f"{arch}: times that 6 more steps wait for the GPU", more, "", "0", more == 0, wrong=False
        )


def unlearning(report, shape, device, folder):
    """MeGU on embedded images on this device and on the CPU: transition, labels, accuracies."""
    usual = shape["unlearn"]
    if shape is TINY:  # a few of the embedded images
        few = load(resolve(overrides={"device": "cpu"}))
        x, y = few.x[:, 0].numpy(), few.y.numpy()
        np.savez(
            folder / "few.npz",
            x_train=x[:200],
            y_train=y[:200],
            x_test=x[-100:],
            y_test=y[-100:],
            class_names=np.array(few.classes),
        )
        usual = {**usual, "data.name": "npz", "data.path": str(folder / "few.npz")}
    labs = {
        "device": Experiment(run_dir=folder / "device", overrides={**usual, "device": str(device)}),
        "cpu": Experiment(run_dir=folder / "cpu", overrides={**usual, "device": "cpu", "autocast": "off"}),
    }
    far = float(np.abs(labs["device"].transition() - labs["cpu"].transition()).max())
    report.say("unlearning", "transition matrix, device - CPU", far, "", "below 1e-6", far < 1e-6)
    tasks = {name: lab.task("megu", 0) for name, lab in labs.items()}
    tasks["device"] = replace(tasks["device"], original=models.copy_of(tasks["cpu"].original).to(device))
    labels = {name: choose_labels(task, labs[name].parameters("megu")).cpu() for name, task in tasks.items()}
    share = 100 * (labels["device"] == labels["cpu"]).double().mean().item()
    report.say(
        "unlearning", "perturbing labels of one original, equal", share, "percent", "at least 99.5", share >= 99.5
    )
    parts = ("test_retain", "test_forget")
    found = {
        name: np.array(
            [
                [accuracy(lab.logits("megu", seed)[part], lab.images.y[getattr(lab.split, part)]) for part in parts]
                for seed in lab.seeds
            ]
        )
        for name, lab in labs.items()
    }
    spread, away = (
        np.maximum(*(np.ptp(of, 0) for of in found.values())),
        np.abs(found["device"].mean(0) - found["cpu"].mean(0)),
    )
    for i, part in enumerate(parts):
        value = float(found["device"][:, i].mean())
        expected = f"{found['cpu'][:, i].mean():.1f} on the CPU, seed spread {spread[i]:.1f}"
        report.say(
            "unlearning", f"MeGU: accuracy, {part}", value, "percent", expected, bool(away[i] <= max(spread[i], 1.0))
        )
    seconds = {
        name: float(lab.timings().query("method == 'megu' and part == 'total'")["seconds"].mean())
        for name, lab in labs.items()
    }
    report.say("unlearning", "MeGU: seconds", seconds["device"], "s", f"{seconds['cpu']:.1f} on the CPU")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, help="write what was measured as JSON")
    arguments.add_argument("--cpu", action="store_true", help="tiny shapes on the CPU")
    chosen = arguments.parse_args()
    if not chosen.cpu and not torch.cuda.is_available():
        print("gpu-smoke needs a GPU, and torch finds none here (--cpu runs tiny shapes)", file=sys.stderr)
        raise SystemExit(2)
    shape, report, start = TINY if chosen.cpu else FULL, Report(), time.perf_counter()
    device = choose(resolve(overrides={"device": "cpu" if chosen.cpu else "auto"})).device
    name = "CPU" if chosen.cpu else torch.cuda.get_device_name(device)
    about = {
        "device": name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    images = synthetic(shape["images"], device)
    try:
        for arch in shape["archs"]:
            for part in (training, memory, evaluation, repeated):
                with report.tried(part.__name__, arch):
                    part(report, images, arch, shape, device)
        with tempfile.TemporaryDirectory() as folder, report.tried("unlearning", "MeGU"):
            unlearning(report, shape, device, Path(folder))
    finally:  # also where it is interrupted
        minutes = (time.perf_counter() - start) / 60
        if chosen.out:
            chosen.out.write_text(
                json.dumps({**about, "minutes": round(minutes, 2), "lines": report.lines}, indent=1) + "\n"
            )
    wrong = [line["what"] for line in report.lines if line["wrong"]]
    print(f"{minutes:.1f} minutes; " + (f"not as expected: {'; '.join(wrong)}" if wrong else "nothing wrong was found"))
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
