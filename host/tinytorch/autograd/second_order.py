"""The formulas for gradients of gradients, for every operation of tinytorch.ops.

Each stands in the table of formulas.py, beside which numbers it looks at. A slope is for a function
of single numbers: from the result and the input what the gradient is multiplied by. What is made of
other operations (see decompositions) is made again, and the walk goes through those.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch import ops
from tinytorch.autograd import creation, joining, multilinear
from tinytorch.autograd.decompositions import DECOMPOSITIONS
from tinytorch.autograd.formulas import FORMULAS, Formula, Needs
from tinytorch.autograd.methods.elementwise import where
from tinytorch.autograd.tape import apply, grad
from tinytorch.autograd.tensor import Tensor
from tinytorch_core import shapes


def _slope(slope: Callable[..., Any], needs: Needs = Needs.RESULT) -> Formula:
    """The formula of a function of single numbers, from slope(y, a, **attrs)."""
    return Formula(lambda g, y, a, **attrs: (g * slope(y, a, **attrs),), needs)


def _remade(compose: Callable[..., Tensor]) -> Formula:
    """The formula of what is made of other operations: compose(*inputs, **attrs) makes it again."""

    def gradients(g: Tensor, y: Tensor, *inputs: Tensor | None, **attrs: Any) -> list[Any]:
        # Names of our own, at which the walk through the composition ends.
        own = [None if s is None else s.reshape(s.shape) for s in inputs]
        wanted = [s for s in own if s is not None and s.requires_grad]
        again = compose(*own, **attrs)
        found = iter(grad(again, wanted, g, create_graph=True, allow_unused=True))
        return [next(found) if s is not None and s.requires_grad else None for s in own]

    return Formula(gradients)


def _keepdim(g: Tensor, a: Tensor, dims: Any) -> Tensor:
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
    hit = (a == _keepdim(y, a, dims)).to(a.dtype)
    return hit * (_keepdim(g, a, dims) / hit.sum(dims, True))


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


SLOPES: dict[ops.Operation, Formula] = {
    ops.neg: _slope(lambda y, a: -1.0, needs=Needs.NOTHING),
    ops.abs: _slope(lambda y, a: a.sign()),
    ops.exp: _slope(lambda y, a: y),
    ops.expm1: _slope(lambda y, a: y + 1),
    ops.log: _slope(lambda y, a: 1 / a),
    ops.log1p: _slope(lambda y, a: 1 / (a + 1)),
    ops.sqrt: _slope(lambda y, a: 0.5 / y),
    ops.rsqrt: _slope(lambda y, a: y * y * y * -0.5),
    ops.square: _slope(lambda y, a: 2 * a),
    ops.reciprocal: _slope(lambda y, a: -y * y),
    ops.sin: _slope(lambda y, a: a.cos()),
    ops.cos: _slope(lambda y, a: -a.sin()),
    ops.tanh: _slope(lambda y, a: 1 - y * y),
    ops.sigmoid: _slope(lambda y, a: y * (1 - y)),
    ops.relu: _slope(lambda y, a: y > 0),
    ops.clamp: _slope(lambda y, a, low, high: _inside(a, low, high)),
    ops.relu6: _slope(lambda y, a: (y > 0) & (y < 6)),
    ops.leaky_relu: _slope(lambda y, a, negative_slope: where(a > 0, 1.0, negative_slope + 0 * a)),
    ops.hardsigmoid: _slope(lambda y, a: ((a > -3) & (a < 3)) / 6),
    ops.softplus: _slope(
        lambda y, a, beta, threshold: where(a * beta > threshold, 1.0, (a * beta).sigmoid())
    ),
    ops.logsigmoid: _slope(lambda y, a: (-a).sigmoid()),
    ops.normal_cdf: _slope(lambda y, a: (a * a * -0.5).exp() / math.sqrt(2 * math.pi)),
    ops.xlogx: _slope(lambda y, a: a.log() + 1),
    ops.huber: _slope(lambda y, a, delta: a.clamp(-delta, delta)),
    ops.silu: _slope(lambda y, a: a.sigmoid() * (1 + a * (1 - a.sigmoid()))),
    **{
        flat: _slope(lambda y, a, **attrs: 0.0)
        for flat in (ops.sign, ops.floor, ops.ceil, ops.trunc, ops.round)
    },
}

OTHERS: dict[ops.Operation, Formula] = {
    ops.add: Formula(lambda g, y, a, b: (g, g), Needs.NOTHING),
    ops.sub: Formula(lambda g, y, a, b: (g, -g), Needs.NOTHING),
    ops.mul: Formula(lambda g, y, a, b: (g * b, g * a)),
    ops.div: Formula(lambda g, y, a, b: (g / b, -g * (a / b / b))),
    ops.pow: Formula(
        lambda g, y, a, b: (
            where(b == 0, 0.0, g * b * a ** (b - 1)),
            where((a == 0) & (b >= 0), 0.0, g * y * a.log()),
        ),
        Needs.RESULT,
    ),
    ops.remainder: Formula(lambda g, y, a, b: (g, -g * (a // b))),
    ops.floor_divide: Formula(lambda g, y, a, b: (None, None)),
    ops.maximum: Formula(lambda g, y, a, b: (g * _share(a, b), g * _share(b, a))),
    ops.minimum: Formula(lambda g, y, a, b: (g * _share(b, a), g * _share(a, b))),
    ops.where: Formula(
        lambda g, y, condition, a, b: (
            None,
            where(condition, g, 0.0),
            where(condition, 0.0, g),
        ),
        Needs.NOTHING,
    ),
    ops.dropout: Formula(lambda g, y, a, p: (g * _constant(y, 0),), Needs.NOTHING),
    ops.overwritten: Formula(
        lambda g, y, a, b, here, there: (
            g * _constant(y, 0),
            _shared(g, b, here, there),
        ),
        Needs.NOTHING,
    ),
    ops.assign: Formula(lambda g, y, a, b: (None, g), Needs.NOTHING),
    # Shapes.
    ops.clone: Formula(lambda g, y, a: (g,), Needs.NOTHING),
    ops.to: Formula(lambda g, y, a, dtype: (g,), Needs.NOTHING),
    ops.reshape: Formula(lambda g, y, a, shape: (g.reshape(a.shape),), Needs.NOTHING),
    ops.permute: Formula(
        lambda g, y, a, dims: (g.permute([dims.index(d) for d in range(len(dims))]),), Needs.NOTHING
    ),
    ops.expand: Formula(lambda g, y, a, shape: (g,), Needs.NOTHING),
    ops.diagonal: Formula(
        lambda g, y, a, offset, dim1, dim2: (_on_diagonal(g, a.shape, offset, dim1, dim2),),
        Needs.NOTHING,
    ),
    ops.pad: Formula(
        lambda g, y, a, widths, value: (g.pad([-n for w in reversed(widths) for n in w]),),
        Needs.NOTHING,
    ),
    ops.flip: Formula(lambda g, y, a, dims: (g.flip(dims),), Needs.NOTHING),
    ops.roll: Formula(
        lambda g, y, a, shifts, dims: (g.roll([-s for s in shifts], dims),), Needs.NOTHING
    ),
    ops.tril: Formula(lambda g, y, a, diagonal: (g.tril(diagonal),), Needs.NOTHING),
    ops.triu: Formula(lambda g, y, a, diagonal: (g.triu(diagonal),), Needs.NOTHING),
    ops.cat: Formula(
        lambda g, y, *tensors, dim: g.split([t.shape[dim] for t in tensors], dim), Needs.NOTHING
    ),
    # Indices.
    ops.index: Formula(
        lambda g, y, a, *index, key: (
            apply(ops.index_add, g, *index, shape=a.shape, key=key),
            *[None] * len(index),
        ),
        Needs.NOTHING,
    ),
    ops.index_add: Formula(
        lambda g, y, a, *index, shape, key: (
            apply(ops.index, g, *index, key=key),
            *[None] * len(index),
        ),
        Needs.NOTHING,
    ),
    ops.set_index: Formula(
        lambda g, y, a, value, *index, key: (
            apply(ops.set_index, g, Tensor(0.0), *index, key=key),
            apply(ops.index, g, *index, key=key),
            *[None] * len(index),
        ),
        Needs.NOTHING,
    ),
    ops.gather: Formula(
        lambda g, y, a, index, dim: (
            (g.new_zeros(a.shape)).scatter_add(dim, index, g),
            None,
        ),
        Needs.NOTHING,
    ),
    ops.scatter: Formula(
        lambda g, y, a, index, value, dim: (
            g.scatter(dim, index, 0.0),
            None,
            g.gather(dim, index),
        ),
        Needs.NOTHING,
    ),
    ops.scatter_add: Formula(
        lambda g, y, a, index, value, dim: (g, None, g.gather(dim, index)), Needs.NOTHING
    ),
    ops.embedding: Formula(
        lambda g, y, weight, index, padding_idx: (
            apply(
                ops.index_add,
                g if padding_idx is None else g * (index != padding_idx).unsqueeze(-1),
                index,
                shape=weight.shape,
                key=(ops.INDEX,),
            ),
            None,
        )
    ),
    # Reductions.
    ops.sum: Formula(
        lambda g, y, a, dims, keepdim: (_keepdim(g, a, dims).expand(a.shape),), Needs.NOTHING
    ),
    ops.mean: Formula(
        lambda g, y, a, dims, keepdim: ((_keepdim(g, a, dims) / _count(a, dims)).expand(a.shape),),
        Needs.NOTHING,
    ),
    ops.var: Formula(
        lambda g, y, a, dims, correction, keepdim: (
            (a - a.mean(dims, True))
            * (_keepdim(g, a, dims) * 2 / max(_count(a, dims) - correction, 0)),
        )
    ),
    ops.std: Formula(
        lambda g, y, a, dims, correction, keepdim: (
            (a - a.mean(dims, True))
            * (_keepdim(_over(g, y), a, dims) / max(_count(a, dims) - correction, 0)),
        ),
        Needs.RESULT,
    ),
    ops.norm: Formula(
        lambda g, y, a, dims, keepdim: (a * _keepdim(_over(g, y), a, dims),), Needs.RESULT
    ),
    ops.amax: Formula(lambda g, y, a, dims, keepdim: (_among(g, y, a, dims),), Needs.RESULT),
    ops.amin: Formula(lambda g, y, a, dims, keepdim: (_among(g, y, a, dims),), Needs.RESULT),
    ops.cumsum: Formula(lambda g, y, a, dim: (g.flip(dim).cumsum(dim).flip(dim),), Needs.NOTHING),
    ops.logsumexp: Formula(
        lambda g, y, a, dims, keepdim: (_keepdim(g, a, dims) * (a - _keepdim(y, a, dims)).exp(),),
        Needs.RESULT,
    ),
    ops.softmax: Formula(lambda g, y, a, dim: (y * (g - (g * y).sum(dim, True)),), Needs.RESULT),
    ops.log_softmax: Formula(lambda g, y, a, dim: (g - y.exp() * g.sum(dim, True),), Needs.RESULT),
    # Products.
    ops.matmul: Formula(lambda g, y, a, b: (g @ b.mT, a.mT @ g)),
    ops.einsum: Formula(
        lambda g, y, *tensors, inputs, output: [
            _through_einsum(g, i, tensors, inputs, output) for i in range(len(tensors))
        ]
    ),
    ops.linear: Formula(
        lambda g, y, x, weight, bias: (
            g @ weight,
            g.reshape(-1, weight.shape[0]).T @ x.reshape(-1, weight.shape[1]),
            g.reshape(-1, weight.shape[0]).sum(0),
        )
    ),
    ops.conv: Formula(
        lambda g, y, x, weight, bias, **window: (
            *multilinear.gradients(g, x, weight, None, of=ops.conv, attrs=window)[:2],
            g.sum((0, *range(2, g.ndim))),
        )
    ),
    **{
        linear: Formula(
            lambda g, y, x, linear=linear, **attrs: multilinear.gradients(
                g, x, of=linear, attrs=attrs
            )
        )
        for linear in (ops.avg_pool, ops.adaptive_avg_pool)
    },
    multilinear.gradient: Formula(multilinear.gradients_of_gradient),
}

FORMULAS.update({operation: _remade(compose) for operation, compose in DECOMPOSITIONS.items()})
FORMULAS.update(SLOPES | OTHERS)
