"""The kernels that numba compiles: what numpy does in many passes over memory, in one.

All take C-contiguous float32 arrays and write into arrays that they are given. Images are
(N, H, W, C), signals images of height 1, depthwise weights (KH, KW, C); "rows" are (rows, columns),
one row a pixel or a token, one column a channel or a feature. Pairs of settings are (height,
width). All run on one thread and let go of the interpreter's lock. Compiled code is cached on disk.

Sums may be taken in another order than they are written (`reassoc`), so that they fill the vector
registers, and a product and a sum may be one instruction (`contract`). The order is fixed when a
kernel is compiled: the same machine gives the same bits every time. NaN and infinity are kept.
"""

from math import log

import numpy as np
from numba import njit
from numpy import float32, int32, sqrt

compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})

ONE = float32(1)
BLOCK = 64  # rows that stay in the first cache while they are gone over twice


# Windows: depthwise convolution, pooling, and the columns of a convolution.


@compiled
def depthwise(x, weight, bias, y, stride, padding, dilation, relu):
    for n in range(len(y)):
        for i in range(y.shape[1]):
            outs = y[n, i]
            for j in range(len(outs)):
                for c in range(len(bias)):
                    outs[j, c] = bias[c]
            for p in range(weight.shape[0]):
                row = i * stride[0] - padding[0] + p * dilation[0]
                if row < 0 or row >= x.shape[1]:
                    continue
                ins = x[n, row]
                for q in range(weight.shape[1]):
                    w = weight[p, q]
                    for j in range(len(outs)):
                        at = j * stride[1] - padding[1] + q * dilation[1]
                        if at < 0 or at >= len(ins):
                            continue
                        a, out = ins[at], outs[j]
                        for c in range(len(w)):
                            out[c] += a[c] * w[c]
            if relu:
                for j in range(len(outs)):
                    for c in range(len(bias)):
                        outs[j, c] = _positive(outs[j, c])


@compiled
def depthwise_backward(x, weight, g, of_x, of_weight, stride, padding, dilation):
    of_x[:] = 0
    of_weight[:] = 0
    for n in range(len(g)):
        for i in range(g.shape[1]):
            outs = g[n, i]
            for p in range(weight.shape[0]):
                row = i * stride[0] - padding[0] + p * dilation[0]
                if row < 0 or row >= x.shape[1]:
                    continue
                ins, of_ins = x[n, row], of_x[n, row]
                for q in range(weight.shape[1]):
                    w, of_w = weight[p, q], of_weight[p, q]
                    for j in range(len(outs)):
                        at = j * stride[1] - padding[1] + q * dilation[1]
                        if at < 0 or at >= len(ins):
                            continue
                        a, of_a, got = ins[at], of_ins[at], outs[j]
                        for c in range(len(w)):
                            of_a[c] += got[c] * w[c]
                            of_w[c] += got[c] * a[c]


@compiled
def columns(x, out, stride, padding, dilation):
    """The inputs of each output side by side: out (N, OH, OW, KH, KW, C)."""
    channels = x.shape[3]
    for n in range(len(out)):
        for i in range(out.shape[1]):
            for p in range(out.shape[3]):
                row = i * stride[0] - padding[0] + p * dilation[0]
                if row < 0 or row >= x.shape[1]:
                    out[n, i, :, p] = 0
                    continue
                for j in range(out.shape[2]):
                    for q in range(out.shape[4]):
                        at = j * stride[1] - padding[1] + q * dilation[1]
                        if at < 0 or at >= x.shape[2]:
                            for c in range(channels):
                                out[n, i, j, p, q, c] = 0
                        else:
                            for c in range(channels):
                                out[n, i, j, p, q, c] = x[n, row, at, c]


@compiled
def columns_backward(g, of_x, stride, padding, dilation):
    """Each of g (N, OH, OW, KH, KW, C) added to the input that it came from."""
    channels = of_x.shape[3]
    of_x[:] = 0
    for n in range(len(g)):
        for i in range(g.shape[1]):
            for p in range(g.shape[3]):
                row = i * stride[0] - padding[0] + p * dilation[0]
                if row < 0 or row >= of_x.shape[1]:
                    continue
                for j in range(g.shape[2]):
                    for q in range(g.shape[4]):
                        at = j * stride[1] - padding[1] + q * dilation[1]
                        if 0 <= at < of_x.shape[2]:
                            for c in range(channels):
                                of_x[n, row, at, c] += g[n, i, j, p, q, c]


