"""Variations of signals and images, as other people, other places and other devices would give.

A signal is (C, T), channels by samples in time; an image (C, H, W). Each transform also takes a
batch of them, (N, C, T) or (N, C, H, W), in one go, and draws for each sample on its own. It takes
arrays and tensors, gives back the same kind, and leaves what it got as it was. What computes new
values gives floats (float64 for float64, else float32); what only moves or hides them keeps their
type.

Chance comes from the generator that is given with the call, `transform(x, generator)`, and else
from the common one, which in a DataLoader is the batch's own. p: how likely a sample is changed.
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
    """Transforms one after the other; a function of a sample or a batch is one, too."""

    def __init__(self, transforms: Iterable[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, x: Any, generator: Chance | None = None) -> Any:
        with nullcontext() if generator is None else random.drawing_from(lambda: generator):
            for transform in self.transforms:
                x = transform(x)
        return x


class Normalize:
    """(x - mean) / std. mean, std: numbers, or arrays that broadcast with a sample."""

    def __init__(self, mean: ArrayLike, std: ArrayLike) -> None:
        self.mean = np.asarray(mean, np.float64)
        self.std = np.asarray(std, np.float64)
        if not np.all(self.std > 0):
            raise ValueError("Normalize: std must be positive: divide by 1 what never changes.")

    @staticmethod
    def fit(data: Any) -> "Normalize":
        """From a batch (N, C, ...), for each channel; std 1 for one that never changes."""
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
    """What varies samples of `ndim` dimensions: subclasses write `change`."""

    ndim = 2

    def __init__(self, p: float = 1.0) -> None:
        self.p = _limit(self, "p", p, 1.0)

    def change(self, x: Array, chance: Chance) -> Array:
        """A batch (N, ...), every sample of it changed; N may be 0."""
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


def _spread(chance: Chance, limit: float, *shape: int) -> Array:
    return chance.uniform(-limit, limit, shape)


def _neighbours(at: Array, n: int) -> tuple[Array, Array, Array]:
    """For places between the samples 0 to n - 1: the sample before, the one after, and the way
    from the one to the other, in 0..1. Outside, the samples at the edges go on."""
    at = np.clip(at, 0, n - 1)
    before = np.minimum(at.astype(np.int64), max(n - 2, 0))
    return before, np.minimum(before + 1, n - 1), at - before


# Signals.


class Jitter(Transform):
    """Normally distributed noise. std: one number, or one for each channel."""

    def __init__(self, std: ArrayLike, p: float = 1.0) -> None:
        super().__init__(p)
        self.std = np.asarray(std, np.float32)[..., None]
        _limit(self, "std", self.std.min(), np.inf)

    def change(self, x: Array, chance: Chance) -> Array:
        return _floats(x) + self.std * chance.standard_normal(x.shape, np.float32)


class Scale(Transform):
    """Larger or smaller about the mean of each channel, by a factor from 1 / `most` to `most`."""

    def __init__(self, most: float, p: float = 1.0) -> None:
        super().__init__(p)
        self.most = _limit(self, "most", most, np.inf, 1.0)

    def change(self, x: Array, chance: Chance) -> Array:
        x = _floats(x)
        factor = np.exp(_spread(chance, np.log(self.most), len(x), 1, 1)).astype(x.dtype)
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
    """The sensor, turned about a random axis.

    Its channels are groups of three axes, which all turn together; one or two that are left over
    stay. degrees: standard deviation of the angle.
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
    """Time runs at another speed, and that speed changes on the way.

    speed: the largest factor, the smallest is its inverse; bend: the largest swing of a wave, of
    half a turn to two turns, that moves samples back and forth, as a share of T. Between samples it
    interpolates; the samples at the edges go on beyond them.
    """

    def __init__(self, speed: float = 1.25, bend: float = 0.05, p: float = 1.0) -> None:
        super().__init__(p)
        self.speed = _limit(self, "speed", speed, np.inf, 1.0)
        self.bend = _limit(self, "bend", bend, 1.0)

    def change(self, x: Array, chance: Chance) -> Array:
        x = _floats(x)
        n, _, length = x.shape
        time = np.arange(length) - (length - 1) / 2
        turns = 1.25 + _spread(chance, 0.75, n, 1)
        wave = np.sin(_spread(chance, np.pi, n, 1) + 2 * np.pi * turns * time / length)
        at = time * np.exp(_spread(chance, np.log(self.speed), n, 1))
        at += _spread(chance, self.bend * length, n, 1) * wave + (length - 1) / 2
        before, after, part = (a[:, None] for a in _neighbours(at, length))
        part = part.astype(x.dtype)
        left, right = (np.take_along_axis(x, index, 2) for index in (before, after))
        return left + part * (right - left)


