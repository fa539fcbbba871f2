"""Optimizers, with PyTorch's update rules."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from tinytorch.autograd import Tensor
from tinytorch.ops import Array
from tinytorch.optim import lr_scheduler as lr_scheduler


class Optimizer:
    """lr: the learning rate, read at each step. state: for each parameter its arrays by name."""

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        self.params = list(params)
        if not self.params:
            raise ValueError(f"{type(self).__name__}: there are no parameters to optimize.")
        if not all(p.is_leaf for p in self.params):
            raise ValueError(
                f"{type(self).__name__}: a tensor that was computed cannot be optimized: give the "
                "parameters that it was computed from, in a list."
            )
        if lr < 0:
            raise ValueError(f"{type(self).__name__}: lr={lr} is negative.")
        self.lr = lr
        self.state: list[dict[str, Array]] = [{} for _ in self.params]

    def zero_grad(self) -> None:
        for p in self.params:
            p.grad = None

    def step(self) -> None:
        """Move each parameter that has a gradient."""
        for p, state in zip(self.params, self.state, strict=True):
            if p.grad is not None:
                self._update(p.data, p.grad.data, state)

    def _update(self, p: Array, g: Array, state: dict[str, Array]) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """What the next steps depend on: kind, lr, and copies of the arrays."""
        state = [{name: array.copy() for name, array in s.items()} for s in self.state]
        return {"kind": type(self).__name__, "lr": self.lr, "state": state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError for a state of another kind, or of another number of parameters."""
        if state["kind"] != type(self).__name__:
            raise ValueError(
                f"load_state_dict: the state is of {state['kind']}, not of {type(self).__name__}."
            )
        if len(state["state"]) != len(self.params):
            raise ValueError(
                f"load_state_dict: the state is of {len(state['state'])} parameters, the optimizer "
                f"has {len(self.params)}."
            )
        self.lr = state["lr"]
        self.state = [{name: a.copy() for name, a in s.items()} for s in state["state"]]


class SGD(Optimizer):
    """Stochastic gradient descent. (Sutskever et al., 2013, for the momentum; as in PyTorch.)"""

    def __init__(
        self, params: Iterable[Tensor], lr: float = 1e-3, momentum: float = 0.0,
        dampening: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(params, lr)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("SGD: nesterov needs a momentum and no dampening.")
        self.momentum = momentum
        self.dampening = dampening
        self.weight_decay = weight_decay
        self.nesterov = nesterov

    def _update(self, p: Array, g: Array, state: dict[str, Array]) -> None:
        if self.weight_decay:
            g = g + self.weight_decay * p
        if self.momentum:
            if "momentum" in state:
                velocity = state["momentum"]
                velocity *= self.momentum
                velocity += (1 - self.dampening) * g
            else:
                velocity = state["momentum"] = g.copy()
            g = g + self.momentum * velocity if self.nesterov else velocity
        p -= self.lr * g


class Adam(Optimizer):
    """Kingma and Ba, 2015; the weight decay is part of the gradient, as in PyTorch."""

    def __init__(
        self, params: Iterable[Tensor], lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(params, lr)
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay

    def _update(self, p: Array, g: Array, state: dict[str, Array]) -> None:
        if self.weight_decay:
            g = g + self.weight_decay * p
        if not state:
            state.update(step=np.zeros(()), mean=np.zeros_like(p), square=np.zeros_like(p))
        state["step"] += 1
        step, mean, square = int(state["step"]), state["mean"], state["square"]
        mean += (1 - self.betas[0]) * (g - mean)
        square *= self.betas[1]
        square += (1 - self.betas[1]) * (g * g)
        root = np.sqrt(square) / math.sqrt(1 - self.betas[1] ** step) + self.eps
        p -= self.lr / (1 - self.betas[0] ** step) * mean / root
