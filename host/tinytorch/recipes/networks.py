"""Networks by name, or as a list of layers: what [model] of a configuration describes."""

import difflib
import inspect
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from tinytorch import nn
from tinytorch.autograd.tape import no_grad
from tinytorch.autograd.tensor import Tensor
from tinytorch.nn import layers
from tinytorch.recipes import config as configuration
from tinytorch.sensing import gesture

Layer = Mapping[str, Any]
Shape = tuple[int, ...]

_CONTAINERS = (layers.Sequential, layers.ModuleList, layers.ModuleDict)
LAYERS = {
    name: kind
    for name, kind in vars(layers).items()
    if isinstance(kind, type)
    and issubclass(kind, nn.Module)
    and kind.__module__ == layers.__name__
    and not issubclass(kind, _CONTAINERS)
    and name[0] != "_"
}
_SHORT = {"out_channels": "out", "out_features": "out", "kernel_size": "kernel"}


def build_net(model: configuration.Model, shape: Shape, outputs: int) -> nn.Module:
    """The network that [model] describes.

    shape: of a sample, (features,), (C, L) for signals or (C, H, W) for images. Raises
    ValueError where the network does not fit it, or a layer does not fit the one before.
    """
    dims = len(shape) - 1
    if model.kind == "layers":
        if not model.layers:
            raise ValueError("'model.layers' is empty: with model.kind = 'layers' it is the net.")
        return _stack(model.layers, shape, outputs)
    if model.kind == "mlp":
        return _stack(_mlp(model), shape, outputs)
    if model.kind == "cnn" and dims in (1, 2):
        return _stack(_cnn(model, shape[1:]), shape, outputs)
    if model.kind == "ds-cnn" and dims in (1, 2):
        return _stack(_ds_cnn(model, dims), shape, outputs)
    if model.kind == "transformer" and (dims == 1 or (dims == 2 and shape[0] == 1)):
        return Transformer(model, shape, outputs)
    if model.kind == "gesture" and dims == 1 and shape[1] % 16 == 0:
        return gesture.gesture_net(shape[0], outputs, shape[1])
    wants = {
        "transformer": "signals (C, L) or images (1, H, W)",
        "gesture": "signals (C, L) with L a multiple of 16",
    }
    raise ValueError(
        f"The model {model.kind} wants {wants.get(model.kind, 'signals or images')},"
        f" and a sample has the shape {shape}: choose another model."
    )


def _mlp(model: configuration.Model) -> list[Layer]:
    stack: list[Layer] = [{"type": "Flatten"}]
    for units in model.hidden:
        stack += [{"type": "Linear", "out": units}, {"type": "ReLU"}, *_dropout(model)]
    return [*stack, {"type": "Linear"}]


def _dropout(model: configuration.Model) -> list[Layer]:
    return [{"type": "Dropout", "p": model.dropout}] if model.dropout else []


