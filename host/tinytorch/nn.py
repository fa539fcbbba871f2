"""The shared layers on the laptop's Tensor, and the losses."""

from typing import Any

from numpy.typing import DTypeLike

from tinytorch import functional
from tinytorch.autograd import Tensor
from tinytorch_core import nn as core


class Parameter(Tensor):
    """A Tensor that a Module lists among its parameters, and that is trained."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad)


class Module(core.Module):
    """A network or a part of one: set parameters and modules as attributes, write `forward`."""

    Tensor = Tensor  # type: ignore[assignment]
    Parameter = Parameter  # type: ignore[assignment]

    def to(self, dtype: DTypeLike) -> "Module":
        """Change the type of all numbers: float32, or float64 for checks."""
        for _, tensor in self._named(("_parameters", "_buffers")):
            tensor.data = tensor.data.astype(dtype)
        return self

    def requires_grad_(self, requires_grad: bool = True) -> "Module":
        """Freeze (False) or train again (True) all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self


class Sequential(Module, core.Sequential):
    pass


class Linear(Module, core.Linear):
    pass


class Conv1d(Module, core.Conv1d):
    pass


class Conv2d(Module, core.Conv2d):
    pass


class BatchNorm1d(Module, core.BatchNorm1d):
    pass


class BatchNorm2d(Module, core.BatchNorm2d):
    pass


class ReLU(Module, core.ReLU):
    pass


class MaxPool1d(Module, core.MaxPool1d):
    pass


class MaxPool2d(Module, core.MaxPool2d):
    pass


class AvgPool1d(Module, core.AvgPool1d):
    pass


class AvgPool2d(Module, core.AvgPool2d):
    pass


class AdaptiveAvgPool1d(Module, core.AdaptiveAvgPool1d):
    pass


class AdaptiveAvgPool2d(Module, core.AdaptiveAvgPool2d):
    pass


class Flatten(Module, core.Flatten):
    pass


class Dropout(Module, core.Dropout):
    pass


class CrossEntropyLoss(Module):
    """The mean of -log softmax(input)[target]; input: (N, classes), target: (N,) ints."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(input, target)


class MSELoss(Module):
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.mse_loss(input, target)
