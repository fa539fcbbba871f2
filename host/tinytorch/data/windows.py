"""Sliding windows of streams as network inputs, as views: only batches are copied."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from tinytorch.utils.data import Subset, TensorDataset

Segment = tuple[int, int, int]  # the first sample, the one after the last, the label


def windows(
    stream: ArrayLike, size: int, step: int | None = None, *, pad: bool = False
) -> NDArray[Any]:
    """A stream (T, C) or (T,) as windows (N, C, size), one every `step` samples (`size` if None).

    The result is a read-only view. pad: complete the last window by repeating the last sample, on a
    copy of the stream (default: drop an incomplete window).

    Raises ValueError for a stream that is shorter than a window without pad.
    """
    x = np.asarray(stream)
    x = x[:, None] if x.ndim == 1 else x
    step = size if step is None else step
    if x.ndim != 2 or not len(x):
        raise ValueError(f"windows: the stream's shape is {x.shape}: give (T, C), T at least 1.")
    if size < 1 or step < 1:
        raise ValueError(f"windows: size {size} and step {step} must be positive.")
    more = max(size - len(x), (size - len(x)) % step) if pad else 0
    if more:
        x = np.pad(x, ((0, more), (0, 0)), "edge")
    if len(x) < size:
        raise ValueError(
            f"windows: a stream of {len(x)} samples holds no window of {size}: pad=True repeats "
            "its last sample."
        )
    return sliding_window_view(x, size, 0)[::step]


def window_labels(
    labels: "ArrayLike | Sequence[Segment]",
    length: int,
    size: int,
    step: int | None = None,
    *,
    pad: bool = False,
) -> NDArray[np.int64]:
    """The most frequent label in each of `windows`, (N,) int64; of equal ones the smallest.

    labels: ints (T,), or segments (start, stop, label), of which later ones override earlier ones,
    of a stream of T = `length` samples. -1 stands for samples without a label.
    Raises ValueError for other labels.
    """
    given = np.asarray(labels)
    if given.ndim == 2 and given.shape[1] == 3 or not given.size:
        per_sample = np.full(length, -1)
        for start, stop, label in given.astype(np.int64):
            if not 0 <= start < stop <= length:
                raise ValueError(
                    f"windows: segment {start} to {stop} does not lie in a stream of {length} "
                    "samples."
                )
            per_sample[start:stop] = label
    else:
        per_sample = given
    if per_sample.shape != (length,) or per_sample.dtype.kind not in "iu" or per_sample.min() < -1:
        raise ValueError(
            f"windows: the labels are {given.dtype} of shape {given.shape}: give ({length},) whole "
            "numbers from 0, -1 for none, or segments (start, stop, label)."
        )
    counted = windows(per_sample.astype(np.int64) + 1, size, step, pad=pad)[:, 0]
    return np.array([np.bincount(w).argmax() for w in counted], np.int64) - 1


class WindowDataset(Subset):
    """The windows (C, size) of a stream (T, C) and their labels, if there are any.

    step, pad: as in `windows`; labels: as in `window_labels`. A window that mostly has no label is
    left out, or has the label `background`.
    """

    def __init__(
        self,
        stream: ArrayLike,
        size: int,
        step: int | None = None,
        labels: "ArrayLike | Sequence[Segment] | None" = None,
        *,
        pad: bool = False,
        background: int | None = None,
    ) -> None:
        x = np.asarray(stream)
        cut = windows(x, size, step, pad=pad)
        if labels is None:
            super().__init__(TensorDataset(cut), np.arange(len(cut)))
            return
        y = window_labels(labels, len(x), size, step, pad=pad)
        if background is not None:
            y[y < 0] = background
        super().__init__(TensorDataset(cut, y), np.flatnonzero(y >= 0))