def _block(dims: int, out: Any = None, kernel: int = 3, **more: Any) -> list[Layer]:
    conv = {"type": f"Conv{dims}d", "kernel": kernel, "padding": kernel // 2, **more}
    if out is not None:
        conv["out"] = out
    return [conv, {"type": f"BatchNorm{dims}d"}, {"type": "ReLU"}]


def _cnn(model: configuration.Model, size: Shape) -> list[Layer]:
    stack: list[Layer] = []
    dims, least = len(size), min(size)
    for channels in model.channels:
        stack += _block(dims, channels)
        if least >= 2:
            stack.append({"type": f"MaxPool{dims}d", "kernel": 2})
            least //= 2
    return [*stack, {"type": "Flatten"}, *_dropout(model), {"type": "Linear"}]


def _ds_cnn(model: configuration.Model, dims: int) -> list[Layer]:
    """Depthwise separable convolutions (MobileNets, Howard et al., 2017)."""
    first, *others = model.channels
    stack = _block(dims, first)
    for channels in others:
        stack += [*_block(dims, groups="in"), *_block(dims, channels, 1)]
    stack += [{"type": f"AdaptiveAvgPool{dims}d", "output_size": 1}, {"type": "Flatten"}]
    return [*stack, *_dropout(model), {"type": "Linear"}]


class Transformer(nn.Module):
    """A transformer encoder with mean pooling.

    Takes signals (N, C, L), or images (N, 1, H, W) as sequences of rows, and gives (N, outputs).
    """

    def __init__(self, model: configuration.Model, shape: Shape, outputs: int) -> None:
        super().__init__()
        self.images = len(shape) == 3
        inputs, length = (shape[2], shape[1]) if self.images else shape
        self.project = nn.Linear(inputs, model.width)
        self.position = nn.SinusoidalPositionalEncoding(model.width, length, batch_first=True)
        layer = nn.TransformerEncoderLayer(
            model.width, model.heads, 2 * model.width, model.dropout, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, model.depth)
        self.classify = nn.Linear(model.width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(x.shape[0], *x.shape[2:]) if self.images else x.permute(0, 2, 1)
        return self.classify(self.encoder(self.position(self.project(x))).mean(1))


def _stack(stack: list[Any], shape: Shape, outputs: int) -> nn.Sequential:
    """A Sequential of layers from tables; each is built for the output shape of the one before.

    A table has the layer's type and PyTorch's arguments without the input's size; "out" and
    "kernel" are short names. A Linear without "out" has `outputs` features.
    """
    built: list[nn.Module] = []
    for i, table in enumerate(stack):
        where = f"model.layers[{i}]"
        layer = _layer(where, table, shape, outputs)
        layer.eval()
        try:
            with no_grad():
                shape = layer(Tensor(np.zeros((1, *shape), np.float32))).shape[1:]
        except (ValueError, TypeError, RuntimeError, IndexError) as error:
            raise ValueError(
                f"'{where}' does not fit samples {shape}: {_sentence(error)}"
            ) from None
        built.append(layer.train())
    if shape != (outputs,):
        raise ValueError(
            f"The model's outputs have the shape {shape} for one sample, and the data ask for "
            f"({outputs},): end 'model.layers' with {{type = \"Linear\"}}."
        )
    return nn.Sequential(*built)


def _layer(where: str, table: Layer, shape: Shape, outputs: int) -> nn.Module:
    settings = dict(table)
    name = settings.pop("type", None)
    if name not in LAYERS:
        close = difflib.get_close_matches(str(name), LAYERS, 1, 0.5)
        hint = f"the nearest is {close[0]}" if close else f"there are {', '.join(sorted(LAYERS))}"
        raise ValueError(f"'{where}' has no known type, but {json.dumps(name)}: {hint}.")
    kind = LAYERS[name]
    known = list(inspect.signature(kind).parameters)
    first = known[0] if known else ""
    if first in ("in_channels", "num_features"):
        settings[first] = shape[0]
    elif first in ("in_features", "normalized_shape"):
        settings[first] = shape[-1]
    if settings.get("groups") == "in":
        settings["groups"] = shape[0]
    for long, short in _SHORT.items():
        if long in known and short in settings:
            settings[long] = settings.pop(short)
    if "out_channels" in known:
        settings.setdefault("out_channels", shape[0])
    if "out_features" in known:
        settings.setdefault("out_features", outputs)
    for key, value in settings.items():
        if key not in known:
            names = [_SHORT.get(n, n) for n in known if n not in (first, "inplace")]
            close = difflib.get_close_matches(key, names, 1, 0.5)
            hint = f"the nearest is '{close[0]}'" if close else f"it has {', '.join(names)}"
            raise ValueError(f"'{where}' ({name}) has no setting '{key}': {hint}.")
        if isinstance(value, list):
            settings[key] = tuple(value)
    for key, parameter in inspect.signature(kind).parameters.items():
        if parameter.default is parameter.empty and key not in settings:
            raise ValueError(f"'{where}' ({name}) has no '{_SHORT.get(key, key)}': give it one.")
    try:
        return kind(**settings)
    except (ValueError, TypeError) as error:
        raise ValueError(f"'{where}' ({name}) cannot be made: {_sentence(error)}") from None


def _sentence(error: Exception) -> str:
    return str(error).rstrip(".") + "."
