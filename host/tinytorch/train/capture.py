"""A training step that is traced once and then replayed.

The first step with batches of some shape runs on the tape, and a *recording* of it is kept: which
operation on which inputs. In the steps after it the net's own Python runs again, but without
arithmetic: it is handed tensors whose numbers are still to come. As long as it asks for the
operations of the recording, in their order and on the same inputs, nothing is computed; at the end
the whole step is replayed from the flat list, without a tape and with each ReLU fused into the
layer before it. When it asks for anything else, or looks at a number, what it has asked for so far
is done on the tape and the step goes on there. So the user's code runs exactly once a step, control
flow may change at any time, and the numbers are the same to the bit: both ways call the same
operations on the same arrays.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from tinytorch import ops
from tinytorch.autograd import tape
from tinytorch.autograd.aliasing import sequence_nr
from tinytorch.autograd.tensor import Tensor
from tinytorch.autograd.tracing import tracing
from tinytorch.ops.array import Array
from tinytorch_core.nn import Module

Loss = Callable[[Any, Tensor], Tensor]

_FUSED = (ops.linear, ops.conv, ops.batch_norm)  # they take relu=True
_MAX_RECORDINGS = 16  # batch shapes that are kept; more of them run on the tape
_MAX_FAILED = 8  # recordings of one shape that may turn out wrong before it stays on the tape


class Pending(NDArrayOperatorsMixin):
    """An array whose numbers are still to come: its shape and type are known.

    Whoever looks at the numbers gets them: the step is then no longer followed but computed.
    """

    __slots__ = ("_of", "dtype", "shape", "strides")
    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: int(np.prod(self.shape)))

    def __init__(self, of: "Deferred", like: "Outline") -> None:
        self._of = of
        self.shape = like.shape
        self.dtype = like.dtype
        self.strides = like.strides

    def _real(self) -> Array:
        if self._of.data is self:
            self._of.owner.leave()
        return self._of.data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        return self._real()[key]

    def __iter__(self) -> Any:
        return iter(self._real())

    def __bool__(self) -> bool:
        return bool(self._real())

    def __float__(self) -> float:
        return float(self._real())

    def __int__(self) -> int:
        return int(self._real())

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return np.array(self._real(), dtype, copy=copy)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **attrs: Any) -> Any:
        return getattr(ufunc, method)(*map(_real, inputs), **attrs)

    def __array_function__(self, function: Any, types: Any, args: Any, attrs: Any) -> Any:
        return function(*_real(args), **_real(attrs))


def _real(x: Any) -> Any:
    """The same arguments with the numbers in them."""
    if isinstance(x, Pending):
        return x._real()
    if isinstance(x, (list, tuple)):
        return type(x)(map(_real, x))
    if isinstance(x, dict):
        return {name: _real(value) for name, value in x.items()}
    return x


class Deferred(Tensor):
    """A result of a step that is being followed. owner: the follower."""

    __slots__ = ("owner", "slot")
    data: Any  # a Pending, until the step is computed

    def __init__(self, owner: "Follower", call: "Call") -> None:
        self.owner = owner
        self.slot = call.out
        self.data = Pending(self, call.like)
        self.requires_grad = call.tracked
        self.grad = self._aliases = self._operation = self._attrs = self._gradients = None
        self._inputs = ()
        self._sequence_nr = next(sequence_nr)

    def _leave(self) -> None:
        if isinstance(self.data, Pending):
            self.owner.leave()

    def backward(self, *args: Any, **attrs: Any) -> None:
        """Leave the capture, and walk back on the tape."""
        self._leave()
        if not self._inputs:
            raise RuntimeError("backward: this step was captured: call backward of its Step.")
        super().backward(*args, **attrs)

    def detach(self) -> Any:
        """Leave the capture: the numbers are asked for."""
        self._leave()
        return super().detach()


@dataclass(frozen=True, slots=True)
class Outline:
    """What an array is like, numbers apart."""

    shape: tuple[int, ...]
    dtype: np.dtype
    strides: tuple[int, ...]

    @staticmethod
    def of(a: Array) -> "Outline":
        """The outline of an array."""
        return Outline(a.shape, a.dtype, a.strides)

    def fits(self, a: Array) -> bool:
        """Whether an array is like this one."""
        return a.shape == self.shape and a.dtype == self.dtype and a.strides == self.strides


@dataclass(frozen=True, slots=True)
class Outside:
    """A tensor that the step did not make: parameter, buffer, batch, constant.

    parameter: the tensor itself where it gets a gradient; else any other may bring the numbers.
    """

    parameter: Tensor | None
    like: Outline


@dataclass(frozen=True, slots=True)
class Call:
    """An operation of a recording. inputs, out: slots; slot 0 holds None.

    enabled: whether gradients were recorded then; tracked: whether the result has one; wanted: the
    inputs that it is for, as (position, slot, outline).
    """

    operation: ops.Operation
    inputs: tuple[int, ...]
    attrs: dict[str, Any]
    out: int
    like: Outline
    enabled: bool
    tracked: bool
    wanted: tuple[tuple[int, int, Outline], ...]


class Recording:
    """Traces a step on the tape, and writes it down."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.outside: dict[int, Outside] = {}
        self.complete = True
        self._slots: dict[int, int] = {id(None): 0}
        self._alive: list[Tensor] = []  # so that no id is used twice

    def __call__(
        self, operation: ops.Operation, inputs: tuple[Tensor | None, ...], attrs: dict[str, Any]
    ) -> Tensor:
        result = tape.record(operation, inputs, attrs)
        slots = tuple([self._slot(t) for t in inputs])
        out = self._new(result)
        wanted = tuple([
            (i, slot, Outline.of(t.data))
            for i, (t, slot) in enumerate(zip(inputs, slots, strict=True))
            if t is not None and t.requires_grad
        ])  # fmt: skip
        self.calls.append(
            Call(
                operation, slots, attrs, out, Outline.of(result.data),
                tape.is_grad_enabled(), result.requires_grad, wanted,
            )
        )  # fmt: skip
        return result

    def _new(self, t: Tensor) -> int:
        self._alive.append(t)
        self._slots[id(t)] = len(self._slots)
        return self._slots[id(t)]

    def _slot(self, t: Tensor | None) -> int:
        if id(t) not in self._slots:
            assert t is not None
            if t.requires_grad and not t.is_leaf:
                self.complete = False  # gradients flow on into what an earlier step made
            tensor = t if t.requires_grad else None
            self.outside[self._new(t)] = Outside(tensor, Outline.of(t.data))
        return self._slots[id(t)]

    def leave(self) -> None:
        """What changes tensors in place stays on the tape."""
        self.complete = False

    def changed(self, tensor: Tensor, result: Tensor) -> None:
        """The tape knows."""

    def finish(self, loss: Tensor) -> "StepPlan | None":
        """The plan to replay, unless this step cannot be replayed."""
        slot = self._slots.get(id(loss), 0)
        known = slot and slot not in self.outside and loss.data.size == 1 and loss.requires_grad
        return StepPlan(self, slot) if known and self.complete else None


