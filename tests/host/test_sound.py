"""Features of sound: numpy against the specification, and that against real arithmetic."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft, signal

from tests.conftest import ROOT
from tests.sounds import random_case, random_signal
from tinytorch.qops import kernels
from tinytorch.qops.mel import Engine
from tinytorch.sensing.mel import Front, tables
from tinytorch_core import mel, model
from tinytorch_core.model import RECORD_BYTES, Op


@pytest.mark.parametrize("seed", range(40))
def test_numpy_equals_the_specification(seed):
    case = random_case(seed)
    arena = np.frombuffer(case.arena, np.int8).reshape(1, -1).copy()
    kernels.KERNELS[model.MEL](arena, case.program, 0)
    assert arena[0, case.y : case.y + len(case.expected)].tobytes() == case.expected


def test_random_features_are_not_all_alike():
    expected = [random_case(seed).expected for seed in range(40)]
    assert sum(len(set(y)) > 2 for y in expected) > 20


def levels_of(front: Front) -> Engine:
    """A front end whose levels are looked at, and no features."""
    matrix, bias = np.ones((1, front.bands), np.int16), np.zeros(1, np.int32)
    return Engine(tables(front, matrix, bias, 8), 0, front.window, 1)


def decibels(front: Front, x: np.ndarray) -> np.ndarray:
    """Mel energies of frames in float64, in dB, by scipy's window and Fourier transform."""
    power = np.abs(fft.rfft(x * signal.get_window("hann", front.window), front.points)) ** 2
    edges, bins = front.edges(), np.arange(front.points // 2 + 1)[:, None]
    rise, fall = (bins - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - bins) / np.diff(edges)[1:]
    return 10 * np.log10(power @ np.clip(np.minimum(rise, fall), 0, None) + 1e-12)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_levels_are_those_of_real_arithmetic(rate):
    front = Front.usual(rate, floor=-20000)
    rng = np.random.default_rng(rate)
    at = np.arange(20 * front.window)
    # A voice: harmonics that fall by 12 dB an octave, over noise 50 dB below.
    voice = sum(np.sin(2 * np.pi * 140 * k * at / rate) / k**2 for k in range(1, 25))
    errors = []
    for size in (30, 1000, 20000):
        x = np.rint(size * (voice + rng.normal(0, 0.003, len(at)))).astype(np.int16)
        frames = sliding_window_view(x, front.window)[:: front.hop]
        levels = levels_of(front).levels(frames)
        errors.append(levels * 10 * np.log10(2) / 256 - decibels(front, frames))
    error = np.concatenate(errors)
    error = np.abs(error - np.median(error))  # what scales everything alike is no error
    assert np.median(error) < 0.02
    assert np.quantile(error, 0.99) < 0.5


def test_a_louder_signal_has_levels_that_are_higher_by_so_much():
    front = Front.usual(8000)
    x = np.random.default_rng(1).normal(0, 1000, (8, front.window))
    quiet, loud = (levels_of(front).levels(np.rint(x * k).astype(np.int16)) for k in (1, 8))
    assert np.abs(loud - quiet - 6 * 256).max() < 20


def test_a_tone_is_loudest_in_its_band():
    front = Front.usual(16000, high=7600)
    edges = front.edges()
    for band in range(front.bands):
        tone = np.sin(2 * np.pi * edges[band + 1] / front.points * np.arange(front.window))
        levels = levels_of(front).levels(np.rint(9000 * tone).astype(np.int16)[None])
        assert levels[0].argmax() == band


def test_silence_and_full_scale_stay_within_the_tables():
    for rate in (8000, 16000):
        front = Front.usual(rate)
        x = np.array([np.full(front.window, v) for v in (0, 1, -32768, 32767)]).astype(np.int16)
        levels = levels_of(front).levels(x)
        assert (levels[0] == front.floor).all()
        assert levels.min() >= front.floor and levels.max() < 12288


def test_bad_settings_are_refused_in_one_sentence():
    for said, settings in {
        "do not fit below half": {"high": 5000.0},
        "does not fit into an FFT": {"window": 520},
        "must be an even number": {"window": 319},
        "more bands": {"bands": 2},
    }.items():
        usual = {"window": 320, "points": 512, **settings}
        with pytest.raises(ValueError, match=said):
            Front(8000, usual.pop("window"), 160, usual.pop("points"), **usual)
    with pytest.raises(ValueError, match="smaller shift"):
        tables(Front.usual(8000), np.full((1, 20), 32767, np.int16), np.zeros(1, np.int32), 8)


def test_a_record_with_damaged_tables_is_refused():
    case = random_case(3)
    op = Op(case.program, 0)
    fields = (op.in_h, op.kernel_h, op.stride_h, op.out_h, op.out_c)
    assert mel.check(case.program, op.table, *fields) > 0
    t = mel.Tables(case.program, op.table)
    damaged = {name: (at, 0xFF) for at, name in enumerate(mel.HEAD) if name != "floor"}
    for name, (at, byte) in damaged.items():
        program = bytearray(case.program)
        program[RECORD_BYTES + 4 * at + 3] = byte  # far too large, or negative
        assert mel.check(program, op.table, *fields) == 0, name
    for place in (t.order, t.counts + 1, t.weights):
        program = bytearray(case.program)
        program[RECORD_BYTES + place + (place == t.order)] = 0xFF
        assert mel.check(program, op.table, *fields) == 0
    assert mel.check(case.program, op.table + 4, *fields) == 0
    assert mel.check(case.program[:-8], op.table, *fields) == 0
    assert mel.check(case.program, op.table, op.in_h - 3, *fields[1:]) == 0


def test_signals_of_the_cases_differ():
    rng = np.random.default_rng(0)
    assert len({random_signal(rng, 40).tobytes() for _ in range(50)}) > 25


def test_a_recording_keeps_within_a_tenth_of_a_decibel():
    path = ROOT.parent / "shared/data/kws_commands12_8k_valtest.npz"
    if not path.exists():
        pytest.skip(f"the recordings of speech are not there: {path.name}")
    coded = np.load(path, allow_pickle=False)["data"][:60].astype(np.float64) / 127.5 - 1
    clips = np.rint(32767 * np.sign(coded) * np.expm1(np.abs(coded) * np.log(256)) / 255)
    front = Front.usual(8000)
    frames = sliding_window_view(clips, front.window, 1)[:, :: front.hop]
    frames = frames.reshape(-1, front.window).astype(np.int16)
    levels = levels_of(front).levels(frames)
    heard = levels > front.floor
    error = (levels * 10 * np.log10(2) / 256 - decibels(front, frames))[heard]
    error = np.abs(error - np.median(error))
    assert error.mean() < 0.02 and np.quantile(error, 0.99) < 0.12
