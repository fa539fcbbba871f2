"""Every operation on numpy arrays that is not a layer's, its gradient beside it.

An operation takes arrays (and attributes by keyword) and returns its result and its gradients: for
each array a function from the gradient of the result to that of the array, or None where there is
none; where the gradients share work, one function that returns them all. A function may return the
gradient of a broadcast array in the shape of the result: the tape (tinytorch.autograd) sums it.

What a gradient function holds is what the tape protects: it holds an array only for its numbers,
and for a shape the shape. Nothing here knows Tensors.
"""

import builtins
import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tinytorch.ops import compiled, memory
from tinytorch.random import generator
from tinytorch_core import shapes

Array = NDArray[Any]
Gradient = Callable[[Array], Array]
Gradients = tuple[Gradient | None, ...] | Callable[[Array], tuple[Array | None, ...]]
Result = tuple[Array, Gradients]
Operation = Callable[..., Result]

_SMALL = memory.SMALL


def _place(like: Array, other: Any = None) -> Array | None:
    """Where a large element-wise result of the shape of `like` goes; None lets numpy find a place.

    other: an array that takes part, with which `like` may have to be broadcast to something else.
    """
    if like.size < _SMALL:
        return None
    if other is not None and np.broadcast_shapes(like.shape, other.shape) != like.shape:
        return None
    return memory.empty_like(like)


def _binary(function: np.ufunc, a: Array, b: Array) -> Array:
    """function(a, b), such as numpy.add; a large result goes to memory that was used before."""
    return function(a, b) if a.size < _SMALL else function(a, b, out=_place(a, b))


def _times(a: Array, b: Array) -> Array:
    """a * b, in the type of a."""
    return _binary(np.multiply, a, b)


def _only(g: Array, mask: Array, result: Array | None = None) -> Array:
    """g where mask, else 0; result: where it goes, of the same shape.

    A product would make NaN of an infinity that is to vanish, and numpy.where stumbles over each
    change of a random mask: so the bits of a large float32 are cut.
    """
    if g.size < 1 << 10 or g.dtype != np.float32 or g.shape != mask.shape:
        chosen = np.where(mask, g, g.dtype.type(0))
        if result is None:
            return chosen
        result[...] = chosen
        return result
    result = memory.empty_like(g) if result is None else result
    bits = result.view(np.int32)
    np.copyto(bits, np.negative(mask.view(np.int8)))  # all of them, or none
    return np.bitwise_and(bits, g.view(np.int32), out=bits).view(np.float32)


def _choose(condition: Array, a: Array, b: Array) -> Array:
    """numpy.where, by the bits of large float32 for the same reason."""
    shape = np.broadcast_shapes(condition.shape, a.shape, b.shape)
    if shapes.size(shape) < _SMALL or not a.dtype == b.dtype == np.float32:
        return np.where(condition, a, b)
    result, rest = memory.empty(shape), memory.empty(shape, np.int32)
    bits = result.view(np.int32)
    np.copyto(bits, np.negative(condition.view(np.int8)))
    np.invert(bits, out=rest)
    bits &= a.view(np.int32)
    rest &= b.view(np.int32)
    bits |= rest
    return result


def _same(g: Array) -> Array:
    return g


def _flat(g: Array) -> Array:
    """Of what has no slope."""
    return np.zeros_like(g)


_quiet = np.errstate(all="ignore")  # infinities and NaNs are results like others, as in PyTorch

_SAME = (_same, _same)
_NONE = (None, None)


# Element by element.


def add(a: Array, b: Array) -> Result:
    """a + b."""
    return _binary(np.add, a, b), _SAME


def sub(a: Array, b: Array) -> Result:
    """a - b."""
    return _binary(np.subtract, a, b), (_same, np.negative)


def mul(a: Array, b: Array) -> Result:
    """a * b."""
    return _binary(np.multiply, a, b), (lambda g: _times(g, b), lambda g: _times(g, a))


