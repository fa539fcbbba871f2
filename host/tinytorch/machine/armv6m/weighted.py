"""What the kernels of CONV2D, DENSE (`dot`) and DEPTHWISE (`depthwise`) share.

Two ideas make them fast on a core that multiplies in one cycle, but has no more than eight
registers to multiply in:

Blocks of words. The inner loop takes n words of inputs with one ldmia, multiplies each by one
weight, and adds them to n sums in high registers. The word that is loaded is what muls destroys.

    r0 inputs, written back by ldmia    r2 .. r6  n words of inputs, then their products
    r1 weights                          r8 .. r12 n sums
    r7 the weight                       lr        scratch

One word holds one position's input, or in two lanes those of two positions, 16 bits each: one muls
then makes two products. A sum of products that keeps within 16 bits (`LANE_LIMIT`) can be taken
out of its lane again; which carries went between the lanes on the way does not matter.

Inputs are taken as u = x + 128, weights as w + 128: bytes that need no sign extension. What is too
much because of it, 128 * sum(u), is the same for all channels: a row of words of each block.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tinytorch.machine.armv6m import cost
from tinytorch.machine.armv6m.frame import Kernel
from tinytorch.machine.armv6m.tables import Rows, overflows
from tinytorch.machine.armv6m.tail import COARSE_BITS, Exact, Lane, Tail
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
    sp,
)
from tinytorch.machine.armv6m.window import Window
from tinytorch.machine.kernel import BYTES, Call, Shape, Task
from tinytorch.quantize import lanes
from tinytorch.quantize.operations import kind_of
from tinytorch_core.model import DEPTHWISE, LANE, Op
from tinytorch_core.quant import LANE_LIMIT

WORDS = 5  # at most, in a block: r2 to r6
MOST_GROUPS = 8  # of one channel's weights
ROW = 12  # bytes of a row of one group

X = (r2, r3, r4, r5, r6)
SUM = (r8, r9, r10, r11, r12)


@dataclass(frozen=True)
class Constants:
    """What the kernel of one operation reads: a row a channel, and where in the section output 0
    stands in its clip table."""

    rows: Rows
    clip: int = 0


@dataclass(frozen=True)
class Weighted(Shape):
    """A kernel of an operation with weights.

    words: in a block. lanes: positions that share a word. groups: lengths of the runs of a
    channel's weights whose sums fit a lane. words_in, words_out: the image is words already,
    [block][channel][word], else bytes.
    """

    window: Window
    groups: tuple[int, ...]
    words: int
    lanes: int
    words_in: bool
    words_out: bool
    tail: Tail

    @property
    @abstractmethod
    def distance(self) -> int:
        """Positions from the low lane to the high one."""

    @property
    def layout_in(self) -> int:
        return self.words if self.words_in else BYTES

    @property
    def layout_out(self) -> int:
        return self.words if self.words_out else BYTES

    @property
    def facts(self) -> dict[str, Any]:
        return {"lanes": self.lanes, "words": self.words}

    @abstractmethod
    def counts(self) -> dict[str, float]:
        """How often the kernel does what costs time, see `cost.COEFFICIENTS`."""

    def cycles(self, op: Op) -> int:
        return cost.cycles(self.counts())

    @property
    def output_cost(self) -> str:
        """What `counts` calls an output."""
        if isinstance(self.tail, Exact):
            output = "exact output" if self.tail.fraction else "exact output, always"
        else:
            output = f"output of {self.lanes} lanes to {'words' if self.words_out else 'bytes'}"
        return output + ", wide" if self.tail.wide else output

    def parameters(self, call: Call) -> list[int]:
        op, constants = call.op, call.constants
        rows = constants.rows
        table = call.body.put((rows.rows & 0xFFFFFFFF).astype("<u4").tobytes())
        block = call.body.put(b"")
        tail = [op.table + 4, op.y_zero, _signed(rows.doubt)]
        if isinstance(rows.tail, Lane):
            assert rows.tail.shift is not None
            tail = [rows.tail.shift]
        return [
            call.x, call.y, call.scratch, op.weight, table - block, constants.clip - block,
            self.distance * op.out_c, op.low, op.high, *tail,
        ]  # fmt: skip


def _signed(word: int) -> int:
    return (word ^ 1 << 31) - (1 << 31)


# Choosing.


def weights_of_channel(op: Op) -> int:
    """The weights of one output channel."""
    return op.kernel_h * op.kernel_w * (1 if op.kind == DEPTHWISE else op.in_c)


def lane_distance(h: int, w: int) -> int:
    """Positions from the low lane's to the high lane's, the same for all kernels in a chain."""
    return -(-h // 2) * w if h > 1 else -(-w // 2)


def lane_groups(task: Task) -> tuple[tuple[int, ...], list[str]]:
    """The groups of a channel's weights whose sums may share a word, the longest that the bound
    allows; none in the exact tier, and none where the bound is broken, which is then said."""
    op, program, inputs = task.op, task.program, task.inputs
    if op.tier != LANE:
        return (), []
    groups: tuple[int, ...] = ()
    notes = []
    length = weights_of_channel(op)
    for count in range(1, 2 if op.kind == DEPTHWISE else MOST_GROUPS + 1):
        group = -(-length // count)
        if lanes.excess(op, *inputs, group, program) <= LANE_LIMIT:
            groups = tuple(min(group, length - at) for at in range(0, length, group))
            break
    else:
        largest = lanes.excess(op, *inputs, None, program)
        notes.append(
            f"Operation {task.index} ({kind_of(op).name}) breaks the lane bound: its sums reach "
            f"{largest:,}, {largest - LANE_LIMIT:,} more than the {LANE_LIMIT:,} that a lane "
            "holds. It runs in the exact tier's kernel, one sum a word."
        )
    if overflows(op, program, inputs):
        notes.append(f"Operation {task.index} can leave 32 bits: quantize the model again.")
    return groups, notes


def tail_of(op: Op) -> Tail:
    """Of the operation's tier; its numbers come when it is known who shares the code."""
    return Lane() if op.tier == LANE else Exact(20)