@compiled
def max_pool(x, y, winner, kernel, stride, padding):
    """winner (like y, uint8): which of the window's inputs, the first of equal ones, or a NaN."""
    for n in range(len(y)):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                out, won = y[n, i, j], winner[n, i, j]
                for c in range(len(out)):
                    out[c], won[c] = -np.inf, 0
                for p in range(kernel[0]):
                    row = i * stride[0] - padding[0] + p
                    if row < 0 or row >= x.shape[1]:
                        continue
                    for q in range(kernel[1]):
                        at = j * stride[1] - padding[1] + q
                        if at < 0 or at >= x.shape[2]:
                            continue
                        a, tap = x[n, row, at], np.uint8(p * kernel[1] + q)
                        for c in range(len(out)):
                            larger = a[c] > out[c] or a[c] != a[c]
                            out[c] = a[c] if larger else out[c]
                            won[c] = tap if larger else won[c]


@compiled
def max_pool_backward(g, winner, of_x, kernel, stride, padding):
    of_x[:] = 0
    for n in range(len(g)):
        for i in range(g.shape[1]):
            for j in range(g.shape[2]):
                got, won = g[n, i, j], winner[n, i, j]
                for p in range(kernel[0]):
                    row = i * stride[0] - padding[0] + p
                    if row < 0 or row >= of_x.shape[1]:
                        continue
                    for q in range(kernel[1]):
                        at = j * stride[1] - padding[1] + q
                        if at < 0 or at >= of_x.shape[2]:
                            continue
                        to, tap = of_x[n, row, at], np.uint8(p * kernel[1] + q)
                        for c in range(len(to)):
                            to[c] += got[c] if won[c] == tap else float32(0)


@compiled
def avg_pool(x, y, kernel, stride, padding):
    share = float32(1 / (kernel[0] * kernel[1]))
    for n in range(len(y)):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                out = y[n, i, j]
                for c in range(len(out)):
                    out[c] = 0
                for row in range(
                    max(0, i * stride[0] - padding[0]),
                    min(x.shape[1], i * stride[0] - padding[0] + kernel[0]),
                ):
                    for at in range(
                        max(0, j * stride[1] - padding[1]),
                        min(x.shape[2], j * stride[1] - padding[1] + kernel[1]),
                    ):
                        a = x[n, row, at]
                        for c in range(len(out)):
                            out[c] += a[c]
                for c in range(len(out)):
                    out[c] *= share


@compiled
def avg_pool_backward(g, of_x, kernel, stride, padding):
    share = float32(1 / (kernel[0] * kernel[1]))
    of_x[:] = 0
    for n in range(len(g)):
        for i in range(g.shape[1]):
            for j in range(g.shape[2]):
                got = g[n, i, j]
                for row in range(
                    max(0, i * stride[0] - padding[0]),
                    min(of_x.shape[1], i * stride[0] - padding[0] + kernel[0]),
                ):
                    for at in range(
                        max(0, j * stride[1] - padding[1]),
                        min(of_x.shape[2], j * stride[1] - padding[1] + kernel[1]),
                    ):
                        to = of_x[n, row, at]
                        for c in range(len(to)):
                            to[c] += got[c] * share


# Rows.


@compiled
def add_bias(rows, bias, relu):
    """rows += bias, in place; then ReLU, if wanted."""
    for i in range(len(rows)):
        row = rows[i]
        if relu:
            for c in range(len(row)):
                row[c] = _positive(row[c] + bias[c])
        else:
            for c in range(len(row)):
                row[c] += bias[c]


@compiled
def column_sums(rows, sums):
    sums[:] = 0
    for i in range(len(rows)):
        row = rows[i]
        for c in range(len(row)):
            sums[c] += row[c]