@_quiet
def div(a: Array, b: Array) -> Result:
    """a / b."""
    return _binary(np.divide, a, b), (lambda g: g / b, lambda g: -g * (a / b / b))


@_quiet
def pow(a: Array, b: Array) -> Result:
    """a ** b."""
    y = a**b

    def of_base(g: Array) -> Array:
        return np.where(b == 0, 0, g * b * a ** (b - 1))  # a**0 is flat, at zero too

    def of_exponent(g: Array) -> Array:
        return g * np.where((a == 0) & (b >= 0), 0, y * np.log(a))

    return y, (of_base, of_exponent)


@_quiet
def remainder(a: Array, b: Array) -> Result:
    """With the sign of b."""
    return np.remainder(a, b), (_same, lambda g: -g * np.floor_divide(a, b))


@_quiet
def floor_divide(a: Array, b: Array) -> Result:
    """a // b; it has no slope."""
    return np.floor_divide(a, b), (_flat, _flat)


def _extreme(function: Callable[..., Array], beaten: Callable[..., Array]) -> Operation:
    def operation(a: Array, b: Array) -> Result:
        """Equal ones share the gradient, as they do in PyTorch."""

        def share(g: Array, mine: Array, other: Array) -> Array:
            return _only(g * np.where(mine == other, g.dtype.type(0.5), 1), ~beaten(mine, other))

        return function(a, b), (lambda g: share(g, a, b), lambda g: share(g, b, a))

    return operation


def maximum(a: Array, b: Array) -> Result:
    """The larger of two numbers; equal ones share the gradient."""
    return _larger(a, b)


def minimum(a: Array, b: Array) -> Result:
    """The smaller of two numbers; equal ones share the gradient."""
    return _smaller(a, b)


_larger, _smaller = _extreme(np.maximum, np.less), _extreme(np.minimum, np.greater)


def neg(a: Array) -> Result:
    """-a."""
    return np.negative(a, out=_place(a)), (np.negative,)


def abs(a: Array) -> Result:
    """The absolute value; no slope at zero."""
    return np.abs(a), (lambda g: g * np.sign(a),)


def sign(a: Array) -> Result:
    """-1, 0 or 1."""
    return np.sign(a), (_flat,)


def floor(a: Array) -> Result:
    """Rounded down."""
    return np.floor(a), (_flat,)


def ceil(a: Array) -> Result:
    """Rounded up."""
    return np.ceil(a), (_flat,)


def trunc(a: Array) -> Result:
    """Rounded towards zero."""
    return np.trunc(a), (_flat,)


def round(a: Array, *, decimals: int) -> Result:
    """Halves to the even neighbour."""
    return np.round(a, decimals), (_flat,)


@_quiet
def exp(a: Array) -> Result:
    """e ** a."""
    y = np.exp(a, out=_place(a))
    return y, (lambda g: _times(g, y),)


@_quiet
def expm1(a: Array) -> Result:
    """e ** a - 1, exact near zero."""
    y = np.expm1(a)
    return y, (lambda g: g * (y + 1),)


@_quiet
def log(a: Array) -> Result:
    """The natural logarithm."""
    return np.log(a), (lambda g: g / a,)


@_quiet
def log1p(a: Array) -> Result:
    """log(1 + a), exact near zero."""
    return np.log1p(a), (lambda g: g / (a + 1),)


@_quiet
def sqrt(a: Array) -> Result:
    """The square root."""
    y = np.sqrt(a)

    def of_a(g: Array) -> Array:
        return g / (2 * y)

    return y, (of_a,)


@_quiet
def rsqrt(a: Array) -> Result:
    """1 / sqrt(a)."""
    y = 1 / np.sqrt(a)
    return y, (lambda g: g * (y * y * y) * -0.5,)


def square(a: Array) -> Result:
    """a * a."""
    return np.square(a, out=_place(a)), (lambda g: _times(_times(g, a), np.asarray(2, a.dtype)),)


@_quiet
def reciprocal(a: Array) -> Result:
    """1 / a."""
    y = 1 / a
    return y, (lambda g: -g * (y * y),)


