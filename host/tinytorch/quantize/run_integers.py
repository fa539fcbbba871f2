"""One operation by itself, in integers."""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tinytorch.quantize.ir import Operation, record
from tinytorch.quantize.operations import kind_of, output_size
from tinytorch_core.model import RECORD, RECORD_BYTES

BATCH = 64  # samples at a time where all windows of a layer's input are laid out


def run_integers(operation: Operation, inputs: Sequence[NDArray[np.int8]]) -> NDArray[np.int8]:
    """One operation by itself, in numpy: its inputs (N, ...) to (N, out_h, out_w, out_c)."""
    node = operation.node
    kind = kind_of(node, f"Layer {node.name}")
    sizes, count = kind.input_sizes(node), output_size(node)
    table = operation.table.astype("<i4").tobytes()
    fields = record(
        operation, x=0, x2=sum(sizes[:-1]), y=sum(sizes), table=RECORD_BYTES,
        weight=RECORD_BYTES + len(table),
    )  # fmt: skip
    program = struct.pack(RECORD, *fields) + table + operation.weight.tobytes()
    outputs = []
    for at in range(0, len(inputs[0]), BATCH):
        parts = [
            x[at : at + BATCH].reshape(-1, size) for x, size in zip(inputs, sizes, strict=True)
        ]
        arena = np.concatenate([*parts, np.zeros((len(parts[0]), count), np.int8)], 1)
        kind.integer(arena, program, 0)
        outputs.append(arena[:, -count:])
    return np.concatenate(outputs).reshape(-1, node.out_h, node.out_w, node.out_c)
