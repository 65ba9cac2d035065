r"""The processes that train one model, and what torch keeps for a whole process."""

import copy
import random
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import torch
from torch import nn

from megu.settings.errors import SettingsError
from megu.settings.extras import extra


class Team:
    r"""This process alone, or one of several that ``accelerate launch`` or ``torchrun`` started.

    Each draws the whole batch from the same generators and computes its slice: one process's step up to rounding.

    Args: cpu: None for this process alone; of several, whether they train on the CPU (gloo) or a GPU each (NCCL).
    """

    size, rank = 1, 0

    def __init__(self, cpu=None):
        self._cpu, self._accelerator = cpu, None
        if cpu is None:
            return
        with extra("cluster"):
            from accelerate import Accelerator, InitProcessGroupKwargs  # noqa: PLC0415  (a second)

        patient = InitProcessGroupKwargs(timeout=timedelta(hours=6))  # the first may wait for a run directory
        self._accelerator = Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=[patient])
        self.size, self.rank = self._accelerator.num_processes, self._accelerator.process_index

    def share(self, batch):
        """The slice of a batch ``(b, ...)`` that this process computes."""
        return batch.tensor_split(self.size)[self.rank]

    def weight(self, part, whole):
        """Weight of ``part`` of ``whole`` images, as gradients are averaged over processes."""
        return self.size * part / whole

    def synchronised(self, model):
        r"""A network with the tensors of ``model``, whose batch normalisation sees the whole batch.

        Raises: SettingsError for several processes where the model has batch statistics, on a CPU or without a scale.
        """
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if self._cpu is None or not norms:
            return model
        if self._cpu:
            what = f"{type(model).__name__} has batch normalisation, which processes share on GPUs only"
            raise SettingsError(f"{what}: train it in one process, or a ViT")
        if any(norm.weight is None and norm.bias is not None for norm in norms):  # torch would lose the bias
            what = f"{type(model).__name__} has batch normalisation without a scale, which processes cannot share"
            raise SettingsError(f"{what}: train it in one process, or another arch")
        same = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        return nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model, same))

    def joined(self, net):
        """The network, whose gradient is that of the whole batch in every process."""
        return self._accelerator.prepare_model(net) if self._accelerator else net

    def left(self):
        """Forget the networks that were joined."""
        if self._accelerator:
            self._accelerator.free_memory()

    def mean(self, value):
        """Mean of a tensor over the processes."""
        return self._accelerator.reduce(value, "mean") if self._accelerator else value

    def told(self, message=None):
        r"""What the first process says; the others pass None."""
        from accelerate.utils import broadcast_object_list  # noqa: PLC0415

        return broadcast_object_list([message])[0]

    def first(self):
        """Context, for downloads, that the first process of a machine leaves before others enter."""
        return self._accelerator.local_main_process_first()


@contextmanager
def as_before():
    r"""After the block torch has the threads and rules of before, see `megu.core.device.choose`; its global generators,
    Python's and numpy's are where they were."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    threads, rules = torch.get_num_threads(), (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32)
    tf32, strict = matmul.allow_tf32, torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    drawn = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(drawn[0]), np.random.set_state(drawn[1])
        torch.set_num_threads(threads)
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = rules
        matmul.allow_tf32 = tf32
        torch.use_deterministic_algorithms(strict, warn_only=only_warns)


@contextmanager
def outside_autocast():
    r"""In the block no ``torch.autocast`` is on, nor open: within one, even one that is off, torch would keep what a
    ``forward()`` casts in its own, when the weights have changed."""
    kinds, depth = ("cpu", "cuda"), torch.autocast_increment_nesting()
    before = [torch.is_autocast_enabled(kind) for kind in kinds]
    for _ in range(depth):
        torch.autocast_decrement_nesting()
    try:
        for kind in kinds:
            torch.set_autocast_enabled(kind, False)
        yield
    finally:
        for kind, on in zip(kinds, before, strict=True):
            torch.set_autocast_enabled(kind, on)
        for _ in range(depth - 1):
            torch.autocast_increment_nesting()
