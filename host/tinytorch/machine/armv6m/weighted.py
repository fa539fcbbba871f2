"""Kernels for the Cortex-M0+ (RP2040): functions that write machine code for one shape.

A kernel is called as kernel(r0 = arena, r1 = program, r2 = its parameter block), and its bytes are
those of tinytorch_core.qops. Two ideas make it fast on a core that multiplies in one cycle, but
has no more than eight registers to multiply in:

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

from collections.abc import Callable
from dataclasses import dataclass

from tinytorch.machine.thumb import (
    Assembler,
    Name,
    Register,
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

WORDS = 5  # at most, in a block: r2 to r6
STRAIGHT = 64  # so many weights of a channel are unrolled; of more, half as many a turn

X = (r2, r3, r4, r5, r6)
SUM = (r8, r9, r10, r11, r12)


@dataclass(frozen=True)
class Lane:
    """The lane tier's output, (sum * m + b) >> shift. shift None: it is a parameter, in r1, so that
    layers share the code; where r1 is needed for something else (`shift_in_code`) it is here.
    wide: outputs reach further than the clip table, and are compared with low and high first."""

    shift: "int | None" = None
    wide: bool = False


COARSE_BITS = 5
ROW = 12  # bytes of a row of one group


@dataclass(frozen=True)
class Exact:
    """TensorFlow Lite's requantization. (sum >> coarse) * m + b is the output with `fraction` bits
    of fraction, a little too large; where the fraction is below the parameter `doubt` (unsigned, of
    2**32), and with 0 bits of it always, the exact arithmetic decides. A row has
    m << COARSE_BITS | coarse in place of m. wide: as of Lane."""

    fraction: int
    wide: bool = False


Tail = Lane | Exact


@dataclass(frozen=True)
class Window:
    """The geometry of an operation on images, channels last. pad: what stands for padding,
    x_zero + 128."""

    in_h: int
    in_w: int
    in_c: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    pad_h: int
    pad_w: int
    out_h: int
    out_w: int
    out_c: int
    pad: int


@dataclass(frozen=True)
class Dot:
    """CONV2D, and DENSE as a convolution of a 1 x 1 image.

    A block has `words` positions, or twice as many in two lanes: the high lane's position is
    `distance` after the low lane's. groups: lengths of the runs of weights whose sums fit a lane.
    words_in, words_out: the image is words already, [block][channel][word] (words_in needs a kernel
    and a stride of 1); else bytes, channels last.
    """

    window: Window
    groups: tuple[int, ...]
    words: int
    lanes: int
    distance: int
    words_in: bool
    words_out: bool
    tail: Tail
    straight: int = STRAIGHT

    @property
    def blocks(self) -> int:
        positions = self.distance if self.lanes == 2 else self.window.out_h * self.window.out_w
        return -(-positions // self.words)


@dataclass(frozen=True)
class Depthwise:
    """DEPTHWISE: one channel's image at a time, as a plane of words, padded where it must be.

    A tile is `words` positions of a row. In two lanes the high one is the position `rows` rows
    below, or for an image of one row `columns` to the right. words_in, words_out as in Dot;
    words_in needs strides of 1 and an output of the input's size, padded with 0.
    """

    window: Window
    words: int
    lanes: int
    words_in: bool
    words_out: bool
    tail: Tail

    @property
    def rows(self) -> int:
        """Rows of positions in a plane."""
        halve = self.lanes == 2 and self.window.out_h > 1
        return -(-self.window.out_h // 2) if halve else self.window.out_h

    @property
    def columns(self) -> int:
        """Positions in a row of them."""
        halve = self.lanes == 2 and self.window.out_h == 1
        return -(-self.window.out_w // 2) if halve else self.window.out_w

    @property
    def distance(self) -> int:
        """Positions from the low lane to the high one."""
        return self.rows * self.columns

    @property
    def tiles(self) -> int:
        return -(-self.columns // self.words)

    @property
    def span(self) -> tuple[int, int]:
        """The first column of the image in the plane, and the number of columns. Where one tile
        makes up a row, columns of zeros are left out."""
        w = self.window
        first, last = -w.pad_w, (self.columns - 1) * w.stride_w + w.kernel_w - 1 - w.pad_w
        if self.tiles == 1 and w.pad == 0 and (self.lanes == 1 or self.columns == w.out_w):
            first, last = max(first, 0), min(last, w.in_w - 1)
        return first, last - first + 1

    @property
    def plane_rows(self) -> int:
        return (self.rows - 1) * self.window.stride_h + self.window.kernel_h


def shift_in_code(groups: int, out_c: int, words_out: bool) -> bool:
    """Whether `Lane.shift` must say the shift, because r1 holds a stride or a partial sum."""
    return groups > 1 or (not words_out and out_c > 255)


class Frame:
    """Words on the stack, by name."""

    def __init__(self, *names: str) -> None:
        self.words = 0
        self._at: dict[str, int] = {}
        for name in names:
            self.take(name)

    def take(self, name: str, words: int = 1) -> None:
        self._at[name] = 4 * self.words
        self.words += words

    def __getitem__(self, name: str) -> int:
        return self._at[name]


class Kernel(Assembler):
    """An assembler with what all kernels share."""

    def __init__(self, frame: Frame) -> None:
        super().__init__()
        self.frame = frame

    def enter(self) -> None:
        self.push(r4, r5, r6, r7, lr)
        for low, high in zip((r4, r5, r6, r7), (r8, r9, r10, r11), strict=True):
            self.mov(low, high)
        self.push(r4, r5, r6, r7)
        self._move_stack(-4 * self.frame.words)

    def leave(self) -> None:
        self._move_stack(4 * self.frame.words)
        self.pop(r4, r5, r6, r7)
        for low, high in zip((r4, r5, r6, r7), (r8, r9, r10, r11), strict=True):
            self.mov(high, low)
        self.movs(r0, 0)
        self.pop(r4, r5, r6, r7, pc)

    def _move_stack(self, by: int) -> None:
        while by:
            step = max(-508, min(508, by))
            self.add(sp, step)
            by -= step

    def get(self, d: Register, name: Name) -> None:
        self.ldr(d, sp, self.frame[name])

    def put(self, d: Register, name: Name) -> None:
        self.str(d, sp, self.frame[name])

    def place(self, index: int, base: Register, name: Name) -> None:
        """Keep base + the parameter block's word `index` (r2: the block) in the frame."""
        self.ldr(r3, r2, 4 * index)
        self.adds(r3, r3, base)
        self.put(r3, name)

    def step(self, d: Register, by: int, scratch: Register) -> None:
        """d += by."""
        if by == 0:
            return
        if -255 <= by <= 255:
            (self.adds if by > 0 else self.subs)(d, d, abs(by))
        else:
            self.load(scratch, abs(by))
            (self.adds if by > 0 else self.subs)(d, d, scratch)

    def literals(self) -> None:
        """The literals so far, in the middle of code that is too long for them to wait."""
        past = self.unique("past")
        self.b(past)
        self.pool()
        self.label(past)

    def fill(self, count: Register, value: Register, to: Register, stride: int, half: bool) -> None:
        """Store the value `count` times (lost), `stride` bytes apart."""
        loop, end = self.unique("fill"), self.unique("filled")
        self.cmp(count, 0)
        self.b(end, "eq")
        self.label(loop)
        (self.strh if half else self.str)(value, to, 0)
        self.adds(to, to, stride)
        self.subs(count, count, 1)
        self.b(loop, "ne")
        self.label(end)

    def clip(self, value: Register, scratch: Register, pushed: int = 0) -> None:
        """Bring the value between `low` and `high` of the frame, above which so much is pushed."""
        for name, condition in (("low", "ge"), ("high", "le")):
            inside = self.unique(name)
            self.ldr(scratch, sp, self.frame[name] + pushed)
            self.cmp(value, scratch)
            self.b(inside, condition)
            self.mov(value, scratch)
            self.label(inside)

    def requantize(self) -> None:
        """r4 = tinytorch_core.quant.requantize(r3, multiplier r1, shift r2); r2 to r7 are lost."""
        right, done = self.unique("right"), self.unique("done")
        self.cmp(r2, 0)
        self.b(right, "le")
        self.lsls(r3, r3, r2)
        self.movs(r2, 0)
        self.label(right)
        self.rsbs(r2, r2)
        # The high half of the 64-bit product, from four of 16 bits; multipliers are positive.
        self.uxth(r4, r3)
        self.asrs(r3, r3, 16)
        self.uxth(r5, r1)
        self.lsrs(r6, r1, 16)
        self.mov(r7, r4)
        self.muls(r7, r5)
        self.muls(r5, r3)
        self.muls(r4, r6)
        self.muls(r3, r6)
        self.lsrs(r7, r7, 16)
        self.adds(r4, r4, r7)
        self.asrs(r6, r5, 16)
        self.uxth(r5, r5)
        self.adds(r3, r3, r6)
        self.adds(r4, r4, r5)
        self.lsrs(r7, r4, 16)
        self.adds(r3, r3, r7)
        # (product + 2**30) >> 31, of which r4 << 16 is the low half's upper part.
        self.lsls(r3, r3, 1)
        self.lsls(r4, r4, 16)
        self.lsrs(r4, r4, 30)
        self.adds(r4, r4, 1)
        self.lsrs(r4, r4, 1)
        self.adds(r4, r4, r3)
        # Halves away from zero: (x + 2**(s - 1) - (x < 0)) >> s.
        self.cmp(r2, 0)
        self.b(done, "eq")
        self.movs(r5, 1)
        self.lsls(r5, r5, r2)
        self.lsrs(r5, r5, 1)
        self.asrs(r6, r4, 31)
        self.adds(r5, r5, r6)
        self.adds(r4, r4, r5)
        self.asrs(r4, r4, r2)
        self.label(done)

    def exact_output(self) -> None:
        """The subroutine `exact`: r4 = the output of the sum in r3, as tinytorch_core.quant says.

        Keeps all but r3, r4 and r7. In the frame: `rows` and `skew`, whose sum is the address of
        the channel's multiplier and shift; `zero`, `low` and `high`.
        """
        kept = (r0, r1, r2, r5, r6, lr)

        def get(d: Register, name: Name) -> None:
            self.ldr(d, sp, self.frame[name] + 4 * len(kept))

        self.label("exact")
        self.push(*kept)
        get(r0, "rows")
        get(r1, "skew")
        self.adds(r0, r0, r1)
        self.ldmia(r0, r1, r2)
        self.requantize()
        get(r5, "zero")
        self.adds(r4, r4, r5)
        self.clip(r4, r5, 4 * len(kept))
        self.pop(*kept[:-1], pc)


