"""The laptop's Tensor: numpy arrays, and gradients by reverse mode over a tape.

A result remembers its inputs and its gradient functions (tinytorch.ops); `backward` walks from the
newest tensor to the oldest. The order of creation is a topological order, so nothing recurses.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Union

import numpy as np
from numpy.typing import DTypeLike

from tinytorch import activations, kernels, ops
from tinytorch.ops import Array
from tinytorch.random import generator
from tinytorch_core import shapes

Operand = Union["Tensor", float, Array]
Dims = int | Sequence[int] | None
Size = int | Sequence[int]  # one number for all spatial dimensions, or one for each

float32, float64, int64 = np.float32, np.float64, np.int64  # types by PyTorch's names

_numbers = itertools.count()
_recording = True


@contextmanager
def no_grad() -> Iterator[None]:
    """Within it (`with no_grad():`, or `@no_grad()`) nothing is recorded for gradients."""
    global _recording
    before, _recording = _recording, False
    try:
        yield
    finally:
        _recording = before


def is_grad_enabled() -> bool:
    return _recording


# While a captured step is followed (tinytorch.capture), operations go to it.
listener: Any = None


def apply(operation: ops.Operation, *inputs: "Tensor | None", **settings: Any) -> "Tensor":
    """Run an operation of tinytorch.ops on tensors and record it where a gradient is wanted."""
    if listener is not None:
        return listener(operation, inputs, settings)
    return record(operation, inputs, settings)


def record(
    operation: ops.Operation, inputs: "tuple[Tensor | None, ...]", settings: dict[str, Any]
) -> "Tensor":
    data, gradients = operation(*(None if t is None else t.data for t in inputs), **settings)
    widened = data.dtype == np.float64 and operation is not ops.to
    if widened and not any(t is not None and t.dtype == np.float64 for t in inputs):
        data = data.astype(np.float32)  # numpy makes float64 of integers, alone or beside float32
    result = Tensor(data)
    wanted = _recording and data.dtype.kind == "f"
    if wanted and any(t is not None and t.requires_grad for t in inputs):
        result.requires_grad = True
        result._inputs = inputs
        result._gradients = gradients
    return result


def _sum_to(gradient: Array, like: Any) -> Array:
    """The gradient of an array that was broadcast: summed where it was stretched.

    like: anything with the shape and the dtype of the array.
    """
    if gradient.shape != like.shape:
        gradient = gradient.sum(tuple(range(gradient.ndim - len(like.shape))))
        stretched = tuple(d for d, n in enumerate(like.shape) if n != gradient.shape[d])
        gradient = gradient.sum(stretched, keepdims=True)
    return gradient.astype(like.dtype, copy=False)


class Tensor:
    """An array with a gradient. data: anything numpy takes; Python floats become float32.

    `data` is the numpy array itself, shared if one was given; `grad` a Tensor, or None before
    `backward`. An operation gives float64 only where an input has it.
    Raises TypeError where anything but floats is to have a gradient.
    """

    __slots__ = ("__weakref__", "_gradients", "_inputs", "_number", "data", "grad", "requires_grad")
    __array_ufunc__ = None  # numpy leaves array + tensor to us

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        data = data.data if isinstance(data, Tensor) else data
        is_numpy = isinstance(data, (np.ndarray, np.generic))
        self.data: Array = np.asarray(data)
        if not is_numpy and self.data.dtype == np.float64:
            self.data = self.data.astype(np.float32)
        self.grad: Tensor | None = None
        self.requires_grad_(requires_grad)
        self._number = next(_numbers)
        self._inputs: tuple[Tensor | None, ...] = ()
        self._gradients: ops.Gradients = ()

    @staticmethod
    def full(shape: Sequence[int], value: float) -> "Tensor":
        return Tensor(np.full(shape, value, np.float32))

    @staticmethod
    def zeros(shape: Sequence[int]) -> "Tensor":
        return Tensor.full(shape, 0)

    @staticmethod
    def ones(shape: Sequence[int]) -> "Tensor":
        return Tensor.full(shape, 1)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def is_leaf(self) -> bool:
        """Whether nothing recorded made this tensor: gradients end here."""
        return not self._inputs

    @property
    def T(self) -> "Tensor":
        return self.permute(*reversed(range(self.ndim)))

    def numel(self) -> int:
        return self.data.size

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator["Tensor"]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        numbers = np.array2string(self.data, separator=", ", prefix="tensor(")
        return f"tensor({numbers}{', requires_grad=True' if self.requires_grad else ''})"

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def item(self) -> Any:
        if self.data.size != 1:
            raise ValueError(f"item: shape {self.shape} holds {self.data.size} numbers, not one.")
        return self.data.item()

    def tolist(self) -> Any:
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

    def detach(self) -> "Tensor":
        """The same numbers, shared, apart from the tape."""
        return Tensor(self.data)

    def clone(self) -> "Tensor":
        """A copy that gradients flow through."""
        return apply(ops.clone, self)

    def to(self, dtype: DTypeLike) -> "Tensor":
        """A copy of another type, as in `labels.to("int64")`; gradients flow between floats."""
        return apply(ops.to, self, dtype=dtype)

    # Gradients.

    def requires_grad_(self, requires_grad: bool = True) -> "Tensor":
        if requires_grad and self.data.dtype.kind != "f":
            raise TypeError(
                f"requires_grad: only floats have gradients, and this tensor holds {self.dtype}."
            )
        self.requires_grad = requires_grad
        return self

    def backward(self, gradient: "Tensor | None" = None) -> None:
        """Add to `grad` of every leaf below the gradient of this tensor, which holds one number.

        gradient: that of a final result with respect to this tensor, if it holds more.
        """
        if not self.requires_grad:
            raise RuntimeError("backward: nothing here requires a gradient.")
        if gradient is None and self.data.size != 1:
            raise RuntimeError(
                f"backward: shape {self.shape} is not a single number: reduce it first, as with "
                "mean(), or give the gradient."
            )
        if gradient is not None and gradient.shape != self.shape:
            raise ValueError(
                f"backward: gradient {gradient.shape} does not fit tensor {self.shape}."
            )
        reached = {self._number: self}
        stack = [self]
        while stack:
            for t in stack.pop()._inputs:
                if t is not None and t.requires_grad and t._number not in reached:
                    reached[t._number] = t
                    stack.append(t)
        pending = {self._number: np.ones_like(self.data) if gradient is None else gradient.data}
        for number in sorted(reached, reverse=True):
            t, g = reached[number], pending.pop(number)
            if t.is_leaf:
                t.grad = Tensor(g.copy() if t.grad is None else t.grad.data + g)
                continue
            gradients: Any = t._gradients(g) if callable(t._gradients) else t._gradients
            for source, part in zip(t._inputs, gradients, strict=True):
                if source is None or not source.requires_grad:
                    continue
                new = _sum_to(part(g) if callable(part) else part, source.data)
                before = pending.get(source._number)
                pending[source._number] = new if before is None else before + new

    # In place. What was recorded keeps its inputs by reference, so change none of them between
    # the forward pass and `backward`.

    def _writable(self, operation: str) -> Array:
        if listener is not None:
            listener.leave()  # a captured step has no place for changes
        if self.requires_grad and _recording:
            raise RuntimeError(
                f"{operation}: a tensor that requires a gradient changes in place only under "
                "no_grad()."
            )
        return self.data

    def copy_(self, other: "Tensor") -> "Tensor":
        """Take over the numbers of a tensor of the same shape, in this tensor's type."""
        if tuple(other.shape) != self.shape:
            raise ValueError(f"copy_: shape {tuple(other.shape)} does not fit into {self.shape}.")
        self._writable("copy_")[...] = np.asarray(other.data).reshape(self.shape)
        return self

    def uniform_(self, low: float = 0.0, high: float = 1.0) -> "Tensor":
        self._writable("uniform_")[...] = generator.uniform(low, high, self.shape)
        return self

    def normal_(self, mean: float = 0.0, std: float = 1.0) -> "Tensor":
        self._writable("normal_")[...] = generator.normal(mean, std, self.shape)
        return self

    def zero_(self) -> "Tensor":
        self._writable("zero_")[...] = 0
        return self

    def _in_place(self, symbol: str, operation: ops.Operation, other: Operand) -> "Tensor":
        """This tensor, changed; on the way from a leaf to a gradient a new one instead."""
        result = apply(operation, self, self._other(symbol, other))
        if result.requires_grad and not (self.is_leaf and self.requires_grad):
            return result
        np.copyto(self._writable(symbol), result.data, casting="same_kind")
        return self

    def __iadd__(self, other: Operand) -> "Tensor":
        return self._in_place("+=", ops.add, other)

    def __isub__(self, other: Operand) -> "Tensor":
        return self._in_place("-=", ops.sub, other)

    def __imul__(self, other: Operand) -> "Tensor":
        return self._in_place("*=", ops.mul, other)

    # Other shapes.

    def reshape(self, *shape: Size) -> "Tensor":
        """Numbers or one tuple; -1 is worked out."""
        return apply(ops.reshape, self, shape=shapes.reshape(self.shape, shapes.given(shape)))

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> "Tensor":
        return self.reshape(shapes.flatten(self.shape, start_dim, end_dim))

    def permute(self, *dims: Size) -> "Tensor":
        """Numbers or one tuple."""
        order = tuple(shapes.axis("permute", d, self.ndim) for d in shapes.given(dims))
        if sorted(order) != list(range(self.ndim)):
            raise ValueError(f"permute: {order} does not name each dimension of {self.shape}.")
        return apply(ops.permute, self, dims=order)

    def transpose(self, dim0: int, dim1: int) -> "Tensor":
        dims = list(range(self.ndim))
        a, b = (shapes.axis("transpose", d, self.ndim) for d in (dim0, dim1))
        dims[a], dims[b] = dims[b], dims[a]
        return self.permute(*dims)

    def __getitem__(self, key: Any) -> "Tensor":
        """Indexed as numpy is; tensors of ints or bools may be indices."""
        keys = key if isinstance(key, tuple) else (key,)
        keys = tuple(k.data if isinstance(k, Tensor) else k for k in keys)
        return apply(ops.index, self, key=keys)

    def pad(self, padding: Sequence[int], value: float = 0.0) -> "Tensor":
        """padding: (before, after) of the last dimension, then of the one before it, and so on."""
        widths = [(0, 0)] * self.ndim
        for i in range(len(padding) // 2):
            widths[-1 - i] = (padding[2 * i], padding[2 * i + 1])
        return apply(ops.pad, self, widths=widths, value=value)

    # Element by element.

    def _other(self, symbol: str, other: Operand) -> "Tensor":
        """The other operand: a number takes this tensor's type."""
        if not isinstance(other, Tensor):
            is_number = isinstance(other, (int, float)) and self.data.dtype.kind == "f"
            return Tensor(np.asarray(other, self.data.dtype) if is_number else other)
        if other.shape != self.shape:
            shapes.broadcast(symbol, self.shape, other.shape)
        return other

    def __add__(self, other: Operand) -> "Tensor":
        return apply(ops.add, self, self._other("+", other))

    def __radd__(self, other: Operand) -> "Tensor":
        return self + other

    def __sub__(self, other: Operand) -> "Tensor":
        return apply(ops.sub, self, self._other("-", other))

    def __rsub__(self, other: Operand) -> "Tensor":
        return self._other("-", other) - self

    def __mul__(self, other: Operand) -> "Tensor":
        return apply(ops.mul, self, self._other("*", other))

    def __rmul__(self, other: Operand) -> "Tensor":
        return self * other

    def __truediv__(self, other: Operand) -> "Tensor":
        return apply(ops.div, self, self._other("/", other))

    def __rtruediv__(self, other: Operand) -> "Tensor":
        return self._other("/", other) / self

    def __pow__(self, exponent: Operand) -> "Tensor":
        return apply(ops.pow, self, self._other("**", exponent))

    def __neg__(self) -> "Tensor":
        return apply(ops.neg, self)

    __hash__ = object.__hash__

    def __eq__(self, other: Any) -> "Tensor":  # type: ignore[override]
        return Tensor(np.asarray(self.data == self._other("==", other).data))

    def __ne__(self, other: Any) -> "Tensor":  # type: ignore[override]
        return Tensor(np.asarray(self.data != self._other("!=", other).data))

    def __gt__(self, other: Any) -> "Tensor":
        return Tensor(np.asarray(self.data > self._other(">", other).data))

    def __ge__(self, other: Any) -> "Tensor":
        return Tensor(np.asarray(self.data >= self._other(">=", other).data))

    def __lt__(self, other: Any) -> "Tensor":
        return Tensor(np.asarray(self.data < self._other("<", other).data))

    def __le__(self, other: Any) -> "Tensor":
        return Tensor(np.asarray(self.data <= self._other("<=", other).data))

    def exp(self) -> "Tensor":
        return apply(ops.exp, self)

    def log(self) -> "Tensor":
        return apply(ops.log, self)

    def sqrt(self) -> "Tensor":
        return apply(ops.sqrt, self)

    def tanh(self) -> "Tensor":
        return apply(ops.tanh, self)

    def sigmoid(self) -> "Tensor":
        return apply(ops.sigmoid, self)

    def relu(self) -> "Tensor":
        return apply(ops.relu, self)

    def relu6(self) -> "Tensor":
        return apply(activations.relu6, self)

    def leaky_relu(self, negative_slope: float = 0.01) -> "Tensor":
        return apply(activations.leaky_relu, self, negative_slope=negative_slope)

    def elu(self, alpha: float = 1.0) -> "Tensor":
        return apply(activations.elu, self, alpha=alpha)

    def gelu(self, approximate: str = "none") -> "Tensor":
        if approximate not in ("none", "tanh"):
            raise ValueError(f'gelu: approximate is "none" or "tanh", not {approximate!r}.')
        return apply(activations.gelu, self, approximate=approximate)

    def silu(self) -> "Tensor":
        return apply(activations.silu, self)

    def hardsigmoid(self) -> "Tensor":
        return apply(activations.hardsigmoid, self)

    def hardswish(self) -> "Tensor":
        return apply(activations.hardswish, self)

    def softplus(self, beta: float = 1.0, threshold: float = 20.0) -> "Tensor":
        return apply(activations.softplus, self, beta=beta, threshold=threshold)

    def dropout(self, p: float = 0.5, training: bool = True) -> "Tensor":
        if not training or p == 0:
            return self
        return self * 0.0 if p == 1 else apply(ops.dropout, self, p=p)

    # Reductions.

    def _reduce(self, operation: ops.Operation, dim: Dims, keepdim: bool) -> "Tensor":
        dims = shapes.axes(operation.__name__, dim, self.ndim)
        return apply(operation, self, dims=dims, keepdim=keepdim)

    def sum(self, dim: Dims = None, keepdim: bool = False) -> "Tensor":
        return self._reduce(ops.sum, dim, keepdim)

    def mean(self, dim: Dims = None, keepdim: bool = False) -> "Tensor":
        return self._reduce(ops.mean, dim, keepdim)

    def amax(self, dim: Dims = None, keepdim: bool = False) -> "Tensor":
        return self._reduce(ops.amax, dim, keepdim)

    def max(self) -> "Tensor":
        return self.amax()

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> "Tensor":
        """The position of the first maximum; over the flat tensor for dim=None."""
        return Tensor(np.asarray(np.argmax(self.data, dim, keepdims=keepdim)))

    def softmax(self, dim: int) -> "Tensor":
        return apply(kernels.softmax, self, dim=shapes.axis("softmax", dim, self.ndim))

    def log_softmax(self, dim: int) -> "Tensor":
        return apply(kernels.log_softmax, self, dim=shapes.axis("log_softmax", dim, self.ndim))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Tensor":
        """A leaf of its own, as in a copy of a network."""
        if not self.is_leaf:
            raise RuntimeError("deepcopy: gradients flow through this tensor: detach() it first.")
        copy = memo[id(self)] = type(self)(self.data.copy(), self.requires_grad)
        copy.grad = None if self.grad is None else Tensor(self.grad.data.copy())
        return copy

    # Layers.

    def _same_type(self, operation: str, other: "Tensor") -> None:
        if other.dtype != self.dtype:
            raise ValueError(
                f"{operation}: types {self.dtype} and {other.dtype} do not mix: convert one with "
                'to("float32").'
            )

    def __matmul__(self, other: "Tensor") -> "Tensor":
        shapes.matmul(self.shape, other.shape)
        self._same_type("matmul", other)
        return apply(ops.matmul, self, other)

    def linear(self, weight: "Tensor", bias: "Tensor | None" = None) -> "Tensor":
        """self (..., in), weight (out, in), bias (out,) -> (..., out)."""
        shapes.linear(self.shape, weight.shape, None if bias is None else bias.shape)
        self._same_type("linear", weight)
        return apply(kernels.linear, self, weight, bias)

    def embedding(self, weight: "Tensor", padding_idx: int | None = None) -> "Tensor":
        """The rows of weight (num, d) at these indices -> (*shape, d).

        padding_idx: the row that gets no gradient.
        """
        if self.data.dtype.kind not in "iu":
            raise TypeError(f"embedding: the index holds {self.dtype}: give integers.")
        return apply(kernels.embedding, weight, self, padding_idx=padding_idx)

    def layer_norm(
        self, shape: Sequence[int], weight: "Tensor | None" = None, bias: "Tensor | None" = None,
        eps: float = 1e-5,
    ) -> "Tensor":  # fmt: skip
        """Normalised over the last dimensions, of this shape."""
        given = [t.shape for t in (weight, bias) if t is not None]
        dims = shapes.layer_norm(self.shape, shape, given)
        if weight is not None:
            self._same_type("layer_norm", weight)
        return apply(kernels.layer_norm, self, weight, bias, dims=dims, eps=eps)

    def conv1d(
        self, weight: "Tensor", bias: "Tensor | None" = None, stride: Size = 1,
        padding: Size | str = 0, dilation: Size = 1, groups: int = 1,
    ) -> "Tensor":  # fmt: skip
        """self (N, C, L), weight (O, C / groups, K), bias (O,) -> (N, O, OL)."""
        return self._conv(1, weight, bias, stride, padding, dilation, groups)

    def conv2d(
        self, weight: "Tensor", bias: "Tensor | None" = None, stride: Size = 1,
        padding: Size | str = 0, dilation: Size = 1, groups: int = 1,
    ) -> "Tensor":  # fmt: skip
        """self (N, C, H, W), weight (O, C / groups, KH, KW), bias (O,) -> (N, O, OH, OW)."""
        return self._conv(2, weight, bias, stride, padding, dilation, groups)

    def _conv(
        self, count: int, weight: "Tensor", bias: "Tensor | None", stride: Size,
        padding: Size | str, dilation: Size, groups: int,
    ) -> "Tensor":  # fmt: skip
        self._same_type("conv", weight)
        stride, dilation = shapes.spread(stride, count), shapes.spread(dilation, count)
        padding, more = shapes.padding("conv", padding, weight.shape[2:], stride, dilation)
        x = self.pad(more) if any(more) else self
        return apply(
            kernels.conv, x, weight, bias, stride=stride, padding=padding, dilation=dilation,
            groups=groups,
        )  # fmt: skip

    def max_pool1d(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0
    ) -> "Tensor":
        return self._pool(kernels.max_pool, 1, kernel_size, stride, padding)

    def max_pool2d(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0
    ) -> "Tensor":
        return self._pool(kernels.max_pool, 2, kernel_size, stride, padding)

    def avg_pool1d(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0
    ) -> "Tensor":
        return self._pool(kernels.avg_pool, 1, kernel_size, stride, padding)

    def avg_pool2d(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0
    ) -> "Tensor":
        return self._pool(kernels.avg_pool, 2, kernel_size, stride, padding)

    def _pool(
        self, op: ops.Operation, count: int, kernel: Size, stride: Size | None, padding: Size
    ) -> "Tensor":
        kernel = shapes.spread(kernel, count)
        stride = kernel if stride is None else shapes.spread(stride, count)
        padding = shapes.spread(padding, count)
        return apply(op, self, kernel=kernel, stride=stride, padding=padding)

    def adaptive_avg_pool1d(self, output_size: Size) -> "Tensor":
        """(N, C, L) -> (N, C, output_size): means over equal parts."""
        return self._adaptive_avg_pool("adaptive_avg_pool1d", shapes.spread(output_size, 1))

    def adaptive_avg_pool2d(self, output_size: "int | Sequence[int | None]") -> "Tensor":
        """(N, C, H, W) -> (N, C, *output_size): means over equal parts."""
        return self._adaptive_avg_pool("adaptive_avg_pool2d", shapes.spread(output_size, 2))

    def _adaptive_avg_pool(self, operation: str, size: Sequence[int | None]) -> "Tensor":
        shapes.parts(operation, self.shape, size)
        if all(n == 1 for n in size):
            return self.mean(tuple(range(2, self.ndim)), True)
        return apply(kernels.adaptive_avg_pool, self, size=tuple(size))

    def batch_norm(
        self, running_mean: "Tensor | None", running_var: "Tensor | None",
        weight: "Tensor | None" = None, bias: "Tensor | None" = None, training: bool = False,
        momentum: float | None = 0.1, eps: float = 1e-5, count: "Tensor | None" = None,
    ) -> "Tensor":  # fmt: skip
        """Each channel of (N, C, ...) normalised: see tinytorch.kernels.batch_norm."""
        if weight is not None:
            self._same_type("batch_norm", weight)
        return apply(
            kernels.batch_norm, self, weight, bias, running_mean, running_var, count,
            training=training, momentum=momentum, eps=eps,
        )  # fmt: skip


def tensor(data: Any, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """A copy of the numbers; Python floats become float32, arrays keep their type."""
    own = Tensor(data).data if dtype is None or isinstance(data, Tensor) else data
    return Tensor(np.array(own, dtype), requires_grad)


def zeros(*shape: Size, requires_grad: bool = False) -> Tensor:
    """shape, here and below: numbers or one tuple."""
    return full(shapes.given(shape), 0, requires_grad=requires_grad)


def ones(*shape: Size, requires_grad: bool = False) -> Tensor:
    return full(shapes.given(shape), 1, requires_grad=requires_grad)


def full(shape: Sequence[int], value: float, *, requires_grad: bool = False) -> Tensor:
    """float32, whatever the value is."""
    return Tensor.full(shape, value).requires_grad_(requires_grad)


def arange(*limits: float) -> Tensor:
    return Tensor(np.arange(*limits).tolist())


def rand(*shape: Size, requires_grad: bool = False) -> Tensor:
    """From the uniform distribution on [0, 1)."""
    return zeros(*shape).uniform_().requires_grad_(requires_grad)


def randn(*shape: Size, requires_grad: bool = False) -> Tensor:
    """From the normal distribution."""
    return zeros(*shape).normal_().requires_grad_(requires_grad)


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors one after the other along a dimension that exists."""
    first = tensors[0].shape
    dim = shapes.axis("cat", dim, len(first))
    for t in tensors:
        if t.shape[:dim] + t.shape[dim + 1 :] != first[:dim] + first[dim + 1 :]:
            raise ValueError(f"cat: shapes {first} and {t.shape} differ beside dimension {dim}.")
    return apply(ops.cat, *tensors, dim=dim)


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape along a new dimension."""
    dim = shapes.axis("stack", dim, tensors[0].ndim + 1)
    return cat([t.reshape(*t.shape[:dim], 1, *t.shape[dim:]) for t in tensors], dim)
