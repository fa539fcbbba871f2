"""MUL and LOGISTIC in machine code, on two emulated cores: every byte as the specification's."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.operations import mul_row, random_case
from tests.second_core import SecondCore
from tinytorch.machine.armv6m.logistic import Logistic, logistic
from tinytorch.machine.armv6m.mul import Mul, mul
from tinytorch.modelfile.runtime import Model
from tinytorch.qops import tables
from tinytorch_core import qops
from tinytorch_core.model import FIELDS, LOGISTIC, MUL, RECORD, RECORD_BYTES, Op, check
from tito.kits.cortex_m0 import RAM, Core

GUARD = 0x55
CORE, SECOND = Core(), SecondCore()
MOST = (1 << 31) - 1


def record(kind, h, w, c, *, row=None, table=b"", skew=(0, 0, 0), **fields):
    """The program of one operation, with its tensors one after the other in the arena.

    skew: how far x, x2 and y are from a multiple of 4.
    """
    size = -(-h * w * c // 4) * 4
    whole = fields.pop("whole", True)
    kernel = (h, w) if whole and kind == MUL else (1, 1)
    fields = {
        "kind": kind, "in_h": h, "in_w": w, "in_c": c, "out_h": h, "out_w": w, "out_c": c,
        "kernel_h": kernel[0], "kernel_w": kernel[1], "stride_h": 1, "stride_w": 1,
        "x": 8 + skew[0], "x2": 20 + size + skew[1], "y": 32 + 2 * size + skew[2],
        "low": -128, "high": 127, "table": RECORD_BYTES, "weight": RECORD_BYTES + 12, **fields,
    }  # fmt: skip
    program = struct.pack(RECORD, *(fields.get(name, 0) for name in FIELDS))
    program += struct.pack("<3i", *(row or (0, 0, 0))) + table
    check(program, 1, 1 << 20)
    return program


def code_of(op, program):
    """The kernel of an operation, its parameters, and the cycles that it foretells."""
    values = op.in_h * op.in_w * op.in_c
    if op.kind == LOGISTIC:
        return (
            logistic(),
            [op.x, op.y, op.weight, values],
            Logistic().cycles(op),
        )
    shape = Mul.of(op, program)
    words = [op.x, op.x2, op.y, op.table, op.x_zero, op.y_zero, values, op.in_c]
    return mul(shape), words, shape.cycles(op)


def execute(core, program, arena):
    """The arena after the operation as the core runs it, the cycles, and those foretold."""
    code, words, foretold = code_of(Op(program, 0), program)
    places = [RAM]
    for n in (len(program), len(arena), len(code)):
        places.append(places[-1] + -(-n // 16) * 16)
    at_program, at_arena, at_code, at_block = places
    core.write(at_program, program)
    core.write(at_arena, bytes(arena))
    core.write(at_code, code)
    core.write(at_block, struct.pack(f"<{len(words) + 1}i", at_code | 1, *words))
    spent = core.call(at_code, at_arena, at_program, at_block)
    assert core.result == 0
    assert core.read(at_program, len(program)) == program
    return core.read(at_arena, len(arena)), spent, foretold


def compare(program, inputs, second=True):
    """Run an operation on these bytes, both ways; the output, the cycles, and those foretold."""
    op = Op(program, 0)
    n = op.out_h * op.out_w * op.out_c
    arena = bytearray([GUARD]) * (op.y + n + 8)
    for at, values in zip((op.x, op.x2), inputs, strict=False):
        arena[at : at + len(values)] = values
    found, spent, foretold = execute(CORE, program, arena)
    if second:
        assert execute(SECOND, program, arena)[0] == found
    qops.KERNELS[op.kind](arena, program, 0)
    assert found == arena
    return np.frombuffer(found[op.y : op.y + n], np.int8), spent, foretold


def values(rng, n):
    """Bytes: any, the ends of the range alone, or close to zero."""
    spread = rng.integers(3)
    if spread == 0:
        x = rng.integers(-128, 128, n)
    elif spread == 1:
        x = rng.choice([-128, 127], n)
    else:
        x = rng.integers(-3, 4, n)
    return x.astype(np.int8).tobytes()


@st.composite
def programs(draw, kind):
    """Programs of one operation, also at the ends of what its numbers may be."""
    sizes = [(1, 1, 1), (1, 1, 5), (2, 1, 1), (1, 16, 1), (1, 7, 3), (2, 3, 8), (4, 5, 20)]
    h, w, c = draw(st.sampled_from([*sizes, (1, 1, 333), (10, 1, 33), (1, 300, 1)]))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    low, high = sorted(draw(st.tuples(st.integers(-128, 127), st.integers(-128, 127))))
    if draw(st.booleans()):
        low, high = -128, 127
    zeros = st.sampled_from([-128, 127, 0, -1, 5, -77])
    skew = draw(st.tuples(*[st.integers(0, 3)] * 3)) if draw(st.booleans()) else (0, 0, 0)
    return record(
        kind, h, w, c, row=mul_row(rng), low=low, high=high, whole=draw(st.booleans()), skew=skew,
        x_zero=draw(zeros), y_zero=draw(zeros), table=rng.bytes(256),
        weight=RECORD_BYTES + 12 - (draw(st.integers(0, 11)) if kind == LOGISTIC else 0),
    )  # fmt: skip


@pytest.mark.parametrize("kind", [MUL, LOGISTIC])
def test_operations_are_the_specification(kind):
    @settings(max_examples=400, deadline=None)
    @given(programs(kind), st.integers(0, 1 << 32))
    def holds(program, seed):
        rng = np.random.default_rng(seed)
        op = Op(program, 0)
        n = op.in_h * op.in_w * op.in_c
        n2 = op.kernel_h * op.kernel_w * op.in_c if kind == MUL else 0
        compare(program, [values(rng, n), values(rng, n2)])

    holds()


@pytest.mark.parametrize("shift", [*range(-31, 15)])
def test_products_at_every_shift(shift):
    rng = np.random.default_rng(shift + 31)
    pairs = rng.integers(-128, 128, (2, 8, 32)).astype(np.int8)
    pairs[:, 0, :4] = [[-128, -128, 127, 127], [-128, 127, -128, 127]]
    for multiplier in (0, 1, 32767, 32768, 65535, 1 << 30, (1 << 30) + 32768, MOST - 32768, MOST):
        for x_zero, offset in ((-128, 128), (127, -127), (-128, -127), (3, 5)):
            row = offset, multiplier, shift
            program = record(MUL, 8, 1, 32, row=row, x_zero=x_zero, y_zero=int(shift))
            compare(program, [each.tobytes() for each in pairs], second=False)
            program = record(MUL, 8, 1, 32, row=row, x_zero=x_zero, y_zero=int(shift), whole=False)
            compare(program, [pairs[0].tobytes(), pairs[1, 0].tobytes()], second=False)


@pytest.mark.parametrize(
    ("offset", "x_zero", "multiplier", "shift"),
    [(128, -128, 1 << 30, -8), (-3, 7, 1234567890, -6), (-127, 127, MOST, -7), (0, 0, 1 << 30, 0)],
)
def test_all_pairs(offset, x_zero, multiplier, shift):
    pairs = np.arange(1 << 16)
    x, x2 = ((each & 255).astype(np.uint8).tobytes() for each in (pairs >> 8, pairs))
    row = offset, multiplier, shift
    y, _, _ = compare(record(MUL, 256, 256, 1, row=row, x_zero=x_zero), [x, x2], second=False)
    program = record(MUL, 256, 1, 256, row=row, x_zero=x_zero, whole=False)
    again, _, _ = compare(program, [x, x2[:256]], second=False)
    np.testing.assert_array_equal(again, y)
    assert len(np.unique(y)) > 100


def test_the_square_of_a_tensor():
    program = bytearray(record(MUL, 1, 1, 200, row=(5, 1 << 30, -7), x_zero=-5))
    struct.pack_into("<i", program, 4 * FIELDS.index("x2"), Op(program, 0).x)
    x = values(np.random.default_rng(0), 200)
    compare(bytes(program), [x, x])


def test_the_logistic_function_of_all_values():
    for zero_point in (-128, 0, 127):
        table = tables.logistic(0.05, zero_point)
        program = record(LOGISTIC, 1, 1, 256, table=table.tobytes())
        y, _, _ = compare(program, [np.arange(-128, 128, dtype=np.int8).tobytes()])
        np.testing.assert_array_equal(y, table)


@pytest.mark.parametrize("kind", ["mul", "logistic"])
def test_models_of_one_operation(kind):
    for seed in range(100):
        data, inputs, expected = random_case(kind, seed)
        model = Model(data)
        (op,), program = model.operations, bytes(model._program)
        for x, y in zip(inputs, expected, strict=True):
            arena = bytearray(model.arena_bytes)
            arena[op.x : op.x + x.size] = x.tobytes()
            found, _, _ = execute(CORE, program, arena)
            assert found[op.y : op.y + y.size] == y.tobytes()


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 5, 7), (4, 4, 16), (10, 10, 64)])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("shift", [-31, -7, -1, 0, 5])
def test_cycles_of_products(size, whole, shift):
    x = bytes(size[0] * size[1] * size[2])
    _, spent, foretold = compare(record(MUL, *size, row=(9, 0, shift), whole=whole), [x, x], False)
    assert spent == foretold
    # What is clipped takes 7 more, at either end.
    for y_zero in (127, -128):
        clipped = record(
            MUL, *size, row=(9, 0, shift), whole=whole, y_zero=y_zero, low=-100, high=100
        )
        _, spent, _ = compare(clipped, [x, x], second=False)
        assert spent == foretold + 7 * len(x)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 32, 100, 6400])
def test_cycles_of_the_logistic_function(n):
    _, spent, foretold = compare(record(LOGISTIC, 1, 1, n, table=bytes(256)), [bytes(n)], False)
    assert spent == foretold


def test_code_is_short():
    assert len(logistic()) <= 192
    for channels in (False, True):
        for twice in (False, True):
            shape = Mul(channels, twice, -100, 100)
            assert len(mul(shape)) <= 220