def sin(a: Array) -> Result:
    """The sine of radians."""
    return np.sin(a), (lambda g: g * np.cos(a),)


def cos(a: Array) -> Result:
    """The cosine of radians."""
    return np.cos(a), (lambda g: -g * np.sin(a),)


def tanh(a: Array) -> Result:
    """The hyperbolic tangent."""
    y = np.tanh(a)
    return y, (lambda g: g * (1 - y * y),)


@_quiet
def sigmoid(a: Array) -> Result:
    """1 / (1 + exp(-a))."""
    y = 0.5 + 0.5 * np.tanh(0.5 * a)  # exp(-a) would overflow
    return y, (lambda g: g * (y * (1 - y)),)


_zeros: dict[DTypeLike, Array] = {}


def relu(a: Array) -> Result:
    """max(a, 0)."""
    y = memory.empty_like(a)
    _relu(a, y)

    def of_a(g: Array) -> Array:
        result = memory.empty_like(y)
        through_relu(y, g, result)
        return result

    return y, (of_a,)


@compiled.elementwise
def _relu(a: Array, y: Array) -> None:
    zero: Any = a.dtype.type(0)
    if a.size >= _SMALL:  # numpy compares with an array of zeros three times as fast
        zeros = _zeros.get(a.dtype)
        if zeros is None or zeros.size < a.size:
            zeros = _zeros[a.dtype] = np.zeros(a.size, a.dtype)
        zero = np.ndarray(y.shape, y.dtype, zeros, 0, y.strides)
    np.maximum(a, zero, out=y)


@compiled.elementwise
def through_relu(y: Array, g: Array, result: Array) -> None:
    """What of a gradient passes the ReLU that made y."""
    _only(g, y > 0, result)


def clamp(a: Array, *, low: float | None, high: float | None) -> Result:
    """Numbers below low become low, those above high become high; None for no limit."""

    def of_a(g: Array) -> Array:
        inside = np.ones(a.shape, bool) if low is None else a >= low
        return _only(g, inside if high is None else inside & (a <= high))

    return np.clip(a, low, high), (of_a,)


def dropout(a: Array, *, p: float) -> Result:
    """Zeros with probability p, the rest scaled up by 1 / (1 - p)."""
    keep = (generator.random(a.shape, np.float32) >= p) * np.asarray(1 / (1 - p), a.dtype)
    return _times(a, keep), (lambda g: _times(g, keep),)


def where(condition: Array, a: Array, b: Array) -> Result:
    """a where the condition (bools) holds, else b."""
    return _choose(condition, a, b), (
        None,
        lambda g: _only(g, condition),
        lambda g: _only(g, ~condition),
    )


# Questions: bools, without gradients.


def eq(a: Array, b: Array) -> Result:
    """a == b, as bools."""
    return a == b, _NONE


def ne(a: Array, b: Array) -> Result:
    """a != b, as bools."""
    return a != b, _NONE


def lt(a: Array, b: Array) -> Result:
    """a < b, as bools."""
    return a < b, _NONE


def le(a: Array, b: Array) -> Result:
    """a <= b, as bools."""
    return a <= b, _NONE


def gt(a: Array, b: Array) -> Result:
    """a > b, as bools."""
    return a > b, _NONE


def ge(a: Array, b: Array) -> Result:
    """a >= b, as bools."""
    return a >= b, _NONE


def logical_and(a: Array, b: Array) -> Result:
    """Whether both numbers are not zero."""
    return np.logical_and(a, b), _NONE


def logical_or(a: Array, b: Array) -> Result:
    """Whether one number at least is not zero."""
    return np.logical_or(a, b), _NONE


def logical_xor(a: Array, b: Array) -> Result:
    """Whether exactly one number is not zero."""
    return np.logical_xor(a, b), _NONE


def logical_not(a: Array) -> Result:
    """Whether a number is zero."""
    return np.logical_not(a), (None,)


def bitwise_and(a: Array, b: Array) -> Result:
    """Of integers; of bools as logical_and, and so for the next three."""
    return a & b, _NONE


