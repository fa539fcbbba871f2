"""Fixed-point arithmetic of the TensorFlow Lite int8 specification, in exact integers.

A real factor is written as `multiplier * 2**(shift - 31)` with a 31-bit multiplier. Requantization
rounds twice, as gemmlowp and TensorFlow Lite Micro's reference kernels do (Jacob et al., 2017,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference").
"""

import math

# The faster kernels split an accumulator into 15-bit halves, so it must stay below this. Export
# refuses a layer that could reach it.
ACC_LIMIT = 1 << 30

# The lane tier promises that for each channel and each group of its weights
# sum(|w|) * (largest input - smallest input) stays within this: two sums then share one word.
LANE_LIMIT = 65535


def quantize_multiplier(real: float) -> "tuple[int, int]":
    """`real` >= 0 as (multiplier, shift), multiplier 0 or in [2**30, 2**31)."""
    if real == 0:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = int(math.floor(fraction * (1 << 31) + 0.5))
    if multiplier == 1 << 31:
        multiplier >>= 1
        shift += 1
    if shift < -31:
        return 0, 0
    return multiplier, shift


def high_mul(a: int, b: int) -> int:
    """a * b / 2**31, halves rounded up: gemmlowp's SaturatingRoundingDoublingHighMul.

    gemmlowp nudges by the product's sign and then truncates, which comes to the same floor for
    both signs. Its one saturating case, a = b = -2**31, cannot occur: multipliers are positive.
    """
    return (a * b + (1 << 30)) >> 31


def rounding_shift(x: int, exponent: int) -> int:
    """x / 2**exponent, halves rounded away from zero: gemmlowp's RoundingDivideByPOT."""
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if (x & mask) > threshold else 0)


def requantize(acc: int, multiplier: int, shift: int) -> int:
    """acc * multiplier * 2**(shift - 31): TensorFlow Lite's MultiplyByQuantizedMultiplier."""
    if shift > 0:
        return high_mul(acc << shift, multiplier)
    return rounding_shift(high_mul(acc, multiplier), -shift)


def clamp(x: int, low: int, high: int) -> int:
    return low if x < low else high if x > high else x
