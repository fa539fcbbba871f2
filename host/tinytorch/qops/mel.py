"""Features of sound in numpy: the integer front end, many clips at once.

The arithmetic is that of tinytorch_core.sound, which the board runs, and gives the same bytes.
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tinytorch_core.mel import Tables
from tinytorch_core.model import Op

Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]

CHUNK = 96  # frames at a time: their spectra stay in the processor's cache


class Engine:
    """The integer front end in numpy, from a table block in a program."""

    def __init__(self, program: bytes, at: int, window: int, values: int) -> None:
        self.t = t = Tables(program, at)

        def part(name: str, dtype: str, count: int) -> NDArray[Any]:
            return np.frombuffer(program, dtype, count, at + getattr(t, name))

        self.bias = part("bias", "<i4", values)
        pairs = part("twiddle", "<i2", t.points).reshape(-1, 2).astype(np.int32)
        self.cos, self.sin = pairs[:, 0].copy(), pairs[:, 1].copy()
        self.window = part("window", "<i2", window).astype(np.int32)
        self.order = part("order", "<u2", t.points // 2).astype(np.int64)
        counts = part("counts", "<u2", t.bands + 1)
        self.matrix = part("matrix", "<i2", values * t.bands).reshape(values, t.bands)
        self.log = part("log", "u1", 256).astype(np.int32)
        self.rise = np.zeros((t.bands + 1, t.bins), np.float64)
        ends = np.cumsum(counts)
        weights = part("weights", "u1", t.bins)
        self.inside = np.zeros_like(self.rise)
        for i, (end, n) in enumerate(zip(ends, counts, strict=True)):
            self.rise[i, end - n : end] = weights[end - n : end]
            self.inside[i, end - n : end] = 128

    def levels(self, x: Int16) -> Int32:
        """Frames (N, window) to the logarithms of their bands, (N, bands)."""
        if not len(x):
            return np.zeros((0, self.t.bands), np.int32)
        return np.concatenate([self._levels(x[i : i + CHUNK]) for i in range(0, len(x), CHUNK)])

    def features(self, x: Int16, low: int = -128, high: int = 127) -> NDArray[np.int8]:
        """Frames (N, window) to (N, values)."""
        acc = self.levels(x) @ self.matrix.T.astype(np.int32) + self.bias
        return np.clip(acc >> self.t.shift, low, high).astype(np.int8)

    def _levels(self, x: Int16) -> Int32:
        t = self.t
        re, im, s = self._spectrum(x)
        first = t.first
        found = self._power(re, im)[first : first + t.bins]
        high, low = (found >> 16).astype(np.float64), (found & 65535).astype(np.float64)
        # Sums of products below 2**31 are exact in float64.
        rise_high, rise_low = self.rise @ high, self.rise @ low
        high, low = (self.inside @ part - up for part, up in ((high, rise_high), (low, rise_low)))
        levels = self._log2(
            (rise_high[:-1] + high[1:]).astype(np.int64), (rise_low[:-1] + low[1:]).astype(np.int64)
        )
        return np.maximum(levels - (s << 9), t.floor).T.astype(np.int32)

    def _spectrum(self, x: Int16) -> tuple[Int32, Int32, Int32]:
        """The FFT of pairs of windowed samples, (points / 2, N) each, and each frame's headroom."""
        t = self.t
        x32 = np.ascontiguousarray(x.T).astype(np.int32)
        peak = np.abs(x32).max(0)
        s = np.clip(14 - np.floor(np.log2(np.maximum(peak, 1))), 0, 14).astype(np.int32)
        s[peak == 0] = 0
        right = 15 + t.down - s
        y = (x32 * self.window[:, None] + (1 << (right - 1))) >> right
        half = t.points // 2
        re, im = np.zeros((2, half, len(s)), np.int32)
        order = self.order[: len(y) // 2]
        re[order], im[order] = y[::2], y[1::2]
        length, stage = 1, 0
        while length < half:
            self._stage(re, im, length, stage >= t.free)
            length, stage = 2 * length, stage + 1
        return re, im, s

    def _stage(self, re: Int32, im: Int32, length: int, halve: bool) -> None:
        shape = (-1, 2, length, re.shape[1])
        (ar, br), (ai, bi) = (z.reshape(shape).swapaxes(0, 1) for z in (re, im))
        if length == 1:
            tr, ti = br.copy(), bi.copy()  # times 1
        else:
            step = len(re) // length
            c, s = (w[: len(re) : step, None] for w in (self.cos, self.sin))
            tr = (br * c + bi * s + 8192) >> 14
            ti = (bi * c - br * s + 8192) >> 14
        if halve:
            for a, b, p in ((ar, br, tr), (ai, bi, ti)):
                a += 1
                np.subtract(a, p, out=b)
                a += p
                a >>= 1
                b >>= 1
        else:
            for a, b, p in ((ar, br, tr), (ai, bi, ti)):
                np.subtract(a, p, out=b)
                a += p

    def _power(self, re: Int32, im: Int32) -> Int32:
        n = len(re)
        k = slice(1, n // 2 + 1)
        kr, ki = re[k], im[k]
        mr, mi = re[n - 1 : n // 2 - 1 : -1], im[n - 1 : n // 2 - 1 : -1]
        c, s = self.cos[k, None], self.sin[k, None]
        er, ei, odd_r, odd_i = kr + mr, ki - mi, ki + mi, mr - kr
        tr = (odd_r * c + odd_i * s + 8192) >> 14
        ti = (odd_i * c - odd_r * s + 8192) >> 14
        found = np.zeros_like(re)
        xr, xi = (er - tr + 1) >> 1, (ti - ei + 1) >> 1
        found[n - 1 : n // 2 - 1 : -1] = xr * xr + xi * xi
        xr, xi = (er + tr + 1) >> 1, (ei + ti + 1) >> 1
        found[k] = xr * xr + xi * xi
        return found

    def _log2(self, high: NDArray[np.int64], low: NDArray[np.int64]) -> NDArray[np.int64]:
        value = (high << 16) + low
        n = np.floor(np.log2(np.maximum(value, 1))).astype(np.int64)  # exact below 2**48
        n -= (value >> n) == 0
        mantissa = np.where(n >= 8, value >> np.maximum(n - 8, 0), value << np.maximum(8 - n, 0))
        return np.where(value > 0, (n << 8) + self.log[mantissa & 255], 0)


def frames_of(clips: Int16, window: int, hop: int) -> Int16:
    """Clips (N, samples) to their frames, (N, frames, window), a view."""
    return sliding_window_view(clips, window, axis=1)[:, ::hop]


def mel(arena: NDArray[np.int8], program: bytes, at: int) -> None:
    """The operation MEL on a batch of arenas, as in tinytorch.qops.kernels."""
    op = Op(program, at)
    samples = np.ascontiguousarray(arena[:, op.x : op.x + 2 * op.in_h]).view("<i2")
    frames = frames_of(samples, op.kernel_h, op.stride_h)[:, : op.out_h]
    engine = Engine(program, op.table, op.kernel_h, op.out_c)
    found = engine.features(frames.reshape(-1, op.kernel_h), op.low, op.high)
    arena[:, op.y : op.y + op.out_h * op.out_c] = found.reshape(len(arena), -1)


# Settings: what a model file says of its features, and all that rebuilds them.
