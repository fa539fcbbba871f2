"""The lane bound: how far the sums of a layer reach, and which weights keep them within bounds.

Two products share a 32-bit word on a core that multiplies nothing wider. That takes
sum(|w|) * (largest input - smallest input) <= LANE_LIMIT for every output channel and every group
of its weights, in the order of the file. The functions here take the operations of a network that
is being quantized, and the records of a model file alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tinytorch.graph import INPUT
from tinytorch_core.model import AVG_POOL, CONV2D, DENSE, DEPTHWISE, MAX_POOL, Op

if TYPE_CHECKING:
    from tinytorch.quantize import Operation

FULL = (-128, 127)  # what the network's input may hold
Int64 = NDArray[np.int64]


def _sources(operations: Sequence[Operation | Op]) -> list[tuple[int, ...]]:
    """For each operation those whose outputs it reads; INPUT also for what cannot be told."""
    found: list[tuple[int, ...]] = []
    for i, operation in enumerate(operations):
        if not isinstance(operation, Op):
            found.append(operation.node.inputs)
            continue
        size = operation.in_h * operation.in_w * operation.in_c
        source = INPUT
        for j in range(i - 1, -1, -1):  # the last that wrote there
            other: Any = operations[j]
            n = other.out_h * other.out_w * other.out_c
            if other.y < operation.x + size and operation.x < other.y + n:
                source = j if (other.y, n) == (operation.x, size) else INPUT
                break
        found.append((source,))
    return found


def input_ranges(operations: Sequence[Operation | Op]) -> list[tuple[int, int]]:
    """The smallest and the largest int8 value that each operation's first input can hold.

    operations: of a QuantizedNet, or the records of a model file (`runtime.Model.operations`).
    Clips bound what a layer puts out; pooling puts out nothing that it did not get. Padding counts
    as the zero point, which is therefore always inside.
    """
    inputs: list[tuple[int, int]] = []
    outputs: list[tuple[int, int]] = []
    for operation, sources in zip(operations, _sources(operations), strict=True):
        low, high = FULL if sources[0] == INPUT else outputs[sources[0]]
        zero = operation.x_zero
        inputs.append((min(low, zero), max(high, zero)))
        kind = operation.kind if isinstance(operation, Op) else operation.node.kind
        if kind not in (MAX_POOL, AVG_POOL):
            low, high = FULL
        clip = (operation.low, operation.high)
        outputs.append((int(np.clip(low, *clip)), int(np.clip(high, *clip))))
    return inputs


def rows(operation: Operation | Op, program: bytes | bytearray = b"") -> Int64:
    """The weights of CONV2D, DEPTHWISE and DENSE, (output channels, weights of each) in the order
    of the file. program: what an Op is a record of.
    """
    if isinstance(operation, Op):
        taps = operation.kernel_h * operation.kernel_w
        count = operation.out_c * taps * (1 if operation.kind == DEPTHWISE else operation.in_c)
        kind, out_c = operation.kind, operation.out_c
        weight = np.frombuffer(program, np.int8, count, operation.weight)
    else:
        kind, out_c, weight = operation.node.kind, operation.node.out_c, operation.weight
    if kind not in (CONV2D, DEPTHWISE, DENSE):
        raise ValueError("Pooling and addition have no weights: ask for those of a layer.")
    ordered = weight.reshape(-1, out_c).T if kind == DEPTHWISE else weight.reshape(out_c, -1)
    return ordered.astype(np.int64)


def group_sums(weights: NDArray, group: int | None = None) -> NDArray:
    """sum(|w|) of each channel's groups: (channels, weights) to (channels, groups).

    group: weights in one, the last may have fewer; None for all of them.
    """
    starts = np.arange(0, weights.shape[1], group or weights.shape[1])
    return np.add.reduceat(np.abs(weights), starts, axis=1)


def excess(
    operation: Operation | Op,
    low: int,
    high: int,
    group: int | None = None,
    program: bytes | bytearray = b"",
) -> int:
    """The largest sum(|w|) * (high - low) of a layer over its channels and groups.

    low, high: of its input, see `input_ranges`. The lane bound holds where this is at most
    LANE_LIMIT. program: what an Op is a record of.
    """
    return int(group_sums(rows(operation, program), group).max()) * (high - low)