def bitwise_or(a: Array, b: Array) -> Result:
    """a | b, of bools or integers."""
    return a | b, _NONE


def bitwise_xor(a: Array, b: Array) -> Result:
    """a ^ b, of bools or integers."""
    return a ^ b, _NONE


def bitwise_not(a: Array) -> Result:
    """~a, of bools or integers."""
    return ~a, (None,)


def isnan(a: Array) -> Result:
    """Whether a number is NaN."""
    return np.isnan(a), (None,)


def isinf(a: Array) -> Result:
    """Whether a number is infinite."""
    return np.isinf(a), (None,)


def isfinite(a: Array) -> Result:
    """Whether a number is neither NaN nor infinite."""
    return np.isfinite(a), (None,)


# Shapes and types.


def clone(a: Array) -> Result:
    """A copy."""
    return a.copy(), (_same,)


def to(a: Array, *, dtype: DTypeLike) -> Result:
    """In another type; gradients come back in that of a."""
    return a.astype(dtype), (_same,)


def reshape(a: Array, *, shape: tuple[int, ...]) -> Result:
    """In another shape; a view where numpy can give one."""
    before = a.shape
    return a.reshape(shape), (lambda g: g.reshape(before),)


def permute(a: Array, *, dims: tuple[int, ...]) -> Result:
    """With the dimensions in another order; a view."""
    return a.transpose(dims), (lambda g: g.transpose(np.argsort(dims)),)


def expand(a: Array, *, shape: tuple[int, ...]) -> Result:
    """Broadcast to a shape; a view."""
    return np.broadcast_to(a, shape), (_same,)


def diagonal(a: Array, *, offset: int, dim1: int, dim2: int) -> Result:
    """A new last dimension of what lies on the diagonal of two."""
    before = a.shape

    def of_a(g: Array) -> Array:
        total = np.zeros(before, g.dtype)
        places = total.diagonal(offset, dim1, dim2)
        places.flags.writeable = True
        places[...] = g
        return total

    return a.diagonal(offset, dim1, dim2), (of_a,)


def pad(a: Array, *, widths: Sequence[tuple[int, int]], value: float) -> Result:
    """With a value around it; widths: (before, after) of each dimension."""
    inside = tuple(
        slice(before, before + n) for (before, _), n in zip(widths, a.shape, strict=True)
    )
    y = memory.empty(
        tuple(before + n + after for (before, after), n in zip(widths, a.shape, strict=True)),
        a.dtype,
    )
    y[...] = value
    y[inside] = a
    return y, (lambda g: g[inside],)


def flip(a: Array, *, dims: tuple[int, ...]) -> Result:
    """Backwards along dimensions."""
    return np.flip(a, dims).copy(), (lambda g: np.flip(g, dims),)


def roll(a: Array, *, shifts: tuple[int, ...], dims: tuple[int, ...] | None) -> Result:
    """Moved on along dimensions; what leaves at the end enters at the start."""
    back = tuple(-s for s in shifts)
    return np.roll(a, shifts, dims), (lambda g: np.roll(g, back, dims),)


def tril(a: Array, *, diagonal: int) -> Result:
    """The lower triangle of the last two dimensions, zeros above."""
    return np.tril(a, diagonal), (lambda g: np.tril(g, diagonal),)


def triu(a: Array, *, diagonal: int) -> Result:
    """The upper triangle of the last two dimensions, zeros below."""
    return np.triu(a, diagonal), (lambda g: np.triu(g, diagonal),)


def cat(*arrays: Array, dim: int) -> Result:
    """Arrays one after the other along a dimension."""
    ends = np.cumsum([a.shape[dim] for a in arrays])[:-1]
    return np.concatenate(arrays, dim), lambda g: tuple(np.split(g, ends, dim))


# Indices. A key is what stands in the brackets, with INDEX for each array of integers: the arrays
# are the operation's last.

INDEX = "index"