def shift_in_code(groups: int, out_c: int, words_out: bool) -> bool:
    """Whether `Lane.shift` must say the shift, because r1 holds a stride or a partial sum."""
    return groups > 1 or (not words_out and out_c > 255)


# Writing.


TAIL = {
    True: ("low", "high", "skew", "zero", "doubt"),
    False: ("low", "high", "shift"),
}  # of the frame, by whether it is exact


def enter(a: Kernel, shape: Weighted, scratch: Name) -> None:
    """Enter, and keep the parameters in the frame; `scratch` is the name of its place there."""
    a.enter()
    for i, (name, base) in enumerate(
        (("x", r0), ("out", r0), (scratch, r0), ("weights", r1), ("row0", r2), ("clip", r2))
    ):
        a.place(1 + i, base, name)
    exact = isinstance(shape.tail, Exact)
    for i, name in enumerate(("distance", *TAIL[exact])):
        a.ldr(r3, r2, 4 * (7 + i))
        a.put(r3, name)
    if exact:  # from the offset of the model's table in the program to `skew`
        a.get(r3, "skew")
        a.get(r4, "row0")
        a.adds(r3, r3, r1)
        a.subs(r3, r3, r4)
        a.subs(r3, r3, ROW)  # `rows` is a row ahead when outputs are made
        a.put(r3, "skew")


