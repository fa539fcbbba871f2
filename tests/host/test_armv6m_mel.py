"""MEL in machine code, on the emulated cores: every byte as the specification's, and its cycles."""

import struct

import numpy as np
import pytest

from tests.networks import fill
from tests.second_core import SecondCore
from tests.sounds import random_case
from tests.sweeps import examples, sweep
from tinytorch import nn
from tinytorch.machine.armv6m.mel import Mel, mel, possible
from tinytorch.machine.attach import attach
from tinytorch.machine.backend import BOARDS
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.qops.mel import Engine
from tinytorch.quantize.calibrate import quantize
from tinytorch.quantize.streaming import stream, with_sound
from tinytorch.sensing.mel import MOST_LEVEL, Front, cepstrum, sound_features, tables, tables_of
from tinytorch_core.mel import scratch_bytes
from tinytorch_core.model import FIELDS, MEL, RECORD, RECORD_BYTES, Op
from tito.kits.cortex_m0 import RAM, Core, CoreModel

FIRST, SECOND = Core(), SecondCore()


def execute(core, program, arena):
    """The arena after the operation as the core runs it, and the cycles that it took."""
    op = Op(program, 0)
    code = mel(Mel.of(op, program))
    places = [RAM]
    for n in (len(program), len(arena) + 16, len(code)):
        places.append(places[-1] + -(-n // 16) * 16)
    at_program, at_arena, at_code, at_block = places
    for at, data in zip(places, (program, arena + b"guard" * 3, code), strict=False):
        core.write(at, data)
    words = [at_code | 1, op.x, op.y, op.scratch, op.table]
    core.write(at_block, struct.pack("<5i", *words))
    spent = core.call(at_code, at_arena, at_program, at_block)
    assert core.result == 0
    assert core.read(at_arena + len(arena), 15) == b"guard" * 3
    assert core.read(at_program, len(program)) == program
    return core.read(at_arena, len(arena)), spent


def case_of(front, x, values=10):
    """The program of frames x (N, window), one after the other, the arena and its features."""
    transform = cepstrum(values, front.bands)
    matrix = np.rint(transform * (1 << 10)).astype(np.int16)
    bias = np.rint(transform.sum(1) * -4000 * (1 << 10)).astype(np.int32)
    block = tables(front, matrix, bias, 15)
    y = x.size * 2
    scratch = y + -(-len(x) * values // 4) * 4
    fields = {
        "kind": MEL, "x": 0, "y": y, "in_h": x.size, "in_w": 1, "in_c": 2, "out_h": len(x),
        "out_w": 1, "out_c": values, "kernel_h": front.window, "stride_h": front.window,
        "low": -128, "high": 127, "table": RECORD_BYTES, "scratch": scratch,
    }  # fmt: skip
    program = struct.pack(RECORD, *(fields.get(name, 0) for name in FIELDS)) + block
    arena = x.astype("<i2").tobytes() + bytes([7]) * (scratch - y)
    arena += bytes([99]) * scratch_bytes(front.points, front.bands)
    expected = Engine(block, 0, front.window, values).features(x)
    return program, arena, y, expected


def features(core, front, x):
    program, arena, y, expected = case_of(front, x)
    found, spent = execute(core, program, arena)
    assert found[:y] == arena[:y]  # samples are kept
    found = np.frombuffer(found, np.int8, expected.size, y).reshape(expected.shape)
    assert np.array_equal(found, expected)
    op = Op(program, 0)
    return found, spent, Mel.of(op, program).cycles(op)


@sweep
@pytest.mark.parametrize(
    ("core", "seeds"), [(FIRST, range(examples(15, long=60))), (SECOND, range(9))]
)
def test_random_front_ends_are_the_specification(core, seeds):
    for seed in seeds:
        case = random_case(seed)
        found, _ = execute(core, case.program, case.arena)
        assert found[case.y : case.y + len(case.expected)] == case.expected, seed
        assert found[: case.y] == case.arena[: case.y]


@pytest.mark.parametrize("rate", [8000, 16000])
def test_signals_at_the_ends_of_what_there_is(rate):
    front = Front.usual(rate)
    n, rng = front.window, np.random.default_rng(rate)
    at = np.arange(n)
    frames = [np.full(n, value) for value in (0, 1, -1, 2, -2, 16383, 16384, 32767, -32767, -32768)]
    for value in (1, -1, -4096, 8191, 32767, -32768):
        frames += [value * (at == place) for place in (0, 1, n // 2, n - 2, n - 1)]
    for half in (1, 2, 3, 5, 8, 40, n // 2):
        frames += [np.where(at // half % 2, 32767, -32768), np.where(at // half % 2, -1, 1)]
    for most in (1, 2, 255, 32767):
        frames += [rng.integers(-most, most + 1, n), rng.choice([-most - 1, most], n)]
    found, _, _ = features(FIRST, front, np.array(frames))
    assert len(np.unique(found, axis=0)) > len(frames) / 3


@pytest.mark.parametrize(("rate", "step"), [(8000, 11), (16000, 51)])
def test_tones(rate, step):
    front = Front.usual(rate)
    bins = np.arange(1, front.points // 2, step)[:, None]
    for size, phase in ((32767, 0.5), (20, 0)):
        turns = bins * np.arange(front.window) / front.points
        x = np.rint(size * np.cos(2 * np.pi * turns + phase)).astype(np.int16)
        features(FIRST, front, x)


def test_sums_that_reach_the_ends_of_32_bits():
    front = Front.usual(8000, bands=8, floor=-MOST_LEVEL)
    most = ((1 << 31) - 1) // (MOST_LEVEL * front.bands)
    matrix = np.full((2, front.bands), min(most, 32767), np.int16) * [[1], [-1]]
    reach = int(matrix[0].sum()) * MOST_LEVEL
    bias = np.array([(1 << 31) - 1 - reach, reach - (1 << 31) + 1], np.int32)
    x = np.array([np.zeros(front.window), np.resize([32767, -32768], front.window)], np.int16)
    program, arena, y, _ = case_of(front, x, 2)
    block = tables(front, matrix.astype(np.int16), bias, 24)
    found, _ = execute(FIRST, program[:RECORD_BYTES] + block, arena)
    expected = Engine(block, 0, front.window, 2).features(x)
    assert found[y : y + expected.size] == expected.tobytes()


@pytest.mark.parametrize(
    ("rate", "held", "promised"), [(8000, 2_890_350, 5e6), (16000, 5_899_625, 10e6)]
)
def test_cycles_of_a_second(rate, held, promised):
    front = Front.usual(rate)
    x = np.random.default_rng(1).normal(0, 1000, (2, front.window)).astype(np.int16)
    _, spent, foretold = features(FIRST, front, x)
    assert 25 * spent <= min(1.003 * held, promised)
    assert foretold == pytest.approx(spent, rel=0.01)
    program = case_of(front, x)[0]
    assert len(mel(Mel.of(Op(program, 0), program))) <= 2048


def test_tables_of_an_unknown_kind_are_refused():
    front = Front.usual(8000)
    program, _, _, _ = case_of(front, np.zeros((1, front.window), np.int16))
    op = Op(program, 0)
    assert possible(op, program)
    t = Mel.of(op, program).tables
    for at in (t.twiddle, t.twiddle + 2, t.twiddle + t.points):
        changed = bytearray(program)
        changed[op.table + at] ^= 1
        assert not possible(op, bytes(changed))


@pytest.mark.parametrize(("hop", "window", "core"), [(20, 40, FIRST), (25, 60, SECOND)])
def test_a_model_of_sound_runs_in_machine_code(hop, window, core):
    rng = np.random.default_rng(hop)
    net = nn.Sequential(nn.Conv2d(1, 4, (4, 3), (2, 1), (0, 1)), nn.Flatten(), nn.Linear(80, 3))
    fill(net, rng)
    net.eval()
    network = quantize(net, rng.normal(0, 1, (16, 1, 10, 5)), name="sound", labels=[], tier="lane")
    front = Front(8000, window, hop, 64, bands=10)
    clips = rng.normal(0, 2000, (3, 9 * hop + window)).astype(np.int16)
    block = tables_of(sound_features(clips, front, 5, 10))
    model = Model(to_bytes(with_sound(stream(network, 2), block, window, hop)))
    x = rng.normal(0, 2000, (12, 2 * hop)).astype(np.int16)
    expected = model.run_stream(x[None])[0]
    assert len(np.unique(expected[5:], axis=0)) > 1
    machine = CoreModel(attach(model.data, BOARDS["rp2040"].architecture), core)
    for step, y in zip(x, expected, strict=True):
        np.testing.assert_array_equal(machine.run(step)[0], y)
    machine.reset()
    np.testing.assert_array_equal(machine.run(x[0])[0], expected[0])
