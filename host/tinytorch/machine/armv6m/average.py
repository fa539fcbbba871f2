"""AVG_POOL over the whole of an image that is words, as convolutions leave it."""

from dataclasses import dataclass

from tinytorch.machine.armv6m.frame import Frame, Kernel
from tinytorch.machine.armv6m.pool import Pool
from tinytorch.machine.armv6m.thumb import r0, r1, r2, r3, r4, r5, r7, r8, r9, r11, r12
from tinytorch.machine.armv6m.weighted import WORDS, X, lane_distance
from tinytorch.machine.kernel import Call, Candidates, Shape, Task
from tinytorch_core.model import Op


@dataclass(frozen=True)
class Average(Shape):
    """AVG_POOL over a whole image of words, [block][channel][word], to bytes; `distance` as in Dot.

    positions: of the image. low, high: what the means are clipped to, None where none goes beyond.
    """

    channels: int
    positions: int
    words: int
    distance: int
    low: "int | None"
    high: "int | None"

    @property
    def layout_in(self) -> int:
        return self.words

    def assemble(self, unroll: int) -> bytes:
        return average(self)

    def cycles(self, op: Op) -> int:
        full, rest = divmod(self.distance, self.words)
        return 100 + self.channels * (95 + full * (2 * self.words + 5) + 4 * rest)

    def parameters(self, call: Call) -> list[int]:
        return [call.x, call.y]


def candidates(task: Task) -> Candidates:
    """The kernels of AVG_POOL."""
    op, (least, most) = task.op, task.inputs
    shapes: list[Shape] = [Pool.of(op, task.inputs)]
    distance = lane_distance(op.in_h, op.in_w)
    whole = (op.kernel_h, op.kernel_w) == (op.in_h, op.in_w) and op.pad_h == op.pad_w == 0
    if whole and 255 * distance < 1 << 16:
        low = op.low if op.low > least else None
        high = op.high if op.high < most else None
        pixels = op.in_h * op.in_w
        shapes += [Average(op.in_c, pixels, n, distance, low, high) for n in range(1, WORDS + 1)]
    return Candidates(shapes)


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
    _mean(a)
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


def _mean(a: Kernel) -> None:
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
