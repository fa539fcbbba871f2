"""The laptop's Tensor: numpy arrays, and gradients by reverse mode over a tape.

A result remembers its inputs and its gradient functions (tinytorch.ops); `backward` walks from the
newest tensor to the oldest. The order of creation is a topological order, so nothing recurses.

The same order guards the tape against changes in place (see aliasing): a gradient function
that holds an array which was changed after the function was made is refused. A tensor that is
changed on the tape becomes the newest one, and keeps what it was (`_before`) for those who used it
earlier; so do the tensors that share its memory.
"""

import itertools
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ContextDecorator
from typing import Any, NamedTuple, Union

import numpy as np
from numpy.typing import DTypeLike

from tinytorch import ops
from tinytorch.autograd import aliasing
from tinytorch.autograd.aliasing import Family, changed, changed_since, numbers, owner_of, shared
from tinytorch.autograd.tracing import local as traced
from tinytorch.dtypes import float32, float64, int64
from tinytorch.ops.array import Array
from tinytorch.random import generator
from tinytorch_core import shapes

Operand = Union["Tensor", float, Array]
Dims = int | Sequence[int] | None
Size = int | Sequence[int]  # one number for all spatial dimensions, or one for each


class _Local(threading.local):
    """What each thread has of its own: the workers of a DataLoader compute beside the training."""

    recording = True


local = _Local()


class _Mode(ContextDecorator):
    def __init__(self, mode: bool) -> None:
        self._mode = mode
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(local.recording)
        local.recording = self._mode

    def __exit__(self, *error: object) -> None:
        local.recording = self._before.pop()


class set_grad_enabled(_Mode):
    """Turn recording on or off from now on, or to the end of a `with`."""

    def __init__(self, mode: bool) -> None:
        super().__init__(mode)
        super().__enter__()

    def __enter__(self) -> None:
        """It is set already."""


def no_grad(function: Callable[..., Any] | None = None) -> Any:
    """Within it (`with no_grad():`, `@no_grad()` or `@no_grad`) nothing is recorded."""
    return _Mode(False) if function is None else _Mode(False)(function)


def enable_grad(function: Callable[..., Any] | None = None) -> Any:
    """Within it gradients are recorded, even inside of no_grad()."""
    return _Mode(True) if function is None else _Mode(True)(function)


inference_mode = no_grad


def is_grad_enabled() -> bool:
    return local.recording


def leave_capture() -> None:
    """What comes now is no operation: a step that is being captured goes on on the tape."""
    if traced.tracer is not None:
        traced.tracer.leave()


def apply(operation: ops.Operation, *inputs: "Tensor | None", **settings: Any) -> "Tensor":
    """Run an operation of tinytorch.ops on tensors and record it where a gradient is wanted."""
    if traced.tracer is not None:
        return traced.tracer(operation, inputs, settings)
    return record(operation, inputs, settings)


def record(
    operation: ops.Operation, inputs: "tuple[Tensor | None, ...]", settings: dict[str, Any]
) -> "Tensor":
    arrays: list[Array | None] = []
    tracked = False
    for t in inputs:
        if t is None:
            arrays.append(None)
        else:
            arrays.append(t.data)
            tracked = tracked or t.requires_grad
    data, gradients = operation(*arrays, **settings)
    return _result(operation, inputs, settings, data, gradients, tracked)


def _result(
    operation: ops.Operation, inputs: "tuple[Tensor | None, ...]", settings: dict[str, Any],
    data: Any, gradients: ops.Gradients, tracked: bool,
) -> "Tensor":  # fmt: skip
    if type(data) is not np.ndarray:
        data = np.asarray(data)  # numpy makes scalars of arrays without dimensions
    result = _new(Tensor)
    result.data = data
    result.grad = result._family = None
    if tracked and local.recording and data.dtype.kind == "f":
        result.requires_grad = True
        result._operation = operation
        result._inputs = inputs
        result._settings = settings
        result._gradients = gradients
    else:
        result.requires_grad = False
        result._operation = result._settings = result._gradients = None
        result._inputs = ()
    result._number = next(numbers)
    return result


_new = object.__new__


# Changes in place.


def _held(thing: Any, seen: set[int]) -> Iterator[Array]:
    """The arrays that a gradient function holds."""
    if isinstance(thing, np.ndarray):
        yield thing
    elif isinstance(thing, Tensor):
        yield thing.data
    elif id(thing) not in seen:
        seen.add(id(thing))
        if isinstance(thing, (tuple, list)):
            inner = list(thing)
        else:
            inner = [*(getattr(thing, "__defaults__", None) or ())]
            for cell in getattr(thing, "__closure__", None) or ():
                try:
                    inner.append(cell.cell_contents)
                except ValueError:  # not filled yet
                    continue
        for part in inner:
            yield from _held(part, seen)


def _check_unchanged(t: "Tensor", sources: "list[Tensor | None]") -> None:
    """Refuse a gradient that was to be worked out from numbers that are gone."""
    functions: Any = t._gradients
    if not callable(functions):
        functions = [f for f, s in zip(functions, sources, strict=True) if s is not None]
    _refuse_changed(t, _held(functions, set()))


def _refuse_changed(t: "Tensor", arrays: Iterable[Array]) -> None:
    for array in arrays:
        if changed_since(array, t._number):
            raise RuntimeError(
                f"backward: the gradient of {_name(t)} needs a tensor of shape {array.shape} that "
                "was changed in place since: change a clone() of it."
            )


def _freed(t: "Tensor") -> RuntimeError:
    return RuntimeError(
        f"backward: the graph behind this {_name(t)} was freed by an earlier backward: give that "
        "one retain_graph=True."
    )


def _name(t: "Tensor") -> str:
    return t._operation.__name__ if t._operation else "a leaf"


# Gradients.


class Hook:
    """A function that is called until `remove`; also as `with t.register_hook(f):`."""

    def __init__(self, hooks: "dict[Hook, Callable[..., Any]]", function: Callable[..., Any]):
        self._hooks = hooks
        hooks[self] = function

    def remove(self) -> None:
        self._hooks.pop(self, None)

    def __enter__(self) -> "Hook":
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


def _sum_to(gradient: Any, like: Any) -> Any:
    """The gradient of an array that was broadcast: summed where it was stretched.

    gradient: an array, or a Tensor; like: anything with the shape and the dtype of the array.
    """
    shape = like.shape
    if gradient.shape != shape:
        more = len(gradient.shape) - len(shape)
        stretched = [d + more for d, n in enumerate(shape) if n != gradient.shape[d + more]]
        gradient = gradient.sum((*range(more), *stretched)).reshape(shape)
    if gradient.dtype != like.dtype:
        return (gradient.to if isinstance(gradient, Tensor) else gradient.astype)(like.dtype)
    return gradient


def graph(
    tensors: "list[Tensor]", oldest: int = 0
) -> "tuple[dict[int, Tensor], dict[int, list[Tensor | None]]]":
    """By number the tensors below these that require gradients, and what each was made from.

    Those with a number below `oldest` are taken as leaves.
    """
    nodes = {t._number: t for t in tensors}
    sources: dict[int, list[Tensor | None]] = {}
    stack = list(tensors)
    while stack:
        t = stack.pop()
        found = sources[t._number] = []
        for s in t._inputs if t._number >= oldest else ():
            while s is not None and s._number > t._number:
                s = s._before  # it was changed in place since t was made from it
            if s is not None and s.requires_grad and s._number not in nodes:
                nodes[s._number] = s
                stack.append(s)
            found.append(s)
    return nodes, sources


