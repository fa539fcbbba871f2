"""Recurrent layers, for the laptop only: a kit does not run them.

Each layer is one product for the inputs of all times, and one operation that goes through the times
and, for the gradients, back again. The operations keep the protocol of tinytorch.ops: x (L, N, G)
is the inputs' part of G = gates * H sums, h (N, H) the first state, weight (G, H) and bias (G,) the
states' part; the result is (L, N, H). With `reverse` the times go from the last to the first.
"""

from typing import Any

import numpy as np

from tinytorch.autograd.creation import zeros
from tinytorch.autograd.joining import cat
from tinytorch.autograd.tensor import Tensor, apply
from tinytorch.nn.module import Module
from tinytorch.ops.array import Array, Operation, Result
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


class _Recurrent(Module):
    """What RNN, GRU and LSTM share; a kit does not run them.

    Inputs are (L, N, input_size), or (N, L, input_size) with batch_first, or (L, input_size);
    outputs alike, of width hidden_size, or twice that if bidirectional. dropout: between layers.
    """

    gates = 1
    operation: Operation = rnn
    settings: dict[str, Any]

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if min(input_size, hidden_size, num_layers) < 1:
            raise ValueError(
                f"{type(self).__name__}: input_size {input_size}, hidden_size {hidden_size} and "
                f"num_layers {num_layers} must be 1 at least."
            )
        if not 0 <= dropout <= 1:
            raise ValueError(f"{type(self).__name__}: dropout {dropout} is not in [0, 1].")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        width = self.gates * hidden_size
        for layer in range(num_layers):
            inputs = hidden_size * (1 + bidirectional) if layer else input_size
            for end in self._ends(layer):
                parts: dict[str, tuple[int, ...]] = {
                    "weight_ih": (width, inputs),
                    "weight_hh": (width, hidden_size),
                }
                if bias:
                    parts |= {"bias_ih": (width,), "bias_hh": (width,)}
                for name, shape in parts.items():
                    self.register_parameter(name + end, self._uniform(shape, hidden_size))

    def _ends(self, layer: int) -> tuple[str, ...]:
        """Of the names of a layer's parameters, one for each direction."""
        return (f"_l{layer}", f"_l{layer}_reverse")[: 1 + self.bidirectional]

    def _run(self, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, list[list[Tensor]]]:
        """x (L, N, input_size) -> the last layer's outputs, and for each kind of state its last."""
        finals: list[list[Tensor]] = [[] for _ in states]
        for layer in range(self.num_layers):
            outputs = []
            for reverse, end in enumerate(self._ends(layer)):
                of_input, of_state = (
                    (getattr(self, "weight" + part + end), getattr(self, "bias" + part + end, None))
                    for part in ("_ih", "_hh")
                )
                first = [s[len(finals[0])] for s in states]
                y = apply(
                    type(self).operation, x.linear(*of_input), *first, *of_state,
                    reverse=bool(reverse), **self.settings,
                )  # fmt: skip
                times = len(x)
                finals[0].append(y[0 if reverse else times - 1])
                if len(finals) > 1:
                    finals[1].append(y[times])
                    y = y[:times]
                outputs.append(y)
            x = outputs[0] if len(outputs) == 1 else cat(outputs, 2)
            if layer < self.num_layers - 1:
                x = x.dropout(self.dropout, self.training)
        return x, finals

    def _recur(
        self, input: Tensor, hx: tuple[Tensor, ...] | None, kinds: int
    ) -> tuple[Tensor, list[Tensor]]:
        name = type(self).__name__
        if input.ndim not in (2, 3) or input.shape[-1] != self.input_size:
            raise ValueError(
                f"{name}: input {input.shape} does not fit input_size {self.input_size}; "
                f"({'N, L' if self.batch_first else 'L, N'}, {self.input_size}) does."
            )
        single = input.ndim == 2
        batch_first = self.batch_first and not single
        x = input.permute(1, 0, 2) if batch_first else input
        x = x.reshape(len(x), 1, self.input_size) if single else x
        if not len(x):
            raise ValueError(f"{name}: input {input.shape} has no time steps.")
        stacked = (self.num_layers * (1 + self.bidirectional), x.shape[1], self.hidden_size)
        expected = (stacked[0], stacked[2]) if single else stacked
        if hx is None:
            hx = (zeros(stacked).to(x.dtype),) * kinds
        for h in hx:
            if h.shape not in (expected, stacked):
                raise ValueError(f"{name}: state {h.shape} does not have shape {expected}.")
        y, finals = self._run(x, tuple(h.reshape(stacked) for h in hx))
        width = y.shape[2]
        y = y.permute(1, 0, 2) if batch_first else y
        last = [cat([h.reshape(1, *h.shape) for h in f]).reshape(expected) for f in finals]
        return y.reshape(len(x), width) if single else y, last

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        usual = {
            "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0,
            "bidirectional": False,
        }  # fmt: skip
        for name, value in usual.items():
            if getattr(self, name) != value:
                text += f", {name}={getattr(self, name)}"
        return text


class RNN(_Recurrent):
    """(output, h_n) of an input and a first state hx, zeros if None. (Elman, 1990.)

    h_n: (num_layers * directions, N, hidden_size), as hx. A kit does not run it.
    """

    operation = rnn

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh",
        bias: bool = True, batch_first: bool = False, dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:  # fmt: skip
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f'RNN: nonlinearity {nonlinearity!r} is not "tanh" or "relu".')
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        )
        self.nonlinearity = nonlinearity
        self.settings = {"nonlinearity": nonlinearity}

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, (h,) = self._recur(input, None if hx is None else (hx,), 1)
        return y, h


class GRU(_Recurrent):
    """(output, h_n) of an input and a first state hx, zeros if None. (Cho et al., 2014.)

    h_n: (num_layers * directions, N, hidden_size), as hx. A kit does not run it.
    """

    gates = 3
    operation = gru
    settings: dict[str, Any] = {}

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, (h,) = self._recur(input, None if hx is None else (hx,), 1)
        return y, h


class LSTM(_Recurrent):
    """(output, (h_n, c_n)) of an input and first states hx = (h, c), zeros if None.

    h_n, c_n: (num_layers * directions, N, hidden_size), as h and c. A kit does not run it.
    (Hochreiter and Schmidhuber, 1997.)
    """

    gates = 4
    operation = lstm
    settings: dict[str, Any] = {}

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, (h, c) = self._recur(input, hx, 2)
        return y, (h, c)
