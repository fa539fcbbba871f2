"""Data sets and the batches that training takes from them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch.autograd import Tensor
from tinytorch.random import generator

Batch = tuple[Tensor, ...]


class Dataset:
    """Samples by number: write `__len__`, and `__getitem__` that returns a tuple of arrays.

    Arrays, tensors and numbers all do; those at one place of the tuple have one shape.
    """

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        raise NotImplementedError

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """The samples of `indices`, stacked."""
        samples = [self[int(i)] for i in indices]
        if not all(isinstance(sample, (tuple, list)) for sample in samples):
            kind = type(samples[0]).__name__
            raise TypeError(f"{type(self).__name__}: a sample is {kind}: return a tuple of arrays.")
        return tuple(Tensor(np.stack(column)) for column in zip(*samples, strict=True))


class TensorDataset(Dataset):
    """Arrays or tensors of the same length, such as inputs (N, ...) and labels (N,)."""

    def __init__(self, *arrays: Any) -> None:
        self.arrays = [Tensor(a).data for a in arrays]
        lengths = [len(a) for a in self.arrays]
        if len(set(lengths)) != 1:
            raise ValueError(f"TensorDataset: the lengths {lengths} differ.")

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return tuple(a[index] for a in self.arrays)

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        return tuple(Tensor(a[indices]) for a in self.arrays)


class DataLoader:
    """Batches of a data set; shuffling draws from the generator that `manual_seed` starts."""

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"DataLoader: batch_size={batch_size} is not positive.")
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last

    def __len__(self) -> int:
        """The number of batches."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        n = len(self.dataset)
        order = generator.permutation(n) if self.shuffle else np.arange(n)
        for i in range(len(self)):
            yield self.dataset.batch(order[i * self.batch_size : (i + 1) * self.batch_size])
