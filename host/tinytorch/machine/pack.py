"""Which kernel runs which operation of a model on a board, and the section that says so.

Decided here, for each operation: its kernel, how many sums share a word, how many words make a
block, how long the groups of weights are whose sums share one, and whether its output stays in
words for the next one or becomes bytes.
"""

import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from tinytorch.machine import armv6m, armv6m_move, armv6m_sound, cost, tables
from tinytorch.machine.armv6m import (
    Depthwise,
    Dot,
    Exact,
    Lane,
    Tail,
    Window,
    shift_in_code,
)
from tinytorch.machine.armv6m_average import Average, average
from tinytorch.machine.armv6m_move import Move, move
from tinytorch.machine.armv6m_simple import Add, Pool, add, pool, simple
from tinytorch.machine.armv6m_sound import Mel
from tinytorch.machine.tables import Rows
from tinytorch.machine.thumb import Assembler, lr, pc, r0, r1, r2, r3, r4, r5, r6
from tinytorch.modelfile.arena import Buffer, place
from tinytorch.modelfile.runtime import Model
from tinytorch.modelfile.section import HEADER_BYTES, STEP_BYTES, attach_section, section
from tinytorch.quantize import lanes
from tinytorch.quantize.ir import INPUT
from tinytorch_core import mel
from tinytorch_core.model import (
    ADD,
    AVG_POOL,
    CONV2D,
    DENSE,
    DEPTHWISE,
    LANE,
    MAX_POOL,
    MEL,
    MOVE,
    Op,
)
from tinytorch_core.quant import LANE_LIMIT

ARMV6M = 4  # MicroPython's number of the architecture
MOST_CODE = 8192  # bytes of RAM that kernels may take
MOST_GROUPS = 8  # of one channel's weights
LEAST_STRAIGHT = 16  # weights of a channel that stay unrolled
MOST_TAPS = 100  # of a depthwise kernel: they lie on the stack

KINDS = {
    CONV2D: "conv", DEPTHWISE: "depthwise", DENSE: "dense",
    MAX_POOL: "max pool", AVG_POOL: "average pool", ADD: "add", MOVE: "move", MEL: "mel",
}  # fmt: skip
WEIGHTED = (CONV2D, DEPTHWISE, DENSE)

Shape = Dot | Depthwise | Average | Pool | Add | Move | Mel


@dataclass
class Choice:
    """How an operation runs. inputs: the range of its input. shape None: the board's own kernel,
    viper. broken: the lane bound is. notes: why it is not what its tier would let one expect, whole
    sentences."""

    op: Op
    inputs: tuple[int, int]
    shape: "Shape | None" = None
    cycles: int = 0
    broken: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def tier(self) -> "str | None":
        """Whose kernel it is, where there are two tiers."""
        if self.op.kind not in WEIGHTED:
            return None
        return "lane" if self.op.tier == LANE and not self.broken else "exact"

    @property
    def kernel(self) -> str:
        return type(self.shape).__name__.lower() if self.shape else "viper"


@dataclass
class Plan:
    """A model on a board: its choices in the order of operations, and the section for its file."""

    choices: list[Choice]
    section: bytes
    code_bytes: int
    arena_bytes: int

    @property
    def cycles(self) -> int:
        return sum(choice.cycles for choice in self.choices)


def attach(data: bytes, arch: int) -> bytes:
    """The model file with kernels for this architecture (MicroPython's number), or as it is where
    there are none for it."""
    if arch != ARMV6M:
        return data
    made = plan(Model(data))
    # A section takes RAM, also one that leaves everything to viper.
    return attach_section(data, made.section) if any(c.shape for c in made.choices) else data


def plan(model: Model) -> Plan:
    """Choose kernels for a Cortex-M0+ board, and assemble them."""
    ops, program = model.operations, bytes(model._program)
    viper = _impossible(ops, program)
    while True:
        choices = _choose(ops, program, viper)
        rows = _rows(choices, program)
        codes: dict[Shape, bytes] = {}
        for i, choice in enumerate(choices):
            if choice.shape and choice.shape not in codes:
                try:
                    codes[choice.shape] = _assemble(choice.shape)
                except ValueError as error:
                    viper[i] = f"no machine code for its shape ({str(error).rstrip('.')})"
        if any(c.shape and i in viper for i, c in enumerate(choices)):
            continue
        total = _shrink(codes, choices)
        if total <= MOST_CODE:
            break
        # The kernel that saves least goes; what used it runs in viper.
        saved = {
            shape: sum(cost.viper(c.op) - c.cycles for c in choices if c.shape == shape)
            for shape in codes
        }
        least = min(saved, key=lambda shape: saved[shape])
        for i, choice in enumerate(choices):
            if choice.shape == least:
                viper[i] = f"the model's kernels would take more than {MOST_CODE:,} bytes"
    return _Layout(choices, program).plan(codes, rows)


