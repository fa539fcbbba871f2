"""Adam and AdamW."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from tinytorch.ops.array import Array
from tinytorch.optim.optimizer import BETAS, FROM_0, Optimizer, blocks


def adam(
    p: Array, g: Array, m: Array, v: Array, largest: Array, lr: float, beta1: float, beta2: float,
    eps: float, weight_decay: float, decoupled: float, amsgrad: float, bias1: float, bias2: float,
) -> None:  # fmt: skip
    """One step of Adam or AdamW, in place. bias1, bias2: 1 - beta ** age, of each moment."""
    # rate * m / (sqrt(v) + eps * root) is lr * (m / bias1) / (sqrt(v / bias2) + eps)
    root = math.sqrt(bias2)
    rate = lr * root / bias1
    for p, g, m, v, largest, t, decayed in blocks(p, g, m, v, largest):  # noqa: B020
        if weight_decay and decoupled:
            p *= 1 - lr * weight_decay
        elif weight_decay:
            np.multiply(p, weight_decay, out=decayed)
            g = np.add(g, decayed, out=decayed)
        m *= beta1
        np.multiply(g, 1 - beta1, out=t)
        m += t
        np.square(g, out=t)
        t *= 1 - beta2
        v *= beta2
        v += t
        np.sqrt(np.maximum(largest, v, out=largest) if amsgrad else v, out=t)
        t += eps * root
        np.divide(m, t, out=t)
        t *= rate
        p -= t


class Adam(Optimizer):
    """Kingma and Ba, 2015; the weight decay is part of the gradient, as in PyTorch.

    amsgrad: divide by the largest second moment so far (Reddi et al., 2018).
    """

    _ranges = {**Optimizer._ranges, "betas": BETAS, "eps": FROM_0, "weight_decay": FROM_0}
    _update = staticmethod(adam)
    _decoupled = False

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 0.0, amsgrad: bool = False, *,
        maximize: bool = False,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "amsgrad": amsgrad, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _moments(self, group: dict[str, Any]) -> "tuple[str | None, ...]":
        return "exp_avg", "exp_avg_sq", "max_exp_avg_sq" if group["amsgrad"] else None

    def _options(self, group: dict[str, Any], age: int) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        return (
            group["lr"], beta1, beta2, group["eps"], group["weight_decay"], self._decoupled,
            group["amsgrad"], 1 - beta1**age, 1 - beta2**age,
        )  # fmt: skip


class AdamW(Adam):
    """Adam with a weight decay of its own, beside the gradient (Loshchilov and Hutter, 2019)."""

    _decoupled = True

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 1e-2, amsgrad: bool = False, *,
        maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