def full_key(key: tuple[Any, ...], arrays: Sequence[Array]) -> tuple[Any, ...]:
    """The key with the arrays in their places."""
    rest = iter(arrays)
    return tuple(next(rest) if k is INDEX else k for k in key)


def _add_at(shape: tuple[int, ...], key: tuple[Any, ...], g: Array) -> Array:
    """Zeros with g added at the key; an element that the key names twice gets both."""
    total = np.zeros(shape, g.dtype)
    if builtins.any(isinstance(k, np.ndarray) for k in key):
        places = np.arange(total.size).reshape(shape)[key]
        np.add.at(total.reshape(-1), places.reshape(-1), g.reshape(-1))  # numpy is fast in 1-d
    else:
        total[key] = g
    return total


def index(a: Array, *arrays: Array, key: tuple[Any, ...]) -> Result:
    """a[key], as numpy has it."""
    shape, full = a.shape, full_key(key, arrays)
    return a[full], (lambda g: _add_at(shape, full, g), *[None] * len(arrays))


def index_add(a: Array, *arrays: Array, shape: tuple[int, ...], key: tuple[Any, ...]) -> Result:
    """Zeros of a shape with a added at the key: the gradient of `index`."""
    full = full_key(key, arrays)
    return _add_at(shape, full, a), (lambda g: g[full], *[None] * len(arrays))


def set_index(a: Array, value: Array, *arrays: Array, key: tuple[Any, ...]) -> Result:
    """A copy of a in which a[key] = value."""
    full = full_key(key, arrays)
    y = a.copy()
    y[full] = value

    def of_a(g: Array) -> Array:
        g = g.copy()
        g[full] = 0
        return g

    return y, (of_a, lambda g: g[full], *[None] * len(arrays))


def _along(shape: Sequence[int], index: Array, dim: int) -> tuple[Any, ...]:
    """The key of the elements that `index` names along a dimension, its others their own place."""
    places: list[Any] = list(np.indices(index.shape, sparse=True))
    places[dim] = np.where(index < 0, index + shape[dim], index)
    return tuple(places)


def gather(a: Array, index: Array, *, dim: int) -> Result:
    """y[i][j] = a[index[i][j]][j] for dim 0, and so on."""
    shape, key = a.shape, _along(a.shape, index, dim)
    return a[key], (lambda g: _add_at(shape, key, g), None)


def scatter(a: Array, index: Array, value: Array, *, dim: int) -> Result:
    """A copy of a with y[index[i][j]][j] = value[i][j] for dim 0, and so on."""
    key = _along(a.shape, index, dim)
    y = a.copy()
    y[key] = value

    def of_a(g: Array) -> Array:
        g = g.copy()
        g[key] = 0
        return g

    return y, (of_a, None, lambda g: g[key])


def scatter_add(a: Array, index: Array, value: Array, *, dim: int) -> Result:
    """A copy of a with y[index[i][j]][j] += value[i][j] for dim 0, and so on."""
    key = _along(a.shape, index, dim)
    return a + _add_at(a.shape, key, value.astype(a.dtype, copy=False)), (
        _same,
        None,
        lambda g: g[key],
    )


# Reductions. dims: a sorted tuple of dimensions.


def sum(a: Array, *, dims: tuple[int, ...], keepdim: bool) -> Result:
    """The sum over dims; of integers and bools int64."""
    shape, keepdim_shape = a.shape, shapes.reduced(a.shape, dims, True)
    dtype = a.dtype if a.dtype.kind == "f" else np.int64
    y = a.sum(dims, dtype, keepdims=keepdim)
    return y, (lambda g: np.broadcast_to(g.reshape(keepdim_shape), shape),)


@_quiet
def mean(a: Array, *, dims: tuple[int, ...], keepdim: bool) -> Result:
    """NaN for the mean of nothing."""
    shape, keepdim_shape = a.shape, shapes.reduced(a.shape, dims, True)
    n = shapes.size([shape[d] for d in dims])
    y = a.sum(dims, keepdims=keepdim) / a.dtype.type(n)
    return y, (lambda g: np.broadcast_to((g / g.dtype.type(n)).reshape(keepdim_shape), shape),)


