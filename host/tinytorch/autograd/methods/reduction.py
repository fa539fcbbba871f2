"""Along dimensions: sums and other reductions, order, and what runs along a row."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinytorch import ops
from tinytorch.autograd.methods.elementwise import Elementwise
from tinytorch.autograd.methods.indexing import Indexing
from tinytorch.autograd.tape import Dims, TensorBase, apply
from tinytorch_core import shapes

if TYPE_CHECKING:
    from typing_extensions import Self


class ValuesIndices(NamedTuple):
    """Of each row the largest or smallest number, or the middle one, and where it is."""

    values: Any
    indices: Any


def _correction(dim: Any, correction: float, unbiased: bool | None) -> tuple[Dims, float]:
    """PyTorch's two ways to say what is taken from the number of elements."""
    if isinstance(dim, bool):
        return None, int(dim)
    return dim, correction if unbiased is None else int(unbiased)


class Reduction(Elementwise, Indexing):
    """Methods that go along dimensions."""

    __slots__ = ()

    def _reduce(self, operation: ops.Operation, dim: Dims, keepdim: bool, **attrs: Any) -> "Self":
        dims = shapes.axes(operation.__name__, dim, self.ndim or 1)  # a number has a dim 0, or -1
        dims = dims if self.ndim else ()
        return apply(operation, self, dims=dims, keepdim=keepdim, **attrs)

    def _mean_of(self, operation: ops.Operation, dim: Dims, keepdim: bool, **attrs: Any) -> "Self":
        if not self.is_floating_point():
            raise TypeError(
                f"{operation.__name__}: only floats are supported, and this tensor holds "
                f"{self.dtype}: convert it with float()."
            )
        return self._reduce(operation, dim, keepdim, **attrs)

    def sum(self, dim: Dims = None, keepdim: bool = False) -> "Self":
        """Integers and bools add up to int64."""
        return self._reduce(ops.sum, dim, keepdim)

    def mean(self, dim: Dims = None, keepdim: bool = False) -> "Self":
        """The mean. Raises TypeError for other than floats."""
        return self._mean_of(ops.mean, dim, keepdim)

    def var(
        self, dim: Dims = None, keepdim: bool = False, correction: float = 1,
        unbiased: bool | None = None,
    ) -> "Self":  # fmt: skip
        """The mean squared deviation from the mean, divided by the number less the correction."""
        dim, correction = _correction(dim, correction, unbiased)
        return self._mean_of(ops.var, dim, keepdim, correction=correction)

    def std(
        self, dim: Dims = None, keepdim: bool = False, correction: float = 1,
        unbiased: bool | None = None,
    ) -> "Self":  # fmt: skip
        """The root of `var`."""
        dim, correction = _correction(dim, correction, unbiased)
        return self._mean_of(ops.std, dim, keepdim, correction=correction)

    def prod(self, dim: int | None = None, keepdim: bool = False) -> "Self":
        """The product; of integers and bools int64."""
        return self._reduce(ops.prod, dim, keepdim)

    def logsumexp(self, dim: Dims, keepdim: bool = False) -> "Self":
        """log(sum(exp(self))), without overflow."""
        return self._real()._reduce(ops.logsumexp, dim, keepdim)

    def norm(self, p: float | str = 2, dim: Dims = None, keepdim: bool = False) -> "Self":
        """(sum of abs(x) ** p) ** (1 / p); for infinities the largest or smallest abs(x)."""
        if p in (2, "fro"):
            return self._mean_of(ops.norm, dim, keepdim)
        p = float(p)
        if p == math.inf:
            return self.abs().amax(dim, keepdim)
        if p == -math.inf:
            return self.abs().amin(dim, keepdim)
        if p == 0:
            return (self != 0).to(self.dtype).sum(dim, keepdim)
        if p == 1:
            return self.abs().sum(dim, keepdim)
        return (self.abs() ** p).sum(dim, keepdim) ** (1 / p)

    def any(self, dim: Dims = None, keepdim: bool = False) -> "Self":
        """Whether any number is not zero, as bools."""
        return self._reduce(ops.any, dim, keepdim)

    def all(self, dim: Dims = None, keepdim: bool = False) -> "Self":
        """Whether all numbers are not zero, as bools."""
        return self._reduce(ops.all, dim, keepdim)

    def count_nonzero(self, dim: Dims = None) -> "Self":
        """How many numbers are not zero, as int64."""
        return self._reduce(ops.count_nonzero, dim, False)

    def _not_empty(self, operation: str, dim: Dims) -> None:
        for d in shapes.axes(operation, dim, self.ndim or 1):
            if self.ndim and self.shape[d] == 0:
                raise ValueError(f"{operation}: shape {self.shape} has no elements along {d}.")

    def amax(self, dim: Dims = None, keepdim: bool = False) -> "Self":
        """Equal maxima share the gradient."""
        self._not_empty("amax", dim)
        return self._reduce(ops.amax, dim, keepdim)

    def amin(self, dim: Dims = None, keepdim: bool = False) -> "Self":
        """Equal minima share the gradient."""
        self._not_empty("amin", dim)
        return self._reduce(ops.amin, dim, keepdim)

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> "Self":
        """The position of the first maximum; in the flat tensor for dim=None."""
        return self._position(ops.argmax, dim, keepdim)

    def argmin(self, dim: int | None = None, keepdim: bool = False) -> "Self":
        """The position of the first minimum; in the flat tensor for dim=None."""
        return self._position(ops.argmin, dim, keepdim)

    def _position(self, operation: ops.Operation, dim: int | None, keepdim: bool) -> "Self":
        self._not_empty(operation.__name__, dim)
        if dim is not None and self.ndim:
            dim = shapes.axis(operation.__name__, dim, self.ndim)
        return apply(operation, self, dim=dim if self.ndim else None, keepdim=keepdim)

    def max(self, dim: Any = None, keepdim: bool = False) -> Any:
        """The maximum, as `amax`; along a dim (values, indices) of the first ones, which alone get
        the gradient; of two tensors as `maximum`."""
        if isinstance(dim, TensorBase):
            return self.maximum(dim)
        return self.amax() if dim is None else self._extreme(ops.argmax, dim, keepdim)

    def min(self, dim: Any = None, keepdim: bool = False) -> Any:
        """The minimum, as `max` gives the maximum."""
        if isinstance(dim, TensorBase):
            return self.minimum(dim)
        return self.amin() if dim is None else self._extreme(ops.argmin, dim, keepdim)

    def _extreme(self, operation: ops.Operation, dim: int, keepdim: bool) -> ValuesIndices:
        return self._taken(self._position(operation, dim, bool(self.ndim)), dim, keepdim)

    def _taken(self, indices: "Reduction", dim: int, keepdim: bool) -> ValuesIndices:
        if not self.ndim:
            return ValuesIndices(self.clone(), indices)
        values = self.gather(dim, indices)
        return ValuesIndices(*[t if keepdim else t.squeeze(dim) for t in (values, indices)])

    def median(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """The lower of two middle ones; along a dim (values, indices)."""
        if dim is None:
            return self.flatten().median(0).values
        self._not_empty("median", dim)
        if not self.ndim:
            return ValuesIndices(self.clone(), self._wrap(np.zeros((), np.int64)))
        order = self.argsort(dim)
        return self._taken(order.narrow(dim, (self.shape[dim] - 1) // 2, 1), dim, keepdim)

    def argsort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> "Self":
        """Equals keep their order, whatever `stable` says."""
        dim = shapes.axis("argsort", dim, self.ndim or 1)
        if not self.ndim:
            return self._wrap(np.zeros((), np.int64))
        return apply(ops.argsort, self, dim=dim, descending=descending)

    def sort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> ValuesIndices:
        """(values, indices) along a dimension."""
        if not self.ndim:
            return ValuesIndices(self.clone(), self._wrap(np.zeros((), np.int64)))
        order = self.argsort(dim, descending)
        return ValuesIndices(self.gather(dim, order), order)

    def topk(
        self, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
    ) -> ValuesIndices:
        """(values, indices) of the k largest or smallest, in order."""
        d = shapes.axis("topk", dim, self.ndim)
        if not 0 <= k <= self.shape[d]:
            raise ValueError(
                f"topk: k={k} is out of range for shape {self.shape} along dimension {dim}."
            )
        order = self.argsort(d, largest).narrow(d, 0, k)
        return ValuesIndices(self.gather(d, order), order)

    def unique(self) -> "Self":
        """The different numbers, sorted."""
        return self._wrap(np.unique(self.data))

    def cumsum(self, dim: int) -> "Self":
        """The sum of each number and those before it."""
        return self._cumulated(ops.cumsum, dim)

    def cumprod(self, dim: int) -> "Self":
        """The product of each number and those before it."""
        return self._cumulated(ops.cumprod, dim)

    def _cumulated(self, operation: ops.Operation, dim: int) -> "Self":
        if not self.ndim:
            return self.clone()
        return apply(operation, self, dim=shapes.axis(operation.__name__, dim, self.ndim))

    def softmax(self, dim: int) -> "Self":
        """exp(self) / sum(exp(self)) along a dimension."""
        return self._over(ops.softmax, dim)

    def log_softmax(self, dim: int) -> "Self":
        """log(softmax(self)) along a dimension, without overflow."""
        return self._over(ops.log_softmax, dim)

    def _over(self, operation: ops.Operation, dim: int) -> "Self":
        if not self.ndim:
            return self.reshape(1)._over(operation, dim).reshape(())
        return apply(operation, self._real(), dim=shapes.axis(operation.__name__, dim, self.ndim))
