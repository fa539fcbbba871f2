"""The integer operations for any board: viper, the compiler inside stock MicroPython.

Each kernel equals its namesake in tinytorch_core.qops to the byte. Viper has no signed bytes, so
activations are handled as offset binary, byte ^ 128 = value + 128. Words are 32 bits on a board
and 64 on the unix port, where ptr32 reads unsigned: signed fields are masked after adding their
bias, and an accumulator, exact modulo 2**32 till then, gets its sign back once (`top`). In the lane
tier that comes after the multiplication, which may wrap.

Requantization without a 64-bit product: with a = a1 * 2**15 + a0 and m = m1 * 2**15 + m0,
    (a * m + 2**30) >> 31 = (a1 * m1 + ((a1 * m0 + a0 * m1 + (a0 * m0 >> 15) + 2**15) >> 15)) >> 1
where the inner sum is shifted in two parts, so that neither overflows. It stands here twice because
a call from viper goes through Python's calling convention, which would allocate.
p is a record; the names of its FIELDS, of kinds and of the tier are those of tinytorch_core.model.
"""

import micropython
from micropython import const

# Compiled to numbers: a name that begins with _ takes nothing on the board.
_KIND = const(0)
_X = const(1)
_X2 = const(2)
_Y = const(3)
_IN_H = const(4)
_IN_W = const(5)
_IN_C = const(6)
_OUT_H = const(7)
_OUT_W = const(8)
_OUT_C = const(9)
_KERNEL_H = const(10)
_KERNEL_W = const(11)
_STRIDE_H = const(12)
_STRIDE_W = const(13)
_PAD_H = const(14)
_PAD_W = const(15)
_X_ZERO = const(16)
_Y_ZERO = const(17)
_LOW = const(18)
_HIGH = const(19)
_TABLE = const(20)
_WEIGHT = const(21)
_SCRATCH = const(22)
_TIER = const(23)

_CONV2D = const(1)
_DEPTHWISE = const(2)
_DENSE = const(3)
_MAX_POOL = const(4)
_AVG_POOL = const(5)
_ADD = const(6)
_MOVE = const(7)
_MUL = const(9)
_LOGISTIC = const(10)
_LANE = const(1)


@micropython.viper
def _weighted(d: ptr32, k: ptr8, acc: int):
    """CONV2D, DEPTHWISE and DENSE in both tiers.

    CONV2D and DENSE gather a window into the scratch, then do one dot product a channel. The
    arguments (arena, program, at) have the names that they get in the inner loop: viper keeps the
    first three local variables in registers.
    """
    base = int(d)
    code = int(k)
    p = ptr32(code + acc)
    y = ptr8(base + p[_Y])
    patch = ptr32(base + p[_SCRATCH])
    in_h = p[_IN_H]
    in_w = p[_IN_W]
    in_c = p[_IN_C]
    out_c = p[_OUT_C]
    kernel_h = p[_KERNEL_H]
    kernel_w = p[_KERNEL_W]
    depthwise = p[_KIND] == _DEPTHWISE
    filters = out_c // in_c
    x_zero = (p[_X_ZERO] + 128) & 255
    y_zero = (p[_Y_ZERO] + 128) & 255
    length = kernel_h * kernel_w * in_c
    low = (p[_LOW] + 128) & 255
    high = (p[_HIGH] + 128) & 255
    lane = p[_TIER] == _LANE
    top = 1  # 1 << 31 as a literal would be an object on 32 bits
    top <<= 31
    row = 0
    while row < p[_OUT_H]:
        column = 0
        while column < p[_OUT_W]:
            total = 0
            if not depthwise:
                n = 0
                h = row * p[_STRIDE_H] - p[_PAD_H]
                h_end = h + kernel_h
                while h < h_end:
                    w = column * p[_STRIDE_W] - p[_PAD_W]
                    w_end = w + kernel_w
                    while w < w_end:
                        if h < 0 or h >= in_h or w < 0 or w >= in_w:
                            end = n + in_c
                            while n < end:
                                patch[n] = 0
                                n += 1
                        else:
                            x = ptr8(base + p[_X] + (h * in_w + w) * in_c)
                            i = 0
                            while i < in_c:
                                v = (x[i] ^ 128) - x_zero
                                patch[n] = v
                                total += v
                                n += 1
                                i += 1
                        w += 1
                    h += 1
                # The weights are read as w + 128, so 128 * total comes off again.
                total <<= 7
            t = ptr32(code + p[_TABLE])
            k = ptr8(code + p[_WEIGHT])
            o = 0
            while o < out_c:
                acc = 0 - total
                if depthwise:
                    k = ptr8(code + p[_WEIGHT] + o)
                    source = base + p[_X] + o // filters
                    h = row * p[_STRIDE_H] - p[_PAD_H]
                    h_end = h + kernel_h
                    while h < h_end:
                        w = column * p[_STRIDE_W] - p[_PAD_W]
                        w_end = w + kernel_w
                        while w < w_end:
                            if h >= 0 and h < in_h and w >= 0 and w < in_w:
                                q = ptr8(source + (h * in_w + w) * in_c)
                                acc += ((q[0] ^ 128) - x_zero) * ((k[0] ^ 128) - 128)
                            k = ptr8(int(k) + out_c)
                            w += 1
                        h += 1
                else:
                    d = patch
                    n = length
                    while n >= 4:
                        acc += (
                            d[0] * (k[0] ^ 128)
                            + d[1] * (k[1] ^ 128)
                            + d[2] * (k[2] ^ 128)
                            + d[3] * (k[3] ^ 128)
                        )
                        d = ptr32(int(d) + 16)
                        k = ptr8(int(k) + 4)
                        n -= 4
                    while n > 0:
                        acc += d[0] * (k[0] ^ 128)
                        d = ptr32(int(d) + 4)
                        k = ptr8(int(k) + 1)
                        n -= 1
                m = t[1]
                if lane:
                    acc *= m
                acc = (((acc + t[0]) & (top | (top - 1))) ^ top) - top
                if lane:
                    v = (acc >> t[2]) + 128
                else:
                    shift = (t[2] + 32) & 63
                    if shift > 32:
                        acc <<= shift - 32
                        shift = 32
                    a1 = acc >> 15
                    a0 = acc & 32767
                    m1 = m >> 15
                    m0 = m & 32767
                    u = a0 * m1
                    v = a1 * m0 + ((a0 * m0) >> 15) + 32768
                    v = (u >> 15) + (v >> 15) + (((u & 32767) + (v & 32767)) >> 15)
                    v = (a1 * m1 + v) >> 1
                    if shift < 32:
                        mask = (1 << (32 - shift)) - 1
                        m = mask >> 1
                        if v < 0:
                            m += 1
                        n = v & mask
                        v >>= 32 - shift
                        if n > m:
                            v += 1
                    v += y_zero
                if v < low:
                    v = low
                if v > high:
                    v = high
                y[0] = v ^ 128
                y = ptr8(int(y) + 1)
                t = ptr32(int(t) + 12)
                o += 1
            column += 1
        row += 1


