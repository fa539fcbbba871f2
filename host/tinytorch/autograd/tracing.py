"""Tracers: whoever follows which operations a net asks for, and in which of its modules.

Captured training steps, the ONNX export and the profile trace a net's own Python: they see every
operation before it runs and say what it gives.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from tinytorch.ops.array import Operation
from tinytorch_core.nn import Module

T = TypeVar("T")  # the Tensor, which stands above this file


class Tracer(Protocol[T]):
    """Is called in the place of each operation, and gives its result.

    `record` of the tape runs the operation as it would have run.
    """

    def __call__(
        self, operation: Operation, inputs: "tuple[T | None, ...]", attrs: dict[str, Any]
    ) -> T:
        """The result of operation(*arrays of inputs, **attrs), as a tensor."""

    def leave(self) -> None:
        """What comes now is no operation, such as a change in place: it cannot be traced."""

    def changed(self, tensor: T, result: T) -> None:
        """After `leave`: a tensor has taken over the numbers of an operation's result."""


class _Local(threading.local):
    """Each thread traces for itself: the workers of a DataLoader compute beside a training."""

    tracer: Tracer[Any] | None = None


local = _Local()


@contextmanager
def tracing(tracer: Tracer[Any] | None) -> Iterator[None]:
    """Within it this thread's operations go to the tracer; None runs them untraced.

    The innermost tracer alone sees an operation; the one before it is back at the end.
    """
    before = local.tracer
    local.tracer = tracer
    try:
        yield
    finally:
        local.tracer = before


class ModuleTracker:
    """Knows which module of a net is running. Within `with tracker:` it follows their `forward`s.

    path: the dotted name of the innermost one, as in `named_modules` ("features.3.conv"): "" is the
    net itself, None is outside of it. A module that stands in several places has the first name.

    A tracer may be one as well: then `self.path` is where each operation comes from.
    """

    def __init__(self, net: Module) -> None:
        self.modules: dict[str, Module] = dict(net.named_modules())
        self.path: str | None = None
        self._own: dict[str, Any] = {}  # forwards that were set on a module itself

    def __enter__(self) -> None:
        for path, module in self.modules.items():
            own = vars(module)
            if "forward" in own:
                self._own[path] = own["forward"]
            own["forward"] = self._tracked(path, module.forward)

    def __exit__(self, *error: object) -> None:
        for path, module in self.modules.items():
            del vars(module)["forward"]
            if path in self._own:
                vars(module)["forward"] = self._own.pop(path)

    def _tracked(self, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def tracked(*args: Any, **kwargs: Any) -> Any:
            outer = self.path
            self.enter(path)
            try:
                result = forward(*args, **kwargs)
            finally:
                self.enter(outer)
            self.returned(path, result)
            return result

        return tracked

    def enter(self, path: str | None) -> None:
        """Another module runs now: one that was called, or the one that goes on after it."""
        self.path = path

    def returned(self, path: str, result: Any) -> None:
        """The module of this path has given its result."""
