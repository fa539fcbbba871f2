"""A network that takes a window, as one that takes a stream of it, a few rows at a time.

Without padding in time, a row of any layer depends on rows of the layer before, and on nothing
else: each is computed once, and kept as long as a later one needs it. So the stream's output is
that of the window's network, byte for byte, on the newest rows.
"""

from dataclasses import replace

import numpy as np

from tinytorch.graph import INPUT, Node
from tinytorch.quantize import Operation, Quant, QuantizedNet
from tinytorch_core.model import ADD, DENSE, MEL, MOVE


def stream(net: QuantizedNet, step: int) -> QuantizedNet:
    """The network for `step` new rows a time, of the window (rows, ...) that `net` takes.

    Its first outputs, until a whole window has come, mean nothing. Raises ValueError for a network
    that cannot run so.
    """
    rows = net.input_shape[0]
    if not 0 < step <= rows:
        raise ValueError(f"A step of {step} rows is none of a window of {rows}: give 1 to {rows}.")
    operations: list[Operation] = []
    moves: list[Operation] = []
    kept = 0  # of the input
    source, window, new = INPUT, rows, step  # what is read next: the rows of a window, the new ones
    for operation in net.operations:
        node = operation.node
        needed, made = _rows(node, window, new)
        row = _row_bytes(operations[source].node) if source != INPUT else _input_row(net)
        history = (needed - new) * row
        if node.kind != DENSE:
            node = replace(node, in_h=needed, out_h=made)
        if history:
            if source == INPUT:
                kept = history
            else:
                operations[source] = replace(operations[source], kept=history)
        operations.append(replace(operation, node=replace(node, inputs=(source,))))
        reader = len(operations) - 1
        if history:
            moves.append(_move(source, needed - new, row, operation.x_zero))
        source, window, new = reader, operation.node.out_h, made
    operations = _in_order(moves, operations)
    return replace(net, operations=operations, input_shape=(step, *net.input_shape[1:]), kept=kept)


def _in_order(moves: list[Operation], operations: list[Operation]) -> list[Operation]:
    """All in the order in which they run. What was kept moves before anything new is written; the
    input, which is there already, moves after its reader.

    The inputs of `moves` and of `operations` are numbers of `operations`.
    """
    first = [move for move in moves if move.node.inputs != (INPUT,)]
    after = [move for move in moves if move.node.inputs == (INPUT,)]
    places = [len(first) + i + (len(after) if i else 0) for i in range(len(operations))]

    def placed(operation: Operation) -> Operation:
        inputs = tuple(i if i == INPUT else places[i] for i in operation.node.inputs)
        return replace(operation, node=replace(operation.node, inputs=inputs))

    return [placed(o) for o in (*first, operations[0], *after, *operations[1:])]


def _rows(node: Node, window: int, new: int) -> tuple[int, int]:
    """The rows of its input that a node reads at each step, and those that it makes."""
    if node.kind == ADD:
        raise ValueError(f"Layer {node.name} adds: a stream runs layers one after the other.")
    if node.kind == DENSE:
        return window, 1
    if node.in_h != window:
        raise ValueError(f"Layer {node.name} does not keep the rows of time: a stream needs them.")
    if node.pad_h:
        raise ValueError(
            f"Layer {node.name} pads in time, which a stream does not know the end of: train it "
            "with padding 0 there."
        )
    if node.kernel_h == window:
        return window, 1
    if new % node.stride_h or node.kernel_h < node.stride_h:
        raise ValueError(
            f"Layer {node.name} moves {node.stride_h} rows at a time, which do not divide its "
            f"{new} new ones: take other steps."
        )
    if (window - node.kernel_h) % node.stride_h:
        raise ValueError(
            f"Layer {node.name} leaves the newest of its {window} rows out: use a window of one "
            "row less, or more."
        )
    made = new // node.stride_h
    return (made - 1) * node.stride_h + node.kernel_h, made


def _row_bytes(node: Node) -> int:
    return node.out_w * node.out_c


def _input_row(net: QuantizedNet) -> int:
    return int(np.prod(net.input_shape[1:]))


def _move(source: int, rows: int, row: int, fill: int) -> Operation:
    node = Node("move", MOVE, (source,), rows, 1, row, rows, 1, row)
    return Operation(node, 0, 0, fill, 127, np.zeros((0, 3), np.int32), np.zeros(0, np.int8))


def listen(net: QuantizedNet, tables: bytes, window: int, hop: int) -> QuantizedNet:
    """A network of a stream of features, from `stream`, with what makes them of sound in front.

    tables: of tinytorch.sound; window, hop: samples. It takes (step * hop,) int16 samples.
    """
    step = net.input_shape[0]
    values, samples = _input_row(net), (step - 1) * hop + window
    node = Node("mel", MEL, (INPUT,), samples, 1, 2, step, 1, values, window, 1, hop, 1)
    mel = Operation(
        node, 0, net.input.zero_point, -128, 127, np.frombuffer(tables, "<i4"),
        np.zeros(0, np.int8), kept=net.kept,
    )  # fmt: skip
    number = {}  # of the operations that are no moves, with the new one in front
    operations, moves = [mel], []
    for i, operation in enumerate(net.operations):
        if operation.node.kind == MOVE:
            moves.append(operation)
        else:
            number[i] = len(operations)
            operations.append(operation)

    def behind(operation: Operation) -> Operation:
        inputs = tuple(0 if i == INPUT else number[i] for i in operation.node.inputs)
        return replace(operation, node=replace(operation.node, inputs=inputs))

    moves = [behind(move) for move in moves]
    if window > hop:
        moves.append(_move(INPUT, window - hop, 2, 0))
    operations = _in_order(moves, [mel, *map(behind, operations[1:])])
    return replace(
        net, operations=operations, input_shape=(step * hop,), input=Quant(1 / 32768, 0),
        type="int16", kept=2 * (window - hop),
    )  # fmt: skip
