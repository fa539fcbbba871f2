"""Element by element: operators, comparisons, functions of numbers, activations."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tinytorch import ops
from tinytorch.autograd.promotion import common_type, number_type
from tinytorch.autograd.tape import Operand, T, TensorBase, apply, record_result
from tinytorch.autograd.tracing import local as traced
from tinytorch.dtypes import float32
from tinytorch_core import shapes

if TYPE_CHECKING:
    from typing_extensions import Self


def _operand(t: TensorBase, other: Any) -> tuple[TensorBase, TensorBase] | None:
    """A tensor and what is not one, both as tensors; None if it is no number and no array."""
    if isinstance(other, np.generic):
        other = other.item()
    if isinstance(other, (bool, int, float)):
        dtype = number_type(t.dtype, other)
        return t.to(dtype), t._wrap(np.asarray(other, dtype))
    return (t, t._wrap(other)) if isinstance(other, (np.ndarray, list, tuple)) else None


def promoted(*tensors: T) -> tuple[T, ...]:
    """The tensors in the type that an operation of all of them has."""
    dtype = common_type(*[t.data for t in tensors])
    return tuple([t.to(dtype) for t in tensors])


def _binary(operation: ops.Operation, symbol: str, a: Any, b: Any) -> Any:
    """An element-wise operation of two operands, one of which is a tensor."""
    if not isinstance(b, TensorBase):
        pair = _operand(a, b)
        if pair is None:
            return NotImplemented
        a, b = pair
    elif not isinstance(a, TensorBase):
        pair = _operand(b, a)
        if pair is None:
            return NotImplemented
        b, a = pair
    x, y = a.data, b.data
    if x.dtype is not y.dtype and x.dtype != y.dtype:
        a, b = promoted(a, b)
        x, y = a.data, b.data
    try:
        if traced.tracer is not None:
            return traced.tracer(operation, (a, b), {})
        data, gradients = operation(x, y)
    except ValueError:
        shapes.broadcast(symbol, x.shape, y.shape)
        raise
    tracked = a.requires_grad or b.requires_grad
    return record_result(operation, (a, b), {}, data, gradients, tracked)


def where(condition: TensorBase, a: Any = None, b: Any = None) -> Any:
    """a where the condition (bools) holds, b elsewhere; without them the indices where it holds."""
    if a is None and b is None:
        return tuple(map(condition._wrap, condition.data.nonzero()))
    if condition.data.dtype.kind != "b":
        raise TypeError(f"where: a condition holds bools, not {condition.dtype}: compare first.")
    if not isinstance(a, TensorBase):
        pair = (
            _operand(b, a)
            if isinstance(b, TensorBase)
            else (condition._wrap(b), condition._wrap(a))
        )
        if pair is None:
            raise TypeError(f"where: {a!r} is not a number.")
        b, a = pair
    elif not isinstance(b, TensorBase):
        pair = _operand(a, b)
        if pair is None:
            raise TypeError(f"where: {b!r} is not a number.")
        a, b = pair
    if a.dtype != b.dtype:
        a, b = promoted(a, b)
    shape = shapes.broadcast("where", a.shape, b.shape)
    shapes.broadcast("where", condition.shape, shape)
    return apply(ops.where, condition, a, b)


class Elementwise(TensorBase):
    """Methods that take each number by itself."""

    __slots__ = ()

    __hash__ = object.__hash__  # __eq__ compares numbers

    def __add__(self, other: Operand) -> "Self":
        return _binary(ops.add, "+", self, other)

    __radd__ = __add__

    def __sub__(self, other: Operand) -> "Self":
        return _binary(ops.sub, "-", self, other)

    def __rsub__(self, other: Operand) -> "Self":
        return _binary(ops.sub, "-", other, self)

    def __mul__(self, other: Operand) -> "Self":
        return _binary(ops.mul, "*", self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Operand) -> "Self":
        if self.is_floating_point() or not isinstance(other, TensorBase):
            return _binary(ops.div, "/", self._real(), other)
        dtype = common_type(self.data, other.data)
        dtype = dtype if dtype.kind == "f" else float32
        return _binary(ops.div, "/", self.to(dtype), other.to(dtype))

    def __rtruediv__(self, other: Operand) -> "Self":
        return _binary(ops.div, "/", other, self._real())

    def __floordiv__(self, other: Operand) -> "Self":
        return _binary(ops.floor_divide, "//", self, other)

    def __rfloordiv__(self, other: Operand) -> "Self":
        return _binary(ops.floor_divide, "//", other, self)

    def __mod__(self, other: Operand) -> "Self":
        return _binary(ops.remainder, "%", self, other)

    def __rmod__(self, other: Operand) -> "Self":
        return _binary(ops.remainder, "%", other, self)

    def __pow__(self, exponent: Operand) -> "Self":
        if isinstance(exponent, (int, float)):
            if exponent == 2:
                return self.square()
            if exponent == 0.5:
                return self.sqrt()
            if exponent < 0 and not self.is_floating_point():
                raise ValueError(
                    f"**: integers to the power {exponent}: convert them with float()."
                )
        return _binary(ops.pow, "**", self, exponent)

    def __rpow__(self, base: Operand) -> "Self":
        return _binary(ops.pow, "**", base, self)

    def __neg__(self) -> "Self":
        return apply(ops.neg, self)

    def __pos__(self) -> "Self":
        return self

    def __abs__(self) -> "Self":
        return apply(ops.abs, self)

    def __eq__(self, other: Any) -> "Self":  # type: ignore[override]
        return _binary(ops.eq, "==", self, other)

    def __ne__(self, other: Any) -> "Self":  # type: ignore[override]
        return _binary(ops.ne, "!=", self, other)

    def __gt__(self, other: Any) -> "Self":
        return _binary(ops.gt, ">", self, other)

    def __ge__(self, other: Any) -> "Self":
        return _binary(ops.ge, ">=", self, other)

    def __lt__(self, other: Any) -> "Self":
        return _binary(ops.lt, "<", self, other)

    def __le__(self, other: Any) -> "Self":
        return _binary(ops.le, "<=", self, other)

    def __and__(self, other: Any) -> "Self":
        return _binary(ops.bitwise_and, "&", self._whole("&"), other)

    def __or__(self, other: Any) -> "Self":
        return _binary(ops.bitwise_or, "|", self._whole("|"), other)

    def __xor__(self, other: Any) -> "Self":
        return _binary(ops.bitwise_xor, "^", self._whole("^"), other)

    def __invert__(self) -> "Self":
        return apply(ops.bitwise_not, self._whole("~"))

    def _whole(self, symbol: str) -> "Self":
        if self.is_floating_point():
            raise TypeError(
                f"{symbol}: only bools and integers, and this tensor holds {self.dtype}."
            )
        return self

    def add(self, other: Any, alpha: float = 1) -> "Self":
        """self + alpha * other."""
        return self + (other if alpha == 1 else alpha * other)

    def sub(self, other: Any, alpha: float = 1) -> "Self":
        """self - alpha * other."""
        return self - (other if alpha == 1 else alpha * other)

    def mul(self, other: Operand) -> "Self":
        """self * other."""
        return self * other

    def div(self, other: Operand, rounding_mode: str | None = None) -> "Self":
        """rounding_mode: None, "trunc" (towards zero) or "floor"."""
        if rounding_mode == "floor":
            return self // other
        return (self / other).trunc() if rounding_mode == "trunc" else self / other

    def pow(self, exponent: Operand) -> "Self":
        """self ** exponent. Raises ValueError for integers to a negative power."""
        return self**exponent

    def remainder(self, other: Operand) -> "Self":
        """With the sign of other, as Python's %."""
        return self % other

    def floor_divide(self, other: Operand) -> "Self":
        """self // other, rounded down."""
        return self // other

    def maximum(self, other: TensorBase) -> "Self":
        """Of two numbers the larger one; equal ones share the gradient."""
        return _binary(ops.maximum, "maximum", self, other)

    def minimum(self, other: TensorBase) -> "Self":
        """Of two numbers the smaller one; equal ones share the gradient."""
        return _binary(ops.minimum, "minimum", self, other)

    def eq(self, other: Any) -> "Self":
        """self == other, as bools."""
        return self == other

    def ne(self, other: Any) -> "Self":
        """self != other, as bools."""
        return self != other

    def gt(self, other: Any) -> "Self":
        """self > other, as bools."""
        return self > other

    def ge(self, other: Any) -> "Self":
        """self >= other, as bools."""
        return self >= other

    def lt(self, other: Any) -> "Self":
        """self < other, as bools."""
        return self < other

    def le(self, other: Any) -> "Self":
        """self <= other, as bools."""
        return self <= other

    def logical_and(self, other: "Elementwise") -> "Self":
        """Whether both numbers are not zero."""
        return _binary(ops.logical_and, "logical_and", self, other)

    def logical_or(self, other: "Elementwise") -> "Self":
        """Whether one number at least is not zero."""
        return _binary(ops.logical_or, "logical_or", self, other)

    def logical_xor(self, other: "Elementwise") -> "Self":
        """Whether exactly one number is not zero."""
        return _binary(ops.logical_xor, "logical_xor", self, other)

    def logical_not(self) -> "Self":
        """Whether a number is zero."""
        return apply(ops.logical_not, self)

    def isnan(self) -> "Self":
        """Whether a number is NaN."""
        return apply(ops.isnan, self)

    def isinf(self) -> "Self":
        """Whether a number is infinite."""
        return apply(ops.isinf, self)

    def isfinite(self) -> "Self":
        """Whether a number is neither NaN nor infinite."""
        return apply(ops.isfinite, self)

    def neg(self) -> "Self":
        """-self."""
        return apply(ops.neg, self)

    def abs(self) -> "Self":
        """The absolute value."""
        return apply(ops.abs, self)

    def sign(self) -> "Self":
        """-1, 0 or 1."""
        return apply(ops.sign, self)

    def floor(self) -> "Self":
        """Rounded down; integers stay as they are."""
        return apply(ops.floor, self) if self.is_floating_point() else self

    def ceil(self) -> "Self":
        """Rounded up; integers stay as they are."""
        return apply(ops.ceil, self) if self.is_floating_point() else self

    def trunc(self) -> "Self":
        """Rounded towards zero; integers stay as they are."""
        return apply(ops.trunc, self) if self.is_floating_point() else self

    def round(self, decimals: int = 0) -> "Self":
        """Halves to the even neighbour."""
        return apply(ops.round, self, decimals=decimals)

    def exp(self) -> "Self":
        """e ** self."""
        return apply(ops.exp, self._real())

    def expm1(self) -> "Self":
        """e ** self - 1, exact near zero."""
        return apply(ops.expm1, self._real())

    def log(self) -> "Self":
        """The natural logarithm."""
        return apply(ops.log, self._real())

    def log1p(self) -> "Self":
        """log(1 + self), exact near zero."""
        return apply(ops.log1p, self._real())

    def log2(self) -> "Self":
        """The logarithm to base 2."""
        return self.log() / math.log(2)

    def log10(self) -> "Self":
        """The logarithm to base 10."""
        return self.log() / math.log(10)

    def sqrt(self) -> "Self":
        """The square root."""
        return apply(ops.sqrt, self._real())

    def rsqrt(self) -> "Self":
        """1 / sqrt(self)."""
        return apply(ops.rsqrt, self._real())

    def square(self) -> "Self":
        """self * self."""
        return apply(ops.square, self)

    def reciprocal(self) -> "Self":
        """1 / self."""
        return apply(ops.reciprocal, self._real())

    def nan_to_num(
        self, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
    ) -> "Self":
        """NaN and infinities replaced, by default with 0 and the largest numbers of the type."""
        if not self.is_floating_point():
            return self
        limits = np.finfo(self.dtype)
        t = where(self.isnan(), nan, self)
        t = where(t == math.inf, float(limits.max) if posinf is None else posinf, t)
        return where(t == -math.inf, float(limits.min) if neginf is None else neginf, t)

    def sin(self) -> "Self":
        """The sine of radians."""
        return apply(ops.sin, self._real())

    def cos(self) -> "Self":
        """The cosine of radians."""
        return apply(ops.cos, self._real())

    def tanh(self) -> "Self":
        """The hyperbolic tangent."""
        return apply(ops.tanh, self._real())

    def sigmoid(self) -> "Self":
        """1 / (1 + exp(-self))."""
        return apply(ops.sigmoid, self._real())

    def clamp(self, min: Any = None, max: Any = None) -> "Self":
        """Numbers below min become min, those above max become max; both may be tensors."""
        if isinstance(min, TensorBase) or isinstance(max, TensorBase):
            t = self if min is None else _binary(ops.maximum, "clamp", self, min)
            return t if max is None else _binary(ops.minimum, "clamp", t, max)
        if min is None and max is None:
            raise ValueError("clamp: give min, max or both.")
        dtypes = [number_type(self.dtype, n) for n in (min, max) if n is not None]
        return apply(ops.clamp, self.to(np.result_type(*dtypes)), low=min, high=max)

    clip = clamp

    def lerp(self, end: "Elementwise", weight: Operand) -> "Self":
        """self + weight * (end - self)"""
        return self + weight * (end - self)

    def relu(self) -> "Self":
        """max(self, 0)."""
        return apply(ops.relu, self)

    def relu6(self) -> "Self":
        """min(max(self, 0), 6)."""
        return apply(ops.relu6, self)

    def leaky_relu(self, negative_slope: float = 0.01) -> "Self":
        """self above 0, negative_slope * self below."""
        return apply(ops.leaky_relu, self, negative_slope=negative_slope)

    def elu(self, alpha: float = 1.0) -> "Self":
        """self above 0, alpha * (exp(self) - 1) below."""
        return apply(ops.elu, self, alpha=alpha)

    def gelu(self, approximate: str = "none") -> "Self":
        """self times the normal CDF of self; approximate="tanh" comes near to it by tanh."""
        if approximate not in ("none", "tanh"):
            raise ValueError(f'gelu: approximate is "none" or "tanh", not {approximate!r}.')
        return apply(ops.gelu, self, approximate=approximate)

    def silu(self) -> "Self":
        """self * sigmoid(self)."""
        return apply(ops.silu, self)

    def hardsigmoid(self) -> "Self":
        """relu6(self + 3) / 6."""
        return apply(ops.hardsigmoid, self)

    def hardswish(self) -> "Self":
        """self * hardsigmoid(self)."""
        return apply(ops.hardswish, self)

    def softplus(self, beta: float = 1.0, threshold: float = 20.0) -> "Self":
        """log(1 + exp(beta * self)) / beta; self where beta * self is above threshold."""
        return apply(ops.softplus, self, beta=beta, threshold=threshold)

    def dropout(self, p: float = 0.5, training: bool = True) -> "Self":
        """In training, zeros with probability p and the rest scaled by 1 / (1 - p)."""
        if not training or p == 0:
            return self
        return self * 0.0 if p == 1 else apply(ops.dropout, self, p=p)

    def where(self, condition: "Elementwise", other: Operand) -> "Self":
        """This tensor where the condition (bools) holds, other elsewhere."""
        return where(condition, self, other)

    def masked_fill(self, mask: "Elementwise", value: Operand) -> "Self":
        """The value where the mask (bools) holds, this tensor elsewhere."""
        if mask.data.dtype.kind != "b":
            raise TypeError(f"masked_fill: a mask holds bools, not {mask.dtype}: compare first.")
        return where(mask, value, self)
