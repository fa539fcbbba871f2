"""The switch for the compiled kernels (tinytorch.ops.numba_kernels), which do what BLAS does not.

They are on where numba is installed; the environment variable TINYTORCH_FAST=0 turns them off from
the start. numba is imported when a kernel is first wanted, not before.
"""

import os
import warnings
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])

SMALL = 1 << 7  # numbers; below, numpy is done before numba has looked at its arguments
_FLOAT32 = np.dtype(np.float32)


def _installed() -> bool:
    try:
        return find_spec("numba") is not None
    except ImportError:  # whoever hides modules from the import says so in this way
        return False


_wanted = os.environ.get("TINYTORCH_FAST") != "0" and _installed()
_jit: Any = None  # tinytorch.ops.numba_kernels, from the first time it was asked for


def enable(on: bool = True) -> None:
    """Turn the compiled kernels on or off. Raises ImportError if there is no numba to turn on."""
    global _wanted
    if on and not _installed():
        raise ImportError("fast: numba is not installed: pip install 'tinytorch[fast]'.")
    _wanted = on


def enabled() -> bool:
    """Whether compiled kernels do the work where they can."""
    return _wanted


def kernels() -> Any:
    """The module of the compiled kernels, imported when first asked for; None: numpy must do."""
    global _wanted, _jit
    if _wanted and _jit is None:
        try:
            module = import_module("tinytorch.ops.numba_kernels")
            module.relu(*np.ones((2, 1), np.float32))  # it compiles
            _jit = module
        except Exception as error:  # a numba that does not fit numpy or Python fails in many ways
            _wanted = False
            warnings.warn(f"fast: numba is broken, so numpy does the work: {error}", stacklevel=2)
    return _jit if _wanted else None


def kernel(on_numpy: Function) -> Function:
    """For a function `_name` that writes into arrays: `name` in numba_kernels does it faster.

    It does where the first array is large enough, and all floats are contiguous float32.
    """
    name = on_numpy.__name__.removeprefix("_")

    @wraps(on_numpy)
    def fastest(first: Any, *rest: Any) -> Any:
        if _wanted and first.size >= SMALL and _fit(first, *rest):
            jit = kernels()
            if jit is not None:
                return getattr(jit, name)(first, *rest)
        return on_numpy(first, *rest)

    return fastest  # type: ignore[return-value]


def elementwise(on_numpy: Function) -> Function:
    """The same for functions of arrays of one shape, of which the last ones are written into.

    The compiled one gets them flat, as they lie in memory; all must lie in the same order, those
    that are written into without gaps.
    """
    name = on_numpy.__name__.removeprefix("_")

    @wraps(on_numpy)
    def fastest(*arrays: Any) -> Any:
        last = arrays[-1]
        strides, plain = last.strides, last.flags.c_contiguous
        if (
            _wanted
            and last.size >= SMALL
            and all(  # a dimension of size one may have any stride
                a.dtype is _FLOAT32 and (a.strides == strides or (plain and a.flags.c_contiguous))
                for a in arrays
            )
        ):
            jit = kernels()
            if jit is not None:
                return getattr(jit, name)(*[a.ravel("K") for a in arrays])
        return on_numpy(*arrays)

    return fastest  # type: ignore[return-value]


def _fit(*arguments: Any) -> bool:
    for a in arguments:
        if isinstance(a, np.ndarray) and not (
            a.flags.c_contiguous and (a.dtype is _FLOAT32 or a.dtype.kind != "f")
        ):
            return False
    return True
