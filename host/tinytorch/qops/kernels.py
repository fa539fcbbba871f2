"""The integer operations in numpy, a whole batch at a time; the same bytes as the reference.

Every kernel takes (arena, program, at) like tinytorch_core.qops, but `arena` is an int8 array
(batch, arena bytes). Dot products run in float64, where they are exact: |acc| stays below 2**30.
What follows them runs in int64.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tinytorch.qops.mel import mel
from tinytorch_core.model import (
    ADD,
    AVG_POOL,
    CONV2D,
    DENSE,
    DEPTHWISE,
    LANE,
    LOGISTIC,
    MAX_POOL,
    MEL,
    MOVE,
    MUL,
    Op,
)
from tinytorch_core.qops import ADD_SHIFT

Int8 = NDArray[np.int8]
Int64 = NDArray[np.int64]


def requantize(acc: Int64, multiplier: Int64, shift: Int64) -> Int64:
    """`quant.requantize` elementwise, channels last."""
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    high = ((acc << left) * multiplier + (1 << 30)) >> 31
    mask = (1 << right) - 1
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0))


def _input(arena: Int8, op: Op, at: int) -> Int8:
    n = op.in_h * op.in_w * op.in_c
    return arena[:, at : at + n].reshape(-1, op.in_h, op.in_w, op.in_c)


def _output(arena: Int8, op: Op, y: Int64) -> None:
    flat = np.clip(y, op.low, op.high).reshape(len(arena), -1)
    arena[:, op.y : op.y + flat.shape[1]] = flat


def _rows(program: bytes, op: Op, n: int) -> Int64:
    """The table's columns: bias, multiplier, shift, each (n,)."""
    return np.frombuffer(program, "<i4", 3 * n, op.table).reshape(n, 3).T.astype(np.int64)


def windows(x: NDArray, op: Any, fill: float) -> NDArray:
    """(N, H, W, C) to (N, out_h, out_w, C, kernel_h, kernel_w), padded with `fill`.

    op: an Op, or a node of tinytorch.quantize.ir, which has the same geometry.
    """
    below = max(0, (op.out_h - 1) * op.stride_h + op.kernel_h - op.pad_h - op.in_h)
    right = max(0, (op.out_w - 1) * op.stride_w + op.kernel_w - op.pad_w - op.in_w)
    pad = ((0, 0), (op.pad_h, below), (op.pad_w, right), (0, 0))
    x = np.pad(x, pad, constant_values=fill)
    windows = sliding_window_view(x, (op.kernel_h, op.kernel_w), axis=(1, 2))
    windows = windows[:, :: op.stride_h, :: op.stride_w]
    return windows[:, : op.out_h, : op.out_w]


def _scaled(arena: Int8, program: bytes, op: Op, dots: NDArray) -> None:
    acc = dots.astype(np.int64)
    bias, multiplier, shift = _rows(program, op, op.out_c)
    if op.tier == LANE:
        _output(arena, op, (acc * multiplier + bias) >> shift)
    else:
        _output(arena, op, requantize(acc + bias, multiplier, shift) + op.y_zero)


def conv2d(arena: Int8, program: bytes, at: int) -> None:
    op = Op(program, at)
    shape = (op.out_c, op.kernel_h, op.kernel_w, op.in_c)
    w = np.frombuffer(program, np.int8, int(np.prod(shape)), op.weight).reshape(shape)
    x = _input(arena, op, op.x).astype(np.float64) - op.x_zero
    dots = np.tensordot(windows(x, op, 0.0), w.astype(np.float64), ((4, 5, 3), (1, 2, 3)))
    _scaled(arena, program, op, dots)


def depthwise(arena: Int8, program: bytes, at: int) -> None:
    op = Op(program, at)
    shape = (op.kernel_h, op.kernel_w, op.in_c, op.out_c // op.in_c)
    w = np.frombuffer(program, np.int8, int(np.prod(shape)), op.weight).reshape(shape)
    x = _input(arena, op, op.x).astype(np.float64) - op.x_zero
    dots = np.einsum("nhwcij,ijcm->nhwcm", windows(x, op, 0.0), w.astype(np.float64), optimize=True)
    _scaled(arena, program, op, dots.reshape(*dots.shape[:3], op.out_c))


def dense(arena: Int8, program: bytes, at: int) -> None:
    op = Op(program, at)
    w = np.frombuffer(program, np.int8, op.out_c * op.in_c, op.weight).reshape(op.out_c, op.in_c)
    x = arena[:, op.x : op.x + op.in_c].astype(np.float64) - op.x_zero
    _scaled(arena, program, op, x @ w.T.astype(np.float64))


def max_pool(arena: Int8, program: bytes, at: int) -> None:
    op = Op(program, at)
    x = _input(arena, op, op.x).astype(np.int64)
    _output(arena, op, windows(x, op, -128).max((4, 5)))


def avg_pool(arena: Int8, program: bytes, at: int) -> None:
    op = Op(program, at)
    x = _input(arena, op, op.x).astype(np.int64)
    total = windows(x, op, 0).sum((4, 5))
    n = windows(np.ones_like(x[:1]), op, 0).sum((4, 5))
    _output(arena, op, np.sign(total) * ((np.abs(total) + n // 2) // n))


def add(arena: Int8, program: bytes, at: int) -> None:
    op = Op(program, at)
    offset, multiplier, shift = _rows(program, op, 3)
    a = (_input(arena, op, op.x).astype(np.int64) + offset[0]) << ADD_SHIFT
    b = (_input(arena, op, op.x2).astype(np.int64) + offset[1]) << ADD_SHIFT
    total = requantize(a, multiplier[0], shift[0]) + requantize(b, multiplier[1], shift[1])
    _output(arena, op, requantize(total, multiplier[2], shift[2]) + offset[2])


def mul(arena: Int8, program: bytes, at: int) -> None:
    op = Op(program, at)
    offset, multiplier, shift = _rows(program, op, 1)
    n = op.kernel_h * op.kernel_w * op.in_c
    a = _input(arena, op, op.x).astype(np.int64) - op.x_zero
    b = arena[:, op.x2 : op.x2 + n].astype(np.int64) + offset
    b = b.reshape(-1, op.kernel_h, op.kernel_w, op.in_c)
    _output(arena, op, requantize(a * b, multiplier, shift) + op.y_zero)


def logistic(arena: Int8, program: bytes, at: int) -> None:
    op = Op(program, at)
    table = np.frombuffer(program, np.int8, 256, op.weight)
    n = op.in_h * op.in_w * op.in_c
    arena[:, op.y : op.y + n] = table[arena[:, op.x : op.x + n].astype(np.int64) + 128]


def move(arena: Int8, program: bytes, at: int) -> None:
    op = Op(program, at)
    n = op.in_h * op.in_w * op.in_c
    arena[:, op.y : op.y + n] = arena[:, op.x : op.x + n].copy()


KERNELS: dict[int, Callable[[Int8, bytes, int], None]] = {
    CONV2D: conv2d,
    DEPTHWISE: depthwise,
    DENSE: dense,
    MAX_POOL: max_pool,
    AVG_POOL: avg_pool,
    ADD: add,
    MOVE: move,
    MEL: mel,
    MUL: mul,
    LOGISTIC: logistic,
}
