r"""Names of a ResNet's weights in weiaicunzai/pytorch-cifar100, which the public unlearning code uses."""

_ENDS = {"stem": "conv1", "head": "fc"}
_BODY = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4}  # places in ``residual_function``


def theirs(name, blocks):
    r"""The name there of a tensor of a `megu.core.models.ResNet` with so many ``blocks`` in its stages.

    >>> theirs("stem.0.weight", (2, 2, 2, 2)), theirs("layers.3.bn2.running_var", (2, 2, 2, 2))
    ('conv1.0.weight', 'conv3_x.1.residual_function.4.running_var')
    """
    top, _, rest = name.partition(".")
    if top != "layers":
        return f"{_ENDS[top]}.{rest}"
    block, part, rest = rest.split(".", 2)
    places = [f"conv{stage + 2}_x.{i}" for stage, count in enumerate(blocks) for i in range(count)]
    part = f"residual_function.{_BODY[part]}" if part in _BODY else part
    return f"{places[int(block)]}.{part}.{rest}"


def wrapped(state):
    r"""What stands before every name: ``module.`` where ``DataParallel`` was saved, else nothing."""
    return "module." if all(name.startswith("module.") for name in state) else ""
