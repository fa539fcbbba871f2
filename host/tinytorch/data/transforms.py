"""Data augmentation: random transforms of signals and images.

A signal is (C, T), channels by samples in time; an image is (C, H, W). Each transform also takes a
batch, (N, C, T) or (N, C, H, W), and draws independently for each of its samples. It takes arrays
and tensors, returns the same kind, and does not change its input. Transforms that compute new
values return float64 for float64 and float32 for all other types; those that only move or mask
values keep the type.

Random numbers come from the generator passed with the call, `transform(x, generator)` (default: the
common one, which in a DataLoader is the batch's own). p: the probability that a sample is changed.
"""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from tinytorch import random
from tinytorch.autograd.tensor import Tensor

Array = NDArray[Any]
Chance = np.random.Generator
KINDS = {2: ("a signal (C, T)", "(N, C, T)"), 3: ("an image (C, H, W)", "(N, C, H, W)")}


class Compose:
    """Applies transforms in order; any function of a sample or a batch can be one of them."""

    def __init__(self, transforms: Iterable[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, x: Any, generator: Chance | None = None) -> Any:
        with nullcontext() if generator is None else random.drawing_from(lambda: generator):
            for transform in self.transforms:
                x = transform(x)
        return x


class Normalize:
    """(x - mean) / std. mean, std: floats, or arrays that broadcast with a sample."""

    def __init__(self, mean: ArrayLike, std: ArrayLike) -> None:
        self.mean = np.asarray(mean, np.float64)
        self.std = np.asarray(std, np.float64)
        if not np.all(self.std > 0):
            raise ValueError("Normalize: std must be positive: use 1 for a constant channel.")

    @staticmethod
    def fit(data: Any) -> "Normalize":
        """The mean and std of each channel of (N, C, ...); std 1 for a constant channel."""
        x = np.asarray(data)
        if x.ndim < 2 or not x.size or not np.isfinite(x).all():
            raise ValueError(
                f"Normalize.fit: shape {x.shape}: give samples (N, C, ...), at least one, without "
                "NaN and infinity."
            )
        others = (0, *range(2, x.ndim))
        mean, std = (f(others, dtype=np.float64, keepdims=True)[0] for f in (x.mean, x.std))
        return Normalize(mean, np.where(std > 0, std, 1.0))

    def __call__(self, x: Any, generator: Chance | None = None) -> Any:
        array = _floats(x.data if isinstance(x, Tensor) else np.asarray(x))
        out = (array - self.mean.astype(array.dtype)) / self.std.astype(array.dtype)
        return Tensor(out) if isinstance(x, Tensor) else out


class Transform:
    """The base class of random transforms of samples with `ndim` dimensions."""

    ndim = 2

    def __init__(self, p: float = 1.0) -> None:
        self.p = _limit(self, "p", p, 1.0)

    def change(self, x: Array, chance: Chance) -> Array:
        """Change every sample of a batch (N, ...), where N may be 0; subclasses define it."""
        raise NotImplementedError

    def __call__(self, x: Any, generator: Chance | None = None) -> Any:
        chance = random.generator if generator is None else generator
        array = x.data if isinstance(x, Tensor) else np.asarray(x)
        if array.ndim not in (self.ndim, self.ndim + 1):
            one, many = KINDS[self.ndim]
            raise ValueError(
                f"{type(self).__name__}: shape {array.shape} is neither {one} nor a batch of them, "
                f"{many}."
            )
        batch = array if array.ndim > self.ndim else array[None]
        if self.p == 1.0:
            out = self.change(batch, chance)
        else:
            chosen = chance.random(len(batch)) < self.p
            changed = self.change(batch[chosen], chance)
            out = batch.astype(changed.dtype)
            out[chosen] = changed
        out = out if array.ndim > self.ndim else out[0]
        return Tensor(out) if isinstance(x, Tensor) else out


def _limit(owner: Any, name: str, value: float, largest: float, least: float = 0.0) -> float:
    if not least <= value <= largest:
        bounds = f"from {least:g}" + (f" to {largest:g}" if np.isfinite(largest) else "")
        raise ValueError(f"{type(owner).__name__}: {name}={value}: give a number {bounds}.")
    return value


def _floats(x: Array) -> Array:
    return x if x.dtype == np.float64 else x.astype(np.float32, copy=False)


def _uniform(chance: Chance, limit: float, *shape: int) -> Array:
    return chance.uniform(-limit, limit, shape)


def _neighbours(at: Array, n: int) -> tuple[Array, Array, Array]:
    """For positions among samples 0 to n - 1: the sample before, the one after, and the fraction of
    the distance between them, 0..1. Positions outside are clipped to the edges."""
    at = np.clip(at, 0, n - 1)
    before = np.minimum(at.astype(np.int64), max(n - 2, 0))
    return before, np.minimum(before + 1, n - 1), at - before


# Signals.


class Jitter(Transform):
    """Adds Gaussian noise. std: a float, or one for each channel."""

    def __init__(self, std: ArrayLike, p: float = 1.0) -> None:
        super().__init__(p)
        self.std = np.asarray(std, np.float32)[..., None]
        _limit(self, "std", self.std.min(), np.inf)

    def change(self, x: Array, chance: Chance) -> Array:
        return _floats(x) + self.std * chance.standard_normal(x.shape, np.float32)


class Scale(Transform):
    """Scales about the mean of each channel by a random factor from 1 / `most` to `most`."""

    def __init__(self, most: float, p: float = 1.0) -> None:
        super().__init__(p)
        self.most = _limit(self, "most", most, np.inf, 1.0)

    def change(self, x: Array, chance: Chance) -> Array:
        x = _floats(x)
        factor = np.exp(_uniform(chance, np.log(self.most), len(x), 1, 1)).astype(x.dtype)
        mean = x.mean(2, keepdims=True)
        return mean + (x - mean) * factor


def rotations(chance: Chance, count: int, degrees: float) -> NDArray[np.float32]:
    """Rotations (count, 3, 3) about random axes, of normally distributed angles (Rodrigues)."""
    axis = chance.normal(size=(count, 3))
    x, y, z = (axis / np.linalg.norm(axis, axis=1, keepdims=True)).T
    o = np.zeros(count)
    cross = np.array([[o, -z, y], [z, o, -x], [-y, x, o]]).transpose(2, 0, 1)
    angle = np.deg2rad(chance.normal(0, degrees, (count, 1, 1)))
    turned = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return turned.astype(np.float32)


class RotateAxes(Transform):
    """Rotates the sensor about a random axis.

    Channels are groups of three axes, which all rotate together; one or two left over are not
    changed. degrees: standard deviation of the angle.
    """

    def __init__(self, degrees: float, p: float = 1.0) -> None:
        super().__init__(p)
        self.degrees = _limit(self, "degrees", degrees, np.inf)

    def change(self, x: Array, chance: Chance) -> Array:
        n, channels, length = x.shape
        if channels < 3:
            raise ValueError(
                f"RotateAxes: a signal of {channels} channels has no three axes to turn."
            )
        out = np.array(_floats(x))
        groups = channels // 3
        axes = out[:, : 3 * groups].reshape(n, groups, 3, length)
        turned = rotations(chance, n, self.degrees)[:, None] @ axes
        out[:, : 3 * groups] = turned.reshape(n, 3 * groups, length)
        return out


class TimeWarp(Transform):
    """Warps time: a random speed, which varies along the signal.

    speed: the largest factor, the smallest is its inverse; bend: the largest swing of a sine
    wave of half a period to two periods that moves samples back and forth, as a fraction of T.
    Samples are interpolated linearly; edge samples are repeated.
    """

    def __init__(self, speed: float = 1.25, bend: float = 0.05, p: float = 1.0) -> None:
        super().__init__(p)
        self.speed = _limit(self, "speed", speed, np.inf, 1.0)
        self.bend = _limit(self, "bend", bend, 1.0)

    def change(self, x: Array, chance: Chance) -> Array:
        x = _floats(x)
        n, _, length = x.shape
        time = np.arange(length) - (length - 1) / 2
        turns = 1.25 + _uniform(chance, 0.75, n, 1)
        wave = np.sin(_uniform(chance, np.pi, n, 1) + 2 * np.pi * turns * time / length)
        at = time * np.exp(_uniform(chance, np.log(self.speed), n, 1))
        at += _uniform(chance, self.bend * length, n, 1) * wave + (length - 1) / 2
        before, after, part = (a[:, None] for a in _neighbours(at, length))
        part = part.astype(x.dtype)
        left, right = (np.take_along_axis(x, index, 2) for index in (before, after))
        return left + part * (right - left)


class TimeShift(Transform):
    """Shifts in time by up to `most`, a fraction of T; the edge sample is repeated."""

    def __init__(self, most: float, p: float = 1.0) -> None:
        super().__init__(p)
        self.most = _limit(self, "most", most, 1.0)

    def change(self, x: Array, chance: Chance) -> Array:
        n, _, length = x.shape
        steps = np.rint(_uniform(chance, self.most * length, n, 1)).astype(np.int64)
        at = np.clip(np.arange(length) + steps, 0, length - 1)
        return np.take_along_axis(x, at[:, None], 2)


class TimeFlip(Transform):
    """Reverses time."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def change(self, x: Array, chance: Chance) -> Array:
        return x[..., ::-1].copy()


def _crop(owner: Transform, x: Array, size: tuple[int, ...], padding: int, chance: Chance) -> Array:
    """Crops of `size` in the last dimensions, each at its own random position."""
    dims = len(size)
    x = np.pad(x, [(0, 0)] * (x.ndim - dims) + [(padding, padding)] * dims)
    if any(s > n for s, n in zip(size, x.shape[-dims:], strict=True)):
        raise ValueError(
            f"{type(owner).__name__}: size {size} does not fit into {x.shape[-dims:]}, padding "
            "included."
        )
    pieces = sliding_window_view(x, size, tuple(range(-dims, 0)))
    starts = [chance.integers(0, pieces.shape[2 + d], len(x)) for d in range(dims)]
    place: tuple[Any, ...] = (np.arange(len(x)), slice(None), *starts)
    return pieces[place]


class TimeCrop(Transform):
    """Crops `size` samples at a random position: (C, T) -> (C, size). padding: zeros added to both
    ends before."""

    def __init__(self, size: int, padding: int = 0) -> None:
        super().__init__()
        self.size = int(_limit(self, "size", size, np.inf, 1))
        self.padding = int(_limit(self, "padding", padding, np.inf))

    def change(self, x: Array, chance: Chance) -> Array:
        return _crop(self, x, (self.size,), self.padding, chance)


class _Mask(Transform):
    """Sets a random block of up to `size` along each of `dims` to `value`."""

    dims: tuple[int, ...]

    def __init__(self, size: int, value: float = 0.0, p: float = 1.0) -> None:
        super().__init__(p)
        self.size = int(_limit(self, "size", size, np.inf, 1))
        self.value = value

    def change(self, x: Array, chance: Chance) -> Array:
        hidden = np.ones((len(x), *(1,) * self.ndim), bool)
        for dim in self.dims:
            n = x.shape[dim]
            size = chance.integers(1, min(self.size, n) + 1, (len(x), 1))
            start = chance.integers(0, n - size + 1)
            inside = (np.arange(n) >= start) & (np.arange(n) < start + size)
            hidden = hidden & np.expand_dims(inside, [d for d in range(-self.ndim, 0) if d != dim])
        return np.where(hidden, np.asarray(self.value, x.dtype), x)


class TimeMask(_Mask):
    """Sets all channels to `value` for 1 to `size` samples (SpecAugment, Park et al., 2019)."""

    dims = (-1,)


class ChannelMask(_Mask):
    """Sets 1 to `size` neighbouring channels to `value` (SpecAugment, Park et al., 2019)."""

    dims = (-2,)


# Images.


class RandomCrop(Transform):
    """Crops at a random position: (C, H, W) -> (C, *size). size: (height, width), or an int for
    both; padding: zeros added to all four sides before."""

    ndim = 3

    def __init__(self, size: int | tuple[int, int], padding: int = 0) -> None:
        super().__init__()
        self.size = size if isinstance(size, tuple) else (size, size)
        _limit(self, "size", min(self.size), np.inf, 1)
        self.padding = int(_limit(self, "padding", padding, np.inf))

    def change(self, x: Array, chance: Chance) -> Array:
        return _crop(self, x, self.size, self.padding, chance)


class HorizontalFlip(TimeFlip):
    """Flips left and right."""

    ndim = 3


class Mask(_Mask):
    """Sets a rectangle with sides of 1 to `size` to `value` (Cutout, DeVries and Taylor, 2017)."""

    ndim = 3
    dims = (-2, -1)


class Affine(Transform):
    """Turned about the middle and moved. degrees: largest turn; shift: largest move, as a share of
    each side. Pixels are interpolated linearly; edge pixels are repeated."""

    ndim = 3

    def __init__(self, degrees: float = 0.0, shift: float = 0.0, p: float = 1.0) -> None:
        super().__init__(p)
        self.degrees = _limit(self, "degrees", degrees, 180.0)
        self.shift = _limit(self, "shift", shift, 1.0)

    def change(self, x: Array, chance: Chance) -> Array:
        x = _floats(x)
        n, _, height, width = x.shape
        angle = np.deg2rad(_uniform(chance, self.degrees, n, 1, 1))
        down, right = _uniform(chance, self.shift, 2, n, 1, 1)
        row = np.arange(height)[:, None] - (height - 1) / 2
        column = np.arange(width) - (width - 1) / 2
        y = np.cos(angle) * row - np.sin(angle) * column + (height - 1) / 2 + down * height
        z = np.sin(angle) * row + np.cos(angle) * column + (width - 1) / 2 + right * width
        above, below, part_y = _neighbours(y, height)
        left, right, part_z = _neighbours(z, width)
        part_y, part_z = (part[:, None].astype(x.dtype) for part in (part_y, part_z))
        sample = np.arange(n)[:, None, None]

        def pixels(row: Array, column: Array) -> Array:
            return x[sample, :, row, column].transpose(0, 3, 1, 2)

        upper, lower = (
            pixels(row, left) * (1 - part_z) + pixels(row, right) * part_z for row in (above, below)
        )
        return upper + part_y * (lower - upper)