@micropython.viper
def _pool(arena, program, at: int):
    """MAX_POOL and AVG_POOL."""
    p = ptr32(int(ptr8(program)) + at)
    base = int(ptr8(arena))
    y = ptr8(base + p[_Y])
    in_h = p[_IN_H]
    in_w = p[_IN_W]
    in_c = p[_IN_C]
    low = (p[_LOW] + 128) & 255
    high = (p[_HIGH] + 128) & 255
    row = 0
    while row < p[_OUT_H]:
        column = 0
        while column < p[_OUT_W]:
            c = 0
            while c < in_c:
                x = base + p[_X] + c
                best = 0
                total = 0
                n = 0
                h = row * p[_STRIDE_H] - p[_PAD_H]
                h_end = h + p[_KERNEL_H]
                while h < h_end:
                    w = column * p[_STRIDE_W] - p[_PAD_W]
                    w_end = w + p[_KERNEL_W]
                    while w < w_end:
                        if h >= 0 and h < in_h and w >= 0 and w < in_w:
                            q = ptr8(x + (h * in_w + w) * in_c)
                            v = q[0] ^ 128
                            total += v - 128
                            n += 1
                            if v > best:
                                best = v
                        w += 1
                    h += 1
                if p[_KIND] == _AVG_POOL:
                    if total > 0:
                        best = 128 + (total + (n >> 1)) // n
                    else:
                        best = 128 - ((n >> 1) - total) // n
                if best < low:
                    best = low
                if best > high:
                    best = high
                y[0] = best ^ 128
                y = ptr8(int(y) + 1)
                c += 1
            column += 1
        row += 1


