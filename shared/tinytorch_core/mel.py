"""The tables of MEL in a model's program, and whether they are safe to use.

A table block begins with HEAD, int32 each; `bias` and what follows it are offsets in bytes from the
block's start. What the tables are for is in tinytorch_core.sound, which a board does without.
"""

import struct

HEAD = (
    "points", "bands", "first", "bins", "down", "free", "floor", "shift", "bytes",
    "bias", "twiddle", "window", "order", "counts", "matrix", "log", "weights",
)  # fmt: skip
HEAD_FORMAT = "<%di" % len(HEAD)
HEAD_BYTES = struct.calcsize(HEAD_FORMAT)
MOST_POINTS = 2048
MOST_BANDS = 80
MOST_BINS = 127  # of one segment, so that its sums stay below 2**31


class Tables:
    """A table block: HEAD as attributes. The tables behind it, by their offsets:

    bias (values, int32); twiddle (points / 2 pairs, int16: cos and sin of 2 pi k / points, times
    2**14); window (int16, times 2**15); order (points / 2, uint16: bit-reversed indices); counts
    (bands + 1, uint16: bins from one edge to the next); matrix (values x bands, int16); log (256,
    uint8: log2(1 + i / 256) * 256); weights (bins, uint8: of the rising slope, 0 to 128).
    """

    def __init__(self, program, at):
        for name, value in zip(HEAD, struct.unpack_from(HEAD_FORMAT, program, at)):
            setattr(self, name, value)

    def __getattr__(self, name) -> int:  # tells a type checker what the fields are
        raise AttributeError(name)


def scratch_bytes(points, bands):
    """Work space of one frame: the spectrum as pairs of int32, then the bands."""
    return 4 * points + 4 * bands


def check(program, at, samples, window, hop, frames, values):
    """The bytes of scratch that a MEL record with tables at `at` needs; 0 where a table is none."""
    if at < 0 or at % 4 or at + HEAD_BYTES > len(program):
        return 0
    t = Tables(program, at)
    half = t.points >> 1
    if not (
        16 <= t.points <= MOST_POINTS
        and t.points & (t.points - 1) == 0
        and 0 < window <= t.points
        and window % 2 == 0
        and (frames - 1) * hop + window <= samples
        and 0 < t.bands <= MOST_BANDS
        and t.first > 0
        and 0 < t.bins <= half - t.first
        and 1 <= t.down <= 8
        and 0 <= t.free <= 16
        and 8 <= t.shift <= 31
        and HEAD_BYTES <= t.bytes <= len(program) - at
    ):
        return 0
    sizes = (
        (t.bias, 4 * values, 4), (t.twiddle, 4 * half, 4), (t.window, 2 * window, 4),
        (t.order, 2 * half, 4), (t.counts, 2 * (t.bands + 1), 2),
        (t.matrix, 2 * values * t.bands, 2), (t.log, 256, 1), (t.weights, t.bins, 1),
    )  # fmt: skip
    for place, size, align in sizes:
        if place < HEAD_BYTES or place % align or place + size > t.bytes:
            return 0
    # Byte by byte: what a check leaves behind on a board's heap counts in the peak.
    total = 0
    for i in range(at + t.counts, at + t.counts + 2 * (t.bands + 1), 2):
        if program[i] > MOST_BINS or program[i + 1]:
            return 0
        total += program[i]
    for i in range(at + t.order, at + t.order + 2 * half, 2):
        if program[i] | program[i + 1] << 8 >= half:
            return 0
    for i in range(t.bins):
        if program[at + t.weights + i] > 128:
            return 0
    return scratch_bytes(t.points, t.bands) if total == t.bins else 0
