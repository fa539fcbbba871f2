"""The layers' heavy operations, on numpy: the same protocol as in tinytorch.ops.

Inside, arrays are rows of channels (or features): an image is channels-last. What a layer here
returns has the shape (N, C, H, W) and lies in memory as (N, H, W, C); any other order is taken, and
copied. A signal is an image of height one.

numpy is fast where its innermost loop is long, and BLAS is faster: a sum over rows is a product
with ones, and what all rows are multiplied with, or get added, is repeated to a longer row first.
"""

from functools import lru_cache
from math import gcd
from typing import Any

import numpy as np

from tinytorch.ops import compiled, memory
from tinytorch.ops.array import Array, Gradient, Result, through_relu
from tinytorch_core import shapes

Pair = tuple[int, int]
Window = tuple[Pair, Pair, Pair, Pair]  # kernel, stride, padding, dilation


# Rows.


def _contiguous(a: Array) -> Array:
    if a.flags.c_contiguous:
        return a
    copy = memory.empty(a.shape, a.dtype)
    np.copyto(copy, a)
    return copy


def _rows(a: Array) -> Array:
    """(..., features) as a matrix."""
    return _contiguous(a).reshape(shapes.size(a.shape[:-1]), a.shape[-1])


def _wide(rows: Array) -> tuple[Array, int]:
    """The same numbers in fewer, longer rows; how many rows became one."""
    together = gcd(len(rows), 32) if len(rows) >= 256 else 1
    return rows.reshape(len(rows) // together, together * rows.shape[1]), together


def _tiled(row: Array, times: int) -> Array:
    return row if times == 1 else np.tile(row, times)


@lru_cache
def _ones(n: int, dtype: np.dtype) -> Array:
    ones = np.ones(n, dtype)
    ones.flags.writeable = False
    return ones


def _sums(rows: Array) -> Array:
    """The sum of each column."""
    return _ones(len(rows), rows.dtype).dot(rows)


@compiled.kernel
def _scale(rows: Array, gain: Array, out: Array) -> None:
    wide, together = _wide(rows)
    np.multiply(wide, _tiled(gain, together), out=out.reshape(wide.shape))


def _shift(rows: Array, by: Array, out: Array) -> None:
    wide, together = _wide(rows)
    np.add(wide, _tiled(by, together), out=out.reshape(wide.shape))


@compiled.kernel
def _finish(rows: Array, bias: Array | None, relu: bool) -> None:
    """Add a bias, then ReLU, in place."""
    if bias is not None:
        _shift(rows, bias, rows)
    if relu:
        wide, _ = _wide(rows)
        zeros = np.zeros(wide.shape[1], rows.dtype)  # the number 0 would take three times as long
        np.maximum(wide, zeros, out=wide)


def _arriving(y: Array, relu: bool, order: Gradient) -> Gradient:
    """How a gradient arrives at y, a result: in y's order and as far as it passes the ReLU.

    It is worked out once for all who ask.
    """
    last: list[Array] = []

    def arriving(g: Array) -> Array:
        if not last or last[0] is not g:
            ordered = order(g).reshape(y.shape)
            if relu:
                passed = memory.empty(y.shape, y.dtype)
                through_relu(y, ordered, passed)
                ordered = passed
            last[:] = g, ordered
        return last[1]

    return arriving


# Fully connected.


def linear(x: Array, weight: Array, bias: Array | None, *, relu: bool = False) -> Result:
    """x (..., in) @ weight (out, in) transposed + bias (out,) -> (..., out)."""
    rows = _rows(x)
    y = memory.empty((len(rows), len(weight)), x.dtype)
    np.matmul(rows, weight.T, out=y)
    _finish(y, bias, relu)
    arriving = _arriving(y, relu, _contiguous)

    def of_x(g: Array) -> Array:
        result = memory.empty(rows.shape, x.dtype)
        return np.matmul(arriving(g), weight, out=result).reshape(x.shape)

    def of_weight(g: Array) -> Array:
        return np.matmul(arriving(g).T, rows, out=memory.empty(weight.shape, x.dtype))

    shape = (*x.shape[:-1], len(weight))
    return y.reshape(shape), (of_x, of_weight, lambda g: _sums(arriving(g)))


# Convolution.


def _image(x: Array) -> Array:
    """(N, C, H, W) or (N, C, L) as contiguous (N, H, W, C)."""
    return _contiguous(_channels_last(x))


def _channels_last(x: Array) -> Array:
    return (x if x.ndim == 4 else x[:, :, None]).transpose(0, 2, 3, 1)


def _planes(image: Array, ndim: int) -> Array:
    """The way back."""
    planes = image.transpose(0, 3, 1, 2)
    return planes if ndim == 4 else planes[:, :, 0]


def _pair(numbers: tuple[int, ...], height: int) -> Any:
    """A layer's numbers for the two dimensions of an image, also for those of a signal."""
    return numbers if len(numbers) == 2 else (height, *numbers)


@lru_cache
def _taps(size: Pair, out: Pair, window: Window) -> list[tuple[Pair, Any, Any]]:
    """For each place in a kernel: the inputs that it meets, and the outputs that they go to.

    Both are slices of (N, H, W, C); inputs in the padding, and their outputs, are left out.
    """
    sides = []
    for n, m, k, s, p, d in zip(size, out, *window, strict=True):
        side = []
        for i in range(k):
            start = i * d - p  # the input of output 0
            first, end = max(0, -(start // s)), min(m, (n - 1 - start) // s + 1)
            if first < end:
                inputs = slice(start + first * s, start + (end - 1) * s + 1, s)
                side.append((i, inputs, slice(first, end)))
        sides.append(side)
    return [
        ((i, j), (slice(None), rows, columns), (slice(None), of_rows, of_columns))
        for i, rows, of_rows in sides[0]
        for j, columns, of_columns in sides[1]
    ]


def conv(
    x: Array,
    weight: Array,
    bias: Array | None,
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    relu: bool = False,
) -> Result:
    """x (N, C, *spatial), weight (O, C / groups, *kernel), bias (O,) -> (N, O, *out).

    The inputs of each output are copied side by side, so that one matrix product does the work;
    depthwise weights meet one channel each, so shifted multiply-adds do it instead.
    """
    b_shape = None if bias is None else bias.shape
    shape = shapes.conv("conv", x.shape, weight.shape, b_shape, stride, padding, dilation, groups)
    kernel: Pair = _pair(weight.shape[2:], 1)
    window = kernel, _pair(stride, 1), _pair(padding, 0), _pair(dilation, 1)
    y = memory.empty((len(x), *_pair(shape[2:], 1), shape[1]), x.dtype)
    filters = weight.reshape(*weight.shape[:2], *kernel)
    core = _depthwise if weight.shape[1] == 1 < groups else _columns
    of_image, of_filters = core(_channels_last(x), filters, y, groups, window)
    _finish(_rows(y), bias, relu)
    arriving = _arriving(y, relu, _image)
    return _planes(y, x.ndim), (
        lambda g: _planes(of_image(arriving(g)), x.ndim),
        lambda g: of_filters(arriving(g)).reshape(weight.shape),
        lambda g: _sums(_rows(arriving(g))),
    )


def _columns(
    x: Array, filters: Array, y: Array, groups: int, window: Window
) -> tuple[Gradient, Gradient]:
    """Fill y; return the gradients of x, which may lie in any order, and of the filters
    (O, C / groups, KH, KW)."""
    (kernel, stride, padding, _), (n, *out, channels) = window, y.shape
    each = x.shape[3] // groups
    rows = n * out[0] * out[1]
    plain = groups == 1 and kernel == stride == (1, 1) and padding == (0, 0)
    if plain:
        columns = _contiguous(x)
    else:
        columns = memory.empty((groups, n, *out, *kernel, each), x.dtype)
        _im2col(x, columns, window)
    columns = columns.reshape(groups, rows, kernel[0] * kernel[1] * each)
    matrix = _contiguous(filters.transpose(0, 2, 3, 1))
    matrix = matrix.reshape(groups, channels // groups, columns.shape[2])

    def by_group(image: Array) -> Array:
        return image.reshape(rows, groups, channels // groups).transpose(1, 0, 2)

    np.matmul(columns, matrix.swapaxes(1, 2), out=by_group(y))

    def of_x(g: Array) -> Array:
        result = memory.empty(x.shape, x.dtype)
        # numpy gathers faster than it scatters; numba does not.
        turned = _turned(window) if plain or not compiled.enabled() else None
        if turned is None:
            of_columns = memory.empty(columns.shape, x.dtype)
            np.matmul(by_group(g), matrix, out=of_columns)
            _col2im(of_columns.reshape(groups, n, *out, *kernel, each), result, window)
        else:
            back = filters.reshape(groups, -1, each, *kernel)[..., ::-1, ::-1].swapaxes(1, 2)
            back = back.reshape(groups * each, channels // groups, *kernel)
            _columns(g, back, result, groups, turned)
        return result

    def of_filters(g: Array) -> Array:
        result = by_group(g).swapaxes(1, 2) @ columns
        return result.reshape(channels, *kernel, each).transpose(0, 3, 1, 2)

    return of_x, of_filters


def _turned(window: Window) -> Window | None:
    """The convolution, with the kernel turned round, that takes a gradient back.

    None where the stride leaves inputs out, or the padding more than the kernel reaches.
    """
    kernel, stride, padding, dilation = window
    top, left = [
        (k - 1) * d - p for k, d, p in zip(kernel, dilation, padding, strict=True)
    ]  # fmt: skip
    if stride != (1, 1) or top < 0 or left < 0:
        return None
    return kernel, stride, (top, left), dilation


def _padded(x: Array, padding: Pair) -> Array:
    """x (N, H, W, C) with zeros around it."""
    if padding == (0, 0):
        return _contiguous(x)
    (n, height, width, channels), (top, left) = x.shape, padding
    padded = memory.empty((n, height + 2 * top, width + 2 * left, channels), x.dtype)
    padded.fill(0)
    padded[:, top : top + height, left : left + width] = x
    return padded


def _im2col(x: Array, columns: Array, window: Window) -> None:
    """im2col: columns (groups, N, *out, *kernel, C / groups) hold all that each output meets."""
    _, stride, padding, dilation = window
    x = _padded(x, padding)
    of_n, of_row, of_column, of_channel = x.strides
    moves = [s * of for s, of in zip(stride + dilation, (of_row, of_column) * 2, strict=True)]
    strides = (columns.shape[6] * of_channel, of_n, *moves, of_channel)
    np.copyto(columns, np.ndarray(columns.shape, x.dtype, x, strides=strides))


@compiled.kernel
def _col2im(columns: Array, result: Array, window: Window) -> None:
    """The way back of im2col: result (N, H, W, C) is the sum of what came from each place."""
    groups, _, *out, _, _, each = columns.shape
    result.fill(0)
    parts = result.reshape(*result.shape[:3], groups, each)
    for (i, j), inputs, outputs in _taps(result.shape[1:3], (out[0], out[1]), window):
        parts[inputs] += columns[:, :, :, :, i, j].transpose(1, 2, 3, 0, 4)[outputs]


def _depthwise(
    x: Array, filters: Array, y: Array, groups: int, window: Window
) -> tuple[Gradient, Gradient]:
    """The same where each filter meets one channel."""
    repeats = len(filters) // groups  # filters to a channel
    x = x.repeat(repeats, 3) if repeats > 1 else _contiguous(x)
    weight = _contiguous(filters[:, 0].transpose(1, 2, 0))
    _shifted(x, weight, y, window)

    def of_x(g: Array) -> Array:
        result = memory.empty(x.shape, x.dtype)
        _shifted_of_x(g, weight, result, window)
        return result.reshape(*x.shape[:3], groups, repeats).sum(4) if repeats > 1 else result

    def of_filters(g: Array) -> Array:
        result = np.empty(weight.shape, x.dtype)
        _shifted_of_weight(g, x, result, window)
        return result.transpose(2, 0, 1)[:, None]

    return of_x, of_filters


@compiled.kernel
def _shifted(x: Array, weight: Array, y: Array, window: Window) -> None:
    """x (N, H, W, C), weight (KH, KW, C) -> y (N, OH, OW, C), each channel by itself."""
    windows, together = _windows(x, y.shape, window)
    weight = np.tile(weight, together)
    np.einsum("pqnijc,pqc->nijc", windows, weight, out=y.reshape(windows.shape[2:]))


@compiled.kernel
def _shifted_of_x(g: Array, weight: Array, result: Array, window: Window) -> None:
    turned = _turned(window)
    if turned is not None:
        _shifted(g, _contiguous(weight[::-1, ::-1]), result, turned)
        return
    result.fill(0)
    for place, inputs, outputs in _taps(result.shape[1:3], g.shape[1:3], window):
        result[inputs] += g[outputs] * weight[place]


@compiled.kernel
def _shifted_of_weight(g: Array, x: Array, result: Array, window: Window) -> None:
    windows, together = _windows(x, g.shape, window)
    g = g.reshape(windows.shape[2:])
    for place in np.ndindex(*window[0]):
        products = np.einsum("nijc,nijc->c", g, windows[place])
        result[place] = products.reshape(together, -1).sum(0)


def _windows(x: Array, like: tuple[int, ...], window: Window) -> tuple[Array, int]:
    """For each place in the kernel, the inputs that the outputs (N, OH, OW, C) meet there.

    (*kernel, N, OH, ..., ...): where neighbours in a row lie together they are one run of channels;
    so many are in it.
    """
    kernel, stride, padding, dilation = window
    n, height, width, channels = like
    x = _padded(x, padding)
    together = width if stride[1] == 1 else 1
    shape = (*kernel, n, height, width // together, together * channels)
    of_n, of_row, of_column, of_channel = x.strides
    to_place = (dilation[0] * of_row, dilation[1] * of_column)
    to_output = (of_n, stride[0] * of_row, stride[1] * of_column, of_channel)
    return np.ndarray(shape, x.dtype, x, strides=to_place + to_output), together


# Pooling.


def max_pool(
    x: Array, *, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]
) -> Result:
    """x (N, C, *spatial) -> (N, C, *out). Of equal maxima the first gets the gradient."""
    shape = shapes.pool("max_pool", x.shape, kernel, stride, padding)
    window = _pair(kernel, 1), _pair(stride, 1), _pair(padding, 0), (1, 1)
    image = _image(x)
    y = memory.empty((len(x), *_pair(shape[2:], 1), shape[1]), x.dtype)
    which = memory.empty(y.shape, np.uint8 if shapes.size(kernel) < 256 else np.int64)
    _max_pool(image, y, which, window)

    def of_x(g: Array) -> Array:
        result = memory.empty(image.shape, x.dtype)
        _max_pool_of_x(_image(g), which, result, window)
        return _planes(result, x.ndim)

    return _planes(y, x.ndim), (of_x,)


@compiled.kernel
def _max_pool(x: Array, y: Array, which: Array, window: Window) -> None:
    """y: the maxima; which: the place in the kernel that each came from."""
    taps = _taps(x.shape[1:3], y.shape[1:3], window)
    which.fill(0)
    if window[2] == (0, 0):  # the first place in the kernel meets inputs only
        np.copyto(y, x[taps[0][1]])
        taps = taps[1:]
    else:
        y.fill(-np.inf)
    for (i, j), inputs, outputs in taps:
        best, place = y[outputs], which[outputs]
        some = _contiguous(x[inputs])  # short runs are slow: read them once
        number = which.dtype.type(i * window[0][1] + j)
        np.maximum(place, (some > best) * number, out=place)  # of places that rose, the last
        np.maximum(best, some, out=best)


@compiled.kernel
def _max_pool_of_x(g: Array, which: Array, result: Array, window: Window) -> None:
    kernel, stride, _, _ = window
    result.fill(0)  # also where no output looks
    apart = stride[0] >= kernel[0] and stride[1] >= kernel[1]
    for (i, j), inputs, outputs in _taps(result.shape[1:3], g.shape[1:3], window):
        hit = which[outputs] == i * kernel[1] + j
        if apart:  # each input is met once
            np.multiply(g[outputs], hit, out=result[inputs])
        else:
            result[inputs] += g[outputs] * hit


def avg_pool(
    x: Array, *, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]
) -> Result:
    """x (N, C, *spatial) -> (N, C, *out); zeros of the padding count, as they do in PyTorch."""
    shape = shapes.pool("avg_pool", x.shape, kernel, stride, padding)
    window = _pair(kernel, 1), _pair(stride, 1), _pair(padding, 0), (1, 1)
    image = _image(x)
    y = memory.empty((len(x), *_pair(shape[2:], 1), shape[1]), x.dtype)
    _avg_pool(image, y, window)

    def of_x(g: Array) -> Array:
        result = memory.empty(image.shape, x.dtype)
        _avg_pool_of_x(_image(g), result, window)
        return _planes(result, x.ndim)

    return _planes(y, x.ndim), (of_x,)


@compiled.kernel
def _avg_pool(x: Array, y: Array, window: Window) -> None:
    y.fill(0)
    for _, inputs, outputs in _taps(x.shape[1:3], y.shape[1:3], window):
        y[outputs] += x[inputs]
    y *= y.dtype.type(1 / shapes.size(window[0]))


@compiled.kernel
def _avg_pool_of_x(g: Array, result: Array, window: Window) -> None:
    g = g * g.dtype.type(1 / shapes.size(window[0]))
    result.fill(0)
    for _, inputs, outputs in _taps(result.shape[1:3], g.shape[1:3], window):
        result[inputs] += g[outputs]


def adaptive_avg_pool(x: Array, *, size: tuple[int | None, ...]) -> Result:
    """x (N, C, *spatial) -> (N, C, *size): means over equal parts; they overlap if none are equal.

    One product with a matrix does it.
    """
    sides = shapes.parts("adaptive_avg_pool", x.shape, size)
    matrix = np.ones((1, 1), x.dtype)
    for n, parts in zip(x.shape[2:], sides, strict=True):
        means = np.zeros((len(parts), n), x.dtype)
        for row, (start, end) in zip(means, parts, strict=True):
            row[start:end] = 1 / (end - start)
        matrix = np.kron(matrix, means)

    def times(factor: Array, planes: Array, spatial: tuple[int, ...]) -> Array:
        pixels = _image(planes).reshape(len(x), factor.shape[1], x.shape[1])
        return np.moveaxis((factor @ pixels).reshape(len(x), *spatial, x.shape[1]), -1, 1)

    y = times(matrix, x, tuple([len(parts) for parts in sides]))
    return y, (lambda g: times(matrix.T, g, x.shape[2:]),)


# Normalisation.


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
    order = _contiguous if x.ndim == 2 else _image
    image = order(x)
    rows = _rows(image)
    n = len(rows)
    over_batch = training or running_mean is None or running_var is None
    mean: Any = running_mean
    var: Any = running_var
    if over_batch:
        mean, var = np.zeros(x.shape[1], x.dtype), np.zeros(x.shape[1], x.dtype)
        if n:
            _moments(rows, mean, var)
    if training:
        if count is not None:
            count += 1
            momentum = 1 / int(count) if momentum is None else momentum
        if n and running_mean is not None and running_var is not None:
            running_mean += momentum * (mean - running_mean)
            running_var += momentum * (var * (n / (n - 1)) - running_var)
    inverse = 1 / np.sqrt(var + x.dtype.type(eps))
    gain = inverse if weight is None else weight * inverse
    offset = -mean * gain if bias is None else bias - mean * gain
    y = memory.empty(image.shape, x.dtype)
    _affine(rows, gain, offset, _rows(y), relu)
    arriving = _arriving(y, relu, order)

    def gradients(g: Array) -> tuple[Array | None, ...]:
        g = _rows(arriving(g))
        of_bias, of_weight = np.empty_like(gain), np.empty_like(gain)
        _products(g, rows, mean, of_bias, of_weight)
        of_weight *= inverse
        of_x = memory.empty(image.shape, x.dtype)
        if over_batch:  # the batch's mean and variance move with x
            slope = -gain * inverse * of_weight / max(n, 1)
            _combine(g, gain, rows, slope, -slope * mean - gain * of_bias / max(n, 1), _rows(of_x))
        else:
            _scale(g, gain, _rows(of_x))
        of_x = of_x if x.ndim == 2 else _planes(of_x, x.ndim)
        return of_x, of_weight, of_bias, None, None, None

    return y if x.ndim == 2 else _planes(y, x.ndim), gradients


@compiled.kernel
def _affine(rows: Array, gain: Array, offset: Array, out: Array, relu: bool) -> None:
    """out = rows * gain + offset, then ReLU."""
    _scale(rows, gain, out)
    _finish(out, offset, relu)


@compiled.kernel
def _moments(rows: Array, mean: Array, var: Array) -> None:
    """The mean and the variance of each column."""
    mean[:] = _sums(rows) / len(rows)
    centred = memory.empty(rows.shape, rows.dtype)
    _shift(rows, -mean, centred)
    var[:] = _sums(np.multiply(centred, centred, out=centred)) / len(rows)


@compiled.kernel
def _products(g: Array, rows: Array, mean: Array | None, sums: Array, products: Array) -> None:
    """Of each column: the sum of g, and that of g * (rows - mean)."""
    sums[:] = _sums(g)
    product = memory.empty(rows.shape, rows.dtype)
    if mean is not None:
        _shift(rows, -mean, product)
        rows = product
    products[:] = _sums(np.multiply(rows, g, out=product))


@compiled.kernel
def _combine(a: Array, of_a: Array, b: Array, of_b: Array, more: Array, out: Array) -> None:
    """out = a * of_a + b * of_b + more: matrices times rows, plus a row."""
    _scale(a, of_a, out)
    other = memory.empty(b.shape, b.dtype)
    _scale(b, of_b, other)
    out += other
    _shift(out, more, out)


def layer_norm(
    x: Array, weight: Array | None, bias: Array | None, *, dims: int, eps: float
) -> Result:
    """x normalised over its last `dims` dimensions, then scaled and shifted (Ba et al., 2016)."""
    shape = x.shape[x.ndim - dims :]
    rows = _contiguous(x).reshape(shapes.size(x.shape[: x.ndim - dims]), shapes.size(shape))
    normal = memory.empty(rows.shape, x.dtype)
    inverse = np.empty((len(rows), 1), x.dtype)
    _normal(rows, x.dtype.type(eps), normal, inverse)
    y = memory.empty(rows.shape, x.dtype)
    gain = np.ones(rows.shape[1], x.dtype) if weight is None else weight.reshape(-1)
    offset = np.zeros_like(gain) if bias is None else bias.reshape(-1)
    _affine(normal, gain, offset, y, False)

    def gradients(g: Array) -> tuple[Array, Array, Array]:
        g = _contiguous(g).reshape(rows.shape)
        of_gain, of_offset = np.empty_like(gain), np.empty_like(gain)
        _products(g, normal, None, of_offset, of_gain)
        weighted = memory.empty(g.shape, x.dtype)
        _scale(g, gain, weighted)
        result = memory.empty(rows.shape, x.dtype)
        _normal_of_x(weighted, normal, inverse, result)
        return result.reshape(x.shape), of_gain.reshape(shape), of_offset.reshape(shape)

    return y.reshape(x.shape), gradients


def _means(rows: Array) -> Array:
    """The mean of each row, as a column."""
    return rows @ np.full((rows.shape[1], 1), 1 / max(1, rows.shape[1]), rows.dtype)


@compiled.kernel
def _normal(rows: Array, eps: Any, normal: Array, inverse: Array) -> None:
    """Each row with mean 0 and variance 1; inverse: 1 / the deviations."""
    np.subtract(rows, _means(rows), out=normal)
    square = np.multiply(normal, normal, out=memory.empty(rows.shape, rows.dtype))
    np.divide(1, np.sqrt(_means(square) + eps), out=inverse)
    normal *= inverse


@compiled.kernel
def _normal_of_x(g: Array, normal: Array, inverse: Array, result: Array) -> None:
    np.multiply(g, normal, out=result)
    np.multiply(normal, _means(result), out=result)
    np.subtract(g, result, out=result)
    result -= _means(g)
    result *= inverse


# Probabilities.


def _last(a: Array, dim: int) -> Array:
    """A matrix with that dimension in its rows."""
    return _rows(np.moveaxis(a, dim, -1)) if a.ndim else a.reshape(1, 1)


def _back(rows: Array, like: Array, dim: int) -> Array:
    """The way back."""
    if not like.ndim:
        return rows.reshape(())
    moved = (*like.shape[:dim], *like.shape[dim + 1 :], like.shape[dim])
    return np.moveaxis(rows.reshape(moved), -1, dim)


def softmax(x: Array, *, dim: int) -> Result:
    """exp(x) / sum(exp(x)) along a dimension."""
    rows = _last(x, dim)
    y = memory.empty(rows.shape, x.dtype)
    _softmax(rows, y)

    def of_x(g: Array) -> Array:
        result = memory.empty(y.shape, x.dtype)
        _softmax_of_x(_last(g, dim), y, result)
        return _back(result, x, dim)

    return _back(y, x, dim), (of_x,)


def _row_sums(rows: Array) -> Array:
    return rows.dot(_ones(rows.shape[1], rows.dtype))[:, None]


@compiled.kernel
def _softmax(rows: Array, y: Array) -> None:
    """The two may be the same array."""
    np.subtract(rows, rows.max(1, keepdims=True, initial=-np.inf), out=y)  # exp cannot overflow
    np.exp(y, out=y)
    y /= _row_sums(y)


@compiled.kernel
def _softmax_of_x(g: Array, y: Array, result: Array) -> None:
    np.multiply(g, y, out=result)
    np.subtract(g, _row_sums(result), out=result)
    result *= y


def log_softmax(x: Array, *, dim: int) -> Result:
    """log(softmax(x)) along a dimension, without overflow."""
    rows = _last(x, dim)
    y = memory.empty(rows.shape, x.dtype)
    np.subtract(rows, rows.max(1, keepdims=True, initial=-np.inf), out=y)
    sums = _row_sums(np.exp(y, out=memory.empty(rows.shape, x.dtype)))
    if x.size:
        y -= np.log(sums)

    def of_x(g: Array) -> Array:
        g = _last(g, dim)
        p = np.exp(y, out=memory.empty(y.shape, x.dtype))
        p *= _row_sums(g)
        return _back(np.subtract(g, p, out=p), x, dim)

    return _back(y, x, dim), (of_x,)


def cross_entropy(
    x: Array,
    target: Array,
    weight: Array | None,
    *,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
) -> Result:
    """-log softmax(x)[target] of each row: x (N, C), target (N,) ints -> a number, or (N,).

    weight (C,) counts the classes; rows of the class ignore_index count nothing; label_smoothing
    spreads that part of each row's probability evenly (Szegedy et al., 2016). reduction "mean"
    divides the "sum" by the weights of the rows' classes; "none" leaves the rows apart.
    Raises ValueError for a class that x does not have.
    """
    x = _contiguous(x)
    if x.shape[1] == 0 or (target.view(f"u{target.itemsize}") >= x.shape[1]).any():  # or negative
        _check_range("cross_entropy", "class", target[target != ignore_index], x.shape[1])
    losses, shares = np.empty(len(x), x.dtype), np.empty(len(x), x.dtype)
    slope = memory.empty(x.shape, x.dtype)
    _cross_entropy(x, target, weight, ignore_index, label_smoothing, losses, shares, slope)
    total = np.add.reduce(shares) if reduction == "mean" else x.dtype.type(1)
    y = losses
    if reduction != "none":  # the mean of nothing is NaN
        y = np.asarray(np.add.reduce(losses) / total if total else np.nan, x.dtype)

    def of_x(g: Array) -> Array:
        scale = (g / (total or 1)).reshape(-1, 1)
        return np.multiply(slope, scale, out=memory.empty(x.shape, x.dtype))

    return y, (of_x, None, None)


@compiled.kernel
def _cross_entropy(
    x: Array, target: Array, weight: Array | None, ignore_index: int, label_smoothing: float,
    losses: Array, shares: Array, slope: Array,
) -> None:  # fmt: skip
    """For each row its loss, what it counts in the mean, and the gradient of its loss."""
    counted = target != ignore_index
    place = np.arange(len(x)), target * counted
    shares[:] = counted if weight is None else counted * weight[place[1]]
    on_class = on_all = shares  # of each row's probability
    np.subtract(x, x.max(1, keepdims=True, initial=-np.inf), out=slope)  # exp cannot overflow
    losses.fill(0)
    np.negative(slope[place], out=losses, where=counted)
    if label_smoothing:
        even = np.full(x.shape[1], label_smoothing / x.shape[1], x.dtype)  # on every class
        if weight is not None:
            even *= weight
        on_class = shares * x.dtype.type(1 - label_smoothing)
        on_all = on_class + counted * even.sum()
        losses *= on_class
        losses -= counted * (slope @ even)
    elif weight is not None:
        losses *= shares
    np.exp(slope, out=slope)
    sums = _row_sums(slope)[:, 0]
    losses += on_all * np.log(sums)
    slope *= (on_all / sums)[:, None]
    slope[place] -= on_class
    if label_smoothing:
        slope -= counted[:, None] * even


def _check_range(operation: str, what: str, numbers: Array, end: int) -> None:
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < end:
        outside = numbers[(numbers < 0) | (numbers >= end)][0]
        raise ValueError(f"{operation}: {what} {outside} is not one of 0 to {end - 1}.")


# Tables.


def embedding(weight: Array, index: Array, *, padding_idx: int | None = None) -> Result:
    """The rows of weight (num, d) at index, ints of any shape -> (*index.shape, d).

    padding_idx: the row that gets no gradient.
    Raises ValueError for an index that weight does not have.
    """
    _check_range("embedding", "index", index, len(weight))
    y = memory.empty((*index.shape, weight.shape[1]), weight.dtype)
    np.take(weight, index, 0, out=y, mode="clip")  # any other mode copies once more

    def of_weight(g: Array) -> Array:
        result = np.empty(weight.shape, weight.dtype)
        _add_rows(_contiguous(index).reshape(-1), _rows(g), result)
        if padding_idx is not None:
            result[padding_idx] = 0
        return result

    return y, (of_weight, None)


@compiled.kernel
def _add_rows(index: Array, g: Array, result: Array) -> None:
    """result[i] is the sum of those rows of g whose index is i."""
    result.fill(0)
    order = index.argsort(kind="stable")
    found = index[order]
    starts = np.flatnonzero(np.diff(found, prepend=-1))
    if len(starts):
        result[found[starts]] = np.add.reduceat(g[order], starts, 0)
