"""Layers of PyTorch as ours, and ours as PyTorch's, with their weights.

Both have the same names: a layer is made again with the options that it keeps as attributes, and
gets the numbers of each parameter and buffer. Whatever was trained there runs here, on a kit too.
torch itself is imported only to make its layers.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinytorch import nn
from tinytorch.autograd.tensor import Tensor


def from_torch(module: Any) -> nn.Module:
    """A torch.nn.Sequential, nested as it may be, or a single layer, as ours with its weights.

    Tensors that layers share stay shared; float16 and bfloat16 become float32. Raises ValueError
    for a layer, or an option of one, that there is not here, with its place.
    """
    return _Conversion("torch.nn", nn, _tensor_from_torch).module(module, "")


def to_torch(module: nn.Module) -> Any:
    """The way back: a torch module of our Sequential or layer. Needs torch."""
    try:
        import torch
    except ImportError:
        raise ImportError("to_torch: torch is not installed: pip install torch.") from None

    def tensor(t: Tensor) -> Any:
        copied = torch.from_numpy(np.array(t.data))
        return torch.nn.Parameter(copied, t.requires_grad) if _is_parameter(t) else copied

    return _Conversion("tinytorch.nn", torch.nn, tensor).module(module, "")


def _tensor_from_torch(t: Any) -> Tensor:
    numbers = t.detach().cpu()
    if numbers.is_floating_point() and numbers.element_size() != 8:
        numbers = numbers.float()
    array = np.array(numbers.numpy())
    return nn.Parameter(array, t.requires_grad) if _is_parameter(t) else Tensor(array)


def _is_parameter(t: Any) -> bool:
    return type(t).__name__ == "Parameter"


_CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")


def _activation(layer: Any) -> str:
    name = getattr(layer.activation, "__name__", type(layer.activation).__name__)
    if name not in ("relu", "gelu"):
        raise ValueError(f"its activation {name} is neither relu nor gelu")
    return name


# What a layer does not keep under the option's name.
_KEPT: dict[str, dict[str, Callable[[Any], Any]]] = {
    "MultiheadAttention": {
        "bias": lambda layer: layer.in_proj_bias is not None,
        "add_bias_kv": lambda layer: getattr(layer, "bias_k", None) is not None,
    },
    "TransformerEncoderLayer": {
        "d_model": lambda layer: layer.linear1.in_features,
        "nhead": lambda layer: layer.self_attn.num_heads,
        "dim_feedforward": lambda layer: layer.linear1.out_features,
        "dropout": lambda layer: layer.dropout.p,
        "activation": _activation,
        "layer_norm_eps": lambda layer: layer.norm1.eps,
        "batch_first": lambda layer: layer.self_attn.batch_first,
        "bias": lambda layer: layer.linear1.bias is not None,
    },
    "TransformerEncoder": {
        "encoder_layer": lambda layer: layer.layers[0],
        "enable_nested_tensor": lambda layer: False,  # a way to compute, and torch warns of it
    },
}


class _Conversion:
    def __init__(self, origin: str, library: Any, tensor: Callable[[Any], Any]) -> None:
        self.origin = origin  # where the layers to be converted are defined
        self.library = library
        self.tensor = tensor
        self._done: dict[int, Any] = {}  # modules and tensors, by the id of the original

    def module(self, source: Any, path: str) -> Any:
        if id(source) not in self._done:
            self._done[id(source)] = self._new(source, path)
        return self._done[id(source)]

    def _new(self, source: Any, path: str) -> Any:
        kind = type(source).__name__
        where = f"{kind} at {path!r}" if path else kind
        if not type(source).__module__.startswith(self.origin):
            raise ValueError(
                f"{where} is not of {self.origin}: convert its layers one by one, or "
                "write it anew and load its state_dict."
            )
        made = getattr(self.library, kind, None)
        if made is None:
            raise ValueError(f"{where} cannot be converted: {self.library.__name__} has no {kind}.")
        if kind in _CONTAINERS:
            result = made()
            for name in source._modules:
                child = getattr(source, name)
                result.add_module(name, self.module(child, f"{path}.{name}" if path else name))
            result.training = source.training
            return result
        try:
            options = dict(self._options(source, made, path))
            result = made(**options)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where} cannot be converted: {str(error).rstrip('.')}.") from None
        for name, module in result.named_modules():
            self._fill(module, source.get_submodule(name))
        return result

    def _options(self, source: Any, made: Any, path: str) -> Iterator[tuple[str, Any]]:
        """What to make the new layer with. Raises ValueError for what it does not take."""
        kept = _KEPT.get(type(source).__name__, {})
        theirs, known = _signature(type(source)), _signature(made)
        # Recurrent layers of torch take anything, and tell nothing.
        for name, usual in {"proj_size": 0, **theirs}.items():
            if name not in (known or theirs) and not name.startswith("_"):
                value = kept[name](source) if name in kept else getattr(source, name, usual)
                if value != usual and usual is not inspect.Parameter.empty:
                    raise ValueError(f"there is no option {name}={value}")
        for name in known or theirs:
            if name in kept:
                value = kept[name](source)
            elif name == "bias":
                value = source.bias is not None and source.bias is not False
            elif hasattr(source, name):
                value = getattr(source, name)
            else:
                continue
            is_module = hasattr(value, "named_modules")
            yield name, self.module(value, f"{path}.{name}") if is_module else value

    def _fill(self, module: Any, source: Any) -> None:
        module.training = source.training
        for name in (*source._parameters, *source._buffers):
            old = getattr(source, name)
            if old is not None:
                if id(old) not in self._done:
                    self._done[id(old)] = self.tensor(old)
                setattr(module, name, self._done[id(old)])


def _signature(layer: type) -> dict[str, Any]:
    """The options of a layer with their defaults."""
    return {
        p.name: p.default
        for p in inspect.signature(layer).parameters.values()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in _PLACES
    }


_PLACES = ("device", "dtype")  # of a new layer's numbers
