"""ADD, from bytes to bytes.

It has only 256 values in either input. What each becomes, requantized and times the output's
multiplier, is written into a table first, 64 bits each: the sum of two of them is the product that
the output's requantization begins with.
"""

import struct
from dataclasses import dataclass

from tinytorch.machine.armv6m.frame import Counted, Frame, Kernel
from tinytorch.machine.armv6m.thumb import lr, r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11, r12
from tinytorch.machine.kernel import Call, Candidates, Shape, Task
from tinytorch_core.model import Op
from tinytorch_core.qops import ADD_SHIFT

TABLE = 8 * 256  # bytes of one input's values, requantized
LEAST_VALUES = 140  # for tables to pay


@dataclass(frozen=True)
class Add(Shape):
    """ADD of two tensors of so many values. low, high: what outputs are clipped to.

    tables: whether both inputs' values are requantized once for all; see `of`.
    """

    values: int
    low: int
    high: int
    tables: bool

    @staticmethod
    def of(op: Op, program: bytes) -> "Add":
        """That of an operation.

        It takes tables where there are values enough, and constants as they are in practice: the
        inputs become smaller, the output much smaller.
        """
        row = struct.unpack_from("<9i", program, op.table)
        values, shifts = op.out_h * op.out_w * op.out_c, row[2::3]
        usual = max(abs(row[0]), abs(row[3])) <= 128 and max(shifts[:2]) <= 0 and shifts[2] < 0
        tables = values >= LEAST_VALUES and usual and min(shifts) >= -30
        return Add(values, op.low, op.high, tables)

    def assemble(self, unroll: int) -> bytes:
        return add(self)

    def cycles(self, op: Op) -> int:
        """Within 3 % or 100: of a random input whose sums stay within the output's limits."""
        a = _add(self)
        a.count()
        return round(a.cycles)

    def parameters(self, call: Call) -> list[int]:
        return [call.x, call.x2, call.y, call.scratch, call.op.table]

    def scratch_bytes(self, op: Op, program: bytes) -> int:
        return 2 * TABLE if self.tables else 0


def candidates(task: Task) -> Candidates:
    """The kernel of ADD."""
    return Candidates([Add.of(task.op, task.program)])


def add(shape: Add) -> bytes:
    """Parameters: x, x2, y, scratch (arena), and the operation's table (program), whose rows are
    (offset, multiplier, shift) of both inputs and the output."""
    return _add(shape).assemble()


def _add(shape: Add) -> Counted:
    a = Counted(Frame("x", "x2", "y", "scratch", "rows", "low", "high", "multiplier", "end"))
    a.enter()
    for i, name in enumerate(("x", "x2", "y", "scratch")):
        a.place(1 + i, r0, name)
    a.place(5, r1, "rows")
    (_add_by_tables if shape.tables else _add_directly)(a, shape)
    return a