def _deviations(a: Array, dims: tuple[int, ...], correction: float) -> tuple[Array, Array, Any]:
    """The deviations from the mean, their squares' sum (keepdims), and what divides it."""
    n = shapes.size([a.shape[d] for d in dims])
    centred = a - a.sum(dims, keepdims=True) / a.dtype.type(n)
    return (
        centred,
        np.square(centred).sum(dims, keepdims=True),
        a.dtype.type(max(n - correction, 0)),
    )


@_quiet
def var(a: Array, *, dims: tuple[int, ...], correction: float, keepdim: bool) -> Result:
    """The squared deviations' sum, divided by their number less the correction."""
    centred, total, n = _deviations(a, dims, correction)
    y = total / n

    def of_a(g: Array) -> Array:
        return centred * (g.reshape(total.shape) * 2 / n)

    return y.reshape(shapes.reduced(a.shape, dims, keepdim)), (of_a,)


@_quiet
def std(a: Array, *, dims: tuple[int, ...], correction: float, keepdim: bool) -> Result:
    """The root of `var`; where all are equal it has no slope."""
    centred, total, n = _deviations(a, dims, correction)
    y = np.sqrt(total / n)

    def of_a(g: Array) -> Array:
        slope = np.where(y == 0, g.dtype.type(0), g.reshape(y.shape) / (y * n))
        return centred * slope

    return y.reshape(shapes.reduced(a.shape, dims, keepdim)), (of_a,)


def prod(a: Array, *, dims: tuple[int, ...], keepdim: bool) -> Result:
    """The product over dims; of integers and bools int64."""
    shape, keepdim_shape = a.shape, shapes.reduced(a.shape, dims, True)
    dtype = a.dtype if a.dtype.kind == "f" else np.int64

    def of_a(g: Array) -> Array:
        """Of each element the product of the others: without division, for there may be zeros."""
        last = tuple(range(-len(dims), 0))
        moved = np.moveaxis(a, dims, last)
        rows = moved.reshape(*moved.shape[: moved.ndim - len(dims)], -1)
        ones = np.ones_like(rows[..., :1])
        before = np.concatenate([ones, rows[..., :-1]], -1).cumprod(-1)
        after = np.concatenate([ones, rows[..., :0:-1]], -1).cumprod(-1)[..., ::-1]
        others = np.moveaxis((before * after).reshape(moved.shape), last, dims)
        return others * g.reshape(keepdim_shape)

    return np.asarray(a.prod(dims, dtype, keepdims=keepdim)), (of_a if a.size else _empty(shape),)


def _empty(shape: tuple[int, ...]) -> Gradient:
    return lambda g: np.zeros(shape, g.dtype)


def _best(a: Array, y: Array, dims: tuple[int, ...]) -> Result:
    keepdim_shape = shapes.reduced(a.shape, dims, True)

    def of_a(g: Array) -> Array:
        hit = a == y.reshape(keepdim_shape)
        return hit * (g.reshape(keepdim_shape) / hit.sum(dims, a.dtype, keepdims=True))

    return y, (of_a,)


def amax(a: Array, *, dims: tuple[int, ...], keepdim: bool) -> Result:
    """Equal maxima share the gradient, as they do in PyTorch."""
    return _best(a, a.max(dims, keepdims=keepdim), dims)


def amin(a: Array, *, dims: tuple[int, ...], keepdim: bool) -> Result:
    """The minimum over dims; equal ones share the gradient."""
    return _best(a, a.min(dims, keepdims=keepdim), dims)


def any(a: Array, *, dims: tuple[int, ...], keepdim: bool) -> Result:
    """Whether any number is not zero."""
    return np.asarray(a.any(dims, keepdims=keepdim)), (None,)


def all(a: Array, *, dims: tuple[int, ...], keepdim: bool) -> Result:
    """Whether all numbers are not zero."""
    return np.asarray(a.all(dims, keepdims=keepdim)), (None,)