@compiled
def moments(rows, mean, var):
    """The mean and the variance (of the rows, not an estimate for more) of each column.

    Block by block, so that the second look at a block finds it in the cache; the blocks are put
    together by Chan, Golub and LeVeque's formula (1979), which loses no digits to a large mean.
    """
    mean[:] = 0
    var[:] = 0
    middle, spread = np.empty_like(mean), np.empty_like(mean)
    for begin in range(0, len(rows), BLOCK):
        block = rows[begin : begin + BLOCK]
        column_sums(block, middle)
        for c in range(len(mean)):
            middle[c] /= float32(len(block))
            spread[c] = 0
        for i in range(len(block)):
            row = block[i]
            for c in range(len(mean)):
                spread[c] += (row[c] - middle[c]) * (row[c] - middle[c])
        share = float32(len(block) / (begin + len(block)))
        for c in range(len(mean)):
            apart = middle[c] - mean[c]
            mean[c] += apart * share
            var[c] += spread[c] + apart * apart * share * float32(begin)
    for c in range(len(var)):
        var[c] /= float32(len(rows))


@compiled
def scale_shift(rows, mean, gain, shift, y, relu):
    """y = (rows - mean) * gain + shift, each of them one number a column; then ReLU, if wanted."""
    for i in range(len(rows)):
        row, out = rows[i], y[i]
        if relu:
            for c in range(len(row)):
                out[c] = _positive((row[c] - mean[c]) * gain[c] + shift[c])
        else:
            for c in range(len(row)):
                out[c] = (row[c] - mean[c]) * gain[c] + shift[c]


@compiled
def batch_norm_sums(rows, mean, y, g, relu, sums, products):
    """sums: of g, where y is positive if relu; products: of the same times rows - mean."""
    sums[:] = 0
    products[:] = 0
    for i in range(len(rows)):
        row, out, got = rows[i], y[i], g[i]
        if relu:
            for c in range(len(row)):
                seen = got[c] if out[c] > 0 else float32(0)
                sums[c] += seen
                products[c] += seen * (row[c] - mean[c])
        else:
            for c in range(len(row)):
                sums[c] += got[c]
                products[c] += got[c] * (row[c] - mean[c])


@compiled
def batch_norm_backward(rows, mean, y, g, relu, gain, slope, shift, of_rows):
    """of_rows = gain * g + slope * (rows - mean) + shift, with g only where y > 0 if relu."""
    for i in range(len(rows)):
        row, out, got, to = rows[i], y[i], g[i], of_rows[i]
        for c in range(len(row)):
            seen = got[c] if not relu or out[c] > 0 else float32(0)
            to[c] = gain[c] * seen + (slope[c] * (row[c] - mean[c]) + shift[c])


@compiled
def layer_norm(rows, weight, bias, eps, y, mean, inverse):
    """Also returned, a number a row: the mean, and one over the standard deviation."""
    share = float32(1 / rows.shape[1])
    for i in range(len(rows)):
        row, out = rows[i], y[i]
        total = float32(0)
        for c in range(len(row)):
            total += row[c]
        middle = total * share
        total = float32(0)
        for c in range(len(row)):
            total += (row[c] - middle) * (row[c] - middle)
        scale = ONE / sqrt(total * share + float32(eps))
        for c in range(len(row)):
            out[c] = (row[c] - middle) * scale * weight[c] + bias[c]
        mean[i], inverse[i] = middle, scale


@compiled
def layer_norm_backward(rows, weight, mean, inverse, g, of_rows, of_weight, of_bias):
    share = float32(1 / rows.shape[1])
    of_weight[:] = 0
    of_bias[:] = 0
    for i in range(len(rows)):
        row, got, to = rows[i], g[i], of_rows[i]
        middle, scale = mean[i], inverse[i]
        total = product = float32(0)
        for c in range(len(row)):
            total += got[c] * weight[c]
            product += got[c] * weight[c] * (row[c] - middle)
        total *= share * scale
        product *= share * scale * scale * scale
        for c in range(len(row)):
            apart = row[c] - middle
            to[c] = got[c] * weight[c] * scale - total - apart * product
            of_weight[c] += got[c] * apart * scale
            of_bias[c] += got[c]


@compiled
def softmax(rows, scale, y):
    """Of rows * scale; y may be rows itself. A row that is -inf throughout becomes NaN."""
    for i in range(len(rows)):
        row, out = rows[i], y[i]
        top, total = _top(row) * float32(scale), float32(0)
        for c in range(len(row)):
            out[c] = _exp(row[c] * float32(scale) - top)
            total += out[c]
        total = ONE / total
        for c in range(len(row)):
            out[c] *= total


