"""The kernels that numba compiles: what numpy does in many passes over memory, in one.

Each does what the numpy function of its name with `@compiled.kernel` above it does, on C-contiguous
float32 arrays; or it is a step of an optimizer. All run on one thread and let go of the
interpreter's lock. Compiled code is cached on disk.

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


# Numbers.


@compiled
def _positive(a):
    y = float32(0) if a < 0 else a  # NaN is no less than 0 and stays
    return y + float32(0)  # else LLVM makes it "store where a < 0", which it does one by one


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


# Windows: (kernel, stride, padding, dilation), each a pair; images are (N, H, W, C). A row of
# outputs meets rows of inputs; what would lie in the padding is left out.


@compiled
def shifted(x, weight, y, window):
    _, stride, padding, dilation = window
    for n in range(len(y)):
        for i in range(y.shape[1]):
            outs = y[n, i]
            outs[:] = 0
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


@compiled
def shifted_of_x(g, weight, result, window):
    _, stride, padding, dilation = window
    result[:] = 0
    for n in range(len(g)):
        for i in range(g.shape[1]):
            outs = g[n, i]
            for p in range(weight.shape[0]):
                row = i * stride[0] - padding[0] + p * dilation[0]
                if row < 0 or row >= result.shape[1]:
                    continue
                ins = result[n, row]
                for q in range(weight.shape[1]):
                    w = weight[p, q]
                    for j in range(len(outs)):
                        at = j * stride[1] - padding[1] + q * dilation[1]
                        if at < 0 or at >= len(ins):
                            continue
                        a, out = ins[at], outs[j]
                        for c in range(len(w)):
                            a[c] += out[c] * w[c]


@compiled
def shifted_of_weight(g, x, result, window):
    _, stride, padding, dilation = window
    result[:] = 0
    for n in range(len(g)):
        for i in range(g.shape[1]):
            outs = g[n, i]
            for p in range(result.shape[0]):
                row = i * stride[0] - padding[0] + p * dilation[0]
                if row < 0 or row >= x.shape[1]:
                    continue
                ins = x[n, row]
                for q in range(result.shape[1]):
                    w = result[p, q]
                    for j in range(len(outs)):
                        at = j * stride[1] - padding[1] + q * dilation[1]
                        if at < 0 or at >= len(ins):
                            continue
                        a, out = ins[at], outs[j]
                        for c in range(len(w)):
                            w[c] += out[c] * a[c]


@compiled
def col2im(columns, result, window):
    kernel, stride, padding, dilation = window
    groups, _, outs_i, outs_j, _, _, each = columns.shape
    result[:] = 0
    for k in range(groups):
        for n in range(len(result)):
            for i in range(outs_i):
                for p in range(kernel[0]):
                    row = i * stride[0] - padding[0] + p * dilation[0]
                    if row < 0 or row >= result.shape[1]:
                        continue
                    for j in range(outs_j):
                        for q in range(kernel[1]):
                            at = j * stride[1] - padding[1] + q * dilation[1]
                            if 0 <= at < result.shape[2]:
                                for c in range(each):
                                    result[n, row, at, k * each + c] += columns[k, n, i, j, p, q, c]


@compiled
def max_pool(x, y, which, window):
    kernel, stride, padding, _ = window
    y[:] = -np.inf
    which[:] = 0
    for n in range(len(y)):
        for i in range(y.shape[1]):
            for p in range(kernel[0]):
                row = i * stride[0] - padding[0] + p
                if row < 0 or row >= x.shape[1]:
                    continue
                for q in range(kernel[1]):
                    number = which.dtype.type(p * kernel[1] + q)
                    for j in range(y.shape[2]):
                        at = j * stride[1] - padding[1] + q
                        if at < 0 or at >= x.shape[2]:
                            continue
                        a, best, place = x[n, row, at], y[n, i, j], which[n, i, j]
                        for c in range(len(a)):
                            new, old, was = a[c], best[c], place[c]
                            larger = new > old or new != new  # a NaN stays
                            best[c] = (new if larger else old) + float32(0)  # as in _positive
                            place[c] = max(was, number if larger else which.dtype.type(0))


@compiled
def max_pool_of_x(g, which, result, window):
    kernel, stride, padding, _ = window
    result[:] = 0
    for n in range(len(g)):
        for i in range(g.shape[1]):
            for p in range(kernel[0]):
                row = i * stride[0] - padding[0] + p
                if row < 0 or row >= result.shape[1]:
                    continue
                for j in range(g.shape[2]):
                    some, place = g[n, i, j], which[n, i, j]
                    for q in range(kernel[1]):
                        at = j * stride[1] - padding[1] + q
                        if at < 0 or at >= result.shape[2]:
                            continue
                        a, number = result[n, row, at], which.dtype.type(p * kernel[1] + q)
                        for c in range(len(a)):
                            a[c] += some[c] if place[c] == number else float32(0)


@compiled
def avg_pool(x, y, window):
    kernel, stride, padding, _ = window
    share = float32(1 / (kernel[0] * kernel[1]))
    y[:] = 0
    for n in range(len(y)):
        for i in range(y.shape[1]):
            top = i * stride[0] - padding[0]
            for j in range(y.shape[2]):
                left, out = j * stride[1] - padding[1], y[n, i, j]
                for row in range(max(0, top), min(x.shape[1], top + kernel[0])):
                    for at in range(max(0, left), min(x.shape[2], left + kernel[1])):
                        a = x[n, row, at]
                        for c in range(len(out)):
                            out[c] += a[c]
                for c in range(len(out)):
                    out[c] *= share


@compiled
def avg_pool_of_x(g, result, window):
    kernel, stride, padding, _ = window
    share = float32(1 / (kernel[0] * kernel[1]))
    result[:] = 0
    for n in range(len(g)):
        for i in range(g.shape[1]):
            top = i * stride[0] - padding[0]
            for j in range(g.shape[2]):
                left, out = j * stride[1] - padding[1], g[n, i, j]
                for row in range(max(0, top), min(result.shape[1], top + kernel[0])):
                    for at in range(max(0, left), min(result.shape[2], left + kernel[1])):
                        a = result[n, row, at]
                        for c in range(len(out)):
                            a[c] += out[c] * share


# Rows.


@compiled
def finish(rows, bias, relu):
    if bias is None and not relu:
        return
    offset = np.zeros(rows.shape[1], float32) if bias is None else bias
    for i in range(len(rows)):
        row = rows[i]
        if relu:
            for c in range(len(row)):
                row[c] = _positive(row[c] + offset[c])
        else:
            for c in range(len(row)):
                row[c] += offset[c]


@compiled
def scale(rows, gain, out):
    for i in range(len(rows)):
        row, to = rows[i], out[i]
        for c in range(len(row)):
            to[c] = row[c] * gain[c]


@compiled
def affine(rows, gain, offset, out, relu):
    for i in range(len(rows)):
        row, to = rows[i], out[i]
        if relu:
            for c in range(len(row)):
                to[c] = _positive(row[c] * gain[c] + offset[c])
        else:
            for c in range(len(row)):
                to[c] = row[c] * gain[c] + offset[c]


@compiled
def moments(rows, mean, var):
    """Block by block, so that the second look at a block finds it in the cache.

    The blocks are put together by Chan, Golub and LeVeque's formula (1979), which loses no digits
    to a large mean.
    """
    mean[:] = 0
    var[:] = 0
    middle, apart = np.empty_like(mean), np.empty_like(mean)
    for begin in range(0, len(rows), BLOCK):
        end = min(len(rows), begin + BLOCK)
        middle[:] = 0
        for i in range(begin, end):
            row = rows[i]
            for c in range(len(mean)):
                middle[c] += row[c]
        middle *= float32(1 / (end - begin))
        apart[:] = 0
        for i in range(begin, end):
            row = rows[i]
            for c in range(len(mean)):
                apart[c] += (row[c] - middle[c]) * (row[c] - middle[c])
        share = float32((end - begin) / end)
        for c in range(len(mean)):
            step = middle[c] - mean[c]
            mean[c] += step * share
            var[c] += apart[c] + step * step * share * float32(begin)
    var *= float32(1 / len(rows))


@compiled
def products(g, rows, mean, sums, products):
    sums[:] = 0
    products[:] = 0
    for i in range(len(rows)):
        row, some = rows[i], g[i]
        for c in range(len(row)):
            sums[c] += some[c]
            products[c] += some[c] * (row[c] if mean is None else row[c] - mean[c])


@compiled
def combine(a, of_a, b, of_b, more, out):
    for i in range(len(a)):
        first, second, to = a[i], b[i], out[i]
        for c in range(len(to)):
            to[c] = first[c] * of_a[c] + (second[c] * of_b[c] + more[c])


@compiled
def normal(rows, eps, normal, inverse):
    share = float32(1 / rows.shape[1])
    for i in range(len(rows)):
        row, to = rows[i], normal[i]
        total = float32(0)
        for c in range(len(row)):
            total += row[c]
        mean = total * share
        total = float32(0)
        for c in range(len(row)):
            total += (row[c] - mean) * (row[c] - mean)
        scale = ONE / sqrt(total * share + eps)
        for c in range(len(row)):
            to[c] = (row[c] - mean) * scale
        inverse[i, 0] = scale


@compiled
def normal_of_x(g, normal, inverse, result):
    share = float32(1 / g.shape[1])
    for i in range(len(g)):
        some, row, to = g[i], normal[i], result[i]
        total, product = float32(0), float32(0)
        for c in range(len(row)):
            total += some[c]
            product += some[c] * row[c]
        total, product = total * share, product * share
        for c in range(len(row)):
            to[c] = (some[c] - total - row[c] * product) * inverse[i, 0]


@compiled
def softmax(rows, y):
    e = np.empty(rows.shape[1], float32)  # rows and y may be the same array, e is another
    for i in range(len(rows)):
        row, out = rows[i], y[i]
        top, total = _top(row), float32(0)
        for c in range(len(e)):
            e[c] = _exp(row[c] - top)
            total += e[c]
        total = ONE / total
        for c in range(len(e)):
            out[c] = e[c] * total


@compiled
def softmax_of_x(g, y, result):
    for i in range(len(y)):
        some, out, to = g[i], y[i], result[i]
        total = float32(0)
        for c in range(len(out)):
            total += out[c] * some[c]
        for c in range(len(out)):
            to[c] = out[c] * (some[c] - total)


@compiled
def cross_entropy(
    x, target, weight, ignore_index, label_smoothing, losses, shares, slope
):  # fmt: skip
    even = float32(label_smoothing / x.shape[1])
    for i in range(len(x)):
        row, to, label = x[i], slope[i], target[i]
        if label == ignore_index:
            losses[i] = shares[i] = 0
            to[:] = 0
            continue
        top, total = _top(row), float32(0)
        for c in range(len(row)):
            to[c] = _exp(row[c] - top)
            total += to[c]
        top += float32(log(total))
        shares[i] = ONE if weight is None else weight[label]
        sharp = shares[i] * float32(1 - label_smoothing)
        loss, wanted = sharp * (top - row[label]), sharp
        if label_smoothing != 0:
            for c in range(len(row)):
                part = even if weight is None else even * weight[c]
                loss += part * (top - row[c])
                wanted += part
        total = wanted / total
        for c in range(len(row)):
            to[c] *= total
        to[label] -= sharp
        if label_smoothing != 0:
            for c in range(len(row)):
                to[c] -= even if weight is None else even * weight[c]
        losses[i] = loss


@compiled
def add_rows(index, g, result):
    result[:] = 0
    for i in range(len(index)):
        some, to = g[i], result[index[i]]
        for c in range(len(to)):
            to[c] += some[c]


# Element by element, on flat arrays.


@compiled
def relu(a, y):
    for i in range(len(a)):
        y[i] = _positive(a[i])


@compiled
def through_relu(y, g, result):
    for i in range(len(y)):
        result[i] = g[i] if y[i] > 0 else float32(0)


@compiled
def silu(a, share, y):
    for i in range(len(a)):
        share[i] = ONE / (ONE + _exp(-a[i]))
        y[i] = a[i] * share[i]


@compiled
def silu_of_a(share, y, g, result):
    for i in range(len(y)):
        result[i] = g[i] * (share[i] + y[i] * (ONE - share[i]))


@compiled
def normal_cdf(a, share):
    """Abramowitz and Stegun, 7.1.26: right to 1e-7."""
    for i in range(len(a)):
        t = ONE / (ONE + float32(0.3275911 / 2**0.5) * abs(a[i]))
        p = float32(1.061405429) * t - float32(1.453152027)
        p = p * t + float32(1.421413741)
        p = p * t - float32(0.284496736)
        p = p * t + float32(0.254829592)
        tail = float32(0.5) * p * t * _exp(float32(-0.5) * a[i] * a[i])
        share[i] = tail if a[i] < 0 else ONE - tail


@compiled
def gelu_of_a(a, share, g, result):
    for i in range(len(a)):
        density = _exp(float32(-0.5) * a[i] * a[i]) * float32(0.3989422804)
        result[i] = g[i] * (share[i] + a[i] * density)


# The steps of the optimizers, on flat arrays.


@compiled
def adam(
    p, g, m, v, largest, lr, beta1, beta2, eps, weight_decay, decoupled, amsgrad, bias1, bias2
):  # fmt: skip
    """One step of Adam, or of AdamW (`decoupled`), on flat arrays; p, m and v change in place.

    largest: with amsgrad the largest v so far; else any array, which is left alone. bias1, bias2:
    1 - beta1**step and 1 - beta2**step.
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
        square = v[i]
        if amsgrad:
            largest[i] = max(largest[i], square)
            square = largest[i]
        p[i] = shrink * p[i] - rate * m[i] / (sqrt(square) * root + eps_)


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
            square = max(square - mean[i] * mean[i], float32(0))  # rounding may leave a little less
        step = gi / (sqrt(square) + eps_)
        if momentum != 0:
            velocity[i] = momentum_ * velocity[i] + step
            step = velocity[i]
        p[i] -= rate * step
