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
p[...] are the FIELDS of tinytorch_core.model in their order.
"""

import micropython


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
    y = ptr8(base + p[3])
    patch = ptr32(base + p[22])
    in_h = p[4]
    in_w = p[5]
    in_c = p[6]
    out_c = p[9]
    kernel_h = p[10]
    kernel_w = p[11]
    depthwise = p[0] == 2
    filters = out_c // in_c
    x_zero = (p[16] + 128) & 255
    y_zero = (p[17] + 128) & 255
    length = kernel_h * kernel_w * in_c
    low = (p[18] + 128) & 255
    high = (p[19] + 128) & 255
    lane = p[23] == 1
    top = 1  # 1 << 31 as a literal would be an object on 32 bits
    top <<= 31
    row = 0
    while row < p[7]:
        column = 0
        while column < p[8]:
            total = 0
            if not depthwise:
                n = 0
                h = row * p[12] - p[14]
                h_end = h + kernel_h
                while h < h_end:
                    w = column * p[13] - p[15]
                    w_end = w + kernel_w
                    while w < w_end:
                        if h < 0 or h >= in_h or w < 0 or w >= in_w:
                            end = n + in_c
                            while n < end:
                                patch[n] = 0
                                n += 1
                        else:
                            x = ptr8(base + p[1] + (h * in_w + w) * in_c)
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
            t = ptr32(code + p[20])
            k = ptr8(code + p[21])
            o = 0
            while o < out_c:
                acc = 0 - total
                if depthwise:
                    k = ptr8(code + p[21] + o)
                    source = base + p[1] + o // filters
                    h = row * p[12] - p[14]
                    h_end = h + kernel_h
                    while h < h_end:
                        w = column * p[13] - p[15]
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
    y = ptr8(base + p[3])
    in_h = p[4]
    in_w = p[5]
    in_c = p[6]
    low = (p[18] + 128) & 255
    high = (p[19] + 128) & 255
    row = 0
    while row < p[7]:
        column = 0
        while column < p[8]:
            c = 0
            while c < in_c:
                x = base + p[1] + c
                best = 0
                total = 0
                n = 0
                h = row * p[12] - p[14]
                h_end = h + p[10]
                while h < h_end:
                    w = column * p[13] - p[15]
                    w_end = w + p[11]
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
                if p[0] == 5:  # AVG_POOL
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
    t = ptr32(int(ptr8(program)) + p[20])
    x = ptr8(base + p[1])
    x2 = ptr8(base + p[2])
    y = ptr8(base + p[3])
    n = p[7] * p[8] * p[9]
    y_zero = (t[6] + 128) & 255
    low = (p[18] + 128) & 255
    high = (p[19] + 128) & 255
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
def _move(arena, program, at: int):
    p = ptr32(int(ptr8(program)) + at)
    base = int(ptr8(arena))
    n = p[4] * p[5] * p[6]
    i = 0
    if (p[1] | p[3]) & 3 == 0:
        words = ptr32(base + p[1])
        to = ptr32(base + p[3])
        while i < n >> 2:
            to[i] = words[i]
            i += 1
        i <<= 2
    x = ptr8(base + p[1])
    y = ptr8(base + p[3])
    while i < n:
        y[i] = x[i]
        i += 1


# By the numbers of tinytorch_core.model; 8, MEL, is in sound.py.
KERNELS = {1: _weighted, 2: _weighted, 3: _weighted, 4: _pool, 5: _pool, 6: _add, 7: _move}
