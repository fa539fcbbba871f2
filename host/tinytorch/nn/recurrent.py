"""Recurrent layers, for the laptop only: a kit does not run them.

Each layer is one product for the inputs of all times, and one operation of tinytorch.ops.recurrent
that goes through the times and, for the gradients, back again.
"""

from typing import Any

from tinytorch.autograd.creation import zeros
from tinytorch.autograd.joining import cat
from tinytorch.autograd.tape import apply
from tinytorch.autograd.tensor import Tensor
from tinytorch.nn.module import Module
from tinytorch.ops.array import Operation
from tinytorch.ops.recurrent import gru, lstm, rnn


class _Recurrent(Module):
    """What RNN, GRU and LSTM share; a kit does not run them.

    Inputs are (L, N, input_size), or (N, L, input_size) with batch_first, or (L, input_size);
    outputs alike, of width hidden_size, or twice that if bidirectional. dropout: between layers.
    """

    gates = 1
    operation: Operation = rnn
    attrs: dict[str, Any]

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if min(input_size, hidden_size, num_layers) < 1:
            raise ValueError(
                f"{type(self).__name__}: input_size {input_size}, hidden_size {hidden_size} and "
                f"num_layers {num_layers} must be at least 1."
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
                    reverse=bool(reverse), **self.attrs,
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
        self.attrs = {"nonlinearity": nonlinearity}

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The outputs of all times (L, N, width), and the last states, as hx."""
        y, (h,) = self._recur(input, None if hx is None else (hx,), 1)
        return y, h


class GRU(_Recurrent):
    """(output, h_n) of an input and a first state hx, zeros if None. (Cho et al., 2014.)

    h_n: (num_layers * directions, N, hidden_size), as hx. A kit does not run it.
    """

    gates = 3
    operation = gru
    attrs: dict[str, Any] = {}

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The outputs of all times (L, N, width), and the last states, as hx."""
        y, (h,) = self._recur(input, None if hx is None else (hx,), 1)
        return y, h


class LSTM(_Recurrent):
    """(output, (h_n, c_n)) of an input and first states hx = (h, c), zeros if None.

    h_n, c_n: (num_layers * directions, N, hidden_size), as h and c. A kit does not run it.
    (Hochreiter and Schmidhuber, 1997.)
    """

    gates = 4
    operation = lstm
    attrs: dict[str, Any] = {}

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The outputs of all times (L, N, width), and the last states and cells, as hx."""
        y, (h, c) = self._recur(input, hx, 2)
        return y, (h, c)
