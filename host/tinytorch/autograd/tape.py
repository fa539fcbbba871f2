"""The tape: what a tensor remembers of how it was made, and gradients by reverse mode.

A result remembers its inputs and its gradient functions (tinytorch.ops); `backward` walks from the
newest tensor to the oldest. The order of creation is a topological order, so nothing recurses.

The same order guards the tape against changes in place (see aliasing): a gradient function
that holds an array which was changed after the function was made is refused. A tensor that is
changed on the tape becomes the newest one, and keeps what it was (`_before`) for those who used it
earlier; so do the tensors that share its memory.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ContextDecorator
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Union

import numpy as np
from numpy.typing import DTypeLike

from tinytorch import ops
from tinytorch.autograd import aliasing, formulas
from tinytorch.autograd.aliasing import (
    AliasSet,
    changed,
    changed_since,
    owner_of,
    sequence_nr,
    shared,
)
from tinytorch.autograd.promotion import RANKS
from tinytorch.autograd.tracing import local as traced
from tinytorch.dtypes import float32, float64
from tinytorch.ops.array import Array

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T", bound="TensorBase")
Operand = Union["TensorBase", float, Array]
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
    """Whether operations are recorded in this thread."""
    return local.recording


# Operations.


def leave_capture() -> None:
    """What comes now is no operation: a step that is being captured goes on on the tape."""
    if traced.tracer is not None:
        traced.tracer.leave()


def apply(operation: ops.Operation, *inputs: "TensorBase | None", **attrs: Any) -> Any:
    """Run an operation of tinytorch.ops on tensors and record it where a gradient is wanted."""
    if traced.tracer is not None:
        return traced.tracer(operation, inputs, attrs)
    return record(operation, inputs, attrs)


def record(
    operation: ops.Operation, inputs: "tuple[TensorBase | None, ...]", attrs: dict[str, Any]
) -> Any:
    """Run an operation on tensors and record it, whoever is tracing."""
    arrays: list[Array | None] = []
    tracked = False
    for t in inputs:
        if t is None:
            arrays.append(None)
        else:
            arrays.append(t.data)
            tracked = tracked or t.requires_grad
    data, gradients = operation(*arrays, **attrs)
    return record_result(operation, inputs, attrs, data, gradients, tracked)


def record_result(
    operation: ops.Operation, inputs: "tuple[TensorBase | None, ...]", attrs: dict[str, Any],
    data: Any, gradients: ops.Gradients, tracked: bool,
) -> Any:  # fmt: skip
    """The tensor of an operation's result; tracked: whether an input requires a gradient."""
    if type(data) is not np.ndarray:
        data = np.asarray(data)  # numpy makes scalars of arrays without dimensions
    result = _new(_tensor)
    result.data = data
    result.grad = result._aliases = None
    if tracked and local.recording and data.dtype.kind == "f":
        result.requires_grad = True
        result._operation = operation
        result._inputs = inputs
        result._attrs = attrs
        result._gradients = gradients
    else:
        result.requires_grad = False
        result._operation = result._attrs = result._gradients = None
        result._inputs = ()
    result._sequence_nr = next(sequence_nr)
    return result


_new = object.__new__


def results_are(tensor: type["TensorBase"]) -> None:
    """Let operations give tensors of this class: of Tensor, which is built on the tape."""
    global _tensor
    _tensor = TensorBase._wrap = tensor


# Tensors.


class Hook:
    """A function that is called until `remove`; also as `with t.register_hook(f):`."""

    def __init__(self, hooks: "dict[Hook, Callable[..., Any]]", function: Callable[..., Any]):
        self._hooks = hooks
        hooks[self] = function

    def remove(self) -> None:
        """End the calls; once more does nothing."""
        self._hooks.pop(self, None)

    def __enter__(self) -> "Hook":
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


