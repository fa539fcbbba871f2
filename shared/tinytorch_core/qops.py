"""The integer operations in plain Python: the specification of TinyTorch's arithmetic.

Activations are int8 with a scale and a zero point, weights int8, symmetric for each output channel.
Every faster kernel (numpy, viper, machine code) takes the same arguments and must leave the same
bytes in the arena. Weights lie as (out, kernel_h, kernel_w, in), depthwise ones as (kernel_h,
kernel_w, out). Pooling, ADD, MUL and LOGISTIC are those of TensorFlow Lite. A convolution or a
dense layer sums

    acc = sum(w * (x - x_zero))    over its window, padding counts as x_zero

and its record's tier says how that becomes an output, by the table's (bias, multiplier, shift):

    EXACT    clamp(requantize(acc + bias, multiplier, shift) + y_zero, low, high)
    LANE     clamp((acc * multiplier + bias) >> shift, low, high)

EXACT is TensorFlow Lite's int8, see `quant`: |acc + bias| << max(shift, 0) stays below ACC_LIMIT.
For MUL, where acc is a product of two differences and bias is none, that is shift <= 14.

LANE is for cores whose only product has 32 bits. There bias also holds y_zero << shift and the half
that rounds; the shift of an int32 is arithmetic, so it rounds down. What a LANE layer promises for
inputs from lo to hi (the clip of whatever made them, -128 to 127 for the network's input):

    sum(|w|) * (hi - lo) <= LANE_LIMIT            for each channel, so that two sums share a word;
                                                  a layer may promise it for each G weights in a row
    |acc * multiplier| + |bias| < 2**31           for each acc that such inputs can reach
    0 <= multiplier < 2**15, 0 <= shift <= 30     one shift for all channels of a layer
"""

import struct

from tinytorch_core import sound
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


def _scaled(program, op, channel, acc):
    """The output, not yet clamped, that a channel's sum becomes in the operation's tier."""
    bias, multiplier, shift = _row(program, op, channel)
    if op.tier == LANE:
        return (acc * multiplier + bias) >> shift
    return requantize(acc + bias, multiplier, shift) + op.y_zero


def conv2d(arena, program, at):
    op = Op(program, at)
    for position in range(op.out_h * op.out_w):
        taps = list(_window(op, position // op.out_w, position % op.out_w))
        for o in range(op.out_c):
            acc = 0
            for i, j, pixel in taps:
                x = op.x + pixel * op.in_c
                w = op.weight + ((o * op.kernel_h + i) * op.kernel_w + j) * op.in_c
                for c in range(op.in_c):
                    acc += (int8(arena[x + c]) - op.x_zero) * int8(program[w + c])
            _put(arena, op, position * op.out_c + o, _scaled(program, op, o, acc))


def depthwise(arena, program, at):
    """Each input channel has out_c / in_c filters of its own."""
    op = Op(program, at)
    for position in range(op.out_h * op.out_w):
        taps = list(_window(op, position // op.out_w, position % op.out_w))
        for o in range(op.out_c):
            acc = 0
            c = o // (op.out_c // op.in_c)
            for i, j, pixel in taps:
                x = arena[op.x + pixel * op.in_c + c]
                w = program[op.weight + (i * op.kernel_w + j) * op.out_c + o]
                acc += (int8(x) - op.x_zero) * int8(w)
            _put(arena, op, position * op.out_c + o, _scaled(program, op, o, acc))


def dense(arena, program, at):
    """A fully connected layer: in_c inputs (already flat), out_c outputs."""
    op = Op(program, at)
    for o in range(op.out_c):
        acc = 0
        for c in range(op.in_c):
            acc += (int8(arena[op.x + c]) - op.x_zero) * int8(program[op.weight + o * op.in_c + c])
        _put(arena, op, o, _scaled(program, op, o, acc))


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


def mul(arena, program, at):
    """Element-wise, or where x2 is one pixel, by that for each channel."""
    op = Op(program, at)
    x2_offset, multiplier, shift = _row(program, op, 0)
    n = op.kernel_h * op.kernel_w * op.in_c
    for i in range(op.out_h * op.out_w * op.out_c):
        a = int8(arena[op.x + i]) - op.x_zero
        b = int8(arena[op.x2 + i % n]) + x2_offset
        _put(arena, op, i, requantize(a * b, multiplier, shift) + op.y_zero)


def logistic(arena, program, at):
    """From a table of all outputs, which may be any function's."""
    op = Op(program, at)
    for i in range(op.out_h * op.out_w * op.out_c):
        arena[op.y + i] = program[op.weight + 128 + int8(arena[op.x + i])]


def move(arena, program, at):
    op = Op(program, at)
    for i in range(op.in_h * op.in_w * op.in_c):
        arena[op.y + i] = arena[op.x + i]


def mel(arena, program, at):
    """Features of sound, see `sound`."""
    sound.mel(arena, program, Op(program, at))


KERNELS = {
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
