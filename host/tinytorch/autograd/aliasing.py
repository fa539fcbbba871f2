"""Changes of arrays in place: what memory was changed, and when; and which tensors share it.

Time is counted by `sequence_nr`, which tensors and changes have in common: a change with a number
above that of a tensor came after it. What follows for gradients is in tape.py.
"""

import itertools
import weakref
from typing import Any, NamedTuple, Protocol

import numpy as np

from tinytorch.ops.array import Array

sequence_nr = itertools.count()
last_change = -1

_Range = tuple[int, int]  # of addresses
_changes: dict[int, tuple[dict[_Range, int], Any]] = {}  # by the id of the array that owns memory
_MANY = 64


class MemoryRange(NamedTuple):
    """Where an array's numbers are. Who changes the same ones in each step looks it up once."""

    owner: Array
    range: _Range


def memory_range(array: Array) -> MemoryRange:
    """Where the numbers of an array are."""
    return MemoryRange(owner_of(array), _range(array))


def changed(array: Array) -> None:
    """Tell the tape that the numbers of an array were changed in place.

    For all who write `tensor.data` themselves. A gradient that was to be worked out from the old
    numbers raises a RuntimeError then, where it would be wrong in silence.
    """
    changed_at(memory_range(array))


def changed_at(where: MemoryRange) -> None:
    """The same for those who know its memory range already, as optimizers do."""
    global last_change
    owner, part = where
    key = id(owner)
    if key not in _changes:
        _changes[key] = {}, weakref.ref(owner, lambda _: _changes.pop(key, None))
    ranges = _changes[key][0]
    last_change = next(sequence_nr)
    if len(ranges) > _MANY:
        ranges.clear()
        part = _range(owner)
    ranges[part] = last_change


def owner_of(array: Array) -> Array:
    """The array whose memory this one is a view of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _range(array: Array) -> _Range:
    start = end = array.__array_interface__["data"][0]
    for n, step in zip(array.shape, array.strides, strict=True):
        if step < 0:
            start += step * (n - 1)
        else:
            end += step * (n - 1)
    return start, end + array.itemsize


def changed_since(array: Array, number: int) -> bool:
    """Whether any number of an array was changed in place after this sequence number."""
    known = _changes.get(id(owner_of(array)))
    if known is None:
        return False
    start, end = _range(array)
    return any(n > number and s < end and start < e for (s, e), n in known[0].items())


class Aliased(Protocol):
    """A tensor, as far as its memory goes."""

    data: Array
    _aliases: Any


class AliasSet:
    """Tensors that may share memory: one, its views and theirs."""

    def __init__(self, first: Aliased) -> None:
        self.members = [weakref.ref(first)]
        self.limit = 16

    def add(self, t: Aliased) -> None:
        """Take in a tensor that may share memory with the others."""
        t._aliases = self
        self.members.append(weakref.ref(t))
        if len(self.members) > self.limit:  # a parameter has views in every step
            self.members = [m for m in self.members if m() is not None]
            self.limit = 16 + 2 * len(self.members)

    def others(self, t: Aliased) -> list[Any]:
        """Those that share memory with t."""
        found = [m() for m in self.members]
        return [
            o for o in found
            if o is not None and o is not t and np.may_share_memory(o.data, t.data)
        ]  # fmt: skip


def shared(a: Array, b: Array) -> tuple[Array, Array]:
    """The places in flat a and in flat b of the elements that they share; b has each only once."""
    of_a, of_b = (_addresses(x) for x in (a, b))
    order = np.argsort(of_b)
    at = np.searchsorted(of_b, of_a, sorter=order).clip(max=max(len(order) - 1, 0))
    here = np.flatnonzero(of_b[order[at]] == of_a) if len(order) else order
    return here, order[at[here]]


def _addresses(a: Array) -> Array:
    places = np.array(a.__array_interface__["data"][0])
    for n, step in zip(a.shape, a.strides, strict=True):
        places = places[..., None] + np.arange(n) * step
    return places.reshape(-1)