class TensorBase:
    """What the tape knows of a tensor. Everything else is in tinytorch.autograd.methods."""

    # What few tensors have lies in __dict__, so that all others need not set it.
    __slots__ = (
        "__dict__", "__weakref__", "_aliases", "_attrs", "_gradients", "_inputs", "_operation",
        "_sequence_nr", "data", "grad", "requires_grad",
    )  # fmt: skip
    _aliases: AliasSet | None
    _before: Any = None  # what a tensor was before it was changed in place on the tape
    _hooks: Any = None
    _retains = False
    _strided = False  # a view that need not lie in one row: see Movement.view

    _wrap: ClassVar[Callable[..., Any]]  # a Tensor of these numbers: see results_are

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        data = data.data if isinstance(data, TensorBase) else data
        if not isinstance(data, np.ndarray):
            is_numpy = isinstance(data, np.generic)
            data = np.asarray(data)
            if not is_numpy and data.dtype == float64:
                data = data.astype(float32)
        self.data: Array = data
        self.grad: Any = None
        self.requires_grad = False
        self._aliases = None
        self._sequence_nr = next(sequence_nr)
        self._operation: ops.Operation | None = None
        self._inputs: tuple[Any, ...] = ()
        self._attrs: dict[str, Any] | None = None
        self._gradients: ops.Gradients | None = None
        if requires_grad:
            self.requires_grad_()
        elif data.dtype.kind not in "fiub":
            raise TypeError(f"Tensor: {data.dtype} is not a type of numbers that tensors hold.")

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each dimension."""
        return self.data.shape

    @property
    def ndim(self) -> int:
        """How many dimensions there are."""
        return self.data.ndim

    @property
    def dtype(self) -> np.dtype:
        """The numpy type of the numbers."""
        return self.data.dtype

    @property
    def is_leaf(self) -> bool:
        """Whether nothing recorded made this tensor: gradients end here."""
        return self._operation is None

    def dim(self) -> int:
        """How many dimensions there are."""
        return self.data.ndim

    def numel(self) -> int:
        """How many numbers there are."""
        return self.data.size

    nelement = numel

    def is_floating_point(self) -> bool:
        """Whether the numbers are floats."""
        return self.data.dtype.kind == "f"

    def detach(self) -> "Self":
        """The same numbers, shared, apart from the tape."""
        return self._wrap(self.data)

    def detach_(self) -> "Self":
        """This tensor, made a leaf without a gradient."""
        leave_capture()
        self._free()
        self._operation = None
        self.requires_grad = False
        return self

    def clone(self) -> "Self":
        """A copy that gradients flow through."""
        return apply(ops.clone, self)

    def to(self, target: Any = None, dtype: DTypeLike | None = None, **_: Any) -> "Self":
        """This tensor in another type, as in `labels.to("int64")`, or in that of another tensor;
        gradients flow between floats. "cpu" changes nothing: there is no other place."""
        if isinstance(target, TensorBase):
            dtype = target.dtype
        elif isinstance(target, str) and target.split(":")[0] in ("cpu", "cuda", "mps", "xpu"):
            if target.split(":")[0] != "cpu":
                raise ValueError(f'to: there is no device "{target}": tinytorch computes on "cpu".')
        elif target is not None:
            dtype = target
        if dtype is None or np.dtype(dtype) == self.data.dtype:
            return self
        return apply(ops.to, self, dtype=np.dtype(dtype))

    def _real(self) -> "Self":
        """Integers and bools as float32, which functions of real numbers make of them."""
        return self if self.data.dtype.kind == "f" else self.to(float32)

    def _same_type(self, operation: str, other: "TensorBase") -> None:
        if other.dtype != self.dtype:
            raise ValueError(
                f"{operation}: types {self.dtype} and {other.dtype} do not mix: convert one with "
                'to("float32").'
            )

    def requires_grad_(self, requires_grad: bool = True) -> "Self":
        """Let gradients flow to this tensor, or no longer.

        Raises TypeError for other than floats.
        """
        if requires_grad and self.data.dtype.kind != "f":
            raise TypeError(
                f"requires_grad: only floats have gradients, and this tensor holds {self.dtype}."
            )
        if not requires_grad and not self.is_leaf:
            raise RuntimeError("requires_grad_: gradients flow through this tensor: detach() it.")
        self.requires_grad = requires_grad
        return self

    def backward(
        self, gradient: "TensorBase | None" = None, retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:  # fmt: skip
        """Add to `grad` of every leaf below the gradient of this tensor, which holds one number.

        gradient: that of a final result with respect to this tensor, if it holds more. The graph is
        freed on the way unless retain_graph; create_graph makes gradients that have gradients.
        """
        retain = create_graph if retain_graph is None else retain_graph
        _Backward([self._start(gradient, create_graph)], None, retain, create_graph)

    def _start(self, gradient: "TensorBase | None", create_graph: bool) -> "tuple[Self, Any]":
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
            gradient = self._wrap(np.ones_like(self.data))
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

    def register_hook(self, hook: Callable[[Any], Any]) -> Hook:
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
        self._gradients = self._attrs = None
        self._inputs = ()
        if self._before is not None:  # those who used it earlier may still ask for its shape
            self._before.data = np.broadcast_to(self.data.dtype.type(0), self.shape)

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

    def _in_place(self, name: str, compute: "Callable[[Self], Self]") -> "Self":
        """This tensor with the numbers of compute(what it was until now), and their gradient."""
        leave_capture()
        relatives = self._aliases.others(self) if self._aliases and local.recording else []
        self._refuse_leaf(name, relatives)
        before = self._past()
        if local.recording:
            before.data = self.data.copy()  # gradient functions may hold it
        result = compute(before)
        if result.shape != self.shape:
            raise ValueError(f"{name}: shape {result.shape} does not fit into {self.shape}.")
        if RANKS[result.dtype.kind] > RANKS[self.dtype.kind]:
            raise RuntimeError(f"{name}: {result.dtype} does not fit into {self.dtype}.")
        self._write(name, ..., result.data)
        if traced.tracer is not None:
            traced.tracer.changed(self, result)
        if result.requires_grad or (self.requires_grad and local.recording):
            self._become(result.to(self.dtype), before)
        for relative in relatives:
            if relative.requires_grad or self.requires_grad:
                here, there = shared(relative.data, self.data)
                past = relative._past()
                attrs = {"here": here, "there": there}
                if here.size:
                    relative._become(record(ops.overwritten, (past, self), attrs), past)
        return self

    def _write(self, name: str, key: Any, numbers: Array) -> None:
        if not self.data.flags.writeable:
            raise RuntimeError(
                f"{name}: the elements of shape {self.shape} share memory, as after expand, or may "
                "not be changed: clone() it first."
            )
        self.data[key] = numbers
        changed(self.data)

    def _refuse_leaf(self, name: str, relatives: "list[TensorBase]") -> None:
        if local.recording and any(t.requires_grad and t.is_leaf for t in (self, *relatives)):
            raise RuntimeError(
                f"{name}: a leaf that requires a gradient, or a view of it, changes in place only "
                "under no_grad()."
            )

    def _past(self) -> "Self":
        """This tensor as it is now, for those who used it until now."""
        past = self._wrap(self.data)
        for name in HISTORY:
            setattr(past, name, getattr(self, name))
        past._before, past._hooks = self._before, self._hooks
        return past

    def _become(self, result: "TensorBase", before: "TensorBase") -> None:
        for name in HISTORY:
            setattr(self, name, getattr(result, name))
        self._before = before
        self._hooks = None


# What a tensor knows of how it was made.
HISTORY = ("requires_grad", "_sequence_nr", "_operation", "_inputs", "_attrs", "_gradients")


_tensor: type[TensorBase] = TensorBase  # of results: see results_are


# Changes in place.


def _held(thing: Any, seen: set[int]) -> Iterator[Array]:
    """The arrays that a gradient function holds."""
    if isinstance(thing, np.ndarray):
        yield thing
    elif isinstance(thing, TensorBase):
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


def _check_unchanged(t: "TensorBase", sources: "list[TensorBase | None]") -> None:
    """Refuse a gradient that was to be worked out from numbers that are gone."""
    functions: Any = t._gradients
    if not callable(functions):
        functions = [f for f, s in zip(functions, sources, strict=True) if s is not None]
    _refuse_changed(t, _held(functions, set()))


def _refuse_changed(t: "TensorBase", arrays: Iterable[Array]) -> None:
    for array in arrays:
        if changed_since(array, t._sequence_nr):
            raise RuntimeError(
                f"backward: the gradient of {name_of(t)} needs a tensor of shape {array.shape} "
                "that was changed in place since: change a clone() of it."
            )


def _freed(t: "TensorBase") -> RuntimeError:
    return RuntimeError(
        f"backward: the graph behind this {name_of(t)} was freed by an earlier backward: give that "
        "one retain_graph=True."
    )


def name_of(t: "TensorBase") -> str:
    """The name of the operation that made a tensor."""
    return t._operation.__name__ if t._operation else "a leaf"


# Gradients.


def sum_to(gradient: Any, like: Any) -> Any:
    """The gradient of an array that was broadcast: summed where it was stretched.

    gradient: an array, or a Tensor; like: anything with the shape and the dtype of the array.
    """
    shape = like.shape
    if gradient.shape != shape:
        more = len(gradient.shape) - len(shape)
        stretched = [d + more for d, n in enumerate(shape) if n != gradient.shape[d + more]]
        gradient = gradient.sum((*range(more), *stretched)).reshape(shape)
    if gradient.dtype != like.dtype:
        return (gradient.to if isinstance(gradient, TensorBase) else gradient.astype)(like.dtype)
    return gradient


def graph(
    tensors: Sequence[T], oldest: int = 0
) -> "tuple[dict[int, T], dict[int, list[T | None]]]":
    """By number the tensors below these that require gradients, and what each was made from.

    Those with a number below `oldest` are taken as leaves.
    """
    nodes = {t._sequence_nr: t for t in tensors}
    sources: dict[int, list[T | None]] = {}
    stack = list(tensors)
    while stack:
        t = stack.pop()
        found = sources[t._sequence_nr] = []
        for s in t._inputs if t._sequence_nr >= oldest else ():
            while s is not None and s._sequence_nr > t._sequence_nr:
                s = s._before  # it was changed in place since t was made from it
            if s is not None and s.requires_grad and s._sequence_nr not in nodes:
                nodes[s._sequence_nr] = s
                stack.append(s)
            found.append(s)
    return nodes, sources


class _Backward:
    """One walk from results to the tensors that their gradients are wanted for.

    inputs: those tensors; None for all leaves, which then add up their gradients in `grad`.
    oldest: the walk goes through no older tensor.
    """

    def __init__(
        self, roots: "Sequence[tuple[TensorBase, Any]]", inputs: "Sequence[TensorBase] | None",
        retain_graph: bool, create_graph: bool, oldest: int = 0,
    ) -> None:  # fmt: skip
        self.oldest = oldest
        self.inputs = None if inputs is None else {t._sequence_nr for t in inputs}
        self.retain_graph = retain_graph
        self.create_graph = create_graph
        self.found: dict[int, Any] = {}  # gradients of the inputs, by number
        self._given = {id(owner_of(g)) for _, g in roots if isinstance(g, np.ndarray)}
        self._collect([t for t, _ in roots])
        with _Mode(create_graph), np.errstate(all="ignore"):
            self._walk(roots)

    def _collect(self, stack: "list[TensorBase]") -> None:
        """Which tensors lie between the roots and the inputs, and from what each was made."""
        self._nodes, self._sources = graph(stack, self.oldest)
        self._order = sorted(self._nodes)
        wanted = set(self._order)
        nodes = self._nodes.values()
        self.freed = next((t for t in nodes if not t.is_leaf and t._gradients is None), None)
        if self.inputs is not None:
            wanted = set()
            for number in self._order:
                made_from = self._sources[number]
                leads_there = any(s is not None and s._sequence_nr in wanted for s in made_from)
                if leads_there or number in self.inputs:
                    wanted.add(number)
            self._order = [n for n in self._order if n in wanted]
        self._wanted = wanted
        for number in self._order:
            t, sources = self._nodes[number], self._sources[number]
            through = [s if s is not None and s._sequence_nr in wanted else None for s in sources]
            if t.is_leaf or (self.inputs is not None and number in self.inputs and not sources):
                continue  # nothing is wanted of what is below
            if t._gradients is None:
                raise _freed(t)
            if aliasing.last_change > number and any(s is not None for s in through):
                _check_unchanged(t, through)
                if self.create_graph:  # formulas look at the tensors themselves
                    _refuse_changed(t, formulas.needed(t, sources))

    def _walk(self, roots: "Sequence[tuple[TensorBase, Any]]") -> None:
        pending: dict[int, Any] = {}
        for t, g in roots:
            _add(pending, t._sequence_nr, g)
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
                if s is not None and part is not None and s._sequence_nr in self._wanted:
                    _add(pending, s._sequence_nr, sum_to(part, s))

    def _parts(self, t: "TensorBase", sources: "list[TensorBase | None]", g: Any) -> Any:
        """The gradients of what t was made from."""
        functions: Any = t._gradients
        wanted = [s is not None and s._sequence_nr in self._wanted for s in sources]
        if not any(wanted):
            return [None] * len(sources)
        if self.create_graph:
            parts: Any = formulas.gradients(t, sources, g)
        elif callable(functions):
            parts = functions(g)
        else:
            parts = [f(g) if w and f else None for f, w in zip(functions, wanted, strict=True)]
        if not self.retain_graph:
            t._free()
        return parts

    def _hooked(self, t: "TensorBase", g: Any) -> Any:
        for hook in [*t._hooks.values()]:
            given = g if self.create_graph else t._wrap(g)
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

    def _accumulate(self, t: "TensorBase", g: Any) -> None:
        if self.create_graph:
            t.grad = g if t.grad is None else t.grad + g
        elif t.grad is None:
            t.grad = t._wrap(owned(g, self._given))
        else:
            t.grad = t._wrap(t.grad.data + g)


def owned(g: Any, given: set[int]) -> Array:
    """A gradient that nobody else holds, as an array. given: the owners of those given before."""
    g = np.asarray(g)
    owner = owner_of(g)
    if g.flags.writeable and owner.size == g.size and id(owner) not in given:
        given.add(id(owner))
        return g
    return g.copy()


def gradients_between(
    roots: "Sequence[tuple[TensorBase, Any]]", inputs: "Sequence[TensorBase]", oldest: int,
    create_graph: bool = False,
) -> tuple[Any, ...]:  # fmt: skip
    """The gradients of inputs, by a walk through nothing older than `oldest`.

    As arrays; as tensors from gradients that are tensors, if create_graph.
    """
    found = _Backward(roots, inputs, create_graph, create_graph, oldest).found
    return tuple([found.get(t._sequence_nr) for t in inputs])


def _add(pending: dict[int, Any], number: int, g: Any) -> None:
    before = pending.get(number)
    pending[number] = g if before is None else before + g


def grad(
    outputs: "TensorBase | Sequence[TensorBase]", inputs: "TensorBase | Sequence[TensorBase]",
    grad_outputs: "TensorBase | Sequence[TensorBase | None] | None" = None,
    retain_graph: bool | None = None, create_graph: bool = False, allow_unused: bool = False,
) -> "tuple[T | None, ...]":  # fmt: skip
    """The gradients of outputs with respect to inputs, which keep their `grad`.

    grad_outputs: the gradients of a final result with respect to outputs of more than one number.
    create_graph: make gradients that have gradients themselves. None stands for an input that the
    outputs do not depend on, if allow_unused.
    """
    outputs = [outputs] if isinstance(outputs, TensorBase) else list(outputs)
    inputs = [inputs] if isinstance(inputs, TensorBase) else list(inputs)
    if grad_outputs is None or isinstance(grad_outputs, TensorBase):
        grad_outputs = [grad_outputs] * len(outputs)
    for t in inputs:
        if not t.requires_grad:
            raise RuntimeError(f"grad: the input of shape {t.shape} does not require a gradient.")
    roots = [t._start(g, create_graph) for t, g in zip(outputs, grad_outputs, strict=True)]
    retain = create_graph if retain_graph is None else retain_graph
    walk = _Backward(roots, inputs, retain, create_graph)
    gradients = []
    for t in inputs:
        g = walk.found.get(t._sequence_nr)
        if g is None and walk.freed is not None:
            raise _freed(walk.freed)
        if g is None and not allow_unused:
            raise RuntimeError(
                f"grad: the outputs do not depend on the input of shape {t.shape}: "
                "allow_unused=True gives None for it."
            )
        gradients.append(t._wrap(np.array(g)) if isinstance(g, (np.ndarray, np.generic)) else g)
    return tuple(gradients)
