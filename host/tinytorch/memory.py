"""Memory for the arrays of a step, used again in the next one.

A training step needs the same arrays every time. Fresh ones cost page faults, more than the
arithmetic on them: so a buffer that nobody refers to any more is handed out again. Whoever still
holds an array, or a view of it, keeps its buffer.
"""

import sys
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

SMALL = 1 << 15  # bytes; below, the system's allocator is as fast
_LIMIT = 64  # free and used buffers of one size that are watched; more are left to the system

_buffers: dict[int, list[NDArray[np.uint8]]] = {}
_lock = Lock()
_UNUSED = 3  # references to a buffer that only the list, the loop and getrefcount hold


def empty(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Like numpy.empty: a C-contiguous array with any content."""
    dtype = np.dtype(dtype)
    size = dtype.itemsize
    for n in shape:
        size *= n
    if size < SMALL:
        return np.empty(shape, dtype)
    with _lock:
        buffers = _buffers.setdefault(size, [])
        for buffer in buffers:
            if sys.getrefcount(buffer) == _UNUSED:
                return np.ndarray(shape, dtype, buffer)
        buffer = np.empty(size, np.uint8)
        if len(buffers) < _LIMIT:
            buffers.append(buffer)
        return np.ndarray(shape, dtype, buffer)


def empty_like(a: NDArray[Any]) -> NDArray[Any]:
    """An array of the shape, type and order in memory of `a`, as numpy.empty_like gives."""
    order = sorted(range(a.ndim), key=lambda d: -a.strides[d])
    fresh = empty(tuple(a.shape[d] for d in order), a.dtype)
    return fresh.transpose(sorted(range(a.ndim), key=order.__getitem__))


def clear() -> None:
    """Give all buffers that nobody uses back to the system."""
    with _lock:
        _buffers.clear()
