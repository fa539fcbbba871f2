"""MAX_POOL and AVG_POOL, from bytes to bytes, channels last.

Offsets in the arena are multiples of 4. Pooling takes 4 or 8 channels at once, as words, where the
number of channels allows. Bytes are then u = x + 128, which orders and adds them without a sign:

The larger of two words' bytes comes from floor((u + 255 - v) / 2), whose top bit says whether u is
larger than v, and which is computed for all four bytes at once: (u & ~v) + ((u ^ ~v) >> 1). So the
largest ones are kept as their complement, ~v.

A sum of bytes needs 16 bits: odd bytes add up in the two halves of one word. Another adds up whole
words, modulo 2**32; less the odd bytes' sums, it is the even bytes' ones. A multiplication divides
them, exactly up to LANE_PIXELS.
"""

from dataclasses import dataclass, replace

from tinytorch.machine.armv6m.frame import Counted, Frame
from tinytorch.machine.armv6m.thumb import (
    Name,
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
from tinytorch.machine.armv6m.window import Window
from tinytorch.machine.kernel import Call, Candidates, Shape, Task
from tinytorch_core.model import AVG_POOL, Op

LANE_PIXELS = 257  # the sum of so many bytes fits 16 bits
SIGNS = 0x80808080
EACH = 0x01010101


@dataclass(frozen=True)
class Pool(Shape):
    """MAX_POOL, or with `average` AVG_POOL. low, high: what outputs are clipped to; -128 and 127,
    which cost nothing, also where none goes beyond its limit."""

    window: Window
    average: bool
    low: int = -128
    high: int = 127

    @property
    def flat(self) -> Window:
        """The geometry, with the whole image as one row where windows are as wide as it is."""
        w = self.window
        if w.kernel_w != w.in_w or w.pad_w or w.out_w > 1:
            return w
        return replace(
            w, in_h=1, kernel_h=1, stride_h=1, pad_h=0, out_h=1,
            in_w=w.in_h * w.in_w, kernel_w=w.kernel_h * w.in_w, stride_w=w.stride_h * w.in_w,
            pad_w=w.pad_h * w.in_w, out_w=w.out_h,
        )  # fmt: skip

    @property
    def clipped(self) -> bool:
        """Whether a window reaches beyond the image."""
        rows, columns = self.inside
        return min(rows) < self.flat.kernel_h or min(columns) < self.flat.kernel_w

    @property
    def inside(self) -> tuple[list[int], list[int]]:
        """Of each row of windows, how many rows of each are in the image; and likewise columns."""

        def count(count: int, stride: int, pad: int, kernel: int, size: int) -> list[int]:
            starts = range(-pad, count * stride - pad, stride)
            return [min(start + kernel, size) - max(start, 0) for start in starts]

        w = self.flat
        return (
            count(w.out_h, w.stride_h, w.pad_h, w.kernel_h, w.in_h),
            count(w.out_w, w.stride_w, w.pad_w, w.kernel_w, w.in_w),
        )

    @property
    def pixels(self) -> int:
        """Of the largest window."""
        w = self.window
        return min(w.kernel_h, w.in_h) * min(w.kernel_w, w.in_w)

    @property
    def wide(self) -> bool:
        """Whether an average's sums need more than 16 bits."""
        return self.average and self.pixels > LANE_PIXELS

    @property
    def words(self) -> int:
        """How many words of channels are taken at once; 0: one byte is."""
        if self.window.in_c % 4:
            return 0
        return 1 if self.window.in_c % 8 or self.wide else 2

    @staticmethod
    def of(op: Op, inputs: tuple[int, int] = (-128, 127)) -> "Pool":
        """That of an operation whose inputs have this range."""
        low = op.low if op.low > inputs[0] else -128
        high = op.high if op.high < inputs[1] else 127
        return Pool(Window.of(op), op.kind == AVG_POOL, low, high)

    def assemble(self, unroll: int) -> bytes:
        return pool(self)

    def cycles(self, op: Op) -> int:
        """Within 3 % or 100: of a random input, where they depend on it."""
        a = _pool(self)
        a.count()
        return round(a.cycles)

    def parameters(self, call: Call) -> list[int]:
        return [call.x, call.y]


def candidates(task: Task) -> Candidates:
    """The kernel of MAX_POOL."""
    return Candidates([Pool.of(task.op, task.inputs)])


class _Pooling(Counted):
    """What a window's pixels become, for some channels at once.

    r0 the next pixel's values    r12 from their end to the values of the next one    lr the output
    """

    ends = (r6, r7)  # of a run of pixels, of the window
    straight = 9  # so many of a window's pixels are unrolled; of more, as many a turn at most

    def __init__(self, shape: Pool) -> None:
        super().__init__(
            Frame(
                "x", "unit", "end", "across", "down",
                "row", "column", "first", "rows", "height", "run", "skip",
                "n", "tie", "half", "factor",
            )
        )  # fmt: skip
        self.shape = shape
        self.size = 4 * shape.words or 1

    def start(self) -> None:
        """What stays in registers all the time."""

    def begin(self, few: bool) -> None:
        """Before a window, for these channels. few: its first pixel will come as `first`."""

    def pixel(self, first: bool) -> None:
        """Take one pixel's values. first: the window's first one, if that is known."""
        raise NotImplementedError

    def finish(self) -> None:
        """Store the outputs at lr, and move it behind them."""
        raise NotImplementedError

    def turn(self, first: bool = False) -> None:
        self.pixel(first)
        self.add(r0, r12)

    def bound(self, value: Register) -> None:
        """Clip u in a register."""
        low, high = self.shape.low, self.shape.high
        for limit, free, condition in ((low, -128, "hs"), (high, 127, "ls")):
            if limit != free:
                inside = self.unique("inside")
                self.cmp(value, limit + 128)
                self.b(inside, condition)
                self.movs(value, limit + 128)
                self.label(inside)

    def constants(self, n: int) -> dict[Name, int]:
        """For the mean of n values: see `mean`."""
        factor = n if self.shape.wide else (1 << 24) // n + 1
        return {"tie": 0 if n & 1 else n << 7, "half": (n >> 1) - 1, "factor": factor}

    def load_constants(self) -> None:
        """r5 = tie, r6 = half, r7 = factor."""
        fixed = {} if self.shape.clipped else self.constants(self.shape.pixels)
        for register, name in ((r5, "tie"), (r6, "half"), (r7, "factor")):
            if fixed:
                self.load(register, fixed[name])
            else:
                self.get(register, name)

    def mean(self, total: Register) -> None:
        """From the sum of n values u to their mean, clipped.

        floor((sum + n / 2) / n) is right but for halves below zero, which go away from it: there
        the sum counts one less. tie: the sum where zero is, or 0 where n is odd and there are no
        halves; half: n // 2 - 1, and cmp's carry adds 1.
        """
        self.cmp(total, r5)
        self.adcs(total, r6)
        if not self.shape.wide:
            self.muls(total, r7)
            self.lsrs(total, total, 24)
        else:  # bit by bit, in r1 and r2
            self.lsls(r1, r7, 7)
            self.movs(r2, 0)
            for bit in range(7, -1, -1):
                less = self.unique("less")
                self.cmp(total, r1)
                self.b(less, "lo")
                with self.times(0.5):
                    self.subs(total, total, r1)
                    self.adds(r2, r2, 1 << bit)
                self.label(less)
                self.lsrs(r1, r1, 1)
            self.mov(total, r2)
        self.bound(total)


class _MaxWords(_Pooling):
    """r1, r2 values    r3, r4 scratch    r5 SIGNS    r6, r7 the complements of the largest u"""

    ends = (r8, r9)
    straight = 4

    def start(self) -> None:
        self.load(r5, SIGNS)

    def begin(self, few: bool) -> None:
        for largest in () if few else (r6, r7)[: self.shape.words]:
            self.movs(largest, 0)
            self.mvns(largest, largest)

    def pixel(self, first: bool) -> None:
        values = (r1, r2)[: self.shape.words]
        self.ldmia(r0, *values)
        for value, largest in zip(values, (r6, r7), strict=False):
            self.eors(value, r5)
            if first:
                self.mvns(largest, value)
            else:
                self.larger(value, largest)

    def larger(self, value: Register, largest: Register) -> None:
        self.mov(r4, value)
        self.eors(r4, largest)
        self.ands(value, largest)
        self.lsrs(r3, r4, 1)
        self.bics(r3, r5)
        self.adds(value, value, r3)
        # From the top bit to all bits of a byte, and to those in which it differs.
        self.ands(value, r5)
        self.lsrs(r3, value, 7)
        self.lsls(value, value, 1)
        self.subs(value, value, r3)
        self.bics(value, r4)
        self.eors(largest, value)

    def finish(self) -> None:
        results = (r6, r7)[: self.shape.words]
        for largest in results:
            if self.shape.low > -128:
                self.load(r1, (self.shape.low + 128) * EACH)
                self.larger(r1, largest)
            self.mvns(largest, largest)
            if self.shape.high < 127:  # the smaller one is the complements' larger one
                self.load(r1, (127 - self.shape.high) * EACH)
                self.larger(r1, largest)
            self.eors(largest, r5)
        self.mov(r1, lr)
        self.stmia(r1, *results)
        self.mov(lr, r1)


class _MaxBytes(_Pooling):
    """r1 value    r5 0    r4 the largest"""

    def start(self) -> None:
        self.movs(r5, 0)

    def begin(self, few: bool) -> None:
        if not few:
            self.movs(r4, 127)
            self.mvns(r4, r4)

    def pixel(self, first: bool) -> None:
        if first:
            self.ldrsb(r4, r0, r5)
        else:
            smaller = self.unique("smaller")
            self.ldrsb(r1, r0, r5)
            self.cmp(r1, r4)
            self.b(smaller, "le")
            self.mov(r4, r1)
            self.label(smaller)
        self.adds(r0, r0, 1)

    def finish(self) -> None:
        self.adds(r4, r4, 128)
        self.bound(r4)
        self.subs(r4, r4, 128)
        self.mov(r1, lr)
        self.strb(r4, r1, 0)
        self.adds(r1, r1, 1)
        self.mov(lr, r1)


class _AverageWords(_Pooling):
    """r1, r2 values    r3 scratch    r4 the odd bytes    r5 SIGNS
    r8, r9 sums of words    r10, r11 sums of their odd bytes"""

    def begin(self, few: bool) -> None:
        self.movs(r3, 0)
        for total in (r8, r9, r10, r11):
            self.mov(total, r3)
        self.load(r4, 0x00FF00FF)
        self.load(r5, SIGNS)

    def pixel(self, first: bool) -> None:
        values = (r1, r2)[: self.shape.words]
        self.ldmia(r0, *values)
        for value, total, odd in zip(values, (r8, r9), (r10, r11), strict=False):
            self.eors(value, r5)
            self.add(total, value)
            self.lsrs(value, value, 8)
            self.ands(value, r4)
            self.add(odd, value)

    def finish(self) -> None:
        self.load_constants()
        self.load(r4, SIGNS)
        for total, odd in zip((r8, r9)[: self.shape.words], (r10, r11), strict=False):
            self.mov(r0, total)
            self.mov(r1, odd)
            self.lsls(r2, r1, 8)
            self.subs(r0, r0, r2)
            self.uxth(r2, r0)
            self.lsrs(r0, r0, 16)
            self.uxth(r3, r1)
            self.lsrs(r1, r1, 16)
            for value in (r2, r3, r0, r1):
                self.mean(value)
            self.lsls(r0, r0, 16)
            self.orrs(r0, r2)
            self.lsls(r1, r1, 16)
            self.orrs(r1, r3)
            self.lsls(r1, r1, 8)
            self.orrs(r0, r1)
            self.eors(r0, r4)
            self.mov(r1, lr)
            self.stmia(r1, r0)
            self.mov(lr, r1)


class _AverageWide(_Pooling):
    """r1 value    r2 scratch    r5 SIGNS
    r8 sum of words    r9 of upper halves    r10 of byte 3    r11 of byte 1"""

    def begin(self, few: bool) -> None:
        self.movs(r3, 0)
        for total in (r8, r9, r10, r11):
            self.mov(total, r3)
        self.load(r5, SIGNS)

    def pixel(self, first: bool) -> None:
        self.ldmia(r0, r1)
        self.eors(r1, r5)
        self.add(r8, r1)
        for total, shift in ((r9, 16), (r10, 24)):
            self.lsrs(r2, r1, shift)
            self.add(total, r2)
        self.lsrs(r1, r1, 8)
        self.uxtb(r1, r1)
        self.add(r11, r1)

    def finish(self) -> None:
        self.load_constants()
        self.mov(r0, lr)
        # Each byte's sum is another one, less these, shifted.
        sums: tuple[tuple[Register, dict[Register, int]], ...] = (
            (r8, {r9: 16, r11: 8}), (r11, {}), (r9, {r10: 8}), (r10, {}),
        )  # fmt: skip
        for i, (total, others) in enumerate(sums):
            self.mov(r4, total)
            for other, shift in others.items():
                self.mov(r1, other)
                self.lsls(r1, r1, shift)
                self.subs(r4, r4, r1)
            self.mean(r4)
            self.subs(r4, r4, 128)
            self.strb(r4, r0, i)
        self.adds(r0, r0, 4)
        self.mov(lr, r0)


class _AverageBytes(_Pooling):
    """r1 value    r4 sum    r5 128"""

    def begin(self, few: bool) -> None:
        self.movs(r4, 0)
        self.movs(r5, 128)

    def pixel(self, first: bool) -> None:
        self.ldrb(r1, r0, 0)
        self.eors(r1, r5)
        self.adds(r4, r4, r1)
        self.adds(r0, r0, 1)

    def finish(self) -> None:
        self.load_constants()
        self.mean(r4)
        self.subs(r4, r4, 128)
        self.mov(r1, lr)
        self.strb(r4, r1, 0)
        self.adds(r1, r1, 1)
        self.mov(lr, r1)


def _kind(shape: Pool) -> type[_Pooling]:
    if not shape.average:
        return _MaxWords if shape.words else _MaxBytes
    if not shape.words:
        return _AverageBytes
    return _AverageWide if shape.wide else _AverageWords


def pool(shape: Pool) -> bytes:
    """Parameters: x, y (arena)."""
    return _pool(shape).assemble()


def _pool(shape: Pool) -> _Pooling:
    a, w = _kind(shape)(shape), shape.flat
    a.enter()
    a.place(1, r0, "x")
    a.ldr(r3, r2, 8)
    a.adds(r3, r3, r0)
    a.mov(lr, r3)
    a.load(r3, w.in_c - a.size)
    a.mov(r12, r3)
    a.start()
    (_clipped_windows if shape.clipped else _whole_windows)(a, w)
    a.leave()
    return a


def _whole_windows(a: _Pooling, w: Window) -> None:
    """All windows, none of which reaches beyond the image."""
    row, step = w.stride_h * w.in_w * w.in_c, w.stride_w * w.in_c
    a.get(r0, "x")
    for name, by in (("across", w.out_w * step), ("down", w.out_h * row)):
        a.load(r3, by)
        a.adds(r3, r3, r0)
        a.put(r3, name)
    with a.times(w.out_h):
        a.label("window")
        with a.times(w.out_w):
            _units(a, w)
            a.step(r0, step - w.in_c, r3)
            if w.out_w > 1:
                a.get(r3, "across")
                a.cmp(r0, r3)
                a.b("window", "ne")
        if w.out_h > 1:
            a.step(r0, row - w.out_w * step, r3)
            a.get(r3, "across")
            a.step(r3, row, r2)
            a.put(r3, "across")
            a.get(r3, "down")
            a.cmp(r0, r3)
            a.b("window", "ne")


def _clipped_windows(a: _Pooling, w: Window) -> None:
    """All windows, each without what of it is outside of the image."""

    def inside(start: Name, kernel: int, size: int) -> None:
        """r1 = the first row or column of the window that is in the image, r2 = how many are."""
        a.get(r0, start)
        a.mov(r1, r0)
        a.cmp(r1, 0)
        a.b(f"{start}.first", "ge")
        a.movs(r1, 0)
        a.label(f"{start}.first")
        a.load(r2, kernel)
        a.adds(r2, r2, r0)
        a.load(r3, size)
        a.cmp(r2, r3)
        a.b(f"{start}.last", "le")
        a.mov(r2, r3)
        a.label(f"{start}.last")
        a.subs(r2, r2, r1)

    def next_start(start: Name, count: int, stride: int, pad: int, again: Name) -> None:
        a.get(r0, start)
        a.step(r0, stride, r3)
        a.put(r0, start)
        a.load(r3, count * stride - pad)
        a.cmp(r0, r3)
        a.b(again, "ne")

    a.movs(r3, 0)
    a.put(r3, "n")
    a.load(r3, -w.pad_h)
    a.put(r3, "row")
    a.label("rows")
    with a.times(w.out_h):
        inside("row", w.kernel_h, w.in_h)
        a.put(r2, "rows")
        a.load(r3, w.in_w * w.in_c)
        a.muls(r2, r3)
        a.put(r2, "height")
        a.muls(r1, r3)
        a.get(r2, "x")
        a.adds(r1, r1, r2)
        a.put(r1, "first")
        a.load(r3, -w.pad_w)
        a.put(r3, "column")
        a.label("columns")
        with a.times(w.out_w):
            inside("column", w.kernel_w, w.in_w)
            a.load(r3, w.in_c)
            a.muls(r1, r3)
            a.get(r0, "first")
            a.adds(r0, r0, r1)
            if a.shape.average:
                _divisor(a)
                a.load(r3, w.in_c)
            a.muls(r2, r3)
            a.put(r2, "run")
            a.load(r3, w.in_w * w.in_c)
            a.subs(r3, r3, r2)
            a.put(r3, "skip")
            _units(a, w)
            next_start("column", w.out_w, w.stride_w, w.pad_w, "columns")
        if w.out_h > 1:
            next_start("row", w.out_h, w.stride_h, w.pad_h, "rows")


def _divisor(a: _Pooling) -> None:
    """The constants for the mean over a window with r2 pixels in each of its rows, unless the
    window before had as many; r0 and r2 are kept."""
    rows, columns = a.shape.inside
    counts = [r * c for r in rows for c in columns]
    changes = sum(n != before for n, before in zip(counts, [0, *counts], strict=False))
    a.get(r4, "rows")
    a.muls(r4, r2)
    a.get(r3, "n")
    a.cmp(r3, r4)
    a.b("counted", "eq")
    with a.times(changes / len(counts)):
        a.put(r4, "n")
        a.lsls(r3, r4, 7)
        a.lsrs(r1, r4, 1)
        a.b("even", "lo")
        a.movs(r3, 0)
        a.label("even")
        a.put(r3, "tie")
        a.subs(r1, r1, 1)
        a.put(r1, "half")
        if not a.shape.wide:  # 2**24 // n + 1, bit by bit
            a.movs(r3, 1)
            a.movs(r5, 25)
            a.movs(r1, 0)
            a.label("bit")
            with a.times(25):
                a.adds(r1, r1, r1)
                a.cmp(r3, r4)
                a.b("less", "lo")
                with a.times(0.5):
                    a.subs(r3, r3, r4)
                    a.adds(r1, r1, 1)
                a.label("less")
                a.lsls(r3, r3, 1)
                a.subs(r5, r5, 1)
                a.b("bit", "ne")
            a.adds(r4, r1, 1)
        a.put(r4, "factor")
    a.label("counted")


def _units(a: _Pooling, w: Window) -> None:
    """All channels of the window at r0, which becomes the next pixel."""
    several = w.in_c > a.size
    if several:
        a.load(r3, w.in_c)
        a.adds(r3, r3, r0)
        a.put(r3, "end")
        a.label("unit")
    with a.times(w.in_c // a.size):
        a.put(r0, "unit")
        (_some_pixels if a.shape.clipped else _all_pixels)(a, w)
        a.finish()
        a.get(r0, "unit")
        a.adds(r0, r0, a.size)
        if several:
            a.get(r3, "end")
            a.cmp(r0, r3)
            a.b("unit", "ne")


def _all_pixels(a: _Pooling, w: Window) -> None:
    """The pixels of a window that is in the image as a whole, for some channels."""
    skip = (w.in_w - w.kernel_w) * w.in_c
    few = w.kernel_h * w.kernel_w <= a.straight
    a.begin(few)
    if few:
        for i in range(w.kernel_h):
            if i:
                a.step(r0, skip, r3)
            for j in range(w.kernel_w):
                a.turn(first=i == j == 0)
        return
    if w.kernel_h > 1:
        a.load(r3, w.kernel_h * w.in_w * w.in_c)
        a.adds(r3, r3, r0)
        a.mov(a.ends[1], r3)
        a.label("pixels")
    with a.times(w.kernel_h):
        at_once = max(range(1, a.straight + 1), key=lambda n: (w.kernel_w % n == 0, n))
        turns, rest = divmod(w.kernel_w, at_once)
        if turns > 1:
            a.load(r3, turns * at_once * w.in_c)
            a.adds(r3, r3, r0)
            a.mov(a.ends[0], r3)
            a.label("run")
        with a.times(turns):
            for _ in range(at_once):
                a.turn()
            if turns > 1:
                a.cmp(r0, a.ends[0])
                a.b("run", "ne")
        for _ in range(rest):
            a.turn()
        if w.kernel_h > 1:
            a.step(r0, skip, r3)
            a.cmp(r0, a.ends[1])
            a.b("pixels", "ne")


def _some_pixels(a: _Pooling, w: Window) -> None:
    """The pixels of a window that are in the image, for some channels."""
    rows, columns = a.shape.inside
    a.begin(False)
    if w.kernel_h > 1:
        a.get(r3, "height")
        a.adds(r3, r3, r0)
        a.mov(a.ends[1], r3)
        a.label("pixels")
    with a.times(sum(rows) / w.out_h):
        a.get(r3, "run")
        a.adds(r3, r3, r0)
        a.mov(a.ends[0], r3)
        a.label("run")
        with a.times(sum(columns) / w.out_w):
            a.turn()
            a.cmp(r0, a.ends[0])
            a.b("run", "ne")
        if w.kernel_h > 1:
            a.get(r3, "skip")
            a.adds(r0, r0, r3)
            a.cmp(r0, a.ends[1])
            a.b("pixels", "ne")