class StepPlan:
    """A recording made ready: which calls a step replays, and where its gradients go."""

    def __init__(self, recording: Recording, loss: int) -> None:
        self.calls = recording.calls
        self.outside = recording.outside
        self.loss = loss
        self.loss_like = next(call.like for call in self.calls if call.out == loss)
        self.size = 1 + len(recording._alive)
        self.fused, self.absorbed = self._fuse()

    def _fuse(self) -> tuple[list[Call], list[int]]:
        """The calls with each ReLU inside the layer before it, and those whose result so vanishes.

        The latter by their places among all calls.
        """
        uses: dict[int, int] = {}
        for call in self.calls:
            for slot in call.inputs:
                uses[slot] = uses.get(slot, 0) + 1
        made: dict[int, tuple[int, int]] = {}  # by slot, places in calls and among all
        calls: list[Call] = []
        absorbed = []
        for place, call in enumerate(self.calls):
            found = made.get(call.inputs[0]) if call.operation is ops.relu else None
            if found is not None and uses[call.inputs[0]] == 1:
                before, of_all = found
                layer = calls[before]
                absorbed.append(of_all)
                attrs = {**layer.attrs, "relu": True}
                calls[before] = replace(layer, attrs=attrs, out=call.out, like=call.like)
                continue
            if call.operation in _FUSED:
                made[call.out] = len(calls), place
            calls.append(call)
        return calls, absorbed


def _references(things: list[Any], place: int) -> int:
    """How many there are to one of a list, its own and the call's included."""
    return sys.getrefcount(things[place])


