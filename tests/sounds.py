"""Random front ends and signals for MEL, each a whole operation, for every test of its kernels."""

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinytorch.sensing.mel import MOST_LEVEL, Front, tables
from tinytorch_core import mel, qops
from tinytorch_core.model import FIELDS, MEL, RECORD, RECORD_BYTES


class Case(NamedTuple):
    """A record and its tables, an arena with samples in it, and what MEL must leave at y."""

    program: bytes
    arena: bytes
    y: int
    expected: bytes


def random_front(rng: np.random.Generator) -> Front:
    """Often the usual one of a rate, else another that still fits."""
    rate = int(rng.choice([8000, 16000]))
    high = rate / 2 * rng.uniform(0.5, 1)
    if rng.random() < 0.4:
        return Front.usual(rate, bands=int(rng.integers(12, 41)), high=high)
    points = 1 << int(rng.integers(5, 9))
    window = 2 * int(rng.integers(points // 8, points // 2 + 1))
    return Front(
        rate, window, int(rng.integers(1, window + 1)), points, int(rng.integers(2, 21)),
        rng.uniform(0.1, 800), high, int(rng.integers(-9000, 4000)),
    )  # fmt: skip


def random_matrix(rng: np.random.Generator, bands: int) -> tuple[NDArray, NDArray, int]:
    """Matrix, bias and shift, some so large that sums come near the ends of 32 bits."""
    values, shift = int(rng.integers(1, 21)), int(rng.integers(8, 20))
    most = min(32767, ((1 << 31) - 1) // (2 * MOST_LEVEL * bands))
    size = most if rng.random() < 0.3 else int(rng.integers(1, min(most, (1 << shift) // 40 + 2)))
    matrix = rng.integers(-size, size + 1, (values, bands)).astype(np.int16)
    bias = rng.integers(-(1 << 29), 1 << 29, values) if size == most else -matrix.sum(1) * 3000
    return matrix, bias.astype(np.int32), shift


def random_signal(rng: np.random.Generator, n: int) -> NDArray[np.int16]:
    """Noise, tones, clicks, silence, and what is as loud as can be."""
    amplitude, at = 10 ** rng.uniform(0, 4.6), np.arange(n)
    tone = np.sin(at * rng.uniform(0, np.pi) + rng.uniform(0, 6))
    signals = (
        lambda: rng.normal(0, amplitude, n),
        lambda: amplitude * tone,
        lambda: 32767 * np.sign(tone),
        lambda: amplitude * (rng.random(n) < 4 / n),
        lambda: np.full(n, rng.choice([0, 1, -1, 32767, -32768])),
        lambda: rng.choice([-32768, 32767], n),
    )
    return np.clip(np.rint(signals[rng.integers(len(signals))]()), -32768, 32767).astype(np.int16)


def random_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    while True:
        try:
            front = random_front(rng)
            break
        except ValueError:  # a band with too many bins, or bands that do not fit
            continue
    matrix, bias, shift = random_matrix(rng, front.bands)
    frames = int(rng.integers(1, 4))
    samples = front.window + (frames - 1) * front.hop + int(rng.integers(0, 3))
    x = random_signal(rng, samples)
    low, high = (-128, 127) if rng.random() < 0.7 else sorted(rng.integers(-128, 128, 2).tolist())
    y_at = -(-2 * samples // 4) * 4
    y_bytes = frames * len(matrix)
    scratch = -(-(y_at + y_bytes) // 4) * 4
    values = {
        "kind": MEL, "x": 0, "x2": 0, "y": y_at, "in_h": samples, "in_w": 1, "in_c": 2,
        "out_h": frames, "out_w": 1, "out_c": len(matrix), "kernel_h": front.window, "kernel_w": 1,
        "stride_h": front.hop, "stride_w": 1, "low": low, "high": high, "table": RECORD_BYTES,
        "scratch": scratch,
    }  # fmt: skip
    program = struct.pack(RECORD, *(values.get(f, 0) for f in FIELDS))
    program += tables(front, matrix, bias, shift)
    arena = bytearray(scratch + mel.scratch_bytes(front.points, front.bands))
    arena[: 2 * samples] = x.astype("<i2").tobytes()
    before = bytes(arena)
    qops.mel(arena, program, 0)
    return Case(program, before, y_at, bytes(arena[y_at : y_at + y_bytes]))
