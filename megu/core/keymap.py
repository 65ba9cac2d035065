r"""Names of the weights of a ResNet trained with the code that much of the field shares, and how they are called
here."""

import re

_ENDS = {"stem": "conv1", "head": "fc"}
_PARTS = {
    "conv1": "residual_function.0",
    "bn1": "residual_function.1",
    "conv2": "residual_function.3",
    "bn2": "residual_function.4",
}


def theirs(name, blocks):
    r"""What a tensor of `megu.core.models.ResNet` is called in weiaicunzai/pytorch-cifar100, whose ResNet-18 the public
    unlearning code uses.

    The stem is ``conv1``, stage s its ``conv<s + 2>_x``, a block's body its ``residual_function``, the head ``fc``; the
    arithmetic is the same.

    Args:
        name: in our ``state_dict``.
        blocks: residual blocks of each stage, see `megu.core.models.RESNETS`.

    >>> theirs("stem.0.weight", (2, 2, 2, 2)), theirs("layers.3.bn2.running_var", (2, 2, 2, 2))
    ('conv1.0.weight', 'conv3_x.1.residual_function.4.running_var')
    """
    top, _, rest = name.partition(".")
    if top != "layers":
        return f"{_ENDS[top]}.{rest}"
    block, part, rest = re.fullmatch(r"(\d+)\.(\w+)\.(.+)", rest).groups()
    places = [(stage, i) for stage, count in enumerate(blocks) for i in range(count)]
    stage, i = places[int(block)]
    return f"conv{stage + 2}_x.{i}.{_PARTS.get(part, part)}.{rest}"


def spoken(state):
    r"""Whether the tensors of a file (a dictionary by name) are called in that way."""
    return any(re.match(r"(module\.)?conv[2-5]_x\.", name) for name in state)


def wrapped(state):
    r"""What stands before every name where ``DataParallel`` was saved with the network in it: ``module.``, else
    nothing."""
    return "module." if all(name.startswith("module.") for name in state) else ""