@micropython.viper
def _add(arena, program, at: int):
    p = ptr32(int(ptr8(program)) + at)
    base = int(ptr8(arena))
    t = ptr32(int(ptr8(program)) + p[_TABLE])
    x = ptr8(base + p[_X])
    x2 = ptr8(base + p[_X2])
    y = ptr8(base + p[_Y])
    n = p[_OUT_H] * p[_OUT_W] * p[_OUT_C]
    y_zero = (t[6] + 128) & 255
    low = (p[_LOW] + 128) & 255
    high = (p[_HIGH] + 128) & 255
    top = 1  # 1 << 31 as a literal would be an object on 32 bits
    top <<= 31
    i = 0
    while i < n:
        total = 0
        stage = 0
        while stage < 3:
            if stage == 0:
                acc = ((x[i] ^ 128) - 128 + t[0]) << 20
            elif stage == 1:
                acc = ((x2[i] ^ 128) - 128 + t[3]) << 20
            else:
                acc = total
            acc = ((acc & (top | (top - 1))) ^ top) - top
            m = t[stage * 3 + 1]
            shift = (t[stage * 3 + 2] + 32) & 63
            if shift > 32:
                acc <<= shift - 32
                shift = 32
            a1 = acc >> 15
            a0 = acc & 32767
            m1 = m >> 15
            m0 = m & 32767
            u = a0 * m1
            v = a1 * m0 + ((a0 * m0) >> 15) + 32768
            v = (u >> 15) + (v >> 15) + (((u & 32767) + (v & 32767)) >> 15)
            v = (a1 * m1 + v) >> 1
            if shift < 32:
                mask = (1 << (32 - shift)) - 1
                m = mask >> 1
                if v < 0:
                    m += 1
                u = v & mask
                v >>= 32 - shift
                if u > m:
                    v += 1
            if stage == 2:
                total = v
            else:
                total += v
            stage += 1
        v = total + y_zero
        if v < low:
            v = low
        if v > high:
            v = high
        y[i] = v ^ 128
        i += 1


@micropython.viper
def _mul(arena, program, at: int):
    """MUL. With m = m1 * 2**16 + m0 and m0 from -2**15, both products with a * b, which has 17
    bits, fit 32; their lowest 16 bits are below the half that rounds."""
    p = ptr32(int(ptr8(program)) + at)
    base = int(ptr8(arena))
    t = ptr32(int(ptr8(program)) + p[_TABLE])
    x = ptr8(base + p[_X])
    y = ptr8(base + p[_Y])
    n = p[_OUT_H] * p[_OUT_W] * p[_OUT_C]
    n2 = p[_KERNEL_H] * p[_KERNEL_W] * p[_IN_C]
    x_zero = (p[_X_ZERO] + 128) & 255
    x2_zero = 128 - (((t[0] + 128) & 511) - 128)
    y_zero = (p[_Y_ZERO] + 128) & 255
    low = (p[_LOW] + 128) & 255
    high = (p[_HIGH] + 128) & 255
    m1 = (t[1] >> 16) + ((t[1] >> 15) & 1)
    m0 = ((t[1] & 65535) ^ 32768) - 32768
    shift = ((t[2] + 32) & 63) - 32
    right = 0
    if shift < 0:
        right = 0 - shift
        shift = 0
    if right > 18:  # no product reaches a half of that
        right = 18
    shift = 15 - shift
    first = 1 << shift >> 1
    half = 1 << right >> 1
    i = 0
    while i < n:
        x2 = ptr8(base + p[_X2])
        end = i + n2
        while i < end:
            a = ((x[i] ^ 128) - x_zero) * ((x2[0] ^ 128) - x2_zero)
            v = (a * m1 + ((a * m0) >> 16) + first) >> shift
            if right:
                if v < 0:
                    v -= 1
                v = (v + half) >> right
            v += y_zero
            if v < low:
                v = low
            if v > high:
                v = high
            y[i] = v ^ 128
            x2 = ptr8(int(x2) + 1)
            i += 1


@micropython.viper
def _logistic(arena, program, at: int):
    p = ptr32(int(ptr8(program)) + at)
    base = int(ptr8(arena))
    t = ptr8(int(ptr8(program)) + p[_WEIGHT])
    x = ptr8(base + p[_X])
    y = ptr8(base + p[_Y])
    n = p[_OUT_H] * p[_OUT_W] * p[_OUT_C]
    i = 0
    while i < n:
        y[i] = t[x[i] ^ 128]
        i += 1


@micropython.viper
def _move(arena, program, at: int):
    p = ptr32(int(ptr8(program)) + at)
    base = int(ptr8(arena))
    n = p[_IN_H] * p[_IN_W] * p[_IN_C]
    i = 0
    if (p[_X] | p[_Y]) & 3 == 0:
        words = ptr32(base + p[_X])
        to = ptr32(base + p[_Y])
        while i < n >> 2:
            to[i] = words[i]
            i += 1
        i <<= 2
    x = ptr8(base + p[_X])
    y = ptr8(base + p[_Y])
    while i < n:
        y[i] = x[i]
        i += 1


KERNELS = {
    _CONV2D: _weighted,
    _DEPTHWISE: _weighted,
    _DENSE: _weighted,
    _MAX_POOL: _pool,
    _AVG_POOL: _pool,
    _ADD: _add,
    _MOVE: _move,
    _MUL: _mul,
    _LOGISTIC: _logistic,
}  # MEL is in sound.py
