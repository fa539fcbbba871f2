"""Metrics: what to know of a net besides its loss, summed up batch by batch.

Class scores are (N, C) beside class numbers (N,), or (..., C) beside (...), or as cross_entropy
takes them (N, C, ...) beside (N, ...).
"""

from typing import Any

import numpy as np

from tinytorch.autograd.tensor import Tensor
from tinytorch.ops.array import Array


class Metric:
    """`add` each batch, then ask for the `value`; `reset` starts again.

    For a metric of your own write `measure` and `value`. sums: all that it remembers, the sum of
    what `measure` returned; a checkpoint in the midst of an epoch keeps it.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what was added."""
        self.sums: Array = np.zeros(0)

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """A batch. Raises ValueError for outputs that do not fit the targets."""
        new = np.asarray(self.measure(outputs.data, targets.data), np.float64)
        self.sums = self.sums + new if self.sums.size else new

    def measure(self, outputs: Array, targets: Array) -> Any:
        """What to sum: numbers or an array, of the same shape for every batch."""
        raise NotImplementedError(f"{type(self).__name__}: write measure.")

    def value(self) -> Any:
        """The metric of all that was added."""
        raise NotImplementedError(f"{type(self).__name__}: write value.")

    def _mean(self) -> float:
        if not self.sums.size or not self.sums[1]:
            raise ValueError(f"{type(self).__name__}: there is no value without a sample.")
        return float(self.sums[0] / self.sums[1])


def scores_last(outputs: Array, targets: Array) -> "Array | None":
    """Class scores as (..., C) beside targets (...), or None for what are no class scores."""
    if targets.dtype.kind in "iu" and outputs.ndim == targets.ndim + 1:
        if outputs.shape[:-1] == targets.shape:
            return outputs
        if outputs.shape[:1] + outputs.shape[2:] == targets.shape:
            return np.moveaxis(outputs, 1, -1)
    return None


def _scores(metric: Metric, outputs: Array, targets: Array) -> Array:
    scores = scores_last(outputs, targets)
    name = type(metric).__name__
    if scores is None:
        raise ValueError(
            f"{name}: outputs {outputs.shape} of {outputs.dtype} do not fit targets "
            f"{targets.shape} of {targets.dtype}; scores (N, C) and class numbers (N,) do."
        )
    if targets.size and not 0 <= targets.min() <= targets.max() < scores.shape[-1]:
        raise ValueError(
            f"{name}: the targets go from {targets.min()} to {targets.max()}: with "
            f"{scores.shape[-1]} classes they must lie from 0 to {scores.shape[-1] - 1}."
        )
    return scores


class TopK(Metric):
    """How often the target is among the k largest outputs: 0..1."""

    def __init__(self, k: int) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f"TopK: k={k}: give a whole number from 1.")
        self.k = k

    def measure(self, outputs: Array, targets: Array) -> Any:
        """The samples whose class is among the k largest scores, and all of them."""
        scores = _scores(self, outputs, targets)
        own = np.take_along_axis(scores, targets[..., None], -1)
        # Of equal scores the first is the larger one, as for argmax.
        first = np.arange(scores.shape[-1]) < targets[..., None]
        before = ((scores > own) | ((scores == own) & first)).sum(-1)
        return (before < self.k).sum(), targets.size

    def value(self) -> float:
        """The share of samples whose class is among the k largest scores."""
        return self._mean()


class Accuracy(Metric):
    """How often the largest output is the target: 0..1."""

    def measure(self, outputs: Array, targets: Array) -> Any:
        """The samples whose largest score is the class, and all of them."""
        return (_scores(self, outputs, targets).argmax(-1) == targets).sum(), targets.size

    def value(self) -> float:
        """The share of samples whose largest score is the class."""
        return self._mean()


class ConfusionMatrix(Metric):
    """How often a class (row) was taken for a class (column): int64 (C, C)."""

    def measure(self, outputs: Array, targets: Array) -> Array:
        """(classes, classes) counts of a batch: rows are targets, columns answers."""
        scores = _scores(self, outputs, targets)
        counts = np.zeros((scores.shape[-1],) * 2)
        np.add.at(counts, (targets, scores.argmax(-1)), 1)
        return counts

    def value(self) -> Any:
        """(classes, classes) counts: rows are targets, columns answers."""
        return self.sums.astype(np.int64)


class _Macro(ConfusionMatrix):
    """The plain mean over the classes that are among the targets or the answers: 0..1."""

    def value(self) -> float:
        if not self.sums.sum():
            raise ValueError(f"{type(self).__name__}: there is no value without a sample.")
        right, true, said = self.sums.diagonal(), self.sums.sum(1), self.sums.sum(0)
        present = true + said > 0
        return float(self._of(right[present], true[present], said[present]).mean())

    def _of(self, right: Array, true: Array, said: Array) -> Array:
        raise NotImplementedError


class Precision(_Macro):
    """Of what was taken for a class, the share that is of it; the mean over the classes."""

    def _of(self, right: Array, true: Array, said: Array) -> Array:
        return right / np.maximum(said, 1)


class Recall(_Macro):
    """Of what is of a class, the share that was found; the mean over the classes."""

    def _of(self, right: Array, true: Array, said: Array) -> Array:
        return right / np.maximum(true, 1)


class F1(_Macro):
    """The harmonic mean of precision and recall; the mean over the classes."""

    def _of(self, right: Array, true: Array, said: Array) -> Array:
        return 2 * right / (true + said)


class _Error(Metric):
    def measure(self, outputs: Array, targets: Array) -> Any:
        if outputs.shape != targets.shape:
            raise ValueError(
                f"{type(self).__name__}: outputs {outputs.shape} do not fit targets "
                f"{targets.shape}: give both one shape."
            )
        difference = outputs.astype(np.float64) - targets
        return self._of(difference).sum(), difference.size

    def value(self) -> float:
        return self._mean()

    def _of(self, difference: Array) -> Array:
        raise NotImplementedError


class MeanAbsoluteError(_Error):
    """The mean of |output - target| over all numbers."""

    def _of(self, difference: Array) -> Array:
        return np.abs(difference)


class MeanSquaredError(_Error):
    """The mean of (output - target)^2 over all numbers."""

    def _of(self, difference: Array) -> Array:
        return difference**2
