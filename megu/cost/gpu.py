r"""How fast a graphics card is: by its data sheet and an assumed share of it, or measured."""

from dataclasses import dataclass, replace

from megu.cost.count import Passes
from megu.settings.errors import SettingsError


@dataclass(frozen=True)
class Gpu:
    r"""What a graphics card does a second, 1e12 operations: network -> (least, most), where it is ``trained`` in
    bfloat16 and ``seen`` in float32."""

    name: str
    trained: dict
    seen: dict


# Of an NVIDIA GeForce RTX 4090: dense, bfloat16 with float32 sums, and float32; 1e12 a second.
SHEET = {"trained": 165.2, "seen": 82.6}
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


def hours(passes, forward, arch, gpu, half=True):
    r"""Hours on a GPU, $3\,f\,n / (P u)$ for n trained images and so on, see `megu.cost.count.Passes.flops`.

    Args:
        passes: `Passes`.  forward: f, operations of one forward pass.
        arch: whose speed P u, peak times utilisation, is taken.
        gpu: `Gpu`.  half: bfloat16 in training; what is noised or seen is float32 always.
    Returns: (fewest, most) hours.
    """
    trained, rest = Passes(trained=passes.trained).flops(forward), replace(passes, trained=0).flops(forward)
    return tuple(
        (trained / (gpu.trained if half else gpu.seen)[arch][end] + rest / gpu.seen[arch][end]) / 1e12 / 3600
        for end in (1, 0)
    )
