r"""Device, precision, seeds, time and memory."""

import logging
import os
import random
import resource
import time
import zlib
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.modules.module import register_module_forward_hook

from megu.core.parallel import Team, outside_autocast
from megu.settings.errors import SettingsError
from megu.settings.progress import Bar, tell


@contextmanager
def usual_torch():
    r"""Gradients, float32 and the CPU where nothing else is said, whatever the caller has set for himself."""
    kind, cpu = torch.get_default_dtype(), torch.device("cpu")
    elsewhere = torch.get_default_device() != cpu  # a context costs time in every call
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad(), cpu if elsewhere else nullcontext():
            with outside_autocast():
                yield
    finally:
        torch.set_default_dtype(kind)


@dataclass(frozen=True)
class Compute:
    r"""Device, precision and repeatability of a run.

    Attributes:
        autocast: bfloat16 in the matrix products of training; all else is float32.
        compile: training steps run through ``torch.compile``.
        deterministic: the same numbers every time on the same GPU; else cuDNN tries what is fastest.
        tf32: float32 products on a GPU keep 10 bits of the mantissa instead of 23.
        team: processes that train together; they change rounding only.
    """

    device: torch.device
    autocast: bool
    compile: bool = False
    deterministic: bool = True
    tf32: bool = False
    team: Team = Team()

    def __str__(self):
        usual = (self.device.type, "bfloat16 autocast" if self.autocast else "float32")
        more = {"compiled": self.compile, "not deterministic": not self.deterministic, "TF32": self.tf32}
        return ", ".join((*usual, *(word for word, holds in more.items() if holds)))

    @property
    def hardware(self):
        """The same with the GPU's name."""
        return f"{self}, {torch.cuda.get_device_name(self.device)}" if self.device.type == "cuda" else str(self)

    def cast(self):
        """Context of a training step."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast)


def _bf16_pays(device, arch):
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Else bfloat16 is emulated; for a ViT it never pays on a CPU (`make bench`).
    able = getattr(torch.cpu, "get_capabilities", dict)()
    return not arch.startswith("vit") and any(able.get(kind) for kind in ("avx512_bf16", "amx_bf16", "bf16"))


def choose(settings, own: bool = False) -> Compute:
    r"""The `Compute` of a run; sets what torch keeps for the whole process.

    Args: own: the model is not built here: what has no deterministic form only warns.
    Raises: SettingsError where the device is unknown or not there.
    """
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("only cpu and cuda are supported")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"device {name!r}: {str(error).splitlines()[0]}; set device to 'auto' or 'cpu'") from None
    repeats, tf32 = True, False
    if device.type == "cuda":
        if device.index is None:  # each process of a team has its own
            device = torch.device("cuda", torch.cuda.current_device())
        torch.cuda.set_device(device)
        repeats, tf32 = settings.deterministic, settings.tf32
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = repeats, not repeats
        # Only without ``warn_only`` is the attention of a ViT deterministic as well.
        torch.use_deterministic_algorithms(repeats, warn_only=own)
        torch.utils.deterministic.fill_uninitialized_memory = False  # costs time, and nothing reads it
        if repeats:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by the first matrix product
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    if settings.threads:
        torch.set_num_threads(settings.threads)
    autocast = {"on": True, "off": False}.get(settings.autocast, _bf16_pays(device, settings.arch))
    return Compute(device, autocast, settings.compile, repeats, tf32)


def forward(model, compute):
    r"""``model`` as a training step calls it, compiled or data-parallel, with the same weights and names."""
    net = compute.team.synchronised(model)
    if compute.compile:
        torch.compiler.reset()  # other trainings count towards a limit
        net = torch.compile(net, fullgraph=True, dynamic=False)  # batches have at most two sizes
    return compute.team.joined(net)


def compile_errors():
    r"""What a failed ``torch.compile`` raises."""
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException  # noqa: PLC0415  (takes a second)

    return TorchDynamoException, FailOnRecompileLimitHit


def generator(seed: int, *purpose: str, device="cpu") -> torch.Generator:
    r"""A generator for each purpose (words), so that a draw for one moves no other."""
    words = [zlib.crc32(str(word).encode(errors="surrogateescape")) for word in purpose]
    state = np.random.SeedSequence([seed, *words]).generate_state(1, np.uint64)[0]
    return torch.Generator(device=device).manual_seed(int(state >> 1))


@contextmanager
def seeded(gen: torch.Generator):
    r"""In the block the global generators of torch, Python and numpy, for any network, are seeded from ``gen``."""
    seed, others = int(torch.randint(2**62, (1,), generator=gen)), (random.getstate(), np.random.get_state())
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed), random.seed(seed), np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(others[0]), np.random.set_state(others[1])


def too_big(parts, count, what):
    r"""Twice as many parts, as ``count`` images did not fit into memory.  Raises: SettingsError where one did not."""
    if parts >= count:
        raise SettingsError(f"{what}: not even one image at a time fits into memory: use smaller ones, or device cpu")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    parts = min(2 * parts, count)
    message = "%s: memory does not hold %d images at a time; going on in %d parts each"
    logging.getLogger("megu").warning(message, what, count, parts)
    return parts


def in_batches(
    look: Callable, index: Int[Tensor, " n"], batch: int, what: str = "evaluation", fitted: bool = False
) -> list:
    r"""``look(part)`` of every batch of ``index``, smaller where memory does not suffice.

    Args:
        look: function of ``(b,)`` int64, each image on its own.  what: for messages.
        fitted: on a CPU, batches are so small that no layer's output is above `MAPPED`, as the first 32 images show.
    """
    out, parts, found = [], 1, []
    if fitted := fitted and index.device.type == "cpu" and batch > FIRST:
        most, batch = batch, FIRST
    with Bar(total=len(index), desc=what, unit="image") as bar:
        while len(index):
            part = index[: -(-batch // parts)]
            try:
                with _outputs(found) if fitted else nullcontext():
                    out.append(look(part))
                index = index[len(part) :]
                bar.update(len(part))
                if fitted and parts == 1:
                    fitted, batch = False, min(most, max(FIRST, MAPPED * len(part) // max(found, default=1)))
                continue
            except torch.OutOfMemoryError:
                pass  # its memory is freed when this block ends
            parts = too_big(parts, batch, what)
    return out


MAPPED = 10 * 2**20  # bytes: of larger tensors glibc gives the room back, and each new page costs (`make bench`)
FIRST = 32  # images whose outputs are measured


def _outputs(sizes):
    # Context that notes the bytes of every layer's output.
    def note(module, inputs, output):
        if isinstance(output, Tensor):
            sizes.append(output.nbytes)

    return register_module_forward_hook(note)


def _synchronise():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Stopwatch:
    """Seconds by part; the device is synchronised at both ends."""

    earlier = 0.0  # seconds that other processes spent on the trainings that this one went on with

    def __init__(self):
        self.seconds = {}

    @classmethod
    def now(cls):
        """Seconds since some moment, as if this process had done all of its trainings."""
        return time.perf_counter() + cls.earlier

    @contextmanager
    def __call__(self, part):
        """Add the block's seconds to ``part``, a stage that callbacks hear of."""
        tell("on_stage", part)
        _synchronise()
        start = self.now()
        try:
            yield
        finally:
            _synchronise()
            self.seconds[part] = self.seconds.get(part, 0.0) + self.now() - start

    @property
    def total(self):
        """Seconds."""
        return sum(self.seconds.values())


def fresh_peak(device):
    r"""`peak_memory_mb` of a GPU counts from now on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mb(device):
    r"""Largest memory, 1e6 bytes: of tensors on a GPU since `fresh_peak`, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # Linux counts in KiB
