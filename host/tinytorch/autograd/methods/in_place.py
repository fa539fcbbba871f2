"""In place: a tensor that takes over the numbers, and the gradient, of a result."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tinytorch import ops
from tinytorch.autograd.methods.elementwise import Elementwise
from tinytorch.autograd.methods.indexing import Indexing
from tinytorch.autograd.tape import Operand, TensorBase, apply
from tinytorch.random import generator

if TYPE_CHECKING:
    from typing_extensions import Self


class InPlace(Elementwise, Indexing):
    """Methods that change their tensor and return it."""

    __slots__ = ()

    def copy_(self, other: Any) -> "Self":
        """Take over the numbers of a tensor of the same shape, in this tensor's type."""
        if tuple(other.shape) != self.shape:
            raise ValueError(f"copy_: shape {tuple(other.shape)} does not fit into {self.shape}.")
        if not isinstance(other, TensorBase):  # a board's
            other = self._wrap(np.asarray(other.data).reshape(self.shape))
        return self._assign("copy_", other)

    def _assign(self, name: str, value: Any) -> "Self":
        if not isinstance(value, TensorBase):
            value = self._wrap(np.array(value, self.data.dtype))
        return self._in_place(name, lambda t: apply(ops.assign, t, value))

    def fill_(self, value: Operand) -> "Self":
        """One number everywhere."""
        return self._assign("fill_", value)

    def zero_(self) -> "Self":
        """Zeros everywhere."""
        return self._assign("zero_", 0)

    def uniform_(self, low: float = 0.0, high: float = 1.0) -> "Self":
        """Drawn from the uniform distribution on [low, high)."""
        return self._assign("uniform_", generator.uniform(low, high, self.shape))

    def normal_(self, mean: float = 0.0, std: float = 1.0) -> "Self":
        """Drawn from the normal distribution with this mean and standard deviation."""
        return self._assign("normal_", generator.normal(mean, std, self.shape))

    def bernoulli_(self, p: float = 0.5) -> "Self":
        """Ones with probability p, else zeros."""
        return self._assign("bernoulli_", generator.random(self.shape) < p)

    def __iadd__(self, other: Operand) -> "Self":
        return self._in_place("+=", lambda t: t + other)

    def __isub__(self, other: Operand) -> "Self":
        return self._in_place("-=", lambda t: t - other)

    def __imul__(self, other: Operand) -> "Self":
        return self._in_place("*=", lambda t: t * other)

    def __itruediv__(self, other: Operand) -> "Self":
        return self._in_place("/=", lambda t: t / other)

    def add_(self, other: Operand, alpha: float = 1) -> "Self":
        """self + alpha * other, in place."""
        return self._in_place("add_", lambda t: t.add(other, alpha))

    def sub_(self, other: Operand, alpha: float = 1) -> "Self":
        """self - alpha * other, in place."""
        return self._in_place("sub_", lambda t: t.sub(other, alpha))

    def mul_(self, other: Operand) -> "Self":
        """self * other, in place."""
        return self._in_place("mul_", lambda t: t * other)

    def div_(self, other: Operand) -> "Self":
        """self / other, in place."""
        return self._in_place("div_", lambda t: t / other)

    def pow_(self, exponent: Operand) -> "Self":
        """self ** exponent, in place."""
        return self._in_place("pow_", lambda t: t**exponent)

    def addcmul_(self, a: "InPlace", b: "InPlace", value: float = 1) -> "Self":
        """self + value * a * b, in place."""
        return self._in_place("addcmul_", lambda t: t + value * a * b)

    def lerp_(self, end: "InPlace", weight: Operand) -> "Self":
        """self + weight * (end - self), in place."""
        return self._in_place("lerp_", lambda t: t.lerp(end, weight))

    def clamp_(self, min: Any = None, max: Any = None) -> "Self":
        """`clamp`, in place."""
        return self._in_place("clamp_", lambda t: t.clamp(min, max))

    def masked_fill_(self, mask: "InPlace", value: Operand) -> "Self":
        """`masked_fill`, in place."""
        return self._in_place("masked_fill_", lambda t: t.masked_fill(mask, value))

    def scatter_(self, dim: int, index: "InPlace", src: Operand) -> "Self":
        """`scatter`, in place."""
        return self._in_place("scatter_", lambda t: t.scatter(dim, index, src))

    def scatter_add_(self, dim: int, index: "InPlace", src: "InPlace") -> "Self":
        """`scatter_add`, in place."""
        return self._in_place("scatter_add_", lambda t: t.scatter_add(dim, index, src))

    def neg_(self) -> "Self":
        """-self, in place."""
        return self._in_place("neg_", lambda t: -t)

    def exp_(self) -> "Self":
        """`exp`, in place."""
        return self._in_place("exp_", lambda t: t.exp())

    def sqrt_(self) -> "Self":
        """`sqrt`, in place."""
        return self._in_place("sqrt_", lambda t: t.sqrt())

    def relu_(self) -> "Self":
        """`relu`, in place."""
        return self._in_place("relu_", lambda t: t.relu())

    def sigmoid_(self) -> "Self":
        """`sigmoid`, in place."""
        return self._in_place("sigmoid_", lambda t: t.sigmoid())

    def tanh_(self) -> "Self":
        """`tanh`, in place."""
        return self._in_place("tanh_", lambda t: t.tanh())
