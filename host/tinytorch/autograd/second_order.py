"""Gradients that have gradients themselves (create_graph=True): formulas in terms of Tensors.

SLOPES are for functions of single numbers: from the result and the input what the gradient is
multiplied by. FORMULAS are for all else: from the gradient, the result and the inputs the gradient
of each input; as in tinytorch.ops one of a broadcast input may have the result's shape. What is
made of other operations (see decompositions) is made again, and the walk goes through those.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch import ops
from tinytorch.autograd import creation, joining, multilinear
from tinytorch.autograd import tensor as autograd
from tinytorch.autograd.decompositions import COMPOSITIONS, below
from tinytorch.autograd.tensor import Tensor, apply, where
from tinytorch.ops.array import Array
from tinytorch.utils.checkpoint import checkpointed
from tinytorch_core import shapes

SLOPES: dict[ops.Operation, Callable[..., Any]] = {
    ops.neg: lambda y, a: -1.0,
    ops.abs: lambda y, a: a.sign(),
    ops.exp: lambda y, a: y,
    ops.expm1: lambda y, a: y + 1,
    ops.log: lambda y, a: 1 / a,
    ops.log1p: lambda y, a: 1 / (a + 1),
    ops.sqrt: lambda y, a: 0.5 / y,
    ops.rsqrt: lambda y, a: y * y * y * -0.5,
    ops.square: lambda y, a: 2 * a,
    ops.reciprocal: lambda y, a: -y * y,
    ops.sin: lambda y, a: a.cos(),
    ops.cos: lambda y, a: -a.sin(),
    ops.tanh: lambda y, a: 1 - y * y,
    ops.sigmoid: lambda y, a: y * (1 - y),
    ops.relu: lambda y, a: y > 0,
    ops.clamp: lambda y, a, low, high: _inside(a, low, high),
    ops.relu6: lambda y, a: (y > 0) & (y < 6),
    ops.leaky_relu: lambda y, a, negative_slope: where(a > 0, 1.0, negative_slope + 0 * a),
    ops.hardsigmoid: lambda y, a: ((a > -3) & (a < 3)) / 6,
    ops.softplus: lambda y, a, beta, threshold: where(
        a * beta > threshold, 1.0, (a * beta).sigmoid()
    ),
    ops.logsigmoid: lambda y, a: (-a).sigmoid(),
    below: lambda y, a: (a * a * -0.5).exp() / math.sqrt(2 * math.pi),
    ops.xlogx: lambda y, a: a.log() + 1,
    ops.huber: lambda y, a, delta: a.clamp(-delta, delta),
    ops.silu: lambda y, a: a.sigmoid() * (1 + a * (1 - a.sigmoid())),
    **{
        flat: lambda y, a, **settings: 0.0
        for flat in (ops.sign, ops.floor, ops.ceil, ops.trunc, ops.round)
    },
}

FORMULAS: dict[ops.Operation, Callable[..., Any]] = {
    ops.add: lambda g, y, a, b: (g, g),
    ops.sub: lambda g, y, a, b: (g, -g),
    ops.mul: lambda g, y, a, b: (g * b, g * a),
    ops.div: lambda g, y, a, b: (g / b, -g * (a / b / b)),
    ops.pow: lambda g, y, a, b: (
        where(b == 0, 0.0, g * b * a ** (b - 1)),
        where((a == 0) & (b >= 0), 0.0, g * y * a.log()),
    ),
    ops.remainder: lambda g, y, a, b: (g, -g * (a // b)),
    ops.floor_divide: lambda g, y, a, b: (None, None),
    ops.maximum: lambda g, y, a, b: (g * _share(a, b), g * _share(b, a)),
    ops.minimum: lambda g, y, a, b: (g * _share(b, a), g * _share(a, b)),
    ops.where: lambda g, y, condition, a, b: (
        None, where(condition, g, 0.0), where(condition, 0.0, g),
    ),
    ops.dropout: lambda g, y, a, p: (g * _constant(y, 0),),
    ops.overwritten: lambda g, y, a, b, here, there: (
        g * _constant(y, 0), _shared(g, b, here, there),
    ),
    ops.assign: lambda g, y, a, b: (None, g),
    # Shapes.
    ops.clone: lambda g, y, a: (g,),
    ops.to: lambda g, y, a, dtype: (g,),
    ops.reshape: lambda g, y, a, shape: (g.reshape(a.shape),),
    ops.permute: lambda g, y, a, dims: (g.permute([dims.index(d) for d in range(len(dims))]),),
    ops.expand: lambda g, y, a, shape: (g,),
    ops.diagonal: lambda g, y, a, offset, dim1, dim2: (
        _on_diagonal(g, a.shape, offset, dim1, dim2),
    ),
    ops.pad: lambda g, y, a, widths, value: (g.pad([-n for w in reversed(widths) for n in w]),),
    ops.flip: lambda g, y, a, dims: (g.flip(dims),),
    ops.roll: lambda g, y, a, shifts, dims: (g.roll([-s for s in shifts], dims),),
    ops.tril: lambda g, y, a, diagonal: (g.tril(diagonal),),
    ops.triu: lambda g, y, a, diagonal: (g.triu(diagonal),),
    ops.cat: lambda g, y, *tensors, dim: g.split([t.shape[dim] for t in tensors], dim),
    # Indices.
    ops.index: lambda g, y, a, *index, key: (
        apply(ops.index_add, g, *index, shape=a.shape, key=key), *[None] * len(index),
    ),
    ops.index_add: lambda g, y, a, *index, shape, key: (
        apply(ops.index, g, *index, key=key), *[None] * len(index),
    ),
    ops.set_index: lambda g, y, a, value, *index, key: (
        apply(ops.set_index, g, Tensor(0.0), *index, key=key),
        apply(ops.index, g, *index, key=key), *[None] * len(index),
    ),
    ops.gather: lambda g, y, a, index, dim: (
        (g.new_zeros(a.shape)).scatter_add(dim, index, g), None,
    ),
    ops.scatter: lambda g, y, a, index, value, dim: (
        g.scatter(dim, index, 0.0), None, g.gather(dim, index),
    ),
    ops.scatter_add: lambda g, y, a, index, value, dim: (g, None, g.gather(dim, index)),
    ops.embedding: lambda g, y, weight, index, padding_idx: (
        apply(
            ops.index_add,
            g if padding_idx is None else g * (index != padding_idx).unsqueeze(-1),
            index, shape=weight.shape, key=(ops.INDEX,),
        ), None,
    ),
    # Reductions.
    ops.sum: lambda g, y, a, dims, keepdim: (_kept(g, a, dims).expand(a.shape),),
    ops.mean: lambda g, y, a, dims, keepdim: (
        (_kept(g, a, dims) / _count(a, dims)).expand(a.shape),
    ),
    ops.var: lambda g, y, a, dims, correction, keepdim: (
        (a - a.mean(dims, True)) * (_kept(g, a, dims) * 2 / max(_count(a, dims) - correction, 0)),
    ),
    ops.std: lambda g, y, a, dims, correction, keepdim: (
        (a - a.mean(dims, True))
        * (_kept(_over(g, y), a, dims) / max(_count(a, dims) - correction, 0)),
    ),
    ops.norm: lambda g, y, a, dims, keepdim: (a * _kept(_over(g, y), a, dims),),
    ops.amax: lambda g, y, a, dims, keepdim: (_among(g, y, a, dims),),
    ops.amin: lambda g, y, a, dims, keepdim: (_among(g, y, a, dims),),
    ops.cumsum: lambda g, y, a, dim: (g.flip(dim).cumsum(dim).flip(dim),),
    ops.logsumexp: lambda g, y, a, dims, keepdim: (
        _kept(g, a, dims) * (a - _kept(y, a, dims)).exp(),
    ),
    ops.softmax: lambda g, y, a, dim: (y * (g - (g * y).sum(dim, True)),),
    ops.log_softmax: lambda g, y, a, dim: (g - y.exp() * g.sum(dim, True),),
    # Products.
    ops.matmul: lambda g, y, a, b: (g @ b.mT, a.mT @ g),
    ops.einsum: lambda g, y, *tensors, inputs, output: [
        _through_einsum(g, i, tensors, inputs, output) for i in range(len(tensors))
    ],
    ops.linear: lambda g, y, x, weight, bias: (
        g @ weight,
        g.reshape(-1, weight.shape[0]).T @ x.reshape(-1, weight.shape[1]),
        g.reshape(-1, weight.shape[0]).sum(0),
    ),
    ops.conv: lambda g, y, x, weight, bias, **window: (
        *multilinear.gradients(g, x, weight, None, of=ops.conv, settings=window)[:2],
        g.sum((0, *range(2, g.ndim))),
    ),
    **{
        linear: lambda g, y, x, linear=linear, **settings: (
            multilinear.gradients(g, x, of=linear, settings=settings)
        )
        for linear in (ops.avg_pool, ops.adaptive_avg_pool)
    },
    multilinear.gradient: multilinear.gradients_of_gradient,
    checkpointed: lambda g, y, *sources, flat, back: back(g, create_graph=True),
}  # fmt: skip

# Formulas that look at no numbers but those that the operation's own gradients hold, and formulas
# that look at those of the result as well.
_BLIND = frozenset((
    ops.neg, ops.add, ops.sub, ops.where, ops.assign, ops.overwritten, ops.dropout,
    ops.clone, ops.to, ops.reshape, ops.permute, ops.expand, ops.diagonal, ops.pad, ops.flip,
    ops.roll, ops.tril, ops.triu, ops.cat,
    ops.index, ops.index_add, ops.set_index, ops.gather, ops.scatter, ops.scatter_add,
    ops.sum, ops.mean, ops.cumsum,
))  # fmt: skip
_OF_RESULT = frozenset((
    *SLOPES, ops.pow, ops.std, ops.norm, ops.amax, ops.amin, ops.logsumexp, ops.softmax,
    ops.log_softmax,
))  # fmt: skip


def needed(t: Tensor, inputs: "list[Tensor | None]") -> list[Array]:
    """What the formula looks at: it must not have been changed in place since."""
    if t._operation in _BLIND:
        return []
    tensors = [t, *inputs] if t._operation in _OF_RESULT else inputs
    return [s.data for s in tensors if s is not None]


def gradients(t: Tensor, inputs: "list[Tensor | None]", g: Tensor) -> Any:
    """The gradients of what t was made from. Raises RuntimeError if there is no formula."""
    operation: Any = t._operation
    settings = t._settings or {}
    if operation in SLOPES:
        return (g * SLOPES[operation](t, *inputs, **settings),)
    if operation in FORMULAS:
        return FORMULAS[operation](g, t, *inputs, **settings)
    if operation in COMPOSITIONS:
        # Names of our own, at which the walk through the composition ends.
        own = [None if s is None else s.reshape(s.shape) for s in inputs]
        y = COMPOSITIONS[operation](*own, **settings)
        wanted = [s for s in own if s is not None and s.requires_grad]
        found = iter(autograd.grad(y, wanted, g, create_graph=True, allow_unused=True))
        return [next(found) if s is not None and s.requires_grad else None for s in own]
    raise RuntimeError(
        f"create_graph: the gradient of {operation.__name__} has no gradient itself: call backward "
        "without create_graph."
    )


def _kept(g: Tensor, a: Tensor, dims: Any) -> Tensor:
    """A reduced tensor with the reduced dimensions of a as ones."""
    return g.reshape(shapes.reduced(a.shape, dims, True))


def _count(a: Tensor, dims: Any) -> int:
    return shapes.size([a.shape[d] for d in dims])


def _over(g: Tensor, y: Tensor) -> Tensor:
    """g / y, and no slope where y is zero."""
    zero = y == 0
    return where(zero, 0.0, g / where(zero, 1.0, y))


def _constant(y: Any, place: int) -> Tensor:
    """What the gradient of that input is multiplied by, where that does not depend on it."""
    return Tensor(y._gradients[place](np.ones_like(y.data)))


def _shared(g: Tensor, b: Tensor, here: Any, there: Any) -> Tensor:
    """Of the gradient of what was overwritten that of b, which shared some of its memory."""
    flat = g.new_zeros((b.numel(),))
    return flat.scatter_add(0, Tensor(there), g.flatten()[Tensor(here)]).reshape(b.shape)


def _inside(a: Tensor, low: Any, high: Any) -> Any:
    above = True if low is None else a >= low
    return above if high is None else (a <= high) & above


def _share(a: Tensor, b: Tensor) -> Tensor:
    """What of the gradient of maximum(a, b) is that of a."""
    return (a > b) + (a == b) * 0.5


def _among(g: Tensor, y: Tensor, a: Tensor, dims: Any) -> Tensor:
    hit = (a == _kept(y, a, dims)).to(a.dtype)
    return hit * (_kept(g, a, dims) / hit.sum(dims, True))


def _through_einsum(g: Tensor, i: int, tensors: Any, inputs: Any, output: str) -> Tensor:
    letters, shape = inputs[i], tensors[i].shape
    others = [(t, n) for j, (t, n) in enumerate(zip(tensors, inputs, strict=True)) if j != i]
    seen = set(output).union(*[n for _, n in others])
    once = "".join(dict.fromkeys(letters))
    equation = (
        ",".join([output, *[n for _, n in others]]) + "->" + "".join(c for c in once if c in seen)
    )
    part = joining.einsum(equation, g, *[t for t, _ in others])
    lengths = dict(zip(letters, shape, strict=True))
    part = part.reshape([lengths[c] if c in seen else 1 for c in once])
    part = part.expand([lengths[c] for c in once])
    if once == letters:
        return part
    places = [  # of the diagonal
        creation.arange(lengths[c]).reshape([-1 if d == c else 1 for d in once]) for c in letters
    ]
    return apply(ops.index_add, part, *places, shape=shape, key=(ops.INDEX,) * len(shape))


def _on_diagonal(g: Tensor, shape: Any, offset: int, dim1: int, dim2: int) -> Tensor:
    n = g.shape[-1]
    rows, columns = creation.arange(n) + max(-offset, 0), creation.arange(n) + max(offset, 0)
    order = [d for d in range(len(shape)) if d not in (dim1, dim2)] + [dim1, dim2]
    total = apply(
        ops.index_add, g, rows, columns, shape=tuple([shape[d] for d in order]),
        key=(slice(None),) * (len(shape) - 2) + (ops.INDEX, ops.INDEX),
    )  # fmt: skip
    return total.permute([order.index(d) for d in range(len(shape))])
