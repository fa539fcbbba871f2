"""Buffers are used again, but never one that somebody can still see."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tinytorch.ops import memory


def place(a):
    return a.__array_interface__["data"][0]


@pytest.mark.parametrize("dtype", [np.float32, np.dtype("f4"), np.float64, np.int64])
def test_a_free_buffer_comes_again(dtype):
    a = memory.empty((123, 457), dtype)
    assert a.shape == (123, 457) and a.dtype == dtype and a.flags.c_contiguous
    where = place(a)
    view = a[5:].T[3]
    del a
    b = memory.empty((123, 457), dtype)
    assert place(b) != where  # a view still holds the first one
    del view
    assert place(memory.empty((457, 123), dtype)) == where


def test_order_in_memory():
    images = np.empty((2, 9, 40, 30), np.float32)
    for a in (images, images.transpose(0, 3, 1, 2), images[:, ::2], images.transpose(3, 2, 1, 0)):
        assert memory.empty_like(a).strides == np.empty_like(a).strides
        assert memory.empty_like(a).shape == a.shape
    assert memory.empty((0, 5)).shape == (0, 5)


def test_the_limit(monkeypatch):
    monkeypatch.setattr(memory, "LIMIT", 1 << 20)
    held = [memory.empty((100, 1000)) for _ in range(20)]
    assert len({place(a) for a in held}) == 20
    assert memory._bytes <= 1 << 20


def test_threads_get_buffers_of_their_own():
    def fill(number):
        for _ in range(200):
            a = memory.empty((90, 100))
            a[...] = number
            if (a != number).any():
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(fill, range(8)))