def count_nonzero(a: Array, *, dims: tuple[int, ...], keepdim: bool) -> Result:
    """How many numbers are not zero."""
    return np.asarray(np.count_nonzero(a, dims, keepdims=keepdim), np.int64), (None,)


def argmax(a: Array, *, dim: int | None, keepdim: bool) -> Result:
    """The first of equals; over the flat array without a dim."""
    return np.argmax(a, dim, keepdims=keepdim), (None,)


def argmin(a: Array, *, dim: int | None, keepdim: bool) -> Result:
    """The position of the first minimum; in the flat array for dim=None."""
    return np.argmin(a, dim, keepdims=keepdim), (None,)


def argsort(a: Array, *, dim: int, descending: bool) -> Result:
    """Equals keep their order."""
    if not descending:
        return np.argsort(a, dim, kind="stable"), (None,)
    backwards = np.argsort(np.flip(a, dim), dim, kind="stable")
    return np.flip(a.shape[dim] - 1 - backwards, dim), (None,)


def cumsum(a: Array, *, dim: int) -> Result:
    """The sum of each number and those before it."""
    dtype = a.dtype if a.dtype.kind == "f" else np.int64
    return a.cumsum(dim, dtype), (lambda g: np.flip(np.flip(g, dim).cumsum(dim), dim),)


def cumprod(a: Array, *, dim: int) -> Result:
    """The product of each number and those before it."""
    y = a.cumprod(dim, a.dtype if a.dtype.kind == "f" else np.int64)

    def of_a(g: Array) -> Array:
        """Row by row of the triangle d y[j] / d a[i]: the product of a[:j + 1] without a[i]."""
        rows = np.moveaxis(a, dim, -1)
        n = rows.shape[-1]
        others = np.where(np.eye(n, dtype=bool), a.dtype.type(1), rows[..., None, :])
        slopes = np.triu(others.cumprod(-1))
        return np.moveaxis((slopes * np.moveaxis(g, dim, -1)[..., None, :]).sum(-1), -1, dim)

    return y, (of_a,)


@_quiet
def logsumexp(a: Array, *, dims: tuple[int, ...], keepdim: bool) -> Result:
    """log(sum(exp(a))), shifted so that nothing overflows."""
    keepdim_shape = shapes.reduced(a.shape, dims, True)
    top = a.max(dims, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, a.dtype.type(0))
    y = np.log(np.exp(a - top).sum(dims, keepdims=True)) + top

    def of_a(g: Array) -> Array:
        return g.reshape(keepdim_shape) * np.exp(a - y)

    return y.reshape(shapes.reduced(a.shape, dims, keepdim)), (of_a,)


def norm(a: Array, *, dims: tuple[int, ...], keepdim: bool) -> Result:
    """The Euclidean one; where it is zero it has no slope."""
    keepdim_shape = shapes.reduced(a.shape, dims, True)
    y = np.sqrt(np.square(a).sum(dims, keepdims=True))

    def of_a(g: Array) -> Array:
        return a * np.where(y == 0, g.dtype.type(0), g.reshape(keepdim_shape) / y)

    return y.reshape(shapes.reduced(a.shape, dims, keepdim)), (of_a,)


# Products.


def matmul(a: Array, b: Array) -> Result:
    """a (..., n, m) @ b (..., m, p) -> (..., n, p)."""

    def of_b(g: Array) -> Array:
        if b.ndim == 2:  # one large product, not a sum of small ones
            return a.reshape(-1, a.shape[-1]).T @ g.reshape(-1, g.shape[-1])
        return a.swapaxes(-1, -2) @ g

    return a @ b, (lambda g: g @ b.swapaxes(-1, -2), of_b)


