"""CONV2D, and DENSE as a convolution of a 1 x 1 image."""

from dataclasses import dataclass
from typing import Any

from tinytorch.machine.armv6m.frame import Frame, Kernel
from tinytorch.machine.armv6m.tail import Exact
from tinytorch.machine.armv6m.thumb import (
    lr,
    pc,
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
from tinytorch.machine.armv6m.weighted import (
    SUM,
    TAIL,
    WORDS,
    Weighted,
    X,
    enter,
    lane_distance,
    lane_groups,
    outputs,
    tail_of,
    weights_of_channel,
)
from tinytorch.machine.armv6m.window import Window
from tinytorch.machine.kernel import Candidates, Task
from tinytorch_core.model import LANE, Op


@dataclass(frozen=True)
class Dot(Weighted):
    """CONV2D, and DENSE as a convolution of a 1 x 1 image.

    A block has `words` positions, or twice as many in two lanes: the high lane's position is
    `distance` after the low lane's. words_in needs a kernel and a stride of 1.
    """

    @property
    def distance(self) -> int:
        return lane_distance(self.window.out_h, self.window.out_w) if self.lanes == 2 else 0

    @property
    def blocks(self) -> int:
        positions = self.distance if self.lanes == 2 else self.window.out_h * self.window.out_w
        return -(-positions // self.words)

    @property
    def facts(self) -> dict[str, Any]:
        return {**super().facts, "groups": list(self.groups)}

    def assemble(self, unroll: int) -> bytes:
        return dot(self, unroll)

    def counts(self) -> dict[str, float]:
        w, n = self.window, self.words
        weights, channels = sum(self.groups), self.blocks * w.out_c
        counts: dict[str, float] = {
            "call": 1,
            "product": channels * weights * n,
            "weight": channels * weights,
            "channel of a block": channels,
            "further group": channels * (len(self.groups) - 1) * n,
            "input of a block": self.blocks * weights * n,
            self.output_cost: channels * n,
        }
        if not self.words_in:
            positions = self.blocks * n * self.lanes
            counts["window"] = positions
            counts["row of a window"] = positions * w.kernel_h
            counts["gathered input"] = positions * weights
        return counts

    def output_bytes(self, op: Op) -> int:
        # The last block writes all of its positions.
        low = self.blocks * self.words
        if self.words_out:
            return 4 * low * op.out_c
        return max(op.out_h * op.out_w, low + self.distance) * op.out_c

    def scratch_bytes(self, op: Op, program: bytes) -> int:
        return 0 if self.words_in else 4 * self.words * sum(self.groups)


def candidates(task: Task) -> Candidates:
    """The kernels of CONV2D and DENSE."""
    op = task.op
    groups, notes = lane_groups(task)
    window, tail = Window.of(op, op.x_zero + 128), tail_of(op)
    # A position's words can stand where they are if its window is that position alone.
    alone = (op.kernel_h, op.kernel_w, op.stride_h, op.stride_w) == (1, 1, 1, 1)
    alone = alone and (op.in_h, op.in_w) == (op.out_h, op.out_w)
    shapes = []
    for words_in in (False, True) if alone else (False,):
        for count in (1, 2) if groups else (1,):
            if words_in and count == 1:
                continue
            lengths = groups if count == 2 else (weights_of_channel(op),)
            positions = op.out_h * op.out_w
            if count == 2:
                positions = lane_distance(op.out_h, op.out_w)
            for n in range(1, WORDS + 1):
                if n > max(1, positions):
                    break
                for words_out in (False, True) if task.chained and count == 2 else (False,):
                    shapes.append(Dot(window, lengths, n, count, words_in, words_out, tail))
    return Candidates(shapes, broken=op.tier == LANE and not groups, notes=notes)


def dot(shape: Dot, straight: int) -> bytes:
    """The code; `straight` weights of a channel are unrolled, and of more, half as many a turn.

    Parameters: x, y, scratch (arena), weights (program), rows, clip (from the block on), the
    high lane's distance in bytes, low, high, then shift, or of the exact tier: the place of the
    first channel's multiplier in the program, the zero point, and `doubt`.

    rows: a row a channel: what each group's sum begins with, then m and b. clip: the byte that
    output 0 becomes, with those of all outputs that can occur around it. scratch: a block.
    """
    n, groups, window = shape.words, shape.groups, shape.window
    exact = isinstance(shape.tail, Exact)
    frame = Frame("x", "out", "block", "weights", "row0", "clip", "distance", *TAIL[exact])
    for name in ("y", "weight", "rows", "end", "left"):
        frame.take(name)
    frame.take("begin", n * len(groups))
    if len(groups) > 1:
        frame.take("sums", n * len(groups))
    if not shape.words_in:
        for lane in range(shape.lanes):
            frame.take(f"window{lane}", 2)
    a = Kernel(frame)
    enter(a, shape, "block")
    if shape.words_in:
        a.get(r3, "x")
        a.put(r3, "block")
    a.get(r3, "row0")
    a.load(r4, 4 * (len(groups) + 2) * window.out_c)
    a.adds(r3, r3, r4)
    a.put(r3, "end")
    if not shape.words_in:
        _first_windows(a, shape)
    a.load(r3, shape.blocks)
    a.put(r3, "left")
    a.b("blocks")
    a.pool()

    a.label("blocks")
    if not shape.words_in:
        for word in range(n):
            for lane in range(shape.lanes):
                a.get(r1, "block")
                a.step(r1, 4 * word + 2 * lane, r3)
                a.add_sp(r0, frame[f"window{lane}"])
                a.bl("gather")
    _begin(a, shape)
    for name, start in (("rows", "row0"), ("y", "out"), ("weight", "weights")):
        a.get(r3, start)
        a.put(r3, name)
    a.mov(lr, r3)

    a.label("channels")
    # lr is free where nothing is called and no turns are counted, and keeps the weights' place.
    free = not exact and len(groups) == 1 and groups[0] <= straight
    if free:
        a.mov(r1, lr)
    else:
        a.get(r1, "weight")
    for g, length in enumerate(groups):
        a.get(r7, "rows")
        a.ldr(r7, r7, 4 * g)
        if g:
            a.mov(lr, r0)
        a.add_sp(r0, frame["begin"] + 4 * n * g)
        a.ldmia(r0, *X[:n])
        for x, total in zip(X[:n], SUM, strict=False):
            a.adds(x, x, r7)
            a.mov(total, x)
        if g:
            a.mov(r0, lr)
        else:
            a.get(r0, "block")
        _products(a, length, n, straight)
        if len(groups) > 1:
            a.add_sp(r7, frame["sums"] + 4 * n * g)
            for x, total in zip(X[:n], SUM, strict=False):
                a.mov(x, total)
            a.stmia(r7, *X[:n])
            a.literals()
    if free:
        a.mov(lr, r1)
    else:
        a.put(r1, "weight")
    a.get(r7, "rows")
    a.ldr(r2, r7, 4 * len(groups))
    a.ldr(r5, r7, 4 * len(groups) + 4)
    a.adds(r7, r7, 4 * (len(groups) + 2))
    a.put(r7, "rows")
    slow = outputs(a, shape, len(groups))
    if not shape.words_out:
        a.get(r0, "y")
        a.get(r7, "rows")
    a.adds(r0, r0, 4 * n if shape.words_out else 1)
    a.put(r0, "y")
    a.get(r3, "end")
    a.cmp(r7, r3)
    a.b("channels", "ne", far=not free)

    if shape.words_out:
        a.put(r0, "out")
    else:
        a.get(r0, "out")
        a.step(r0, n * window.out_c, r3)
        a.put(r0, "out")
    if shape.words_in:
        a.get(r0, "block")
        a.step(r0, 4 * n * sum(groups), r3)
        a.put(r0, "block")
    a.get(r3, "left")
    a.subs(r3, r3, 1)
    a.put(r3, "left")
    a.b("blocks", "ne", far=True)
    a.leave()
    a.pool()
    slow()
    if exact:
        a.exact_output()
    if not shape.words_in:
        _gather(a, window, 4 * n, shape.lanes)
    return a.assemble()


def _products(a: Kernel, length: int, n: int, most: int) -> None:
    """Add `length` inputs times a channel's weights to the n sums; r0 and r1 go on."""

    def straight(count: int) -> None:
        for k in range(count):
            if k and k % 32 == 0:
                a.adds(r1, r1, 32)
            a.ldrb(r7, r1, k % 32)
            a.ldmia(r0, *X[:n])
            for x, total in zip(X[:n], SUM, strict=False):
                a.muls(x, r7)
                a.add(total, x)
        a.adds(r1, r1, (count - 1) % 32 + 1)

    piece = most // 2
    turns = length // piece if length > most else 0
    if turns:
        a.load(r7, turns * piece)
        a.add(r7, r1)
        a.mov(lr, r7)
        loop = a.unique("products")
        a.label(loop)
        straight(piece)
        a.cmp(r1, lr)
        a.b(loop, "ne")
    if length - turns * piece:
        straight(length - turns * piece)


def _begin(a: Kernel, shape: Dot) -> None:
    """For each group, and each word, -128 times the sum of the block's inputs."""
    n = shape.words
    a.get(r0, "block")
    for g, length in enumerate(shape.groups):
        at_once = next(count for count in (8, 4, 2, 1) if length % count == 0)
        a.movs(r3, 0)
        for total in SUM[:n]:
            a.mov(total, r3)
        a.load(r7, length // at_once)
        loop = a.unique("begin")
        a.label(loop)
        for _ in range(at_once):
            a.ldmia(r0, *X[:n])
            for x, total in zip(X[:n], SUM, strict=False):
                a.add(total, x)
        a.subs(r7, r7, 1)
        a.b(loop, "ne")
        a.add_sp(r1, a.frame["begin"] + 4 * n * g)
        for x, total in zip(X[:n], SUM, strict=False):
            a.mov(x, total)
            a.lsls(x, x, 7)
            a.rsbs(x, x)
        a.stmia(r1, *X[:n])
    a.literals()


def _first_windows(a: Kernel, shape: Dot) -> None:
    """`window0`, `window1`: row and column of the image where each lane's first window begins."""
    w = shape.window
    for lane in range(shape.lanes):
        position = lane * shape.distance
        for i, value in enumerate(
            (
                position // w.out_w * w.stride_h - w.pad_h,
                position % w.out_w * w.stride_w - w.pad_w,
            )
        ):
            a.load(r3, value)
            a.str(r3, sp, a.frame[f"window{lane}"] + 4 * i)


def _gather(a: Kernel, w: Window, stride: int, lanes: int) -> None:
    """The subroutine `gather`: a window's inputs + 128 to r1 and every `stride` bytes after it.

    r0 points to the row and the column where the window begins, and which then are the next
    one's. A run of the image's bytes is what the window takes of one of its rows.

    r2 count    r5 128    r6 pad    r8 row    r9, r10, r11 bytes of padding, image, padding
    r12 the image's first byte    lr the row after the window
    """
    half = lanes == 2
    a.label("gather")
    a.push(lr)
    a.ldr(r2, r0, 0)
    a.ldr(r3, r0, 4)
    a.mov(r8, r2)
    a.load(r4, w.kernel_h)
    a.adds(r4, r4, r2)
    a.mov(lr, r4)
    # The first column that is in the image, how many are, and how many are left.
    a.movs(r4, 0)
    a.cmp(r3, 0)
    a.b("gather.inside", "ge")
    a.rsbs(r4, r3)
    a.label("gather.inside")
    a.load(r5, w.in_w)
    a.subs(r5, r5, r3)
    a.load(r6, w.kernel_w)
    a.cmp(r5, r6)
    a.b("gather.ends", "le")
    a.mov(r5, r6)
    a.label("gather.ends")
    a.subs(r6, r6, r5)
    a.subs(r5, r5, r4)
    a.load(r7, w.in_w)
    a.muls(r2, r7)
    a.adds(r2, r2, r3)
    a.adds(r2, r2, r4)
    if w.in_c > 1:
        a.load(r7, w.in_c)
        for register in (r2, r4, r5, r6):
            a.muls(register, r7)
    a.mov(r9, r4)
    a.mov(r10, r5)
    a.mov(r11, r6)
    a.ldr(r4, sp, 4 + a.frame["x"])
    a.adds(r2, r2, r4)
    a.mov(r12, r2)
    # The next window's place.
    a.step(r3, w.stride_w, r4)
    a.load(r4, w.out_w * w.stride_w - w.pad_w)
    a.cmp(r3, r4)
    a.b("gather.row", "ne")
    a.load(r3, -w.pad_w)
    a.ldr(r4, r0, 0)
    a.step(r4, w.stride_h, r5)
    a.str(r4, r0, 0)
    a.label("gather.row")
    a.str(r3, r0, 4)
    a.movs(r5, 128)
    a.load(r6, w.pad)
    a.b("gather.rows")
    a.pool()

    a.label("gather.rows")
    a.mov(r2, r8)
    a.load(r3, w.in_h)
    a.cmp(r2, r3)  # unsigned: rows above the image are large
    a.b("gather.outside", "hs")
    a.mov(r2, r9)
    a.fill(r2, r6, r1, stride, half)
    a.mov(r2, r10)
    a.mov(r0, r12)
    _copy(a, stride, half)
    a.mov(r2, r11)
    a.fill(r2, r6, r1, stride, half)
    a.b("gather.next")
    a.label("gather.outside")
    a.load(r2, w.kernel_w * w.in_c)
    a.fill(r2, r6, r1, stride, half)
    a.label("gather.next")
    a.load(r2, w.in_w * w.in_c)
    a.add(r12, r2)
    a.movs(r2, 1)
    a.add(r8, r2)
    a.cmp(r8, lr)
    a.b("gather.rows", "ne")
    a.pop(pc)
    a.pool()


def _copy(a: Kernel, stride: int, half: bool) -> None:
    """r2 bytes from r0, + 128, to r1 and every `stride` bytes after it; r5 is 128."""
    store = a.strh if half else a.str
    a.subs(r2, r2, 4)
    a.b("copy.few", "lo")
    a.label("copy.four")
    for i in range(4):
        a.ldrb(r3, r0, i)
        a.eors(r3, r5)
        store(r3, r1, stride * i)
    a.adds(r0, r0, 4)
    a.adds(r1, r1, 4 * stride)
    a.subs(r2, r2, 4)
    a.b("copy.four", "hs")
    a.label("copy.few")
    a.adds(r2, r2, 4)
    a.b("copied", "eq")
    a.label("copy.one")
    a.ldrb(r3, r0, 0)
    a.eors(r3, r5)
    store(r3, r1, 0)
    a.adds(r0, r0, 1)
    a.adds(r1, r1, stride)
    a.subs(r2, r2, 1)
    a.b("copy.one", "ne")
    a.label("copied")