TAIL = {
    True: ("low", "high", "skew", "zero", "doubt"),
    False: ("low", "high", "shift"),
}  # of the frame, by whether it is exact


def _start(a: Kernel, shape: "Dot | Depthwise", scratch: Name) -> None:
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


def dot(shape: Dot) -> bytes:
    """Parameters: x, y, scratch (arena), weights (program), rows, clip (from the block on), the
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
    _start(a, shape, "block")
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
    free = not exact and len(groups) == 1 and groups[0] <= shape.straight
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
        _products(a, length, n, shape.straight)
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
    slow = _outputs(a, shape, len(groups))
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


def _outputs(a: Kernel, shape: "Dot | Depthwise", groups: int) -> Callable[[], None]:
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
    """As _outputs; r1 coarse    r4 output    r7 fraction, or scratch    lr doubt."""
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


def depthwise(shape: Depthwise) -> bytes:
    """Parameters: x, y, scratch (arena), weights (program), rows, clip (from the block on), the
    high lane's distance in bytes, low, high and the tail's, as of `dot`. scratch: the plane.

    The plane's words are taken by as many as are loaded at once, and each is multiplied by all the
    weights of its row of the kernel; the last of these products destroys it.
    """
    n, w = shape.words, shape.window
    exact = isinstance(shape.tail, Exact)
    taps = w.kernel_h * w.kernel_w
    frame = Frame("x", "out", "plane", "weights", "row0", "clip", "distance", *TAIL[exact])
    for name in ("rows", "y", "row", "end", "in", "more", "tile", "tiles", "begin", "m", "b"):
        frame.take(name)
    frame.take("weight", taps)
    a = Kernel(frame)
    _start(a, shape, "plane")
    a.get(r3, "row0")
    a.put(r3, "rows")
    a.load(r3, w.in_c)
    a.put(r3, "in")
    # Padding stays what it is here; each channel's image is written between it.
    a.get(r1, "plane")
    a.load(r2, shape.plane_rows * shape.span[1])
    a.load(r3, w.pad * (0x10001 if shape.lanes == 2 else 1))
    a.fill(r2, r3, r1, 4, half=False)
    a.b("channels")
    a.pool()

    a.label("channels")
    (_plane_of_words if shape.words_in else _plane_of_bytes)(a, shape)
    a.load(r3, w.out_c // w.in_c)
    a.put(r3, "more")
    a.b("filters")
    a.pool()

    a.label("filters")
    # The weights of one filter, a word each, and its row.
    a.get(r0, "weights")
    a.adds(r1, r0, 1)
    a.put(r1, "weights")
    a.movs(r4, 0)
    a.load(r5, w.out_c)
    for tap in range(taps):
        a.ldrsb(r3, r0, r4)
        a.str(r3, sp, frame["weight"] + 4 * tap)
        a.adds(r0, r0, r5)
    a.get(r7, "rows")
    a.ldmia(r7, r2, r3, r4)
    a.put(r7, "rows")
    a.add_sp(r7, frame["begin"])
    a.stmia(r7, r2, r3, r4)
    a.get(r0, "out")
    a.put(r0, "y")
    a.get(r0, "plane")
    a.put(r0, "row")
    a.load(r1, 4 * shape.rows * w.stride_h * shape.span[1])
    a.adds(r1, r1, r0)
    a.put(r1, "end")
    a.b("rows")
    a.pool()

    a.label("rows")
    if shape.tiles > 1:
        a.put(r0, "tile")
        a.load(r1, shape.tiles)
        a.put(r1, "tiles")
    a.label("tiles")
    a.get(r2, "begin")
    for total in SUM[:n]:
        a.mov(total, r2)
    _window_products(a, shape)
    a.get(r2, "m")
    a.get(r5, "b")
    slow = _outputs(a, shape, 1)
    if shape.tiles > 1:
        _next_tile(a, shape)
        a.get(r0, "y")
        a.step(r0, _tile_bytes(shape), r3)
    else:  # r0 is at the tile's last byte, or its first word
        a.step(r0, w.out_c if not shape.words_out else _tile_bytes(shape), r3)
    a.put(r0, "y")
    a.get(r0, "row")
    a.step(r0, 4 * w.stride_h * shape.span[1], r3)
    a.put(r0, "row")
    a.get(r1, "end")
    a.cmp(r0, r1)
    a.b("rows", "ne", far=True)

    a.get(r0, "out")
    a.adds(r0, r0, 4 * n if shape.words_out else 1)
    a.put(r0, "out")
    a.get(r0, "more")
    a.subs(r0, r0, 1)
    a.put(r0, "more")
    a.b("filters", "ne", far=True)
    a.get(r0, "x")
    a.adds(r0, r0, 4 * n if shape.words_in else 1)
    a.put(r0, "x")
    a.get(r0, "in")
    a.subs(r0, r0, 1)
    a.put(r0, "in")
    a.b("channels", "ne", far=True)
    a.leave()
    a.pool()
    slow()
    if exact:
        a.exact_output()
    return a.assemble()


def _tile_bytes(shape: Depthwise) -> int:
    """From one tile's outputs to the next one's."""
    return shape.words * shape.window.out_c * (4 if shape.words_out else 1)


def _next_tile(a: Kernel, shape: Depthwise) -> None:
    """Go on with the row's next tile, if there is one. The last one ends where the row does, and
    may so overlap the one before."""
    w = shape.window
    end = a.unique("row")
    a.get(r1, "tiles")
    a.subs(r1, r1, 1)
    a.put(r1, "tiles")
    a.b(end, "eq")
    a.get(r0, "tile")
    a.get(r2, "y")
    a.step(r0, 4 * shape.words * w.stride_w, r3)
    a.step(r2, _tile_bytes(shape), r3)
    twice = shape.tiles * shape.words - shape.columns
    if twice:
        regular = a.unique("regular")
        a.cmp(r1, 1)
        a.b(regular, "ne")
        a.step(r0, -4 * twice * w.stride_w, r3)
        a.step(r2, -twice * w.out_c, r3)
        a.label(regular)
    a.put(r0, "tile")
    a.put(r2, "y")
    a.bl("tiles")
    a.label(end)


def _window_products(a: Kernel, shape: Depthwise) -> None:
    """Add the products of a tile's windows, which begin at r0, to the sums."""
    n, w = shape.words, shape.window
    first, columns = shape.span
    # Of each of the plane's columns from r0 on: by which weights, and for which sums.
    uses: dict[int, dict[int, int]] = {}
    for i in range(n):
        for k in range(w.kernel_w):
            column = i * w.stride_w + k - w.pad_w - first
            if 0 <= column < columns:
                uses.setdefault(column, {})[k] = i
    width = max(uses) + 1
    for row in range(w.kernel_h):
        for start in range(0, width, WORDS):
            loaded = dict(zip(range(start, min(start + WORDS, width)), X, strict=False))
            a.ldmia(r0, *loaded.values())
            for k in range(w.kernel_w):
                products = [(c, x) for c, x in loaded.items() if k in uses.get(c, {})]
                if products:
                    a.ldr(r1, sp, a.frame["weight"] + 4 * (row * w.kernel_w + k))
                for column, x in products:
                    product = x
                    if k == max(uses[column]):
                        a.muls(x, r1)
                    else:
                        product = r7
                        a.mov(r7, r1)
                        a.muls(r7, x)
                    a.add(SUM[uses[column][k]], product)
        if row + 1 < w.kernel_h:
            a.step(r0, 4 * (columns - width), r1)


