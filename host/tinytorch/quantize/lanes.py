"""The lane bound: how far the sums of a layer reach, and which weights keep them within bounds.

Two products share a 32-bit word on a core that multiplies nothing wider. That takes
sum(|w|) * (largest input - smallest input) <= LANE_LIMIT for every output channel and every group
of its weights, in the order of the file. The functions here take the operations of a network that
is being quantized, and the records of a model file alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tinytorch.quantize.ir import INPUT
from tinytorch_core.model import AVG_POOL, CONV2D, DENSE, DEPTHWISE, LANE, MAX_POOL, MOVE, Op
from tinytorch_core.quant import LANE_LIMIT

if TYPE_CHECKING:
    from tinytorch.quantize.ir import Operation, QuantizedNet

FULL = (-128, 127)  # what the network's input may hold
# With fewer bits (a sign, and a largest |w| of 2.8) a layer stays exact: with hardly more a keyword
# network kept its accuracy only by training for them.
LEAST_BITS = 2.5
MOST_STEPS = 0.25  # that a rounded multiplier may move an output
TOP = 30  # the largest shift
Int64 = NDArray[np.int64]


def _sources(operations: Sequence[Operation | Op]) -> list[int]:
    """Which operation made the first input of each; INPUT also for what cannot be told."""
    found = []
    # Where what is read begins with what was kept: where its new part is, and how long.
    kept = {}
    for each in operations:
        if isinstance(each, Op) and each.kind == MOVE:
            kept[each.y] = each.y + each.in_h * each.in_w * each.in_c, each.x - each.y
    for i, operation in enumerate(operations):
        source = INPUT
        if not isinstance(operation, Op):
            source = operation.node.inputs[0]
        elif operation.kind != MOVE:
            size = operation.in_h * operation.in_w * operation.in_c
            at, size = kept.get(operation.x, (operation.x, size))
            for j in range(i - 1, -1, -1):  # the last that wrote there
                other: Any = operations[j]
                n = other.out_h * other.out_w * other.out_c
                if other.kind != MOVE and other.y < at + size and at < other.y + n:
                    source = j if (other.y, n) == (at, size) else INPUT
                    break
        found.append(source)
    return found


def input_ranges(operations: Sequence[Operation | Op]) -> list[tuple[int, int]]:
    """The smallest and the largest int8 value that each operation's first input can hold.

    operations: of a QuantizedNet, or the records of a model file (`runtime.Model.operations`).
    Clips bound what a layer puts out; pooling puts out nothing that it did not get. Padding counts
    as the zero point, which is therefore always inside.
    """
    inputs: list[tuple[int, int]] = []
    outputs: list[tuple[int, int]] = []
    for operation, source in zip(operations, _sources(operations), strict=True):
        low, high = FULL if source == INPUT else outputs[source]
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


def finest(weights: NDArray, span: int, group: int | None = None) -> tuple[Int64, NDArray]:
    """Real weights (channels, weights) as integers within the lane bound, and each channel's scale.

    span: largest input - smallest input. A channel's integers are rint(w * factor) with the largest
    float64 factor that keeps the bound in every group and |q| <= 127. The scale (channels,) is the
    one with which these integers come closest to the weights (least squares); 1 where all are 0.
    """
    most = LANE_LIMIT // span
    peak = np.abs(weights).max(1, keepdims=True)
    unit = weights / np.where(peak > 0, peak, 1)

    def fits(factor: NDArray) -> NDArray[np.bool_]:
        q = np.rint(unit * factor[:, None])
        return (np.abs(q).max(1) <= 127) & (group_sums(q, group).max(1) <= most)

    # Bisection to the last bit: positive floats are ordered as their bit patterns are.
    low = np.zeros(len(weights), np.int64)
    high = np.full(len(weights), 128.0).view(np.int64)  # it makes the peak 128, which does not fit
    while (high - low).max() > 1:
        middle = low + (high - low) // 2
        good = fits(middle.view(np.float64))
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    q = np.rint(unit * low.view(np.float64)[:, None])
    squares = (q * q).sum(1)
    scale = np.divide((weights * q).sum(1), squares, out=np.ones(len(q)), where=squares > 0)
    return q.astype(np.int64), scale


def bits(weights: NDArray) -> float:
    """The bits of integer weights (channels, weights): a sign and log2 of the largest |w|, mean
    over the channels that are not all 0."""
    peak = np.abs(weights).max(1)
    return float(1 + np.log2(peak[peak > 0]).mean()) if peak.any() else 0.0


def too_coarse(real: NDArray, weights: Int64) -> str:
    """Why integer weights stand too badly for the real ones, both (channels, weights), or ""."""
    lost = np.flatnonzero(real.any(1) & ~weights.any(1))
    if len(lost):
        return f"nothing would be left of the weights of channel {lost[0]}"
    left = bits(weights)
    if weights.any() and left < LEAST_BITS:
        return f"its weights would keep {left:.1f} bits, and need {LEAST_BITS:g}"
    return ""


def accumulator_bound(weights: Int64, x_zero: int, low: int, high: int) -> Int64:
    """The largest |acc| of each channel, (channels,), for inputs from low to high."""
    up = np.maximum(weights, 0).sum(1)
    down = np.maximum(-weights, 0).sum(1)
    above, below = high - x_zero, x_zero - low
    return np.maximum(up * above + down * below, up * below + down * above)


def lane_table(factor: NDArray, offset: NDArray, bound: Int64) -> tuple[NDArray[np.int32], str]:
    """The table of a layer in the lane tier, (channels, 3): bias, multiplier, shift.

    It makes y = floor(acc * factor + offset + 1/2), with factor, offset and bound (largest |acc|)
    of each channel, by the largest common shift with which multipliers stay below 2**15 and
    |acc * multiplier| + |bias| below 2**31. Beside it "", or why the layer cannot be had so.
    """
    factor = np.where(bound > 0, factor, 0.0)
    for shift in range(TOP, -1, -1):
        multiplier = np.rint(factor * (1 << shift))
        bias = np.floor(offset * (1 << shift) + (1 << shift) / 2)
        if multiplier.max() >= 1 << 15 or (bound * multiplier + np.abs(bias)).max() >= 1 << 31:
            continue
        table = np.stack([bias, multiplier, np.full_like(bias, shift)], 1).astype(np.int32)
        # By how much an output can be off that is not clipped anyway.
        steps = np.minimum(bound * factor, np.abs(offset) + 256)
        wrong = np.abs(multiplier / (1 << shift) / np.where(factor > 0, factor, 1) - 1) * steps
        worst = int(wrong.argmax())
        if wrong[worst] <= MOST_STEPS:
            return table, ""
        return (
            table,
            f"its multiplier for channel {worst} would be off by {wrong[worst]:.1f} steps",
        )
    worst = int((bound * factor + np.abs(offset)).argmax())
    return np.zeros((0, 3), np.int32), f"the sums of channel {worst} do not fit 32 bits"


@dataclass(frozen=True)
class Layer:
    """How a layer was quantized.

    tier: "exact" or "lane". group: weights that keep the lane bound together, None in the exact
    tier. weight_bits, multiplier_bits: that are in use, means over the channels.
    """

    layer: str
    tier: str
    group: int | None
    weight_bits: float
    multiplier_bits: float


def layers(net: QuantizedNet, group: int | None = None) -> list[Layer]:
    """Each layer that has weights. group: what the network was quantized with."""
    found = []
    for operation in net.operations:
        if operation.node.weight.size:
            weights, multiplier = rows(operation), operation.table[:, 1].astype(np.float64)
            used = multiplier[multiplier > 0]
            size = min(group or weights.shape[1], weights.shape[1])
            found.append(
                Layer(
                    layer=operation.node.name,
                    tier="lane" if operation.tier == LANE else "exact",
                    group=size if operation.tier == LANE else None,
                    weight_bits=round(bits(weights), 2),
                    multiplier_bits=round(float(np.log2(used + 1).sum()) / max(1, len(used)), 2),
                )
            )
    return found
