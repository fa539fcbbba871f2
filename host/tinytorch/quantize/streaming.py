"""A network that takes a window, as one that takes a stream of it, a few rows at a time.

Without padding in time, a row of any layer depends on rows of the layer before, and on nothing
else: each is computed once, and kept as long as a later one needs it. So the stream's output is
that of the window's network, byte for byte, on the newest rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tinytorch.quantize.ir import INPUT, Node, Operation, Quant, QuantizedNet
from tinytorch.quantize.operations import ROW_BY_ROW, WHOLE, kind_of
from tinytorch_core.model import MEL


def stream(net: QuantizedNet, step: int) -> QuantizedNet:
    """The network for `step` new rows a time, of the window (rows, ...) that `net` takes.

    Its first outputs, until a whole window has come, mean nothing. Raises ValueError for a network
    that cannot run so.
    """
    rows = net.input_shape[0]
    if not 0 < step <= rows:
        raise ValueError(f"A step of {step} rows is none of a window of {rows}: give 1 to {rows}.")
    if len(net.input_shape) == 2:
        raise ValueError(
            "A network of signals (channels, length) takes no stream: train it on images (1, "
            "length, channels), whose rows are the time."
        )
    # Of each source of rows: those of its window, those that are new at each step, bytes of a row.
    rows_of = {INPUT: _Rows(rows, step, int(np.prod(net.input_shape[1:])))}
    kept = dict.fromkeys(range(INPUT, len(net.operations)), 0)
    operations: list[Operation] = []
    for i, operation in enumerate(net.operations):
        node = operation.node
        sources = [rows_of[j] for j in node.inputs]
        needed, made = _rows(node, sources)
        for j, source in zip(node.inputs, sources, strict=True):
            kept[j] = max(kept[j], (needed - source.new) * source.bytes)
        rows_of[i] = _Rows(node.out_h, made, node.out_w * node.out_c)
        operations.append(replace(operation, node=_of_rows(node, needed, made)))
    last = rows_of[len(operations) - 1]
    if last.window > 1:
        raise ValueError(
            f"The network puts out {last.window} rows of time: let it end with "
            "AdaptiveAvgPool2d(1), or Flatten and Linear."
        )
    operations = [replace(operation, kept=kept[i]) for i, operation in enumerate(operations)]
    return replace(
        net, operations=operations, input_shape=(step, *net.input_shape[1:]), kept=kept[INPUT]
    )


@dataclass(frozen=True)
class _Rows:
    """What comes of a source: the rows of a window, the new ones of a step, the bytes of each."""

    window: int
    new: int
    bytes: int


def _of_rows(node: Node, needed: int, made: int) -> Node:
    """A node for the rows of one step."""
    stream = kind_of(node).stream
    if stream == WHOLE:
        return node
    if stream == ROW_BY_ROW and node.kernel_h == node.in_h:  # the extent of its second input
        node = replace(node, kernel_h=needed)
    return replace(node, in_h=needed, out_h=made)


def _rows(node: Node, sources: Sequence[_Rows]) -> tuple[int, int]:
    """The rows of its inputs that a node reads at each step, and those that it makes."""
    kind = kind_of(node, f"Layer {node.name}")
    window, new = sources[0].window, sources[0].new
    if kind.stream is None:
        raise ValueError(f"Layer {node.name} is a {kind.name}, which takes no stream.")
    if any((s.window, s.new) != (window, new) for s in sources):
        raise ValueError(
            f"Layer {node.name} joins branches of {' and '.join(str(s.window) for s in sources)} "
            f"rows of time that get {' and '.join(str(s.new) for s in sources)} new ones at each "
            "step: a stream joins branches with the same rows."
        )
    if kind.stream == ROW_BY_ROW:
        return new, new
    whole = kind.stream == WHOLE or node.kernel_h == window
    if whole and new > window:
        raise ValueError(
            f"Layer {node.name} takes {window} rows of time and gets {new} new ones at each step: "
            "take a smaller step."
        )
    if node.pad_h:
        raise ValueError(
            f"Layer {node.name} pads in time, and a stream has no end where that could be: train "
            "it with padding 0 there."
        )
    if whole:
        return window, 1
    kernel, stride = node.kernel_h, node.stride_h
    if kernel < stride:
        raise ValueError(f"Layer {node.name} passes over rows of time: make its stride smaller.")
    if new % stride:
        raise ValueError(
            f"Layer {node.name} moves {stride} rows at a time and gets {new} new ones at each "
            "step: take a step that divides so."
        )
    if (window - kernel) % stride:
        raise ValueError(
            f"Layer {node.name} leaves the newest of its {window} rows out: take a window that is "
            "a little shorter or longer."
        )
    made = new // stride
    return (made - 1) * stride + kernel, made


def with_sound(net: QuantizedNet, tables: bytes, window: int, hop: int) -> QuantizedNet:
    """A network of a stream of features, from `stream`, with what makes them of sound in front.

    tables: of sensing.mel; window, hop: samples. It takes (step * hop,) int16 samples. Raises
    ValueError where windows do not meet.
    """
    if hop > window:
        raise ValueError(
            f"Windows of {window} samples every {hop} leave samples out: a stream cannot."
        )
    step, values = net.input_shape[0], int(np.prod(net.input_shape[1:]))
    samples = (step - 1) * hop + window
    node = Node("mel", MEL, (INPUT,), samples, 1, 2, step, 1, values, window, 1, hop, 1)
    mel = Operation(
        node, 0, net.input.zero_point, -128, 127, np.frombuffer(tables, "<i4"),
        np.zeros(0, np.int8), kept=net.kept,
    )  # fmt: skip
    operations = [mel]
    for operation in net.operations:
        inputs = tuple(i + 1 for i in operation.node.inputs)  # INPUT is -1, and MEL 0
        operations.append(replace(operation, node=replace(operation.node, inputs=inputs)))
    return replace(
        net, operations=operations, input_shape=(step * hop,), input=Quant(1 / 32768, 0),
        type="int16", kept=2 * (window - hop),
    )  # fmt: skip