class _Backward:
    """One walk from results to the tensors that their gradients are wanted for.

    inputs: those tensors; None for all leaves, which then add up their gradients in `grad`.
    oldest: the walk goes through no older tensor.
    """

    def __init__(
        self, roots: "list[tuple[Tensor, Any]]", inputs: "Sequence[Tensor] | None",
        retain_graph: bool, create_graph: bool, oldest: int = 0,
    ) -> None:  # fmt: skip
        self.oldest = oldest
        self.inputs = None if inputs is None else {t._number for t in inputs}
        self.retain_graph = retain_graph
        self.create_graph = create_graph
        self.found: dict[int, Any] = {}  # gradients of the inputs, by number
        self._given = {id(owner_of(g)) for _, g in roots if isinstance(g, np.ndarray)}
        self._collect([t for t, _ in roots])
        with _Mode(create_graph), np.errstate(all="ignore"):
            self._walk(roots)

    def _collect(self, stack: "list[Tensor]") -> None:
        """Which tensors lie between the roots and the inputs, and from what each was made."""
        self._nodes, self._sources = graph(stack, self.oldest)
        self._order = sorted(self._nodes)
        wanted = set(self._order)
        nodes = self._nodes.values()
        self.freed = next((t for t in nodes if not t.is_leaf and t._gradients is None), None)
        if self.inputs is not None:
            wanted = set()
            for number in self._order:
                below = any(s is not None and s._number in wanted for s in self._sources[number])
                if below or number in self.inputs:
                    wanted.add(number)
            self._order = [n for n in self._order if n in wanted]
        self._wanted = wanted
        for number in self._order:
            t, sources = self._nodes[number], self._sources[number]
            through = [s if s is not None and s._number in wanted else None for s in sources]
            if t.is_leaf or (self.inputs is not None and number in self.inputs and not sources):
                continue  # nothing is wanted of what is below
            if t._gradients is None:
                raise _freed(t)
            if aliasing.last_change > number and any(s is not None for s in through):
                _check_unchanged(t, through)
                if self.create_graph:  # formulas look at the tensors themselves
                    from tinytorch.autograd import second_order

                    _refuse_changed(t, second_order.needed(t, sources))

    def _walk(self, roots: "list[tuple[Tensor, Any]]") -> None:
        pending: dict[int, Any] = {}
        for t, g in roots:
            _add(pending, t._number, g)
        while self._order:
            number = self._order.pop()
            t, sources = self._nodes.pop(number), self._sources.pop(number)
            g = pending.pop(number, None)
            if g is None:
                continue
            if t._hooks and number >= self.oldest:
                g = self._hooked(t, g)
            if self.inputs is not None and number in self.inputs:
                self.found[number] = g
            if t._operation is None:
                if self.inputs is None:
                    self._accumulate(t, g)
                continue
            if t._retains and self.inputs is None:
                self._accumulate(t, g)
            parts = self._parts(t, sources, g)
            for s, part in zip(sources, parts, strict=True):
                if s is not None and part is not None and s._number in self._wanted:
                    _add(pending, s._number, _sum_to(part, s))

    def _parts(self, t: "Tensor", sources: "list[Tensor | None]", g: Any) -> Any:
        """The gradients of what t was made from."""
        functions: Any = t._gradients
        wanted = [s is not None and s._number in self._wanted for s in sources]
        if not any(wanted):
            return [None] * len(sources)
        if self.create_graph:
            from tinytorch.autograd import second_order

            parts: Any = second_order.gradients(t, sources, g)
        elif callable(functions):
            parts = functions(g)
        else:
            parts = [f(g) if w and f else None for f, w in zip(functions, wanted, strict=True)]
        if not self.retain_graph:
            t._free()
        return parts

    def _hooked(self, t: "Tensor", g: Any) -> Any:
        for hook in [*t._hooks.values()]:
            given = g if self.create_graph else Tensor(g)
            new = hook(given)
            if new is not None:
                if new.shape != t.shape:
                    raise ValueError(
                        f"register_hook: the hook made a gradient {new.shape} for tensor {t.shape}."
                    )
                g = new if self.create_graph else new.data
        if not self.create_graph:
            self._given.add(id(owner_of(g)))  # the hook may have kept it
        return g

    def _accumulate(self, t: "Tensor", g: Any) -> None:
        if self.create_graph:
            t.grad = g if t.grad is None else t.grad + g
        elif t.grad is None:
            t.grad = Tensor(_own(g, self._given))
        else:
            t.grad = Tensor(t.grad.data + g)


def _own(g: Any, given: set[int]) -> Array:
    """A gradient that nobody else holds, as an array. given: the owners of those given before."""
    g = np.asarray(g)
    owner = owner_of(g)
    if g.flags.writeable and owner.size == g.size and id(owner) not in given:
        given.add(id(owner))
        return g
    return g.copy()


def gradients_between(
    roots: "list[tuple[Tensor, Any]]", inputs: "Sequence[Tensor]", oldest: int,
    create_graph: bool = False,
) -> tuple[Any, ...]:  # fmt: skip
    """The gradients of inputs, by a walk through nothing older than `oldest`.

    As arrays; as tensors from gradients that are tensors, if create_graph.
    """
    found = _Backward(roots, inputs, create_graph, create_graph, oldest).found
    return tuple([found.get(t._number) for t in inputs])


def _add(pending: dict[int, Any], number: int, g: Any) -> None:
    before = pending.get(number)
    pending[number] = g if before is None else before + g


def grad(
    outputs: "Tensor | Sequence[Tensor]", inputs: "Tensor | Sequence[Tensor]",
    grad_outputs: "Tensor | Sequence[Tensor | None] | None" = None,
    retain_graph: bool | None = None, create_graph: bool = False, allow_unused: bool = False,
) -> "tuple[Tensor | None, ...]":  # fmt: skip
    """The gradients of outputs with respect to inputs, which keep their `grad`.

    grad_outputs: the gradients of a final result with respect to outputs of more than one number.
    create_graph: make gradients that have gradients themselves. None stands for an input that the
    outputs do not depend on, if allow_unused.
    """
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if grad_outputs is None or isinstance(grad_outputs, Tensor):
        grad_outputs = [grad_outputs] * len(outputs)
    for t in inputs:
        if not t.requires_grad:
            raise RuntimeError(f"grad: the input of shape {t.shape} does not require a gradient.")
    roots = [t._start(g, create_graph) for t, g in zip(outputs, grad_outputs, strict=True)]
    retain = create_graph if retain_graph is None else retain_graph
    walk = _Backward(roots, inputs, retain, create_graph)
    gradients = []
    for t in inputs:
        g = walk.found.get(t._number)
        if g is None and walk.freed is not None:
            raise _freed(walk.freed)
        if g is None and not allow_unused:
            raise RuntimeError(
                f"grad: the outputs do not depend on the input of shape {t.shape}: "
                "allow_unused=True gives None for it."
            )
        gradients.append(Tensor(np.array(g)) if isinstance(g, (np.ndarray, np.generic)) else g)
    return tuple(gradients)


# What operands become before an operation.


def _number_type(t: "Tensor", number: Any) -> np.dtype:
    """The type of a tensor's operation with a Python number."""
    kind = t.data.dtype.kind
    if kind == "f" or isinstance(number, bool) or (kind != "b" and isinstance(number, int)):
        return t.data.dtype
    return int64 if isinstance(number, int) else float32


def _operand(t: "Tensor", other: Any) -> "tuple[Tensor, Tensor] | None":
    """A tensor and what is not one, both as tensors; None if it is no number and no array."""
    if isinstance(other, np.generic):
        other = other.item()
    if isinstance(other, (bool, int, float)):
        dtype = _number_type(t, other)
        return t.to(dtype), Tensor(np.asarray(other, dtype))
    return (t, Tensor(other)) if isinstance(other, (np.ndarray, list, tuple)) else None


_RANKS = {"b": 0, "i": 1, "u": 1, "f": 2}


def _common_type(*tensors: "Tensor") -> np.dtype:
    """As PyTorch promotes: bools, integers, floats; a single number only if it is of more."""
    full = [t.data.dtype for t in tensors if t.data.ndim]
    single = [t.data.dtype for t in tensors if not t.data.ndim]
    highest = max([_RANKS[d.kind] for d in full], default=-1)
    types = [d for d in full if _RANKS[d.kind] == highest]
    more = [d for d in single if _RANKS[d.kind] > highest]
    if more:
        top = max(_RANKS[d.kind] for d in more)
        types = [d for d in more if _RANKS[d.kind] == top]
    return np.result_type(*types)


def promoted(*tensors: "Tensor") -> "tuple[Tensor, ...]":
    dtype = _common_type(*tensors)
    return tuple([t.to(dtype) for t in tensors])


def _binary(operation: ops.Operation, symbol: str, a: Any, b: Any) -> Any:
    """An element-wise operation of two operands, one of which is a tensor."""
    if not isinstance(b, Tensor):
        pair = _operand(a, b)
        if pair is None:
            return NotImplemented
        a, b = pair
    elif not isinstance(a, Tensor):
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
    return _result(operation, (a, b), {}, data, gradients, tracked)


def where(condition: "Tensor", a: Any = None, b: Any = None) -> Any:
    """a where the condition (bools) holds, b elsewhere; without them the indices where it holds."""
    if a is None and b is None:
        return tuple(map(Tensor, condition.data.nonzero()))
    if condition.data.dtype.kind != "b":
        raise TypeError(f"where: a condition holds bools, not {condition.dtype}: compare first.")
    if not isinstance(a, Tensor):
        pair = _operand(b, a) if isinstance(b, Tensor) else (Tensor(b), Tensor(a))
        if pair is None:
            raise TypeError(f"where: {a!r} is not a number.")
        b, a = pair
    elif not isinstance(b, Tensor):
        pair = _operand(a, b)
        if pair is None:
            raise TypeError(f"where: {b!r} is not a number.")
        a, b = pair
    if a.dtype != b.dtype:
        a, b = promoted(a, b)
    shape = shapes.broadcast("where", a.shape, b.shape)
    shapes.broadcast("where", condition.shape, shape)
    return apply(ops.where, condition, a, b)


