"""TinyTorch on the laptop: PyTorch's names, on numpy.

Nothing is imported before it is used, so `import tinytorch` itself costs next to nothing. A new
public name is one entry here.
"""

from importlib import import_module
from typing import Any

from tinytorch import short_names

__version__ = "0.1.0"

_MODULES = (
    "autograd", "convert", "nn", "onnx", "optim", "profile", "quantize", "random", "recipes",
    "train", "utils",
)  # fmt: skip
# Modules that have a short name as well: `tinytorch.recordings` is `tinytorch.data.recordings`.
_SHORT = {
    "callbacks": "train.callbacks",
    "datasets": "data.datasets",
    "export": "modelfile.export",
    "fast": "ops.compiled",
    "features": "sensing.motion",
    "gesture": "sensing.gesture",
    "keyword": "sensing.keyword",
    "metrics": "train.metrics",
    "plan": "modelfile",
    "readers": "data.readers",
    "recordings": "data.recordings",
    "runtime": "modelfile.runtime",
    "sound": "sensing.mel",
    "spotting": "sensing.spotting",
    "transforms": "data.transforms",
    "windows": "data.windows",
}
_NAMES = {
    "autograd": (
        "Tensor", "is_tensor", "is_floating_point", "where",
        "no_grad", "enable_grad", "set_grad_enabled", "inference_mode", "is_grad_enabled",
    ),
    "autograd.joining": (
        "cat", "concat", "concatenate", "stack", "einsum", "broadcast_tensors", "meshgrid",
        "allclose", "equal",
    ),
    "autograd.creation": (
        "tensor", "as_tensor", "from_numpy",
        "zeros", "ones", "full", "empty", "arange", "linspace", "eye",
        "zeros_like", "ones_like", "full_like", "empty_like",
        "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like",
        "normal", "bernoulli", "multinomial",
    ),
    "dtypes": (
        "float32", "float", "float64", "double", "int64", "long", "int32", "int", "int8", "uint8",
        "bool",
    ),
    "random": ("Generator", "manual_seed", "get_rng_state", "set_rng_state"),
    "modelfile.runtime": ("Model",),
    "serialize": ("save", "load"),
}  # fmt: skip
# A function of PyTorch's that is a method as well is the method.
_METHODS = (
    "abs", "add", "all", "amax", "amin", "any", "argmax", "argmin", "argsort", "bmm",
    "broadcast_to", "ceil", "chunk", "clamp", "clip", "clone", "cos", "count_nonzero", "cumprod",
    "cumsum", "diag", "diagonal", "div", "dot", "dropout", "eq", "exp", "expm1", "flatten", "flip",
    "floor", "floor_divide", "gather", "ge", "gt", "index_select", "isfinite", "isinf", "isnan",
    "le", "lerp", "log", "log10", "log1p", "log2", "log_softmax", "logical_and", "logical_not",
    "logical_or", "logical_xor", "logsumexp", "lt", "masked_fill", "masked_select", "matmul", "max",
    "maximum", "mean", "median", "min", "minimum", "mm", "movedim", "mul", "mv", "nan_to_num",
    "narrow", "ne", "neg", "nonzero", "norm", "numel", "outer", "permute", "pow", "prod",
    "reciprocal", "relu", "remainder", "repeat_interleave", "reshape", "roll", "round", "rsqrt",
    "scatter", "scatter_add", "select", "sigmoid", "sign", "sin", "softmax", "sort", "split",
    "sqrt", "square", "squeeze", "std", "sub", "sum", "swapaxes", "t", "take_along_dim", "tanh",
    "tile", "topk", "transpose", "tril", "triu", "trunc", "unbind", "unflatten", "unique",
    "unsqueeze", "var",
)  # fmt: skip
_HOME = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULES or name in _SHORT:
        return import_module(f"{__name__}.{name}")
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in _METHODS:
        return getattr(__getattr__("Tensor"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES, *_SHORT, *_HOME, *_METHODS])


short_names.install(__name__, _SHORT)
