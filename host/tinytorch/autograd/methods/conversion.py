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
        """`to` of a type."""
        return self.to(target)

    def type_as(self, other: "Conversion") -> "Self":
        """This tensor in the type of another."""
        return self.to(other.dtype)

    def cpu(self) -> "Self":
        """This tensor: there is no other device."""
        return self.to("cpu")

    def float(self) -> "Self":
        """This tensor as float32."""
        return self.to(float32)

    def double(self) -> "Self":
        """This tensor as float64."""
        return self.to(float64)

    def long(self) -> "Self":
        """This tensor as int64."""
        return self.to(int64)

    def int(self) -> "Self":
        """This tensor as int32."""
        return self.to(np.int32)

    def bool(self) -> "Self":
        """This tensor as bools: True for what is not zero."""
        return self.to(np.bool_)