def _viewable(t: "Tensor", shape: Sequence[int]) -> bool:
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


class Extreme(NamedTuple):
    """Of each row the largest or smallest number, or the middle one, and where it is."""

    values: "Tensor"
    indices: "Tensor"


class _Base:
    """What few tensors have lies in their __dict__, so that all others need not set it. And the
    methods whose names are Python's types, which the rest of the class can so call by name."""

    __slots__ = ("__dict__", "__weakref__", "_family")
    _family: Family | None
    _before: Any = None  # what a tensor was before it was changed in place on the tape
    _hooks: Any = None
    _retains = False
    _strided = False  # a view that need not lie in one row: see Tensor.view

    to: Callable[..., "Tensor"]

    def type(self, target: Any) -> "Tensor":
        return self.to(target)

    def type_as(self, other: "Tensor") -> "Tensor":
        return self.to(other.dtype)

    def cpu(self) -> "Tensor":
        return self.to("cpu")

    def float(self) -> "Tensor":
        return self.to(float32)

    def double(self) -> "Tensor":
        return self.to(float64)

    def long(self) -> "Tensor":
        return self.to(int64)

    def int(self) -> "Tensor":
        return self.to(np.int32)

    def bool(self) -> "Tensor":
        return self.to(np.bool_)


class Tensor(_Base):
    """An array with a gradient. data: anything numpy takes; Python floats become float32.

    `data` is the numpy array itself, shared if one was given; `grad` a Tensor, or None before
    `backward`. Types mix as in PyTorch.
    Raises TypeError where anything but floats is to have a gradient.
    """

    __slots__ = (
        "_gradients", "_inputs", "_number", "_operation", "_settings", "data", "grad",
        "requires_grad",
    )  # fmt: skip
    __array_ufunc__ = None  # numpy leaves array + tensor to us
    __hash__ = object.__hash__

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        data = data.data if isinstance(data, Tensor) else data
        if not isinstance(data, np.ndarray):
            is_numpy = isinstance(data, np.generic)
            data = np.asarray(data)
            if not is_numpy and data.dtype == float64:
                data = data.astype(float32)
        self.data: Array = data
        self.grad: Tensor | None = None
        self.requires_grad = False
        self._family = None
        self._number = next(numbers)
        self._operation: ops.Operation | None = None
        self._inputs: tuple[Tensor | None, ...] = ()
        self._settings: dict[str, Any] | None = None
        self._gradients: ops.Gradients | None = None
        if requires_grad:
            self.requires_grad_()
        elif data.dtype.kind not in "fiub":
            raise TypeError(f"Tensor: {data.dtype} is not a type of numbers that tensors hold.")

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
    def device(self) -> str:
        return "cpu"

    @property
    def is_leaf(self) -> bool:
        """Whether nothing recorded made this tensor: gradients end here."""
        return self._operation is None

    @property
    def T(self) -> "Tensor":
        return self.permute(*reversed(range(self.ndim)))

    @property
    def mT(self) -> "Tensor":
        """Each matrix of the last two dimensions transposed."""
        return self.transpose(-2, -1)

    def dim(self) -> int:
        return self.data.ndim

    def size(self, dim: int | None = None) -> Any:
        """The shape, or its length along one dimension."""
        return self.shape if dim is None else self.shape[shapes.axis("size", dim, self.ndim)]

    def numel(self) -> int:
        return self.data.size

    nelement = numel

    def is_floating_point(self) -> bool:
        return self.data.dtype.kind == "f"

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
            text += f", grad_fn=<{_name(self)}>"
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
        from tinytorch.autograd import creation

        return creation.zeros(*shape, dtype=dtype or self.dtype)

    def new_ones(self, *shape: Size, dtype: DTypeLike | None = None) -> "Tensor":
        from tinytorch.autograd import creation

        return creation.ones(*shape, dtype=dtype or self.dtype)

    def new_full(
        self, shape: Sequence[int], fill_value: Any, dtype: DTypeLike | None = None
    ) -> "Tensor":
        from tinytorch.autograd import creation

        return creation.full(shape, fill_value, dtype=dtype or self.dtype)

    def new_tensor(self, data: Any, dtype: DTypeLike | None = None) -> "Tensor":
        from tinytorch.autograd import creation

        return creation.tensor(data, dtype or self.dtype)

    def detach(self) -> "Tensor":
        """The same numbers, shared, apart from the tape."""
        return Tensor(self.data)

    def detach_(self) -> "Tensor":
        """This tensor, made a leaf without a gradient."""
        leave_capture()
        self._free()
        self._operation = None
        self.requires_grad = False
        return self

    def clone(self) -> "Tensor":
        """A copy that gradients flow through."""
        return apply(ops.clone, self)

    # Types.

    def to(self, target: Any = None, dtype: DTypeLike | None = None, **_: Any) -> "Tensor":
        """This tensor in another type, as in `labels.to("int64")`, or in that of another tensor;
        gradients flow between floats. "cpu" changes nothing: there is no other place."""
        if isinstance(target, Tensor):
            dtype = target.dtype
        elif isinstance(target, str) and target.split(":")[0] in ("cpu", "cuda", "mps", "xpu"):
            if target.split(":")[0] != "cpu":
                raise ValueError(f'to: there is no device "{target}": tinytorch computes on "cpu".')
        elif target is not None:
            dtype = target
        if dtype is None or np.dtype(dtype) == self.data.dtype:
            return self
        return apply(ops.to, self, dtype=np.dtype(dtype))

    def _real(self) -> "Tensor":
        """Integers and bools as float32, which functions of real numbers make of them."""
        return self if self.data.dtype.kind == "f" else self.to(float32)

    # Gradients.

    def requires_grad_(self, requires_grad: bool = True) -> "Tensor":
        if requires_grad and self.data.dtype.kind != "f":
            raise TypeError(
                f"requires_grad: only floats have gradients, and this tensor holds {self.dtype}."
            )
        if not requires_grad and not self.is_leaf:
            raise RuntimeError("requires_grad_: gradients flow through this tensor: detach() it.")
        self.requires_grad = requires_grad
        return self

    def backward(
        self, gradient: "Tensor | None" = None, retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:  # fmt: skip
        """Add to `grad` of every leaf below the gradient of this tensor, which holds one number.

        gradient: that of a final result with respect to this tensor, if it holds more. The graph is
        freed on the way unless retain_graph; create_graph makes gradients that have gradients.
        """
        retain = create_graph if retain_graph is None else retain_graph
        _Backward([self._start(gradient, create_graph)], None, retain, create_graph)

    def _start(self, gradient: "Tensor | None", create_graph: bool) -> "tuple[Tensor, Any]":
        """This tensor, and the gradient that a backward pass starts with."""
        leave_capture()
        if not self.requires_grad:
            raise RuntimeError("backward: nothing here requires a gradient.")
        if gradient is None:
            if self.data.size != 1:
                raise RuntimeError(
                    f"backward: shape {self.shape} is not a single number: reduce it first, as "
                    "with mean(), or give the gradient."
                )
            gradient = Tensor(np.ones_like(self.data))
        elif gradient.shape != self.shape:
            raise ValueError(
                f"backward: gradient {gradient.shape} does not fit tensor {self.shape}."
            )
        gradient = gradient.to(self.dtype)
        return self, gradient if create_graph else gradient.data

    def retain_grad(self) -> None:
        """Keep the gradient of a result in `grad` too, as leaves do."""
        if not self.requires_grad:
            raise RuntimeError("retain_grad: this tensor does not require a gradient.")
        leave_capture()
        self._retains = True

    def register_hook(self, hook: "Callable[[Tensor], Tensor | None]") -> Hook:
        """Call hook(gradient) when the gradient of this tensor is complete; what it returns, unless
        None, takes its place. The result's remove() ends it."""
        if not self.requires_grad:
            raise RuntimeError("register_hook: this tensor does not require a gradient.")
        leave_capture()
        if self._hooks is None:
            self._hooks = {}
        return Hook(self._hooks, hook)

    def _free(self) -> None:
        """Let go of what made this tensor."""
        self._gradients = self._settings = None
        self._inputs = ()
        if self._before is not None:  # those who used it earlier may still ask for its shape
            self._before.data = np.broadcast_to(self.data.dtype.type(0), self.shape)

    # In place.

    def _writable(self, operation: str) -> Array:
        """The array, to be overwritten with numbers that have no gradient."""
        leave_capture()
        if self.requires_grad and local.recording:
            raise RuntimeError(
                f"{operation}: a tensor that requires a gradient changes in place only under "
                "no_grad()."
            )
        changed(self.data)
        return self.data

    def _in_place(self, name: str, compute: "Callable[[Tensor], Tensor]") -> "Tensor":
        """This tensor with the numbers of compute(what it was until now), and their gradient."""
        leave_capture()
        relatives = self._family.others(self) if self._family and local.recording else []
        self._refuse_leaf(name, relatives)
        before = self._past()
        if local.recording:
            before.data = self.data.copy()  # gradient functions may hold it
        result = compute(before)
        if result.shape != self.shape:
            raise ValueError(f"{name}: shape {result.shape} does not fit into {self.shape}.")
        if _RANKS[result.dtype.kind] > _RANKS[self.dtype.kind]:
            raise RuntimeError(f"{name}: {result.dtype} does not fit into {self.dtype}.")
        self._write(name, ..., result.data)
        if result.requires_grad or (self.requires_grad and local.recording):
            self._become(result.to(self.dtype), before)
        for relative in relatives:
            if relative.requires_grad or self.requires_grad:
                here, there = shared(relative.data, self.data)
                past = relative._past()
                settings = {"here": here, "there": there}
                if here.size:
                    relative._become(record(ops.overwritten, (past, self), settings), past)
        return self

    def _write(self, name: str, key: Any, numbers: Array) -> None:
        if not self.data.flags.writeable:
            raise RuntimeError(
                f"{name}: the elements of shape {self.shape} share memory, as after expand, or may "
                "not be changed: clone() it first."
            )
        self.data[key] = numbers
        changed(self.data)

    def _refuse_leaf(self, name: str, relatives: "list[Tensor]") -> None:
        if local.recording and any(t.requires_grad and t.is_leaf for t in (self, *relatives)):
            raise RuntimeError(
                f"{name}: a leaf that requires a gradient, or a view of it, changes in place only "
                "under no_grad()."
            )

    def _past(self) -> "Tensor":
        """This tensor as it is now, for those who used it until now."""
        past = Tensor(self.data)
        for name in _HISTORY:
            setattr(past, name, getattr(self, name))
        past._before, past._hooks = self._before, self._hooks
        return past

    def _become(self, result: "Tensor", before: "Tensor") -> None:
        for name in _HISTORY:
            setattr(self, name, getattr(result, name))
        self._before = before
        self._hooks = None

    def copy_(self, other: Any) -> "Tensor":
        """Take over the numbers of a tensor of the same shape, in this tensor's type."""
        if tuple(other.shape) != self.shape:
            raise ValueError(f"copy_: shape {tuple(other.shape)} does not fit into {self.shape}.")
        if not isinstance(other, Tensor):  # a board's
            other = Tensor(np.asarray(other.data).reshape(self.shape))
        return self._assign("copy_", other)

    def _assign(self, name: str, value: Any) -> "Tensor":
        value = value if isinstance(value, Tensor) else Tensor(np.array(value, self.data.dtype))
        return self._in_place(name, lambda t: apply(ops.assign, t, value))

    def fill_(self, value: Operand) -> "Tensor":
        return self._assign("fill_", value)

    def zero_(self) -> "Tensor":
        return self._assign("zero_", 0)

    def uniform_(self, low: float = 0.0, high: float = 1.0) -> "Tensor":
        return self._assign("uniform_", generator.uniform(low, high, self.shape))

    def normal_(self, mean: float = 0.0, std: float = 1.0) -> "Tensor":
        return self._assign("normal_", generator.normal(mean, std, self.shape))

    def bernoulli_(self, p: float = 0.5) -> "Tensor":
        """Ones with probability p, else zeros."""
        return self._assign("bernoulli_", generator.random(self.shape) < p)

    def __iadd__(self, other: Operand) -> "Tensor":
        return self._in_place("+=", lambda t: t + other)

    def __isub__(self, other: Operand) -> "Tensor":
        return self._in_place("-=", lambda t: t - other)

    def __imul__(self, other: Operand) -> "Tensor":
        return self._in_place("*=", lambda t: t * other)

    def __itruediv__(self, other: Operand) -> "Tensor":
        return self._in_place("/=", lambda t: t / other)

    def add_(self, other: Operand, alpha: float = 1) -> "Tensor":
        return self._in_place("add_", lambda t: t.add(other, alpha))

    def sub_(self, other: Operand, alpha: float = 1) -> "Tensor":
        return self._in_place("sub_", lambda t: t.sub(other, alpha))

    def mul_(self, other: Operand) -> "Tensor":
        return self._in_place("mul_", lambda t: t * other)

    def div_(self, other: Operand) -> "Tensor":
        return self._in_place("div_", lambda t: t / other)

    def pow_(self, exponent: Operand) -> "Tensor":
        return self._in_place("pow_", lambda t: t**exponent)

    def addcmul_(self, a: "Tensor", b: "Tensor", value: float = 1) -> "Tensor":
        return self._in_place("addcmul_", lambda t: t + value * a * b)

    def lerp_(self, end: "Tensor", weight: Operand) -> "Tensor":
        return self._in_place("lerp_", lambda t: t.lerp(end, weight))

    def clamp_(self, min: Any = None, max: Any = None) -> "Tensor":
        return self._in_place("clamp_", lambda t: t.clamp(min, max))

    def masked_fill_(self, mask: "Tensor", value: Operand) -> "Tensor":
        return self._in_place("masked_fill_", lambda t: t.masked_fill(mask, value))

    def scatter_(self, dim: int, index: "Tensor", src: Operand) -> "Tensor":
        return self._in_place("scatter_", lambda t: t.scatter(dim, index, src))

    def scatter_add_(self, dim: int, index: "Tensor", src: "Tensor") -> "Tensor":
        return self._in_place("scatter_add_", lambda t: t.scatter_add(dim, index, src))

    def neg_(self) -> "Tensor":
        return self._in_place("neg_", lambda t: -t)

    def exp_(self) -> "Tensor":
        return self._in_place("exp_", lambda t: t.exp())

    def sqrt_(self) -> "Tensor":
        return self._in_place("sqrt_", lambda t: t.sqrt())

    def relu_(self) -> "Tensor":
        return self._in_place("relu_", lambda t: t.relu())

    def sigmoid_(self) -> "Tensor":
        return self._in_place("sigmoid_", lambda t: t.sigmoid())

    def tanh_(self) -> "Tensor":
        return self._in_place("tanh_", lambda t: t.tanh())

    # Other shapes. What can share the memory does.

    def _viewed(self, operation: ops.Operation, *arrays: "Tensor", **settings: Any) -> "Tensor":
        result = apply(operation, self, *arrays, **settings)
        if self._family is None:
            self._family = Family(self)
        self._family.add(result)
        return result

    def _stridden(self, operation: ops.Operation, **settings: Any) -> "Tensor":
        """A view that need not lie in one row."""
        result = self._viewed(operation, **settings)
        result._strided = True
        return result

    def reshape(self, *shape: Size) -> "Tensor":
        """Numbers or one tuple; -1 is worked out."""
        new = shapes.reshape(self.shape, shapes.given(shape))
        result = self._viewed(ops.reshape, shape=new)
        if self._strided:
            result._strided = True
        return result

    def view(self, *shape: Size) -> "Tensor":
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

    def view_as(self, other: "Tensor") -> "Tensor":
        return self.view(other.shape)

    def reshape_as(self, other: "Tensor") -> "Tensor":
        return self.reshape(other.shape)

    def is_contiguous(self) -> bool:
        return not self._strided or _viewable(self, (self.numel(),))

    def contiguous(self) -> "Tensor":
        """This tensor, or a copy that lies in one row."""
        return self if self.is_contiguous() else self.clone()

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> "Tensor":
        shape = shapes.flatten(self.shape, start_dim, end_dim)
        return self if shape == self.shape else self.reshape(shape)

    def unflatten(self, dim: int, sizes: Sequence[int]) -> "Tensor":
        """One dimension made into several."""
        dim = shapes.axis("unflatten", dim, self.ndim)
        new = shapes.reshape(self.shape[dim : dim + 1], tuple(sizes))
        return self.reshape(*self.shape[:dim], *new, *self.shape[dim + 1 :])

    def squeeze(self, dim: Dims = None) -> "Tensor":
        """Without the dimensions of length 1, all or those named."""
        dims = shapes.axes("squeeze", dim, self.ndim)
        return self.reshape([n for d, n in enumerate(self.shape) if n != 1 or d not in dims])

    def unsqueeze(self, dim: int) -> "Tensor":
        """With a new dimension of length 1 at dim."""
        dim = shapes.axis("unsqueeze", dim, self.ndim + 1)
        return self.reshape(*self.shape[:dim], 1, *self.shape[dim:])

    def permute(self, *dims: Size) -> "Tensor":
        """Numbers or one tuple."""
        order = tuple(shapes.axis("permute", d, self.ndim) for d in shapes.given(dims))
        if sorted(order) != list(range(self.ndim)):
            raise ValueError(f"permute: {order} does not name each dimension of {self.shape}.")
        return self._stridden(ops.permute, dims=order)

    def transpose(self, dim0: int, dim1: int) -> "Tensor":
        dims = list(range(self.ndim))
        a, b = (shapes.axis("transpose", d, self.ndim) for d in (dim0, dim1))
        dims[a], dims[b] = dims[b], dims[a]
        return self.permute(dims)

    swapaxes = transpose

    def t(self) -> "Tensor":
        """A matrix transposed; of fewer dimensions, the same."""
        if self.ndim > 2:
            raise ValueError(f"t: shape {self.shape} is no matrix: name dimensions for transpose.")
        return self.T

    def movedim(self, source: Size, destination: Size) -> "Tensor":
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

    def expand(self, *shape: Size) -> "Tensor":
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

    def expand_as(self, other: "Tensor") -> "Tensor":
        return self.expand(other.shape)

    broadcast_to = expand

    def repeat(self, *counts: Size) -> "Tensor":
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

    def repeat_interleave(self, repeats: int, dim: int | None = None) -> "Tensor":
        """Each element so many times in a row, in the flat tensor or along a dimension."""
        if dim is None:
            return self.flatten().repeat_interleave(repeats, 0)
        dim = shapes.axis("repeat_interleave", dim, self.ndim)
        t = self.unsqueeze(dim + 1)
        t = t.expand(*self.shape[: dim + 1], repeats, *self.shape[dim + 1 :])
        return t.flatten(dim, dim + 1)

    def narrow(self, dim: int, start: int, length: int) -> "Tensor":
        """The part of a dimension from start on."""
        dim = shapes.axis("narrow", dim, self.ndim)
        if not 0 <= start <= start + length <= self.shape[dim]:
            raise ValueError(f"narrow: {start} and {length} more are not in shape {self.shape}.")
        return self[(slice(None),) * dim + (slice(start, start + length),)]

    def split(self, split_size: Size, dim: int = 0) -> "tuple[Tensor, ...]":
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

    def chunk(self, chunks: int, dim: int = 0) -> "tuple[Tensor, ...]":
        """At most so many equal parts, of which the last may be shorter."""
        if chunks < 1:
            raise ValueError(f"chunk: {chunks} is not a number of parts.")
        n = self.shape[shapes.axis("chunk", dim, self.ndim)]
        return self.split(max(-(-n // chunks), 1), dim) if n else self.split([0] * chunks, dim)

    def unbind(self, dim: int = 0) -> "tuple[Tensor, ...]":
        dim = shapes.axis("unbind", dim, self.ndim)
        return tuple([self[(slice(None),) * dim + (i,)] for i in range(self.shape[dim])])

    def select(self, dim: int, index: int) -> "Tensor":
        return self[(slice(None),) * shapes.axis("select", dim, self.ndim) + (index,)]

    def diagonal(self, offset: int = 0, dim1: int = 0, dim2: int = 1) -> "Tensor":
        a, b = (shapes.axis("diagonal", d, self.ndim) for d in (dim1, dim2))
        return self._stridden(ops.diagonal, offset=offset, dim1=a, dim2=b)

    def diag(self, diagonal: int = 0) -> "Tensor":
        """The diagonal of a matrix; of a vector the matrix that has it there."""
        if self.ndim == 2:
            return self.diagonal(diagonal).clone()
        n = self.numel() + abs(diagonal)
        result = apply(ops.expand, Tensor(np.zeros((), self.dtype)), shape=(n, n)).clone()
        places = np.arange(self.numel())
        key = (places + max(-diagonal, 0), places + max(diagonal, 0))
        return apply(
            ops.set_index, result, self, Tensor(key[0]), Tensor(key[1]), key=(ops.INDEX, ops.INDEX)
        )

    def tril(self, diagonal: int = 0) -> "Tensor":
        """The last two dimensions' lower triangle, zeros above."""
        return apply(ops.tril, self._matrix("tril"), diagonal=diagonal)

    def triu(self, diagonal: int = 0) -> "Tensor":
        return apply(ops.triu, self._matrix("triu"), diagonal=diagonal)

    def _matrix(self, operation: str) -> "Tensor":
        if self.ndim < 2:
            raise ValueError(f"{operation}: shape {self.shape} has no two dimensions.")
        return self

    def flip(self, *numbers: Size, dims: Size = ()) -> "Tensor":
        """Backwards along these dimensions: numbers or one tuple."""
        dims = shapes.given(numbers) if numbers else dims
        return apply(ops.flip, self, dims=shapes.axes("flip", dims, self.ndim))

    def roll(self, shifts: Size, dims: Size | None = None) -> "Tensor":
        """Moved on along dimensions; what leaves at the end enters at the start."""
        shifts = (shifts,) if isinstance(shifts, int) else tuple(shifts)
        if dims is None:
            return apply(ops.roll, self.flatten(), shifts=shifts, dims=(0,)).reshape(self.shape)
        dims = (dims,) if isinstance(dims, int) else dims
        dims = tuple([shapes.axis("roll", d, self.ndim) for d in dims])
        return apply(ops.roll, self, shifts=shifts, dims=dims)

    def pad(self, padding: Sequence[int], value: float = 0.0, mode: str = "constant") -> "Tensor":
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

    def _pad_with_itself(self, widths: Sequence[tuple[int, int]], mode: str) -> "Tensor":
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
                t = t.index_select(d, Tensor(places))
        return t

    # Indices.

    def _key(self, key: Any) -> "tuple[tuple[Any, ...], list[Tensor]]":
        """What stands in the brackets for an operation: arrays apart, masks as integers."""
        parts: list[Any] = []
        arrays: list[Tensor] = []
        for k in key if isinstance(key, tuple) else (key,):
            if isinstance(k, (list, range)):
                k = np.asarray(k if len(k) else np.zeros(0, int))
            if isinstance(k, np.ndarray):
                k = Tensor(k)
            if isinstance(k, Tensor) and k.data.dtype.kind == "b":
                found = k.data.nonzero() if k.ndim else (np.zeros(int(k.data), int),)
                if not k.ndim:
                    parts.append(None)
                parts += [ops.INDEX] * len(found)
                arrays += map(Tensor, found)
                # numpy compares the lengths of masks; as integers they have to be compared here
                start = sum(p is not None for p in parts) - len(found)
                if (
                    Ellipsis not in parts
                    and k.ndim
                    and k.shape != self.shape[start : start + k.ndim]
                ):
                    raise IndexError(f"[]: a mask {k.shape} does not fit shape {self.shape}.")
            elif isinstance(k, Tensor):
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

    def __getitem__(self, key: Any) -> "Tensor":
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
        value = value if isinstance(value, Tensor) else Tensor(np.asarray(value))
        relatives = self._family.others(self) if self._family and local.recording else []
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

    def gather(self, dim: int, index: "Tensor") -> "Tensor":
        """y[i][j] = self[index[i][j]][j] for dim 0, and so on; index: integers."""
        dim = self._along("gather", dim, index)
        return apply(ops.gather, self, index, dim=dim)

    def take_along_dim(self, index: "Tensor", dim: int | None = None) -> "Tensor":
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

    def scatter(self, dim: int, index: "Tensor", src: Operand) -> "Tensor":
        """A copy with y[index[i][j]][j] = src[i][j] for dim 0, and so on; src may be a number."""
        dim, src = self._source("scatter", dim, index, src)
        return apply(ops.scatter, self, index, src, dim=dim)

    def scatter_add(self, dim: int, index: "Tensor", src: "Tensor") -> "Tensor":
        """A copy with y[index[i][j]][j] += src[i][j] for dim 0, and so on."""
        dim, src = self._source("scatter_add", dim, index, src)
        return apply(ops.scatter_add, self, index, src, dim=dim)

    def _source(self, name: str, dim: int, index: "Tensor", src: Any) -> "tuple[int, Tensor]":
        dim = self._along(name, dim, index)
        if not isinstance(src, Tensor):
            return dim, Tensor(np.full(index.shape, src, self.dtype))
        self._same_type(name, src)
        if src.ndim != index.ndim or any(
            m > n for m, n in zip(index.shape, src.shape, strict=True)
        ):
            raise ValueError(f"{name}: index {index.shape} does not fit src {src.shape}.")
        return dim, src[tuple([slice(n) for n in index.shape])] if src.shape != index.shape else src

    def _along(self, name: str, dim: int, index: "Tensor") -> int:
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

    def index_select(self, dim: int, index: "Tensor") -> "Tensor":
        """The slices of a dimension that a vector of integers names."""
        dim = shapes.axis("index_select", dim, self.ndim)
        return self[(slice(None),) * dim + (index,)]

    def masked_select(self, mask: "Tensor") -> "Tensor":
        return self[mask.expand(self.shape)]

    def masked_fill(self, mask: "Tensor", value: Operand) -> "Tensor":
        """The value where the mask (bools) holds, this tensor elsewhere."""
        if mask.data.dtype.kind != "b":
            raise TypeError(f"masked_fill: a mask holds bools, not {mask.dtype}: compare first.")
        return where(mask, value, self)

    def where(self, condition: "Tensor", other: Operand) -> "Tensor":
        """This tensor where the condition (bools) holds, other elsewhere."""
        return where(condition, self, other)

    def nonzero(self) -> "Tensor":
        """The indices of what is not zero, one row each."""
        return Tensor(np.argwhere(self.data))

    # Element by element.

    def __add__(self, other: Operand) -> "Tensor":
        return _binary(ops.add, "+", self, other)

    __radd__ = __add__

    def __sub__(self, other: Operand) -> "Tensor":
        return _binary(ops.sub, "-", self, other)

    def __rsub__(self, other: Operand) -> "Tensor":
        return _binary(ops.sub, "-", other, self)

    def __mul__(self, other: Operand) -> "Tensor":
        return _binary(ops.mul, "*", self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Operand) -> "Tensor":
        if self.is_floating_point() or not isinstance(other, Tensor):
            return _binary(ops.div, "/", self._real(), other)
        dtype = _common_type(self, other)
        dtype = dtype if dtype.kind == "f" else float32
        return _binary(ops.div, "/", self.to(dtype), other.to(dtype))

    def __rtruediv__(self, other: Operand) -> "Tensor":
        return _binary(ops.div, "/", other, self._real())

    def __floordiv__(self, other: Operand) -> "Tensor":
        return _binary(ops.floor_divide, "//", self, other)

    def __rfloordiv__(self, other: Operand) -> "Tensor":
        return _binary(ops.floor_divide, "//", other, self)

    def __mod__(self, other: Operand) -> "Tensor":
        return _binary(ops.remainder, "%", self, other)

    def __rmod__(self, other: Operand) -> "Tensor":
        return _binary(ops.remainder, "%", other, self)

    def __pow__(self, exponent: Operand) -> "Tensor":
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

    def __rpow__(self, base: Operand) -> "Tensor":
        return _binary(ops.pow, "**", base, self)

    def __neg__(self) -> "Tensor":
        return apply(ops.neg, self)

    def __pos__(self) -> "Tensor":
        return self

    def __abs__(self) -> "Tensor":
        return apply(ops.abs, self)

    def __eq__(self, other: Any) -> "Tensor":  # type: ignore[override]
        return _binary(ops.eq, "==", self, other)

    def __ne__(self, other: Any) -> "Tensor":  # type: ignore[override]
        return _binary(ops.ne, "!=", self, other)

    def __gt__(self, other: Any) -> "Tensor":
        return _binary(ops.gt, ">", self, other)

    def __ge__(self, other: Any) -> "Tensor":
        return _binary(ops.ge, ">=", self, other)

    def __lt__(self, other: Any) -> "Tensor":
        return _binary(ops.lt, "<", self, other)

    def __le__(self, other: Any) -> "Tensor":
        return _binary(ops.le, "<=", self, other)

    def __and__(self, other: Any) -> "Tensor":
        return _binary(ops.bitwise_and, "&", self._whole("&"), other)

    def __or__(self, other: Any) -> "Tensor":
        return _binary(ops.bitwise_or, "|", self._whole("|"), other)

    def __xor__(self, other: Any) -> "Tensor":
        return _binary(ops.bitwise_xor, "^", self._whole("^"), other)

    def __invert__(self) -> "Tensor":
        return apply(ops.bitwise_not, self._whole("~"))

    def _whole(self, symbol: str) -> "Tensor":
        if self.is_floating_point():
            raise TypeError(
                f"{symbol}: only bools and integers, and this tensor holds {self.dtype}."
            )
        return self

    def add(self, other: Operand, alpha: float = 1) -> "Tensor":
        return self + (other if alpha == 1 else alpha * other)

    def sub(self, other: Operand, alpha: float = 1) -> "Tensor":
        return self - (other if alpha == 1 else alpha * other)

    def mul(self, other: Operand) -> "Tensor":
        return self * other

    def div(self, other: Operand, rounding_mode: str | None = None) -> "Tensor":
        """rounding_mode: None, "trunc" (towards zero) or "floor"."""
        if rounding_mode == "floor":
            return self // other
        return (self / other).trunc() if rounding_mode == "trunc" else self / other

    def pow(self, exponent: Operand) -> "Tensor":
        return self**exponent

    def remainder(self, other: Operand) -> "Tensor":
        """With the sign of other, as Python's %."""
        return self % other

    def floor_divide(self, other: Operand) -> "Tensor":
        return self // other

    def maximum(self, other: "Tensor") -> "Tensor":
        """Of two numbers the larger one; equal ones share the gradient."""
        return _binary(ops.maximum, "maximum", self, other)

    def minimum(self, other: "Tensor") -> "Tensor":
        return _binary(ops.minimum, "minimum", self, other)

    def eq(self, other: Any) -> "Tensor":
        return self == other

    def ne(self, other: Any) -> "Tensor":
        return self != other

    def gt(self, other: Any) -> "Tensor":
        return self > other

    def ge(self, other: Any) -> "Tensor":
        return self >= other

    def lt(self, other: Any) -> "Tensor":
        return self < other

    def le(self, other: Any) -> "Tensor":
        return self <= other

    def logical_and(self, other: "Tensor") -> "Tensor":
        return _binary(ops.logical_and, "logical_and", self, other)

    def logical_or(self, other: "Tensor") -> "Tensor":
        return _binary(ops.logical_or, "logical_or", self, other)

    def logical_xor(self, other: "Tensor") -> "Tensor":
        return _binary(ops.logical_xor, "logical_xor", self, other)

    def logical_not(self) -> "Tensor":
        return apply(ops.logical_not, self)

    def isnan(self) -> "Tensor":
        return apply(ops.isnan, self)

    def isinf(self) -> "Tensor":
        return apply(ops.isinf, self)

    def isfinite(self) -> "Tensor":
        return apply(ops.isfinite, self)

    def neg(self) -> "Tensor":
        return apply(ops.neg, self)

    def abs(self) -> "Tensor":
        return apply(ops.abs, self)

    def sign(self) -> "Tensor":
        return apply(ops.sign, self)

    def floor(self) -> "Tensor":
        return apply(ops.floor, self) if self.is_floating_point() else self

    def ceil(self) -> "Tensor":
        return apply(ops.ceil, self) if self.is_floating_point() else self

    def trunc(self) -> "Tensor":
        return apply(ops.trunc, self) if self.is_floating_point() else self

    def round(self, decimals: int = 0) -> "Tensor":
        """Halves to the even neighbour."""
        return apply(ops.round, self, decimals=decimals)

    def exp(self) -> "Tensor":
        return apply(ops.exp, self._real())

    def expm1(self) -> "Tensor":
        return apply(ops.expm1, self._real())

    def log(self) -> "Tensor":
        return apply(ops.log, self._real())

    def log1p(self) -> "Tensor":
        return apply(ops.log1p, self._real())

    def log2(self) -> "Tensor":
        return self.log() / math.log(2)

    def log10(self) -> "Tensor":
        return self.log() / math.log(10)

    def sqrt(self) -> "Tensor":
        return apply(ops.sqrt, self._real())

    def rsqrt(self) -> "Tensor":
        return apply(ops.rsqrt, self._real())

    def square(self) -> "Tensor":
        return apply(ops.square, self)

    def reciprocal(self) -> "Tensor":
        return apply(ops.reciprocal, self._real())

    def nan_to_num(
        self, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
    ) -> "Tensor":
        """NaN and infinities replaced, by default with 0 and the largest numbers of the type."""
        if not self.is_floating_point():
            return self
        limits = np.finfo(self.dtype)
        t = where(self.isnan(), nan, self)
        t = where(t == math.inf, float(limits.max) if posinf is None else posinf, t)
        return where(t == -math.inf, float(limits.min) if neginf is None else neginf, t)

    def sin(self) -> "Tensor":
        return apply(ops.sin, self._real())

    def cos(self) -> "Tensor":
        return apply(ops.cos, self._real())

    def tanh(self) -> "Tensor":
        return apply(ops.tanh, self._real())

    def sigmoid(self) -> "Tensor":
        return apply(ops.sigmoid, self._real())

    def clamp(self, min: Any = None, max: Any = None) -> "Tensor":
        """Numbers below min become min, those above max become max; both may be tensors."""
        if isinstance(min, Tensor) or isinstance(max, Tensor):
            t = self if min is None else _binary(ops.maximum, "clamp", self, min)
            return t if max is None else _binary(ops.minimum, "clamp", t, max)
        if min is None and max is None:
            raise ValueError("clamp: give min, max or both.")
        dtypes = [_number_type(self, n) for n in (min, max) if n is not None]
        return apply(ops.clamp, self.to(np.result_type(*dtypes)), low=min, high=max)

    clip = clamp

    def lerp(self, end: "Tensor", weight: Operand) -> "Tensor":
        """self + weight * (end - self)"""
        return self + weight * (end - self)

    def relu(self) -> "Tensor":
        return apply(ops.relu, self)

    def relu6(self) -> "Tensor":
        return apply(ops.relu6, self)

    def leaky_relu(self, negative_slope: float = 0.01) -> "Tensor":
        return apply(ops.leaky_relu, self, negative_slope=negative_slope)

    def elu(self, alpha: float = 1.0) -> "Tensor":
        return apply(ops.elu, self, alpha=alpha)

    def gelu(self, approximate: str = "none") -> "Tensor":
        if approximate not in ("none", "tanh"):
            raise ValueError(f'gelu: approximate is "none" or "tanh", not {approximate!r}.')
        return apply(ops.gelu, self, approximate=approximate)

    def silu(self) -> "Tensor":
        return apply(ops.silu, self)

    def hardsigmoid(self) -> "Tensor":
        return apply(ops.hardsigmoid, self)

    def hardswish(self) -> "Tensor":
        return apply(ops.hardswish, self)

    def softplus(self, beta: float = 1.0, threshold: float = 20.0) -> "Tensor":
        return apply(ops.softplus, self, beta=beta, threshold=threshold)

    def dropout(self, p: float = 0.5, training: bool = True) -> "Tensor":
        if not training or p == 0:
            return self
        return self * 0.0 if p == 1 else apply(ops.dropout, self, p=p)

    # Reductions.

    def _reduce(
        self, operation: ops.Operation, dim: Dims, keepdim: bool, **settings: Any
    ) -> "Tensor":
        dims = shapes.axes(operation.__name__, dim, self.ndim or 1)  # a number has a dim 0, or -1
        dims = dims if self.ndim else ()
        return apply(operation, self, dims=dims, keepdim=keepdim, **settings)

    def _mean_of(
        self, operation: ops.Operation, dim: Dims, keepdim: bool, **settings: Any
    ) -> "Tensor":
        if not self.is_floating_point():
            raise TypeError(
                f"{operation.__name__}: only of floats, and this tensor holds {self.dtype}: "
                "convert it with float()."
            )
        return self._reduce(operation, dim, keepdim, **settings)

    def sum(self, dim: Dims = None, keepdim: bool = False) -> "Tensor":
        """Integers and bools add up to int64."""
        return self._reduce(ops.sum, dim, keepdim)

    def mean(self, dim: Dims = None, keepdim: bool = False) -> "Tensor":
        return self._mean_of(ops.mean, dim, keepdim)

    def var(
        self, dim: Dims = None, keepdim: bool = False, correction: float = 1,
        unbiased: bool | None = None,
    ) -> "Tensor":  # fmt: skip
        """The mean squared deviation from the mean, divided by the number less the correction."""
        dim, correction = _correction(dim, correction, unbiased)
        return self._mean_of(ops.var, dim, keepdim, correction=correction)

    def std(
        self, dim: Dims = None, keepdim: bool = False, correction: float = 1,
        unbiased: bool | None = None,
    ) -> "Tensor":  # fmt: skip
        """The root of `var`."""
        dim, correction = _correction(dim, correction, unbiased)
        return self._mean_of(ops.std, dim, keepdim, correction=correction)

    def prod(self, dim: int | None = None, keepdim: bool = False) -> "Tensor":
        return self._reduce(ops.prod, dim, keepdim)

    def logsumexp(self, dim: Dims, keepdim: bool = False) -> "Tensor":
        return self._real()._reduce(ops.logsumexp, dim, keepdim)

    def norm(self, p: float | str = 2, dim: Dims = None, keepdim: bool = False) -> "Tensor":
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

    def any(self, dim: Dims = None, keepdim: bool = False) -> "Tensor":
        return self._reduce(ops.any, dim, keepdim)

    def all(self, dim: Dims = None, keepdim: bool = False) -> "Tensor":
        return self._reduce(ops.all, dim, keepdim)

    def count_nonzero(self, dim: Dims = None) -> "Tensor":
        return self._reduce(ops.count_nonzero, dim, False)

    def _not_empty(self, operation: str, dim: Dims) -> None:
        for d in shapes.axes(operation, dim, self.ndim or 1):
            if self.ndim and self.shape[d] == 0:
                raise ValueError(f"{operation}: shape {self.shape} has no elements along {d}.")

    def amax(self, dim: Dims = None, keepdim: bool = False) -> "Tensor":
        """Equal maxima share the gradient."""
        self._not_empty("amax", dim)
        return self._reduce(ops.amax, dim, keepdim)

    def amin(self, dim: Dims = None, keepdim: bool = False) -> "Tensor":
        self._not_empty("amin", dim)
        return self._reduce(ops.amin, dim, keepdim)

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> "Tensor":
        """The position of the first maximum; in the flat tensor for dim=None."""
        return self._position(ops.argmax, dim, keepdim)

    def argmin(self, dim: int | None = None, keepdim: bool = False) -> "Tensor":
        return self._position(ops.argmin, dim, keepdim)

    def _position(self, operation: ops.Operation, dim: int | None, keepdim: bool) -> "Tensor":
        self._not_empty(operation.__name__, dim)
        if dim is not None and self.ndim:
            dim = shapes.axis(operation.__name__, dim, self.ndim)
        return apply(operation, self, dim=dim if self.ndim else None, keepdim=keepdim)

    def max(self, dim: Any = None, keepdim: bool = False) -> Any:
        """The maximum, as `amax`; along a dim (values, indices) of the first ones, which alone get
        the gradient; of two tensors as `maximum`."""
        if isinstance(dim, Tensor):
            return self.maximum(dim)
        return self.amax() if dim is None else self._extreme(ops.argmax, dim, keepdim)

    def min(self, dim: Any = None, keepdim: bool = False) -> Any:
        if isinstance(dim, Tensor):
            return self.minimum(dim)
        return self.amin() if dim is None else self._extreme(ops.argmin, dim, keepdim)

    def _extreme(self, operation: ops.Operation, dim: int, keepdim: bool) -> Extreme:
        return self._taken(self._position(operation, dim, bool(self.ndim)), dim, keepdim)

    def _taken(self, indices: "Tensor", dim: int, keepdim: bool) -> Extreme:
        if not self.ndim:
            return Extreme(self.clone(), indices)
        values = self.gather(dim, indices)
        return Extreme(*[t if keepdim else t.squeeze(dim) for t in (values, indices)])

    def median(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """The lower of two middle ones; along a dim (values, indices)."""
        if dim is None:
            return self.flatten().median(0).values
        self._not_empty("median", dim)
        if not self.ndim:
            return Extreme(self.clone(), Tensor(np.zeros((), np.int64)))
        order = self.argsort(dim)
        return self._taken(order.narrow(dim, (self.shape[dim] - 1) // 2, 1), dim, keepdim)

    def argsort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> "Tensor":
        """Equals keep their order, whatever `stable` says."""
        dim = shapes.axis("argsort", dim, self.ndim or 1)
        if not self.ndim:
            return Tensor(np.zeros((), np.int64))
        return apply(ops.argsort, self, dim=dim, descending=descending)

    def sort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> Extreme:
        """(values, indices) along a dimension."""
        if not self.ndim:
            return Extreme(self.clone(), Tensor(np.zeros((), np.int64)))
        order = self.argsort(dim, descending)
        return Extreme(self.gather(dim, order), order)

    def topk(self, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Extreme:
        """(values, indices) of the k largest or smallest, in order."""
        d = shapes.axis("topk", dim, self.ndim)
        if not 0 <= k <= self.shape[d]:
            raise ValueError(
                f"topk: {k} of shape {self.shape} along dimension {dim} are not there."
            )
        order = self.argsort(d, largest).narrow(d, 0, k)
        return Extreme(self.gather(d, order), order)

    def unique(self) -> "Tensor":
        """The different numbers, sorted."""
        return Tensor(np.unique(self.data))

    def cumsum(self, dim: int) -> "Tensor":
        return self._cumulated(ops.cumsum, dim)

    def cumprod(self, dim: int) -> "Tensor":
        return self._cumulated(ops.cumprod, dim)

    def _cumulated(self, operation: ops.Operation, dim: int) -> "Tensor":
        if not self.ndim:
            return self.clone()
        return apply(operation, self, dim=shapes.axis(operation.__name__, dim, self.ndim))

    def softmax(self, dim: int) -> "Tensor":
        return self._over(ops.softmax, dim)

    def log_softmax(self, dim: int) -> "Tensor":
        return self._over(ops.log_softmax, dim)

    def _over(self, operation: ops.Operation, dim: int) -> "Tensor":
        if not self.ndim:
            return self.reshape(1)._over(operation, dim).reshape(())
        return apply(operation, self._real(), dim=shapes.axis(operation.__name__, dim, self.ndim))

    # Products.

    def _same_type(self, operation: str, other: "Tensor") -> None:
        if other.dtype != self.dtype:
            raise ValueError(
                f"{operation}: types {self.dtype} and {other.dtype} do not mix: convert one with "
                'to("float32").'
            )

    def __matmul__(self, other: "Tensor") -> "Tensor":
        """Matrices of the last two dimensions; a vector is a row on the left, a column on the
        right, and its dimension vanishes."""
        if not isinstance(other, Tensor):
            return NotImplemented
        a = self.unsqueeze(0) if self.ndim == 1 else self
        b = other.unsqueeze(1) if other.ndim == 1 else other
        shapes.matmul(a.shape, b.shape)
        self._same_type("matmul", other)
        y = apply(ops.matmul, a, b)
        if other.ndim == 1:
            y = y.squeeze(-1)
        return y.squeeze(-1 if other.ndim == 1 else -2) if self.ndim == 1 else y

    def matmul(self, other: "Tensor") -> "Tensor":
        return self @ other

    def _product(self, name: str, other: "Tensor", dims: int) -> "Tensor":
        if not self.ndim == other.ndim == dims:
            raise ValueError(
                f"{name}: shapes {self.shape} and {other.shape} do not both have {dims} dimensions."
            )
        return self @ other

    def mm(self, other: "Tensor") -> "Tensor":
        return self._product("mm", other, 2)

    def bmm(self, other: "Tensor") -> "Tensor":
        return self._product("bmm", other, 3)

    def dot(self, other: "Tensor") -> "Tensor":
        return self._product("dot", other, 1)

    def mv(self, vector: "Tensor") -> "Tensor":
        return self @ vector

    def outer(self, other: "Tensor") -> "Tensor":
        if not self.ndim == other.ndim == 1:
            raise ValueError(f"outer: shapes {self.shape} and {other.shape} are not both vectors.")
        return self.unsqueeze(1) * other

    # Layers.

    def linear(self, weight: "Tensor", bias: "Tensor | None" = None) -> "Tensor":
        """self (..., in), weight (out, in), bias (out,) -> (..., out)."""
        shapes.linear(self.shape, weight.shape, None if bias is None else bias.shape)
        self._same_type("linear", weight)
        return apply(ops.linear, self, weight, bias)

    def embedding(self, weight: "Tensor", padding_idx: int | None = None) -> "Tensor":
        """The rows of weight (num, d) at these indices -> (*shape, d).

        padding_idx: the row that gets no gradient.
        """
        if self.data.dtype.kind not in "iu":
            raise TypeError(f"embedding: the index holds {self.dtype}: give integers.")
        return apply(ops.embedding, weight, self, padding_idx=padding_idx)

    def layer_norm(
        self, shape: Sequence[int], weight: "Tensor | None" = None, bias: "Tensor | None" = None,
        eps: float = 1e-5,
    ) -> "Tensor":  # fmt: skip
        """Normalised over the last dimensions, of this shape."""
        given = [t.shape for t in (weight, bias) if t is not None]
        dims = shapes.layer_norm(self.shape, shape, given)
        if weight is not None:
            self._same_type("layer_norm", weight)
        return apply(ops.layer_norm, self, weight, bias, dims=dims, eps=eps)

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
        stride, dilation = shapes.ntuple(stride, count), shapes.ntuple(dilation, count)
        padding, more = shapes.padding("conv", padding, weight.shape[2:], stride, dilation)
        x = self.pad(more) if any(more) else self
        return apply(
            ops.conv, x, weight, bias, stride=stride, padding=padding, dilation=dilation,
            groups=groups,
        )  # fmt: skip

    def max_pool1d(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0
    ) -> "Tensor":
        return self._pool(ops.max_pool, 1, kernel_size, stride, padding)

    def max_pool2d(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0
    ) -> "Tensor":
        return self._pool(ops.max_pool, 2, kernel_size, stride, padding)

    def avg_pool1d(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0
    ) -> "Tensor":
        return self._pool(ops.avg_pool, 1, kernel_size, stride, padding)

    def avg_pool2d(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0
    ) -> "Tensor":
        return self._pool(ops.avg_pool, 2, kernel_size, stride, padding)

    def _pool(
        self, op: ops.Operation, count: int, kernel: Size, stride: Size | None, padding: Size
    ) -> "Tensor":
        kernel = shapes.ntuple(kernel, count)
        stride = kernel if stride is None else shapes.ntuple(stride, count)
        padding = shapes.ntuple(padding, count)
        return apply(op, self, kernel=kernel, stride=stride, padding=padding)

    def adaptive_avg_pool1d(self, output_size: Size) -> "Tensor":
        """(N, C, L) -> (N, C, output_size): means over equal parts."""
        return self._adaptive_avg_pool("adaptive_avg_pool1d", shapes.ntuple(output_size, 1))

    def adaptive_avg_pool2d(self, output_size: "int | Sequence[int | None]") -> "Tensor":
        """(N, C, H, W) -> (N, C, *output_size): means over equal parts."""
        return self._adaptive_avg_pool("adaptive_avg_pool2d", shapes.ntuple(output_size, 2))

    def _adaptive_avg_pool(self, operation: str, size: Sequence[int | None]) -> "Tensor":
        shapes.parts(operation, self.shape, size)
        if all(n == 1 for n in size):
            return self.mean(tuple(range(2, self.ndim)), True)
        return apply(ops.adaptive_avg_pool, self, size=tuple(size))

    def batch_norm(
        self, running_mean: "Tensor | None", running_var: "Tensor | None",
        weight: "Tensor | None" = None, bias: "Tensor | None" = None, training: bool = False,
        momentum: float | None = 0.1, eps: float = 1e-5, count: "Tensor | None" = None,
    ) -> "Tensor":  # fmt: skip
        """Each channel of (N, C, ...) normalised: see tinytorch.ops.batch_norm."""
        if weight is not None:
            self._same_type("batch_norm", weight)
        return apply(
            ops.batch_norm, self, weight, bias, running_mean, running_var, count,
            training=training, momentum=momentum, eps=eps,
        )  # fmt: skip


def tensors_in(outputs: Any) -> Iterator[Tensor]:
    """The tensors in what a module returns: one, or tuples, lists and dicts of them."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, (tuple, list, dict)):
        for part in outputs.values() if isinstance(outputs, dict) else outputs:
            yield from tensors_in(part)


_HISTORY = ("requires_grad", "_number", "_operation", "_inputs", "_settings", "_gradients")


def _correction(dim: Any, correction: float, unbiased: bool | None) -> tuple[Dims, float]:
    """PyTorch's two ways to say what is taken from the number of elements."""
    if isinstance(dim, bool):
        return None, int(dim)
    return dim, correction if unbiased is None else int(unbiased)


def is_tensor(thing: Any) -> bool:
    return isinstance(thing, Tensor)


def is_floating_point(t: Tensor) -> bool:
    return t.is_floating_point()
