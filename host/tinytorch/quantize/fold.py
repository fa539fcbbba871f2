"""A trained network as a short list of float operations, ready to be quantized."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinytorch.quantize.ir import Array, Node
from tinytorch_core import nn, shapes
from tinytorch_core.model import AVG_POOL, CONV2D, DENSE, DEPTHWISE, MAX_POOL


def array(parameter: Any) -> Array:
    """A parameter or buffer of either Tensor as float64."""
    return np.array(parameter.data, np.float64).reshape(parameter.shape)


def flat_layers(net: nn.Module) -> Iterator[nn.Module]:
    for layer in net:  # type: ignore[attr-defined]
        if isinstance(layer, nn.Sequential):
            yield from flat_layers(layer)
        else:
            yield layer


def pair(value: "int | tuple[int, ...]", signal: bool, height: int) -> tuple[int, int]:
    """A kernel size, stride or padding as (height, width); a signal has none of its own height."""
    numbers = (value,) if isinstance(value, int) else tuple(value)
    return (height if signal else numbers[0], numbers[-1])


def fold(net: nn.Module, shape: Sequence[int]) -> list[Node]:
    """The layers of a Sequential as nodes, batch norm and ReLU folded into what they follow.

    shape: of one input as the layers take it, (C, L), (C, H, W) or (features,).
    Raises ValueError for a layer that a kit cannot run, with its name.
    """
    fold = Fold(shape)
    for index, layer in enumerate(flat_layers(net)):
        fold.add(f"{index} {type(layer).__name__}", layer)
    if not fold.nodes:
        raise ValueError("The network has no layer that computes anything.")
    return fold.nodes


class Fold:
    """The nodes so far, and the shape (c, h, w) that the next layer gets."""

    def __init__(self, shape: Sequence[int]):
        self.nodes: list[Node] = []
        self.signal = len(shape) == 2
        self.flat = len(shape) == 1
        self.c, self.h, self.w = (shape[0], 1, shape[1]) if self.signal else (*shape, 1, 1)[:3]

    def add(self, name: str, layer: Any) -> None:
        for kinds, method in self.METHODS.items():
            if isinstance(layer, kinds):
                method(self, name, layer)
                return
        raise ValueError(
            f"Layer {name} cannot run on a kit: use Conv, Linear, BatchNorm, ReLU, ReLU6, pooling, "
            "Flatten and Dropout."
        )

    def _window(
        self, name: str, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]
    ) -> dict[str, int]:
        """The geometry of a layer that slides a window, whose output is then the next input."""
        if pad[0] >= kernel[0] or pad[1] >= kernel[1]:
            raise ValueError(
                f"Layer {name} has windows of nothing but padding: make its padding smaller than "
                "its kernel."
            )
        before = (self.h, self.w)
        self.h, self.w = (
            (n + 2 * p - k) // s + 1 for n, k, s, p in zip(before, kernel, stride, pad, strict=True)
        )
        return {
            "in_h": before[0], "in_w": before[1], "in_c": self.c, "out_h": self.h, "out_w": self.w,
            "kernel_h": kernel[0], "kernel_w": kernel[1], "stride_h": stride[0],
            "stride_w": stride[1], "pad_h": pad[0], "pad_w": pad[1],
        }  # fmt: skip

    def _append(self, name: str, kind: int, **fields: Any) -> None:
        self.nodes.append(Node(name, kind, (len(self.nodes) - 1,), **fields))

    def conv(self, name: str, layer: Any) -> None:
        if set(pair(layer.dilation, self.signal, 1)) != {1}:
            raise ValueError(f"Layer {name} is dilated: a kit runs it with dilation=1.")
        if layer.groups not in (1, self.c):
            raise ValueError(
                f"Layer {name} has {layer.groups} groups: a kit runs 1 or in_channels."
            )
        padding, more = shapes.padding(
            name, layer.padding, layer.kernel_size, layer.stride, layer.dilation
        )
        if any(more):
            raise ValueError(f"Layer {name} pads its ends differently: a kit pads both alike.")
        geometry = self._window(
            name,
            pair(layer.kernel_size, self.signal, 1),
            pair(layer.stride, self.signal, 1),
            pair(padding, self.signal, 0),
        )
        weight = array(layer.weight)
        if self.signal:
            weight = weight[:, :, None]
        if layer.groups == 1:
            kind, weight = CONV2D, weight.transpose(0, 2, 3, 1)
        else:
            kind, weight = DEPTHWISE, weight[:, 0].transpose(1, 2, 0)
        self.c = layer.out_channels
        bias = np.zeros(self.c) if layer.bias is None else array(layer.bias)
        self._append(name, kind, out_c=self.c, weight=weight, bias=bias, **geometry)

    def linear(self, name: str, layer: Any) -> None:
        positions, values = self.h * self.w, self.h * self.w * self.c
        if not self.flat and positions > 1:
            raise ValueError(
                f"Layer {name} follows a layer with positions: put a Flatten before it."
            )
        if layer.in_features != values:
            raise ValueError(f"Layer {name} takes {layer.in_features} values and gets {values}.")
        out = layer.out_features
        # torch flattens (C, H, W); the kit's activations lie as (H, W, C).
        weight = array(layer.weight).reshape(out, self.c, positions).transpose(0, 2, 1)
        bias = np.zeros(out) if layer.bias is None else array(layer.bias)
        self._append(
            name, DENSE, in_h=1, in_w=1, in_c=values, out_h=1, out_w=1, out_c=out,
            weight=weight.reshape(out, -1), bias=bias,
        )  # fmt: skip
        self.c, self.h, self.w, self.flat = out, 1, 1, True

    def max_pool(self, name: str, layer: Any) -> None:
        self._pool(name, MAX_POOL, layer)

    def avg_pool(self, name: str, layer: Any) -> None:
        if any(pair(layer.padding, self.signal, 0)):
            raise ValueError(f"Layer {name} averages over padding: a kit runs it with padding=0.")
        self._pool(name, AVG_POOL, layer)

    def _pool(self, name: str, kind: int, layer: Any) -> None:
        geometry = self._window(
            name,
            pair(layer.kernel_size, self.signal, 1),
            pair(layer.stride, self.signal, 1),
            pair(layer.padding, self.signal, 0),
        )
        self._append(name, kind, out_c=self.c, **geometry)

    def global_avg_pool(self, name: str, layer: Any) -> None:
        if set(pair(layer.output_size, self.signal, 1)) != {1}:
            raise ValueError(
                f"Layer {name} has {layer.output_size} outputs a channel: a kit runs 1."
            )
        geometry = self._window(name, (self.h, self.w), (1, 1), (0, 0))
        self._append(name, AVG_POOL, out_c=self.c, **geometry)

    def batch_norm(self, name: str, layer: Any) -> None:
        last = self.nodes[-1] if self.nodes else None
        if last is None or not last.weight.size or last.low > -np.inf:
            raise ValueError(f"Layer {name} must follow a Conv or Linear layer directly.")
        if layer.num_features != last.out_c:
            raise ValueError(
                f"Layer {name} has {layer.num_features} features and follows {last.out_c} "
                "channels: put it before the Flatten."
            )
        if layer.running_mean is None:
            raise ValueError(f"Layer {name} has no running statistics to fold.")
        gain = 1 / np.sqrt(array(layer.running_var) + layer.eps)
        gain = gain if layer.weight is None else array(layer.weight) * gain
        bias = (last.bias - array(layer.running_mean)) * gain
        bias = bias if layer.bias is None else bias + array(layer.bias)
        # The output channel stands last in depthwise weights and first in the others.
        ones = () if last.kind == DEPTHWISE else (1,) * (last.weight.ndim - 1)
        self.nodes[-1] = replace(last, weight=last.weight * gain.reshape(-1, *ones), bias=bias)

    def relu(self, name: str, layer: Any) -> None:
        if not self.nodes:
            raise ValueError(f"Layer {name} must follow another layer.")
        self.nodes[-1] = replace(self.nodes[-1], low=0.0)

    def relu6(self, name: str, layer: Any) -> None:
        self.relu(name, layer)
        self.nodes[-1] = replace(self.nodes[-1], high=6.0)

    def flatten(self, name: str, layer: Any) -> None:
        self.flat = True

    def skip(self, name: str, layer: Any) -> None:
        """A layer that does nothing outside training."""

    METHODS = {
        (nn.Conv1d, nn.Conv2d): conv,
        (nn.Linear,): linear,
        (nn.MaxPool1d, nn.MaxPool2d): max_pool,
        (nn.AvgPool1d, nn.AvgPool2d): avg_pool,
        (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d): global_avg_pool,
        (nn.BatchNorm1d, nn.BatchNorm2d): batch_norm,
        (nn.ReLU,): relu,
        (nn.ReLU6,): relu6,
        (nn.Flatten,): flatten,
        (nn.Dropout, nn.Identity): skip,
    }
