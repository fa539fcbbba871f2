"""The constants that kernels read: a row for each channel, and the bytes that outputs become.

Kernels take inputs as u = x + 128 and have their sums begin with a constant, so that
    sum(w * (x - x_zero)) = sum(w * u) - (x_zero + 128) * sum(w).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinytorch.machine.armv6m.tail import COARSE_BITS, Exact, Lane, Tail
from tinytorch.quantize import lanes
from tinytorch_core.model import Op

Int64 = NDArray[np.int64]

MOST_CLIP = 4096  # bytes of a clip table; a layer that would need more compares
MOST_DOUBT = 0.25  # the part of all sums above which trying first does not pay


@dataclass(frozen=True)
class Rows:
    """rows: int64 (out_c, groups + 2), to be taken modulo 2**32; least, most: of all outputs that
    can occur before the clip table has them; doubt: see `tail.Exact`."""

    rows: Int64
    least: int
    most: int
    tail: Tail
    doubt: int = 0


def table(op: Op, program: bytes) -> Int64:
    """The columns of the model's table: bias, multiplier, shift, each (out_c,)."""
    rows = np.frombuffer(program, "<i4", 3 * op.out_c, op.table).reshape(-1, 3)
    return rows.T.astype(np.int64)


def _sum_range(w: Int64, inputs: tuple[int, int]) -> tuple[Int64, Int64]:
    """The least and the largest sum of w * u for inputs in this range, (out_c,) each."""
    low, high = inputs[0] + 128, inputs[1] + 128
    plus, minus = np.maximum(w, 0).sum(1), np.minimum(w, 0).sum(1)
    return plus * low + minus * high, plus * high + minus * low


def overflows(op: Op, program: bytes, inputs: tuple[int, int]) -> bool:
    """Whether a lane-tier operation can leave 32 bits, which no file that we write does."""
    w = lanes.rows(op, program)
    bias, m, _ = table(op, program)
    zero = (op.x_zero + 128) * w.sum(1)
    accumulator_bound = np.max([np.abs(sums - zero) for sums in _sum_range(w, inputs)], 0)
    return bool((accumulator_bound * m + np.abs(bias)).max() >= 1 << 31)


def _too_long(op: Op, least: int, most: int) -> bool:
    """Whether a clip table for these outputs would be too large."""
    return max(most, op.high, 0) - min(least, op.low, 0) >= MOST_CLIP


def lane_rows(
    op: Op, program: bytes, inputs: tuple[int, int], groups: tuple[int, ...], count: int
) -> Rows:
    """Of an operation of the lane tier, whose inputs lie in this range, with `count` sums a word.

    groups: lengths of the runs of weights that have a sum of their own.
    """
    w = lanes.rows(op, program)
    bias, m, shift = table(op, program)
    ends = np.cumsum(groups)
    begins = [
        -_sum_range(w[:, start:end], inputs)[0]
        for start, end in zip(ends - groups, ends, strict=True)
    ]
    begin = np.sum(begins, 0)
    b = bias - m * (begin + (op.x_zero + 128) * w.sum(1))
    outputs = [((sums + begin) * m + b) >> shift for sums in _sum_range(w, inputs)]
    least, most = int(np.min(outputs)), int(np.max(outputs))
    wide = _too_long(op, least, most) or overflows(op, program, inputs)
    if count == 2:
        begins = [begin * 0x10001 for begin in begins]
    tail = Lane(int(shift[0]), wide)
    return Rows(np.stack([*begins, m, b], 1), *((0, 0) if wide else (least, most)), tail)


