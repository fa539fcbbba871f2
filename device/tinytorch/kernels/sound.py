"""MEL, features of sound, for any board: viper. The specification is tinytorch_core.sound.

Words are 32 bits on a board and 64 on the unix port, where ptr32 reads unsigned: what may be
negative gets its sign back by `(v ^ top) - top`, and 16 bits by `(v ^ 32768) - 32768`.
p[...] are the FIELDS of tinytorch_core.model in their order, t[...] HEAD's.
"""

import micropython


@micropython.viper
def mel(arena, program, at: int):
    code = int(ptr8(program))
    base = int(ptr8(arena))
    p = ptr32(code + at)
    tables = code + p[20]
    t = ptr32(tables)
    n = t[0] >> 1
    n_bands = t[1]
    first = t[2]
    down = t[4]
    free = t[5]
    window = ptr16(tables + t[11])
    order = ptr16(tables + t[12])
    counts = ptr16(tables + t[13])
    log = ptr8(tables + t[15])
    y = ptr8(base + p[3])
    z = ptr32(base + p[22])
    levels = ptr32(base + p[22] + 8 * n)
    taps = p[10]
    top = 1  # 1 << 31 as a literal would be an object on 32 bits
    top <<= 31
    floor = ((t[6] & (top | (top - 1))) ^ top) - top
    low = (p[18] + 128) & 255
    high = (p[19] + 128) & 255
    row = 0
    while row < p[7]:
        x = ptr16(base + p[1] + 2 * row * p[12])
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
            w = ptr16(tables + t[10])
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
        w = ptr16(tables + t[10])
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
        weights = ptr8(tables + t[16])
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

        w = ptr16(tables + t[14])
        bias = ptr32(tables + t[9])
        k = 0
        while k < p[9]:
            v = bias[k]
            a = 0
            while a < n_bands:
                u = ((levels[a] & (top | (top - 1))) ^ top) - top
                v += ((w[a] ^ 32768) - 32768) * u
                a += 1
            w = ptr16(int(w) + 2 * n_bands)
            v = ((v & (top | (top - 1))) ^ top) - top
            v = (v >> t[7]) + 128
            if v < low:
                v = low
            if v > high:
                v = high
            y[0] = v ^ 128
            y = ptr8(int(y) + 1)
            k += 1
        row += 1
