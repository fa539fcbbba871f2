"""Kernels of the Cortex-M0+ for operations without weights: pooling and addition.

Called as those of `armv6m` are, with its registers and frames. Pooling and addition have one
arithmetic in both tiers.
"""

from dataclasses import dataclass

from tinytorch.machine.armv6m import Frame, Kernel, Window, X
from tinytorch.machine.thumb import (
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
from tinytorch_core.qops import ADD_SHIFT

STRAIGHT = 16  # values of a row of a window that are unrolled, where none is padding


@dataclass(frozen=True)
class Pool:
    """MAX_POOL and AVG_POOL of bytes, channels last. low, high: what outputs are clipped to."""

    window: Window
    average: bool
    low: int
    high: int


@dataclass(frozen=True)
class Add:
    """ADD of two int8 tensors of `values` values each."""

    values: int
    low: int
    high: int

    @property
    def tables(self) -> bool:
        """Whether it pays to requantize each of the 256 possible inputs first."""
        return self.values > 600


@dataclass(frozen=True)
class Average:
    """AVG_POOL over a whole image of words, [block][channel][word], to bytes; `distance` as in Dot.

    positions: of the image. low, high: what the means are clipped to, None where none goes beyond.
    """

    channels: int
    positions: int
    words: int
    distance: int
    low: "int | None"
    high: "int | None"


def pool(shape: Pool) -> bytes:
    """Parameters: x, y (arena).

    r0 input    r1 channels    r2, r4 columns and rows left    r3 value    r5 0
    r6 bytes to the next row    r7 maximum or sum    r8 the window in this channel
    r9, r10 its columns and rows    r11 channels left    r12 output
    """
    w = shape.window
    frame = Frame("x", "row", "column", "count", "low", "high", "left")
    a = Kernel(frame)
    a.enter()
    a.place(1, r0, "x")
    a.ldr(r3, r2, 8)
    a.adds(r3, r3, r0)
    a.mov(r12, r3)
    for name, value in (
        ("row", -w.pad_h), ("column", -w.pad_w), ("low", shape.low), ("high", shape.high),
        ("left", w.out_h * w.out_w),
    ):  # fmt: skip
        a.load(r3, value)
        a.put(r3, name)
    a.b("positions")
    a.pool()

    a.label("positions")
    # The window's part that is in the image: r3, r4 the first row and column, r6, r7 how many.
    for name, first, many, extent, kernel in (
        ("row", r3, r6, w.in_h, w.kernel_h),
        ("column", r4, r7, w.in_w, w.kernel_w),
    ):
        above, below = a.unique("above"), a.unique("below")
        a.get(first, name)
        a.load(many, kernel)
        a.adds(many, many, first)
        a.load(r2, extent)
        a.cmp(many, r2)
        a.b(below, "le")
        a.mov(many, r2)
        a.label(below)
        a.cmp(first, 0)
        a.b(above, "ge")
        a.movs(first, 0)
        a.label(above)
        a.subs(many, many, first)
    a.mov(r9, r7)
    a.mov(r10, r6)
    a.load(r2, w.in_w)
    a.muls(r3, r2)
    a.adds(r3, r3, r4)
    a.load(r1, w.in_c)
    a.muls(r3, r1)
    a.get(r4, "x")
    a.adds(r3, r3, r4)
    a.mov(r8, r3)
    a.subs(r2, r2, r7)
    a.muls(r2, r1)
    a.muls(r7, r6)
    a.put(r7, "count")
    a.mov(r6, r2)
    a.mov(r11, r1)
    a.movs(r5, 0)
    a.b("channels")
    a.pool()

    a.label("channels")
    a.mov(r0, r8)
    a.mov(r4, r10)
    a.load(r7, 0 if shape.average else -128)
    a.label("rows")
    whole = w.pad_w == 0 and (w.out_w - 1) * w.stride_w + w.kernel_w <= w.in_w
    unrolled = w.kernel_w if whole and w.kernel_w <= STRAIGHT else 1
    if unrolled < w.kernel_w:
        a.mov(r2, r9)
        a.label("values")
    for _ in range(unrolled):
        a.ldrsb(r3, r0, r5)
        if shape.average:
            a.adds(r7, r7, r3)
        else:
            smaller = a.unique("smaller")
            a.cmp(r3, r7)
            a.b(smaller, "le")
            a.mov(r7, r3)
            a.label(smaller)
        a.adds(r0, r0, r1)
    if unrolled < w.kernel_w:
        a.subs(r2, r2, 1)
        a.b("values", "ne")
    a.adds(r0, r0, r6)
    a.subs(r4, r4, 1)
    a.b("rows", "ne")
    if shape.average:
        a.get(r2, "count")
        mean(a)
        a.mov(r7, r4)
        a.movs(r5, 0)
    a.clip(r7, r3)
    a.mov(r3, r12)
    a.strb(r7, r3, 0)
    a.adds(r3, r3, 1)
    a.mov(r12, r3)
    a.movs(r3, 1)
    a.add(r8, r3)
    a.mov(r3, r11)
    a.subs(r3, r3, 1)
    a.mov(r11, r3)
    a.b("channels", "ne")
    # The next window.
    a.get(r3, "column")
    a.step(r3, w.stride_w, r2)
    a.load(r4, w.out_w * w.stride_w - w.pad_w)
    a.cmp(r3, r4)
    a.b("row", "ne")
    a.get(r3, "row")
    a.step(r3, w.stride_h, r2)
    a.put(r3, "row")
    a.load(r3, -w.pad_w)
    a.label("row")
    a.put(r3, "column")
    a.get(r3, "left")
    a.subs(r3, r3, 1)
    a.put(r3, "left")
    a.b("positions", "ne")
    a.leave()
    return a.assemble()


def mean(a: Kernel) -> None:
    """r4 = r7 / r2, the mean of r2 int8 values, halves away from zero; r2, r3, r5, r7 are lost."""
    a.asrs(r5, r7, 31)
    a.eors(r7, r5)
    a.subs(r7, r7, r5)
    a.lsrs(r3, r2, 1)
    a.adds(r7, r7, r3)
    a.lsls(r2, r2, 7)
    a.movs(r4, 0)
    for bit in range(7, -1, -1):
        less = a.unique("less")
        a.cmp(r7, r2)
        a.b(less, "lo")
        a.subs(r7, r7, r2)
        a.adds(r4, r4, 1 << bit)
        a.label(less)
        a.lsrs(r2, r2, 1)
    a.eors(r4, r5)
    a.subs(r4, r4, r5)


def average(shape: Average) -> bytes:
    """Parameters: x, y (arena).

    r0 input    r1 output    r7 sums of both lanes    r8 the channel's first word
    r9 where its full blocks end    r11 from the end of a block to its next    r12 channels left
    """
    n, step = shape.words, 4 * shape.words * shape.channels
    high_lane = shape.positions - shape.distance  # so many words have one
    full = high_lane // n  # blocks whose words all have
    a = Kernel(Frame())
    a.enter()
    a.ldr(r3, r2, 8)
    a.ldr(r2, r2, 4)
    a.adds(r1, r0, r3)
    a.adds(r0, r0, r2)
    a.mov(r8, r0)
    a.load(r3, full * step)
    a.adds(r3, r3, r0)
    a.mov(r9, r3)
    a.load(r3, step - 4 * n)
    a.mov(r11, r3)
    a.load(r3, shape.channels)
    a.mov(r12, r3)
    a.b("channels")
    a.pool()

    a.label("channels")
    a.movs(r7, 0)
    if full:
        a.label("blocks")
        a.ldmia(r0, *X[:n])
        for x in X[:n]:
            a.adds(r7, r7, x)
        a.add(r0, r11)
        a.cmp(r0, r9)
        a.b("blocks", "ne")
    at = 0
    for word in range(full * n, shape.distance):
        a.ldr(r2, r0, 4 * at)
        if word >= high_lane:
            a.uxth(r2, r2)
        a.adds(r7, r7, r2)
        at += 1
        if at == n:
            a.adds(r0, r0, 4 * n)
            a.add(r0, r11)
            at = 0
    a.lsrs(r2, r7, 16)
    a.uxth(r7, r7)
    a.adds(r7, r7, r2)
    a.load(r3, 128 * shape.positions)
    a.subs(r7, r7, r3)
    a.load(r2, shape.positions)
    mean(a)
    for value, condition in ((shape.low, "ge"), (shape.high, "le")):
        if value is not None:
            a.load(r3, value)
            a.cmp(r4, r3)
            a.b(f"clipped.{condition}", condition)
            a.mov(r4, r3)
            a.label(f"clipped.{condition}")
    a.strb(r4, r1, 0)
    a.adds(r1, r1, 1)
    a.mov(r0, r8)
    a.adds(r0, r0, 4 * n)
    a.mov(r8, r0)
    a.movs(r3, 4 * n)
    a.add(r9, r3)
    a.mov(r3, r12)
    a.subs(r3, r3, 1)
    a.mov(r12, r3)
    a.b("channels", "ne")
    a.leave()
    return a.assemble()


def add(shape: Add) -> bytes:
    """Parameters: x, x2, y, scratch (arena), and the operation's table (program): its rows are
    (offset, multiplier, shift) of both inputs and the output. scratch: 2,048 bytes with `tables`.

    r8, r9 inputs    r10 output    r11 values left    r12 scratch
    """
    frame = Frame("x", "x2", "y", "scratch", "rows", "low", "high")
    a = Kernel(frame)
    a.enter()
    for i, name in enumerate(("x", "x2", "y", "scratch")):
        a.place(1 + i, r0, name)
    a.place(5, r1, "rows")
    for name, value in (("low", shape.low), ("high", shape.high)):
        a.load(r3, value)
        a.put(r3, name)
    for name, register in (("x", r8), ("x2", r9), ("y", r10), ("scratch", r12)):
        a.get(r3, name)
        a.mov(register, r3)
    a.load(r3, shape.values)
    a.mov(r11, r3)
    if shape.tables:
        # Of the byte 0, 1, .. 255 in either input.
        for row in range(2):
            loop = a.unique("table")
            a.movs(r0, 0)
            a.label(loop)
            a.sxtb(r3, r0)
            _input(a, row)
            a.mov(r3, r12)
            a.stmia(r3, r4)
            a.mov(r12, r3)
            a.adds(r0, r0, 1)
            a.cmp(r0, 255)
            a.b(loop, "ls")
    a.b("values")
    a.pool()

    a.label("values")
    if shape.tables:
        a.get(r0, "scratch")
        a.mov(r1, r8)
        a.ldrb(r2, r1, 0)
        a.lsls(r2, r2, 2)
        a.ldr(r3, r0, r2)
        a.mov(r1, r9)
        a.ldrb(r2, r1, 0)
        a.lsls(r2, r2, 2)
        a.load(r1, 1024)
        a.adds(r0, r0, r1)
        a.ldr(r4, r0, r2)
        a.adds(r3, r3, r4)
    else:
        for row, register in enumerate((r8, r9)):
            a.mov(r1, register)
            a.movs(r3, 0)
            a.ldrsb(r3, r1, r3)
            _input(a, row)
            if row == 0:
                a.mov(r12, r4)
        a.mov(r3, r12)
        a.adds(r3, r3, r4)
    a.get(r0, "rows")
    a.ldr(r1, r0, 28)
    a.ldr(r2, r0, 32)
    a.bl("requantize")
    a.ldr(r1, r0, 24)
    a.adds(r4, r4, r1)
    a.clip(r4, r1)
    a.mov(r0, r10)
    a.strb(r4, r0, 0)
    a.movs(r0, 1)
    for register in (r8, r9, r10):
        a.add(register, r0)
    a.mov(r0, r11)
    a.subs(r0, r0, 1)
    a.mov(r11, r0)
    a.b("values", "ne")
    a.leave()
    a.pool()
    a.label("requantize")
    a.requantize()
    a.bx(lr)
    return a.assemble()


def _input(a: Kernel, row: int) -> None:
    """r4 = the value in r3 of the input that this row is about, requantized; r0 stays."""
    a.get(r7, "rows")
    a.ldr(r1, r7, 12 * row)
    a.adds(r3, r3, r1)
    a.lsls(r3, r3, ADD_SHIFT)
    a.ldr(r1, r7, 12 * row + 4)
    a.ldr(r2, r7, 12 * row + 8)
    a.bl("requantize")