def _plane_of_bytes(a: Kernel, shape: Depthwise) -> None:
    """Write a channel's image, bytes, into the plane."""
    w, (first, columns) = shape.window, shape.span
    store = a.strh if shape.lanes == 2 else a.str
    a.movs(r5, 128)
    if w.in_c > 255:
        a.load(r4, w.in_c)
    for lane in range(shape.lanes):
        # The plane's row and column 0 are these of the image.
        row = -w.pad_h + (lane * w.stride_h * shape.rows if w.out_h > 1 else 0)
        column = first + (0 if w.out_h > 1 else lane * w.stride_w * shape.columns)
        top, bottom = max(0, row), min(w.in_h, row + shape.plane_rows)
        left, right = max(0, column), min(w.in_w, column + columns)
        if top >= bottom or left >= right:
            continue
        a.get(r0, "x")
        a.step(r0, (top * w.in_w + left) * w.in_c, r3)
        a.get(r1, "plane")
        a.step(r1, 4 * ((top - row) * columns + left - column) + 2 * lane, r3)
        a.load(r2, bottom - top)
        rows, values = a.unique("image"), a.unique("values")
        a.label(rows)
        width = right - left
        at_once = next(count for count in range(8, 0, -1) if width % count == 0)
        if at_once < width:
            a.load(r6, width // at_once)
            a.label(values)
        for i in range(at_once):
            a.ldrb(r3, r0, 0)
            a.eors(r3, r5)
            store(r3, r1, 4 * i)
            a.adds(r0, r0, w.in_c if w.in_c <= 255 else r4)
        a.adds(r1, r1, 4 * at_once)
        if at_once < width:
            a.subs(r6, r6, 1)
            a.b(values, "ne")
        a.step(r0, (w.in_w - width) * w.in_c, r3)
        a.step(r1, 4 * (columns - width), r3)
        a.subs(r2, r2, 1)
        a.b(rows, "ne")


def _plane_of_words(a: Kernel, shape: Depthwise) -> None:
    """Copy a channel's image, words in tiles, into the plane.

    The plane has rows above and below the words' own, where only one lane meets the image: what is
    in the other lane there, and in the last row of an image with an odd number of them.
    """
    n, w = shape.words, shape.window
    first, columns = shape.span
    tile = 4 * n * w.in_c

    def rows(change: "Callable[[Register], None] | None") -> None:
        for _ in range(shape.tiles):
            a.ldmia(r0, *X[:n])
            if change:
                for x in X[:n]:
                    change(x)
            a.stmia(r1, *X[:n])
            a.add(r0, r8)
        a.step(r1, 4 * (columns - shape.columns), r2)

    def begin(source: int, target: int) -> None:
        a.get(r0, "x")
        a.step(r0, source * shape.tiles * tile, r2)
        a.get(r1, "plane")
        a.step(r1, 4 * (target * columns - first), r2)

    a.load(r2, tile - 4 * n)
    a.mov(r8, r2)
    odd = 2 * shape.rows - w.in_h
    if shape.rows > odd:
        begin(0, w.pad_h)
        turns, rest = divmod(shape.rows - odd, 4 // min(4, shape.tiles))
        for _ in range(rest):
            rows(None)
        if turns:
            a.load(r7, turns)
            loop = a.unique("image")
            a.label(loop)
            for _ in range(4 // min(4, shape.tiles)):
                rows(None)
            a.subs(r7, r7, 1)
            a.b(loop, "ne")
    for target in range(shape.plane_rows):
        low = target - w.pad_h  # the image's row in the low lane
        if low < 0 <= low + shape.rows:
            begin(low + shape.rows, target)
            rows(lambda x: a.lsls(x, x, 16))
        elif shape.rows <= low < w.in_h:
            begin(low - shape.rows, target)
            rows(lambda x: a.lsrs(x, x, 16))
        elif odd and low == shape.rows - 1:
            begin(low, target)
            rows(lambda x: a.uxth(x, x))
