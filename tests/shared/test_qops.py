"""Every operation in each of its tiers against a naive model in big integers.

The model works on nested lists and on the specification's own terms (offsets, padding, multiplier
and shift), TensorFlow Lite's for the exact tier; it shares only the record's layout with the code
under test.
"""

import struct

from tinytorch_core import qops
from tinytorch_core.model import (
    ADD,
    AVG_POOL,
    CONV2D,
    DENSE,
    DEPTHWISE,
    EXACT,
    FIELDS,
    LANE,
    LOGISTIC,
    MAX_POOL,
    MOVE,
    MUL,
    RECORD,
)
from tinytorch_core.quant import LANE_LIMIT

CASES = 250


class Random:
    """The same small numbers under every interpreter."""

    def __init__(self, seed):
        self.state = seed

    def __call__(self, low, high):
        """An integer from low to high, both included."""
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & ((1 << 64) - 1)
        return low + (self.state >> 33) % (high - low + 1)

    def int8s(self, n):
        """Random ones, or all at one extreme, where the sums are largest."""
        if self(0, 4) == 0:
            return [(-128, 127)[self(0, 1)]] * n
        return [self(-128, 127) for _ in range(n)]

    def weights(self, n, limit):
        return [min(max(w, -limit), limit) for w in self.int8s(n)]

    def rows(self, n, tier):
        """(bias, multiplier, shift) of n channels, whose sums in the lane tier reach LANE_LIMIT."""
        if tier == LANE:
            shift, rows = self(0, 30), []
            for _ in range(n):
                multiplier = (self(0, 1 << self(0, 15)), (1 << 15) - 1)[self(0, 3) == 0]
                multiplier = min(multiplier, (1 << 15) - 1)
                room = (1 << 31) - 1 - LANE_LIMIT * multiplier
                bias = (self(-128, 127) << shift, self(0, 1) * 2 * room - room)[self(0, 3) == 0]
                rows.append((min(max(bias, -room), room), multiplier, shift))
            return rows
        bits = self(1, 20)
        return [
            (self(-(1 << bits), 1 << bits), self(1 << 30, (1 << 31) - 1), self(-18, 1))
            for _ in range(n)
        ]


def requantized(acc, multiplier, shift):
    """MultiplyByQuantizedMultiplier as two roundings of exact fractions."""
    doubled = (2 * acc * multiplier << max(shift, 0)) // (1 << 31)
    high = (doubled + 1) // 2  # to the nearest, halves up
    twice = 2 * abs(high) >> max(-shift, 0)
    return (twice + 1) // 2 * (-1 if high < 0 else 1)  # halves away from zero


def saturated(y, f):
    return min(max(y, f["low"]), f["high"])


def image(values, h, w, c):
    """Flat values as image[row][column][channel]."""
    return [[values[(i * w + j) * c : (i * w + j + 1) * c] for j in range(w)] for i in range(h)]


def window(x, f, i, j):
    """(kernel row, kernel column, pixel) under the kernel at output (i, j), padding left out."""
    found = []
    for a in range(f["kernel_h"]):
        for b in range(f["kernel_w"]):
            row = i * f["stride_h"] + a - f["pad_h"]
            column = j * f["stride_w"] + b - f["pad_w"]
            if row in range(f["in_h"]) and column in range(f["in_w"]):
                found.append((a, b, x[row][column]))
    return found


