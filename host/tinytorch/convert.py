"""Networks from PyTorch and back: the same layers, the same weights.

Our layers have PyTorch's names, arguments and attributes, so a layer is built again from the
attributes that its constructor's arguments have become. PyTorch is imported only by `to_torch`.
"""

import inspect
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tinytorch import nn
from tinytorch.autograd import Tensor

if TYPE_CHECKING:
    import torch

_KINDS = [
    "Linear", "Conv1d", "Conv2d", "BatchNorm1d", "BatchNorm2d", "LayerNorm", "Embedding",
    "MaxPool1d", "MaxPool2d", "AvgPool1d", "AvgPool2d", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d",
    "Dropout", "Flatten", "Unflatten", "Identity", "ReLU", "ReLU6", "LeakyReLU", "ELU", "GELU",
    "SiLU", "Tanh", "Sigmoid", "Softmax", "LogSoftmax", "Softplus", "Hardsigmoid", "Hardswish",
    "RNN", "GRU", "LSTM", "MultiheadAttention", "TransformerEncoderLayer", "TransformerEncoder",
    "Sequential",
]  # fmt: skip
# What our layers do not have, and so must be as PyTorch has it unless told.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "padding_mode": ("zeros",), "ceil_mode": (False,), "return_indices": (False,),
    "count_include_pad": (True,), "divisor_override": (None,), "dilation": (1, (1,), (1, 1)),
    "max_norm": (None,), "scale_grad_by_freq": (False,), "proj_size": (0,), "bias_k": (None,),
    "add_zero_attn": (False,),
}  # fmt: skip


def from_torch(module: "torch.nn.Module") -> nn.Module:
    """The same network here: a torch.nn.Sequential of layers that we have, nested or not, or one.

    Weights, frozen ones and modes are as there. float64 stays; other floats become float32.
    Raises ValueError for a layer or an option that we do not have, with its place and name.
    """
    net = _Builder(nn, "torch.nn").build(module, "")
    state = {name: t.detach().cpu() for name, t in module.state_dict().items()}
    kinds = {str(t.dtype) for t in state.values() if t.is_floating_point()}
    if kinds == {"torch.float64"}:
        net.double()
    numbers = {n: t if str(t.dtype) != "torch.bfloat16" else t.float() for n, t in state.items()}
    net.load_state_dict({name: Tensor(t.numpy()) for name, t in numbers.items()})
    return _like(net, module)


def to_torch(net: nn.Module) -> "torch.nn.Module":
    """The same network in PyTorch, which must be installed; the other way of `from_torch`."""
    import torch

    module: Any = _Builder(torch.nn, "tinytorch.nn").build(net, "")
    if any(p.dtype == np.float64 for p in net.parameters()):
        module.double()
    module.load_state_dict({n: torch.tensor(t.data) for n, t in net.state_dict().items()})
    return _like(module, net)


def _like(copy: Any, original: Any) -> Any:
    """The copy with the original's frozen parameters and modes."""
    frozen = {name for name, p in original.named_parameters() if not p.requires_grad}
    for name, p in copy.named_parameters():
        p.requires_grad_(name not in frozen)
    modes = {name: module.training for name, module in original.named_modules()}
    for name, module in copy.named_modules():
        module.training = modes.get(name, original.training)
    return copy


class _Builder:
    """Builds layers like the other library's. library: an `nn`; home: where the others are."""

    def __init__(self, library: Any, home: str) -> None:
        self.library = library
        self.home = home
        self._built: dict[int, Any] = {}  # a layer that stands in two places is one there, too

    def build(self, module: Any, path: str) -> Any:
        if id(module) not in self._built:
            self._built[id(module)] = self._build(module, path)
        return self._built[id(module)]

    def _build(self, module: Any, path: str) -> Any:
        kind = type(module).__name__
        name = f"Layer {path or '(net)'} {kind}"
        if kind not in _KINDS or not type(module).__module__.startswith(self.home):
            raise ValueError(
                f"{name} cannot be converted: use a Sequential of {', '.join(_KINDS[:-1])}."
            )
        arguments = inspect.signature(getattr(nn, kind)).parameters
        for option, plain in _PLAIN.items():
            if option not in arguments and getattr(module, option, plain[0]) not in plain:
                raise ValueError(
                    f"{name} cannot be converted: {option}={getattr(module, option)!r} is not "
                    "there in both libraries."
                )
        make: Callable[..., Any] = getattr(self.library, kind)
        join = f"{path}.".lstrip(".")
        if kind == "Sequential":
            # All places by name: named_children leaves out a layer that it had before.
            layers = [(n, self.build(getattr(module, n), join + n)) for n in module._modules]
            return make(OrderedDict(layers))
        if kind == "TransformerEncoderLayer":
            return make(**self._encoder_layer(module, name))
        if kind == "TransformerEncoder":
            layer = self.build(module.layers[0], f"{join}layers.0")
            norm = None if module.norm is None else self.build(module.norm, f"{join}norm")
            # Nested tensors are an optimization of PyTorch's, which it warns of.
            return make(layer, module.num_layers, norm, enable_nested_tensor=False)
        given = {a: getattr(module, a) for a in arguments if hasattr(module, a)}
        if "bias" in arguments:
            bias = module.in_proj_bias if kind == "MultiheadAttention" else module.bias
            given["bias"] = bias if isinstance(bias, bool) else bias is not None
        return make(**given)

    def _encoder_layer(self, module: Any, name: str) -> dict[str, Any]:
        activation = getattr(module.activation, "__name__", type(module.activation).__name__)
        if activation not in ("relu", "gelu"):
            raise ValueError(
                f"{name} cannot be converted: its activation {activation} is not relu or gelu."
            )
        return {
            "d_model": module.self_attn.embed_dim, "nhead": module.self_attn.num_heads,
            "dim_feedforward": module.linear1.out_features, "dropout": module.dropout.p,
            "activation": activation, "layer_norm_eps": module.norm1.eps,
            "batch_first": module.self_attn.batch_first, "norm_first": module.norm_first,
            "bias": module.linear1.bias is not None,
        }  # fmt: skip
