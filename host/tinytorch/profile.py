"""Where a network's parameters, arithmetic, memory and time lie: one row a layer.

A MAC is one multiplication whose product is added to a sum: what products of matrices, convolutions
and attention are made of. Everything else (biases, activations, norms, pooling, softmax) counts
none, as usual. With the batch of the given input:

    linear      rows * in_features * out_features
    conv        outputs * in_channels / groups * kernel positions (those on padding, too)
    matmul      outputs * length of the sums
    einsum      the product of all letters' sizes, for each array after the first
    attention   queries * keys * (width of a key + width of a value), of every head; masked ones too
    RNN and so  times * batch * gates * hidden_size * (input_size + hidden_size)

An activation is the result of an operation that has memory of its own (views have none): the tape
holds it until backward, beside what a gradient keeps for itself.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from tinytorch import ops, random, serialize
from tinytorch.autograd.tape import record
from tinytorch.autograd.tensor import Tensor, tensors_in
from tinytorch.autograd.tracing import ModuleTracker, tracing
from tinytorch_core.nn import Module

_WARM_UP = 2  # runs that are not counted

# Operation -> MACs, from its result, its arrays and its attributes.
MACS: dict[ops.Operation, Callable[..., int]] = {
    ops.linear: lambda y, x, weight, *_: x.size * len(weight),
    ops.conv: lambda y, x, weight, *_, **__: y.size * (weight.size // max(1, len(weight))),
    ops.matmul: lambda y, a, b: y.size * a.shape[-1],
    ops.einsum: lambda y, *arrays, inputs, output: (
        (len(arrays) - 1)
        * prod(
            {
                c: n
                for s, a in zip(inputs, arrays, strict=True)
                for c, n in zip(s, a.shape, strict=True)
            }.values()
        )
    ),
    ops.attention: lambda y, q, k, v, *_, **__: (
        y.size // max(1, v.shape[-1]) * k.shape[-2] * (k.shape[-1] + v.shape[-1])
    ),
    ops.self_attention: lambda y, *_, batch_first, **__: 2 * y.size * y.shape[batch_first],
    # The inputs' part is a linear operation before these.
    ops.rnn: lambda y, x, h, *_, **__: x.size * h.shape[-1],
    ops.gru: lambda y, x, h, *_, **__: x.size * h.shape[-1],
    ops.lstm: lambda y, x, h, *_, **__: x.size * h.shape[-1],
}


@dataclass(frozen=True)
class Row:
    """A layer, or all of them. Times are medians."""

    name: str
    kind: str
    output: tuple[int, ...] | None = None  # shape of the last result; None if there is none
    parameters: int = 0
    macs: int = 0
    activation_bytes: int = 0
    forward_ms: float = 0.0
    backward_ms: float = 0.0


@dataclass(frozen=True)
class Profile:
    """One row for each layer in the order of the net, and the sums. `print` shows a table.

    Work outside of layers is in the row of the module whose `forward` does it; the last row,
    "between", is what calls, the tape and the sum that backward starts from take.
    """

    rows: list[Row]

    @property
    def total(self) -> Row:
        """The sums of all rows."""
        names = ("parameters", "macs", "activation_bytes", "forward_ms", "backward_ms")
        return Row("total", "", None, *[sum(getattr(r, n) for r in self.rows) for n in names])

    def __str__(self) -> str:
        head = ("layer", "type", "output", "parameters", "MACs", "act. KB", "fwd ms", "bwd ms")
        lines = [head, *map(_cells, (*self.rows, self.total))]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if i < 3 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )

    def picture(self, title: str = "") -> bytes:
        """A PNG of the rows as horizontal bars."""
        from matplotlib.figure import Figure

        names = [f"{r.name} {r.kind}".strip() for r in self.rows]
        panels: list[tuple[str, list[tuple[str, list[float]]]]] = [
            ("parameters", [("", [r.parameters for r in self.rows])]),
            ("MACs", [("", [r.macs for r in self.rows])]),
            ("activations, KB", [("", [r.activation_bytes / 1024 for r in self.rows])]),
            (
                "time, ms",
                [
                    ("forward", [r.forward_ms for r in self.rows]),
                    ("backward", [r.backward_ms for r in self.rows]),
                ],
            ),
        ]
        figure = Figure(figsize=(13, 1.4 + 0.3 * len(names)), layout="constrained")
        all_axes: Any = figure.subplots(1, len(panels), sharey=True)
        if title:
            figure.suptitle(title, x=0.01, ha="left", color=_INK)
        for axes, (label, series) in zip(all_axes, panels, strict=True):
            end = np.zeros(len(names))
            for (name, values), color in zip(series, (_ACCENT, _WARM), strict=False):
                axes.barh(range(len(names)), values, left=end, color=color, label=name)
                end = end + values
            for y, value in enumerate(end):
                axes.annotate(
                    _short(value), (value, y), (3, 0), textcoords="offset points", va="center",
                    fontsize="small", color=_INK,
                )  # fmt: skip
            axes.set_xlim(0, 1.25 * max(end.max(), 1e-9))
            axes.set_xlabel(f"{label} (all: {_short(float(end.sum()))})")
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(length=0)
            axes.locator_params(axis="x", nbins=3)
            axes.xaxis.set_major_formatter(lambda value, _: _short(value))
        all_axes[0].set_yticks(range(len(names)), names)
        all_axes[0].set_ylim(len(names) - 0.4, -0.6)
        all_axes[-1].legend(
            frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0
        )
        png = io.BytesIO()
        figure.savefig(png, dpi=110)
        return png.getvalue()

    def save_picture(self, path: "str | Path", title: str = "") -> None:
        """Write `picture` as a PNG file."""
        serialize.write(path, self.picture(title))


_INK, _ACCENT, _WARM = "#1f2933", "#2667a8", "#d1603d"


def _cells(row: Row) -> tuple[str, ...]:
    output = "-" if row.output is None else "x".join(map(str, row.output)) or "1"
    return (
        row.name, row.kind, output, f"{row.parameters:,}", f"{row.macs:,}",
        f"{row.activation_bytes / 1024:,.1f}", f"{row.forward_ms:.3f}", f"{row.backward_ms:.3f}",
    )  # fmt: skip


def _short(value: float) -> str:
    """About three digits: 0.0123, 4.5, 24,576, 16.4 M."""
    for unit, size in (("G", 1e9), ("M", 1e6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def profile(net: Module, *inputs: Tensor, runs: int = 10) -> Profile:
    """Run a net on example inputs, forward and backward, and tell what each of its layers took.

    The net runs on the tape in its present mode (train or eval), and backward starts from the sum
    of its outputs. Parameters, gradients, buffers and the random state are left as they were.
    Raises ValueError for fewer than one run.
    """
    if runs < 1:
        raise ValueError(f"profile: {runs} runs are too few: let it run once at least.")
    watch = _Watch(net)
    seconds = []
    with _left_alone(net, inputs), watch:
        watch.run(inputs, counting=True)
        for run in range(_WARM_UP + runs):
            watch.run(inputs)
            if run >= _WARM_UP:
                seconds.append([(s.forward, s.backward) for s in watch.spent])
    for spent, times in zip(watch.spent, zip(*seconds, strict=True), strict=True):
        spent.forward, spent.backward = (1000 * median(part) for part in zip(*times, strict=True))
    return Profile(list(watch.rows()))


@contextmanager
def _left_alone(net: Module, inputs: Sequence[Tensor]) -> Iterator[None]:
    buffers = [(buffer, buffer.data.copy()) for buffer in net.buffers()]
    gradients = [(tensor, tensor.grad) for tensor in (*net.parameters(), *inputs)]
    chance = random.get_rng_state()
    try:
        yield
    finally:
        for buffer, numbers in buffers:
            buffer.data[...] = numbers
        for tensor, gradient in gradients:
            tensor.grad = gradient
        random.set_rng_state(chance)


@dataclass
class _Spent:
    """What a module did itself, apart from the modules inside it. Times in seconds."""

    called: bool = False
    output: tuple[int, ...] | None = None
    operations: int = 0
    macs: int = 0
    activations: int = 0
    forward: float = 0.0
    backward: float = 0.0


class _Watch(ModuleTracker):
    """Traces operations; the clock always runs for the innermost module that was called."""

    def __init__(self, net: Module) -> None:
        super().__init__(net)
        self.net = net
        self._of: dict[str | None, _Spent] = {path: _Spent() for path in (*self.modules, None)}
        self.spent = list(self._of.values())  # the last: between
        self._inner = self.spent[-1]
        self._since = 0.0
        self._counting = False

    def enter(self, path: str | None) -> None:
        super().enter(path)
        now = perf_counter()
        self._inner.forward += now - self._since
        self._inner, self._since = self._of[path], now

    def returned(self, path: str, result: Any) -> None:
        spent = self._of[path]
        spent.called = True
        spent.output = next((t.shape for t in tensors_in(result)), None)

    def run(self, inputs: Sequence[Tensor], counting: bool = False) -> None:
        """Forward and backward, once; counting: the work as well as the time."""
        self._counting = counting
        for spent in self.spent:
            spent.forward = spent.backward = 0.0
        for tensor in (*self.net.parameters(), *inputs):
            tensor.grad = None
        between = self._inner = self.spent[-1]
        with tracing(self):
            self._since = perf_counter()
            outputs = [t.sum() for t in tensors_in(self.net(*inputs)) if t.requires_grad]
        self.enter(None)
        if outputs:
            sum(outputs[1:], outputs[0]).backward()
            whole = perf_counter() - self._since
            between.backward = whole - sum(s.backward for s in self.spent)

    def __call__(
        self, operation: ops.Operation, inputs: tuple[Tensor | None, ...], attrs: dict[str, Any]
    ) -> Tensor:
        result = record(operation, inputs, attrs)
        spent = self._inner
        if self._counting and spent is not self.spent[-1]:
            arrays = [None if t is None else t.data for t in inputs]
            spent.operations += 1
            if operation in MACS:
                spent.macs += MACS[operation](result.data, *arrays, **attrs)
            if not any(a is not None and np.may_share_memory(a, result.data) for a in arrays):
                spent.activations += result.data.nbytes
        if result._gradients is not None:
            result._gradients = _timed(result._gradients, spent)
        return result

    def leave(self) -> None:
        """Changes in place are done at once, and not recorded."""

    def changed(self, tensor: Tensor, result: Tensor) -> None:
        """The work was the result's."""

    def rows(self) -> Iterator[Row]:
        """A row for each layer; the Python of modules that only call others goes to the last."""
        known: set[int] = set()
        between = self.spent[-1]
        for name, module in self.modules.items():
            spent = self._of[name]
            own = [getattr(module, p) for p in module._parameters]
            new = {id(p): p.numel() for p in own if p is not None and id(p) not in known}
            known |= new.keys()
            leaf = not any(True for _ in module.children())
            if spent.operations or new or (leaf and spent.called):
                yield Row(
                    name or "(net)", type(module).__name__, spent.output, sum(new.values()),
                    spent.macs, spent.activations, spent.forward, spent.backward,
                )  # fmt: skip
            else:
                between.forward += spent.forward
        yield Row("between", "", forward_ms=between.forward, backward_ms=between.backward)


def _timed(gradients: Any, spent: _Spent) -> Any:
    """The same gradient functions, with the clock beside them."""
    if not callable(gradients):
        return tuple(_timed(g, spent) if callable(g) else g for g in gradients)

    def timed(g: ops.Array) -> Any:
        start = perf_counter()
        parts = gradients(g)
        spent.backward += perf_counter() - start
        return parts

    return timed
