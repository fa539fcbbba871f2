"""MEL, features of sound, for any board: viper. The specification is tinytorch_core.sound.

Words are 32 bits on a board and 64 on the unix port, where ptr32 reads unsigned: what may be
negative gets its sign back by `(v ^ top) - top`, and 16 bits by `(v ^ 32768) - 32768`.
p is a record and t a block of tables: their names are FIELDS of tinytorch_core.model and, after
_T, HEAD of tinytorch_core.mel.
"""

import micropython
from micropython import const

# Compiled to numbers: a name that begins with _ takes nothing on the board.
_X = const(1)
_Y = const(3)
_OUT_H = const(7)
_OUT_C = const(9)
_KERNEL_H = const(10)
_STRIDE_H = const(12)
_LOW = const(18)
_HIGH = const(19)
_TABLE = const(20)
_SCRATCH = const(22)

_T_POINTS = const(0)
_T_BANDS = const(1)
_T_FIRST = const(2)
_T_DOWN = const(4)
_T_FREE = const(5)
_T_FLOOR = const(6)
_T_SHIFT = const(7)
_T_BIAS = const(9)
_T_TWIDDLE = const(10)
_T_WINDOW = const(11)
_T_ORDER = const(12)
_T_COUNTS = const(13)
_T_MATRIX = const(14)
_T_LOG = const(15)
_T_WEIGHTS = const(16)


