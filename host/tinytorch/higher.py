"""Gradients that have gradients themselves (create_graph=True): formulas in terms of Tensors.

SLOPES are for functions of single numbers: from the result and the input what the gradient is
multiplied by. FORMULAS are for all else: from the gradient, the result and the inputs the gradient
of each input; as in tinytorch.ops one of a broadcast input may have the result's shape. PARTS are
operations that are made of others, whose gradients are known: the walk goes through those.
"""

from collections.abc import Callable
from typing import Any

from tinytorch import activations, autograd, kernels, ops
from tinytorch.autograd import Tensor, apply, where
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
    activations.relu6: lambda y, a: (y > 0) & (y < 6),
    activations.leaky_relu: lambda y, a, negative_slope: where(a > 0, 1.0, negative_slope + 0 * a),
    activations.hardsigmoid: lambda y, a: ((a > -3) & (a < 3)) / 6,
    activations.softplus: lambda y, a, beta, threshold: where(
        a * beta > threshold, 1.0, (a * beta).sigmoid()
    ),
    activations.logsigmoid: lambda y, a: (-a).sigmoid(),
    activations.silu: lambda y, a: a.sigmoid() * (1 + a * (1 - a.sigmoid())),
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
    kernels.embedding: lambda g, y, weight, index, padding_idx: (
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
    kernels.softmax: lambda g, y, a, dim: (y * (g - (g * y).sum(dim, True)),),
    kernels.log_softmax: lambda g, y, a, dim: (g - y.exp() * g.sum(dim, True),),
    # Products.
    ops.matmul: lambda g, y, a, b: (g @ b.mT, a.mT @ g),
    ops.einsum: lambda g, y, *tensors, inputs, output: [
        _through_einsum(g, i, tensors, inputs, output) for i in range(len(tensors))
    ],
    kernels.linear: lambda g, y, x, weight, bias: (
        g @ weight,
        g.reshape(-1, weight.shape[0]).T @ x.reshape(-1, weight.shape[1]),
        g.reshape(-1, weight.shape[0]).sum(0),
    ),
}  # fmt: skip


def _layer_norm(x: Tensor, weight: Any, bias: Any, *, dims: int, eps: float) -> Tensor:
    last = tuple(range(-dims, 0))
    y = (x - x.mean(last, True)) * (x.var(last, True, correction=0) + eps).rsqrt()
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Any, *, scale: float, causal: bool) -> Tensor:
    scores = q @ k.mT * scale
    if causal:
        future = autograd.ones(scores.shape[-2:], dtype=bool).triu(1)
        scores = scores.masked_fill(future, -float("inf"))
    if mask is not None:
        scores = (
            scores + mask if mask.is_floating_point() else scores.masked_fill(~mask, -float("inf"))
        )
    return scores.softmax(-1).nan_to_num() @ v


def _cross_entropy(
    x: Tensor, target: Tensor, weight: Any, *, reduction: str, ignore_index: int,
    label_smoothing: float,
) -> Tensor:  # fmt: skip
    logs = x.log_softmax(1)
    counted = target != ignore_index
    labels = target.masked_fill(~counted, 0)
    share = counted.to(x.dtype) if weight is None else counted * weight[labels]
    loss = -logs.gather(1, labels.unsqueeze(1)).squeeze(1) * share
    if label_smoothing:
        even = logs if weight is None else logs * weight
        even = -even.sum(1) * counted * (label_smoothing / x.shape[1])
        loss = loss * (1 - label_smoothing) + even
    if reduction == "none":
        return loss
    return loss.sum() / share.sum() if reduction == "mean" else loss.sum()


PARTS: dict[ops.Operation, Callable[..., Tensor]] = {
    ops.prod: lambda a, dims, keepdim: _product(a, dims, keepdim),
    activations.elu: lambda a, alpha: where(a > 0, a, alpha * a.clamp(max=0.0).expm1()),
    activations.hardswish: lambda a: a * a.hardsigmoid(),
    kernels.layer_norm: _layer_norm,
    kernels.attention: _attention,
    kernels.cross_entropy: _cross_entropy,
}


def gradients(t: Tensor, inputs: "list[Tensor | None]", g: Tensor) -> Any:
    """The gradients of what t was made from. Raises RuntimeError if there is no formula."""
    operation: Any = t._operation
    settings = t._settings or {}
    if operation in SLOPES:
        return (g * SLOPES[operation](t, *inputs, **settings),)
    if operation in FORMULAS:
        return FORMULAS[operation](g, t, *inputs, **settings)
    if operation in PARTS:
        # Names of our own, at which the walk through the parts ends.
        own = [None if s is None else s.reshape(s.shape) for s in inputs]
        y = PARTS[operation](*own, **settings)
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


def _inside(a: Tensor, low: Any, high: Any) -> Any:
    above = True if low is None else a >= low
    return above if high is None else (a <= high) & above


def _share(a: Tensor, b: Tensor) -> Tensor:
    """What of the gradient of maximum(a, b) is that of a."""
    return (a > b) + (a == b) * 0.5


def _among(g: Tensor, y: Tensor, a: Tensor, dims: Any) -> Tensor:
    hit = (a == _kept(y, a, dims)).to(a.dtype)
    return hit * (_kept(g, a, dims) / hit.sum(dims, True))


def _product(a: Tensor, dims: Any, keepdim: bool) -> Tensor:
    rest = [d for d in range(a.ndim) if d not in dims]
    rows = a.permute(*rest, *dims).reshape(*[a.shape[d] for d in rest], _count(a, dims))
    y = autograd.ones(rows.shape[:-1], dtype=a.dtype)
    for part in rows.unbind(-1):
        y = y * part
    return y.reshape(shapes.reduced(a.shape, dims, keepdim))


def _through_einsum(g: Tensor, i: int, tensors: Any, inputs: Any, output: str) -> Tensor:
    letters, shape = inputs[i], tensors[i].shape
    others = [(t, n) for j, (t, n) in enumerate(zip(tensors, inputs, strict=True)) if j != i]
    seen = set(output).union(*[n for _, n in others])
    once = "".join(dict.fromkeys(letters))
    equation = (
        ",".join([output, *[n for _, n in others]]) + "->" + "".join(c for c in once if c in seen)
    )
    part = autograd.einsum(equation, g, *[t for t, _ in others])
    lengths = dict(zip(letters, shape, strict=True))
    part = part.reshape([lengths[c] if c in seen else 1 for c in once])
    part = part.expand([lengths[c] for c in once])
    if once == letters:
        return part
    places = [  # of the diagonal
        autograd.arange(lengths[c]).reshape([-1 if d == c else 1 for d in once]) for c in letters
    ]
    return apply(ops.index_add, part, *places, shape=shape, key=(ops.INDEX,) * len(shape))


def _on_diagonal(g: Tensor, shape: Any, offset: int, dim1: int, dim2: int) -> Tensor:
    n = g.shape[-1]
    rows, columns = autograd.arange(n) + max(-offset, 0), autograd.arange(n) + max(offset, 0)
    order = [d for d in range(len(shape)) if d not in (dim1, dim2)] + [dim1, dim2]
    total = apply(
        ops.index_add, g, rows, columns, shape=tuple([shape[d] for d in order]),
        key=(slice(None),) * (len(shape) - 2) + (ops.INDEX, ops.INDEX),
    )  # fmt: skip
    return total.permute([order.index(d) for d in range(len(shape))])
