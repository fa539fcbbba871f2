"""MUL: of two tensors, or of a tensor and a channel's vector. No offset needs to be aligned.

A product p of two differences is at most 255**2. With the multiplier m = m1 * 2**16 + m0, where m0
is from -2**15 to 2**15 - 1, both p * m1 and p * m0 fit 32 bits, and

    w = p * m1 + (p * m0 >> 16)

is p * m >> 16, exactly. That is all that requantization looks at: p * m / 2**(31 - shift) rounded
is (w + 2**(14 - shift)) >> (15 - shift) for 0 <= shift <= 14. For a shift below 0 it is rounded as
for 0, and then once more: h becomes (h + 2**(s - 1) - (h < 0)) >> s, s = -shift. As |h| <= 255**2,
s = 18 stands for all that are larger: the result is 0.

The output's zero point, less what it is clipped to, is added before the last shift.
"""

import struct
from dataclasses import dataclass

from tinytorch.machine.armv6m.frame import Frame, Kernel
from tinytorch.machine.armv6m.thumb import (
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
from tinytorch.quantize.operations import output_size
from tinytorch_core.model import Op


@dataclass(frozen=True)
class Mul(Shape):
    """MUL: by as many values as there are, or with `channels` by one for each channel.

    twice: whether the shift is below 0, so that it is rounded twice. low, high: what outputs are
    clipped to.
    """

    channels: bool
    twice: bool
    low: int
    high: int

    @staticmethod
    def of(op: Op, program: bytes) -> "Mul":
        """That of an operation."""
        shift = struct.unpack_from("<3i", program, op.table)[2]
        one = (op.kernel_h, op.kernel_w) == (1, 1) != (op.in_h, op.in_w)
        return Mul(one, shift < 0, op.low, op.high)

    def assemble(self, unroll: int) -> bytes:
        return mul(self)

    def cycles(self, op: Op) -> int:
        """Of a call none of whose outputs is clipped: each that is takes 7 more."""
        values = output_size(op)
        if self.channels:
            return 87 + 6 * self.twice + 23 * op.in_c + (20 + 3 * self.twice) * values
        return 84 + 6 * self.twice + (24 + 3 * self.twice) * values

    def parameters(self, call: Call) -> list[int]:
        op = call.op
        return [
            call.x, call.x2, call.y, op.table, op.x_zero, op.y_zero, output_size(op), op.in_c,
        ]  # fmt: skip


def candidates(task: Task) -> Candidates:
    """The kernel of MUL."""
    return Candidates([Mul.of(task.op, task.program)])


def mul(shape: Mul) -> bytes:
    """Parameters: x, x2, y (arena); the operation's table (program); its x_zero and y_zero; how
    many values there are, and how many channels.

    r0 from -values to 0    r1 end of x    r3 value    r4 scratch    r7 the last shift
    r8 -x_zero    r10 what is added before the last shift    r11 the half of the first one
    r12 end of y

    All values: r2 end of x2, r5 m0, r6 m1, r9 offset of x2.
    Channels: r2 channels, r5 and r6 the halves of m times a channel's factor, r9 the next factor,
    lr the channel's first value.
    """
    a = Kernel(Frame("offset", "m0", "m1"))
    a.enter()
    a.ldr(r3, r2, 16)
    a.adds(r3, r3, r1)
    a.ldmia(r3, r4, r5, r6)
    a.put(r4, "offset")
    a.mov(r9, r4)
    a.load(r4, 1 << 15)
    a.adds(r4, r4, r5)
    a.lsrs(r4, r4, 16)
    a.sxth(r5, r5)
    a.put(r4, "m1")
    a.put(r5, "m0")
    _constants(a, shape)
    a.mov(r6, r4)
    a.ldr(r3, r2, 20)
    a.rsbs(r3, r3)
    a.mov(r8, r3)
    a.ldr(r4, r2, 28)
    a.ldr(r3, r2, 12)
    a.adds(r3, r3, r0)
    a.adds(r3, r3, r4)
    a.mov(r12, r3)
    a.ldr(r1, r2, 4)
    a.adds(r1, r1, r0)
    a.adds(r1, r1, r4)
    a.ldr(r3, r2, 8)
    a.adds(r3, r3, r0)
    a.rsbs(r0, r4)
    if shape.channels:
        a.mov(r9, r3)
        a.mov(lr, r0)
        a.ldr(r2, r2, 32)
        a.label("channel")
        _factor(a)
    else:
        a.adds(r2, r3, r4)
    a.label("value")
    a.ldrsb(r3, r1, r0)
    if shape.channels:
        a.add(r3, r8)
    else:
        a.ldrsb(r4, r2, r0)
        a.add(r3, r8)
        a.add(r4, r9)
        a.muls(r3, r4)
    a.mov(r4, r3)
    a.muls(r4, r5)
    a.asrs(r4, r4, 16)
    a.muls(r3, r6)
    a.adds(r3, r3, r4)
    a.add(r3, r11)
    if shape.twice:
        a.asrs(r3, r3, 15)
        a.asrs(r4, r3, 31)
        a.add(r3, r10)
        a.adds(r3, r3, r4)
        a.asrs(r3, r3, r7)
    else:
        a.asrs(r3, r3, r7)
        a.add(r3, r10)
    a.cmp(r3, shape.high - shape.low)
    a.b("outside", "hi")
    a.label("inside")
    a.adds(r3, r3, shape.low & 255)
    a.mov(r4, r12)
    a.strb(r3, r4, r0)
    if shape.channels:
        a.adds(r0, r0, r2)
        a.b("value", "mi")
        a.movs(r3, 1)
        a.add(r9, r3)
        a.add(lr, r3)
        a.adds(r0, r0, 1)
        a.cmp(r0, r2)
        a.mov(r0, lr)
        a.b("channel", "ne")
    else:
        a.adds(r0, r0, 1)
        a.b("value", "ne")
    a.leave()
    a.label("outside")  # 0 below, the top above
    a.mvns(r3, r3)
    a.asrs(r3, r3, 31)
    a.movs(r4, shape.high - shape.low)
    a.ands(r3, r4)
    a.b("inside")
    return a.assemble()


def _constants(a: Kernel, shape: Mul) -> None:
    """r7, r10 and r11 from the shift in r6; r3 and r6 are lost."""
    if shape.twice:
        small = a.unique("small")
        a.rsbs(r7, r6)
        a.cmp(r7, 18)
        a.b(small, "le")
        a.movs(r7, 18)
        a.label(small)
        a.load(r3, 1 << 14)
    else:
        a.movs(r7, 15)
        a.subs(r7, r7, r6)
        a.movs(r3, 1)
        a.lsls(r3, r3, r7)
        a.lsrs(r3, r3, 1)
    a.mov(r11, r3)
    a.ldr(r6, r2, 24)
    a.load(r3, shape.low)
    a.subs(r6, r6, r3)
    if shape.twice:
        a.lsls(r6, r6, r7)
        a.movs(r3, 1)
        a.lsls(r3, r3, r7)
        a.lsrs(r3, r3, 1)
        a.adds(r6, r6, r3)
    a.mov(r10, r6)


def _factor(a: Kernel) -> None:
    """r6 * 2**16 + r5 = m times the factor at r9; r3 and r4 are lost."""
    a.mov(r3, r9)
    a.movs(r4, 0)
    a.ldrsb(r3, r3, r4)
    a.get(r4, "offset")
    a.adds(r3, r3, r4)
    a.get(r5, "m0")
    a.muls(r5, r3)
    a.get(r6, "m1")
    a.muls(r6, r3)
    a.asrs(r4, r5, 16)
    a.adds(r6, r6, r4)
    a.uxth(r5, r5)
