r"""The processes that train one model: this one alone, or several that each take a slice of every batch."""

import copy
from datetime import timedelta

from torch import nn

from megu.settings.errors import SettingsError
from megu.settings.extras import extra


class Alone:
    """This process by itself."""

    size, rank = 1, 0

    def share(self, batch):
        """The slice of a batch ``(b, ...)`` that this process computes."""
        return batch

    def weight(self, part, whole):
        """What the mean loss of ``part`` images counts in the loss of a batch of ``whole``."""
        return part / whole

    def synchronised(self, model):
        """A network with the tensors of ``model`` whose batch statistics are those of the whole batch."""
        return model

    def joined(self, net):
        """The network that gives every process the gradient of the whole batch."""
        return net

    def left(self):
        """Forget the networks that were joined."""

    def mean(self, value):
        """Mean of a tensor over the processes."""
        return value


class Team(Alone):
    r"""This process among several, started by ``accelerate launch`` or ``torchrun``: data-parallel training with the
    global batch held constant.

    Every process draws the whole batch, augmentation included, from the same generators and computes its slice.
    ``DistributedDataParallel`` averages the gradients, so the loss of a slice of n out of b images counts W n / b: the
    step is the one of a single process, up to the order of sums.

    Args:
        cpu: train on the processor (gloo) instead of one GPU for each process (NCCL).
    Source: the processes and the wrapping are accelerate's.
    """

    def __init__(self, cpu=False):
        with extra("cluster"):
            from accelerate import Accelerator, InitProcessGroupKwargs  # noqa: PLC0415  (a second, rarely needed)

        # The others wait where the first one waits for a lock on the run directory.
        patient = InitProcessGroupKwargs(timeout=timedelta(hours=6))
        self._accelerator = Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=[patient])
        self._cpu = cpu
        self.size, self.rank = self._accelerator.num_processes, self._accelerator.process_index

    def share(self, batch):
        """The slice of a batch ``(b, ...)`` that this process computes; slices differ by at most one image."""
        return batch.tensor_split(self.size)[self.rank]

    def weight(self, part, whole):
        """What the mean loss of ``part`` images counts, given that gradients are averaged over the processes."""
        return self.size * part / whole

    def synchronised(self, model):
        r"""A network with the very tensors of ``model``, in which batch normalisation sees the whole batch
        (``SyncBatchNorm``); ``model`` keeps its layers.

        Raises: SettingsError on a CPU where the model has batch statistics.
        """
        if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
            return model
        if self._cpu:
            raise SettingsError(
                f"{type(model).__name__} has batch normalisation, whose statistics processes share on GPUs only: train"
                " it in one process, or a ViT"
            )
        same = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        return nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model, same))

    def joined(self, net):
        """The network in ``DistributedDataParallel``."""
        return self._accelerator.prepare_model(net)

    def left(self):
        """Forget the networks that were joined."""
        self._accelerator.free_memory()

    def mean(self, value):
        """Mean of a tensor over the processes, the same in all of them."""
        return self._accelerator.reduce(value, "mean")

    def told(self, message=None):
        r"""What the first process says; all others pass None and wait for it."""
        from accelerate.utils import broadcast_object_list  # noqa: PLC0415

        return broadcast_object_list([message])[0]

    def first(self):
        """Context that the first process of each machine leaves before the others enter: for downloads."""
        return self._accelerator.local_main_process_first()
