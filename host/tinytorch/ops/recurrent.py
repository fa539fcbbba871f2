"""The operations of recurrent layers: all times of a sequence, forward and back again.

x (L, N, G) is the inputs' part of G = gates * H sums, h (N, H) the first state, weight (G, H) and
bias (G,) the states' part; the result is (L, N, H). With `reverse` the times go from the last to
the first.
"""

import numpy as np

from tinytorch.ops.array import Array, Result
from tinytorch.ops.memory import empty


def _logistic(a: Array) -> None:
    """1 / (1 + exp(-a)) in place, by tanh, which cannot overflow."""
    a *= 0.5
    np.tanh(a, out=a)
    a *= 0.5
    a += 0.5


def _products(sums: Array, states: Array) -> tuple[Array, Array]:
    """The gradients of the states' weight and bias, from those of the sums of all times."""
    rows = sums.reshape(-1, sums.shape[-1])
    return rows.T @ states.reshape(-1, states.shape[-1]), rows.sum(0)


def _gates(sums: Array, count: int) -> Array:
    """Of each time the gates apart: (L, N, count * H) -> (L, count, N, H), the same memory."""
    times, n, width = sums.shape
    return sums.reshape(times, n, count, width // count).swapaxes(1, 2)


def rnn(
    x: Array, h: Array, weight: Array, bias: Array | None, *, nonlinearity: str, reverse: bool
) -> Result:
    """h' = tanh(x + weight h + bias), or relu of it. (Elman, 1990.)"""
    step = -1 if reverse else 1
    x = x[::step]
    states = empty((len(x) + 1, *h.shape), x.dtype)
    states[0] = h
    for t, y in enumerate(states[1:]):
        np.matmul(states[t], weight.T, out=y)
        y += x[t]
        if bias is not None:
            y += bias
        np.tanh(y, out=y) if nonlinearity == "tanh" else np.maximum(y, 0, out=y)

    def gradients(g: Array) -> tuple[Array | None, ...]:
        g = g[::step]
        sums = empty(x.shape, x.dtype)
        of_h = np.zeros_like(h)
        for t in reversed(range(len(x))):
            y = states[t + 1]
            slope = 1 - y * y if nonlinearity == "tanh" else y > 0
            np.multiply(g[t] + of_h, slope, out=sums[t])
            of_h = sums[t] @ weight
        of_weight, of_bias = _products(sums, states[:-1])
        return sums[::step], of_h, of_weight, of_bias

    return states[1:][::step], gradients


def gru(x: Array, h: Array, weight: Array, bias: Array | None, *, reverse: bool) -> Result:
    """r, z = sigmoid(...), n = tanh(x_n + r (weight_n h + bias_n)), h' = (1 - z) n + z h.

    The gates lie as r, z, n. (Cho et al., 2014.)
    """
    step, size = -1 if reverse else 1, h.shape[-1]
    x = x[::step]
    states = empty((len(x) + 1, *h.shape), x.dtype)
    sums, own = empty(x.shape, x.dtype), empty(x.shape, x.dtype)  # own: the states' part
    gates = _gates(sums, 3)
    states[0] = h
    for t in range(len(x)):
        np.matmul(states[t], weight.T, out=own[t])
        if bias is not None:
            own[t] += bias
        np.add(x[t, :, : 2 * size], own[t, :, : 2 * size], out=sums[t, :, : 2 * size])
        _logistic(sums[t, :, : 2 * size])
        r, z, n = gates[t]
        np.multiply(r, own[t, :, 2 * size :], out=n)
        n += x[t, :, 2 * size :]
        np.tanh(n, out=n)
        states[t + 1] = n + z * (states[t] - n)

    def gradients(g: Array) -> tuple[Array | None, ...]:
        g = g[::step]
        of_x, of_own = empty(x.shape, x.dtype), empty(x.shape, x.dtype)
        of_gates = _gates(of_x, 3)
        of_h = np.zeros_like(h)
        for t in reversed(range(len(x))):
            (r, z, n), (of_r, of_z, of_n) = gates[t], of_gates[t]
            of_h = of_h + g[t]
            of_n[...] = of_h * (1 - z) * (1 - n * n)
            of_z[...] = of_h * (states[t] - n) * z * (1 - z)
            of_r[...] = of_n * own[t, :, 2 * size :] * r * (1 - r)
            of_own[t] = of_x[t]
            of_own[t, :, 2 * size :] *= r
            of_h = of_h * z + of_own[t] @ weight
        of_weight, of_bias = _products(of_own, states[:-1])
        return of_x[::step], of_h, of_weight, of_bias

    return states[1:][::step], gradients


def lstm(
    x: Array, h: Array, c: Array, weight: Array, bias: Array | None, *, reverse: bool
) -> Result:
    """i, f, o = sigmoid(...), n = tanh(...), c' = f c + i n, h' = o tanh(c').

    The gates lie as i, f, n, o. The result has one more row than times: the last c.
    (Hochreiter and Schmidhuber, 1997; Gers et al., 2000.)
    """
    step, size, times = -1 if reverse else 1, h.shape[-1], len(x)
    x = x[::step]
    states, cells = (empty((times + 1, *h.shape), x.dtype) for _ in "hc")
    sums = empty(x.shape, x.dtype)
    gates = _gates(sums, 4)
    states[0], cells[0] = h, c
    for t in range(times):
        np.matmul(states[t], weight.T, out=sums[t])
        sums[t] += x[t]
        if bias is not None:
            sums[t] += bias
        i, f, n, o = gates[t]
        _logistic(sums[t, :, : 2 * size])
        np.tanh(n, out=n)
        _logistic(o)
        cells[t + 1] = f * cells[t] + i * n
        np.multiply(o, np.tanh(cells[t + 1]), out=states[t + 1])

    def gradients(g: Array) -> tuple[Array | None, ...]:
        of_sums = empty(x.shape, x.dtype)
        of_gates = _gates(of_sums, 4)
        of_h, of_c = np.zeros_like(h), g[times]
        for t, of_y in zip(reversed(range(times)), g[:times][::-step], strict=True):
            (i, f, n, o), (of_i, of_f, of_n, of_o) = gates[t], of_gates[t]
            squashed = np.tanh(cells[t + 1])
            of_h = of_h + of_y
            of_c = of_c + of_h * o * (1 - squashed * squashed)
            of_i[...] = of_c * n * i * (1 - i)
            of_f[...] = of_c * cells[t] * f * (1 - f)
            of_n[...] = of_c * i * (1 - n * n)
            of_o[...] = of_h * squashed * o * (1 - o)
            of_h, of_c = of_sums[t] @ weight, of_c * f
        of_weight, of_bias = _products(of_sums, states[:-1])
        return of_sums[::step], of_h, of_c, of_weight, of_bias

    y = empty((times + 1, *h.shape), x.dtype)
    y[:times], y[times] = states[1:][::step], cells[times]
    return y, gradients
