"""Data sets, and the batches that training takes from them: PyTorch's `torch.utils.data`.

A data set is anything with `len(data)` and `data[i]`. Its samples are made one by one and stacked,
unless it has a faster way to a whole batch: `Dataset.batch`.
"""

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch import random
from tinytorch.autograd.tensor import Tensor

Indices = NDArray[np.int64]
Collate = Callable[[list[Any]], Any]


class Dataset:
    """Samples by number: write `__len__` and `__getitem__`.

    A sample is a tensor, an array or a number, or a tuple, list or dict of them.
    """

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__}: write __len__.")

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__}: write __getitem__.")

    def __add__(self, other: "Dataset") -> "ConcatDataset":
        return ConcatDataset([self, other])

    def batch(self, indices: Indices) -> Any:
        """The samples of `indices` as one batch."""
        return default_collate([self[int(i)] for i in indices])


def _batch(dataset: Any, indices: Indices) -> Any:
    """A batch of a data set, or of what only looks like one, such as a list of samples."""
    if isinstance(dataset, Dataset):
        return dataset.batch(indices)
    return default_collate([dataset[int(i)] for i in indices])


def default_collate(samples: Sequence[Any]) -> Any:
    """Samples of one kind as one batch.

    Tensors, arrays and numbers become a Tensor (N, ...), Python's floats one of float64; tuples
    and lists become a list of batches, named tuples and dicts one of their kind; text stays text.
    Raises ValueError for samples of different shapes, TypeError for other things.
    """
    first = samples[0]
    if isinstance(first, (Tensor, np.ndarray, np.generic, int, float)):
        arrays = [s.data if isinstance(s, Tensor) else np.asarray(s) for s in samples]
        for a in arrays:
            if a.shape != arrays[0].shape:
                raise ValueError(
                    f"DataLoader: samples of shapes {arrays[0].shape} and {a.shape} do not make a "
                    "batch: give them one shape, or a collate_fn."
                )
        return Tensor(np.stack(arrays))
    if isinstance(first, (str, bytes)):
        return samples
    if isinstance(first, Mapping):
        for s in samples:
            if s.keys() != first.keys():
                raise ValueError(
                    f"DataLoader: samples with the keys {', '.join(map(str, first))} and "
                    f"{', '.join(map(str, s))} do not make a batch: give them the same keys."
                )
        return {key: default_collate([s[key] for s in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        for s in samples:
            if len(s) != len(first):
                raise ValueError(
                    f"DataLoader: samples of {len(first)} and {len(s)} parts do not make a batch: "
                    "give them the same number, or a collate_fn."
                )
        parts = [default_collate(part) for part in zip(*samples, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else parts
    raise TypeError(
        f"DataLoader: samples of type {type(first).__name__} do not make a batch: use tensors, "
        "arrays, numbers, text, tuples or dicts, or a collate_fn."
    )


class TensorDataset(Dataset):
    """Tensors or arrays of the same length, such as inputs (N, ...) and labels (N,)."""

    def __init__(self, *tensors: Any) -> None:
        self.tensors = tuple(Tensor(t) for t in tensors)
        if not tensors or not all(t.ndim for t in self.tensors):
            raise ValueError("TensorDataset: give tensors or arrays with a first dimension.")
        lengths = [len(t) for t in self.tensors]
        if len(set(lengths)) > 1:
            raise ValueError(
                f"TensorDataset: the lengths {lengths} differ: give as many of each as samples."
            )

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(Tensor(t.data[index]) for t in self.tensors)

    def batch(self, indices: Indices) -> list[Tensor]:
        """The samples of these indices, stacked."""
        return [Tensor(t.data.take(indices, 0)) for t in self.tensors]


class ConcatDataset(Dataset):
    """Data sets one after the other."""

    def __init__(self, datasets: Sequence[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: there are no data sets: give at least one.")
        self.cumulative_sizes = list(accumulate(len(d) for d in self.datasets))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(f"ConcatDataset: there is no sample {index} among {len(self)}.")
        index %= len(self)
        which = bisect_right(self.cumulative_sizes, index)
        return self.datasets[which][index - ([0, *self.cumulative_sizes][which])]


class Subset(Dataset):
    """Some samples of a data set, by their numbers."""

    def __init__(self, dataset: Any, indices: Sequence[int] | Indices) -> None:
        self.dataset = dataset
        self.indices = np.array(indices, np.int64)
        n = len(dataset)
        for i in self.indices[(self.indices < -n) | (self.indices >= n)]:
            raise ValueError(f"Subset: there is no sample {i} among {n}.")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]

    def batch(self, indices: Indices) -> Any:
        """The samples of these indices, stacked."""
        return _batch(self.dataset, self.indices[indices])


class Transformed(Dataset):
    """A data set whose samples go through a transform, anew each time that they are asked for.

    It changes the first part of a sample that is a tuple, and else the whole sample.
    batched: whether it takes whole batches as well as samples, as those of tinytorch.transforms do.
    """

    def __init__(
        self, dataset: Any, transform: Callable[[Any], Any], *, batched: bool = True
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.batched = batched

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self._changed(self.dataset[index])

    def batch(self, indices: Indices) -> Any:
        """The samples of these indices, stacked and transformed."""
        if self.batched:
            return self._changed(_batch(self.dataset, indices))
        return super().batch(indices)

    def _changed(self, sample: Any) -> Any:
        if isinstance(sample, (tuple, list)):
            return [self.transform(sample[0]), *sample[1:]]
        return self.transform(sample)


def random_split(
    dataset: Any, lengths: Sequence[float], generator: np.random.Generator | None = None
) -> list[Subset]:
    """Parts of a data set that share no sample, drawn from `generator` or the common one.

    lengths: numbers of samples, or shares that add up to 1; what rounding leaves goes to the first.
    Raises ValueError where they do not add up.
    """
    n = len(dataset)
    counts: list[Any] = list(lengths)
    total = math.fsum(lengths)
    if any(not length >= 0 for length in lengths):
        raise ValueError(f"random_split: {list(lengths)} holds what is no length: use 0 or more.")
    if math.isclose(total, 1):
        counts = [math.floor(n * share) for share in lengths]
        for i in range(n - sum(counts)):
            counts[i % len(counts)] += 1
    if sum(counts) != n or any(count != int(count) for count in counts):
        raise ValueError(
            f"random_split: {list(lengths)} adds up to {total:g}: the data set has {n} samples; "
            "give counts with that sum, or shares with the sum 1."
        )
    order = (generator or random.generator).permutation(n)
    ends = np.cumsum([0, *counts], dtype=np.int64)
    return [Subset(dataset, order[a:b]) for a, b in zip(ends[:-1], ends[1:], strict=True)]


class DataLoader:
    """Batches of a data set, once through for each `for` loop.

    shuffle: in another order each time. num_workers: threads that make batches ahead of the loop,
    `prefetch_factor` each. drop_last: leave out the last batch if it is smaller. collate_fn: makes
    a batch from a list of samples. generator: the source of chance instead of the common one.

    Each loop draws one number from the source, and the order and the chance in each batch follow
    from it: they do not depend on the number of workers.
    Raises ValueError for a data set without a sample.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        num_workers: int = 0,
        collate_fn: Collate | None = None,
        drop_last: bool = False,
        generator: np.random.Generator | None = None,
        prefetch_factor: int = 2,
    ) -> None:
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
            ("prefetch_factor", prefetch_factor, 1),
        ):
            if not isinstance(value, (int, np.integer)) or value < least:
                raise ValueError(f"DataLoader: {name}={value}: give a whole number from {least}.")
        if not len(dataset):
            raise ValueError("DataLoader: the data set is empty: give it at least one sample.")
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.num_workers = num_workers
        self.collate_fn = collate_fn
        self.drop_last = drop_last
        self.generator = generator
        self.prefetch_factor = prefetch_factor

    def __len__(self) -> int:
        """The number of batches."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        source = random.generator if self.generator is None else self.generator
        seed = int(source.integers(1 << 63))
        n = len(self.dataset)
        order = np.random.default_rng(seed).permutation(n) if self.shuffle else np.arange(n)

        def make(number: int) -> Any:
            start = number * self.batch_size
            indices = order[start : start + self.batch_size]
            with random.drawing_from(cache(lambda: np.random.default_rng([seed, number]))):
                if self.collate_fn is None:
                    return _batch(self.dataset, indices)
                return self.collate_fn([self.dataset[int(i)] for i in indices])

        return self._ahead(make) if self.num_workers else map(make, range(len(self)))

    def _ahead(self, make: Callable[[int], Any]) -> Iterator[Any]:
        """The batches in order, from workers who end with the loop, however it ends."""
        pool = ThreadPoolExecutor(self.num_workers, "DataLoader")
        coming: deque[Future[Any]] = deque()
        try:
            for number in range(len(self)):
                coming.append(pool.submit(make, number))
                if len(coming) > self.num_workers * self.prefetch_factor:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
