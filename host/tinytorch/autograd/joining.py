"""Functions of several tensors: joined, brought to one shape, multiplied by einsum, compared."""

import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch import ops
from tinytorch.autograd.methods.elementwise import promoted
from tinytorch.autograd.tape import apply
from tinytorch.autograd.tensor import Tensor
from tinytorch_core import shapes


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors one after the other along a dimension that exists."""
    if not len(tensors):
        raise ValueError("cat: there are no tensors.")
    first = tensors[0].shape
    dim = shapes.axis("cat", dim, len(first))
    for t in tensors:
        if t.shape[:dim] + t.shape[dim + 1 :] != first[:dim] + first[dim + 1 :] or t.ndim != len(
            first
        ):
            raise ValueError(f"cat: shapes {first} and {t.shape} differ beside dimension {dim}.")
    if any(t.dtype != tensors[0].dtype for t in tensors):
        tensors = promoted(*tensors)
    return apply(ops.cat, *tensors, dim=dim)


concat = concatenate = cat


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape along a new dimension."""
    if not len(tensors):
        raise ValueError("stack: there are no tensors.")
    for t in tensors:
        if t.shape != tensors[0].shape:
            raise ValueError(f"stack: shapes {tensors[0].shape} and {t.shape} differ.")
    return cat([t.unsqueeze(dim) for t in tensors], dim)


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Views of the tensors in the one shape that all of them broadcast to."""
    shape: tuple[int, ...] = ()
    for t in tensors:
        shape = shapes.broadcast("broadcast_tensors", shape, t.shape)
    return tuple([t.expand(shape) for t in tensors])


def einsum(equation: str, *tensors: Any) -> Tensor:
    """Sums of products by Einstein's convention: "bij,bjk->bik"; ... stands for more dimensions.

    Without an arrow the output has the letters that occur once, in the alphabet's order.
    """
    operands = list(tensors[0] if isinstance(tensors[0], (list, tuple)) else tensors)
    left, arrow, output = equation.replace(" ", "").partition("->")
    inputs = left.split(",")
    if len(inputs) != len(operands):
        raise ValueError(
            f'einsum: "{equation}" names {len(inputs)} tensors, and {len(operands)} are given.'
        )
    if not arrow:
        once = sorted(c for c in set(left) if c.isalpha() and left.count(c) == 1)
        output = ("..." if "..." in left else "") + "".join(once)
    free = [c for c in string.ascii_letters if c not in equation]
    more = max(
        [
            t.ndim - len(n.replace("...", ""))
            for n, t in zip(inputs, operands, strict=True)
            if "..." in n
        ],
        default=0,
    )
    dots = "".join(free[: max(more, 0)])
    lengths: dict[str, int] = {}
    for i, (letters, t) in enumerate(zip(inputs, operands, strict=True)):
        own = t.ndim - len(letters.replace("...", ""))
        inputs[i] = letters = letters.replace("...", dots[len(dots) - own :] if own > 0 else "")
        if len(letters) != t.ndim or not set(letters) <= set(string.ascii_letters):
            raise ValueError(f'einsum: "{equation}" does not fit shape {t.shape}.')
        for c, n in zip(letters, t.shape, strict=True):
            if lengths.setdefault(c, n) not in (n, 1) and n != 1:
                raise ValueError(
                    f'einsum: "{equation}" with shapes {[o.shape for o in operands]}: '
                    f"{c} is both {lengths[c]} and {n}."
                )
            lengths[c] = max(lengths[c], n) if n != 1 else lengths[c]
    output = output.replace("...", dots)
    if len(set(output)) < len(output) or not set(output) <= set(lengths):
        raise ValueError(
            f'einsum: the output of "{equation}" has a letter twice, or one of no input.'
        )
    for i, (letters, t) in enumerate(zip(inputs, operands, strict=True)):
        wanted = tuple([lengths[c] for c in letters])
        operands[i] = t if t.shape == wanted else t.expand(wanted)
    if any(t.dtype != operands[0].dtype for t in operands):
        operands = list(promoted(*operands))
    return apply(ops.einsum, *operands, inputs=tuple(inputs), output=output)


def allclose(
    a: Tensor, b: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether abs(a - b) <= atol + rtol * abs(b) everywhere."""
    return bool(np.allclose(a.data, b.data, rtol, atol, equal_nan))


def equal(a: Tensor, b: Tensor) -> bool:
    """Whether shapes and all numbers are equal."""
    return bool(np.array_equal(a.data, b.data))


def meshgrid(*tensors: Tensor, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Vectors as the coordinates of a grid: "ij" (the first along dimension 0) or "xy"."""
    if indexing == "xy" and len(tensors) > 1:
        a, b, *rest = meshgrid(tensors[1], tensors[0], *tensors[2:])
        return (b, a, *rest)
    n = len(tensors)
    parts = [t.reshape([1] * i + [-1] + [1] * (n - 1 - i)) for i, t in enumerate(tensors)]
    return broadcast_tensors(*parts)
