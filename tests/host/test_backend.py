"""A chip of our own: what the planner asks of a back-end suffices for a machine unlike any other.

Its code is instructions of four bytes for registers that hold any integer, and a few lines here
execute them. It has kernels for DENSE and ADD alone, and between two of them values can stay as
their complements.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from tinytorch.machine.attach import attach
from tinytorch.machine.backend import BACKENDS, BOARDS, Backend
from tinytorch.machine.kernel import BYTES, Body, Call, Candidates, Choice, Shape, Task
from tinytorch.machine.pack import pack
from tinytorch.modelfile import section
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.quantize.calibrate import quantize_nodes
from tinytorch.quantize.ir import INPUT, Node
from tinytorch_core import qops
from tinytorch_core.model import (
    ADD,
    CONV2D,
    DENSE,
    EXACT,
    FIELDS,
    MAX_POOL,
    RECORD_BYTES,
    Op,
)
from tinytorch_core.quant import clamp, requantize

ARCHITECTURE = 15  # of no MicroPython
COMPLEMENTS = 1  # a layout: each byte is ~x

(RETURN, SET, PARAMETER, SUM, PRODUCT, NOT, LEFT, INPUT_BYTE, WEIGHT_BYTE, WORD, STORE, SCALE,
 CLIP, LESS) = range(14)  # fmt: skip


def execute(code: bytes, words: Sequence[int], arena: bytearray, program: bytes) -> None:
    """Run the code that begins with the first of its parameter block's words."""
    r, at = [0] * 32, words[0]
    while True:
        what, a, b, c = code[at : at + 4]
        at += 4
        if what == RETURN:
            return
        if what == SET:
            r[a] = struct.unpack_from("<h", code, at - 2)[0]
        elif what == PARAMETER:
            r[a] = words[b]
        elif what == SUM:
            r[a] = r[b] + r[c]
        elif what == PRODUCT:
            r[a] = r[b] * r[c]
        elif what == NOT:
            r[a] = ~r[a]
        elif what == LEFT:
            r[a] <<= b
        elif what == INPUT_BYTE:
            r[a] = qops.int8(arena[r[b]])
        elif what == WEIGHT_BYTE:
            r[a] = qops.int8(program[r[b]])
        elif what == WORD:
            r[a] = struct.unpack_from("<i", program, r[b])[0]
        elif what == STORE:
            arena[r[b]] = r[a] & 255
        elif what == SCALE:
            r[a] = requantize(r[a], r[b], r[c])
        elif what == CLIP:
            r[a] = clamp(r[a], r[b], r[c])
        elif what == LESS and r[a] < r[b]:
            at -= 4 * c


ZERO, ONE, FOUR = 29, 30, 31  # registers with these numbers


