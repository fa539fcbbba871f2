"""Which type of numbers comes out where different ones meet: PyTorch's rules."""

from typing import Any

import numpy as np

from tinytorch.dtypes import float32, int64
from tinytorch.ops.array import Array

RANKS = {"b": 0, "i": 1, "u": 1, "f": 2}  # of kinds: bools fit into integers, those into floats


def number_type(dtype: np.dtype, number: Any) -> np.dtype:
    """The type of an operation of an array of this type with a Python number."""
    kind = dtype.kind
    if kind == "f" or isinstance(number, bool) or (kind != "b" and isinstance(number, int)):
        return dtype
    return int64 if isinstance(number, int) else float32


def common_type(*arrays: Array) -> np.dtype:
    """The type of an operation of several arrays.

    It is one of bools, integers, floats; an array without dimensions counts only if it is of more.
    """
    full = [a.dtype for a in arrays if a.ndim]
    single = [a.dtype for a in arrays if not a.ndim]
    highest = max([RANKS[d.kind] for d in full], default=-1)
    types = [d for d in full if RANKS[d.kind] == highest]
    more = [d for d in single if RANKS[d.kind] > highest]
    if more:
        top = max(RANKS[d.kind] for d in more)
        types = [d for d in more if RANKS[d.kind] == top]
    return np.result_type(*types)
