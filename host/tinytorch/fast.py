"""The switch for the compiled kernels (tinytorch.jit), which do what BLAS does not.

They are on where numba is installed; the environment variable TINYTORCH_FAST=0 turns them off from
the start. numba is imported when a kernel is first wanted, not before.
"""

import os
import warnings
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])

SMALL = 1 << 10  # elements; below, numpy is done before numba has looked at its arguments
_FLOAT32 = np.dtype(np.float32)

_wanted = os.environ.get("TINYTORCH_FAST") != "0" and find_spec("numba") is not None
_jit: ModuleType | None = None  # tinytorch.jit, when it was imported


def enable(on: bool = True) -> None:
    """Turn the compiled kernels on or off. Raises ImportError if there is no numba to turn on."""
    global _wanted
    if on and find_spec("numba") is None:
        raise ImportError("fast: numba is not installed: pip install 'tinytorch[fast]'.")
    _wanted = on


def enabled() -> bool:
    return _wanted


def kernels() -> ModuleType | None:
    """tinytorch.jit if it is wanted, imported when first asked for; None where numpy must do."""
    global _wanted, _jit
    if not _wanted:
        return None
    if _jit is None:
        try:
            _jit = import_module("tinytorch.jit")
        except Exception as error:  # a numba that does not fit numpy or Python fails in many ways
            _wanted = False
            warnings.warn(f"fast: numba is broken, so numpy does the work: {error}", stacklevel=2)
    return _jit


def fits(array: Any) -> bool:
    """Whether a compiled kernel takes this argument."""
    if not isinstance(array, np.ndarray):
        return True  # a number, or None
    return array.flags.c_contiguous and (array.dtype is _FLOAT32 or array.dtype.kind != "f")
