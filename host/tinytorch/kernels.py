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


def cross_entropy(a: Array, *, target: Array) -> Result:
    """The mean over the batch of -log softmax(a)[target]; a: (N, classes), target: (N,) ints."""
    logs, _ = log_softmax(a, dim=1)
    rows = np.arange(len(a))

    def of_a(g: Array) -> Array:
        p = np.exp(logs)
        p[rows, target] -= 1
        return p * (g / len(a))

    return -logs[rows, target].mean(), (of_a,)


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
    axes = (0, *range(2, y.ndim))
    return y, (lambda g: _uncrop(of_padded(g), padding), of_weight, lambda g: g.sum(axes))


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
    weight: Array,
    bias: Array,
    *,
    running_mean: Array,
    running_var: Array,
    training: bool,
    momentum: float,
    eps: float,
) -> Result:
    """Each channel of x (N, C, ...) normalised, then scaled and shifted: one fused pass.

    In training over the batch, and the running statistics move by `momentum`, in place, with the
    unbiased variance as in PyTorch; else by the running statistics. (Ioffe and Szegedy, 2015.)
    """
    flat = x.reshape(*x.shape[:2], shapes.size(x.shape[2:]))
    n = flat.shape[0] * flat.shape[2]
    if training:
        mean = flat.sum((0, 2)) / n
        normal = flat - mean[:, None]
        var = np.einsum("ncl,ncl->c", normal, normal) / n
        running_mean += momentum * (mean - running_mean)
        running_var += momentum * (var * n / (n - 1) - running_var)
    else:
        normal = flat - running_mean[:, None]
        var = running_var
    inverse = 1 / np.sqrt(var + np.asarray(eps, x.dtype))
    normal *= inverse[:, None]
    y = normal * weight[:, None]
    y += bias[:, None]

    def gradients(g: Array) -> tuple[Array, Array, Array]:
        g = g.reshape(flat.shape)
        of_bias = g.sum((0, 2))
        of_weight = np.einsum("ncl,ncl->c", g, normal)
        if training:  # the batch's mean and variance move with x
            of_x = normal * (-of_weight / n)[:, None]
            of_x += g
            of_x -= (of_bias / n)[:, None]
            of_x *= (weight * inverse)[:, None]
        else:
            of_x = g * (weight * inverse)[:, None]
        return of_x.reshape(x.shape), of_weight, of_bias

    return y.reshape(x.shape), gradients
