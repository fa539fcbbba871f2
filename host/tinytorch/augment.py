"""Variations of motion windows, as other people, other hands and other speeds would make them."""

import numpy as np
from numpy.typing import NDArray


def rotations(rng: np.random.Generator, count: int, degrees: float) -> NDArray[np.float32]:
    """Rotations (count, 3, 3) about random axes, of normally distributed angles (Rodrigues)."""
    axis = rng.normal(size=(count, 3))
    x, y, z = (axis / np.linalg.norm(axis, axis=1, keepdims=True)).T
    o = np.zeros(count)
    cross = np.array([[o, -z, y], [z, o, -x], [-y, x, o]]).transpose(2, 0, 1)
    angle = np.deg2rad(rng.normal(0, degrees, (count, 1, 1)))
    turned = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return turned.astype(np.float32)


def augment(
    windows: NDArray[np.int16],
    rng: np.random.Generator,
    speed: float = 0.4,
    shift: float = 0.1,
    warp: float = 0.1,
    degrees: float = 20.0,
    scale: float = 0.4,
    noise: float = 0.05,
) -> NDArray[np.int16]:
    """Each window (N, window, C) once more, differently.

    speed: log of the largest stretch or squeeze of time; shift: largest move, in windows;
    warp: largest swing of a wave that bends time, in windows; degrees: standard deviation of the
    turn of the sensor, whose channels are groups of three axes; scale: log of the largest change
    of size about the mean; noise: in standard deviations of a channel.
    """
    count, length, channels = windows.shape

    def uniform(limit: float, *more: int) -> NDArray[np.float64]:
        return rng.uniform(-limit, limit, (count, 1, *more))

    time = np.arange(length) - (length - 1) / 2
    wave = np.sin(uniform(np.pi) + 2 * np.pi * (1.25 + uniform(0.75)) * time / length)
    at = time * np.exp(uniform(speed)) + (uniform(shift) + uniform(warp) * wave) * length
    at = np.clip(at + (length - 1) / 2, 0, length - 1)
    left = np.minimum(at.astype(np.int64), length - 2)
    part = (at - left)[..., None].astype(np.float32)
    row = np.arange(count)[:, None]
    x = windows[row, left] * (1 - part) + windows[row, left + 1] * part

    turned = rotations(rng, count, degrees)  # the whole sensor: all its axes together
    for c in range(0, channels - 2, 3):
        x[..., c : c + 3] = x[..., c : c + 3] @ turned
    mean = x.mean(1, keepdims=True)
    x = mean + (x - mean) * np.exp(uniform(scale, 1))
    x += noise * windows.std((0, 1)) * rng.normal(size=x.shape)
    return np.clip(np.rint(x), -32768, 32767).astype(np.int16)
