"""The constants that kernels read: a row for each channel, and the bytes that outputs become.

Kernels take inputs as u = x + 128 and have their sums begin with a constant, so that
    sum(w * (x - x_zero)) = sum(w * u) - (x_zero + 128) * sum(w).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinytorch.machine.armv6m import Exact, Lane, Tail
from tinytorch_core.model import DEPTHWISE, LANE, Op
from tinytorch_core.quant import LANE_LIMIT

Int64 = NDArray[np.int64]

MOST_CLIP = 4096  # bytes of a clip table; a layer that would need more compares


@dataclass(frozen=True)
class Rows:
    """rows: int64 (out_c, groups + 2), to be taken modulo 2**32; least, most: of all outputs that
    can occur before the clip table has them."""

    rows: Int64
    least: int
    most: int
    tail: Tail


def weights(op: Op, program: bytes) -> Int64:
    """(out_c, weights of a channel), in the order in which sums take them."""
    shape: tuple[int, ...] = (op.out_c, op.kernel_h * op.kernel_w * op.in_c)
    if op.kind == DEPTHWISE:
        shape = (op.kernel_h * op.kernel_w, op.out_c)
    flat = np.frombuffer(program, np.int8, shape[0] * shape[1], op.weight).reshape(shape)
    return (flat.T if op.kind == DEPTHWISE else flat).astype(np.int64)


def table(op: Op, program: bytes) -> Int64:
    """The columns of the model's table: bias, multiplier, shift, each (out_c,)."""
    rows = np.frombuffer(program, "<i4", 3 * op.out_c, op.table).reshape(-1, 3)
    return rows.T.astype(np.int64)


def _reach(w: Int64, low: int, high: int) -> tuple[Int64, Int64]:
    """The least and the largest sum of w * u for u from low to high, (out_c,) each."""
    plus, minus = np.maximum(w, 0).sum(1), np.minimum(w, 0).sum(1)
    return plus * low + minus * high, plus * high + minus * low


def rows(
    op: Op, program: bytes, inputs: tuple[int, int], groups: tuple[int, ...], lanes: int
) -> Rows:
    """What the kernels need of an operation whose inputs lie in `inputs` (int8 values).

    groups: lengths of the runs of weights that have a sum of their own.
    """
    low, high = inputs[0] + 128, inputs[1] + 128
    w = weights(op, program)
    if op.tier == LANE:
        return _lane_rows(op, program, w, (low, high), groups, lanes)
    return _exact_rows(op, program, w, (low, high))


def _lane_rows(
    op: Op, program: bytes, w: Int64, u: tuple[int, int], groups: tuple[int, ...], lanes: int
) -> Rows:
    bias, m, shift = table(op, program)
    begins = []
    ends = np.cumsum(groups)
    for start, end in zip(ends - groups, ends, strict=True):
        least, most = _reach(w[:, start:end], *u)
        assert lanes == 1 or (most - least).max() <= LANE_LIMIT
        begins.append(-least)
    least, most = _reach(w, *u)
    begin = np.sum(begins, 0)
    b = bias - m * (begin + (op.x_zero + 128) * w.sum(1))
    outputs = np.concatenate(
        [((least + begin) * m + b) >> shift, ((most + begin) * m + b) >> shift]
    )
    if lanes == 2:
        begins = [each * 0x10001 for each in begins]
    least_output, most_output = int(outputs.min()), int(outputs.max())
    if most_output - least_output >= MOST_CLIP:
        return Rows(np.stack([*begins, m, b], 1), 0, 0, Lane(int(shift[0]), wide=True))
    return Rows(np.stack([*begins, m, b], 1), least_output, most_output, Lane(int(shift[0])))


def _exact_rows(op: Op, program: bytes, w: Int64, u: tuple[int, int]) -> Rows:
    bias, multiplier, shift = table(op, program)
    begin = bias - (op.x_zero + 128) * w.sum(1)
    least, most = (begin + each for each in _reach(w, *u))
    factor = multiplier * 2.0 ** (shift - 31)
    exact, m, b = exact_constants(factor, shift, least, most, op.y_zero)
    span = 0, 0
    if exact.zone:
        outputs = [((each >> exact.coarse) * m + b) >> exact.fraction for each in (least, most)]
        span = int(np.min(outputs)) - 1, int(np.max(outputs)) + 1
    if span[1] - span[0] >= MOST_CLIP:
        exact, span = Exact(0, 0, 0), (0, 0)
    return Rows(np.stack([begin, m, b], 1), *span, exact)


def exact_constants(
    factor: NDArray[np.float64], shift: Int64, least: Int64, most: Int64, y_zero: int
) -> tuple[Exact, Int64, Int64]:
    """How the exact tier's outputs come from sums between least and most without 64 bits.

    With a = sum >> coarse, (a * m + b) / 2**fraction is larger than the true output + 1/2 by more
    than nothing and less than `error`, so that its floor is the output unless its fraction is below
    `error`. All three are the same for a layer's channels, (out_c,) each.
    """
    reach = np.maximum(np.abs(least), np.abs(most)).max() if len(least) else 0
    top = (np.maximum(np.abs(least), np.abs(most)) * factor).max() + abs(y_zero) + 2
    fraction = min(30 - int(np.ceil(np.log2(top + 1))), 24)
    # Where outputs are not clipped anyway, |output - zero point| stays below 256.
    within = np.minimum(np.maximum(np.abs(least), np.abs(most)), 257 / np.maximum(factor, 1e-30))
    # Double rounding moves the border between two outputs by at most one step of the first.
    twice = np.where(shift < 0, 2.0 ** np.minimum(shift, 0), 0.0)
    best, constants = Exact(0, 0, 0), None
    for coarse in range(int(reach).bit_length()):
        m = np.rint(factor * 2.0 ** (coarse + fraction)).astype(np.int64)
        if m.max() >= 1 << 31:
            break
        margin = factor * 2.0**coarse + within / 2.0 ** (coarse + fraction + 1) + twice
        error = margin + within / 2.0 ** (coarse + fraction + 1) + twice
        zone = int(np.floor(-np.log2(error.max() + 2.0**-fraction)))
        if zone > best.zone:
            best = Exact(coarse, fraction, zone)
            constants = m, np.ceil((0.5 + y_zero + margin) * 2.0**fraction).astype(np.int64)
    if constants is None or best.zone < 2:
        zeros = np.zeros_like(least)
        return Exact(0, 0, 0), zeros, zeros
    return best, *constants


def clip(low: int, high: int, least: int, most: int, words: bool) -> tuple[bytes, int]:
    """The bytes of outputs from least to most, clipped, and where output 0 stands among them.

    words: + 128, for words; else int8.
    """
    least, most = min(least, low, 0), max(most, high, 0)
    values = np.clip(np.arange(least, most + 1), low, high)
    return (values + 128 if words else values & 255).astype(np.uint8).tobytes(), -least
