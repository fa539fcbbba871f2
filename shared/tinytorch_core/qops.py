"""The integer operations in plain Python: the specification of TinyTorch's exact tier.

TensorFlow Lite's int8 semantics: activations with a scale and a zero point, weights symmetric for
each output channel, int32 bias and accumulator, requantization as in `quant`. Every faster kernel
(numpy, viper, machine code) takes the same arguments and must leave the same bytes in the arena.
Weights lie as (out, kernel_h, kernel_w, in), depthwise ones as (kernel_h, kernel_w, out).
"""

import struct

from tinytorch_core.model import ADD, AVG_POOL, CONV2D, DENSE, DEPTHWISE, MAX_POOL, Op
from tinytorch_core.quant import clamp, requantize

ADD_SHIFT = 20  # headroom of the two inputs of ADD, as in TensorFlow Lite for int8


def int8(byte):
    return (byte ^ 128) - 128


def _row(program, op, channel):
    return struct.unpack_from("<iii", program, op.table + 12 * channel)


def _window(op, row, column):
    """The taps of one output position that meet the image: (tap_h, tap_w, pixel)."""
    for i in range(op.kernel_h):
        for j in range(op.kernel_w):
            h = row * op.stride_h - op.pad_h + i
            w = column * op.stride_w - op.pad_w + j
            if 0 <= h < op.in_h and 0 <= w < op.in_w:
                yield i, j, h * op.in_w + w


def _put(arena, op, index, value):
    arena[op.y + index] = clamp(value, op.low, op.high) & 255


def conv2d(arena, program, at):
    op = Op(program, at)
    for position in range(op.out_h * op.out_w):
        taps = list(_window(op, position // op.out_w, position % op.out_w))
        for o in range(op.out_c):
            acc, multiplier, shift = _row(program, op, o)
            for i, j, pixel in taps:
                x = op.x + pixel * op.in_c
                w = op.weight + ((o * op.kernel_h + i) * op.kernel_w + j) * op.in_c
                for c in range(op.in_c):
                    acc += (int8(arena[x + c]) - op.x_zero) * int8(program[w + c])
            y = requantize(acc, multiplier, shift) + op.y_zero
            _put(arena, op, position * op.out_c + o, y)


def depthwise(arena, program, at):
    """Each input channel has out_c / in_c filters of its own."""
    op = Op(program, at)
    for position in range(op.out_h * op.out_w):
        taps = list(_window(op, position // op.out_w, position % op.out_w))
        for o in range(op.out_c):
            acc, multiplier, shift = _row(program, op, o)
            c = o // (op.out_c // op.in_c)
            for i, j, pixel in taps:
                x = arena[op.x + pixel * op.in_c + c]
                w = program[op.weight + (i * op.kernel_w + j) * op.out_c + o]
                acc += (int8(x) - op.x_zero) * int8(w)
            y = requantize(acc, multiplier, shift) + op.y_zero
            _put(arena, op, position * op.out_c + o, y)


def dense(arena, program, at):
    """A fully connected layer: in_c inputs (already flat), out_c outputs."""
    op = Op(program, at)
    for o in range(op.out_c):
        acc, multiplier, shift = _row(program, op, o)
        for c in range(op.in_c):
            acc += (int8(arena[op.x + c]) - op.x_zero) * int8(program[op.weight + o * op.in_c + c])
        _put(arena, op, o, requantize(acc, multiplier, shift) + op.y_zero)


def max_pool(arena, program, at):
    op = Op(program, at)
    for position in range(op.out_h * op.out_w):
        taps = list(_window(op, position // op.out_w, position % op.out_w))
        for c in range(op.in_c):
            best = max([int8(arena[op.x + pixel * op.in_c + c]) for _, _, pixel in taps])
            _put(arena, op, position * op.in_c + c, best)


def avg_pool(arena, program, at):
    """The mean of the window's pixels, padding not counted, halves rounded away from zero."""
    op = Op(program, at)
    for position in range(op.out_h * op.out_w):
        taps = list(_window(op, position // op.out_w, position % op.out_w))
        n = len(taps)
        for c in range(op.in_c):
            total = sum([int8(arena[op.x + pixel * op.in_c + c]) for _, _, pixel in taps])
            mean = (total + n // 2) // n if total > 0 else -((n // 2 - total) // n)
            _put(arena, op, position * op.in_c + c, mean)


def add(arena, program, at):
    op = Op(program, at)
    x_offset, x_multiplier, x_shift = _row(program, op, 0)
    x2_offset, x2_multiplier, x2_shift = _row(program, op, 1)
    y_offset, y_multiplier, y_shift = _row(program, op, 2)
    for i in range(op.out_h * op.out_w * op.out_c):
        a = (int8(arena[op.x + i]) + x_offset) << ADD_SHIFT
        b = (int8(arena[op.x2 + i]) + x2_offset) << ADD_SHIFT
        total = requantize(a, x_multiplier, x_shift) + requantize(b, x2_multiplier, x2_shift)
        _put(arena, op, i, requantize(total, y_multiplier, y_shift) + y_offset)


KERNELS = {
    CONV2D: conv2d,
    DEPTHWISE: depthwise,
    DENSE: dense,
    MAX_POOL: max_pool,
    AVG_POOL: avg_pool,
    ADD: add,
}
