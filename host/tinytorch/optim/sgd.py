"""Stochastic gradient descent."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from tinytorch.ops.array import Array
from tinytorch.optim.optimizer import FROM_0, Optimizer, blocks


def sgd(
    p: Array, g: Array, velocity: Array, lr: float, momentum: float, dampening: float,
    weight_decay: float, nesterov: float, first: float,
) -> None:  # fmt: skip
    """One step of SGD, in place. first: whether the velocity begins with this gradient."""
    for p, g, velocity, t, decayed in blocks(p, g, velocity):  # noqa: B020
        if weight_decay:
            np.multiply(p, weight_decay, out=decayed)
            g = np.add(g, decayed, out=decayed)
        if momentum:
            if first:
                velocity[...] = g
            else:
                velocity *= momentum
                np.multiply(g, 1 - dampening, out=t)
                velocity += t
            if nesterov:
                np.multiply(velocity, momentum, out=t)
                g = np.add(g, t, out=t)
            else:
                g = velocity
        np.multiply(g, lr, out=t)
        p -= t


class SGD(Optimizer):
    """Stochastic gradient descent with momentum (Sutskever et al., 2013, in PyTorch's form).

    maximize: go up instead of down.
    """

    _ranges = {**Optimizer._ranges, "momentum": FROM_0, "weight_decay": FROM_0}
    _update = staticmethod(sgd)

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0.0,
        dampening: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False, *,
        maximize: bool = False,
    ) -> None:  # fmt: skip
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("SGD: nesterov needs a momentum and no dampening.")
        defaults = {
            "lr": lr, "momentum": momentum, "dampening": dampening,
            "weight_decay": weight_decay, "nesterov": nesterov, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _moments(self, group: dict[str, Any]) -> "tuple[str | None, ...]":
        return ("momentum_buffer" if group["momentum"] else None,)

    def _options(self, group: dict[str, Any], age: int) -> tuple[float, ...]:
        names = ("lr", "momentum", "dampening", "weight_decay", "nesterov")
        return (*(group[name] for name in names), age == 1)