@micropython.viper
def mel(arena, program, at: int):
    code = int(ptr8(program))
    base = int(ptr8(arena))
    p = ptr32(code + at)
    tables = code + p[_TABLE]
    t = ptr32(tables)
    n = t[_T_POINTS] >> 1
    n_bands = t[_T_BANDS]
    first = t[_T_FIRST]
    down = t[_T_DOWN]
    free = t[_T_FREE]
    window = ptr16(tables + t[_T_WINDOW])
    order = ptr16(tables + t[_T_ORDER])
    counts = ptr16(tables + t[_T_COUNTS])
    log = ptr8(tables + t[_T_LOG])
    y = ptr8(base + p[_Y])
    z = ptr32(base + p[_SCRATCH])
    levels = ptr32(base + p[_SCRATCH] + 8 * n)
    taps = p[_KERNEL_H]
    top = 1  # 1 << 31 as a literal would be an object on 32 bits
    top <<= 31
    floor = ((t[_T_FLOOR] & (top | (top - 1))) ^ top) - top
    low = (p[_LOW] + 128) & 255
    high = (p[_HIGH] + 128) & 255
    row = 0
    while row < p[_OUT_H]:
        x = ptr16(base + p[_X] + 2 * row * p[_STRIDE_H])
        a = 0
        peak = 0
        while a < taps:
            v = (x[a] ^ 32768) - 32768
            if v < 0:
                v = 0 - v
            if v > peak:
                peak = v
            a += 1
        s = 0
        if peak:
            while peak << (s + 1) < 32768:
                s += 1

        # The window, and the order in which the FFT wants its input.
        right = 15 + down - s
        half = 1 << (right - 1)
        a = 0
        while a < 2 * n:
            z[a] = 0
            a += 1
        a = 0
        while a < taps:
            v = ((x[a] ^ 32768) - 32768) * ((window[a] ^ 32768) - 32768)
            z[2 * order[a >> 1] + (a & 1)] = (v + half) >> right
            a += 1

        # The FFT. z[2 * i] and z[2 * i + 1] are the parts of number i.
        half = 1
        stage = 0
        while half < n:
            w = ptr16(tables + t[_T_TWIDDLE])
            step = 2 * (n // half)
            k = 0
            while k < half:
                c = (w[0] ^ 32768) - 32768
                d = (w[1] ^ 32768) - 32768
                w = ptr16(int(w) + 2 * step)
                a = 2 * k
                while a < 2 * n:
                    b = a + 2 * half
                    re = ((z[b] & (top | (top - 1))) ^ top) - top
                    im = ((z[b + 1] & (top | (top - 1))) ^ top) - top
                    tr = (re * c + im * d + 8192) >> 14
                    ti = (im * c - re * d + 8192) >> 14
                    re = ((z[a] & (top | (top - 1))) ^ top) - top
                    im = ((z[a + 1] & (top | (top - 1))) ^ top) - top
                    if stage >= free:
                        re += 1
                        im += 1
                        z[a] = (re + tr) >> 1
                        z[a + 1] = (im + ti) >> 1
                        z[b] = (re - tr) >> 1
                        z[b + 1] = (im - ti) >> 1
                    else:
                        z[a] = re + tr
                        z[a + 1] = im + ti
                        z[b] = re - tr
                        z[b + 1] = im - ti
                    a = b + 2 * half
                k += 1
            half <<= 1
            stage += 1

        # The power of bin k in z[2 * k].
        w = ptr16(tables + t[_T_TWIDDLE])
        k = 1
        while k <= n >> 1:
            c = (w[2 * k] ^ 32768) - 32768
            d = (w[2 * k + 1] ^ 32768) - 32768
            a = 2 * k
            b = 2 * (n - k)
            re = ((z[a] & (top | (top - 1))) ^ top) - top
            im = ((z[a + 1] & (top | (top - 1))) ^ top) - top
            u = ((z[b] & (top | (top - 1))) ^ top) - top
            v = ((z[b + 1] & (top | (top - 1))) ^ top) - top
            tr = ((im + v) * c + (u - re) * d + 8192) >> 14
            ti = ((u - re) * c - (im + v) * d + 8192) >> 14
            re += u
            im -= v
            u = (re - tr + 1) >> 1
            v = (ti - im + 1) >> 1
            z[b] = u * u + v * v
            u = (re + tr + 1) >> 1
            v = (im + ti + 1) >> 1
            z[a] = u * u + v * v
            k += 1

        # Bands: sums in halves of 16 bits; what rose in one segment waits for the next's fall.
        weights = ptr8(tables + t[_T_WEIGHTS])
        a = 2 * first
        k = 0
        u = 0
        v = 0
        while k <= n_bands:
            re = 0  # the sums of the upper and lower halves, and the same weighted
            im = 0
            tr = 0
            ti = 0
            b = counts[k]
            while b > 0:
                c = z[a]
                d = weights[0]
                re += c >> 16
                im += c & 65535
                tr += d * (c >> 16)
                ti += d * (c & 65535)
                weights = ptr8(int(weights) + 1)
                a += 2
                b -= 1
            if k > 0:
                u += (re << 7) - tr
                v += (im << 7) - ti
                u += v >> 16
                v &= 65535
                c = 4096
                if u < 32768:
                    u = u << 16 | v
                    c = 0
                if u:
                    d = 0
                    while u >> (d + 1):
                        d += 1
                    if d >= 8:
                        u >>= d - 8
                    else:
                        u <<= 8 - d
                    c += (d << 8) + log[u & 255]
                c -= s << 9
                if c < floor:
                    c = floor
                levels[k - 1] = c
            u = tr
            v = ti
            k += 1

        w = ptr16(tables + t[_T_MATRIX])
        bias = ptr32(tables + t[_T_BIAS])
        k = 0
        while k < p[_OUT_C]:
            v = bias[k]
            a = 0
            while a < n_bands:
                u = ((levels[a] & (top | (top - 1))) ^ top) - top
                v += ((w[a] ^ 32768) - 32768) * u
                a += 1
            w = ptr16(int(w) + 2 * n_bands)
            v = ((v & (top | (top - 1))) ^ top) - top
            v = (v >> t[_T_SHIFT]) + 128
            if v < low:
                v = low
            if v > high:
                v = high
            y[0] = v ^ 128
            y = ptr8(int(y) + 1)
            k += 1
        row += 1