def expected(f, x, x2, w, rows):
    """The output bytes, channels last, of the operation with fields f."""
    kind, zero = f["kind"], f["x_zero"]
    if kind == ADD:
        (a_offset, a_m, a_s), (b_offset, b_m, b_s), (y_offset, y_m, y_s) = rows
        y = []
        for a, b in zip(x, x2):
            total = requantized((a + a_offset) * (1 << 20), a_m, a_s)
            total += requantized((b + b_offset) * (1 << 20), b_m, b_s)
            y.append(saturated(requantized(total, y_m, y_s) + y_offset, f))
        return y
    if kind == MUL:
        ((offset, multiplier, shift),) = rows
        y = []
        for i, a in enumerate(x):
            b = x2[i if len(x2) == len(x) else i % f["in_c"]]
            product = requantized((a - zero) * (b + offset), multiplier, shift)
            y.append(saturated(product + f["y_zero"], f))
        return y
    if kind == LOGISTIC:
        return [w[128 + a] for a in x]
    y = []
    pixels = image(x, f["in_h"], f["in_w"], f["in_c"])
    for i in range(f["out_h"]):
        for j in range(f["out_w"]):
            taps = window(pixels, f, i, j)
            for o in range(f["out_c"]):
                if kind == MAX_POOL:
                    y.append(saturated(max([p[o] for _, _, p in taps]), f))
                    continue
                if kind == AVG_POOL:
                    total, n = sum([p[o] for _, _, p in taps]), len(taps)
                    mean = (2 * abs(total) + n) // (2 * n)  # halves away from zero
                    y.append(saturated(mean if total > 0 else -mean, f))
                    continue
                acc = 0
                for a, b, pixel in taps:
                    tap = a * f["kernel_w"] + b
                    if kind == DEPTHWISE:
                        filters = f["out_c"] // f["in_c"]
                        acc += (pixel[o // filters] - zero) * w[tap * f["out_c"] + o]
                    else:
                        taps_a_filter = f["kernel_h"] * f["kernel_w"]
                        for c in range(f["in_c"]):
                            k = w[(o * taps_a_filter + tap) * f["in_c"] + c]
                            acc += (pixel[c] - zero) * k
                bias, multiplier, shift = rows[o]
                if f["tier"] == LANE:
                    value = (acc * multiplier + bias) // (1 << shift)
                else:
                    value = requantized(acc + bias, multiplier, shift) + f["y_zero"]
                y.append(saturated(value, f))
    return y


def unsigned(values):
    return bytes([v & 255 for v in values])


def run(f, x, x2, w, rows):
    """The kernel's output bytes; every byte of the arena that is not its output must stay."""
    f["x"], f["x2"], f["y"] = 8, 8 + len(x) + 3, 8 + len(x) + 3 + len(x2) + 5
    f["table"] = struct.calcsize(RECORD)
    f["weight"] = f["table"] + 12 * len(rows)
    program = struct.pack(RECORD, *[f.get(name, 0) for name in FIELDS])
    for row in rows:
        program += struct.pack("<iii", *row)
    program += unsigned(w)
    n = f["out_h"] * f["out_w"] * f["out_c"]
    arena = bytearray([0x5A] * (f["y"] + n + 8))
    arena[f["x"] : f["x"] + len(x)] = unsigned(x)
    arena[f["x2"] : f["x2"] + len(x2)] = unsigned(x2)
    before = bytes(arena)
    qops.KERNELS[f["kind"]](arena, program, 0)
    end = f["y"] + n
    assert arena[: f["y"]] == before[: f["y"]] and arena[end:] == before[end:]
    return bytes(arena[f["y"] : end])


def geometry(r, side, kernel):
    """Input, kernel, stride, padding and output along one axis, every window meeting the image."""
    n, k, s = r(1, side), r(1, kernel), r(1, 3)
    pad = r(0, k - 1)
    return n, k, s, pad, r(1, (n - 1 + pad) // s + 1)


def check(kind, seed, tier=EXACT, **fixed):
    r = Random(seed)
    f = {"kind": kind, "tier": tier, "in_c": r(1, 4)}
    f["x_zero"], f["y_zero"] = r.int8s(1)[0], r.int8s(1)[0]
    f["low"], f["high"] = sorted([r(-128, 127), r(-128, 127)]) if r(0, 2) == 0 else (-128, 127)
    for axis in "hw":
        names = [name % axis for name in ("in_%s", "kernel_%s", "stride_%s", "pad_%s", "out_%s")]
        f.update(zip(names, geometry(r, 5, 4)))
    if kind in (CONV2D, DENSE):
        f["out_c"] = r(1, 4)
    else:
        f["out_c"] = f["in_c"] * (r(1, 3) if kind == DEPTHWISE else 1)
    if kind in (DENSE, ADD, MUL, LOGISTIC):
        f.update(
            dict.fromkeys(("kernel_h", "kernel_w", "stride_h", "stride_w"), 1), pad_h=0, pad_w=0
        )
    if kind == DENSE:
        f.update(in_h=1, in_w=1, out_h=1, out_w=1, in_c=r(1, 50))
    if kind in (ADD, MUL, LOGISTIC):
        f.update(out_h=f["in_h"], out_w=f["in_w"])
    if kind == MUL and r(0, 1):
        f.update(kernel_h=f["in_h"], kernel_w=f["in_w"])
    f.update(fixed)
    taps = f["kernel_h"] * f["kernel_w"]
    x = r.int8s(f["in_h"] * f["in_w"] * f["in_c"])
    x2 = []
    if kind in (ADD, MUL):
        x2 = r.int8s(len(x) if kind == ADD else taps * f["in_c"])
    w, rows = [], []
    if kind in (CONV2D, DENSE, DEPTHWISE):
        n = taps if kind == DEPTHWISE else taps * f["in_c"]
        limit = min(127, LANE_LIMIT // 255 // n) if tier == LANE else 127
        w, rows = r.weights(f["out_c"] * n, limit), r.rows(f["out_c"], tier)
    elif kind == ADD:
        offsets = [r(-127, 128), r(-127, 128), r(-128, 127)]
        shifts = [r(-5, 0), 0, r(-19, -14)]
        rows = [(o, r(1 << 30, (1 << 31) - 1), s) for o, s in zip(offsets, shifts)]
    elif kind == MUL:
        multiplier = (r(1 << 30, (1 << 31) - 1), r(0, 1 << 30))[r(0, 9) == 0]
        rows = [(r(-127, 128), multiplier, (r(-12, -3), r(-31, 14))[r(0, 1)])]
    elif kind == LOGISTIC:
        w = [r(-128, 127) for _ in range(256)]
    assert run(f, x, x2, w, rows) == unsigned(expected(f, x, x2, w, rows)), (kind, seed)


def test_conv2d():
    for tier in (EXACT, LANE):
        for seed in range(CASES):
            check(CONV2D, seed, tier)


def test_conv1d_is_conv2d_of_height_1():
    for tier in (EXACT, LANE):
        for seed in range(CASES):
            check(CONV2D, seed, tier, in_h=1, kernel_h=1, stride_h=1, pad_h=0, out_h=1)


def test_depthwise():
    for tier in (EXACT, LANE):
        for seed in range(CASES):
            check(DEPTHWISE, seed, tier)


def test_dense():
    for tier in (EXACT, LANE):
        for seed in range(CASES):
            check(DENSE, seed, tier)


def dense(in_c, **fields):
    """The fields of a dense layer with one output."""
    f = dict.fromkeys(("in_h", "in_w", "kernel_h", "kernel_w", "stride_h", "stride_w"), 1)
    f.update(dict.fromkeys(("out_h", "out_w", "out_c"), 1), kind=DENSE, in_c=in_c)
    f.update(pad_h=0, pad_w=0, low=-128, high=127, **fields)
    return f


def test_the_lane_tier_rounds_down():
    f = dense(1, tier=LANE, x_zero=0, y_zero=99)  # bias holds the output's zero point
    for x, bias, y in (
        (3, 0, 1),
        (-3, 0, -2),
        (-1, 0, -1),
        (-1, 1, 0),
        (3, 7 << 1, 8),
        (-9, 1, -4),
    ):
        assert run(f, [x], [], [1], [(bias, 1, 1)]) == unsigned([y])


def test_the_lane_tier_at_the_ends_of_its_words():
    # 257 * 255 = LANE_LIMIT; then the largest multiplier, and all the bias that int32 has room for.
    multiplier = (1 << 15) - 1
    room = (1 << 31) - 1 - LANE_LIMIT * multiplier
    for x_zero, x in ((-128, 127), (127, -128)):
        f = dense(3, tier=LANE, x_zero=x_zero, y_zero=0)
        for sign in (1, -1):
            acc = (x - x_zero) * 257 * sign
            assert abs(acc) == LANE_LIMIT
            w, bias = [127 * sign, 127 * sign, 3 * sign], room if acc > 0 else -room
            for shift, y in ((24, 127 if acc > 0 else -128), (30, 1 if acc > 0 else -2)):
                assert run(f, [x] * 3, [], w, [(bias, multiplier, shift)]) == unsigned([y])


def test_max_pool():
    for seed in range(CASES):
        check(MAX_POOL, seed)


def test_avg_pool():
    for seed in range(CASES):
        check(AVG_POOL, seed)


def test_avg_pool_rounds_halves_away_from_zero():
    f = {"kind": AVG_POOL, "in_c": 1, "out_c": 1, "low": -128, "high": 127, "pad_h": 0, "pad_w": 0}
    f.update(dict.fromkeys(("in_h", "kernel_h", "stride_h", "stride_w", "out_h", "out_w"), 1))
    for x, y in (([1, 2], 2), ([-1, -2], -2), ([0, 1], 1), ([0, -1], -1), ([1, 0, 0], 0)):
        assert run(dict(f, in_w=len(x), kernel_w=len(x)), x, [], [], []) == unsigned([y])


def test_add():
    for seed in range(CASES):
        check(ADD, seed)


def test_mul():
    for seed in range(CASES):
        check(MUL, seed)


def test_mul_rounds_halves_twice():
    # Halves upwards to 31 bits, then away from zero.
    f = {"kind": MUL, "in_c": 1, "out_c": 1, "low": -128, "high": 127, "pad_h": 0, "pad_w": 0}
    f.update(dict.fromkeys(("in_h", "in_w", "out_h", "out_w", "stride_h", "stride_w"), 1))
    f.update(kernel_h=1, kernel_w=1, x_zero=1, y_zero=-2)
    for x, x2, shift, y in (
        (4, 1, 0, 2),
        (-2, 1, 0, -1),
        (6, 1, -1, 2),
        (-4, 1, -1, -1),
        (-5, 1, -1, -2),
        (4, -1, -1, -1),
        (4, 1, 2, 6),
    ):
        expected = unsigned([y - 2])
        assert run(f, [x], [x2 - 3], [], [(3, 1 << 30, shift)]) == expected, (x, x2, shift)


def test_mul_at_the_largest_products():
    f = {"kind": MUL, "in_c": 2, "out_c": 2, "low": -128, "high": 127, "pad_h": 0, "pad_w": 0}
    f.update(dict.fromkeys(("in_h", "in_w", "out_h", "out_w", "stride_h", "stride_w"), 1))
    f.update(kernel_h=1, kernel_w=1, y_zero=7)
    for x_zero, x in ((-128, [127, 126]), (127, [-128, -127])):
        for offset, x2 in ((128, [127, 126]), (-127, [-128, -127])):
            for multiplier in (0, 1, 1 << 15, (1 << 30) + (1 << 15), (1 << 31) - 1):
                for shift in range(-31, 15):
                    f["x_zero"], rows = x_zero, [(offset, multiplier, shift)]
                    assert run(f, x, x2, [], rows) == unsigned(expected(f, x, x2, [], rows))


def test_logistic():
    for seed in range(CASES):
        check(LOGISTIC, seed)


def test_move_goes_forward():
    for y, new, n in ((0, 3, 3), (0, 1, 7), (2, 2, 6), (1, 5, 2), (3, 0, 4), (4, 4, 8)):
        fields = {"kind": MOVE, "x": y + new, "y": y, "in_h": 1, "in_w": n, "in_c": 1}
        program = struct.pack(RECORD, *[fields.get(name, 0) for name in FIELDS])
        arena = bytearray(range(100, 120))
        qops.move(arena, program, 0)
        kept = list(range(100 + y + new, 100 + y + new + n))
        assert list(arena) == list(range(100, 100 + y)) + kept + list(range(100 + y + n, 120))


def test_dot_products_at_the_largest_sums():
    # 127 * 255 a tap: the accumulator of a wide layer at both ends of its range.
    f = dense(4000, tier=EXACT, x_zero=-128, y_zero=0)
    for sign in (1, -1):
        for multiplier in (1 << 30, (1 << 31) - 1):
            for shift in (-31, -20, -8, 0):
                x, w, rows = [127] * 4000, [127 * sign] * 4000, [(5, multiplier, shift)]
                assert run(f, x, [], w, rows) == unsigned(expected(f, x, [], w, rows))