def _add_by_tables(a: Counted, shape: Add) -> None:
    """With h = (total * m + 2**30) >> 31, the output is zero + ((h + 2**(s - 1) - (h < 0)) >> s).

    A table has 2 * m * (an input requantized) + 2**30 for -128 to 127, each the upper word and the
    lower one. The sum of one of each has h as its upper word.
    """
    a.get(r7, "rows")
    a.ldr(r3, r7, 28)
    a.lsls(r3, r3, 1)
    a.uxth(r4, r3)
    a.put(r4, "multiplier")
    a.lsrs(r3, r3, 16)
    a.mov(r12, r3)
    a.load(r3, 1 << 14)
    a.mov(lr, r3)
    a.get(r0, "scratch")
    a.label("table")
    with a.times(2):
        a.load(r3, TABLE)
        a.adds(r3, r3, r0)
        a.put(r3, "end")
        _begin_table(a)
        a.label("entry")
        with a.times(256):
            _entry(a)
            a.get(r3, "end")
            a.cmp(r0, r3)
            a.b("entry", "ne")
        a.get(r3, "scratch")
        a.load(r4, 2 * TABLE)
        a.adds(r3, r3, r4)
        a.cmp(r0, r3)
        a.b("table", "ne")

    # r0 from -values to 0    r1, r2 ends of the inputs    r3 s    r8, r9 middles of the tables
    # r10 end of the output    r11 2**(s - 1)    r12 zero - low
    a.get(r7, "rows")
    a.ldmia(r7, r4, r5, r6)
    a.load(r3, shape.low)
    a.subs(r4, r4, r3)
    a.mov(r12, r4)
    a.rsbs(r3, r6)
    a.movs(r4, 1)
    a.lsls(r4, r4, r3)
    a.lsrs(r4, r4, 1)
    a.mov(r11, r4)
    a.load(r0, shape.values)
    for name, end in (("x", r1), ("x2", r2), ("y", r4)):
        a.get(end, name)
        a.adds(end, end, r0)
    a.mov(r10, r4)
    a.rsbs(r0, r0)
    a.get(r4, "scratch")
    a.load(r5, TABLE // 2)
    a.add(r4, r5)
    a.mov(r8, r4)
    a.load(r5, TABLE)
    a.add(r4, r5)
    a.mov(r9, r4)
    a.label("values")
    with a.times(shape.values):
        for source, table, upper, lower in ((r1, r8, r4, r5), (r2, r9, r6, r7)):
            a.ldrsb(upper, source, r0)
            a.lsls(upper, upper, 3)
            a.add(upper, table)
            a.ldmia(upper, upper, lower)
        a.adds(r5, r5, r7)
        a.adcs(r4, r6)
        a.asrs(r6, r4, 31)
        a.add(r4, r11)
        a.adds(r4, r4, r6)
        a.asrs(r4, r4, r3)
        a.add(r4, r12)
        a.cmp(r4, shape.high - shape.low)
        a.b("outside", "hi")
        a.label("inside")
        a.adds(r4, r4, shape.low & 255)
        a.mov(r6, r10)
        a.strb(r4, r6, r0)
        a.adds(r0, r0, 1)
        a.b("values", "ne")
    a.leave()
    with a.times(0):
        a.label("outside")  # 0 below, the top above
        a.mvns(r4, r4)
        a.asrs(r4, r4, 31)
        a.movs(r6, shape.high - shape.low)
        a.ands(r4, r6)
        a.b("inside")


def _begin_table(a: Kernel) -> None:
    """Set out for the input whose row is at `rows`, which becomes the next row.

    r2, r1 2**32 times the requantization's first step, of -128, with a half    r11, r10 what one
    more adds    r8 s + 1    r9 2**s
    """
    a.get(r7, "rows")
    a.ldmia(r7, r4, r5, r6)
    a.put(r7, "rows")
    a.rsbs(r6, r6)
    a.movs(r3, 1)
    a.lsls(r3, r3, r6)
    a.mov(r9, r3)
    a.adds(r6, r6, 1)
    a.mov(r8, r6)
    a.subs(r4, r4, 128)
    a.lsls(r1, r5, 1 + ADD_SHIFT)
    a.mov(r10, r1)
    a.lsrs(r2, r5, 31 - ADD_SHIFT)
    a.mov(r11, r2)
    a.lsrs(r3, r1, 1 + ADD_SHIFT)
    a.muls(r3, r4)
    a.asrs(r3, r3, 31 - ADD_SHIFT)
    a.muls(r2, r4)
    a.adds(r2, r2, r3)
    a.muls(r1, r4)
    a.load(r3, 1 << 31)
    a.adds(r1, r1, r3)
    a.movs(r3, 0)
    a.adcs(r2, r3)


def _entry(a: Kernel) -> None:
    """Write a table's entry at r0, and go on to the next value."""
    # (first + 2**(s - 1) - (first < 0)) >> s, twice as large, so that it is right for s = 0 too.
    a.asrs(r5, r2, 31)
    a.adds(r4, r2, r2)
    a.add(r4, r9)
    a.adds(r4, r4, r5)
    a.mov(r5, r8)
    a.asrs(r4, r4, r5)
    # Times 2 * m, from four products of 16 bits.
    a.uxth(r5, r4)
    a.asrs(r4, r4, 16)
    a.get(r6, "multiplier")
    a.mov(r7, r6)
    a.muls(r7, r5)
    a.muls(r6, r4)
    a.add(r6, lr)
    a.mov(r3, r12)
    a.muls(r5, r3)
    a.muls(r4, r3)
    a.lsls(r3, r5, 16)
    a.lsrs(r5, r5, 16)
    a.adds(r7, r7, r3)
    a.adcs(r4, r5)
    a.lsls(r3, r6, 16)
    a.asrs(r6, r6, 16)
    a.adds(r7, r7, r3)
    a.adcs(r4, r6)
    a.stmia(r0, r4, r7)
    a.mov(r3, r10)
    a.adds(r1, r1, r3)
    a.mov(r3, r11)
    a.adcs(r2, r3)


def _add_directly(a: Counted, shape: Add) -> None:
    """r8 from -values to 0    r9, r10 ends of the inputs    r11 end of the output
    r12 the first input, requantized, then the output's zero point"""
    for name, value in (("low", shape.low), ("high", shape.high)):
        a.load(r3, value)
        a.put(r3, name)
    a.load(r4, shape.values)
    for name, end in (("x", r9), ("x2", r10), ("y", r11)):
        a.get(r3, name)
        a.adds(r3, r3, r4)
        a.mov(end, r3)
    a.rsbs(r4, r4)
    a.mov(r8, r4)
    a.label("values")
    with a.times(shape.values):
        a.get(r0, "rows")
        for source in (r9, r10):
            a.mov(r1, source)
            a.mov(r2, r8)
            a.ldrsb(r3, r1, r2)
            a.ldmia(r0, r4)
            a.adds(r3, r3, r4)
            a.lsls(r3, r3, ADD_SHIFT)
            a.bl("requantize")
            if source == r9:
                a.mov(r12, r4)
        a.mov(r3, r4)
        a.add(r3, r12)
        a.ldmia(r0, r4)
        a.mov(r12, r4)
        a.bl("requantize")
        a.add(r4, r12)
        a.clip(r4, r1)
        a.mov(r1, r11)
        a.mov(r0, r8)
        a.strb(r4, r1, r0)
        a.adds(r0, r0, 1)
        a.mov(r8, r0)
        a.b("values", "ne")
    a.leave()
    with a.times(3 * shape.values):
        a.label("requantize")  # r3 by the row at r0, which goes on
        a.ldmia(r0, r1, r2)
        a.requantize()
        a.bx(lr)
    a.cycles -= 3 * shape.values  # for it, where it passes over the shift to the left
