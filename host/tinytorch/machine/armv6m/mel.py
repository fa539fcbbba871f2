"""MEL: samples to features, the bytes of tinytorch_core.sound.

The spectrum is pairs of words in the scratch, real and imaginary, so that ldmia and stmia move a
complex number. The FFT's first two stages have twiddles 1 and -i, whose products are exact: they
run together, without a multiplication. In a stage that halves, with tr the product,

    x = (ar + tr + 1) >> 1    y = (ar - tr + 1) >> 1 = x - tr

since the two sums differ by 2 tr. Power takes the place of the real parts, and the bands follow.
"""

import struct
from dataclasses import dataclass

from tinytorch.machine.armv6m.frame import Counted, Frame
from tinytorch.machine.armv6m.thumb import (
    Register,
    lr,
    r0,
    r1,
    r2,
    r3,
    r4,
    r5,
    r6,
    r7,
    r8,
    r9,
    r10,
    r11,
    r12,
)
from tinytorch.machine.kernel import Call, Candidates, Shape, Task
from tinytorch_core.mel import HEAD, HEAD_FORMAT, Tables, scratch_bytes
from tinytorch_core.model import Op

HALF = 1 << 13  # of a product with a twiddle factor
ONES = 0x00010001
LEAST_SHARED = 4  # butterflies with a twiddle factor, for a loop of their own to pay


@dataclass(frozen=True)
class Mel(Shape):
    """MEL. head: that of its table block. low, high: what features are clipped to."""

    window: int
    hop: int
    frames: int
    values: int
    low: int
    high: int
    head: tuple[int, ...]

    @property
    def tables(self) -> Tables:
        return Tables(struct.pack(HEAD_FORMAT, *self.head), 0)

    @staticmethod
    def of(op: Op, program: bytes) -> "Mel":
        """That of an operation."""
        head = struct.unpack_from(HEAD_FORMAT, program, op.table)
        return Mel(op.kernel_h, op.stride_h, op.out_h, op.out_c, op.low, op.high, head)

    def assemble(self, unroll: int) -> bytes:
        return mel(self)

    def cycles(self, op: Op) -> int:
        """Of a call with signals as they usually are."""
        a = _mel(self)
        a.count()
        return round(a.cycles)

    def parameters(self, call: Call) -> list[int]:
        return [call.x, call.y, call.scratch, call.op.table]

    def scratch_bytes(self, op: Op, program: bytes) -> int:
        return scratch_bytes(*struct.unpack_from("<2i", program, op.table))


def candidates(task: Task) -> Candidates:
    """The kernel of MEL."""
    if not possible(task.op, task.program):
        return Candidates(refusal="its tables are of an unknown kind")
    return Candidates([Mel.of(task.op, task.program)])


def possible(op: Op, program: bytes) -> bool:
    """Whether its tables are as this code takes them to be."""
    t = Tables(program, op.table)
    places = t.twiddle, t.twiddle + t.points
    factors = [struct.unpack_from("<2h", program, op.table + at) for at in places]
    return t.free <= 2 and factors == [(1 << 14, 0), (0, 1 << 14)]


def mel(shape: Mel) -> bytes:
    """Parameters: x, y, scratch (arena), and the table block (program)."""
    return _mel(shape).assemble()


class _Mel(Counted):
    def __init__(self, shape: Mel) -> None:
        super().__init__(
            Frame(
                "x", "y", "spectrum", "table", "frames", "quieter",
                "number", "high", "low",
            )
        )  # fmt: skip
        self.shape, self.t = shape, shape.tables

    def part(self, d: Register, name: str, scratch: Register) -> None:
        """d = the address of a table."""
        self.get(d, "table")
        self.step(d, self.shape.head[HEAD.index(name)], scratch)

    def pair(self, a: Register, b: Register, d: Register, halve: bool) -> None:
        """d = a - b and a += b, both halved where that is so; d may be b only then."""
        if halve:
            self.adds(a, a, b)
            self.adds(a, a, 1)
            self.asrs(a, a, 1)
            self.subs(d, a, b)
        else:
            self.subs(d, a, b)
            self.adds(a, a, b)


