"""Other types of numbers, by PyTorch's names."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tinytorch.autograd.tape import TensorBase
from tinytorch.dtypes import float32, float64, int64

if TYPE_CHECKING:
    from typing_extensions import Self


class Conversion(TensorBase):
    """Methods named after Python's types, which the other classes so can call by name."""

    __slots__ = ()

    def type(self, target: Any) -> "Self":
        return self.to(target)

    def type_as(self, other: "Self") -> "Self":
        return self.to(other.dtype)

    def cpu(self) -> "Self":
        return self.to("cpu")

    def float(self) -> "Self":
        return self.to(float32)

    def double(self) -> "Self":
        return self.to(float64)

    def long(self) -> "Self":
        return self.to(int64)

    def int(self) -> "Self":
        return self.to(np.int32)

    def bool(self) -> "Self":
        return self.to(np.bool_)
