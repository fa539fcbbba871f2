"""Features of sound in integers: the specification of the operation MEL.

A frame is `window` int16 samples; frames follow each other every `hop`. With >> rounding down and
every constant from the tables that the laptop made (sensing.mel), a frame becomes features:

    s = the shifts to the left that the loudest sample has room for, 0 to 14
    y = (x * w + half) >> (15 + down - s)                 windowed: |y| <= 2**(15 - down)
    z = y[0] + i y[1], y[2] + i y[3], ...                 padded with zeros to points / 2
    Z = FFT(z), radix 2, decimation in time; all stages from number `free` on halve, rounded
    X = the spectrum of y, from Z; P = |X|**2             for `bins` bins from `first` on
    E = mel bands: triangles whose edges are bins, weights in 1/128
    L = max(log2(E) * 256 - 512 * s, floor)               by a table of 256 mantissas
    q = clamp((bias + sum(matrix * L)) >> shift)          a row of the matrix for each feature

Products have 32 bits: twiddle factors are 2**14 times the real ones, and the maker's `down` and
`free` keep |Z| below 2**16 and P below 2**31. So all of it runs in a core's own registers.
"""

import struct

from tinytorch_core.mel import Tables


def _int16(buffer, at, i):
    return struct.unpack_from("<h", buffer, at + 2 * i)[0]


def headroom(peak):
    """The shifts to the left after which a peak of 1 to 32768 still fits in int16; 0 for 0."""
    s = 0
    while peak and peak << (s + 1) < 32768:
        s += 1
    return s


def fft(re, im, t, pairs):
    """In place, bit-reversed order in, natural order out. pairs: cos and sin, see `Tables`."""
    n, half, stage = len(re), 1, 0
    while half < n:
        step = n // half  # of 2 * n points that the twiddles are for
        for k in range(half):
            c, s = pairs[k * step]
            for a in range(k, n, 2 * half):
                b = a + half
                tr = (re[b] * c + im[b] * s + 8192) >> 14
                ti = (im[b] * c - re[b] * s + 8192) >> 14
                ar, ai = re[a], im[a]
                if stage >= t.free:
                    re[a], im[a] = (ar + tr + 1) >> 1, (ai + ti + 1) >> 1
                    re[b], im[b] = (ar - tr + 1) >> 1, (ai - ti + 1) >> 1
                else:
                    re[a], im[a], re[b], im[b] = ar + tr, ai + ti, ar - tr, ai - ti
        half *= 2
        stage += 1


def power(re, im, pairs):
    """|X|**2 of bins 1 to n - 1 (index 0 stays 0), from the FFT of n pairs of samples.

    X[k] = (E + W O) / 2 with E = Z[k] + Z*[n - k], O = -i (Z[k] - Z*[n - k]), W = exp(-i pi k / n);
    the product W O of bin k serves bin n - k, too.
    """
    n = len(re)
    found = [0] * n
    for k in range(1, n // 2 + 1):
        m = n - k
        er, ei = re[k] + re[m], im[k] - im[m]
        odd_r, odd_i = im[k] + im[m], re[m] - re[k]
        c, s = pairs[k]
        tr = (odd_r * c + odd_i * s + 8192) >> 14
        ti = (odd_i * c - odd_r * s + 8192) >> 14
        xr, xi = (er + tr + 1) >> 1, (ei + ti + 1) >> 1
        found[k] = xr * xr + xi * xi
        xr, xi = (er - tr + 1) >> 1, (ti - ei + 1) >> 1
        found[m] = xr * xr + xi * xi
    return found


def log2(high, low, log):
    """log2(high * 2**16 + low) * 256, rounded down to the table; 0 for 0. low: below 2**31."""
    high += low >> 16
    low &= 65535
    base = 16 << 8
    if high < 32768:
        high, base = high << 16 | low, 0
    if not high:
        return 0
    n = 0
    while high >> (n + 1):
        n += 1
    mantissa = high >> (n - 8) if n >= 8 else high << (8 - n)
    return base + (n << 8) + log[mantissa & 255]


def bands(found, t, counts, weights, log, s):
    """The logarithms of the mel bands of one frame."""
    k, i, out = t.first, 0, []
    before_high = before_low = 0
    for band in range(t.bands + 1):
        sum_high = sum_low = rise_high = rise_low = 0
        for _ in range(counts[band]):
            high, low = found[k] >> 16, found[k] & 65535
            sum_high += high
            sum_low += low
            rise_high += weights[i] * high
            rise_low += weights[i] * low
            k += 1
            i += 1
        if band:
            value = log2(
                before_high + (sum_high << 7) - rise_high,
                before_low + (sum_low << 7) - rise_low,
                log,
            )
            out.append(max(value - (s << 9), t.floor))
        before_high, before_low = rise_high, rise_low
    return out


def frame(x, t, program, at, values, low, high):
    """One frame of samples (a list of ints) to a list of int8 features. t: the tables at `at`."""
    pairs = [
        struct.unpack_from("<hh", program, at + t.twiddle + 4 * k) for k in range(t.points // 2)
    ]
    counts = struct.unpack_from("<%dH" % (t.bands + 1), program, at + t.counts)
    s = headroom(max([abs(v) for v in x]))
    right = 15 + t.down - s
    re, im = [0] * (t.points // 2), [0] * (t.points // 2)
    for i in range(len(x)):
        y = (x[i] * _int16(program, at + t.window, i) + (1 << (right - 1))) >> right
        j = struct.unpack_from("<H", program, at + t.order + 2 * (i >> 1))[0]
        if i & 1:
            im[j] = y
        else:
            re[j] = y
    fft(re, im, t, pairs)
    weights = program[at + t.weights : at + t.weights + t.bins]
    log = program[at + t.log : at + t.log + 256]
    levels = bands(power(re, im, pairs), t, counts, weights, log, s)
    out = []
    for j in range(values):
        acc = struct.unpack_from("<i", program, at + t.bias + 4 * j)[0]
        for b in range(t.bands):
            acc += _int16(program, at + t.matrix, j * t.bands + b) * levels[b]
        q = acc >> t.shift
        out.append(low if q < low else high if q > high else q)
    return out


def mel(arena, program, op):
    """MEL, for an operation record."""
    t = Tables(program, op.table)
    for row in range(op.out_h):
        start = op.x + 2 * op.stride_h * row
        x = struct.unpack_from("<%dh" % op.kernel_h, arena, start)
        for j, q in enumerate(frame(x, t, program, op.table, op.out_c, op.low, op.high)):
            arena[op.y + row * op.out_c + j] = q & 255
