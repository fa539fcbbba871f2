"""Module and Parameter on the laptop's Tensor."""

from typing import Any

from numpy.typing import DTypeLike

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
