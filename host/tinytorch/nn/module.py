"""Module and Parameter on the laptop's Tensor."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tinytorch.autograd.tape import Hook
from tinytorch.autograd.tensor import Tensor
from tinytorch_core import nn as core


class Parameter(Tensor):
    """A Tensor that a Module lists among its parameters, and that is trained."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad)


class Module(core.Module):
    """A network or a part of one: set parameters and modules as attributes, write `forward`."""

    Tensor = Tensor  # type: ignore[assignment]
    Parameter = Parameter  # type: ignore[assignment]

    _pre_hooks: dict[Hook, Callable[..., Any]] | None = None  # made when the first one comes
    _hooks: dict[Hook, Callable[..., Any]] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._pre_hooks:
            for hook in [*self._pre_hooks.values()]:
                new = hook(self, args)
                if new is not None:
                    args = new if isinstance(new, tuple) else (new,)
        result = self.forward(*args, **kwargs)
        if self._hooks:
            for hook in [*self._hooks.values()]:
                new = hook(self, args, result)
                result = result if new is None else new
        return result

    def register_forward_pre_hook(self, hook: Callable[["Module", Any], Any]) -> Hook:
        """Call hook(module, args) before each forward; what it returns takes the place of args."""
        if self._pre_hooks is None:
            self._pre_hooks = {}
        return Hook(self._pre_hooks, hook)

    def register_forward_hook(self, hook: Callable[["Module", Any, Any], Any]) -> Hook:
        """Call hook(module, args, result) after each forward; it may return another result."""
        if self._hooks is None:
            self._hooks = {}
        return Hook(self._hooks, hook)

    def to(self, *targets: "DTypeLike | str", dtype: DTypeLike | None = None) -> "Module":
        """Change the type of all floats: float32, or float64 for checks; "cpu" changes nothing.

        Raises ValueError for another device, or what is no type of floats.
        """
        types = [t for t in (*targets, dtype) if t is not None and str(t) != "cpu"]
        for target in types:
            if _kind(target) != "f":
                raise ValueError(f'to: {target!r} is neither a type of floats nor "cpu".')
            for _, tensor, _ in self._named(("_parameters", "_buffers")):
                if tensor.data.dtype.kind == "f":
                    tensor.data = tensor.data.astype(target, copy=False)
        return self

    def cpu(self) -> "Module":
        """There is no other place."""
        return self

    def float(self) -> "Module":
        """All floats as float32."""
        return self.to(np.float32)

    def double(self) -> "Module":
        """All floats as float64."""
        return self.to(np.float64)

    def requires_grad_(self, requires_grad: bool = True) -> "Module":
        """Freeze (False) or train again (True) all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or set them to zero."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    def _counter(self) -> Any:
        return Tensor(np.zeros((), np.int64))


def _kind(target: Any) -> str:
    """Of a type: "f" for floats, "" for what is no type."""
    try:
        return np.dtype(target).kind
    except TypeError:
        return ""
