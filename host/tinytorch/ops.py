"""Every differentiable operation on numpy arrays, its gradient beside it.

An operation takes arrays (and settings by keyword) and returns its result and its gradients: for
each array a function from the gradient of the result to that of the array, or, where the gradients
share work, one function that returns them all. A function may return the gradient of a broadcast
array in the shape of the result: the tape (tinytorch.autograd) sums it. Nothing here knows Tensors.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tinytorch import fast, memory
from tinytorch.random import generator
from tinytorch_core import shapes

Array = NDArray[Any]
Gradient = Callable[[Array], Array]
Gradients = tuple[Gradient | None, ...] | Callable[[Array], tuple[Array | None, ...]]
Result = tuple[Array, Gradients]
Operation = Callable[..., Result]


# Element by element.


def add(a: Array, b: Array) -> Result:
    return a + b, (lambda g: g, lambda g: g)


def sub(a: Array, b: Array) -> Result:
    return a - b, (lambda g: g, lambda g: -g)


def mul(a: Array, b: Array) -> Result:
    return a * b, (lambda g: g * b, lambda g: g * a)


def div(a: Array, b: Array) -> Result:
    return a / b, (lambda g: g / b, lambda g: -g * a / (b * b))


def pow(a: Array, b: Array) -> Result:
    y = a**b

    def of_base(g: Array) -> Array:
        return g * b * a ** np.where(b == 0, 1, b - 1)  # a**0 is flat, at zero too

    def of_exponent(g: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return g * np.where(a == 0, 0, y * np.log(a))

    return y, (of_base, of_exponent)


def neg(a: Array) -> Result:
    return -a, (lambda g: -g,)


def exp(a: Array) -> Result:
    y = np.exp(a)
    return y, (lambda g: g * y,)


def log(a: Array) -> Result:
    return np.log(a), (lambda g: g / a,)


def sqrt(a: Array) -> Result:
    y = np.sqrt(a)
    return y, (lambda g: g / (2 * y),)


def tanh(a: Array) -> Result:
    y = np.tanh(a)
    return y, (lambda g: g * (1 - y * y),)


def sigmoid(a: Array) -> Result:
    y = 0.5 + 0.5 * np.tanh(0.5 * a)  # exp(-a) would overflow
    return y, (lambda g: g * y * (1 - y),)


def relu(a: Array) -> Result:
    y = memory.empty_like(a)
    _relu(a, y)

    def of_a(g: Array) -> Array:
        result = memory.empty_like(y)
        through_relu(y, g, result)
        return result

    return y, (of_a,)


@fast.elementwise
def _relu(a: Array, y: Array) -> None:
    np.maximum(a, a.dtype.type(0), out=y)


@fast.elementwise
def through_relu(y: Array, g: Array, result: Array) -> None:
    """What of a gradient passes the ReLU that made y."""
    np.multiply(g, y > 0, out=result)


def dropout(a: Array, *, p: float) -> Result:
    """Zeros with probability p, the rest scaled up by 1 / (1 - p)."""
    keep = (generator.random(a.shape, np.float32) >= p) * np.asarray(1 / (1 - p), a.dtype)
    return a * keep, (lambda g: g * keep,)


# Shapes and types.


def clone(a: Array) -> Result:
    return a.copy(), (lambda g: g,)


def to(a: Array, *, dtype: DTypeLike) -> Result:
    return a.astype(dtype), (lambda g: g,)


def reshape(a: Array, *, shape: tuple[int, ...]) -> Result:
    return a.reshape(shape), (lambda g: g.reshape(a.shape),)


def permute(a: Array, *, dims: tuple[int, ...]) -> Result:
    return a.transpose(dims), (lambda g: g.transpose(np.argsort(dims)),)


def pad(a: Array, *, widths: Sequence[tuple[int, int]], value: float) -> Result:
    inside = tuple(
        slice(before, before + n) for (before, _), n in zip(widths, a.shape, strict=True)
    )
    return np.pad(a, widths, constant_values=value), (lambda g: g[inside],)


def index(a: Array, *, key: Any) -> Result:
    """numpy's indexing; an element that is taken twice gets both gradients."""

    def of_a(g: Array) -> Array:
        total = np.zeros_like(a, dtype=g.dtype)
        np.add.at(total, key, g)
        return total

    return a[key], (of_a,)


def cat(*arrays: Array, dim: int) -> Result:
    ends = np.cumsum([a.shape[dim] for a in arrays])[:-1]
    return np.concatenate(arrays, dim), lambda g: tuple(np.split(g, ends, dim))


# Reductions. dims: a sorted tuple of dimensions.


def sum(a: Array, *, dims: tuple[int, ...], keepdim: bool) -> Result:
    kept = shapes.reduced(a.shape, dims, True)
    y = a.sum(dims, keepdims=keepdim)
    return y, (lambda g: np.broadcast_to(g.reshape(kept), a.shape),)


def mean(a: Array, *, dims: tuple[int, ...], keepdim: bool) -> Result:
    kept = shapes.reduced(a.shape, dims, True)
    n = shapes.size([a.shape[d] for d in dims])
    y = a.mean(dims, keepdims=keepdim)
    return y, (lambda g: np.broadcast_to(g.reshape(kept) / n, a.shape),)


def amax(a: Array, *, dims: tuple[int, ...], keepdim: bool) -> Result:
    """Equal maxima share the gradient, as they do in PyTorch."""
    kept = shapes.reduced(a.shape, dims, True)
    y = a.max(dims, keepdims=keepdim)

    def of_a(g: Array) -> Array:
        hit = a == y.reshape(kept)
        return hit * (g.reshape(kept) / hit.sum(dims, keepdims=True))

    return y, (of_a,)


# Products.


def matmul(a: Array, b: Array) -> Result:
    def of_b(g: Array) -> Array:
        if b.ndim == 2:  # one large product, not a sum of small ones
            return a.reshape(-1, a.shape[-1]).T @ g.reshape(-1, g.shape[-1])
        return a.swapaxes(-1, -2) @ g

    return a @ b, (lambda g: g @ b.swapaxes(-1, -2), of_b)