def einsum(*arrays: Array, inputs: tuple[str, ...], output: str) -> Result:
    """The sum of products over the letters that are not in the output: "ij", "jk" -> "ik".

    A letter for each dimension; an array that has one twice takes part with its diagonal.
    """
    found = [a.shape for a in arrays]
    sizes = {
        c: n
        for s, letters in zip(found, inputs, strict=True)
        for c, n in zip(letters, s, strict=True)
    }

    def gradients(g: Array) -> tuple[Array, ...]:
        parts = []
        for i, letters in enumerate(inputs):
            rest = [(a, n) for j, (a, n) in enumerate(zip(arrays, inputs, strict=True)) if j != i]
            wanted = "".join(dict.fromkeys(letters))
            part = _einsum([(g, output), *rest], wanted, sizes)
            if len(wanted) < len(letters):
                whole = np.zeros(found[i], g.dtype)
                np.einsum(whole, _numbers(letters), _numbers(wanted))[...] = part
                part = whole
            parts.append(part)
        return tuple(parts)

    return _einsum(list(zip(arrays, inputs, strict=True)), output, sizes), gradients


def _numbers(letters: str) -> list[int]:
    """Letters as numpy.einsum takes them beside an array."""
    return [string.ascii_letters.index(c) for c in letters]


def _einsum(terms: list[tuple[Array, str]], output: str, sizes: dict[str, int]) -> Array:
    """From the left to the right, each step a matrix product."""
    for i, (a, letters) in enumerate(terms):
        own = "".join(dict.fromkeys(letters))
        if own != letters:
            terms[i] = np.einsum(a, _numbers(letters), _numbers(own)), own
    a, left = terms[0]
    for i, (b, right) in enumerate(terms[1:], 1):
        later = output + "".join(letters for _, letters in terms[i + 1 :])
        a, left = _contract(a, left, b, right, later)
    a = a.sum(tuple(d for d, c in enumerate(left) if c not in output))
    left = "".join(c for c in left if c in output)
    missing = [c for c in output if c not in left]  # a gradient of what was only summed
    a = np.broadcast_to(
        a.reshape((*a.shape, *[1] * len(missing))), (*a.shape, *[sizes[c] for c in missing])
    )
    left += "".join(missing)
    return a.transpose([left.index(c) for c in output])


def _contract(a: Array, left: str, b: Array, right: str, later: str) -> tuple[Array, str]:
    """Two arrays into one with the letters that are needed later."""
    a = a.sum(tuple(d for d, c in enumerate(left) if c not in right + later))
    b = b.sum(tuple(d for d, c in enumerate(right) if c not in left + later))
    left, right = (
        "".join(c for c in left if c in right + later),
        "".join(c for c in right if c in left + later),
    )
    both = [c for c in left if c in right]
    batch, inner = [c for c in both if c in later], [c for c in both if c not in later]
    rows, columns = [c for c in left if c not in both], [c for c in right if c not in both]

    def matrices(x: Array, letters: str, first: list[str], second: list[str]) -> Array:
        x = x.transpose([letters.index(c) for c in [*batch, *first, *second]])
        n, m = len(batch), len(batch) + len(first)
        return x.reshape(*x.shape[:n], shapes.size(x.shape[n:m]), shapes.size(x.shape[m:]))

    y = matrices(a, left, rows, inner) @ matrices(b, right, inner, columns)
    shape = [a.shape[left.index(c)] for c in [*batch, *rows]]
    shape += [b.shape[right.index(c)] for c in columns]
    return y.reshape(shape), "".join([*batch, *rows, *columns])


def assign(a: Array, b: Array) -> Result:
    """b in the shape and type of a."""
    return np.broadcast_to(b, a.shape).astype(a.dtype), (_flat, _same)


def overwritten(a: Array, b: Array, *, here: Array, there: Array) -> Result:
    """a after b, which shares memory with it, was written: a as it lies there now.

    here, there: the places in flat a and in flat b of the elements that they share.
    """
    own, other = a.shape, b.shape

    def of_a(g: Array) -> Array:
        g = g.flatten()
        g[here] = 0
        return g.reshape(own)

    def of_b(g: Array) -> Array:
        return _add_at((shapes.size(other),), (there,), g.reshape(-1)[here]).reshape(other)

    return a, (of_a, of_b)
