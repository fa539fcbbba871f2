"""Functions of one int8 value as tables of 256 bytes: what a record of kind LOGISTIC points at.

TensorFlow Lite Micro computes them in fixed point, with gemmlowp's functions (fixedpoint.h: Jacob
et al., 2017, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference"), which are followed here to the bit. A number in Q(n) is an
int32 with n bits for the integer part and 31 - n for the fraction; the product of two has the sum
of their n.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tinytorch_core.quant import clamp, high_mul, requantize, rounding_shift

ONE = (1 << 31) - 1  # the largest number in Q0 stands for 1
INTEGER_BITS = 4  # of the argument of LOGISTIC
# exp(-2**k) in Q0, for the bits below the sign's in Q4: k = -2 to 3.
POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401)


def logistic(scale: float, zero_point: int) -> NDArray[np.int8]:
    """1 / (1 + exp(-x)) of int8 inputs x = (q - zero_point) * scale: what TensorFlow Lite Micro's
    LOGISTIC gives for q = -128 to 127, int8 of shape (256,), of scale 1/256 and zero point -128.

    The scale counts as the float32 that a file holds. Raises ValueError where that is not positive
    and finite.
    """
    scale = float(np.float32(scale))
    if not 0 < scale < math.inf:
        raise ValueError(f"A scale is positive and finite, and got {scale}.")
    fraction, shift = math.frexp(scale * (1 << 31 - INTEGER_BITS))
    multiplier = round(fraction * (1 << 31))
    # From here on the argument leaves Q4.
    radius = math.floor(math.ldexp(((1 << INTEGER_BITS) - 1) << 31 - INTEGER_BITS, -shift))
    outputs = []
    for x in range(-128 - zero_point, 128 - zero_point):
        if x <= -radius:
            outputs.append(-128)
        elif x >= radius:
            outputs.append(127)
        else:
            y = _logistic(requantize(x, multiplier, shift))
            outputs.append(clamp(rounding_shift(y, 23) - 128, -128, 127))
    return np.array(outputs, np.int8)


def _logistic(a: int) -> int:
    """Q4 to Q0."""
    if a == 0:
        return 1 << 30
    positive = _one_over_one_plus(_exp_of_negative(-abs(a)))
    return positive if a > 0 else ONE - positive


def _exp_of_negative(a: int) -> int:
    """exp(a), a <= 0, Q4 to Q0: of what is less than a quarter by a polynomial, and of the rest bit
    by bit."""
    if a == 0:
        return ONE
    quarter = 1 << 31 - INTEGER_BITS - 2
    below = (a & quarter - 1) - quarter
    y = _exp_of_part(below << INTEGER_BITS)
    rest = below - a
    for k, power in enumerate(POWERS):
        if rest & quarter << k:
            y = high_mul(y, power)
    return y


def _exp_of_part(a: int) -> int:
    """exp(a), -1/4 <= a < 0, Q0 to Q0: a Taylor polynomial about -1/8."""
    x = a + (1 << 28)
    x2 = high_mul(x, x)
    x3 = high_mul(x2, x)
    x4 = high_mul(x2, x2)
    third = 715827883
    higher = rounding_shift(high_mul(rounding_shift(x4, 2) + x3, third) + x2, 1)
    at_middle = 1895147668  # exp(-1/8)
    return at_middle + high_mul(at_middle, x + higher)


def _one_over_one_plus(a: int) -> int:
    """1 / (1 + a), 0 <= a <= 1, Q0 to Q0: three steps of Newton's method."""
    half = (a + ONE + 1) >> 1
    x = 1515870810 + high_mul(half, -1010580540)  # 48/17 - 32/17 * half, Q2
    for _ in range(3):
        x += _saturated(high_mul(x, (1 << 29) - high_mul(half, x)) << 2)
    return _saturated(x << 1)


def _saturated(x: int) -> int:
    return clamp(x, -(1 << 31), ONE)
