"""Parts of tensors, by place: brackets, slices, indices, masks, and padding."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinytorch import ops
from tinytorch.autograd.methods.movement import Movement
from tinytorch.autograd.tape import Operand, Size, TensorBase, apply, leave_capture, local
from tinytorch_core import shapes

if TYPE_CHECKING:
    from typing_extensions import Self


class Indexing(Movement):
    """Methods that take parts, or put them in."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> "Self":
        """Indexed as numpy is: by integers, slices, None and ..., which give a view, and tensors,
        arrays or lists of integers or bools, which give a copy."""
        parts, arrays = self._key(key)
        try:
            if arrays:
                return apply(ops.index, self, *arrays, key=parts)
            if all(isinstance(p, int) for p in parts):
                return self._viewed(ops.index, key=parts)
            return self._stridden(ops.index, key=parts)
        except IndexError as error:
            raise IndexError(f"[]: shape {self.shape}: {error}.") from None

    def __setitem__(self, key: Any, value: Any) -> None:
        """x[key] = value in place; value: a number, or a tensor or an array that broadcasts."""
        parts, arrays = self._key(key)
        value = value if isinstance(value, TensorBase) else self._wrap(np.asarray(value))
        relatives = self._aliases.others(self) if self._aliases and local.recording else []
        tracked = any(t.requires_grad for t in (self, value, *relatives))
        try:
            if tracked and local.recording:
                if value.dtype != self.dtype:
                    value = value.to(self.dtype)
                self._in_place("[]=", lambda t: apply(ops.set_index, t, value, *arrays, key=parts))
            else:
                leave_capture()
                self._write("[]=", ops.full_key(parts, [a.data for a in arrays]), value.data)
        except IndexError as error:
            raise IndexError(f"[]=: shape {self.shape}: {error}.") from None
        except ValueError as error:
            raise ValueError(
                f"[]=: shape {value.shape} does not fit the indexed part of {self.shape}: {error}."
            ) from None

    def _key(self, key: Any) -> "tuple[tuple[Any, ...], list[Self]]":
        """What stands in the brackets for an operation: arrays apart, masks as integers."""
        parts: list[Any] = []
        arrays: list[Any] = []
        for k in key if isinstance(key, tuple) else (key,):
            if isinstance(k, (list, range)):
                k = np.asarray(k if len(k) else np.zeros(0, int))
            if isinstance(k, np.ndarray):
                k = self._wrap(k)
            if isinstance(k, TensorBase) and k.data.dtype.kind == "b":
                found = k.data.nonzero() if k.ndim else (np.zeros(int(k.data), int),)
                if not k.ndim:
                    parts.append(None)
                parts += [ops.INDEX] * len(found)
                arrays += map(self._wrap, found)
                # numpy compares the lengths of masks; as integers they have to be compared here
                start = sum(p is not None for p in parts) - len(found)
                if (
                    Ellipsis not in parts
                    and k.ndim
                    and k.shape != self.shape[start : start + k.ndim]
                ):
                    raise IndexError(f"[]: a mask {k.shape} does not fit shape {self.shape}.")
            elif isinstance(k, TensorBase):
                if k.data.dtype.kind not in "iu":
                    raise IndexError(f"[]: an index holds integers or bools, not {k.dtype}.")
                parts.append(ops.INDEX)
                arrays.append(k)
            elif k is None or k is Ellipsis:
                parts.append(k)
            elif isinstance(k, slice):
                limits = (k.start, k.stop, k.step)
                parts.append(slice(*[None if n is None else int(n) for n in limits]))
            else:
                try:
                    parts.append(k.__index__())
                except (AttributeError, TypeError):
                    raise IndexError(f"[]: {k!r} is not an index.") from None
        return tuple(parts), arrays

    def narrow(self, dim: int, start: int, length: int) -> "Self":
        """The part of a dimension from start on."""
        dim = shapes.axis("narrow", dim, self.ndim)
        if not 0 <= start <= start + length <= self.shape[dim]:
            raise ValueError(
                f"narrow: start {start} and length {length} are out of range for shape "
                f"{self.shape} along dimension {dim}."
            )
        return self[(slice(None),) * dim + (slice(start, start + length),)]

    def split(self, split_size: Size, dim: int = 0) -> "tuple[Self, ...]":
        """Parts of that length and a shorter last one, or parts of these lengths."""
        dim = shapes.axis("split", dim, self.ndim)
        n = self.shape[dim]
        if isinstance(split_size, int):
            if split_size < 1:
                raise ValueError(f"split: parts of length {split_size} do not fill {self.shape}.")
            split_size = [min(split_size, n - i) for i in range(0, n, split_size)] or [0]
        if sum(split_size) != n:
            raise ValueError(f"split: lengths {list(split_size)} do not fill {self.shape}.")
        ends = list(itertools.accumulate(split_size))
        return tuple([self.narrow(dim, e - m, m) for e, m in zip(ends, split_size, strict=True)])

    def chunk(self, chunks: int, dim: int = 0) -> "tuple[Self, ...]":
        """At most so many equal parts, of which the last may be shorter."""
        if chunks < 1:
            raise ValueError(f"chunk: chunks={chunks} is below 1.")
        n = self.shape[shapes.axis("chunk", dim, self.ndim)]
        return self.split(max(-(-n // chunks), 1), dim) if n else self.split([0] * chunks, dim)

    def unbind(self, dim: int = 0) -> "tuple[Self, ...]":
        """The slices of a dimension one by one, without that dimension; views."""
        dim = shapes.axis("unbind", dim, self.ndim)
        return tuple([self[(slice(None),) * dim + (i,)] for i in range(self.shape[dim])])

    def select(self, dim: int, index: int) -> "Self":
        """The slice of a dimension at an index, without that dimension; a view."""
        return self[(slice(None),) * shapes.axis("select", dim, self.ndim) + (index,)]

    def pad(self, padding: Sequence[int], value: float = 0.0, mode: str = "constant") -> "Self":
        """padding: (before, after) of the last dimension, then of the one before it, and so on;
        negative ones cut. mode: "constant" (the value), "reflect", "replicate" or "circular"."""
        widths = [(0, 0)] * self.ndim
        if len(padding) % 2 or len(padding) > 2 * self.ndim:
            raise ValueError(f"pad: {tuple(padding)} does not fit the dimensions of {self.shape}.")
        for i in range(len(padding) // 2):
            widths[-1 - i] = (padding[2 * i], padding[2 * i + 1])
        if mode != "constant":
            return self._pad_with_itself(widths, mode)
        cut = tuple(
            [
                slice(max(-a, 0), n - max(-b, 0))
                for (a, b), n in zip(widths, self.shape, strict=True)
            ]
        )
        t = self[cut] if min(padding, default=0) < 0 else self
        more = tuple([(max(a, 0), max(b, 0)) for a, b in widths])
        return apply(ops.pad, t, widths=more, value=value)

    def _pad_with_itself(self, widths: Sequence[tuple[int, int]], mode: str) -> "Self":
        names = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
        if mode not in names:
            raise ValueError(
                f'pad: mode {mode!r} is not "constant", "reflect", "replicate", "circular".'
            )
        t = self
        for d, (before, after) in enumerate(widths):
            n = self.shape[d] - (mode == "reflect")
            if min(before, after) < 0 or (max(before, after) > n and mode != "replicate"):
                raise ValueError(
                    f"pad: {mode} by {(before, after)} is more than shape {self.shape} has."
                )
            if before or after:
                places = np.pad(np.arange(self.shape[d]), (before, after), names[mode])  # type: ignore[call-overload]
                t = t.index_select(d, self._wrap(places))
        return t

    def gather(self, dim: int, index: "Indexing") -> "Self":
        """y[i][j] = self[index[i][j]][j] for dim 0, and so on; index: integers."""
        dim = self._along("gather", dim, index)
        return apply(ops.gather, self, index, dim=dim)

    def take_along_dim(self, index: "Indexing", dim: int | None = None) -> "Self":
        """`gather` with the other dimensions broadcast; in the flat tensor without a dim."""
        if dim is None:
            return self.flatten().gather(0, index.flatten())
        dim = shapes.axis("take_along_dim", dim, self.ndim)
        rest = shapes.broadcast(
            "take_along_dim", self.shape[:dim] + (1,) + self.shape[dim + 1 :],
            index.shape[:dim] + (1,) + index.shape[dim + 1 :],
        )  # fmt: skip
        own = self.expand(*rest[:dim], self.shape[dim], *rest[dim + 1 :])
        return own.gather(dim, index.expand(*rest[:dim], index.shape[dim], *rest[dim + 1 :]))

    def scatter(self, dim: int, index: "Indexing", src: Operand) -> "Self":
        """A copy with y[index[i][j]][j] = src[i][j] for dim 0, and so on; src may be a number."""
        dim, numbers = self._source("scatter", dim, index, src)
        return apply(ops.scatter, self, index, numbers, dim=dim)

    def scatter_add(self, dim: int, index: "Indexing", src: "Indexing") -> "Self":
        """A copy with y[index[i][j]][j] += src[i][j] for dim 0, and so on."""
        dim, src = self._source("scatter_add", dim, index, src)
        return apply(ops.scatter_add, self, index, src, dim=dim)

    def _source(self, name: str, dim: int, index: "Indexing", src: Any) -> tuple[int, Any]:
        dim = self._along(name, dim, index)
        if not isinstance(src, Indexing):
            return dim, self._wrap(np.full(index.shape, src, self.dtype))
        self._same_type(name, src)
        if src.ndim != index.ndim or any(
            m > n for m, n in zip(index.shape, src.shape, strict=True)
        ):
            raise ValueError(f"{name}: index {index.shape} does not fit src {src.shape}.")
        return dim, src[tuple([slice(n) for n in index.shape])] if src.shape != index.shape else src

    def _along(self, name: str, dim: int, index: "Indexing") -> int:
        """The dimension, once the index fits along it."""
        dim = shapes.axis(name, dim, self.ndim)
        if index.data.dtype.kind not in "iu":
            raise TypeError(f"{name}: an index holds integers, not {index.dtype}.")
        fits = index.ndim == self.ndim and all(
            d == dim or m <= n for d, (m, n) in enumerate(zip(index.shape, self.shape, strict=True))
        )
        if not fits:
            raise ValueError(f"{name}: index {index.shape} does not fit shape {self.shape}.")
        return dim

    def index_select(self, dim: int, index: "Indexing") -> "Self":
        """The slices of a dimension that a vector of integers names."""
        dim = shapes.axis("index_select", dim, self.ndim)
        return self[(slice(None),) * dim + (index,)]

    def masked_select(self, mask: "Indexing") -> "Self":
        """The numbers where the mask (bools, broadcast) holds, in one row."""
        return self[mask.expand(self.shape)]

    def nonzero(self) -> "Self":
        """The indices of what is not zero, one row each."""
        return self._wrap(np.argwhere(self.data))
