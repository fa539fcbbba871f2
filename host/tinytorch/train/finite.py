"""Where numbers stopped being numbers: the input, parameter or layer that NaN or infinity began in.

Both spread: the loss only shows that they are there. So the step is run again, layer by layer.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np

from tinytorch.autograd.tape import no_grad
from tinytorch.autograd.tensor import Tensor
from tinytorch.nn.module import Module


class _Found(Exception):
    pass


def is_finite(value: Any) -> bool:
    """Whether all numbers of a tensor, or of the tensors in a tuple, list or dict, are finite."""
    if isinstance(value, Tensor):
        return value.data.dtype.kind != "f" or bool(np.isfinite(value.data).all())
    if isinstance(value, dict):
        return all(map(is_finite, value.values()))
    return not isinstance(value, (tuple, list)) or all(map(is_finite, value))


def where_forward(net: Module, inputs: Tensor, targets: Tensor) -> str:
    """Where a net's loss of a batch stopped being finite, as the rest of a sentence."""
    for what, tensor in (("inputs", inputs), ("targets", targets)):
        if not is_finite(tensor):
            at = np.argwhere(~np.isfinite(tensor.data))[0]
            return (
                f"the {what} have {tensor.data[tuple(at)]} in them, first in sample {at[0]} of the "
                "batch: repair such data, or leave them out"
            )
    # In training the step itself has moved the running statistics.
    tensors = dict(net.named_parameters()) | ({} if net.training else dict(net.named_buffers()))
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            return (
                f"'{name}' was not finite any more before this batch: lower the learning rate, or "
                "clip the gradients"
            )
    try:
        with no_grad(), _watched(net), np.errstate(all="ignore"):
            net(inputs)
    except _Found as found:
        return f"it began in {found}: lower the learning rate, or look at the scale of the data"
    return "it began in the loss function, from outputs that are finite: look at what it divides by"


def gradients_are(parameters: Iterable[Tensor]) -> bool:
    """Whether all gradients are finite."""
    gradients = [p.grad.data for p in parameters if p.grad is not None]
    # One pass over each in the common case: a sum of squares may overflow, but hides nothing.
    with np.errstate(over="ignore", invalid="ignore"):
        if math.isfinite(sum([float(np.vdot(g, g)) for g in gradients])):
            return True
    return all(np.isfinite(g).all() for g in gradients)


def where_backward(parameters: Iterable[tuple[str, Tensor]]) -> str:
    """Which gradient is not finite, as the rest of a sentence; the last layer's comes first."""
    bad = [n for n, p in parameters if p.grad is not None and not is_finite(p.grad)]
    return (
        f"the loss is finite, but the gradient of '{bad[-1]}' is not: lower the learning rate, or "
        "look for a root or a division of zero in front of it"
    )


@contextmanager
def _watched(net: Module) -> Iterator[None]:
    """Within it the first module that returns what is not finite raises _Found with its name.

    A module returns before those that contain it, so that is the innermost one.
    """

    def check(name: str, module: Module, args: Any, result: Any) -> None:
        if not is_finite(result):
            kind = type(module).__name__
            raise _Found(f"the layer '{name}' ({kind})" if name else f"the net ({kind})")

    with ExitStack() as hooks:
        for name, module in net.named_modules():
            hooks.enter_context(module.register_forward_hook(partial(check, name)))
        yield