def _assemble(shape: Shape, straight: int = armv6m.STRAIGHT) -> bytes:
    if isinstance(shape, Dot):
        return armv6m.dot(replace(shape, straight=straight))
    if isinstance(shape, Depthwise):
        return armv6m.depthwise(shape)
    if isinstance(shape, Average):
        return average(shape)
    if isinstance(shape, Move):
        return move()
    if isinstance(shape, Mel):
        return armv6m_sound.mel(shape)
    return pool(shape) if isinstance(shape, Pool) else add(shape)


def _shrink(codes: dict[Shape, bytes], choices: list[Choice]) -> int:
    """Unroll less, where it costs least, until all kernels fit into MOST_CODE; their bytes."""
    cycles = {shape: sum(c.cycles for c in choices if c.shape == shape) for shape in codes}
    straight = armv6m.STRAIGHT
    while straight > LEAST_STRAIGHT:
        straight //= 2
        for shape in sorted(codes, key=lambda shape: cycles[shape]):
            if sum(map(len, codes.values())) <= MOST_CODE:
                break
            codes[shape] = _assemble(shape, straight)
    return sum(map(len, codes.values()))


# Choosing.


def _impossible(ops: list[Op], program: bytes) -> dict[int, str]:
    """The operations that machine code cannot run, and why."""
    found = {}
    for i, op in enumerate(ops):
        if op.kind == DEPTHWISE and _length(op) > MOST_TAPS:
            found[i] = f"{_length(op)} weights a channel are more than {MOST_TAPS}"
        if op.kind == MEL and not armv6m_sound.possible(op, program):
            found[i] = "its tables are of an unknown kind"
    return found


def _choose(ops: list[Op], program: bytes, viper: dict[int, str]) -> list[Choice]:
    """The cheapest kernels for all operations together: the best way to each layout of an
    operation's output (0: bytes; n: words in blocks of n), operation by operation."""
    ranges = lanes.input_ranges(ops)
    chained = [*_chained(ops), False]
    ways: dict[int, tuple[int, list[Choice]]] = {0: (0, [])}
    for i, op in enumerate(ops):
        groups: tuple[int, ...] = ()
        if i in viper:
            notes = [f"Operation {i} ({KINDS[op.kind]}) runs in viper: {viper[i]}."]
        else:
            groups, notes = _groups(i, op, program, ranges[i])
            if op.tier == LANE and tables.overflows(op, program, ranges[i]):
                notes = [*notes, f"Operation {i} can leave 32 bits: quantize the model again."]
        broken = op.tier == LANE and i not in viper and not groups
        reached: dict[int, tuple[int, list[Choice]]] = {}
        for layout, (spent, choices) in ways.items():
            shapes: list[Shape | None]
            if i in viper:
                shapes = [None] if layout == 0 else []
            elif op.kind == MOVE:
                shapes = [] if layout else [Move()]
            elif op.kind == MEL:
                shapes = [] if layout else [armv6m_sound.shape(op, program)]
            elif op.kind in WEIGHTED:
                shapes = list(_shapes(op, layout, chained[i + 1], groups))
            else:
                shapes = list(_simple(op, program, ranges[i], layout))
            for shape in shapes:
                if isinstance(shape, Move):
                    cycles = armv6m_move.cycles(op)
                else:
                    cycles = cost.cycles(shape) if shape else cost.viper(op)
                out = 0
                if isinstance(shape, Dot | Depthwise) and shape.words_out:
                    out = shape.words
                if out not in reached or spent + cycles < reached[out][0]:
                    choice = Choice(op, ranges[i], shape, cycles, broken, notes)
                    reached[out] = spent + cycles, [*choices, choice]
        ways = reached
    return ways[0][1]


def _sources(ops: list[Op]) -> list[tuple[int, ...]]:
    """Of each operation, those whose outputs it reads: the last that wrote where it reads; of MOVE,
    that whose output it moves."""
    # What is read may begin with what was kept of earlier steps, and then comes what is new.
    new = {op.y: op.y + _bytes(op) for op in ops if op.kind == MOVE}

    def source(i: int, at: int) -> int:
        if at in new:
            at, i = new[at], i if ops[i].kind != MOVE else len(ops)
        for j in range(i - 1, -1, -1):
            op = ops[j]
            if op.kind != MOVE and op.y <= at < op.y + op.out_h * op.out_w * op.out_c:
                return j
        return INPUT

    def reads(op: Op) -> tuple[int, ...]:
        if op.kind == ADD:
            return op.x, op.x2
        return (op.y if op.kind == MOVE else op.x,)

    return [tuple(source(i, at) for at in reads(op)) for i, op in enumerate(ops)]


