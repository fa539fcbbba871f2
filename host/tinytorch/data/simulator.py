"""Strokes of a simulated wand, for use without recordings.

A stroke is a path of minimum-jerk moves (Flash and Hogan, 1985) in the plane before a person. The
wand's accelerometer feels the path's acceleration and gravity, in a hand that tilts, with the
person's own speed and size, and with the sensor's noise, offset and range. None of it was measured.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinytorch.data.recordings import Recordings
from tinytorch.data.transforms import rotations

Path = NDArray[np.float64]  # (T, 3) metres: right, forward, up

CLASSES = ["negative", "ring", "slope", "wing"]
RATE = 25.0
FINE = 8  # steps of the path for each sample of the sensor
G = 9.81
PEOPLE = {"train": 10, "val": 2, "test": 4}
REPEATS = 12  # of every class, by every person
CORNERS = {
    "slope": [(0.6, 1.0), (0.0, 0.0), (1.0, 0.0)],
    "wing": [(0.0, 1.0), (0.25, 0.0), (0.5, 0.8), (0.75, 0.0), (1.0, 1.0)],
}


@dataclass(frozen=True)
class Person:
    pace: float  # of all moves; 1 is usual
    size: float  # metres
    turn: NDArray[np.float32]  # how the wand lies in the hand
    offset: NDArray[np.float64]  # of the sensor, milli-g


def minimum_jerk(steps: int) -> NDArray[np.float64]:
    """A minimum-jerk move from 0 to 1, (steps,)."""
    t = np.linspace(0, 1, steps)
    return t**3 * (10 - 15 * t + 6 * t * t)


def _moves(points: NDArray[np.float64], seconds: NDArray[np.float64]) -> Path:
    """From point to point (P, 2) in the plane, each move in its own time."""
    parts = []
    for a, b, s in zip(points[:-1], points[1:], seconds, strict=True):
        parts.append(a + (b - a) * minimum_jerk(max(4, round(s * RATE * FINE)))[:, None])
    way = np.concatenate(parts)
    return np.stack([way[:, 0], np.zeros(len(way)), way[:, 1]], 1)


def _ring(seconds: float, rng: np.random.Generator) -> Path:
    angle = 2 * np.pi * rng.uniform(0.95, 1.1) * minimum_jerk(round(seconds * RATE * FINE))
    squash = rng.uniform(0.75, 1.2)
    return np.stack([np.sin(angle) * squash, 0 * angle, np.cos(angle)], 1) / 2


def _stroke(kind: str, person: Person, rng: np.random.Generator) -> Path:
    pace = person.pace * rng.uniform(0.85, 1.15)
    if kind == "ring":
        return person.size * _ring(2.0 / pace, rng)
    points = np.array(CORNERS[kind]) + rng.normal(0, 0.06, (len(CORNERS[kind]), 2))
    return person.size * _moves(points, rng.uniform(0.4, 0.65, len(points) - 1) / pace)


def _other(person: Person, rng: np.random.Generator) -> Path:
    """A movement that is no gesture: rest, a single swipe, an aborted gesture, or walking about."""
    kind = rng.integers(4)
    if kind == 0:
        return np.zeros((round(rng.uniform(1.5, 3) * RATE * FINE), 3))
    if kind == 1:
        points = rng.uniform(0, 1, (2, 2))
        return person.size * _moves(points, rng.uniform(0.4, 1.0, 1) / person.pace)
    if kind == 2:
        whole = _stroke(str(rng.choice(CLASSES[1:])), person, rng)
        return whole[: round(len(whole) * rng.uniform(0.25, 0.45))]
    t = np.arange(round(rng.uniform(2, 4) * RATE * FINE))[:, None, None] / (RATE * FINE)
    swing = np.sin(2 * np.pi * (rng.uniform(0.3, 1.8, (3, 3)) * t + rng.uniform(0, 1, (3, 3))))
    return person.size * 0.12 * (swing @ rng.normal(size=(3, 1)))[..., 0]


def _sense(path: Path, person: Person, rng: np.random.Generator) -> NDArray[np.int16]:
    """The accelerometer's samples along a path, with rest at both ends: (T, 3) in milli-g."""
    before, after = (round(s * RATE) * FINE for s in rng.uniform(0.1, 1.0, 2))
    path = np.concatenate([path[:1].repeat(before, 0), path, path[-1:].repeat(after, 0)])
    path = path[: len(path) // FINE * FINE]
    velocity = np.gradient(path, axis=0) * RATE * FINE
    force = np.gradient(velocity, axis=0) * RATE * FINE / G
    force[:, 2] += 1
    # The wrist follows the stroke: turning with the way to the side and up.
    lean = rng.uniform(0.2, 0.8) * (path - path.mean(0))
    force[:, 0] += lean[:, 0]
    force[:, 1] += lean[:, 2]
    force = force.reshape(-1, FINE, 3).mean(1) @ person.turn @ rotations(rng, 1, 8)[0]
    sensed = 1000 * force + person.offset + rng.normal(0, 25, force.shape)
    return np.clip(np.rint(sensed), -2000, 2000).astype(np.int16)


def simulate(seed: int = 0) -> Recordings:
    """Simulated recordings of sixteen people, of whom none is in two splits.

    The same seed gives the same recordings. Classes negative, ring, slope and wing; three axes in
    milli-g at 25 Hz.
    """
    rng = np.random.default_rng(seed)
    signals, labels, splits, subjects = [], [], [], []
    for split, count in PEOPLE.items():
        for number in range(count):
            person = Person(
                pace=rng.uniform(0.75, 1.3),
                size=rng.uniform(0.2, 0.4),
                turn=rotations(rng, 1, 15)[0],
                offset=rng.normal(0, 30, 3),
            )
            for label, kind in enumerate(CLASSES):
                for _ in range(REPEATS):
                    path = _stroke(kind, person, rng) if label else _other(person, rng)
                    signals.append(_sense(path, person, rng))
                    labels.append(label)
                    splits.append(split)
                    subjects.append(f"simulated {split} {number + 1}")
    return Recordings(
        signals=signals,
        labels=np.array(labels, np.int64),
        splits=np.array(splits),
        classes=list(CLASSES),
        rate=RATE,
        source=f"Simulated strokes, seed {seed}.",
        simulated=True,
        subjects=np.array(subjects),
    )
