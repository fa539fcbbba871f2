"""Memory for the arrays of a step, used again in the next one.

A training step needs the same arrays every time. Fresh ones cost page faults, more than the
arithmetic on them: so a buffer that nobody refers to any more is handed out again. Whoever still
holds an array, or a view of it, keeps its buffer.
"""

from functools import lru_cache
from math import prod
from sys import getrefcount
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

SMALL = 1 << 13  # elements; below, the system's allocator is as fast
LIMIT = 1 << 30  # bytes; when the buffers reach it, all are left to those who use them

_buffers: dict[tuple[int, Any], list[NDArray[Any]]] = {}
_bytes = 0
_lock = Lock()


def _first_unused(buffers: list[NDArray[Any]], references: int) -> "NDArray[Any] | None":
    for buffer in buffers:
        if getrefcount(buffer) == references:
            return buffer
    return None


# Those of the list, the loop and the call, as far as this version of Python counts them.
_UNUSED = next(n for n in range(8) if _first_unused([np.empty(1)], n) is not None)


def empty(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Like numpy.empty: a C-contiguous array with any content."""
    global _bytes
    size = prod(shape)
    if size < SMALL:
        return np.empty(shape, dtype)
    if dtype is not np.float32:
        dtype = np.dtype(dtype).type
    with _lock:
        buffers = _buffers.get((size, dtype))
        if buffers is None:
            buffers = _buffers[size, dtype] = []
        buffer = _first_unused(buffers, _UNUSED)
        if buffer is not None:
            return buffer.reshape(shape)
        buffer = np.empty(size, dtype)
        _bytes += buffer.nbytes
        if _bytes > LIMIT:
            _buffers.clear()
            _bytes = 0
        else:
            buffers.append(buffer)
        return buffer.reshape(shape)


def empty_like(a: NDArray[Any]) -> NDArray[Any]:
    """An array of the shape, type and order in memory of `a`, as numpy.empty_like gives."""
    if a.flags.c_contiguous:
        return empty(a.shape, a.dtype)
    order, back = _orders(a.strides)
    return empty(tuple([a.shape[d] for d in order]), a.dtype).transpose(back)


@lru_cache
def _orders(strides: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """The dimensions from the widest stride to the narrowest, and the way back."""
    order = sorted(range(len(strides)), key=lambda d: -strides[d])
    return order, sorted(range(len(strides)), key=order.__getitem__)
