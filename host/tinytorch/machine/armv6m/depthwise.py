"""DEPTHWISE: one channel's image at a time."""

from collections.abc import Callable
from dataclasses import dataclass

from tinytorch.machine.armv6m.frame import Frame, Kernel
from tinytorch.machine.armv6m.tail import Exact
from tinytorch.machine.armv6m.thumb import (
    Register,
    r0,
    r1,
    r2,
    r3,
    r4,
    r5,
    r6,
    r7,
    r8,
    sp,
)
from tinytorch.machine.armv6m.weighted import (
    SUM,
    TAIL,
    WORDS,
    Weighted,
    X,
    enter,
    lane_groups,
    outputs,
    tail_of,
    weights_of_channel,
)
from tinytorch.machine.armv6m.window import Window
from tinytorch.machine.kernel import Candidates, Task
from tinytorch_core.model import LANE, Op

MOST_TAPS = 100  # of a kernel: they lie on the stack


@dataclass(frozen=True)
class Depthwise(Weighted):
    """DEPTHWISE: one channel's image at a time, as a plane of words, padded where it must be.

    A tile is `words` positions of a row. In two lanes the high one is the position `rows` rows
    below, or for an image of one row `columns` to the right. words_in needs strides of 1 and an
    output of the input's size, padded with 0.
    """

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

    def assemble(self, unroll: int) -> bytes:
        return depthwise(self)

    def counts(self) -> dict[str, float]:
        w, n = self.window, self.words
        first, columns = self.span
        used = sum(
            0 <= i * w.stride_w + k - w.pad_w - first < columns
            for i in range(n)
            for k in range(w.kernel_w)
        )
        width = (n - 1) * w.stride_w + w.kernel_w
        tiles = w.out_c * self.rows * self.tiles
        source = "words" if self.words_in else "bytes"
        return {
            "call": 1,
            "depthwise product": tiles * w.kernel_h * used,
            "word of a plane": tiles * w.kernel_h * min(width, columns),
            "depthwise weight": tiles * w.kernel_h * w.kernel_w,
            "tile": tiles,
            "row of tiles": w.out_c * self.rows,
            "filter": w.out_c,
            "tap of a filter": w.out_c * w.kernel_h * w.kernel_w,
            f"input of a plane from {source}": w.in_c * w.in_h * w.in_w,
            f"row of a plane from {source}": w.in_c * self.plane_rows,
            "padding of a plane": self.plane_rows * columns,
            self.output_cost: tiles * n,
        }

    def output_bytes(self, op: Op) -> int:
        if self.words_out:
            return 4 * self.distance * op.out_c
        # In an image of an odd number of rows, the high lane writes one row more.
        return max(op.out_h * op.out_w, self.lanes * self.distance) * op.out_c

    def scratch_bytes(self, op: Op, program: bytes) -> int:
        return 4 * self.plane_rows * self.span[1]


def candidates(task: Task) -> Candidates:
    """The kernels of DEPTHWISE."""
    op = task.op
    taps = weights_of_channel(op)
    if taps > MOST_TAPS:
        return Candidates(refusal=f"{taps} weights a channel are more than {MOST_TAPS}")
    groups, notes = lane_groups(task)
    window, tail = Window.of(op, op.x_zero + 128), tail_of(op)
    same = (op.stride_h, op.stride_w) == (1, 1) and (op.in_h, op.in_w) == (op.out_h, op.out_w)
    shapes = []
    for words_in in (False, True):
        for count in (1, 2) if groups else (1,):
            if words_in and not (count == 2 and same and op.out_h > 1 and window.pad == 0):
                continue
            row = -(-op.out_w // 2) if count == 2 and op.out_h == 1 else op.out_w
            for n in range(1, min(WORDS, row) + 1):
                if words_in and row % n:
                    continue
                for words_out in (False, True) if task.chained and count == 2 else (False,):
                    if not (words_out and row % n):
                        shape = Depthwise(window, (taps,), n, count, words_in, words_out, tail)
                        shapes.append(shape)
    return Candidates(shapes, broken=op.tier == LANE and not groups, notes=notes)


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
    enter(a, shape, "plane")
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
    slow = outputs(a, shape, 1)
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