@compiled
def softmax_backward(y, g, scale, of_rows):
    """of_rows may be g itself."""
    for i in range(len(y)):
        out, got, to = y[i], g[i], of_rows[i]
        total = float32(0)
        for c in range(len(out)):
            total += out[c] * got[c]
        for c in range(len(out)):
            to[c] = out[c] * (got[c] - total) * float32(scale)


@compiled
def log_softmax(rows, y):
    for i in range(len(rows)):
        row, out = rows[i], y[i]
        top, total = _top(row), float32(0)
        for c in range(len(row)):
            total += _exp(row[c] - top)
        top += float32(log(total))
        for c in range(len(row)):
            out[c] = row[c] - top


@compiled
def log_softmax_backward(y, g, of_rows):
    for i in range(len(y)):
        out, got, to = y[i], g[i], of_rows[i]
        total = float32(0)
        for c in range(len(out)):
            total += got[c]
        for c in range(len(out)):
            to[c] = got[c] - _exp(out[c]) * total


@compiled
def cross_entropy(rows, target, weight, ignore_index, smoothing, losses, shares, of_rows):
    """For each row its loss, what it counts in a mean, and the gradient of its loss.

    weight: of the classes, shape (0,) for none. Returns the first row whose target is no class,
    or -1 where all are well.
    """
    classes = rows.shape[1]
    even, rest = float32(smoothing / max(classes, 1)), float32(1 - smoothing)
    for i in range(len(rows)):
        row, to, label = rows[i], of_rows[i], target[i]
        if label == ignore_index:
            losses[i] = shares[i] = 0
            to[:] = 0
            continue
        if label < 0 or label >= classes:
            return i
        shares[i] = weight[label] if len(weight) else ONE
        top, total = _top(row), float32(0)
        for c in range(classes):
            to[c] = _exp(row[c] - top)
            total += to[c]
        top += float32(log(total))
        loss = rest * shares[i] * (top - row[label])
        wanted = rest * shares[i]  # the sum over the classes of what the target gives each
        if smoothing != 0:
            for c in range(classes):
                part = even * weight[c] if len(weight) else even
                loss += part * (top - row[c])
                wanted += part
        for c in range(classes):
            to[c] *= wanted / total
        if smoothing != 0:
            for c in range(classes):
                to[c] -= even * weight[c] if len(weight) else even
        to[label] -= rest * shares[i]
        losses[i] = loss
    return -1


@compiled
def embedding_backward(index, g, of_weight):
    """index (n,), g (n, d): each row of g added to its row of of_weight."""
    of_weight[:] = 0
    for i in range(len(index)):
        got, to = g[i], of_weight[index[i]]
        for c in range(len(to)):
            to[c] += got[c]


# Element by element, on flat arrays.


@compiled
def relu(a, y):
    for i in range(len(a)):
        y[i] = _positive(a[i])


@compiled
def relu_backward(y, g, of_a):
    for i in range(len(y)):
        of_a[i] = g[i] if y[i] > 0 else float32(0)


@compiled
def silu(a, y):
    for i in range(len(a)):
        y[i] = a[i] / (ONE + _exp(-a[i]))


@compiled
def silu_backward(a, g, of_a):
    for i in range(len(a)):
        s = ONE / (ONE + _exp(-a[i]))
        of_a[i] = g[i] * (s * (ONE + a[i] * (ONE - s)))


@compiled
def gelu(a, y):
    for i in range(len(a)):
        y[i] = a[i] * _normal(a[i], _exp(float32(-0.5) * a[i] * a[i]))


@compiled
def gelu_backward(a, g, of_a):
    for i in range(len(a)):
        e = _exp(float32(-0.5) * a[i] * a[i])
        of_a[i] = g[i] * (_normal(a[i], e) + a[i] * e * float32(0.3989422804))


@compiled
def _normal(a, e):
    """The normal distribution up to a; e: exp(-a**2 / 2). (Abramowitz and Stegun, 7.1.26.)"""
    t = ONE / (ONE + float32(0.3275911 / 2**0.5) * abs(a))
    p = float32(1.061405429) * t - float32(1.453152027)
    p = p * t + float32(1.421413741)
    p = p * t - float32(0.284496736)
    p = p * t + float32(0.254829592)
    tail = float32(0.5) * p * t * e
    return tail if a < 0 else ONE - tail


