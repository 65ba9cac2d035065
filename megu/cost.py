r"""What a run costs: seconds that were measured, a line through them, and hours on a GPU from counted operations."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from megu.cells import CELLS
from megu.flops import forward_flops
from megu.methods import METHODS, method_settings
from megu.profiles import resolve
from megu.values import SettingsError, closest
from megu.work import Sizes, Work, work

TOKENS = {"image": 576, "images": 3, "text": 120}  # of a question with two worked examples: assumed, as of a LLaVA-1.5
CIFAR = {"cifar10": (50_000, 10, 10_000), "cifar20": (50_000, 20, 10_000), "cifar100": (50_000, 100, 10_000)}  # training images, K, test images


@dataclass(frozen=True)
class Gpu:
    r"""What a graphics card does a second, 1e12 operations: network -> (least, most), where it is ``trained`` in bfloat16 and ``seen`` in float32."""

    name: str
    trained: dict
    seen: dict


SHEET = {"trained": 165.2, "seen": 82.6}  # of an NVIDIA GeForce RTX 4090: dense, bfloat16 with float32 sums, and float32; 1e12 a second
# Share of it that is reached: assumed, not measured.  A small network on 32 px images leaves a large card mostly idle; a ViT is matrix products.
SHARES = {"vit-b16": (0.2, 0.5), "resnet50": (0.15, 0.4), "resnet18": (0.05, 0.2)}
CARD = Gpu("NVIDIA GeForce RTX 4090, by its data sheet", **{kind: {a: (most * x, most * y) for a, (x, y) in SHARES.items()} for kind, most in SHEET.items()})


def measured_gpu(smoke, otherwise=CARD):
    r"""A `Gpu` from what ``tests/bench/gpu_smoke.py`` measured on it.

    Args:
        smoke: dictionary with device and lines (part, what, value): operations of a step, images a second of training and of predictions.
        otherwise: for networks that were not measured.
    Raises: SettingsError where no network was measured.
    """
    found = {(line["part"], line["what"]): line["value"] for line in smoke.get("lines", ())}
    trained, seen = {}, {}
    for arch in SHARES:
        each = found.get(("training", f"{arch}: operations of a step"), 0.0) / 1000  # 1e12 an image
        if each and ("training", f"{arch}: bfloat16") in found:
            trained[arch] = (found["training", f"{arch}: bfloat16"] * each,) * 2
        if each and ("evaluation", f"{arch}: float32") in found:
            seen[arch] = (found["evaluation", f"{arch}: float32"] * each / 3,) * 2
    if not trained:
        raise SettingsError("the file holds no speed of resnet18 or vit-b16: write it with `python tests/bench/gpu_smoke.py --out FILE` on a GPU")
    return Gpu(f"{smoke['device']}, measured", {**otherwise.trained, **trained}, {**otherwise.seen, **seen})


@dataclass(frozen=True)
class Line:
    """seconds = ``overhead`` + ``each`` * images * epochs."""

    overhead: float
    each: float

    def seconds(self, images):
        """Of so many images times epochs."""
        return self.overhead + self.each * np.asarray(images, float)


def fit(images, seconds):
    r"""The `Line` through measured points, neither part negative.

    $\min \sum_i \left((a + b\,n_i - t_i) / t_i\right)^2$, $a, b \ge 0$: relative errors, so that small points count.

    Args:
        images: ``(m,)``, images times epochs.  seconds: ``(m,)`` > 0.
    """
    images, seconds = np.asarray(images, float), np.asarray(seconds, float)
    scale = images.max()
    (a, b), _ = nnls(np.stack([1 / seconds, images / scale / seconds], 1), np.ones(len(seconds)))
    return Line(float(a), float(b / scale))


def held_out(table):
    r"""How well every second point of each stage is predicted by the others.

    Args:
        table: DataFrame with stage, passes (images times epochs or steps), seconds, from `megu.costing.measure`.
    Returns: DataFrame of the points that were left out: stage, passes, seconds, predicted, error (relative).
    """
    out = []
    for stage, part in table.groupby("stage", sort=False):
        part = part.sort_values("passes").reset_index(drop=True)
        if part["passes"].nunique() < 4:
            continue
        known = part.index % 2 == 0
        found = fit(part["passes"][known], part["seconds"][known]).seconds(part["passes"][~known])
        out.append(part[~known].assign(stage=stage, predicted=found, error=found / part["seconds"][~known] - 1))
    return pd.concat(out, ignore_index=True)[["stage", "passes", "seconds", "predicted", "error"]]


def fitted(table):
    r"""The table of `megu.costing.measure` with a column ``fitted``: the `Line` of each stage and variable through all its points."""
    parts = [part.assign(fitted=fit(part["passes"], part["seconds"]).seconds(part["passes"])) for _, part in table.groupby("stage", sort=False)]
    return pd.concat(parts)


def hours(passes, forward, arch, gpu, half=True):
    r"""Hours on a GPU, $3\,f\,n / (P u)$ for n trained images and so on, see `megu.work.Work.flops`.

    Args:
        passes: `Work`.  forward: f, operations of one forward pass.  arch: whose speed P u, peak times utilisation, is taken.
        gpu: `Gpu`.  half: bfloat16 in training; what is noised or seen is float32 always.
    Returns: (fewest, most) hours.
    """
    trained, rest = Work(trained=passes.trained).flops(forward), replace(passes, trained=0).flops(forward)
    return tuple((trained / (gpu.trained if half else gpu.seen)[arch][end] + rest / gpu.seen[arch][end]) / 1e12 / 3600 for end in (1, 0))


def _row(stage, data, arch, models, passes, forward, gpu, half=True):
    fewest, most = hours(passes, forward, arch, gpu, half)
    return {
        "stage": stage, "data": data, "arch": arch, "models": models, "trained": passes.trained, "noised": passes.noised, "seen": passes.seen,
        "gflop": forward / 1e9, "pflop": models * passes.flops(forward) / 1e15, "hours_low": models * fewest, "hours_high": models * most,
    }  # fmt: skip


def sizes_of(settings, train, classes):
    r"""`megu.work.Sizes` of a request on a balanced data set of ``train`` images with ``classes`` labels, validation images left out."""
    f, used = settings.forget, round(train * (1 - settings.data.validation))
    fine = 100 if settings.data.name == "cifar20" and f.scenario == "subclass" else classes
    forget = f.count if f.scenario == "random" else round(used / fine * len(f.classes))
    labels = min(classes, forget) if f.scenario == "random" else len(f.classes)
    return Sizes(forget, used - forget, min(settings.retain_images, used - forget), labels, classes)


def grid_cost(profile="paper", seeds=3, gpu=CARD):
    r"""The arithmetic of a profile's grid: every cell of `megu.cells.CELLS`, originals shared by data and network.

    Args:
        profile: with CIFAR data.  seeds: of pre-training.  gpu: `Gpu`.
    Returns: DataFrame, one row per stage, data and network: models; trained, noised, seen, passes of images of one model (those of the first cell); gflop,
        of a forward pass; pflop, of all models; hours_low, hours_high, of all models, at the high and the low utilisation.
    Raises: SettingsError for another profile, or one with networks whose speed is not known.
    """
    if profile not in CELLS:
        raise SettingsError(closest(profile, CELLS, "profile"))
    if strange := sorted({cell.arch for cell in CELLS[profile] if cell.arch not in gpu.trained}):
        raise SettingsError(f"profile {profile!r} has networks of which no speed on a GPU is assumed or measured ({', '.join(strange)}): use paper")
    rows, known = [], set()
    for cell in CELLS[profile]:
        settings = resolve(profile, 0, cell.overrides())
        train, classes, test = CIFAR[cell.data]
        sizes, forward = sizes_of(settings, train, classes), forward_flops(cell.arch, classes, (3, 32, 32))
        names = [name for name in cell.methods if name != "original"]
        for name in (["pre-training"] if (cell.data, cell.arch) not in known else []) + names:
            parameters = None if name == "pre-training" else method_settings(name, settings)
            passes = work(name, sizes, parameters, settings.training)
            rows.append(_row(name, cell.data, cell.arch, seeds, passes, forward, gpu, half=not name.startswith("ssd")))
        rows.append(_row("evaluation", cell.data, cell.arch, seeds * (len(names) + 1), Work(seen=train + test), forward, gpu))
        known.add((cell.data, cell.arch))
    table = pd.DataFrame(rows)
    added = ("models", "pflop", "hours_low", "hours_high")
    how = {column: "sum" if column in added else "first" for column in table if column not in ("stage", "data", "arch")}
    return table.groupby(["stage", "data", "arch"], sort=False).agg(how).reset_index()


IMAGENET = {"train": 1_281_167, "test": 50_000, "classes": 1000, "forget": 1300}
EPOCHS = {"resnet50": (90, 3), "vit-b16": (8, 5)}  # of pre-training, assumed, and of MeGU, as in the paper's networks


def imagenet_cost(retain=(10_000, 100_000), gpu=CARD):
    r"""The same arithmetic for one class of ImageNet-1k, ResNet-50 and ViT-B/16 at 224 px, one seed: columns as of `grid_cost` and ``retain``."""
    rows = []
    for arch, (epochs, megu_epochs) in EPOCHS.items():
        forward, n = forward_flops(arch, IMAGENET["classes"], (3, 224, 224)), IMAGENET
        training = resolve("paper").training.model_copy(update={"epochs": epochs})
        parameters = method_settings("megu", resolve("paper", 0, {"methods.megu.recipe.epochs": megu_epochs}))
        for sample in retain:
            sizes = Sizes(n["forget"], n["train"] - n["forget"], sample, 1, n["classes"])
            for name in ("pre-training", "retrain", "megu"):
                if name == "megu" or sample == retain[0]:
                    passes = work(name, sizes, parameters, training)
                    rows.append({**_row(name, "imagenet", arch, 1, passes, forward, gpu), "retain": sample if name == "megu" else sizes.retain})
        rows.append({**_row("evaluation", "imagenet", arch, 1, Work(seen=n["train"] + n["test"]), forward, gpu), "retain": sizes.retain})
    return pd.DataFrame(rows)


def guide_cost(each, exemplars=8):
    r"""What asking the guide takes: every exemplar with every label.

    Args:
        each: guide -> seconds of a question, measured.  exemplars: n of each class.
    Returns: DataFrame: data, classes, questions ($n K^2$), tokens (1e6, of a question with two worked examples, assumed), and hours of each guide.
    """
    rows, tokens = [], TOKENS["image"] * TOKENS["images"] + TOKENS["text"]
    for data, classes in {**{name: k for name, (_, k, _) in CIFAR.items()}, "imagenet": IMAGENET["classes"]}.items():
        questions = exemplars * classes**2
        spent = {f"{guide}, hours": questions * seconds / 3600 for guide, seconds in each.items()}
        rows.append({"data": data, "classes": classes, "questions": questions, "million tokens": questions * tokens / 1e6, **spent})
    return pd.DataFrame(rows)


def references(table):
    """Rows of `grid_cost` that are not unlearning: what every method is compared with, and the evaluation."""
    return table["stage"].map(lambda name: name in ("pre-training", "evaluation") or METHODS[name].reference)
