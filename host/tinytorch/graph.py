"""A trained network as a short list of float operations, ready to be quantized."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch import intops
from tinytorch_core import nn
from tinytorch_core.model import AVG_POOL, CONV2D, DENSE, DEPTHWISE, MAX_POOL

Array = NDArray[np.float64]
INPUT = -1  # the network's input, where a node names its own inputs


@dataclass(frozen=True)
class Node:
    """One operation of the folded network, still in real numbers; geometry named as in a record.

    weight: CONV2D (out, kernel_h, kernel_w, in), DEPTHWISE (kernel_h, kernel_w, out),
    DENSE (out, in); bias: (out,). `low` and `high` clip the result (ReLU: 0 and infinity).
    """

    name: str
    kind: int
    inputs: tuple[int, ...]
    in_h: int
    in_w: int
    in_c: int
    out_h: int
    out_w: int
    out_c: int
    kernel_h: int = 1
    kernel_w: int = 1
    stride_h: int = 1
    stride_w: int = 1
    pad_h: int = 0
    pad_w: int = 0
    weight: Array = field(default_factory=lambda: np.zeros(0))
    bias: Array = field(default_factory=lambda: np.zeros(0))
    low: float = -np.inf
    high: float = np.inf

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run."""
        return (
            self.out_h * self.out_w * self.weight.size if self.kind != DENSE else self.weight.size
        )


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
    nodes: list[Node] = []
    signal = len(shape) == 2
    c, h, w = (shape[0], 1, shape[1]) if signal else (*shape, 1, 1)[:3]
    flat = len(shape) == 1
    for index, layer in enumerate(flat_layers(net)):
        name = f"{index} {type(layer).__name__}"
        at = len(nodes) - 1
        geometry: dict[str, Any] = {}
        if isinstance(
            layer, (nn.Conv1d, nn.Conv2d, nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d)
        ):
            kernel = pair(layer.kernel_size, signal, 1)
            stride = pair(layer.stride, signal, 1)
            pad = pair(layer.padding, signal, 0)
            geometry = {
                "in_h": h, "in_w": w, "in_c": c,
                "out_h": (h + 2 * pad[0] - kernel[0]) // stride[0] + 1,
                "out_w": (w + 2 * pad[1] - kernel[1]) // stride[1] + 1,
                "kernel_h": kernel[0], "kernel_w": kernel[1],
                "stride_h": stride[0], "stride_w": stride[1], "pad_h": pad[0], "pad_w": pad[1],
            }  # fmt: skip
            h, w = geometry["out_h"], geometry["out_w"]
            if pad[0] >= kernel[0] or pad[1] >= kernel[1]:
                raise ValueError(
                    f"Layer {name} has windows of nothing but padding: make its padding smaller "
                    "than its kernel."
                )
        if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
            weight = array(layer.weight)
            if weight.ndim == 3:
                weight = weight[:, :, None, :]
            out = len(weight)
            bias = np.zeros(out) if layer.bias is None else array(layer.bias)
            if layer.groups == 1:
                kind, weight = CONV2D, weight.transpose(0, 2, 3, 1)
            elif layer.groups == c:
                kind, weight = DEPTHWISE, weight[:, 0].transpose(1, 2, 0)
            else:
                raise ValueError(
                    f"Layer {name} has {layer.groups} groups: a kit runs 1 or in_channels."
                )
            c = out
            nodes.append(Node(name, kind, (at,), out_c=c, weight=weight, bias=bias, **geometry))
        elif isinstance(layer, nn.Linear):
            weight = array(layer.weight)
            out = len(weight)
            if not flat and h * w * c != c:
                raise ValueError(
                    f"Layer {name} follows a layer with positions: put a Flatten before it."
                )
            if weight.shape[1] != h * w * c:
                raise ValueError(
                    f"Layer {name} takes {weight.shape[1]} values and gets {h * w * c}."
                )
            # torch flattens (C, H, W); the kit's activations lie as (H, W, C).
            weight = weight.reshape(out, c, h * w).transpose(0, 2, 1).reshape(out, -1)
            bias = np.zeros(out) if layer.bias is None else array(layer.bias)
            nodes.append(
                Node(name, DENSE, (at,), 1, 1, h * w * c, 1, 1, out, weight=weight, bias=bias)
            )
            c, h, w, flat = out, 1, 1, True
        elif isinstance(layer, (nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d)):
            average = isinstance(layer, (nn.AvgPool1d, nn.AvgPool2d))
            if average and (geometry["pad_h"] or geometry["pad_w"]):
                raise ValueError(
                    f"Layer {name} averages over padding: a kit runs it with padding=0."
                )
            kind = AVG_POOL if average else MAX_POOL
            nodes.append(Node(name, kind, (at,), out_c=c, **geometry))
        elif isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            last = nodes[-1] if nodes else None
            if last is None or not last.weight.size or last.low > -np.inf:
                raise ValueError(f"Layer {name} must follow a Conv or Linear layer directly.")
            if layer.num_features != last.out_c:
                raise ValueError(
                    f"Layer {name} has {layer.num_features} features and follows {last.out_c} "
                    "channels: put it before the Flatten."
                )
            gain = array(layer.weight) / np.sqrt(array(layer.running_var) + layer.eps)
            bias = (last.bias - array(layer.running_mean)) * gain + array(layer.bias)
            # The output channel stands last in depthwise weights and first in the others.
            spread = (
                gain if last.kind == DEPTHWISE else gain.reshape(-1, *[1] * (last.weight.ndim - 1))
            )
            nodes[-1] = replace(last, weight=last.weight * spread, bias=bias)
        elif isinstance(layer, nn.ReLU):
            if not nodes:
                raise ValueError(f"Layer {name} must follow another layer.")
            nodes[-1] = replace(nodes[-1], low=0.0)
        elif isinstance(layer, nn.Flatten):
            flat = True
        elif not isinstance(layer, nn.Dropout):
            raise ValueError(
                f"Layer {name} cannot run on a kit: use Conv, Linear, BatchNorm, ReLU, pooling, "
                "Flatten and Dropout."
            )
    if not nodes:
        raise ValueError("The network has no layer that computes anything.")
    return nodes


def run_float(nodes: Sequence[Node], x: NDArray) -> list[Array]:
    """Every node's output in float64; x: (N, H, W, C), or (N, L, C), or (N, features)."""
    outputs: list[Array] = []
    first = nodes[0]
    start = np.asarray(x, np.float64).reshape(-1, first.in_h, first.in_w, first.in_c)
    for node in nodes:
        inputs = [start if i == INPUT else outputs[i] for i in node.inputs]
        a = inputs[0].reshape(-1, node.in_h, node.in_w, node.in_c)
        if node.kind == CONV2D:
            y = np.tensordot(intops.windows(a, node, 0.0), node.weight, ((4, 5, 3), (1, 2, 3)))
        elif node.kind == DEPTHWISE:
            w = node.weight.reshape(*node.weight.shape[:2], node.in_c, -1)
            y = np.einsum("nhwcij,ijcm->nhwcm", intops.windows(a, node, 0.0), w, optimize=True)
            y = y.reshape(*y.shape[:3], -1)
        elif node.kind == DENSE:
            y = a @ node.weight.T
        elif node.kind == MAX_POOL:
            y = intops.windows(a, node, -np.inf).max((4, 5))
        elif node.kind == AVG_POOL:
            y = intops.windows(a, node, 0.0).mean((4, 5))
        else:
            y = a + inputs[1].reshape(a.shape)
        if node.bias.size:
            y = y + node.bias
        outputs.append(np.clip(y, node.low, node.high))
    return outputs
