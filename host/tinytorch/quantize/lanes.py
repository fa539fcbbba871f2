"""The lane bound: how far the sums of a layer reach, and which weights keep them within bounds.

Two products share a 32-bit word on a core that multiplies nothing wider. That takes
sum(|w|) * (largest input - smallest input) <= LANE_LIMIT for every output channel and every group
of its weights, in the order of the file. The functions here take the operations of a network that
is being quantized, and the records of a model file alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinytorch.quantize.flow import DataFlow
from tinytorch.quantize.ir import INPUT, Operation, QuantizedNet
from tinytorch.quantize.operations import Geometry, kind_of
from tinytorch_core.model import LANE, MOVE, Op
from tinytorch_core.quant import LANE_LIMIT

FULL = (-128, 127)  # what the network's input may hold
# With fewer bits (a sign, and a largest |w| of 2.8) a layer stays exact: with hardly more a keyword
# network kept its accuracy only by training for them.
LEAST_BITS = 2.5
MOST_STEPS = 0.25  # that a rounded multiplier may move an output
TOP = 30  # the largest shift
Int64 = NDArray[np.int64]


def input_ranges(operations: Sequence[Operation | Op]) -> list[tuple[int, int]]:
    """The smallest and the largest int8 value that each operation's first input can hold.

    operations: of a QuantizedNet, or the records of a model file (`runtime.Model.operations`).
    Clips bound what a layer puts out; pooling puts out nothing that it did not get. Padding counts
    as the zero point, which is therefore always inside. Raises ValueError for records whose flow is
    unclear, see `DataFlow`.
    """
    inputs: list[tuple[int, int]] = []
    outputs: list[tuple[int, int]] = []
    for operation, sources in zip(operations, _flow(operations).sources, strict=True):
        geometry = _geometry(operation)
        # What MOVE keeps is not looked at: its reader asks for the range of what is new.
        source = INPUT if geometry.kind == MOVE else sources[0]
        low, high = FULL if source == INPUT else outputs[source]
        zero = operation.x_zero
        inputs.append((min(low, zero), max(high, zero)))
        if not kind_of(geometry).bounded:
            low, high = FULL
        clip = (operation.low, operation.high)
        outputs.append((int(np.clip(low, *clip)), int(np.clip(high, *clip))))
    return inputs


def _flow(operations: Sequence[Operation | Op]) -> DataFlow:
    nodes = [o.node for o in operations if isinstance(o, Operation)]
    return DataFlow.of_nodes(nodes) if nodes else DataFlow.of_records(operations)  # type: ignore[arg-type]


def _geometry(operation: Operation | Op) -> Geometry:
    return operation.node if isinstance(operation, Operation) else operation


def rows(operation: Operation | Op, program: bytes | bytearray = b"") -> Int64:
    """The weights of CONV2D, DEPTHWISE and DENSE, (output channels, weights of each) in the order
    of the file. program: what an Op is a record of.
    """
    op = _geometry(operation)
    kind = kind_of(op)
    if not kind.weighted:
        raise ValueError(f"A {kind.name} has no weights: ask for those of a layer.")
    if isinstance(operation, Operation):
        weight = operation.weight
    else:
        weight = np.frombuffer(program, np.int8, op.out_c * kind.weights(op), operation.weight)
    ordered = weight.reshape(-1, op.out_c).T if kind.channels_last else weight.reshape(op.out_c, -1)
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
    |acc * multiplier| + |bias| below 2**31. Beside it "", or why the layer cannot be in this tier.
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
