"""Parameters side by side in one flat array, so that a step is a few calls over long arrays."""

from collections.abc import Iterator
from itertools import accumulate, groupby, pairwise
from typing import Any, NamedTuple

import numpy as np

from tinytorch.autograd.aliasing import MemoryRange, memory_range
from tinytorch.autograd.tensor import Tensor
from tinytorch.ops.array import Array

LARGE = 1 << 16  # elements, from which on a gradient is read where it lies; others are gathered


class Span(NamedTuple):
    """Neighbours that are updated together: all have a gradient and the same age."""

    params: list[Tensor]
    data: Array
    memory: MemoryRange
    gathered: Array  # where their gradients meet
    moments: list[Array]
    ages: Array  # of each parameter, how many steps it has taken

    def gradient(self) -> Array:
        """One array for all of them. Raises ValueError for a gradient of another shape."""
        parts = []
        for p in self.params:
            g = p.grad.data  # type: ignore[union-attr]
            if g.shape != p.data.shape:
                raise ValueError(f"step: a parameter of shape {p.shape} has a gradient {g.shape}.")
            parts.append(g.reshape(-1))
        if len(parts) == 1 and parts[0].flags.carray and parts[0].dtype == self.data.dtype:
            return parts[0]
        return np.concatenate(parts, out=self.gathered)


class Flat:
    """Parameters of one type; the data of each becomes a view of one array.

    state: for each parameter that was stepped, its age ("step") and moments. What is there is
    taken over; as soon as a parameter is stepped, they are views of flat arrays, too.
    """

    def __init__(self, params: list[Tensor], state: dict[Tensor, dict[str, Any]]) -> None:
        self.params = params
        self.state = state
        self.bounds = list(pairwise(accumulate((p.numel() for p in params), initial=0)))
        self.data = np.empty(self.bounds[-1][1], params[0].dtype)
        self._gathered = np.empty_like(self.data)
        self._moments: dict[str, Array] = {}
        self._ages = np.array([int(float(state.get(p, {}).get("step", 0))) for p in params])
        self._homes = [self._part(self.data, i) for i in range(len(params))]
        for p, home in zip(params, self._homes, strict=True):
            home[...] = p.data
            p.data = home
        self._key: Any = None
        self._spans: list[Span] = []

    def _part(self, flat: Array, i: int) -> Array:
        first, end = self.bounds[i]
        return flat[first:end].reshape(self.params[i].shape)

    def at_home(self) -> bool:
        """Whether no parameter was given other data since, as by `Module.to`.

        In a deep copy, or out of a pickle, nothing is a view any more.
        """
        views = self._homes[0].base is self.data
        return views and all(p.data is h for p, h in zip(self.params, self._homes, strict=True))

    def spans(self, names: "tuple[str | None, ...]") -> list[Span]:
        """What is to be stepped now, and counted as stepped by whoever does it.

        names: of the moments; None is for one that is not in use, and any array stands there.
        """
        key = names, [p.grad is None for p in self.params]
        if key != self._key:
            self._key = key
            for name in names:
                if name is not None and name not in self._moments:
                    self._moments[name] = self._collect(name)
            self._spans = [self._span(run, names) for run in self._runs()]
        return self._spans

    def _collect(self, name: str) -> Array:
        """A flat array of what the state holds by this name, or zeros."""
        flat = np.zeros_like(self.data)
        for i, p in enumerate(self.params):
            if p in self.state and name in self.state[p]:
                self._part(flat, i)[...] = self.state[p][name].data
        return flat

    def _runs(self) -> Iterator[list[int]]:
        """The indices of the parameters with a gradient, cut into those of the spans."""
        indices = [i for i, p in enumerate(self.params) if p.grad is not None]

        def which(entry: tuple[int, int]) -> tuple[int, int, int]:
            place, i = entry
            return i - place, self._ages[i], i if self.params[i].numel() >= LARGE else -1

        for _, run in groupby(enumerate(indices), which):
            yield [i for _, i in run]

    def _span(self, run: list[int], names: "tuple[str | None, ...]") -> Span:
        for i in run:
            own = {n: Tensor(self._part(self._moments[n], i)) for n in names if n is not None}
            self.state[self.params[i]] = {"step": Tensor(self._ages[i, ...]), **own}
        part = slice(self.bounds[run[0]][0], self.bounds[run[-1]][1])
        data = self.data[part]
        moments = [self.data if name is None else self._moments[name] for name in names]
        return Span(
            [self.params[i] for i in run], data, memory_range(data), self._gathered[part],
            [flat[part] for flat in moments], self._ages[run[0] : run[-1] + 1],
        )  # fmt: skip