def outputs(a: Kernel, shape: Weighted, groups: int) -> Callable[[], None]:
    """From sums to outputs at `y`, with m in r2 and b in r5. Returns what has to be written out of
    line.

    r0 output of the low lane    r1 shift, or scratch    r2 m    r3, r4 high lane, low lane
    r5 b    r6 clip    r7 output of the high lane, or scratch
    """
    n, out_c, tail = shape.words, shape.window.out_c, shape.tail
    a.get(r6, "clip")
    a.get(r0, "y")
    if isinstance(tail, Exact):
        return _exact_outputs(a, n, out_c, tail)
    if tail.shift is None:
        a.get(r1, "shift")
    elif groups == 1:
        a.load(r1, out_c)
    two = shape.lanes == 2
    if two and not shape.words_out:
        a.get(r7, "distance")
        a.adds(r7, r7, r0)

    def output(value: Register) -> None:
        a.muls(value, r2)
        a.adds(value, value, r5)
        if tail.shift is None:
            a.asrs(value, value, r1)
        elif tail.shift:
            a.asrs(value, value, tail.shift)
        if tail.wide:
            a.clip(value, r6)
            a.get(r6, "clip")
        a.ldrb(value, r6, value)

    def step(pointer: Register) -> None:
        if out_c <= 255:
            a.adds(pointer, pointer, out_c)
        elif groups > 1:
            a.step(pointer, out_c, r1)
        else:
            a.adds(pointer, pointer, r1)

    for word in range(n):
        if groups > 1:
            _sum_of_groups(a, word, n, groups)
        elif two:
            a.mov(r3, SUM[word])
            a.uxth(r4, r3)
            a.lsrs(r3, r3, 16)
        else:
            a.mov(r4, SUM[word])
        output(r4)
        if two:
            output(r3)
        if shape.words_out:
            if two:
                a.lsls(r3, r3, 16)
                a.orrs(r4, r3)
            a.str(r4, r0, 4 * word)
            continue
        a.strb(r4, r0, 0)
        if word + 1 < n:
            step(r0)
        if two:
            a.strb(r3, r7, 0)
            if word + 1 < n:
                step(r7)
    return lambda: None


def _sum_of_groups(a: Kernel, word: int, n: int, groups: int) -> None:
    """r3, r4 = the sums of the high and the low lanes of all groups."""
    for g in range(groups):
        at = a.frame["sums"] + 4 * (n * g + word)
        if g == 0:
            a.ldr(r4, sp, at)
            a.lsrs(r3, r4, 16)
        else:
            a.ldr(r1, sp, at)
            a.adds(r4, r4, r1)
            a.lsrs(r1, r1, 16)
            a.adds(r3, r3, r1)
    a.lsls(r1, r3, 16)  # what the high lanes put into r4
    a.subs(r4, r4, r1)


def _exact_outputs(a: Kernel, n: int, out_c: int, tail: Exact) -> Callable[[], None]:
    """As outputs; r1 coarse    r4 output    r7 fraction, or scratch    lr doubt."""
    later: list[tuple[Name, Name, Register]] = []
    if tail.fraction:
        a.movs(r1, (1 << COARSE_BITS) - 1)
        a.ands(r1, r2)
        a.lsrs(r2, r2, COARSE_BITS)
        a.get(r7, "doubt")
        a.mov(lr, r7)
    for word in range(n):
        if tail.fraction:
            a.mov(r4, SUM[word])
            a.asrs(r4, r4, r1)
            a.muls(r4, r2)
            a.adds(r4, r4, r5)
            a.lsls(r7, r4, 32 - tail.fraction)
            a.cmp(r7, lr)
            doubt, done = a.unique("doubt"), a.unique("done")
            a.b(doubt, "lo")
            later.append((doubt, done, SUM[word]))
            a.asrs(r4, r4, tail.fraction)
            if tail.wide:
                a.clip(r4, r7)
            a.label(done)
        else:
            a.mov(r3, SUM[word])
            a.bl("exact")
        a.ldrb(r4, r6, r4)
        a.strb(r4, r0, 0)
        if word + 1 < n:
            a.step(r0, out_c, r7)

    def out_of_line() -> None:
        for doubt, done, total in later:
            a.label(doubt)
            a.mov(r3, total)
            a.bl("exact")
            a.get(r7, "doubt")
            a.mov(lr, r7)
            a.b(done)

    return out_of_line