class TimeShift(Transform):
    """Earlier or later by up to `most` as a share of T; the sample at the edge goes on."""

    def __init__(self, most: float, p: float = 1.0) -> None:
        super().__init__(p)
        self.most = _limit(self, "most", most, 1.0)

    def change(self, x: Array, chance: Chance) -> Array:
        n, _, length = x.shape
        steps = np.rint(_spread(chance, self.most * length, n, 1)).astype(np.int64)
        at = np.clip(np.arange(length) + steps, 0, length - 1)
        return np.take_along_axis(x, at[:, None], 2)


class TimeFlip(Transform):
    """Backwards in time."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def change(self, x: Array, chance: Chance) -> Array:
        return x[..., ::-1].copy()


def _crop(owner: Transform, x: Array, size: tuple[int, ...], padding: int, chance: Chance) -> Array:
    """Pieces of `size` in the last dimensions, each at a place of its own."""
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
    """A piece of `size` samples, from anywhere: (C, T) -> (C, size). padding: zeros at both ends
    of the signal before."""

    def __init__(self, size: int, padding: int = 0) -> None:
        super().__init__()
        self.size = int(_limit(self, "size", size, np.inf, 1))
        self.padding = int(_limit(self, "padding", padding, np.inf))

    def change(self, x: Array, chance: Chance) -> Array:
        return _crop(self, x, (self.size,), self.padding, chance)


class _Mask(Transform):
    """A block of up to `size` along each of `dims`, at any place, becomes `value`."""

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
    """All channels become `value` for a while, of 1 to `size` samples (SpecAugment, 2019)."""

    dims = (-1,)


class ChannelMask(_Mask):
    """1 to `size` neighbouring channels become `value`, as bands of a spectrum (SpecAugment)."""

    dims = (-2,)


# Images.


class RandomCrop(Transform):
    """A piece from anywhere: (C, H, W) -> (C, *size). size: (height, width), or a number for both;
    padding: zeros on all four sides before."""

    ndim = 3

    def __init__(self, size: int | tuple[int, int], padding: int = 0) -> None:
        super().__init__()
        self.size = size if isinstance(size, tuple) else (size, size)
        _limit(self, "size", min(self.size), np.inf, 1)
        self.padding = int(_limit(self, "padding", padding, np.inf))

    def change(self, x: Array, chance: Chance) -> Array:
        return _crop(self, x, self.size, self.padding, chance)


class HorizontalFlip(TimeFlip):
    """Left and right change places."""

    ndim = 3


class Mask(_Mask):
    """A rectangle with sides of 1 to `size` becomes `value` (Cutout, DeVries and Taylor, 2017)."""

    ndim = 3
    dims = (-2, -1)


class Affine(Transform):
    """Turned about the middle and moved. degrees: largest turn; shift: largest move, as a share of
    each side. Between pixels it interpolates; the pixels at the edges go on beyond them."""

    ndim = 3

    def __init__(self, degrees: float = 0.0, shift: float = 0.0, p: float = 1.0) -> None:
        super().__init__(p)
        self.degrees = _limit(self, "degrees", degrees, 180.0)
        self.shift = _limit(self, "shift", shift, 1.0)

    def change(self, x: Array, chance: Chance) -> Array:
        x = _floats(x)
        n, _, height, width = x.shape
        angle = np.deg2rad(_spread(chance, self.degrees, n, 1, 1))
        down, right = _spread(chance, self.shift, 2, n, 1, 1)
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
