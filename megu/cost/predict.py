r"""What a run costs: seconds that were measured, a line through them, and hours on a GPU from counted operations."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from megu.cost.flops import forward_flops
from megu.cost.work import Sizes, Work, work
from megu.datasets.identity import counts
from megu.methods import METHODS, method_settings
from megu.settings.cells import CELLS
from megu.settings.class_names import CIFAR10, CIFAR100
from megu.settings.errors import SettingsError
from megu.settings.profiles import resolve
from megu.settings.values import closest

TOKENS = {"image": 576, "images": 3, "text": 120}  # of a question with two worked examples: assumed, as of a LLaVA-1.5
LABELS = {"cifar10": len(CIFAR10), "cifar20": len(CIFAR100), "cifar100": sum(map(len, CIFAR100.values()))}  # K


@dataclass(frozen=True)
class Gpu:
    r"""What a graphics card does a second, 1e12 operations: network -> (least, most), where it is ``trained`` in
    bfloat16 and ``seen`` in float32."""

    name: str
    trained: dict
    seen: dict


SHEET = {
    "trained": 165.2,
    "seen": 82.6,
}  # of an NVIDIA GeForce RTX 4090: dense, bfloat16 with float32 sums, and float32; 1e12 a second
# Share of it that is reached: assumed, not measured.  A small network on 32 px images leaves a large card mostly idle;
# a ViT is matrix products.
SHARES = {"vit-b16": (0.2, 0.5), "resnet50": (0.15, 0.4), "resnet18": (0.05, 0.2)}
CARD = Gpu(
    "NVIDIA GeForce RTX 4090, by its data sheet",
    **{kind: {a: (most * x, most * y) for a, (x, y) in SHARES.items()} for kind, most in SHEET.items()},
)


_HOW = "write it with `python env/gpu_smoke.py --out FILE` on a GPU"


def measured_gpu(smoke, otherwise=CARD):
    r"""A `Gpu` from what ``env/gpu_smoke.py`` measured on it.

    Args:
        smoke: dictionary with device and lines (part, what, value): operations of a step, images a second of training
            and of predictions.
        otherwise: for networks that were not measured; the name of what is returned says which.
    Raises: SettingsError where it is something else, or no network was measured.
    """
    try:
        device, found = smoke["device"], {(line["part"], line["what"]): float(line["value"]) for line in smoke["lines"]}
    except (TypeError, KeyError, ValueError):
        raise SettingsError(f"the file does not hold a device and lines of part, what and value: {_HOW}") from None
    trained, seen = {}, {}
    for arch in SHARES:
        each = found.get(("training", f"{arch}: operations of a step"), 0.0) / 1000  # 1e12 an image
        if each and ("training", f"{arch}: bfloat16") in found:
            trained[arch] = (found["training", f"{arch}: bfloat16"] * each,) * 2
        if each and ("evaluation", f"{arch}: float32") in found:
            seen[arch] = (found["evaluation", f"{arch}: float32"] * each / 3,) * 2
    if not trained:
        raise SettingsError(f"the file holds no speed of resnet18 or vit-b16: {_HOW}")
    assumed = [
        f"{arch} in part" if arch in trained or arch in seen else arch
        for arch in SHARES
        if not (arch in trained and arch in seen)
    ]
    rest = f" ({', '.join(assumed)}: assumed, of an {otherwise.name})" if assumed else ""
    return Gpu(f"{device}, measured{rest}", {**otherwise.trained, **trained}, {**otherwise.seen, **seen})


@dataclass(frozen=True)
class Line:
    """seconds = ``overhead`` + ``each`` * passes + ``entry`` * entries."""

    overhead: float
    each: float
    entry: float = 0.0

    def seconds(self, passes, entries=0.0):
        """Of so many passes, and entries that are sorted."""
        return self.overhead + self.each * np.asarray(passes, float) + self.entry * np.asarray(entries, float)


def fit(passes, seconds, entries=0.0):
    r"""The `Line` through measured points, no part negative.

    $\min \sum_i \left((a + b\,n_i + c\,e_i - t_i) / t_i\right)^2$, $a, b, c \ge 0$: relative errors, so that small
    points count.

    Args:
        passes: n, ``(m,)``, images times epochs or what else the seconds grow with.  seconds: t, ``(m,)`` > 0.
        entries: e, ``(m,)``, a second thing that they grow with, zero where there is none.
    """
    seconds = np.asarray(seconds, float)
    terms = np.stack(np.broadcast_arrays(1.0, np.asarray(passes, float), np.asarray(entries, float)), 1)
    scale = np.maximum(terms.max(0), 1)
    found, _ = nnls(terms / scale / seconds[:, None], np.ones(len(seconds)))
    return Line(*map(float, found / scale))


def lines(table):
    """Stage -> the `Line` through all its points, of each stage that was measured more than once."""
    return {
        stage: fit(part["passes"], part["seconds"], part["entries"])
        for stage, part in table.groupby("stage", sort=False)
        if len(part) > 1
    }


def held_out(table):
    r"""How well each number of passes of a stage is predicted by the other numbers, the largest and the smallest too.

    Args:
        table: DataFrame with stage, passes (images times epochs or steps), entries, seconds, from
            `megu.cost.measure.measure`.
    Returns: DataFrame of the points, each as it was predicted while all with its passes were left out: stage, passes,
        seconds, predicted, error (relative).
    Raises: SettingsError where no stage has four numbers of passes.
    """
    out = []
    for stage, part in table.groupby("stage", sort=False):
        for passes in sorted(part["passes"].unique()) if part["passes"].nunique() >= 4 else ():
            left = part["passes"] == passes
            known, asked = part[~left], part[left]
            found = fit(known["passes"], known["seconds"], known["entries"]).seconds(asked["passes"], asked["entries"])
            out.append(asked.assign(stage=stage, predicted=found, error=found / asked["seconds"] - 1))
    if not out:
        raise SettingsError(
            "no stage was measured at four numbers of passes, so none can be left out: measure with `python -m megu"
            " cost --out FOLDER`"
        )
    return pd.concat(out, ignore_index=True)[["stage", "passes", "seconds", "predicted", "error"]]


def fitted(table):
    r"""The table of `megu.cost.measure.measure` with a column ``fitted``: seconds on the `Line` of each stage; of one
    measured once, its own."""
    of = lines(table)
    return pd.concat(
        part.assign(fitted=of[stage].seconds(part["passes"], part["entries"]) if stage in of else part["seconds"])
        for stage, part in table.groupby("stage", sort=False)
    )


def hours(passes, forward, arch, gpu, half=True):
    r"""Hours on a GPU, $3\,f\,n / (P u)$ for n trained images and so on, see `megu.cost.work.Work.flops`.

    Args:
        passes: `Work`.  forward: f, operations of one forward pass.  arch: whose speed P u, peak times utilisation, is
            taken.
        gpu: `Gpu`.  half: bfloat16 in training; what is noised or seen is float32 always.
    Returns: (fewest, most) hours.
    """
    trained, rest = Work(trained=passes.trained).flops(forward), replace(passes, trained=0).flops(forward)
    return tuple(
        (trained / (gpu.trained if half else gpu.seen)[arch][end] + rest / gpu.seen[arch][end]) / 1e12 / 3600
        for end in (1, 0)
    )


ADDED = ("models", "pflop", "hours_low", "hours_high")  # what adds up over rows


def _row(stage, data, arch, models, passes, forward, gpu, scenario="", half=True):
    fewest, most = hours(passes, forward, arch, gpu, half)
    return {
        "stage": stage,
        "data": data,
        "arch": arch,
        "scenario": scenario,
        "models": models,
        "trained": passes.trained,
        "noised": passes.noised,
        "seen": passes.seen,
        "gflop": forward / 1e9,
        "pflop": models * passes.flops(forward) / 1e15,
        "hours_low": models * fewest,
        "hours_high": models * most,
    }


def sizes_of(settings, train, classes):
    r"""`megu.cost.work.Sizes` of a request on a balanced data set of ``train`` images with ``classes`` labels,
    validation images left out."""
    f, used = settings.forget, round(train * (1 - settings.data.validation))
    fine = 100 if settings.data.name == "cifar20" and f.scenario == "subclass" else classes
    forget = f.count if f.scenario == "random" else round(used / fine * len(f.classes))
    labels = min(classes, forget) if f.scenario == "random" else len(f.classes)
    return Sizes(
        forget,
        used - forget,
        min(settings.retain_images, used - forget),
        labels,
        classes,
        labels if f.scenario == "class" else 0,
    )


def grid_cost(profile="paper", seeds=3, gpu=CARD):
    r"""The arithmetic of a profile's grid: every cell of `megu.settings.cells.CELLS`, originals shared by data and
    network.

    Args:
        profile: with CIFAR data.  seeds: of pre-training.  gpu: `Gpu`.
    Returns: DataFrame, one row per stage, data, network and scenario (of pre-training and evaluation all): models;
        trained, noised, seen, passes of images of each one of them; gflop, f of a forward pass; pflop, models (3
        trained + 2 noised + seen) f; hours_low, hours_high, of all models, at the high and
        the low utilisation.
    Raises: SettingsError for another profile, or one with networks whose speed is not known.
    """
    if profile not in CELLS:
        raise SettingsError(closest(profile, CELLS, "profile"))
    if strange := sorted({cell.arch for cell in CELLS[profile] if cell.arch not in gpu.trained}):
        raise SettingsError(
            f"profile {profile!r} has networks of which no speed on a GPU is assumed or measured"
            f" ({', '.join(strange)}): use paper"
        )
    rows, known = [], set()
    for cell in CELLS[profile]:
        settings = resolve(profile, 0, cell.overrides())
        (train, test), classes = counts(cell.data), LABELS[cell.data]
        sizes, forward = sizes_of(settings, train, classes), forward_flops(cell.arch, classes, (3, 32, 32))
        names = [name for name in cell.methods if name != "original"]
        for name in (["pre-training"] if (cell.data, cell.arch) not in known else []) + names:
            parameters = None if name == "pre-training" else method_settings(name, settings)
            passes = work(name, sizes, parameters, settings.training)
            scenario = "" if name == "pre-training" else cell.scenario
            rows.append(
                _row(name, cell.data, cell.arch, seeds, passes, forward, gpu, scenario, half=not name.startswith("ssd"))
            )
        # Once each: the original, every method's model, and the untrained network that some metrics compare with.
        rows.append(
            _row("evaluation", cell.data, cell.arch, seeds * (len(names) + 2), Work(seen=train + test), forward, gpu)
        )
        known.add((cell.data, cell.arch))
    table = pd.DataFrame(rows)
    # Cells are one row only where every one of their models takes the same passes: a row multiplies out.
    return (
        table.groupby([column for column in table if column not in ADDED], sort=False)[list(ADDED)]
        .sum()
        .reset_index()[list(table)]
    )


IMAGENET = {"train": 1_281_167, "test": 50_000, "classes": 1000, "forget": 1300}
EPOCHS = {"resnet50": (90, 3), "vit-b16": (8, 5)}  # of pre-training, assumed, and of MeGU, as in the paper's networks


def imagenet_cost(retain=(10_000, 100_000), gpu=CARD):
    r"""The same arithmetic for one class of ImageNet-1k, ResNet-50 and ViT-B/16 at 224 px, one seed: columns as of
    `grid_cost` and ``retain``."""
    rows = []
    for arch, (epochs, megu_epochs) in EPOCHS.items():
        forward, n = forward_flops(arch, IMAGENET["classes"], (3, 224, 224)), IMAGENET
        training = resolve("paper").training.model_copy(update={"epochs": epochs})
        parameters = method_settings("megu", resolve("paper", 0, {"methods.megu.recipe.epochs": megu_epochs}))
        for sample in retain:
            sizes = Sizes(n["forget"], n["train"] - n["forget"], sample, 1, n["classes"], 1)
            for name in ("pre-training", "retrain", "megu"):
                if name == "megu" or sample == retain[0]:
                    passes = work(name, sizes, parameters, training)
                    rows.append(
                        {
                            **_row(name, "imagenet", arch, 1, passes, forward, gpu),
                            "retain": sample if name == "megu" else sizes.retain,
                        }
                    )
        # As in the grid: the original, the untrained network, and the models of a request, retrained and MeGU's.
        rows.append(
            {
                **_row("evaluation", "imagenet", arch, 4, Work(seen=n["train"] + n["test"]), forward, gpu),
                "retain": sizes.retain,
            }
        )
    return pd.DataFrame(rows)


def guide_cost(asking, exemplars=8):
    r"""What asking the guide takes: every exemplar with every label.

    Args:
        asking: guide -> `Line` of its seconds, passes being images and entries questions: an image is looked at once
            for all K labels.
        exemplars: n of each class.
    Returns: DataFrame: data, classes, images ($n K$), questions ($n K^2$), tokens (1e6, of a question with two worked
        examples, assumed), and hours of each guide.
    """
    rows, tokens = [], TOKENS["image"] * TOKENS["images"] + TOKENS["text"]
    for data, classes in {**LABELS, "imagenet": IMAGENET["classes"]}.items():
        images, questions = exemplars * classes, exemplars * classes**2
        spent = {f"{guide}, hours": float(line.seconds(images, questions)) / 3600 for guide, line in asking.items()}
        rows.append(
            {
                "data": data,
                "classes": classes,
                "images": images,
                "questions": questions,
                "million tokens": questions * tokens / 1e6,
                **spent,
            }
        )
    return pd.DataFrame(rows)


def references(table):
    """Rows of `grid_cost` that are not unlearning: what every method is compared with, and the evaluation."""
    return table["stage"].map(lambda name: name in ("pre-training", "evaluation") or METHODS[name].reference)
