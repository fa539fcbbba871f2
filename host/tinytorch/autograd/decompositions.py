"""Layers' operations, each as it is made of smaller ones: how second_order knows the gradients
of their gradients. The functions take what the operations take, as Tensors."""

import math
from collections.abc import Callable

import numpy as np

from tinytorch import ops
from tinytorch.autograd import creation, joining
from tinytorch.autograd.methods.elementwise import where
from tinytorch.autograd.tape import apply
from tinytorch.autograd.tensor import Tensor
from tinytorch.ops.array import Operation
from tinytorch_core import shapes


def _gelu(a: Tensor, *, approximate: str) -> Tensor:
    if approximate == "tanh":
        return a * ((a * a * 0.044715 + 1) * a * math.sqrt(8 / math.pi)).sigmoid()
    return a * apply(ops.normal_cdf, a)


def _normalize(a: Tensor, *, dim: int, eps: float) -> Tensor:
    return a / a.norm(2, dim, True).clamp(min=eps)


def _binary_cross_entropy(p: Tensor, target: Tensor) -> Tensor:
    return (target - 1) * (1 - p).log().clamp(min=-100) - target * p.log().clamp(min=-100)


def _prod(a: Tensor, *, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    """One factor after the other: without division, for there may be zeros."""
    rest = [d for d in range(a.ndim) if d not in dims]
    count = shapes.size([a.shape[d] for d in dims])
    rows = a.permute(*rest, *dims).reshape(*[a.shape[d] for d in rest], count)
    y = creation.ones(rows.shape[:-1], dtype=a.dtype)
    for factor in rows.unbind(-1):
        y = y * factor
    return y.reshape(shapes.reduced(a.shape, dims, keepdim))


def _cumprod(a: Tensor, *, dim: int) -> Tensor:
    """Of each place the product of a row in which what comes later is one: of zeros too."""
    rows = a.movedim(dim, -1).unsqueeze(-2)
    n = a.shape[dim]
    later = creation.ones(n, n, dtype=bool).triu(1)
    return where(later, creation.ones_like(rows), rows).prod(-1).movedim(-1, dim)


def _nll_loss(
    x: Tensor, target: Tensor, weight: Tensor | None, *, reduction: str, ignore_index: int
) -> Tensor:
    counted = target != ignore_index
    labels = target.masked_fill(~counted, 0)
    share = counted.to(x.dtype) if weight is None else counted * weight[labels]
    losses = -x.gather(1, labels.unsqueeze(1)).squeeze(1) * share
    if reduction == "none":
        return losses
    return losses.sum() / share.sum() if reduction == "mean" else losses.sum()


def _cross_entropy(
    x: Tensor, target: Tensor, weight: Tensor | None, *, reduction: str, ignore_index: int,
    label_smoothing: float,
) -> Tensor:  # fmt: skip
    logs = x.log_softmax(1)
    counted = target != ignore_index
    labels = target.masked_fill(~counted, 0)
    share = counted.to(x.dtype) if weight is None else counted * weight[labels]
    losses = -logs.gather(1, labels.unsqueeze(1)).squeeze(1) * share
    if label_smoothing:
        even = -(logs if weight is None else logs * weight).sum(1) * counted
        losses = losses * (1 - label_smoothing) + even * (label_smoothing / x.shape[1])
    if reduction == "none":
        return losses
    return losses.sum() / share.sum() if reduction == "mean" else losses.sum()


# Images.


def _max_pool(
    x: Tensor, *, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]
) -> Tensor:
    """The maximum of each window is picked by its place, the first of equals."""
    out = shapes.pool("max_pool", x.shape, kernel, stride, padding)
    padded = x.pad([n for p in reversed(padding) for n in (p, p)], -math.inf)
    places = np.arange(shapes.size(padded.shape[2:])).reshape(padded.shape[2:])
    windows = np.lib.stride_tricks.sliding_window_view(places, kernel)
    windows = windows[tuple([slice(None, n * s, s) for n, s in zip(out[2:], stride, strict=True)])]
    windows = windows.reshape(-1, shapes.size(kernel))
    pixels = padded.flatten(2)[:, :, Tensor(windows)]
    return pixels.gather(3, pixels.argmax(3, True)).reshape(out)


