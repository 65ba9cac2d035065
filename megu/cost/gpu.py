r"""How fast a graphics card is: by its data sheet and an assumed share of it, or measured."""

from typing import NamedTuple

from megu.measure.count import Passes
from megu.settings.errors import SettingsError


class Gpu(NamedTuple):
    r"""A card's speeds, 1e12 operations a second: network -> (least, most), ``trained`` in bfloat16, ``seen`` in
    float32."""

    name: str
    trained: dict
    seen: dict


# Of an NVIDIA GeForce RTX 4090, dense: bfloat16 with float32 sums, and float32; 1e12 a second.
SHEET = {"trained": 165.2, "seen": 82.6}
# Share of it that is reached, assumed: small networks leave a large card mostly idle.
SHARES = {"vit-b16": (0.2, 0.5), "resnet50": (0.15, 0.4), "resnet18": (0.05, 0.2)}
CARD = Gpu(
    "NVIDIA GeForce RTX 4090, by its data sheet",
    **{kind: {a: (most * x, most * y) for a, (x, y) in SHARES.items()} for kind, most in SHEET.items()},
)

_HOW = "write it with `python env/gpu_smoke.py --out FOLDER` on a GPU"
# Kind -> part and what of a line; an image takes a step's operations divided by the number.
_MEASURED = {"trained": ("training", "bfloat16", 1), "seen": ("evaluation", "float32", 3)}


def measured_gpu(smoke):
    r"""A `Gpu` from what ``env/gpu_smoke.py`` wrote; its name says what is still assumed, of `CARD`.

    Raises: SettingsError where it is something else, or no network was measured.
    """
    try:
        device = smoke["device"]
        measured = [line for line in smoke["lines"] if not isinstance(line["value"], str)]  # "no room", "failed"
        found = {(line["part"], line["what"]): float(line["value"]) for line in measured}
    except (TypeError, KeyError, ValueError):
        raise SettingsError(f"it does not hold a device and lines of part, what, value: {_HOW}") from None
    speeds = {kind: {} for kind in _MEASURED}
    for arch in SHARES:
        step = found.get(("training", f"{arch}: operations of a step"), 0.0) / 1000  # 1e12 an image
        for kind, (part, what, parts) in _MEASURED.items():
            if images := step and found.get((part, f"{arch}: {what}")):
                speeds[kind][arch] = (images * step / parts,) * 2
    if not speeds["trained"]:
        raise SettingsError(f"it holds no speed of resnet18 or vit-b16: {_HOW}")
    known = {arch: sum(arch in speed for speed in speeds.values()) for arch in SHARES}
    assumed = ", ".join(arch + " in part" * count for arch, count in known.items() if count < len(speeds))
    rest = f" ({assumed}: assumed, of an {CARD.name})" if assumed else ""
    return Gpu(f"{device}, measured{rest}", **{kind: getattr(CARD, kind) | speed for kind, speed in speeds.items()})


def hours(passes, forward, arch, gpu, half=True):
    r"""(Fewest, most) hours on a `Gpu` of `Passes` through network ``arch``: operations by its speed, peak times
    utilisation; ``forward`` as of `Passes.flops`; ``half``: training is in bfloat16."""
    trained = Passes(passes.trained).flops(forward)
    speeds, rest = (gpu.trained if half else gpu.seen)[arch], passes.flops(forward) - trained
    return tuple((trained / speeds[end] + rest / gpu.seen[arch][end]) / 1e12 / 3600 for end in (1, 0))
