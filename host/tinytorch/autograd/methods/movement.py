"""Other shapes and orders of the same numbers. What can share the memory does."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinytorch import ops
from tinytorch.autograd.aliasing import AliasSet
from tinytorch.autograd.tape import Dims, Size, TensorBase, apply
from tinytorch_core import shapes

if TYPE_CHECKING:
    from typing_extensions import Self


class Movement(TensorBase):
    """Methods that move numbers, and change none."""

    __slots__ = ()

    def reshape(self, *shape: Size) -> "Self":
        """Numbers or one tuple; -1 is worked out."""
        new = shapes.reshape(self.shape, shapes.given(shape))
        result = self._viewed(ops.reshape, shape=new)
        if self._strided:
            result._strided = True
        return result

    def view(self, *shape: Size) -> "Self":
        """`reshape` where it needs no copy. Raises a RuntimeError for others, as after a transpose.

        A layer's result lies in memory as suits the layer: it counts as if it lay in one row.
        """
        new = shapes.reshape(self.shape, shapes.given(shape))
        if self._strided and not _viewable(self, new):
            raise RuntimeError(
                f"view: shape {self.shape} does not lie in memory as {new} does: use reshape, "
                "which copies."
            )
        return self.reshape(new)

    def view_as(self, other: "Movement") -> "Self":
        """`view` in the shape of another tensor."""
        return self.view(other.shape)

    def reshape_as(self, other: "Movement") -> "Self":
        """`reshape` to the shape of another tensor."""
        return self.reshape(other.shape)

    def is_contiguous(self) -> bool:
        """Whether the numbers lie in one row, in the order of the shape."""
        return not self._strided or _viewable(self, (self.numel(),))

    def contiguous(self) -> "Self":
        """This tensor, or a copy that lies in one row."""
        return self if self.is_contiguous() else self.clone()

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> "Self":
        """The dimensions from start_dim to end_dim, both included, as one."""
        shape = shapes.flatten(self.shape, start_dim, end_dim)
        return self if shape == self.shape else self.reshape(shape)

    def unflatten(self, dim: int, sizes: Sequence[int]) -> "Self":
        """One dimension made into several."""
        dim = shapes.axis("unflatten", dim, self.ndim)
        new = shapes.reshape(self.shape[dim : dim + 1], tuple(sizes))
        return self.reshape(*self.shape[:dim], *new, *self.shape[dim + 1 :])

    def squeeze(self, dim: Dims = None) -> "Self":
        """Without the dimensions of length 1, all or those named."""
        dims = shapes.axes("squeeze", dim, self.ndim)
        return self.reshape([n for d, n in enumerate(self.shape) if n != 1 or d not in dims])

    def unsqueeze(self, dim: int) -> "Self":
        """With a new dimension of length 1 at dim."""
        dim = shapes.axis("unsqueeze", dim, self.ndim + 1)
        return self.reshape(*self.shape[:dim], 1, *self.shape[dim:])

    def permute(self, *dims: Size) -> "Self":
        """Numbers or one tuple."""
        order = tuple(shapes.axis("permute", d, self.ndim) for d in shapes.given(dims))
        if sorted(order) != list(range(self.ndim)):
            raise ValueError(f"permute: {order} does not name each dimension of {self.shape}.")
        return self._stridden(ops.permute, dims=order)

    def transpose(self, dim0: int, dim1: int) -> "Self":
        """Two dimensions exchanged."""
        dims = list(range(self.ndim))
        a, b = (shapes.axis("transpose", d, self.ndim) for d in (dim0, dim1))
        dims[a], dims[b] = dims[b], dims[a]
        return self.permute(dims)

    swapaxes = transpose

    @property
    def T(self) -> "Self":
        """All dimensions in reverse order."""
        return self.permute(*reversed(range(self.ndim)))

    @property
    def mT(self) -> "Self":
        """Each matrix of the last two dimensions transposed."""
        return self.transpose(-2, -1)

    def t(self) -> "Self":
        """A matrix transposed; of fewer dimensions, the same."""
        if self.ndim > 2:
            raise ValueError(f"t: shape {self.shape} is no matrix: name dimensions for transpose.")
        return self.T

    def movedim(self, source: Size, destination: Size) -> "Self":
        """Dimensions moved to other places; the rest keep their order."""
        start, end = (
            [
                shapes.axis("movedim", d, self.ndim)
                for d in ((dims,) if isinstance(dims, int) else dims)
            ]
            for dims in (source, destination)
        )
        order = [d for d in range(self.ndim) if d not in start]
        for place, d in sorted(zip(end, start, strict=True)):
            order.insert(place, d)
        return self.permute(order)

    def expand(self, *shape: Size) -> "Self":
        """Dimensions of length 1 stretched, and new ones before them; -1 keeps a length."""
        new = shapes.given(shape)
        more = len(new) - self.ndim
        wanted = tuple(
            self.shape[d - more] if n == -1 and d >= more else n for d, n in enumerate(new)
        )
        if more < 0 or any(
            m not in (1, n) for m, n in zip(self.shape, wanted[max(more, 0) :], strict=True)
        ):
            raise ValueError(f"expand: shape {self.shape} does not stretch to {new}.")
        return self._stridden(ops.expand, shape=wanted)

    def expand_as(self, other: "Movement") -> "Self":
        """`expand` to the shape of another tensor."""
        return self.expand(other.shape)

    broadcast_to = expand

    def repeat(self, *counts: Size) -> "Self":
        """Copies one after the other, so many along each dimension."""
        times = shapes.given(counts)
        more = len(times) - self.ndim
        if more < 0:
            raise ValueError(f"repeat: {times} does not name each dimension of {self.shape}.")
        shape = (1,) * more + self.shape
        pairs = [n for pair in zip(times, shape, strict=True) for n in pair]
        t = self.reshape([n for length in shape for n in (1, length)]).expand(pairs)
        t = t.reshape([n * m for n, m in zip(times, shape, strict=True)])
        return t.clone() if all(n == 1 for n in times) else t

    tile = repeat

    def repeat_interleave(self, repeats: int, dim: int | None = None) -> "Self":
        """Each element so many times in a row, in the flat tensor or along a dimension."""
        if dim is None:
            return self.flatten().repeat_interleave(repeats, 0)
        dim = shapes.axis("repeat_interleave", dim, self.ndim)
        t = self.unsqueeze(dim + 1)
        t = t.expand(*self.shape[: dim + 1], repeats, *self.shape[dim + 1 :])
        return t.flatten(dim, dim + 1)

    def diagonal(self, offset: int = 0, dim1: int = 0, dim2: int = 1) -> "Self":
        """The diagonal of two dimensions as a new last one.

        offset: so many columns to the right.
        """
        a, b = (shapes.axis("diagonal", d, self.ndim) for d in (dim1, dim2))
        return self._stridden(ops.diagonal, offset=offset, dim1=a, dim2=b)

    def diag(self, diagonal: int = 0) -> "Self":
        """The diagonal of a matrix; of a vector the matrix that has it there."""
        if self.ndim == 2:
            return self.diagonal(diagonal).clone()
        n = self.numel() + abs(diagonal)
        result = apply(ops.expand, self._wrap(np.zeros((), self.dtype)), shape=(n, n)).clone()
        places = np.arange(self.numel())
        key = (places + max(-diagonal, 0), places + max(diagonal, 0))
        rows, columns = map(self._wrap, key)
        return apply(ops.set_index, result, self, rows, columns, key=(ops.INDEX, ops.INDEX))

    def tril(self, diagonal: int = 0) -> "Self":
        """The last two dimensions' lower triangle, zeros above."""
        return apply(ops.tril, self._matrix("tril"), diagonal=diagonal)

    def triu(self, diagonal: int = 0) -> "Self":
        """The last two dimensions' upper triangle, zeros below."""
        return apply(ops.triu, self._matrix("triu"), diagonal=diagonal)

    def _matrix(self, operation: str) -> "Self":
        if self.ndim < 2:
            raise ValueError(f"{operation}: shape {self.shape} has no two dimensions.")
        return self

    def flip(self, *numbers: Size, dims: Size = ()) -> "Self":
        """Backwards along these dimensions: numbers or one tuple."""
        dims = shapes.given(numbers) if numbers else dims
        return apply(ops.flip, self, dims=shapes.axes("flip", dims, self.ndim))

    def roll(self, shifts: Size, dims: Size | None = None) -> "Self":
        """Moved on along dimensions; what leaves at the end enters at the start."""
        shifts = (shifts,) if isinstance(shifts, int) else tuple(shifts)
        if dims is None:
            return apply(ops.roll, self.flatten(), shifts=shifts, dims=(0,)).reshape(self.shape)
        dims = (dims,) if isinstance(dims, int) else dims
        dims = tuple([shapes.axis("roll", d, self.ndim) for d in dims])
        return apply(ops.roll, self, shifts=shifts, dims=dims)

    def _viewed(self, operation: ops.Operation, *arrays: "Movement", **attrs: Any) -> "Self":
        result = apply(operation, self, *arrays, **attrs)
        if self._aliases is None:
            self._aliases = AliasSet(self)
        self._aliases.add(result)
        return result

    def _stridden(self, operation: ops.Operation, **attrs: Any) -> "Self":
        """A view that need not lie in one row."""
        result = self._viewed(operation, **attrs)
        result._strided = True
        return result


def _viewable(t: TensorBase, shape: Sequence[int]) -> bool:
    """Whether a shape fits the memory of a tensor as it lies."""
    if 0 in shape:
        return True
    runs: list[int] = []  # lengths of what lies in one row, from the first dimension to the last
    step = None
    for n, stride in zip(t.data.shape, t.data.strides, strict=True):
        if n != 1:
            if runs and step == n * stride:
                runs[-1] *= n
            else:
                runs.append(n)
            step = stride
    left = 1
    for n in reversed(shape):
        if n != 1:
            if left == 1 and runs:
                left = runs.pop()
            if left % n:
                return False
            left //= n
    return True