@compiled
def _positive(a):
    return float32(0) if a < 0 else a  # NaN is no less than 0 and stays


@compiled
def _top(row):
    top = float32(-np.inf)
    for c in range(len(row)):
        top = row[c] if row[c] > top else top
    return top


@compiled
def _exp(a):
    """e**a, right to 2 units in the last place, and 0 or inf at the ends of float32's range.

    The vector units know no exp, and numba calls one for each number. So: a = n log(2) + r, a
    polynomial for e**r (Cephes, Moshier 1992) and n into the exponent's bits.
    """
    held = min(max(a, float32(-87)), float32(88))
    n = np.floor(held * float32(1.44269504) + float32(0.5))
    r = a - n * float32(0.693359375) + n * float32(2.12194440e-4)
    p = float32(1.9875691500e-4)
    p = p * r + float32(1.3981999507e-3)
    p = p * r + float32(8.3334519073e-3)
    p = p * r + float32(4.1665795894e-2)
    p = p * r + float32(1.6666665459e-1)
    p = p * r + float32(5.0000001201e-1)
    p = p * r * r + r + ONE
    y = p * int32((int32(n) + int32(127)) << int32(23)).view(float32)
    y = float32(0) if a < float32(-87) else y
    return float32(np.inf) if a > float32(88) else y


# The steps of the optimizers, on flat arrays.


@compiled
def adam(p, g, m, v, lr, beta1, beta2, eps, weight_decay, decoupled, bias1, bias2):
    """One step of Adam, or of AdamW (`decoupled`), on flat arrays; p, m and v change in place.

    bias1, bias2: 1 - beta1**step and 1 - beta2**step.
    """
    rate = float32(lr / bias1)
    root = float32(1 / sqrt(bias2))
    keep1, keep2 = float32(1 - beta1), float32(1 - beta2)
    beta2_, eps_ = float32(beta2), float32(eps)
    decay = float32(0 if decoupled else weight_decay)
    shrink = float32(1 - lr * weight_decay if decoupled else 1)
    for i in range(len(p)):
        gi = g[i] + decay * p[i]
        m[i] += keep1 * (gi - m[i])
        v[i] = beta2_ * v[i] + keep2 * gi * gi
        p[i] = shrink * p[i] - rate * m[i] / (sqrt(v[i]) * root + eps_)


@compiled
def sgd(p, g, velocity, lr, momentum, dampening, weight_decay, nesterov, first):
    """One step of SGD; velocity changes in place and is not read at the `first` step.

    Without momentum give any array as velocity: it is left alone.
    """
    rate, decay = float32(lr), float32(weight_decay)
    if momentum == 0:
        for i in range(len(p)):
            p[i] -= rate * (g[i] + decay * p[i])
        return
    keep = float32(0 if first else momentum)
    new = float32(1 if first else 1 - dampening)
    of_g, of_velocity = float32(1 if nesterov else 0), float32(momentum if nesterov else 1)
    if first:
        velocity[:] = 0  # whatever was there, NaN included
    for i in range(len(p)):
        gi = g[i] + decay * p[i]
        velocity[i] = keep * velocity[i] + new * gi
        p[i] -= rate * (of_g * gi + of_velocity * velocity[i])


@compiled
def rmsprop(p, g, v, mean, velocity, lr, alpha, eps, weight_decay, momentum, centered):
    """One step of RMSprop; v, mean (if centered) and velocity (with momentum) change in place.

    Where one is not wanted give any array: it is left alone.
    """
    rate, decay, eps_, momentum_ = (
        float32(lr),
        float32(weight_decay),
        float32(eps),
        float32(momentum),
    )
    keep, new = float32(alpha), float32(1 - alpha)
    for i in range(len(p)):
        gi = g[i] + decay * p[i]
        v[i] = keep * v[i] + new * gi * gi
        square = v[i]
        if centered:
            mean[i] += new * (gi - mean[i])
            square -= mean[i] * mean[i]
        step = gi / (sqrt(square) + eps_)
        if momentum != 0:
            velocity[i] = momentum_ * velocity[i] + step
            step = velocity[i]
        p[i] -= rate * step
