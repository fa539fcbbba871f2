"""The fixed-point arithmetic against one written afresh from gemmlowp and TensorFlow Lite."""

from tinytorch_core import quant

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
EXTREMES = [INT32_MIN, INT32_MIN + 1, -(1 << 30), -3, -2, -1, 0, 1, 2, 3, 1 << 30, INT32_MAX]


def randoms(seed, n):
    """n integers of 64 random bits: the same ones under every interpreter."""
    for _ in range(n):
        seed = (seed * 6364136223846793005 + 1442695040888963407) & ((1 << 64) - 1)
        yield seed ^ seed >> 29


def int32(bits):
    """An int32 of random size and sign."""
    x = (bits >> 8 & 0x7FFFFFFF) >> (bits & 31)
    return -x - 1 if bits >> 63 else x


def divide(a, b):
    """C's integer division: towards zero."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def saturating_rounding_doubling_high_mul(a, b):
    """gemmlowp/fixedpoint/fixedpoint.h"""
    if a == b == INT32_MIN:
        return INT32_MAX
    ab = a * b
    nudge = 1 << 30 if ab >= 0 else 1 - (1 << 30)
    return divide(ab + nudge, 1 << 31)


def rounding_divide_by_pot(x, exponent):
    """x / 2**exponent to the nearest, halves away from zero."""
    half = (1 << exponent) >> 1
    return (abs(x) + half >> exponent) * (-1 if x < 0 else 1)


def multiply_by_quantized_multiplier(x, multiplier, shift):
    """tensorflow/lite/kernels/internal/common.h, without TFLITE_SINGLE_ROUNDING"""
    left, right = max(shift, 0), max(-shift, 0)
    product = saturating_rounding_doubling_high_mul(x * (1 << left), multiplier)
    return rounding_divide_by_pot(product, right)


def test_high_mul():
    for a in EXTREMES:
        for b in EXTREMES:
            if not a == b == INT32_MIN:  # cannot occur, see high_mul
                assert quant.high_mul(a, b) == saturating_rounding_doubling_high_mul(a, b), (a, b)
    for r in randoms(1, 3000):
        a, b = int32(r), int32(r * 0x9E3779B97F4A7C15 & ((1 << 64) - 1))
        assert quant.high_mul(a, b) == saturating_rounding_doubling_high_mul(a, b), (a, b)


def test_high_mul_rounds_halves_up():
    for k in range(-5, 6):
        half = (2 * k + 1) << 15  # half * 2**15 is k + 1/2 in units of 2**31
        assert quant.high_mul(half, 1 << 15) == k + 1
        assert quant.high_mul(half - 1, 1 << 15) == k
        assert saturating_rounding_doubling_high_mul(half, 1 << 15) == k + 1


def test_rounding_shift():
    for exponent in range(32):
        for x in EXTREMES:
            assert quant.rounding_shift(x, exponent) == rounding_divide_by_pot(x, exponent)
        for k in range(-4, 4):  # about every half
            for d in (-1, 0, 1):
                x = (2 * k + 1) * ((1 << exponent) >> 1) + d
                expected = rounding_divide_by_pot(x, exponent)
                assert quant.rounding_shift(x, exponent) == expected, (x, exponent)
    for r in randoms(2, 3000):
        x, exponent = int32(r), r >> 50 & 31
        assert quant.rounding_shift(x, exponent) == rounding_divide_by_pot(x, exponent)


def test_requantize():
    for shift in range(-31, 31):
        for multiplier in (0, 1 << 30, (1 << 30) + 1, INT32_MAX - 1, INT32_MAX):
            for x in EXTREMES:
                if abs(x) << max(shift, 0) <= INT32_MAX:
                    case = x, multiplier, shift
                    assert quant.requantize(*case) == multiply_by_quantized_multiplier(*case), case
    for r in randoms(3, 3000):
        shift = (r >> 33) % 40 - 31
        x = int32(r) >> max(shift, 0)
        multiplier = (1 << 30) + (r >> 20 & 0x3FFFFFFF)
        case = x, multiplier, shift
        assert quant.requantize(*case) == multiply_by_quantized_multiplier(*case), case


def test_requantize_rounds_twice():
    # 1.5 - 2**-31 lies below one and a half, but the first rounding lifts it there: single
    # rounding gives 1 here.
    assert quant.requantize(3, INT32_MAX, -1) == 2
    assert multiply_by_quantized_multiplier(3, INT32_MAX, -1) == 2


def test_quantize_multiplier():
    # numerator * 2**-exponent, exact in a double, against integers: the nearest 31-bit
    # multiplier, halves up; one that rounds to 2**31 moves on to the next shift.
    for r in randoms(4, 2000):
        numerator, exponent = 1 + (r >> 11 >> (r & 31)), (r >> 5) % 60
        bits = len(bin(numerator)) - 2
        multiplier = (numerator << 32 >> bits) + 1 >> 1
        shift = bits - exponent
        if multiplier == 1 << 31:
            multiplier, shift = 1 << 30, shift + 1
        expected = (multiplier, shift) if shift >= -31 else (0, 0)
        assert quant.quantize_multiplier(numerator * 2.0**-exponent) == expected, (r, numerator)


def test_quantize_multiplier_at_the_edges():
    assert quant.quantize_multiplier(0) == (0, 0)
    assert quant.quantize_multiplier(1.0) == (1 << 30, 1)
    assert quant.quantize_multiplier(0.5) == (1 << 30, 0)
    assert quant.quantize_multiplier(1 - 2.0**-31) == (INT32_MAX, 0)
    assert quant.quantize_multiplier(1 - 2.0**-32) == (1 << 30, 1)
    assert quant.quantize_multiplier(1 - 2.0**-53) == (1 << 30, 1)
    assert quant.quantize_multiplier(2.0**-32) == (1 << 30, -31)
    assert quant.quantize_multiplier(2.0**-32 - 2.0**-65) == (1 << 30, -31)
    assert quant.quantize_multiplier(2.0**-33) == (0, 0)


def test_clamp():
    assert [quant.clamp(x, -2, 3) for x in (-9, -3, -2, 0, 3, 4)] == [-2, -2, -2, 0, 3, 3]
