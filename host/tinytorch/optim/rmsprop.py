"""RMSprop."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from tinytorch.ops.array import Array
from tinytorch.optim.optimizer import FROM_0, TO_1, Optimizer, blocks


def rmsprop(
    p: Array, g: Array, v: Array, mean: Array, velocity: Array, lr: float, alpha: float,
    eps: float, weight_decay: float, momentum: float, centered: float,
) -> None:  # fmt: skip
    """One step of RMSprop, in place."""
    for p, g, v, mean, velocity, t, decayed in blocks(p, g, v, mean, velocity):  # noqa: B020
        if weight_decay:
            np.multiply(p, weight_decay, out=decayed)
            g = np.add(g, decayed, out=decayed)
        np.square(g, out=t)
        t *= 1 - alpha
        v *= alpha
        v += t
        if centered:
            mean *= alpha
            np.multiply(g, 1 - alpha, out=t)
            mean += t
            np.square(mean, out=t)
            np.subtract(v, t, out=t)
            np.maximum(t, 0, out=t)  # rounding may have left a little less
            np.sqrt(t, out=t)
        else:
            np.sqrt(v, out=t)
        t += eps
        np.divide(g, t, out=t)
        if momentum:
            velocity *= momentum
            velocity += t
            np.multiply(velocity, lr, out=t)
        else:
            t *= lr
        p -= t


class RMSprop(Optimizer):
    """Hinton, 2012 (lecture 6e of his course); centered: Graves, 2013."""

    _ranges = {
        **Optimizer._ranges, "alpha": TO_1, "eps": FROM_0, "weight_decay": FROM_0,
        "momentum": FROM_0,
    }  # fmt: skip
    _update = staticmethod(rmsprop)

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
        weight_decay: float = 0.0, momentum: float = 0.0, centered: bool = False, *,
        maximize: bool = False,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay,
            "momentum": momentum, "centered": centered, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _moments(self, group: dict[str, Any]) -> "tuple[str | None, ...]":
        return (
            "square_avg",
            "grad_avg" if group["centered"] else None,
            "momentum_buffer" if group["momentum"] else None,
        )

    def _options(self, group: dict[str, Any], age: int) -> tuple[float, ...]:
        names = ("lr", "alpha", "eps", "weight_decay", "momentum", "centered")
        return tuple(group[name] for name in names)
