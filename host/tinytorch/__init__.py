"""TinyTorch on the laptop: PyTorch's names, on numpy.

Nothing is imported before it is used, so `import tinytorch` itself costs next to nothing. A new
public name is one entry here.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_MODULES = (
    "callbacks", "datasets", "export", "features", "gesture", "metrics", "nn", "optim", "plan",
    "profile", "quantize", "random", "readers", "recordings", "train", "transforms", "utils",
    "windows",
)  # fmt: skip
_NAMES = {
    "autograd": (
        "Tensor", "no_grad", "is_grad_enabled",
        "tensor", "zeros", "ones", "full", "arange", "rand", "randn", "cat", "stack",
        "float32", "float64", "int64",
    ),
    "random": ("Generator", "manual_seed", "get_rng_state", "set_rng_state"),
    "runtime": ("Model",),
    "serialize": ("save", "load"),
}  # fmt: skip
_HOME = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES, *_HOME])