def exact_rows(ops: Sequence[Op], program: bytes, inputs: Sequence[tuple[int, int]]) -> list[Rows]:
    """Of operations of the exact tier that share a kernel, each with the range of its inputs."""
    columns = []
    for op, span in zip(ops, inputs, strict=True):
        w = lanes.rows(op, program)
        bias, multiplier, shift = table(op, program)
        begin = bias - (op.x_zero + 128) * w.sum(1)
        least, most = (begin + sums for sums in _sum_range(w, span))
        factor = multiplier * 2.0 ** (shift - 31)
        columns.append((begin, factor, shift, least, most, np.full_like(begin, op.y_zero)))
    begin, factor, shift, least, most, zero = (
        np.concatenate(c) for c in zip(*columns, strict=True)
    )
    tail, doubt, coarse, m, b = exact_constants(factor, shift, least, most, zero)
    ends = np.cumsum([op.out_c for op in ops])
    spans = [(0, 0)] * len(ops)
    if tail.fraction:
        low, high = (((sums >> coarse) * m + b) >> tail.fraction for sums in (least, most))
        spans = [
            (int(a.min()) - 1, int(z.max()) + 1)
            for a, z in zip(np.split(low, ends[:-1]), np.split(high, ends[:-1]), strict=True)
        ]
    if any(_too_long(op, *span) for op, span in zip(ops, spans, strict=True)):
        tail, spans = Exact(tail.fraction, wide=True), [(0, 0)] * len(ops)
    rows = np.split(np.stack([begin, m << COARSE_BITS | coarse, b], 1), ends[:-1])
    return [Rows(r, *span, tail, doubt) for r, span in zip(rows, spans, strict=True)]


def exact_constants(
    factor: NDArray[np.float64], shift: Int64, least: Int64, most: Int64, y_zero: Int64
) -> tuple[Exact, int, Int64, Int64, Int64]:
    """How the exact tier's outputs come from sums between least and most without 64 bits: the tail,
    its `doubt`, and each channel's coarse, m and b.

    With a = sum >> coarse, (a * m + b) / 2**fraction is larger than the true output + 1/2 by more
    than nothing and less than `error`, so that its floor is the output unless its fraction is below
    `error`. Arrays are (channels,).
    """
    accumulator_bound = np.maximum(np.abs(least), np.abs(most))
    top = (accumulator_bound * factor + np.abs(y_zero)).max() + 2
    fraction = min(30 - int(np.ceil(np.log2(top + 1))), 24)
    # Where outputs are not clipped anyway, |output - zero point| stays below 256.
    within = np.minimum(accumulator_bound, 257 / np.maximum(factor, 1e-30))
    # Double rounding moves the border between two outputs by at most one step of the first.
    twice = np.where(shift < 0, 2.0 ** np.minimum(shift, 0), 0.0)
    # What the bits that `coarse` drops, and those that m lacks, can do: [coarse, channel].
    coarse = np.arange(24)[:, None]
    margin = factor * 2.0**coarse + within / 2.0 ** (coarse + fraction + 1) + twice
    error = margin + within / 2.0 ** (coarse + fraction + 1) + twice
    error[factor * 2.0 ** (coarse + fraction) >= 1 << 31 - COARSE_BITS] = 2.0
    best = error.argmin(0)
    channels = np.arange(len(factor))
    doubt = error[best, channels].max() + 2.0**-fraction
    if fraction < 8 or doubt > MOST_DOUBT:
        zeros = np.zeros_like(least)
        return Exact(0), 0, zeros, zeros, zeros
    m = np.rint(factor * 2.0 ** (best + fraction)).astype(np.int64)
    b = np.ceil((0.5 + y_zero + margin[best, channels]) * 2.0**fraction).astype(np.int64)
    return Exact(fraction), int(np.ceil(doubt * 2.0**32)), best, m, b


def clip(low: int, high: int, least: int, most: int, words: bool) -> tuple[bytes, int]:
    """The bytes of outputs from least to most, clipped, and where output 0 stands among them.

    words: + 128, for words; else int8.
    """
    least, most = min(least, low, 0), max(most, high, 0)
    values = np.clip(np.arange(least, most + 1), low, high)
    return (values + 128 if words else values & 255).astype(np.uint8).tobytes(), -least
