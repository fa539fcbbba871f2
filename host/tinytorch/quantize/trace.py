"""What a net computes, followed once: its operations, from its input to its output."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch import ops
from tinytorch.autograd.tape import no_grad, record
from tinytorch.autograd.tensor import Tensor, tensors_in
from tinytorch.autograd.tracing import ModuleTracker, tracing
from tinytorch_core.nn import Module


@dataclass(frozen=True)
class Call:
    """An operation on something that depends on the net's input.

    where: its layer by its path in the net and its type, or what the operation is called in a
    `forward` that puts layers together. inputs: numbers of values, or constants. value: its
    result's number; `shape` is the result's.
    """

    where: str
    operation: ops.Operation
    inputs: "tuple[int | NDArray[Any] | None, ...]"
    attrs: dict[str, Any]
    value: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Trace:
    """The calls that the output depends on, in their order. Value 0 is the net's input."""

    calls: list[Call]
    output: int
    readers: Counter[int]  # of each value, the output's own reader included


def trace(net: Module, shape: Sequence[int]) -> Trace:
    """Run a net on one made-up input (1, *shape), in evaluation, and note what it computes.

    Raises ValueError for a net that cannot be followed, with the layer's name.
    """
    dtype = next((p.data.dtype for p in net.parameters()), np.dtype(np.float32))
    x = np.random.default_rng(0).uniform(-1, 1, (1, *shape)).astype(dtype)
    tracer = _Tracer(net, x)
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with no_grad(), tracer, tracing(tracer):
            outputs = [*tensors_in(net(Tensor(x)))]
    except TypeError as error:
        raise ValueError(f"The network does not run on one input {x.shape}: {error}") from None
    finally:
        for module, mode in modes:
            module.training = mode
    if len(outputs) != 1:
        raise ValueError(f"The network gives {len(outputs)} outputs: a kit runs nets with one.")
    output = tracer.value(outputs[0])
    if not isinstance(output, int):
        raise ValueError(
            "The network's output does not come from its input by operations that can be followed: "
            "compute with Tensors all the way."
        )
    return _needed(tracer.calls, output)


def _needed(calls: Sequence[Call], output: int) -> Trace:
    readers: Counter[int] = Counter([output])
    needed = []
    for call in reversed(calls):
        if call.value in readers:
            needed.append(call)
            readers.update(n for n in call.inputs if isinstance(n, int))
    return Trace(needed[::-1], output, readers)


def _is_layer(module: Module) -> bool:
    return not any(True for _ in module.children())


class _Tracer(ModuleTracker):
    def __init__(self, net: Module, x: NDArray[Any]) -> None:
        super().__init__(net)
        self.calls: list[Call] = []
        self._arrays = [x]  # of values; kept, so that no other array gets the id of one
        self._values = {id(x): 0}
        self._lost: set[int] = set()  # ids of arrays that were changed through another tensor

    def value(self, t: Tensor) -> "int | NDArray[Any]":
        """A value's number, or the numbers of what does not depend on the input.

        Raises ValueError for a tensor that was changed through another one.
        """
        if id(t.data) in self._lost:
            raise ValueError(
                f"Layer {self._where('forward')} reads a tensor that was changed in place through "
                "another one, which shares its memory: change a clone()."
            )
        return self._values.get(id(t.data), t.data)

    def _tracked(self, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        module = self.modules[path]

        def named(*args: Any, **kwargs: Any) -> Any:
            try:
                return forward(*args, **kwargs)
            except (ValueError, TypeError) as error:
                if not _is_layer(module):
                    raise
                name = f"{path} {type(module).__name__}".strip()
                raise ValueError(f"Layer {name} does not take its input: {error}") from None

        return super()._tracked(path, named)

    def _where(self, operation: str) -> str:
        path = self.path or ""
        module = self.modules[path]
        return f"{path} {type(module).__name__ if _is_layer(module) else operation}".strip()

    def __call__(
        self, operation: ops.Operation, inputs: "tuple[Tensor | None, ...]", attrs: dict[str, Any]
    ) -> Tensor:
        where = self._where(operation.__name__)
        values = tuple([None if t is None else self.value(t) for t in inputs])
        result = record(operation, inputs, attrs)
        if any(isinstance(value, int) for value in values):
            number = len(self.calls) + 1
            self.calls.append(Call(where, operation, values, attrs, number, result.shape))
            self._values[id(result.data)] = number
            self._arrays.append(result.data)
        return result

    def leave(self) -> None:
        """Changes in place are followed, see `changed`."""

    def changed(self, tensor: Tensor, result: Tensor) -> None:
        """From now on the tensor's array holds another value; those that share its memory are
        lost."""
        array = tensor.data
        value = self.value(result)
        for other in self._arrays:
            if (
                other is not array
                and other is not result.data
                and np.may_share_memory(other, array)
            ):
                self._lost.add(id(other))
        if isinstance(value, int):
            self._values[id(array)] = value
            self._arrays.append(array)
        elif self._values.pop(id(array), None) is not None:
            self._arrays.append(array)  # its id is not given away