def _mel(shape: Mel) -> _Mel:
    a = _Mel(shape)
    a.enter()
    for i, name in enumerate(("x", "y", "spectrum")):
        a.place(1 + i, r0, name)
    a.place(4, r1, "table")
    a.load(r3, shape.frames)
    a.put(r3, "frames")
    a.label("frame")
    with a.times(shape.frames):
        for part in (_headroom, _window, _first_stages, _stages, _power, _bands, _features):
            part(a)
            if part is _first_stages:
                a.literals()
        a.get(r0, "x")
        a.step(r0, 2 * shape.hop, r1)
        a.put(r0, "x")
        a.get(r0, "frames")
        a.subs(r0, r0, 1)
        a.put(r0, "frames")
        a.b("frame", "ne")
    a.leave()
    return a


def _headroom(a: _Mel) -> None:
    """r7 = how far windowed samples go to the right; `quieter` = 512 * s.

    A mask takes the place of the largest magnitude: the top bit of all of them, ored.
    """
    words = a.shape.window // 2
    values = (r3, r4)[: 2 - words % 2]
    a.get(r0, "x")
    a.load(r1, 2 * a.shape.window)
    a.adds(r1, r1, r0)
    a.load(r7, ONES)
    a.movs(r2, 0)
    a.label("peak")
    with a.times(words // len(values)):
        if a.shape.hop % 2:  # frames begin in the middle of words
            for i, value in enumerate(values):
                a.ldrh(value, r0, 4 * i)
                a.ldrh(r5, r0, 4 * i + 2)
                a.lsls(r5, r5, 16)
                a.orrs(value, r5)
            a.adds(r0, r0, 4 * len(values))
        else:
            a.ldmia(r0, *values)
        for value in values:  # two magnitudes: -x is ~x + 1
            a.lsrs(r5, value, 15)
            a.ands(r5, r7)
            a.lsls(r6, r5, 16)
            a.subs(r6, r6, r5)
            a.eors(value, r6)
            a.adds(value, value, r5)
            a.orrs(r2, value)
        a.cmp(r0, r1)
        a.b("peak", "ne")
    a.lsrs(r3, r2, 16)
    a.orrs(r2, r3)
    a.uxth(r2, r2)
    a.movs(r3, 0)
    a.cmp(r2, 0)
    a.b("loud", "eq")
    a.b("louder")
    a.label("quiet")
    with a.times(3):
        a.lsls(r2, r2, 1)
        a.adds(r3, r3, 1)
        a.label("louder")
        a.lsrs(r4, r2, 14)
        a.b("quiet", "eq")
    a.label("loud")
    a.movs(r7, 15 + a.t.down)
    a.subs(r7, r7, r3)
    a.lsls(r3, r3, 9)
    a.put(r3, "quieter")


def _window(a: _Mel) -> None:
    """Windowed samples to the spectrum, where they belong.

    r0 samples    r1 window    r2 offset in both    r6 order    r8 half    r9 spectrum    r10 end
    """
    a.subs(r3, r7, 1)
    a.movs(r4, 1)
    a.lsls(r4, r4, r3)
    a.mov(r8, r4)
    a.get(r0, "x")
    a.part(r1, "window", r3)
    a.part(r6, "order", r3)
    a.get(r3, "spectrum")
    a.mov(r9, r3)
    a.load(r3, 2 * a.shape.window)
    a.mov(r10, r3)
    a.movs(r2, 0)
    a.label("window")
    with a.times(a.shape.window // 2):
        for value, factor in ((r3, r4), (r4, r5)):
            a.ldrsh(value, r0, r2)
            a.ldrsh(factor, r1, r2)
            a.adds(r2, r2, 2)
            a.muls(value, factor)
            a.add(value, r8)
            a.asrs(value, value, r7)
        a.ldrh(r5, r6, 0)
        a.adds(r6, r6, 2)
        a.lsls(r5, r5, 3)
        a.add(r5, r9)
        a.stmia(r5, r3, r4)
        a.cmp(r2, r10)
        a.b("window", "ne")
    zeros = (a.t.points - a.shape.window) // 2
    if not zeros:
        return
    a.load(r2, 2 * zeros)
    a.adds(r2, r2, r6)
    a.movs(r3, 0)
    a.movs(r4, 0)
    a.label("zero")
    with a.times(zeros):
        a.ldrh(r5, r6, 0)
        a.adds(r6, r6, 2)
        a.lsls(r5, r5, 3)
        a.add(r5, r9)
        a.stmia(r5, r3, r4)
        a.cmp(r6, r2)
        a.b("zero", "ne")


def _first_stages(a: _Mel) -> None:
    """Stages 0 and 1 of four numbers at a time, a to d: with i * (c - d) = (im, -re) of it."""
    early, late = (stage >= a.t.free for stage in (0, 1))
    a.get(r0, "spectrum")
    a.load(r1, 4 * a.t.points)
    a.adds(r1, r1, r0)
    a.mov(r12, r1)
    a.label("four")
    with a.times(a.t.points // 8):
        a.ldmia(r0, r1, r2, r3, r4)
        a.pair(r1, r3, r5, early)
        a.pair(r2, r4, r6, early)
        a.mov(r8, r5)  # (a - b) in r8, r9
        a.mov(r9, r6)
        a.ldmia(r0, r3, r4, r5, r6)
        a.pair(r3, r5, r7, early)
        a.pair(r4, r6, r5, early)  # (c - d) in r7, r5
        a.subs(r0, r0, 32)
        a.pair(r1, r3, r6, late)
        a.pair(r2, r4, r3, late)
        a.mov(r10, r3)
        a.mov(r3, r8)
        a.pair(r3, r5, r4, late)
        a.mov(r11, r4)
        a.mov(r5, r9)
        a.pair(r5, r7, r4, late)
        a.stmia(r0, r1, r2, r3, r4)
        a.mov(r3, r6)
        a.mov(r4, r10)
        a.mov(r6, r5)
        a.mov(r5, r11)
        a.stmia(r0, r3, r4, r5, r6)
        a.cmp(r0, r12)
        a.b("four", "ne")


def _stages(a: _Mel) -> None:
    """The others, which halve. As long as many butterflies share a twiddle factor, they follow each
    other; after that, the factors do.

    r0, r1 numbers    r2, r3 cos and sin    r8 half of a product    r9 end
    r11 bytes from a factor to the next    r12 bytes of half a group
    """
    count = a.t.points // 2
    sizes = [1 << i for i in range(2, count.bit_length() - 1)]
    shared = [size for size in sizes if count // (2 * size) >= LEAST_SHARED]
    a.get(r3, "spectrum")
    a.load(r4, 8 * count)
    a.adds(r4, r4, r3)
    a.mov(r9, r4)
    a.load(r3, HALF)
    a.mov(r8, r3)
    a.movs(r3, 8 * sizes[0])
    a.mov(r12, r3)
    a.load(r3, 2 * a.t.points // sizes[0])
    a.mov(r11, r3)
    if shared:
        _shared_factors(a, shared)
    _factors(a, sizes[len(shared) :])


def _next_stage(a: _Mel, sizes: list[int], label: str) -> None:
    """Twice as large halves with twice as many factors: to the label until all sizes are done."""
    a.mov(r3, r11)
    a.lsrs(r3, r3, 1)
    a.mov(r11, r3)
    a.mov(r4, r12)
    a.lsls(r4, r4, 1)
    a.mov(r12, r4)
    if len(sizes) > 1:
        a.cmp(r3, a.t.points // sizes[-1])
        a.b(label, "ne")


def _butterfly(a: _Mel) -> None:
    """Of the numbers at r0 and r1, which go on to the next ones."""
    a.ldr(r4, r1, 0)
    a.ldr(r5, r1, 4)
    _product(a)
    a.ldr(r4, r0, 0)
    a.ldr(r5, r0, 4)
    a.pair(r4, r6, r6, True)
    a.pair(r5, r7, r7, True)
    a.stmia(r0, r4, r5)
    a.stmia(r1, r6, r7)


def _shared_factors(a: _Mel, sizes: list[int]) -> None:
    """r10 to the next numbers with this factor    lr the next factor, in the table"""
    a.label("shared.stage")
    with a.times(len(sizes)):
        a.mov(r3, r12)
        a.lsls(r4, r3, 1)
        a.subs(r4, r4, 8)
        a.mov(r10, r4)
        a.part(r5, "twiddle", r4)
        a.get(r0, "spectrum")
        a.label("shared.factor")
        with a.times(sum(sizes) / len(sizes)):
            a.put(r0, "number")
            a.ldr(r2, r5)
            a.add(r5, r11)
            a.mov(lr, r5)
            a.mov(r1, r12)
            a.adds(r1, r1, r0)
            a.asrs(r3, r2, 16)
            a.sxth(r2, r2)
            a.label("shared.butterfly")
            with a.times(a.t.points / 4 * len(sizes) / sum(sizes)):
                _butterfly(a)
                a.add(r0, r10)
                a.add(r1, r10)
                a.cmp(r0, r9)
                a.b("shared.butterfly", "lo")
            a.get(r0, "number")
            a.adds(r0, r0, 8)
            a.mov(r5, lr)
            a.get(r3, "spectrum")
            a.add(r3, r12)
            a.cmp(r0, r3)
            a.b("shared.factor", "ne")
        _next_stage(a, sizes, "shared.stage")


def _factors(a: _Mel, sizes: list[int]) -> None:
    """r10 end of a half    lr the next factor, in the table"""
    groups = sum(a.t.points // (4 * size) for size in sizes)
    a.label("stage")
    with a.times(len(sizes)):
        a.get(r0, "spectrum")
        a.label("group")
        with a.times(groups / len(sizes)):
            a.part(r3, "twiddle", r2)
            a.mov(r1, r12)
            a.adds(r1, r1, r0)
            a.mov(r10, r1)
            a.label("butterfly")
            with a.times(a.t.points / 4 * len(sizes) / groups):
                a.ldr(r2, r3)
                a.add(r3, r11)
                a.mov(lr, r3)
                a.asrs(r3, r2, 16)
                a.sxth(r2, r2)
                _butterfly(a)
                a.mov(r3, lr)
                a.cmp(r0, r10)
                a.b("butterfly", "ne")
            a.mov(r0, r1)
            a.cmp(r0, r9)
            a.b("group", "ne")
        _next_stage(a, sizes, "stage")


def _product(a: _Mel) -> None:
    """r6, r7 = those of r4, r5 with the factor in r2, r3; r8: HALF."""
    a.mov(r6, r4)
    a.muls(r6, r2)
    a.mov(r7, r5)
    a.muls(r7, r3)
    a.adds(r6, r6, r7)
    a.add(r6, r8)
    a.asrs(r6, r6, 14)
    a.muls(r5, r2)
    a.muls(r4, r3)
    a.subs(r7, r5, r4)
    a.add(r7, r8)
    a.asrs(r7, r7, 14)


def _power(a: _Mel) -> None:
    """The power of bins k and m = N - k in place of real parts, as tinytorch_core.sound.power.

    r0, r1 the numbers k and m    r9 twiddles    r10, r11 real and imaginary part of E
    """
    count = a.t.points // 2
    least = min(a.t.first, count - a.t.first - a.t.bins + 1)
    a.get(r0, "spectrum")
    a.load(r1, 8 * (count - least))
    a.adds(r1, r1, r0)
    a.step(r0, 8 * least, r2)
    a.part(r3, "twiddle", r2)
    a.step(r3, 4 * least, r2)
    a.label("power")
    with a.times(count // 2 - least + 1):
        a.mov(r9, r3)
        a.ldr(r2, r0, 0)
        a.ldr(r3, r0, 4)
        a.ldr(r5, r1, 0)
        a.ldr(r6, r1, 4)
        a.adds(r7, r2, r5)
        a.mov(r10, r7)
        a.subs(r5, r5, r2)
        a.subs(r7, r3, r6)
        a.mov(r11, r7)
        a.adds(r4, r3, r6)
        a.mov(r3, r9)
        a.ldr(r2, r3)
        a.asrs(r3, r2, 16)
        a.sxth(r2, r2)
        _product(a)
        a.mov(r2, r10)
        a.pair(r2, r6, r6, True)
        a.mov(r3, r11)
        a.adds(r4, r3, r7)
        a.adds(r4, r4, 1)
        a.asrs(r4, r4, 1)
        a.subs(r3, r4, r3)
        for each in (r2, r4, r3, r6):
            a.muls(each, each)
        a.adds(r2, r2, r4)
        a.adds(r6, r6, r3)
        a.str(r2, r0)
        a.str(r6, r1)
        a.movs(r3, 4)
        a.add(r3, r9)
        a.adds(r0, r0, 8)
        a.subs(r1, r1, 8)
        a.cmp(r0, r1)
        a.b("power", "ls")


def _bands(a: _Mel) -> None:
    """The logarithms of all bands.

    r0 powers    r1 weights    r2 from minus a segment's bins to 0    r7 end of counts
    r8, r9 sums of powers' upper and lower halves    r10, r11 of these times weights
    r12 counts    lr levels
    """
    a.get(r0, "spectrum")
    a.load(r1, 4 * a.t.points - 4)
    a.adds(r1, r1, r0)
    a.mov(lr, r1)  # what comes before the first band is no level: to the last imaginary part
    a.step(r0, 8 * a.t.first, r1)
    a.part(r1, "weights", r2)
    a.part(r7, "counts", r2)
    a.mov(r12, r7)
    a.adds(r7, r7, 2 * (a.t.bands + 1))
    a.movs(r3, 0)
    a.put(r3, "high")
    a.put(r3, "low")
    a.label("band")
    with a.times(a.t.bands + 1):
        a.mov(r3, r12)
        a.ldrh(r2, r3, 0)
        a.adds(r3, r3, 2)
        a.mov(r12, r3)
        a.movs(r3, 0)
        for total in (r8, r9, r10, r11):
            a.mov(total, r3)
        a.adds(r1, r1, r2)
        a.rsbs(r2, r2)
        a.b("summed", "eq")
        a.label("bin")
        with a.times(a.t.bins / (a.t.bands + 1)):
            a.ldmia(r0, r3, r4)
            a.ldrb(r5, r1, r2)
            a.lsrs(r4, r3, 16)
            a.uxth(r3, r3)
            for value, total, rise in ((r4, r8, r10), (r3, r9, r11)):
                a.add(total, value)
                a.muls(value, r5)
                a.add(rise, value)
            a.adds(r2, r2, 1)
            a.b("bin", "ne")
        a.label("summed")
        for value, before, total, rise in ((r3, "high", r8, r10), (r4, "low", r9, r11)):
            a.mov(r5, total)
            a.lsls(r5, r5, 7)
            a.mov(r6, rise)
            a.subs(r5, r5, r6)
            a.get(value, before)
            a.adds(value, value, r5)
            a.put(r6, before)
        _logarithm(a)
        a.mov(r3, lr)
        a.stmia(r3, r5)
        a.mov(lr, r3)
        a.cmp(r12, r7)
        a.b("band", "ne")


def _logarithm(a: _Mel) -> None:
    """r5 = the level of r3 * 2**16 + r4."""
    a.lsrs(r5, r4, 16)
    a.adds(r3, r3, r5)
    a.movs(r5, 16 + 31)
    a.lsrs(r6, r3, 15)
    a.b("some", "ne")
    a.movs(r5, 31)
    a.uxth(r4, r4)
    a.lsls(r3, r3, 16)
    a.orrs(r3, r4)
    a.b("some", "ne")
    a.movs(r5, 0)
    a.b("none")
    a.label("some")
    for by in (16, 8, 4, 2, 1):
        more = a.unique("more")
        a.lsrs(r6, r3, 32 - by)
        a.b(more, "ne")
        a.lsls(r3, r3, by)
        a.subs(r5, r5, by)
        a.label(more)
    a.part(r6, "log", r4)
    a.lsls(r3, r3, 1)
    a.lsrs(r3, r3, 24)
    a.ldrb(r3, r6, r3)
    a.lsls(r5, r5, 8)
    a.adds(r5, r5, r3)
    a.label("none")
    a.get(r3, "quieter")
    a.subs(r5, r5, r3)
    a.load(r3, a.t.floor)
    a.cmp(r5, r3)
    a.b("above", "ge")
    a.mov(r5, r3)
    a.label("above")


def _features(a: _Mel) -> None:
    """r0 end of a row of the matrix    r1 levels    r2 bias    r3 from minus a row's bytes to 0
    r7 features    r8 levels    r9 minus a row's bytes    r10 end of the bias"""
    row = 2 * a.t.bands
    a.get(r3, "spectrum")
    a.load(r2, 4 * a.t.points)
    a.adds(r3, r3, r2)
    a.mov(r8, r3)
    a.load(r3, row)
    a.rsbs(r3, r3)
    a.mov(r9, r3)
    a.part(r0, "matrix", r2)
    a.part(r2, "bias", r3)
    a.load(r3, 4 * a.shape.values)
    a.adds(r3, r3, r2)
    a.mov(r10, r3)
    a.get(r7, "y")
    a.label("feature")
    with a.times(a.shape.values):
        a.step(r0, row, r3)
        a.mov(r1, r8)
        a.mov(r3, r9)
        a.ldmia(r2, r4)
        a.label("term")
        with a.times(a.t.bands):
            a.ldmia(r1, r5)
            a.ldrsh(r6, r0, r3)
            a.muls(r5, r6)
            a.adds(r4, r4, r5)
            a.adds(r3, r3, 2)
            a.b("term", "ne")
        a.asrs(r4, r4, a.t.shift)
        for limit, inside in ((a.shape.low, "ge"), (a.shape.high, "le")):
            a.load(r3, limit)
            a.cmp(r4, r3)
            a.b(f"inside.{inside}", inside)
            a.mov(r4, r3)
            a.label(f"inside.{inside}")
        a.strb(r4, r7, 0)
        a.adds(r7, r7, 1)
        a.cmp(r2, r10)
        a.b("feature", "ne")
    a.put(r7, "y")
