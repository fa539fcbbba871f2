"""New tensors: of given numbers, of one number, of series, and of chance.

shape: numbers or one tuple.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tinytorch.autograd.tape import Size
from tinytorch.autograd.tensor import Tensor, copied
from tinytorch.dtypes import float32, int64
from tinytorch.ops.array import Array
from tinytorch.random import generator
from tinytorch_core import shapes


def tensor(data: Any, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """A copy of the numbers; Python floats become float32, arrays keep their type."""
    return Tensor(copied(data, dtype), requires_grad)


def as_tensor(data: Any, dtype: DTypeLike | None = None) -> Tensor:
    """The same numbers, shared where the type allows it."""
    own = data if isinstance(data, Tensor) else Tensor(data)
    return own if dtype is None else own.to(dtype)


def from_numpy(array: Array) -> Tensor:
    """The same memory as a tensor."""
    return Tensor(array)


def full(
    *shape: Any, fill_value: Any = None, dtype: DTypeLike | None = None, requires_grad: bool = False
) -> Tensor:
    """full(shape, value). The type is that of the value, or float32 for a float."""
    if fill_value is None:
        *shape, fill_value = shape  # type: ignore[assignment]
    if dtype is None:
        dtype = Tensor(fill_value).dtype
    return Tensor(np.full(shapes.given(shape), fill_value, dtype), requires_grad)


def zeros(*shape: Size, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Zeros, float32 by default."""
    return Tensor(np.zeros(shapes.given(shape), dtype or float32), requires_grad)


def ones(*shape: Size, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Ones, float32 by default."""
    return Tensor(np.ones(shapes.given(shape), dtype or float32), requires_grad)


def empty(*shape: Size, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Any numbers."""
    return Tensor(np.empty(shapes.given(shape), dtype or float32), requires_grad)


def _drawn(numbers: Any, dtype: DTypeLike | None, requires_grad: bool) -> Tensor:
    return Tensor(np.asarray(numbers).astype(dtype or float32), requires_grad)


def rand(*shape: Size, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """From the uniform distribution on [0, 1)."""
    return _drawn(generator.uniform(size=shapes.given(shape)), dtype, requires_grad)


def randn(*shape: Size, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """From the normal distribution."""
    return _drawn(generator.normal(size=shapes.given(shape)), dtype, requires_grad)


def normal(mean: Any, std: Any, size: Sequence[int] | None = None) -> Tensor:
    """From the normal distribution with this mean and deviation, numbers or tensors."""
    if size is not None:
        return randn(*size) * std + mean
    shape = shapes.broadcast("normal", as_tensor(mean).shape, as_tensor(std).shape)
    return randn(shape) * std + mean


def randint(low: int, high: Any = None, size: Any = None, dtype: DTypeLike = int64) -> Tensor:
    """Integers from low to below high: randint(high, size) starts at 0."""
    if size is None:
        low, high, size = 0, low, high
    return Tensor(generator.integers(low, high, tuple(size)).astype(dtype))


def randperm(n: int) -> Tensor:
    """The integers below n in random order."""
    return Tensor(generator.permutation(n))


def bernoulli(p: Tensor) -> Tensor:
    """Ones with these probabilities, else zeros."""
    return Tensor((generator.random(p.shape) < p.data).astype(p.dtype))


def multinomial(weights: Tensor, num_samples: int, replacement: bool = False) -> Tensor:
    """(..., n) -> (..., num_samples): indices of each row, as often as its weights say."""
    rows = weights.data.reshape(-1, weights.shape[-1]).astype(np.float64)
    if not (rows >= 0).all() or not (rows.sum(1) > 0).all():
        raise ValueError("multinomial: weights must not be negative, nor all zero.")
    if not replacement and ((rows > 0).sum(1) < num_samples).any():
        raise ValueError(
            f"multinomial: {num_samples} draws of shape {weights.shape} need replacement."
        )
    drawn = [generator.choice(len(row), num_samples, replacement, row / row.sum()) for row in rows]
    return Tensor(np.array(drawn, np.int64).reshape(*weights.shape[:-1], num_samples))


def arange(*limits: float, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """(start,) end(, step) as Python's range, of floats too."""
    whole = all(isinstance(n, (int, np.integer)) for n in limits)
    dtype = dtype or (int64 if whole else float32)
    return Tensor(np.arange(*limits).astype(dtype), requires_grad)


def linspace(
    start: float, end: float, steps: int, dtype: DTypeLike = float32, requires_grad: bool = False
) -> Tensor:
    """`steps` numbers from start to end, both included."""
    return Tensor(np.linspace(start, end, steps).astype(dtype), requires_grad)


def eye(n: int, m: int | None = None, dtype: DTypeLike = float32) -> Tensor:
    """Ones on the diagonal."""
    return Tensor(np.eye(n, m, dtype=dtype))


def zeros_like(t: Tensor, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Zeros in the shape of t, and in its type by default."""
    return zeros(t.shape, dtype=dtype or t.dtype, requires_grad=requires_grad)


def ones_like(t: Tensor, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Ones in the shape of t, and in its type by default."""
    return ones(t.shape, dtype=dtype or t.dtype, requires_grad=requires_grad)


def empty_like(t: Tensor, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Any numbers in the shape of t, and in its type by default."""
    return empty(t.shape, dtype=dtype or t.dtype, requires_grad=requires_grad)


def full_like(
    t: Tensor, fill_value: Any, dtype: DTypeLike | None = None, requires_grad: bool = False
) -> Tensor:
    """One number everywhere in the shape of t, and in its type by default."""
    return full(t.shape, fill_value, dtype=dtype or t.dtype, requires_grad=requires_grad)


def rand_like(t: Tensor, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """`rand` in the shape of t, and in its type by default."""
    return rand(t.shape, dtype=dtype or t.dtype, requires_grad=requires_grad)


def randn_like(t: Tensor, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """`randn` in the shape of t, and in its type by default."""
    return randn(t.shape, dtype=dtype or t.dtype, requires_grad=requires_grad)


def randint_like(t: Tensor, low: int, high: int | None = None) -> Tensor:
    """`randint` in the shape and the type of t."""
    low, high = (0, low) if high is None else (low, high)
    return randint(low, high, t.shape, t.dtype)