class Code(bytearray):
    def put(self, what: int, a: int = 0, b: int = 0, c: int = 0) -> None:
        self += bytes((what, a, b, c))

    def set(self, a: int, value: int) -> None:
        self += struct.pack("<BBh", SET, a, value)

    def start(self, parameters: int) -> None:
        """Parameters to the registers of their numbers."""
        for i in range(1, parameters + 1):
            self.put(PARAMETER, i, i)
        for register, value in ((ZERO, 0), (ONE, 1), (FOUR, 4)):
            self.set(register, value)

    def again(self, counter: int, end: int, start: int) -> None:
        """Count, and go back to the instruction at `start` until the end is reached."""
        self.put(SUM, counter, counter, ONE)
        self.put(LESS, counter, end, (len(self) - start) // 4 + 1)


@dataclass(frozen=True)
class Dense(Shape):
    inputs: int
    outputs: int
    complements_in: bool
    complements_out: bool

    @property
    def layout_in(self) -> int:
        return COMPLEMENTS if self.complements_in else BYTES

    @property
    def layout_out(self) -> int:
        return COMPLEMENTS if self.complements_out else BYTES

    def assemble(self, unroll: int) -> bytes:
        if self.outputs == 5:
            raise ValueError("No code for five outputs.")
        x, y, weight, row, x_zero, y_zero, low, high = range(1, 9)
        acc, i, o, end, outputs, value, w, multiplier, shift, at = range(10, 20)
        code = Code()
        code.start(8)
        code.put(NOT, x_zero)
        code.put(SUM, x_zero, x_zero, ONE)
        code.set(end, self.inputs)
        code.set(outputs, self.outputs)
        code.put(SUM, o, ZERO, ZERO)
        channel = len(code)
        code.put(WORD, acc, row)
        code.put(SUM, i, ZERO, ZERO)
        product = len(code)
        code.put(SUM, at, x, i)
        code.put(INPUT_BYTE, value, at)
        if self.complements_in:
            code.put(NOT, value)
        code.put(SUM, value, value, x_zero)
        code.put(WEIGHT_BYTE, w, weight)
        code.put(SUM, weight, weight, ONE)
        code.put(PRODUCT, value, value, w)
        code.put(SUM, acc, acc, value)
        code.again(i, end, product)
        for register in (multiplier, shift):
            code.put(SUM, row, row, FOUR)
            code.put(WORD, register, row)
        code.put(SUM, row, row, FOUR)
        code.put(SCALE, acc, multiplier, shift)
        code.put(SUM, acc, acc, y_zero)
        code.put(CLIP, acc, low, high)
        if self.complements_out:
            code.put(NOT, acc)
        code.put(SUM, at, y, o)
        code.put(STORE, acc, at)
        code.again(o, outputs, channel)
        code.put(RETURN)
        return bytes(code)

    def cycles(self, op: Op) -> int:
        cheap = self.complements_in + self.complements_out
        return self.inputs * self.outputs * 10 - 30 * cheap

    def parameters(self, call: Call) -> Sequence[int]:
        op = call.op
        return [call.x, call.y, op.weight, op.table, op.x_zero, op.y_zero, op.low, op.high]


@dataclass(frozen=True)
class Add(Shape):
    """One code for all."""

    def assemble(self, unroll: int) -> bytes:
        x, x2, y, table, values, low, high = range(1, 8)
        i, at, a, b, offset, multiplier, shift, row = range(10, 18)
        code = Code()
        code.start(7)
        code.put(SUM, i, ZERO, ZERO)
        start = len(code)
        code.put(SUM, row, table, ZERO)
        for source, value in ((x, a), (x2, b), (None, a)):
            for register in (offset, multiplier, shift):
                code.put(WORD, register, row)
                code.put(SUM, row, row, FOUR)
            if source is None:
                code.put(SUM, a, a, b)
            else:
                code.put(SUM, at, source, i)
                code.put(INPUT_BYTE, value, at)
                code.put(SUM, value, value, offset)
                code.put(LEFT, value, qops.ADD_SHIFT)
            code.put(SCALE, value, multiplier, shift)
        code.put(SUM, a, a, offset)
        code.put(CLIP, a, low, high)
        code.put(SUM, at, y, i)
        code.put(STORE, a, at)
        code.again(i, values, start)
        code.put(RETURN)
        return bytes(code)

    def cycles(self, op: Op) -> int:
        return 20 * op.out_c

    def parameters(self, call: Call) -> Sequence[int]:
        op, values = call.op, call.op.out_h * call.op.out_w * call.op.out_c
        return [call.x, call.x2, call.y, op.table, values, op.low, op.high]


class Own:
    architecture = ARCHITECTURE
    most_code = 1000
    unrolling = (1,)

    def candidates(self, task: Task) -> Candidates:
        op = task.op
        if op.kind == ADD:
            return Candidates([Add()])
        if op.kind != DENSE:
            return Candidates()
        if op.tier != EXACT:
            return Candidates(refusal="it has one tier alone")
        ends = (False, True) if task.chained else (False,)
        return Candidates(
            [Dense(op.in_c, op.out_c, inside, out) for inside in (False, True) for out in ends]
        )

    def viper_cycles(self, op: Op) -> int:
        return 10_000

    def specialize(self, choices: Sequence[Choice], program: bytes) -> None:
        """Shapes are final."""

    def prepare(self, choices: Sequence[Choice], body: Body) -> int:
        return 0


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Backend:
    backend = Own()
    monkeypatch.setitem(BACKENDS, ARCHITECTURE, backend)
    return backend


def run(data: bytes, x: np.ndarray) -> np.ndarray:
    """What a board with our chip makes of the samples."""
    model, found = Model(data), section.read(data)
    assert found is not None and found.arch == ARCHITECTURE
    program = bytearray(model._program)
    for i, step in enumerate(found.steps):
        for name, value in zip(("x", "x2", "y", "scratch"), step[1:], strict=True):
            struct.pack_into("<i", program, RECORD_BYTES * i + 4 * FIELDS.index(name), value)
    outputs = []
    for sample in x:
        arena = bytearray(found.arena_bytes)
        arena[found.input_at : found.input_at + sample.size] = sample.tobytes()
        for i, (parameters, *_) in enumerate(found.steps):
            kind = model.operations[i].kind
            if parameters == section.VIPER:
                qops.KERNELS[kind](arena, program, RECORD_BYTES * i)
            else:
                words = struct.unpack_from("<9i", found.data.ljust(parameters + 36), parameters)
                execute(found.data, words, arena, program)
        y = arena[found.output_at : found.output_at + len(model.output)]
        outputs.append(np.frombuffer(bytes(y), np.int8).reshape(model.output_shape))
    return np.array(outputs)


def dense(name: str, source: int, inputs: int, outputs: int, rng: np.random.Generator) -> Node:
    weight, bias = rng.normal(0, inputs**-0.5, (outputs, inputs)), rng.normal(0, 0.3, outputs)
    return Node(
        name, DENSE, (source,), 1, 1, inputs, 1, 1, outputs, weight=weight, bias=bias, low=-1.0
    )


def model_file(tier: str = "exact", outputs: int = 3) -> tuple[bytes, np.ndarray]:
    """A network with a branch, half of whose operations the chip has no kernels for."""
    rng = np.random.default_rng(0)
    image = {"in_h": 2, "in_w": 3, "in_c": 2, "out_h": 2, "out_w": 3, "out_c": 2}
    flat = {"in_h": 1, "in_w": 1, "in_c": 12, "out_h": 1, "out_w": 1, "out_c": 12}
    weight = rng.normal(0, 0.5, (2, 1, 1, 2))
    nodes = [
        Node("conv", CONV2D, (INPUT,), **image, weight=weight, bias=np.zeros(2)),
        dense("first", 0, 12, 20, rng),
        dense("second", 1, 20, 12, rng),
        Node("largest", MAX_POOL, (2,), **flat),
        Node("sum", ADD, (3, 0), **flat),
        dense("last", 4, 12, outputs, rng),
    ]
    x = rng.normal(0, 1, (16, 2, 3, 2))
    made = quantize_nodes(nodes, x, name="own", labels=[], tier=tier)
    return to_bytes(made), rng.integers(-128, 128, (10, 2, 3, 2)).astype(np.int8)


def test_a_chip_of_our_own_gives_the_same_bytes(own):
    data, x = model_file()
    fitted = attach(data, ARCHITECTURE)
    np.testing.assert_array_equal(run(fitted, x), Model(data).run_batch(x))
    packed = pack(Model(data), own)
    assert [c.kernel for c in packed.choices] == [
        "viper",
        "dense",
        "dense",
        "viper",
        "add",
        "dense",
    ]
    assert section.read(fitted).viper == 2
    # Between the two that follow each other, values lie as the chip likes them best.
    layouts = [(c.shape.layout_in, c.shape.layout_out) for c in packed.choices if c.shape]
    assert layouts == [(BYTES, COMPLEMENTS), (COMPLEMENTS, BYTES), (BYTES, BYTES), (BYTES, BYTES)]
    assert packed.cycles == sum(c.cycles for c in packed.choices)
    notes = [note for c in packed.choices for note in c.notes]
    assert notes == [
        "Operation 0 (conv) runs in viper: there is no kernel for it.",
        "Operation 3 (max pool) runs in viper: there is no kernel for it.",
    ]


def test_what_a_chip_refuses_runs_in_viper_and_the_plan_says_why(own):
    data, x = model_file("lane")
    packed = pack(Model(data), own)
    assert [c.kernel for c in packed.choices][1] == "viper"
    assert "runs in viper: it has one tier alone." in packed.choices[1].notes[0]
    np.testing.assert_array_equal(run(attach(data, ARCHITECTURE), x), Model(data).run_batch(x))

    data, x = model_file(outputs=5)
    packed = pack(Model(data), own)
    assert packed.choices[-1].notes == [
        "Operation 5 (dense) runs in viper: no machine code for its shape (No code for five "
        "outputs)."
    ]
    np.testing.assert_array_equal(run(attach(data, ARCHITECTURE), x), Model(data).run_batch(x))


def test_code_beyond_a_chips_limit_is_left_out(own, monkeypatch):
    data, x = model_file()
    whole = pack(Model(data), own).code_bytes
    monkeypatch.setattr(own, "most_code", whole - 1)
    packed = pack(Model(data), own)
    left = [c for c in packed.choices if f"more than {whole - 1:,} bytes" in "".join(c.notes)]
    assert left and packed.code_bytes < whole
    np.testing.assert_array_equal(run(attach(data, ARCHITECTURE), x), Model(data).run_batch(x))
    monkeypatch.setattr(own, "most_code", 0)
    assert attach(data, ARCHITECTURE) == data  # nothing is left to bring along


def test_an_architecture_without_kernels_takes_the_file_as_it_is():
    data, _ = model_file()
    assert attach(data, ARCHITECTURE) == data
    for board in BOARDS.values():
        assert (board.backend is None) == (attach(data, board.architecture) == data)


@pytest.mark.parametrize("kind", [ADD, MAX_POOL])
def test_kinds_without_a_row_in_a_chips_table_run_in_viper(kind, monkeypatch):
    from tinytorch.machine.armv6m.backend import CANDIDATES

    data, _ = model_file()
    backend = BOARDS["rp2040"].backend
    assert all(c.shape for c in pack(Model(data), backend).choices)
    monkeypatch.delitem(CANDIDATES, kind)
    packed = pack(Model(data), backend)
    left = [c for c in packed.choices if not c.shape]
    assert [c.op.kind for c in left] == [kind]
    assert "runs in viper: there is no kernel for it." in left[0].notes[0]