def _chained(ops: list[Op]) -> list[bool]:
    """Whether an operation reads what the one before it writes, in that shape, and nobody else
    does."""
    sources = _sources(ops)
    readers = Counter(source for each in sources for source in set(each))

    def chained(i: int) -> bool:
        if i == 0 or sources[i] != (i - 1,) or readers[i - 1] != 1:
            return False
        a, b = ops[i - 1], ops[i]
        return (a.out_h, a.out_w, a.out_c) == (b.in_h, b.in_w, b.in_c)

    return [chained(i) for i in range(len(ops))]


def _bytes(op: Op) -> int:
    """Of the input; for MOVE, what it moves."""
    return op.in_h * op.in_w * op.in_c


def _length(op: Op) -> int:
    """The weights of one output channel."""
    return op.kernel_h * op.kernel_w * (1 if op.kind == DEPTHWISE else op.in_c)


def _groups(
    i: int, op: Op, program: bytes, inputs: tuple[int, int]
) -> tuple[tuple[int, ...], list[str]]:
    """The groups of a channel's weights whose sums may share a word, the longest that the bound
    allows; none in the exact tier, and none where the bound is broken, which is then said."""
    if op.tier != LANE:
        return (), []
    length = _length(op)
    for count in range(1, 2 if op.kind == DEPTHWISE else MOST_GROUPS + 1):
        group = -(-length // count)
        if lanes.excess(op, *inputs, group, program) <= LANE_LIMIT:
            return tuple(min(group, length - at) for at in range(0, length, group)), []
    reach = lanes.excess(op, *inputs, None, program)
    note = (
        f"Operation {i} ({KINDS[op.kind]}) breaks the lane bound: its sums reach {reach:,}, "
        f"{reach - LANE_LIMIT:,} more than the {LANE_LIMIT:,} that a lane holds. It runs in the "
        "exact tier's kernel, one sum a word."
    )
    return (), [note]


def _window(op: Op) -> Window:
    return Window(
        op.in_h, op.in_w, op.in_c, op.kernel_h, op.kernel_w, op.stride_h, op.stride_w,
        op.pad_h, op.pad_w, op.out_h, op.out_w, op.out_c, op.x_zero + 128,
    )  # fmt: skip


def _shapes(op: Op, layout: int, words_possible: bool, groups: tuple[int, ...]) -> Iterator[Shape]:
    """The kernels that could run an operation whose input has this layout."""
    window = _window(op)
    strides = (op.stride_h, op.stride_w) == (1, 1)
    same = strides and (op.in_h, op.in_w) == (op.out_h, op.out_w)
    for count in (1, 2) if groups else (1,):
        if layout and count == 1:
            continue
        if op.kind == DEPTHWISE:
            row = -(-op.out_w // 2) if count == 2 and op.out_h == 1 else op.out_w
            if layout and not (same and op.out_h > 1 and window.pad == 0 and row % layout == 0):
                continue
        elif layout and not (same and (op.kernel_h, op.kernel_w) == (1, 1)):
            continue
        positions = op.out_h * op.out_w
        distance = 0
        if count == 2:
            distance = _distance(op.out_h, op.out_w)
        for n in [layout] if layout else range(1, armv6m.WORDS + 1):
            for words_out in {False, words_possible and count == 2}:
                if op.kind == DEPTHWISE:
                    if n <= row and not (words_out and row % n):
                        yield Depthwise(window, n, count, bool(layout), words_out, _tail(op))
                elif n == 1 or n <= (distance or positions):
                    lengths = groups if count == 2 else (_length(op),)
                    yield Dot(
                        window, lengths, n, count, distance, bool(layout), words_out, _tail(op)
                    )


def _distance(h: int, w: int) -> int:
    """Positions from the low lane's to the high lane's, the same for all kernels in a chain."""
    return -(-h // 2) * w if h > 1 else -(-w // 2)


def _simple(op: Op, program: bytes, inputs: tuple[int, int], layout: int) -> Iterator[Shape]:
    """The kernels for an operation without weights."""
    if not layout:
        yield simple(op, program, inputs)
        return
    distance = _distance(op.in_h, op.in_w)
    whole = (op.kernel_h, op.kernel_w) == (op.in_h, op.in_w) and op.pad_h == op.pad_w == 0
    if op.kind == AVG_POOL and whole and 255 * distance < 1 << 16:
        low = op.low if op.low > inputs[0] else None
        high = op.high if op.high < inputs[1] else None
        yield Average(op.in_c, op.in_h * op.in_w, layout, distance, low, high)


def _tail(op: Op) -> Tail:
    """Of the operation's tier; its numbers come when it is known who shares the code."""
    return Lane() if op.tier == LANE else Exact(20)


def _rows(choices: list[Choice], program: bytes) -> list["Rows | None"]:
    """Each operation's constants; operations whose shapes are alike get one tail for all."""
    rows: list[Rows | None] = [None] * len(choices)
    alike: dict[Dot | Depthwise, list[int]] = {}
    for i, choice in enumerate(choices):
        if isinstance(choice.shape, Dot | Depthwise):
            alike.setdefault(choice.shape, []).append(i)
    for shape, members in alike.items():
        ops = [choices[i].op for i in members]
        ranges = [choices[i].inputs for i in members]
        if isinstance(shape.tail, Exact):
            found = tables.exact_rows(ops, program, ranges)
        else:
            groups = shape.groups if isinstance(shape, Dot) else (_length(ops[0]),)
            found = [
                tables.lane_rows(op, program, each, groups, shape.lanes)
                for op, each in zip(ops, ranges, strict=True)
            ]
        wide = any(isinstance(r.tail, Lane) and r.tail.wide for r in found)
        for i, each in zip(members, found, strict=True):
            rows[i] = each
            tail = each.tail
            if isinstance(tail, Lane):
                groups_in = len(shape.groups) if isinstance(shape, Dot) else 1
                in_code = shift_in_code(groups_in, shape.window.out_c, shape.words_out)
                tail = Lane(tail.shift if in_code else None, wide)
            choices[i].shape = replace(shape, tail=tail)
    return rows


# Placing.


class _Layout:
    """Where a model's tensors lie on the board while these choices run, and its section."""

    def __init__(self, choices: list[Choice], program: bytes) -> None:
        self.choices = choices
        ops = [choice.op for choice in choices]
        self.sources = _sources(ops)
        # What MOVE keeps of the input or of an operation's output stands in front of it, always.
        self.kept = {
            each[0]: _bytes(op)
            for op, each in zip(ops, self.sources, strict=True)
            if op.kind == MOVE
        }
        end = len(ops)

        def buffer(size: int, of: int, step: int) -> Buffer:
            kept = self.kept.get(of, 0)
            return Buffer(kept + size, 0, end) if kept else Buffer(size, step, step)

        reader = next(op for op in ops if op.kind != MOVE)
        self.input = buffer(_bytes(reader) - self.kept.get(INPUT, 0), INPUT, 0)
        self.outputs = [buffer(_output_bytes(c), i, i) for i, c in enumerate(choices)]
        self.scratch = [Buffer(_scratch_bytes(c, program), i, i) for i, c in enumerate(choices)]
        for i, each in enumerate(self.sources):
            for source in each:
                used = self.input if source == INPUT else self.outputs[source]
                used.last = max(used.last, i)
        self.last = max(i for i, op in enumerate(ops) if op.kind != MOVE)
        self.outputs[self.last].last = end
        self.arena_bytes = place([self.input, *self.outputs, *self.scratch])

    def plan(self, codes: dict[Shape, bytes], rows: list["Rows | None"]) -> Plan:
        choices = self.choices
        body = bytearray()
        base = HEADER_BYTES + STEP_BYTES * len(choices)

        def put(data: bytes) -> int:
            """The data's offset in the section."""
            body.extend(bytes(-len(body) % 4))
            body.extend(data)
            return base + len(body) - len(data)

        places = {shape: put(code) for shape, code in codes.items()}
        prepare = self._prepare(put)
        clips = self._clips(rows, put)
        steps = []
        for i, (choice, each) in enumerate(zip(choices, rows, strict=True)):
            x = [self.input.at if j == INPUT else self.outputs[j].at for j in self.sources[i]]
            y, scratch = self.outputs[i].at + self.kept.get(i, 0), self.scratch[i].at
            parameters = 0
            op, shape = choice.op, choice.shape
            if op.kind == MOVE:
                y, x = x[0], [x[0] + op.x - op.y]
            if isinstance(shape, Add):
                words = [places[shape], x[0], x[1], y, scratch, op.table]
                parameters = put(struct.pack("<6i", *words))
            elif isinstance(shape, Average | Pool):
                parameters = put(struct.pack("<3i", places[shape], x[0], y))
            elif isinstance(shape, Mel):
                parameters = put(struct.pack("<5i", places[shape], x[0], y, scratch, op.table))
            elif isinstance(shape, Move):
                parameters = put(struct.pack("<4i", places[shape], x[0], y, _bytes(op)))
            elif shape and each:
                table = put((each.rows & 0xFFFFFFFF).astype("<u4").tobytes())
                clip = clips[op.low, op.high, shape.words_out]
                parameters = put(b"")
                tail = [op.table + 4, op.y_zero, _signed(each.doubt)]
                if isinstance(each.tail, Lane):
                    assert each.tail.shift is not None
                    tail = [each.tail.shift]
                words = [
                    places[shape], x[0], y, scratch, op.weight,
                    table - parameters, clip - parameters,
                    shape.distance * op.out_c, op.low, op.high, *tail,
                ]  # fmt: skip
                put(struct.pack(f"<{len(words)}i", *words))
            steps.append((parameters, x[0], x[-1], y, scratch))
        made = section(
            ARMV6M,
            self.arena_bytes,
            self.input.at + self.kept.get(INPUT, 0),
            self.outputs[self.last].at,
            prepare,
            steps,
            bytes(body),
        )
        return Plan(choices, made, sum(map(len, codes.values())), self.arena_bytes)

    def _prepare(self, put: Callable[[bytes], int]) -> int:
        """The parameters of what turns weights w into w + 128 in the program, where `dot` reads
        them."""
        ranges = [
            (c.op.weight, -(-c.op.out_c * _length(c.op) // 4))
            for c in self.choices
            if isinstance(c.shape, Dot)
        ]
        if not ranges:
            return 0
        entry = put(_flip())
        flat = [number for each in ranges for number in each]
        return put(struct.pack(f"<{2 + len(flat)}i", entry, len(ranges), *flat))

    def _clips(
        self, rows: list["Rows | None"], put: Callable[[bytes], int]
    ) -> dict[tuple[int, int, bool], int]:
        """Where output 0 stands in the clip table of each (low, high, words)."""
        spans: dict[tuple[int, int, bool], tuple[int, int]] = {}
        for choice, each in zip(self.choices, rows, strict=True):
            if isinstance(choice.shape, Dot | Depthwise) and each:
                key = choice.op.low, choice.op.high, choice.shape.words_out
                least, most = spans.get(key, (0, 0))
                spans[key] = min(least, each.least), max(most, each.most)
        places = {}
        for (low, high, words), span in spans.items():
            table, zero = tables.clip(low, high, *span, words)
            places[low, high, words] = put(table) + zero
        return places


def _signed(word: int) -> int:
    return (word ^ 1 << 31) - (1 << 31)


def _output_bytes(choice: Choice) -> int:
    """With what a kernel may write behind the output when its last block is not full."""
    op, shape = choice.op, choice.shape
    if op.kind == MOVE:
        return 0  # its output is a part of what it moves
    positions = op.out_h * op.out_w
    if isinstance(shape, Dot):
        low = shape.blocks * shape.words
        if shape.words_out:
            return 4 * low * op.out_c
        positions = max(positions, low + (shape.distance if shape.lanes == 2 else 0))
    elif isinstance(shape, Depthwise):
        if shape.words_out:
            return 4 * shape.distance * op.out_c
        positions = max(positions, shape.lanes * shape.distance)
    return positions * op.out_c


def _scratch_bytes(choice: Choice, program: bytes) -> int:
    op, shape = choice.op, choice.shape
    if isinstance(shape, Dot):
        return 0 if shape.words_in else 4 * shape.words * _length(op)
    if isinstance(shape, Depthwise):
        return 4 * shape.plane_rows * shape.span[1]
    if isinstance(shape, Add):
        return shape.scratch
    if op.kind == MEL:
        return mel.scratch_bytes(*struct.unpack_from("<2i", program, op.table))
    return 4 * _length(op) if op.kind in (CONV2D, DENSE) else 0  # a window in viper


def _flip() -> bytes:
    """A kernel that flips the top bit of bytes of the program; parameters: the number of ranges,
    then each one's offset and number of words."""
    a = Assembler()
    a.push(r4, r5, r6, lr)
    a.ldr(r3, r2, 4)
    a.adds(r2, r2, 8)
    a.load(r6, 0x80808080)
    a.label("range")
    a.ldmia(r2, r4, r5)
    a.adds(r4, r4, r1)
    a.label("word")
    a.ldr(r0, r4, 0)
    a.eors(r0, r6)
    a.stmia(r4, r0)
    a.subs(r5, r5, 1)
    a.b("word", "ne")
    a.subs(r3, r3, 1)
    a.b("range", "ne")
    a.movs(r0, 0)
    a.pop(r4, r5, r6, pc)
    return a.assemble()
