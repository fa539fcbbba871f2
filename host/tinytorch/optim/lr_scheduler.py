"""Schedules of the learning rate."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinytorch.optim import Optimizer


class Schedule:
    """Sets an optimizer's learning rate; call `step` after each epoch."""

    def __init__(self, optimizer: "Optimizer") -> None:
        self.optimizer = optimizer
        self.base_lr = optimizer.lr
        self.epoch = 0

    def step(self) -> None:
        self.epoch += 1
        self.optimizer.lr = self.lr_at(self.epoch)

    def lr_at(self, epoch: int) -> float:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        return {"base_lr": self.base_lr, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.base_lr, self.epoch = state["base_lr"], state["epoch"]


class StepLR(Schedule):
    """The learning rate times gamma every step_size epochs."""

    def __init__(self, optimizer: "Optimizer", step_size: int, gamma: float = 0.1) -> None:
        super().__init__(optimizer)
        self.step_size = step_size
        self.gamma = gamma

    def lr_at(self, epoch: int) -> float:
        return self.base_lr * self.gamma ** (epoch // self.step_size)


class CosineAnnealingLR(Schedule):
    """Half a cosine from the base to eta_min in T_max epochs (Loshchilov and Hutter, 2017)."""

    def __init__(self, optimizer: "Optimizer", T_max: int, eta_min: float = 0.0) -> None:
        super().__init__(optimizer)
        self.T_max = T_max
        self.eta_min = eta_min

    def lr_at(self, epoch: int) -> float:
        wave = (1 + math.cos(math.pi * epoch / self.T_max)) / 2
        return self.eta_min + (self.base_lr - self.eta_min) * wave
