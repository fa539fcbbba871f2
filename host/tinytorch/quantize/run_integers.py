"""One operation by itself, in integers."""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tinytorch.int8 import kernels
from tinytorch.quantize.ir import Operation
from tinytorch_core.model import FIELDS, RECORD, RECORD_BYTES

BATCH = 64  # samples at a time where all windows of a layer's input are laid out


def run_integers(operation: Operation, inputs: Sequence[NDArray[np.int8]]) -> NDArray[np.int8]:
    """One operation by itself, in numpy: its inputs (N, ...) to (N, out_h, out_w, out_c)."""
    node = operation.node
    size, count = node.in_h * node.in_w * node.in_c, node.out_h * node.out_w * node.out_c
    table = operation.table.astype("<i4").tobytes()
    values = {
        "x": 0, "x2": (len(inputs) - 1) * size, "y": len(inputs) * size,
        "x_zero": operation.x_zero, "y_zero": operation.y_zero,
        "low": operation.low, "high": operation.high, "table": RECORD_BYTES,
        "weight": RECORD_BYTES + len(table), "tier": operation.tier,
    }  # fmt: skip
    record = struct.pack(RECORD, *(values.get(f, getattr(node, f, 0)) for f in FIELDS))
    program = record + table + operation.weight.tobytes()
    outputs = []
    for at in range(0, len(inputs[0]), BATCH):
        parts = [x[at : at + BATCH].reshape(-1, size) for x in inputs]
        arena = np.concatenate([*parts, np.zeros((len(parts[0]), count), np.int8)], 1)
        kernels.KERNELS[node.kind](arena, program, 0)
        outputs.append(arena[:, -count:])
    return np.concatenate(outputs).reshape(-1, node.out_h, node.out_w, node.out_c)