def _batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None,
    running_var: Tensor | None, count: Tensor | None, *, training: bool, momentum: float | None,
    eps: float,
) -> Tensor:  # fmt: skip
    row = (1, -1, *[1] * (x.ndim - 2))
    if training or running_mean is None or running_var is None:
        batch = (0, *range(2, x.ndim))
        mean, var = x.mean(batch, True), x.var(batch, True, correction=0)
    else:
        mean, var = running_mean.reshape(row), running_var.reshape(row)
    y = (x - mean) * (var + eps).rsqrt()
    y = y if weight is None else y * weight.reshape(row)
    return y if bias is None else y + bias.reshape(row)


def _layer_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, *, dims: int, eps: float
) -> Tensor:
    last = tuple(range(-dims, 0))
    y = (x - x.mean(last, True)) * (x.var(last, True, correction=0) + eps).rsqrt()
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


# Sequences.


def _attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, scale: float, causal: bool
) -> Tensor:
    """A query that may attend to nothing has scores and weights of zero, not of NaN."""
    scores = q @ k.mT * scale
    if causal:
        later = creation.ones(scores.shape[-2:], dtype=bool).triu(1)
        scores = scores.masked_fill(later, -math.inf)
    if mask is None:
        return scores.softmax(-1) @ v
    if mask.is_floating_point():
        scores = scores + mask
    else:
        scores = where(mask, scores, creation.full_like(scores, -math.inf))
    lost = (scores == -math.inf).all(-1, True)
    return scores.masked_fill(lost, 0.0).softmax(-1).masked_fill(lost, 0.0) @ v


def _self_attention(
    x: Tensor, mask: Tensor | None, *, heads: int, causal: bool, batch_first: bool
) -> Tensor:
    a, b, width = x.shape
    parts = x.reshape(a, b, 3, heads, width // 3 // heads)
    q, k, v = parts.permute((2, 0, 3, 1, 4) if batch_first else (2, 1, 3, 0, 4)).unbind(0)
    y = _attention(q, k, v, mask, scale=q.shape[-1] ** -0.5, causal=causal)
    y = y.permute((0, 2, 1, 3) if batch_first else (2, 0, 1, 3))
    return y.reshape(a, b, width // 3)


def _times(x: Tensor, reverse: bool) -> list[Tensor]:
    times = list(x.unbind(0))
    return times[::-1] if reverse else times


def _rnn(
    x: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None, *, nonlinearity: str, reverse: bool
) -> Tensor:
    states = []
    for now in _times(x, reverse):
        sums = now + h.linear(weight, bias)
        h = sums.tanh() if nonlinearity == "tanh" else sums.relu()
        states.append(h)
    return joining.stack(states[::-1] if reverse else states)


def _gru(x: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None, *, reverse: bool) -> Tensor:
    states = []
    for now in _times(x, reverse):
        (of_r, of_z, of_n), (r, z, n) = now.chunk(3, -1), h.linear(weight, bias).chunk(3, -1)
        n = (of_n + (of_r + r).sigmoid() * n).tanh()
        h = n + (of_z + z).sigmoid() * (h - n)
        states.append(h)
    return joining.stack(states[::-1] if reverse else states)


def _lstm(
    x: Tensor, h: Tensor, c: Tensor, weight: Tensor, bias: Tensor | None, *, reverse: bool
) -> Tensor:
    states = []
    for now in _times(x, reverse):
        i, f, n, o = (now + h.linear(weight, bias)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * n.tanh()
        h = o.sigmoid() * c.tanh()
        states.append(h)
    return joining.stack([*(states[::-1] if reverse else states), c])


DECOMPOSITIONS: dict[Operation, Callable[..., Tensor]] = {
    ops.prod: _prod,
    ops.cumprod: _cumprod,
    ops.elu: lambda a, alpha: where(a > 0, a, alpha * a.clamp(max=0.0).expm1()),
    ops.hardswish: lambda a: a * a.hardsigmoid(),
    ops.gelu: _gelu,
    ops.normalize: _normalize,
    ops.binary_cross_entropy: _binary_cross_entropy,
    ops.nll_loss: _nll_loss,
    ops.cross_entropy: _cross_entropy,
    ops.max_pool: _max_pool,
    ops.batch_norm: _batch_norm,
    ops.layer_norm: _layer_norm,
    ops.attention: _attention,
    ops.self_attention: _self_attention,
    ops.rnn: _rnn,
    ops.gru: _gru,
    ops.lstm: _lstm,
}
