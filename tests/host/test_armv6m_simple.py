"""Pooling and addition in machine code, on the emulated core: every byte as the specification's."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.operations import random_case
from tests.sweeps import examples, sweep
from tinytorch.machine.armv6m.add import Add, add
from tinytorch.machine.armv6m.pool import Pool, pool
from tinytorch.modelfile.runtime import Model
from tinytorch_core import qops
from tinytorch_core.model import (
    ADD,
    AVG_POOL,
    FIELDS,
    MAX_POOL,
    RECORD,
    RECORD_BYTES,
    Op,
    check,
)
from tinytorch_core.quant import quantize_multiplier
from tito.kits.cortex_m0 import RAM, Core

GUARD = 0x55
CORE = Core()
UNIT = (1 << 30, 0)


def record(kind, in_h, in_w, in_c, **fields):
    """The program of one operation, with its tensors one after the other in the arena; by default
    one value is a window, and nothing is clipped."""
    fields = {
        "kernel_h": 1, "kernel_w": 1, "stride_h": 1, "stride_w": 1, "pad_h": 0, "pad_w": 0,
        "low": -128, "high": 127, "rows": (), **fields,
    }  # fmt: skip
    for out, size, kernel, stride, pad in (
        ("out_h", in_h, fields["kernel_h"], fields["stride_h"], fields["pad_h"]),
        ("out_w", in_w, fields["kernel_w"], fields["stride_w"], fields["pad_w"]),
    ):
        fields.setdefault(out, (size + 2 * pad - kernel) // stride + 1)
    fields.update(kind=kind, in_h=in_h, in_w=in_w, in_c=in_c, out_c=in_c, table=RECORD_BYTES)
    size = -(-in_h * in_w * in_c // 4) * 4
    # Eight bytes of guard are before each tensor.
    fields.update(x=8, x2=16 + size, y=24 + 2 * size, scratch=0)
    program = struct.pack(RECORD, *(fields.get(name, 0) for name in FIELDS))
    program += b"".join(struct.pack("<3i", *row) for row in fields["rows"])
    check(program, 1, 1 << 20)
    return program


def shape_of(op, program, inputs=(-128, 127)):
    return Add.of(op, program) if op.kind == ADD else Pool.of(op, inputs)


def execute(program, arena, inputs=(-128, 127)):
    """The arena after the operation as the core runs it, without the scratch, and the cycles."""
    op = Op(program, 0)
    shape = shape_of(op, program, inputs)
    if isinstance(shape, Add):
        code = add(shape)
        words = [op.x, op.x2, op.y, -(-len(arena) // 4) * 4, op.table]
        room = words[3] + shape.scratch_bytes(op, program)
    else:
        code, words, room = pool(shape), [op.x, op.y], len(arena)
    places = [RAM]
    for n in (len(program), room, len(code)):
        places.append(places[-1] + -(-n // 16) * 16)
    at_program, at_arena, at_code, at_block = places
    CORE.write(at_program, program)
    CORE.write(at_arena, arena)
    CORE.write(at_code, code)
    CORE.write(at_block, struct.pack(f"<{len(words) + 1}i", at_code | 1, *words))
    spent = CORE.call(at_code, at_arena, at_program, at_block)
    assert CORE.result == 0
    return CORE.read(at_arena, len(arena)), spent, shape


def compare(program, inputs, reach=(-128, 127)):
    """Run an operation on these bytes, both ways; the cycles, and those that were foretold."""
    op = Op(program, 0)
    arena = bytearray([GUARD]) * (op.y + op.out_h * op.out_w * op.out_c + 8)
    for at, values in zip((op.x, op.x2), inputs, strict=False):
        arena[at : at + len(values)] = values
    found, spent, shape = execute(program, bytes(arena), reach)
    qops.KERNELS[op.kind](arena, program, 0)
    assert found == arena
    return spent, shape.cycles(op)


def values(rng, n, low=-128, high=127):
    """Bytes: any, the ends of the range alone, or close to zero."""
    spread = rng.choice(["any", "ends", "small"])
    if spread == "any":
        x = rng.integers(low, high + 1, n)
    elif spread == "ends":
        x = rng.choice([low, high], n)
    else:
        x = np.clip(rng.integers(-3, 4, n), low, high)
    return x.astype(np.int8).tobytes()


@st.composite
def poolings(draw, kind):
    """Programs of one pooling, with at most some thousand taps, and the range of its inputs."""

    def number(low, high):
        return draw(st.integers(low, high))

    channels = draw(st.sampled_from([1, 2, 3, 4, 5, 6, 8, 12, 16, 20, 64, 260, 264]))
    most = max(3, 2000 // channels)
    if draw(st.booleans()):
        size = (1, number(1, most))
    else:
        h = number(1, max(1, int(most**0.5)))
        size = (h, number(1, most // h))
    kernel, stride, pad, out = [], [], [], []
    for n in size:
        whole = number(0, 3) == 0  # often the whole image, or what meets it without padding
        kernel.append(n if whole else number(1, min(n + 2, 12)))
        stride.append(number(1, 5))
        inside = kernel[-1] <= n and draw(st.booleans())
        pad.append(0 if inside else number(0, min(kernel[-1] - 1, 8)))
        # Up to the last window that begins in the padded image.
        many = (n - kernel[-1]) // stride[-1] if inside else (n - 1 + pad[-1]) // stride[-1]
        out.append(number(1, min(many, 3000 // (channels * kernel[-1])) + 1))
    low, high = sorted((number(-128, 127), number(-128, 127)))
    if draw(st.booleans()):
        low, high = -128, 127
    reach = draw(st.sampled_from([(-128, 127), (low, high), (-128, -1), (0, 127)]))
    program = record(
        kind, *size, channels, kernel_h=kernel[0], kernel_w=kernel[1], stride_h=stride[0],
        stride_w=stride[1], pad_h=pad[0], pad_w=pad[1], out_h=out[0], out_w=out[1],
        low=low, high=high,
    )  # fmt: skip
    return program, reach


@sweep
@pytest.mark.parametrize("kind", [MAX_POOL, AVG_POOL])
def test_pooling_is_the_specification(kind):
    @settings(max_examples=examples(200, long=700), deadline=None)
    @given(poolings(kind), st.integers(0, 1 << 32))
    def holds(case, seed):
        program, reach = case
        op = Op(program, 0)
        x = values(np.random.default_rng(seed), op.in_h * op.in_w * op.in_c, *reach)
        spent, foretold = compare(program, [x], reach)
        assert abs(spent - foretold) <= 0.03 * spent + 10

    holds()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6, 125, 128, 255, 256, 257, 258, 511, 1000])
@pytest.mark.parametrize("channels", [1, 4])
def test_means_beside_their_borders(n, channels):
    """Sums just at, below and above those where the mean changes, a channel each."""
    totals = [
        k * n + (n >> 1) + by
        for k in (-129, -128, -127, -2, -1, 0, 1, 126, 127)
        for by in (-1, 0, 1)
    ]
    totals = [total for total in totals if -128 * n <= total <= 127 * n]
    totals += [-128 * n] * (-len(totals) % 4 + channels % 4)
    x = [[total // n + (i < total % n) for total in totals] for i in range(n)]
    program = record(AVG_POOL, n, 1, len(totals), kernel_h=n)
    compare(program, [np.array(x, np.int8).tobytes()])


@pytest.mark.parametrize("channels", [3, 4, 8])
def test_large_windows_that_reach_beyond_the_image(channels):
    """Some have so many pixels that sums need more than 16 bits, some have fewer."""
    program = record(
        AVG_POOL, 20, 20, channels, kernel_h=18, kernel_w=19, stride_h=5, stride_w=4,
        pad_h=6, pad_w=5, low=-100, high=90,
    )  # fmt: skip
    for seed in range(6):
        x = values(np.random.default_rng(seed), 400 * channels)
        spent, foretold = compare(program, [x])
        assert abs(spent - foretold) <= 0.03 * spent


@st.composite
def additions(draw):
    """Programs of one addition, as the quantizer writes them and at the ends of what they allow."""
    n = draw(st.sampled_from([1, 2, 3, 5, 64, 139, 140, 141, 200, 333]))
    if draw(st.booleans()):
        a, b, y = (2.0 ** draw(st.floats(-6, 6)) for _ in range(3))
        top = 2 * max(a, b)
        factors = [quantize_multiplier(f) for f in (a / top, b / top, top / ((1 << 20) * y))]
    else:
        # With shifts up to these, the total stays below 2**30.
        multipliers = st.sampled_from([0, 1 << 30, (1 << 30) + 1, (1 << 31) - 1])
        shifts = [draw(st.integers(-31, most)) for most in (0, 0, 1)]
        factors = [(draw(multipliers), shift) for shift in shifts]
    offset = st.integers(-127, 128)
    offsets = draw(offset), draw(offset), draw(st.integers(-128, 127))
    rows = [(each, *factor) for each, factor in zip(offsets, factors, strict=True)]
    low, high = sorted(draw(st.tuples(st.integers(-128, 127), st.integers(-128, 127))))
    if draw(st.booleans()):
        low, high = -128, 127
    return record(ADD, 1, 1, n, low=low, high=high, rows=rows)


@sweep
@settings(max_examples=examples(200, long=700), deadline=None)
@given(additions(), st.integers(0, 1 << 32))
def test_addition_is_the_specification(program, seed):
    rng = np.random.default_rng(seed)
    n = Op(program, 0).in_c
    compare(program, [values(rng, n), values(rng, n)])


@pytest.mark.parametrize(
    "rows",
    [
        [(0, *UNIT), (0, *UNIT), (0, 1 << 30, -18)],
        [(128, 1234567890, -3), (-7, *UNIT), (-128, 1999999999, -19)],
        [(-127, (1 << 31) - 1, 0), (128, (1 << 31) - 1, 0), (127, (1 << 31) - 1, -21)],
    ],
)
def test_addition_of_all_pairs(rows):
    pairs = np.arange(1 << 16)
    x, x2 = ((each & 255).astype(np.uint8).tobytes() for each in (pairs >> 8, pairs))
    compare(record(ADD, 256, 256, 1, rows=rows), [x, x2])


def test_a_tensor_plus_itself():
    rows = [(5, *UNIT), (5, *UNIT), (-3, 1 << 30, -18)]
    program = bytearray(record(ADD, 1, 1, 200, rows=rows))
    struct.pack_into("<i", program, 4 * FIELDS.index("x2"), Op(program, 0).x)
    x = values(np.random.default_rng(0), 200)
    compare(bytes(program), [x, x])


@pytest.mark.parametrize("kind", ["max_pool", "avg_pool", "add"])
def test_models_of_one_operation(kind):
    for seed in range(100):
        data, inputs, expected = random_case(kind, seed)
        model = Model(data)
        (op,), program = model.operations, bytes(model._program)
        for x, y in zip(inputs, expected, strict=True):
            arena = bytearray(model.arena_bytes)
            arena[op.x : op.x + x.size] = x.tobytes()
            found, _, _ = execute(program, bytes(arena))
            assert found[op.y : op.y + y.size] == y.tobytes()


FULL = {"kernel_h": 25, "kernel_w": 5}
SUM = [(3, *UNIT), (-5, 1800000000, -2), (0, 1 << 30, -17)]


@pytest.mark.parametrize(
    ("program", "most"),
    [
        (record(AVG_POOL, 25, 5, 64, **FULL), 15_454),
        (record(AVG_POOL, 20, 20, 8, kernel_h=20, kernel_w=20), 10_398),
        (record(AVG_POOL, 9, 9, 6, kernel_h=3, kernel_w=3, stride_h=3, stride_w=3), 4_593),
        (record(MAX_POOL, 32, 1, 16, kernel_h=4, stride_h=4), 2_001),
        (record(MAX_POOL, 32, 4, 32, kernel_h=2, stride_h=2), 15_608),
        (record(MAX_POOL, 16, 16, 16, kernel_h=2, kernel_w=2, stride_h=2, stride_w=2), 15_849),
        (
            record(
                MAX_POOL, 16, 16, 16, kernel_h=3, kernel_w=3, stride_h=2, stride_w=2,
                pad_h=1, pad_w=1,
            ),
            44_342,
        ),
        (record(ADD, 1, 1, 100, rows=SUM), 16_979),
        (record(ADD, 10, 5, 64, rows=SUM), 115_137),
    ],
)  # fmt: skip
def test_cycles(program, most):
    op = Op(program, 0)
    rng = np.random.default_rng(0)
    inputs = rng.integers(-25, 25, (2, op.in_h * op.in_w * op.in_c)).astype(np.int8)
    spent, foretold = compare(program, [each.tobytes() for each in inputs])
    assert spent <= most
    assert abs(spent - foretold) <= 0.03 * spent


def test_what_limits_cost():
    """Limits that inputs keep anyway are left out."""
    program = record(MAX_POOL, 8, 8, 4, kernel_h=2, kernel_w=2, low=-128, high=-1)
    op = Op(program, 0)
    assert shape_of(op, program, (-128, -1)) == shape_of(op, program, (-100, -20))
    free, clipped = shape_of(op, program, (-128, -1)), shape_of(op, program)
    assert isinstance(free, Pool) and (free.low, free.high) == (-128, 127)
    assert isinstance(clipped, Pool) and (clipped.low, clipped.high) == (-128, -1)
    assert free.cycles(op) < clipped.cycles(op)
