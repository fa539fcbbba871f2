"""The laptop's Tensor: a numpy array on the tape, with the methods of PyTorch's.

The tape itself is in tape.py, the methods that call operations in methods/, one file a family.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tinytorch.autograd.methods.conversion import Conversion
from tinytorch.autograd.methods.in_place import InPlace
from tinytorch.autograd.methods.layers import Layers
from tinytorch.autograd.methods.linalg import Linalg
from tinytorch.autograd.tape import Size, name_of, results_are
from tinytorch.dtypes import float32, int64
from tinytorch.ops.array import Array
from tinytorch_core import shapes


class Tensor(Layers, Linalg, InPlace, Conversion):
    """An array with a gradient. data: anything numpy takes; Python floats become float32.

    `data` is the numpy array itself, shared if one was given; `grad` a Tensor, or None before
    `backward`. Types mix as in PyTorch.
    Raises TypeError where anything but floats is to have a gradient.
    """

    __slots__ = ()
    grad: "Tensor | None"
    __array_ufunc__ = None  # numpy leaves array + tensor to us

    @staticmethod
    def full(shape: Sequence[int], value: float) -> "Tensor":
        """One number everywhere, as float32."""
        return Tensor(np.full(shape, value, np.float32))

    @staticmethod
    def zeros(shape: Sequence[int]) -> "Tensor":
        """Zeros, as float32."""
        return Tensor.full(shape, 0)

    @staticmethod
    def ones(shape: Sequence[int]) -> "Tensor":
        """Ones, as float32."""
        return Tensor.full(shape, 1)

    @property
    def device(self) -> str:
        """ "cpu": there is no other."""
        return "cpu"

    def size(self, dim: int | None = None) -> Any:
        """The shape, or its length along one dimension."""
        return self.shape if dim is None else self.shape[shapes.axis("size", dim, self.ndim)]

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len: a tensor without dimensions has no length.")
        return self.shape[0]

    def __iter__(self) -> Iterator["Tensor"]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        a = self.data
        style: dict[str, Any] = {"precision": 4, "floatmode": "fixed"}
        finite = a[np.isfinite(a)]
        if (finite == np.round(finite)).all() and (np.abs(finite) < 1e8).all():
            style = {"precision": 0}
        text = np.array2string(a, separator=", ", prefix="tensor(", threshold=1000, **style)
        if 0 in a.shape and a.ndim > 1:
            text += f", size={a.shape}"
        if a.dtype not in (float32, int64, np.bool_):
            text += f", dtype={a.dtype}"
        if self._operation:
            text += f", grad_fn=<{name_of(self)}>"
        elif self.requires_grad:
            text += ", requires_grad=True"
        return f"tensor({text})"

    def __format__(self, style: str) -> str:
        """A single number as Python's; without a style, or with dimensions, as `str`."""
        return format(self.item(), style) if style and not self.ndim else format(str(self), style)

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.data.dtype.kind not in "iu":
            raise TypeError(
                f"index: only integers are indices, and this tensor holds {self.dtype}."
            )
        return int(self.item())

    def item(self) -> Any:
        """The one number of this tensor. Raises ValueError if it holds more or none."""
        if self.data.size != 1:
            raise ValueError(f"item: shape {self.shape} holds {self.data.size} numbers, not one.")
        return self.data.item()

    def tolist(self) -> Any:
        """The numbers in nested lists; a single one as it is."""
        return self.data.tolist()

    def numpy(self) -> Array:
        """The array itself, shared; a tensor that requires a gradient must be detached first."""
        if self.requires_grad:
            raise RuntimeError("numpy: this tensor requires a gradient: use detach().numpy().")
        return self.data

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        """For numpy's own functions: `numpy()` in the type that they want."""
        array = self.numpy()
        array = array if dtype is None else array.astype(dtype, copy=False)
        return array.copy() if copy else array

    def __deepcopy__(self, memo: dict[int, Any]) -> "Tensor":
        """A leaf of its own, as in a copy of a network."""
        if not self.is_leaf:
            raise RuntimeError("deepcopy: gradients flow through this tensor: detach() it first.")
        copy = memo[id(self)] = type(self)(self.data.copy(), self.requires_grad)
        copy.grad = None if self.grad is None else Tensor(self.grad.data.copy())
        return copy

    def __reduce__(self) -> Any:
        """Pickled as a leaf."""
        if not self.is_leaf:
            raise RuntimeError("pickle: gradients flow through this tensor: detach() it first.")
        return type(self), (self.data, self.requires_grad)

    def new_zeros(self, *shape: Size, dtype: DTypeLike | None = None) -> "Tensor":
        """Zeros of this tensor's type, unless another is given."""
        return Tensor(np.zeros(shapes.given(shape), dtype or self.dtype))

    def new_ones(self, *shape: Size, dtype: DTypeLike | None = None) -> "Tensor":
        """Ones of this tensor's type, unless another is given."""
        return Tensor(np.ones(shapes.given(shape), dtype or self.dtype))

    def new_full(
        self, shape: Sequence[int], fill_value: Any, dtype: DTypeLike | None = None
    ) -> "Tensor":
        """One number everywhere, in this tensor's type unless another is given."""
        return Tensor(np.full(shapes.given((shape,)), fill_value, dtype or self.dtype))

    def new_tensor(self, data: Any, dtype: DTypeLike | None = None) -> "Tensor":
        """A copy of the numbers, in this tensor's type unless another is given."""
        return Tensor(copied(data, dtype or self.dtype))


results_are(Tensor)


def copied(data: Any, dtype: DTypeLike | None = None) -> Array:
    """A copy of the numbers; Python floats become float32, arrays keep their type.

    Raises ValueError for rows of different lengths.
    """
    try:
        own = data if isinstance(data, Tensor) else Tensor(data)
    except ValueError:
        raise ValueError("tensor: the rows have different lengths.") from None
    return np.array(own.data, dtype)


def tensors_in(outputs: Any) -> Iterator[Tensor]:
    """The tensors in what a module returns: one, or tuples, lists and dicts of them."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, (tuple, list, dict)):
        for part in outputs.values() if isinstance(outputs, dict) else outputs:
            yield from tensors_in(part)


def is_tensor(thing: Any) -> bool:
    """Whether a thing is a Tensor."""
    return isinstance(thing, Tensor)


def is_floating_point(t: Tensor) -> bool:
    """Whether a tensor holds floats."""
    return t.is_floating_point()