class Follower:
    """Goes through a plan with the net's Python, then replays it, forward and backward."""

    def __init__(self, plan: StepPlan) -> None:
        self.plan = plan
        self.left = False
        self._made: list[Deferred] = []
        self._bound: dict[int, Tensor | None] = {0: None}
        self._calls = iter(plan.calls)

    def __call__(
        self, operation: ops.Operation, inputs: tuple[Tensor | None, ...], attrs: dict[str, Any]
    ) -> Tensor:
        if self.left:
            return tape.record(operation, inputs, attrs)
        call = next(self._calls, None)
        if call is None or not self._same(call, operation, inputs, attrs):
            self.leave()
            return tape.record(operation, inputs, attrs)
        result = Deferred(self, call)
        self._made.append(result)
        return result

    def _same(
        self, call: Call, operation: ops.Operation, inputs: tuple[Tensor | None, ...],
        attrs: dict[str, Any],
    ) -> bool:  # fmt: skip
        if (
            call.operation is not operation
            or len(call.inputs) != len(inputs)
            or call.enabled != tape.local.recording
            or call.attrs != attrs
        ):
            return False
        bound = self._bound
        for slot, t in zip(call.inputs, inputs):  # noqa: B905 (as many)
            if type(t) is Deferred:
                if t.slot != slot or t.owner is not self:
                    return False
            elif slot in bound:
                if bound[slot] is not t:
                    return False
            elif not self._bind(slot, t):
                return False
        return True

    def _bind(self, slot: int, t: Tensor | None) -> bool:
        """Take a tensor from outside for this step, if it is one like that of the recording."""
        known = self.plan.outside.get(slot)
        if known is None or t is None or not known.like.fits(t.data):
            return False
        if (t if t.requires_grad else None) is not known.parameter:
            return False
        self._bound[slot] = t
        return True

    def changed(self, tensor: Tensor, result: Tensor) -> None:
        """The tape knows."""

    def leave(self) -> None:
        """Do what was asked for so far on the tape, and let the step go on there."""
        if self.left:
            return
        self.left = True
        tensors: dict[int, Tensor | None] = dict(self._bound)
        for call, result in zip(self.plan.calls, self._made, strict=False):
            with tape.set_grad_enabled(call.enabled):
                real = tape.record(
                    call.operation, tuple([tensors[s] for s in call.inputs]), call.attrs
                )
            for name in _STATE:
                setattr(result, name, getattr(real, name))
            tensors[call.out] = result

    def forward(self, loss: Tensor) -> bool:
        """Replay the plan if it was followed to its end; False if the step ran on the tape."""
        plan = self.plan
        if self.left:
            return False
        if len(self._made) < len(plan.calls) or getattr(loss, "slot", 0) != plan.loss:
            self.leave()
            return False
        # Who still holds a result that fusing would leave out gets the plain calls instead.
        held = any(_references(self._made, i) > _UNHELD for i in plan.absorbed)
        self._program = plan.calls if held else plan.fused
        values: list[Any] = [None] * plan.size
        for slot, t in self._bound.items():
            values[slot] = None if t is None else t.data
        self._gradients = []
        for call in self._program:
            data, gradients = call.operation(*[values[s] for s in call.inputs], **call.attrs)
            if data.dtype != call.like.dtype:
                data = data.astype(call.like.dtype)
            values[call.out] = data
            self._gradients.append(gradients if call.tracked else None)
        for d in self._made:
            d.data = values[d.slot]
        self._made.clear()
        return True

    def backward(self, scale: float) -> None:
        """Add the gradients to `grad` of the parameters, in the tape's order."""
        plan = self.plan
        pending: list[Any] = [None] * plan.size
        pending[plan.loss] = np.full(plan.loss_like.shape, scale, plan.loss_like.dtype)
        for call in reversed(self._program):
            gradients: Any = self._gradients.pop()
            g = pending[call.out]
            if g is None or gradients is None:
                continue
            pending[call.out] = None
            parts = gradients(g) if callable(gradients) else None
            for i, slot, like in call.wanted:
                part = gradients[i](g) if parts is None else parts[i]
                part = tape.sum_to(part, like)
                before = pending[slot]
                pending[slot] = part if before is None else before + part
        given: set[int] = set()
        for slot, known in plan.outside.items():
            g, t = pending[slot], known.parameter
            if g is not None and t is not None:
                t.grad = Tensor(tape.owned(g, given) if t.grad is None else t.grad.data + g)


_STATE = ("data", *tape.HISTORY)
_UNHELD = _references([object()], 0) + 1  # and its Pending's


class Step:
    """A training step of a net: forward, loss, backward. capture: replay it where that is possible.

    loss: from the net's outputs and the targets, a single number.
    """

    def __init__(self, net: Module, loss: Loss, capture: bool = True) -> None:
        self.net = net
        self.loss = loss
        self.capture = capture
        self.replayed = 0  # steps that were
        self._plans: dict[Any, StepPlan | None] = {}
        self._failed: dict[Any, int] = {}
        self._result: Any = None  # of the last forward: a Follower, or the loss

    def forward(self, inputs: Tensor, targets: Tensor) -> tuple[Any, Tensor]:
        """The net's outputs and the loss, ready to be read."""
        self._result = None  # its arrays may be used again
        key = (inputs.shape, inputs.dtype, targets.shape, targets.dtype, self.net.training)
        plan = self._plans.get(key)
        tracer = Follower(plan) if plan else Recording() if self._worth(key) else None
        with tracing(tracer):
            outputs = self.net(inputs)
            loss = self.loss(outputs, targets)
            replayed = isinstance(tracer, Follower) and tracer.forward(loss)
        self._result = tracer if replayed else loss
        self.replayed += replayed
        if not replayed:
            self._plans[key] = tracer.finish(loss) if isinstance(tracer, Recording) else None
            self._failed[key] = self._failed.get(key, 0) + (self._plans[key] is None)
        return outputs, loss

    def _worth(self, key: Any) -> bool:
        """Whether to record a step with such batches."""
        few = key in self._plans or len(self._plans) < _MAX_RECORDINGS
        return self.capture and few and self._failed.get(key, 0) < _MAX_FAILED

    def backward(self, scale: float = 1.0) -> None:
        """Add `scale` times the gradients of the last loss to `grad` of the parameters."""
        result, self._result = self._result, None
        if result is None:
            raise RuntimeError("backward: call forward first, once for each backward.")
        if isinstance(result, Follower):
            with np.errstate(all="ignore"):  # as on the tape
                result.backward(scale)
        else:
            result.backward(Tensor(np.full_like(result.data, scale)))
