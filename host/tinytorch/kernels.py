"""The layers' heavy operations, on numpy: the same protocol as in tinytorch.ops.

Signals and images are channels-last inside: an array of shape (N, C, H, W) may lie in memory as
(N, H, W, C), and what comes out of a layer here does.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch.ops import Array, Gradient, Result
from tinytorch_core import shapes


def softmax(a: Array, *, dim: int) -> Result:
    e = np.exp(a - a.max(dim, keepdims=True))  # shifted, so that exp cannot overflow
    y = e / e.sum(dim, keepdims=True)
    return y, (lambda g: y * (g - (g * y).sum(dim, keepdims=True)),)


def log_softmax(a: Array, *, dim: int) -> Result:
    shifted = a - a.max(dim, keepdims=True)
    y = shifted - np.log(np.exp(shifted).sum(dim, keepdims=True))
    return y, (lambda g: g - np.exp(y) * g.sum(dim, keepdims=True),)


def cross_entropy(
    x: Array,
    target: Array,
    weight: Array | None,
    *,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
) -> Result:
    """-log softmax(x)[target] of each row: x (N, C) and target (N,) ints -> a number, or (N,).

    weight (C,) counts the classes; rows of the class ignore_index count nothing; label_smoothing
    spreads that part of each row's probability evenly (Szegedy et al., 2016). reduction "mean"
    divides the "sum" by the weights of the rows' classes; "none" leaves the rows apart.
    """
    logs, _ = log_softmax(x, dim=1)
    counted = target != ignore_index
    labels = np.where(counted, target, 0)
    _check_range("cross_entropy", "class", labels, x.shape[1])
    rows = np.arange(len(x))
    share = counted.astype(x.dtype)  # of each row
    if weight is not None:
        share *= weight[labels]
    y = -logs[rows, labels] * share * (1 - label_smoothing)
    even = counted[:, None] * np.full(x.shape[1], label_smoothing / x.shape[1], x.dtype)
    if weight is not None:
        even *= weight
    if label_smoothing:
        y -= (even * logs).sum(1)
    total = share.sum() if reduction == "mean" else x.dtype.type(1)
    if reduction != "none":
        with np.errstate(invalid="ignore"):  # the mean of nothing is NaN
            y = np.asarray(y.sum() / total)

    def of_x(g: Array) -> Array:
        wanted = even.copy()
        wanted[rows, labels] += (1 - label_smoothing) * share
        p = np.exp(logs) * wanted.sum(1, keepdims=True) - wanted
        return p * (g / total).reshape(-1, 1)

    return y, (of_x, None, None)


def _check_range(operation: str, what: str, numbers: Array, end: int) -> None:
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < end:
        outside = numbers[(numbers < 0) | (numbers >= end)][0]
        raise ValueError(f"{operation}: {what} {outside} is not one of 0 to {end - 1}.")


def linear(x: Array, weight: Array, bias: Array | None, *, relu: bool = False) -> Result:
    """x (..., in) @ weight (out, in) transposed + bias (out,) -> (..., out)."""
    rows = x.reshape(-1, x.shape[-1])
    y = rows @ weight.T
    if bias is not None:
        y += bias
    if relu:
        np.maximum(y, 0, out=y)
    seen = _seen(y if relu else None)

    def of_x(g: Array) -> Array:
        return (seen(g).reshape(y.shape) @ weight).reshape(x.shape)

    def of_weight(g: Array) -> Array:
        return seen(g).reshape(y.shape).T @ rows

    def of_bias(g: Array) -> Array:
        return seen(g).reshape(y.shape).sum(0)

    return y.reshape(*x.shape[:-1], -1), (of_x, of_weight, of_bias)


def layer_norm(
    x: Array, weight: Array | None, bias: Array | None, *, dims: int, eps: float
) -> Result:
    """x normalised over its last `dims` dimensions, then scaled and shifted (Ba et al., 2016)."""
    rows = x.reshape(-1, shapes.size(x.shape[x.ndim - dims :]))
    normal = rows - rows.mean(1, keepdims=True)
    inverse = 1 / np.sqrt((normal * normal).mean(1, keepdims=True) + np.asarray(eps, x.dtype))
    normal *= inverse
    y = normal if weight is None else normal * weight.reshape(-1)
    if bias is not None:
        y = y + bias.reshape(-1)

    def gradients(g: Array) -> tuple[Array | None, ...]:
        g = g.reshape(rows.shape)
        of_weight = None if weight is None else (g * normal).sum(0).reshape(weight.shape)
        of_bias = None if bias is None else g.sum(0).reshape(bias.shape)
        if weight is not None:
            g = g * weight.reshape(-1)
        of_x = g - g.mean(1, keepdims=True) - normal * (g * normal).mean(1, keepdims=True)
        return (of_x * inverse).reshape(x.shape), of_weight, of_bias

    return y.reshape(x.shape), gradients


def attention(
    q: Array, k: Array, v: Array, mask: Array | None, *, scale: float, causal: bool
) -> Result:
    """softmax(q kT scale) v: q (..., L, d), k (..., S, d), v (..., S, dv) -> (..., L, dv).

    mask, broadcastable to (..., L, S): bools, True where a query may attend, or floats to add.
    causal: a query attends to no later key. A query without a key gets NaN, as in PyTorch.
    (Vaswani et al., 2017.)
    """
    scores = q @ k.swapaxes(-1, -2)
    scores *= np.asarray(scale, q.dtype)
    if causal:
        scores[..., np.tri(*scores.shape[-2:]) == 0] = -np.inf
    if mask is not None and mask.dtype == bool:
        np.copyto(scores, -np.inf, where=~mask)
    elif mask is not None:
        scores = scores + mask
    p, _ = softmax(scores, dim=-1)

    def gradients(g: Array) -> tuple[Array | None, ...]:
        raw = g @ v.swapaxes(-1, -2)
        raw = p * (raw - (raw * p).sum(-1, keepdims=True))
        of_mask = None if mask is None or mask.dtype == bool else raw
        raw = raw * np.asarray(scale, q.dtype)
        return raw @ k, raw.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ g, of_mask

    return p @ v, gradients


def embedding(weight: Array, index: Array) -> Result:
    """The rows of weight (num, d) at index, ints of any shape -> (*index.shape, d)."""

    _check_range("embedding", "index", index, len(weight))

    def of_weight(g: Array) -> Array:
        total = np.zeros_like(weight)
        np.add.at(total, index, g)
        return total

    return weight[index], (of_weight, None)


def _seen(y: Array | None) -> Gradient:
    """What of a gradient passes through the ReLU that made y, kept for all who ask; None: all."""
    if y is None:
        return lambda g: g
    last: list[Array] = []

    def seen(g: Array) -> Array:
        if not last or last[0] is not g:
            last[:] = g, g * (y > 0).reshape(g.shape)
        return last[1]

    return seen


def _padded(x: Array, padding: Sequence[int], value: float = 0) -> Array:
    if not any(padding):
        return x
    return np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)), constant_values=value)


def _taps(
    kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], out: Sequence[int]
) -> list[tuple[Any, ...]]:
    """For each weight of a kernel: the index of the inputs that it meets, one for each output."""
    sides = [
        [slice(k * d, k * d + s * (n - 1) + 1, s) for k in range(size)]
        for size, s, d, n in zip(kernel, stride, dilation, out, strict=True)
    ]
    return [(..., *tap) for tap in itertools.product(*sides)]


def _uncrop(x: Array, padding: Sequence[int]) -> Array:
    """The inside of a padded array."""
    sides = (slice(p, n - p) for p, n in zip(padding, x.shape[2:], strict=True))
    inside: tuple[Any, ...] = (..., *sides)
    return x[inside]


def conv(
    x: Array,
    weight: Array,
    bias: Array | None,
    *,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    relu: bool = False,
) -> Result:
    """x (N, C, *spatial), weight (O, C / groups, *kernel), bias (O,) -> (N, O, *out).

    The inputs of each output are copied side by side, so that one matrix product a sample does the
    work; depthwise weights meet one channel each, so shifted multiply-adds do it instead.
    """
    b_shape = None if bias is None else bias.shape
    shape = shapes.conv("conv", x.shape, weight.shape, b_shape, stride, padding, dilation, groups)
    taps = _taps(weight.shape[2:], stride, dilation, shape[2:])
    padded = _padded(x, padding)
    if weight.shape[1] == 1 and groups > 1:
        y, of_padded, of_weight = _depthwise(padded, weight, shape, taps)
    else:
        y, of_padded, of_weight = _columns(padded, weight, shape, taps, groups)
    if bias is not None:
        y += bias.reshape(-1, *[1] * (y.ndim - 2))
    if relu:
        np.maximum(y, 0, out=y)
    axes = (0, *range(2, y.ndim))
    seen = _seen(y if relu else None)
    return y, (
        lambda g: _uncrop(of_padded(seen(g)), padding),
        lambda g: of_weight(seen(g)),
        lambda g: seen(g).sum(axes),
    )


def _columns(
    x: Array, weight: Array, shape: Sequence[int], taps: Sequence[Any], groups: int
) -> tuple[Array, Gradient, Gradient]:
    n, channels = x.shape[:2]
    columns = np.empty((n, channels, len(taps), *shape[2:]), x.dtype)
    for t, tap in enumerate(taps):
        columns[:, :, t] = x[tap]
    size = shapes.size(shape[2:])
    columns = columns.reshape(n, groups, channels // groups * len(taps), size)
    rows = weight.reshape(groups, shape[1] // groups, -1)

    def of_x(g: Array) -> Array:
        spread = rows.swapaxes(1, 2) @ g.reshape(n, groups, rows.shape[1], size)
        spread = spread.reshape(n, channels, len(taps), *shape[2:])
        total = np.zeros_like(x)
        for t, tap in enumerate(taps):
            total[tap] += spread[:, :, t]
        return total

    def of_weight(g: Array) -> Array:
        each = g.reshape(n, groups, rows.shape[1], size) @ columns.swapaxes(2, 3)
        return each.sum(0).reshape(weight.shape)

    return (rows @ columns).reshape(shape), of_x, of_weight


def _depthwise(
    x: Array, weight: Array, shape: Sequence[int], taps: Sequence[Any]
) -> tuple[Array, Gradient, Gradient]:
    """With the batch last, so that the innermost loops are long however small the images are."""
    last = np.ascontiguousarray(np.moveaxis(x, 0, -1))  # (C, *spatial, N)
    split = (len(last), -1, *shape[2:], len(x))  # (C, outputs of a channel, *out, N)
    rows = weight.reshape(len(last), -1, len(taps), *[1] * (len(split) - 2))
    pairs = [(rows[:, :, t], (*tap, slice(None))) for t, tap in enumerate(taps)]

    def batch_last(g: Array) -> Array:
        return np.ascontiguousarray(np.moveaxis(g, 0, -1)).reshape(split)

    def of_x(g: Array) -> Array:
        g = batch_last(g)
        total = np.zeros_like(last)
        for row, tap in pairs:
            total[tap] += (row * g).sum(1)
        return np.moveaxis(total, -1, 0)

    def of_weight(g: Array) -> Array:
        g = batch_last(g)
        each = [(g * last[tap][:, None]).reshape(*g.shape[:2], -1).sum(-1) for _, tap in pairs]
        return np.stack(each, -1).reshape(weight.shape)

    y = np.zeros((*rows.shape[:2], *shape[2:], len(x)), x.dtype)
    for row, tap in pairs:
        y += row * last[tap][:, None]
    y = np.moveaxis(y.reshape(*shape[1:], len(x)), -1, 0)
    return np.ascontiguousarray(y), of_x, of_weight


def max_pool(
    x: Array, *, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> Result:
    """x (N, C, *spatial) -> (N, C, *out). Of equal maxima the first gets the gradient."""
    shape = shapes.pool("max_pool", x.shape, kernel, stride, padding)
    taps = _taps(kernel, stride, [1] * len(kernel), shape[2:])
    padded = _padded(x, padding, -np.inf)
    y = padded[taps[0]].copy()
    for tap in taps[1:]:
        np.maximum(y, padded[tap], out=y)

    def of_x(g: Array) -> Array:
        total = np.zeros_like(padded)
        for tap in taps:
            hit = padded[tap] == y
            total[tap] += g * hit
            g = g * ~hit
        return _uncrop(total, padding)

    return y, (of_x,)


def avg_pool(
    x: Array, *, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> Result:
    """x (N, C, *spatial) -> (N, C, *out); zeros of the padding count, as they do in PyTorch."""
    shape = shapes.pool("avg_pool", x.shape, kernel, stride, padding)
    taps = _taps(kernel, stride, [1] * len(kernel), shape[2:])
    padded = _padded(x, padding)
    y = np.zeros(shape, x.dtype)
    for tap in taps:
        y += padded[tap]
    y /= len(taps)

    def of_x(g: Array) -> Array:
        g = g / len(taps)
        total = np.zeros_like(padded)
        for tap in taps:
            total[tap] += g
        return _uncrop(total, padding)

    return y, (of_x,)


def batch_norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    count: Array | None,
    *,
    training: bool,
    momentum: float | None,
    eps: float,
    relu: bool = False,
) -> Result:
    """Each channel of x (N, C, ...) normalised, then scaled and shifted.

    In training, or without running statistics, over the batch. Training moves the running
    statistics by `momentum`, in place, with the unbiased variance as in PyTorch, and adds one to
    count; without a momentum they are the mean over all batches. (Ioffe and Szegedy, 2015.)
    """
    flat = x.reshape(*x.shape[:2], shapes.size(x.shape[2:]))
    n = flat.shape[0] * flat.shape[2]
    over_batch = training or running_mean is None or running_var is None
    mean: Any = flat.sum((0, 2)) / n if over_batch else running_mean
    normal = flat - mean[:, None]
    var: Any = np.einsum("ncl,ncl->c", normal, normal) / n if over_batch else running_var
    if training:
        if count is not None:
            count += 1
            momentum = 1 / int(count) if momentum is None else momentum
        if running_mean is not None and running_var is not None:
            running_mean += momentum * (mean - running_mean)
            running_var += momentum * (var * n / (n - 1) - running_var)
    inverse = 1 / np.sqrt(var + np.asarray(eps, x.dtype))
    normal *= inverse[:, None]
    y = normal.copy() if weight is None else normal * weight[:, None]
    if bias is not None:
        y += bias[:, None]
    if relu:
        np.maximum(y, 0, out=y)
    seen = _seen(y if relu else None)
    gain = inverse if weight is None else weight * inverse

    def gradients(g: Array) -> tuple[Array | None, ...]:
        g = seen(g.reshape(flat.shape))
        of_bias = g.sum((0, 2))
        of_weight = np.einsum("ncl,ncl->c", g, normal)
        if over_batch:  # the batch's mean and variance move with x
            of_x = normal * (-of_weight / n)[:, None]
            of_x += g
            of_x -= (of_bias / n)[:, None]
            of_x *= gain[:, None]
        else:
            of_x = g * gain[:, None]
        return of_x.reshape(x.shape), of_weight, of_bias, None, None, None

    return y.reshape(x.shape), gradients
