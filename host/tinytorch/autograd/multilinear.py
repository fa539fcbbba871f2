"""The gradients of operations that are linear in each of their arrays, as an operation themselves.

Of y = f(a, b) with the gradient g, the gradient of a is linear in g and in b. So its own gradients
are f, with another array in the place of a, and the gradients of f: derivatives of any order need
no more than f and what stands beside it.
"""

from typing import Any

from tinytorch.autograd.tape import apply
from tinytorch.autograd.tensor import Tensor
from tinytorch.ops.array import Array, Operation, Result


def gradient(
    g: Array, *arrays: Array | None, of: Operation, place: int, attrs: dict[str, Any]
) -> Result:
    """The gradient of arrays[place], of which only the shape counts, from that of the result."""
    of_arrays: Any = of(*arrays, **attrs)[1]
    y = of_arrays(g)[place] if callable(of_arrays) else of_arrays[place](g)

    def gradients(h: Array) -> tuple[Array | None, ...]:
        result, of_others = of(*_with(h, place, arrays), **attrs)
        parts = of_others(g) if callable(of_others) else [f and f(g) for f in of_others]
        return result, *[None if i == place else part for i, part in enumerate(parts)]

    return y, gradients


def _with(h: Any, place: int, inputs: Any) -> list[Any]:
    return [h if i == place else a for i, a in enumerate(inputs)]


def gradients(
    g: Tensor, *inputs: Tensor | None, of: Operation, attrs: dict[str, Any]
) -> list[Tensor | None]:
    """The gradients of those inputs that require one."""
    return [
        apply(gradient, g, *inputs, of=of, place=i, attrs=attrs)
        if a is not None and a.requires_grad
        else None
        for i, a in enumerate(inputs)
    ]


def gradients_of_gradient(
    h: Tensor, _: Tensor, g: Tensor, *inputs: Tensor | None,
    of: Operation, place: int, attrs: dict[str, Any],
) -> list[Tensor | None]:  # fmt: skip
    """The formula for `gradient` among those of second_order."""
    swapped = _with(h, place, inputs)
    parts = gradients(g, *swapped, of=of, attrs=attrs)
    return [apply(of, *swapped, **attrs), *_with(None, place, parts)]
