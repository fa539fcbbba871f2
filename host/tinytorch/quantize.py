"""Post-training int8 quantization: a trained float network becomes integer operations.

Batch norm is folded into the convolution or linear layer before it; ranges are calibrated by a
float run over real inputs; weights are symmetric for each output channel, activations asymmetric
for each tensor (Jacob et al., 2017; the TensorFlow Lite int8 specification).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch.graph import INPUT, Array, Node, fold, run_float
from tinytorch_core import nn
from tinytorch_core.model import ADD, AVG_POOL, DEPTHWISE, EXACT, MAX_POOL
from tinytorch_core.qops import ADD_SHIFT
from tinytorch_core.quant import ACC_LIMIT, quantize_multiplier


@dataclass(frozen=True)
class Quant:
    """How int8 values stand for real ones: real = (q - zero_point) * scale."""

    scale: float
    zero_point: int

    @staticmethod
    def of_range(low: float, high: float) -> "Quant":
        """The finest scale whose 256 steps cover [low, high] and zero exactly."""
        low, high = min(low, 0.0), max(high, 0.0)
        if low == high:  # nothing but zeros: every scale holds them, and a usual one fits the rest
            high = 1.0
        # float32, so that a board with 32-bit floats holds the same scale.
        scale = float(np.float32(max(high - low, 1e-6) / 255))
        return Quant(scale, int(np.clip(round(-128 - low / scale), -128, 127)))


@dataclass(frozen=True)
class Operation:
    """A node in integers: its quantized clip, table rows (bias, multiplier, shift) and weights."""

    node: Node
    x_zero: int
    y_zero: int
    low: int
    high: int
    table: NDArray[np.int32]  # (rows, 3)
    weight: NDArray[np.int8]  # flat, in the order of the specification
    tier: int = EXACT


@dataclass(frozen=True)
class QuantizedNet:
    """All that a model file says about a network; `input_shape` is channels last."""

    name: str
    operations: list[Operation]
    input_shape: tuple[int, ...]
    input: Quant
    output_shape: tuple[int, ...]
    output: Quant
    labels: list[str]
    features: "dict[str, Any] | None" = None


def _table(offsets: Array, factors: Array) -> NDArray[np.int32]:
    rows = [(int(o), *quantize_multiplier(float(f))) for o, f in zip(offsets, factors, strict=True)]
    return np.array(rows, np.int32).reshape(-1, 3)


def _weighted(node: Node, x: Quant, y: Quant) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Table and weights of CONV2D, DEPTHWISE and DENSE."""
    channels_first = node.weight if node.kind != DEPTHWISE else np.moveaxis(node.weight, -1, 0)
    rows = channels_first.reshape(node.out_c, -1)
    # The second term keeps a large bias beside tiny weights inside the accumulator.
    scale = np.maximum(np.abs(rows).max(1) / 127, np.abs(node.bias) / x.scale / (1 << 24))
    scale[scale == 0] = 1.0
    scale = scale.astype(np.float32).astype(np.float64)  # as a .tflite file would hold them
    q = np.clip(np.rint(rows / scale[:, None]), -127, 127)
    bias = np.rint(node.bias / (x.scale * scale))
    table = _table(bias, x.scale * scale / y.scale)
    reach = np.abs(bias) + np.abs(q).sum(1) * max(127 - x.zero_point, 128 + x.zero_point)
    if (reach * 2.0 ** np.maximum(table[:, 2], 0)).max() >= ACC_LIMIT:
        raise ValueError(
            f"The sums of layer {node.name} can overflow 30 bits: make the layer narrower, or "
            "train it with weight decay."
        )
    channels_first = q.reshape(channels_first.shape)
    q = channels_first if node.kind != DEPTHWISE else np.moveaxis(channels_first, 0, -1)
    return table, q.astype(np.int8).reshape(-1)


def quantize(
    net: nn.Module,
    calibration: NDArray,
    *,
    name: str,
    labels: Sequence[str],
    input: "Quant | None" = None,
    features: "dict[str, Any] | None" = None,
) -> QuantizedNet:
    """Quantize a trained Sequential of supported layers (see `fold`).

    calibration: real inputs as the layers take them, (N, C, L), (N, C, H, W) or (N, features);
    a few hundred samples of the training data. input: the input's quantization where the features
    fix it, else it is calibrated too.
    labels: a name for each output, or none at all.
    Raises ValueError for a layer that a kit cannot run, for calibration data with NaN, and for
    another number of labels.
    """
    calibration = np.asarray(calibration, np.float64)
    if not len(calibration) or not np.isfinite(calibration).all():
        raise ValueError(
            "The calibration data is empty or holds NaN: give finite training samples."
        )
    nodes = fold(net, calibration.shape[1:])
    return quantize_nodes(
        nodes,
        np.moveaxis(calibration, 1, -1),
        name=name,
        labels=labels,
        input=input,
        features=features,
    )


def quantize_nodes(
    nodes: Sequence[Node],
    x: Array,
    *,
    name: str,
    labels: Sequence[str],
    input: "Quant | None" = None,
    features: "dict[str, Any] | None" = None,
) -> QuantizedNet:
    """`quantize` for a graph of nodes, the last one being the output; x is channels last."""
    start = input or Quant.of_range(x.min(), x.max())
    quants: list[Quant] = []
    operations = []
    for node, out in zip(nodes, run_float(nodes, x), strict=True):
        sources = [start if i == INPUT else quants[i] for i in node.inputs]
        # Pooling keeps its input's scale: its result is one of the inputs, or their mean.
        pools = node.kind in (MAX_POOL, AVG_POOL)
        y = sources[0] if pools else Quant.of_range(out.min(), out.max())
        weight = np.zeros(0, np.int8)
        table = np.zeros((0, 3), np.int32)
        if node.weight.size:
            table, weight = _weighted(node, sources[0], y)
        elif node.kind == ADD:
            a, b = sources
            top = 2 * max(a.scale, b.scale)
            factors = np.array([a.scale / top, b.scale / top, top / ((1 << ADD_SHIFT) * y.scale)])
            table = _table(np.array([-a.zero_point, -b.zero_point, y.zero_point]), factors)
        low = max(-128, y.zero_point + round(node.low / y.scale)) if node.low > -np.inf else -128
        high = min(127, y.zero_point + round(node.high / y.scale)) if node.high < np.inf else 127
        operations.append(
            Operation(node, sources[0].zero_point, y.zero_point, low, high, table, weight)
        )
        quants.append(y)
    last = nodes[-1]
    positions = tuple(n for n in (last.out_h, last.out_w) if n > 1)
    shape = (*positions, last.out_c)
    if labels and len(labels) != math.prod(shape):
        raise ValueError(
            f"The network has {math.prod(shape)} outputs and got {len(labels)} labels: name each."
        )
    return QuantizedNet(
        name, operations, x.shape[1:], start, shape, quants[-1], list(labels), features
    )
