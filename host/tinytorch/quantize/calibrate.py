"""Post-training int8 quantization: a trained float network becomes integer operations.

Batch norm is folded into the convolution or linear layer before it; ranges are calibrated by a
float run over real inputs; weights are symmetric for each output channel, activations asymmetric
for each tensor (Jacob et al., 2017; the TensorFlow Lite int8 specification).

In the lane tier each channel's weights are scaled until its sums keep the bound of
quantize.lanes, and activations have seven bits, which doubles what the bound allows. What this
does to the mean and the spread of each channel is measured, layer after layer, and put right in its
multiplier and its bias (as batch norm would if it were estimated anew; Nagel et al., 2019, correct
biases in the same way).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tinytorch.quantize import lanes
from tinytorch.quantize.fold import fold
from tinytorch.quantize.ir import INPUT, Array, Node, Operation, Quant, QuantizedNet
from tinytorch.quantize.operations import kind_of, table
from tinytorch.quantize.run_float import real_output, run_float
from tinytorch.quantize.run_integers import BATCH, run_integers
from tinytorch_core import nn
from tinytorch_core.model import EXACT, LANE
from tinytorch_core.quant import ACC_LIMIT

# From integer weights (channels, weights) and each channel's gain to a better gain, and the bias.
Match = Callable[[NDArray, Array], tuple[Array, Array]]


def _rows(node: Node) -> Array:
    """The real weights, (output channels, weights of each) in the order of the file."""
    last = kind_of(node).channels_last
    return (np.moveaxis(node.weight, -1, 0) if last else node.weight).reshape(node.out_c, -1)


def _stored(node: Node, q: NDArray) -> NDArray[np.int8]:
    """Integer weights (output channels, weights of each) as they lie in the file."""
    return (q.T if kind_of(node).channels_last else q).astype(np.int8).reshape(-1)


def _statistics(values: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of each channel, which is the last axis."""
    values = values.reshape(-1, values.shape[-1])
    return values.mean(0), values.std(0)


def _matched(node: Node, x: Array, wanted: Array, q: NDArray, gain: Array) -> tuple[Array, Array]:
    """Gain and bias that give the sums of integer weights the mean and the spread of `wanted`.

    q: (channels, weights); x: what the operations before give, without its zero point; gain: by
    the scales alone. It changes by a factor of two at most: what is further off is not rounding.
    """
    weight = _stored(node, q).astype(np.float64).reshape(node.weight.shape)
    bare = replace(node, weight=weight, bias=np.zeros(0))
    parts = [real_output(bare, [x[i : i + BATCH]]) for i in range(0, len(x), BATCH)]
    mean, spread = _statistics(np.concatenate(parts))
    wanted_mean, wanted_spread = _statistics(wanted)
    off = np.divide(wanted_spread, spread * gain, out=np.ones(node.out_c), where=spread > 0)
    gain = gain * np.clip(off, 0.5, 2.0)
    return gain, wanted_mean - gain * mean


def _exact(draft: Operation, x: Quant, y: Quant, match: "Match | None") -> Operation:
    """CONV2D, DEPTHWISE and DENSE in the exact tier."""
    node, rows = draft.node, _rows(draft.node)
    # The second term keeps a large bias beside tiny weights inside the accumulator.
    scale = np.maximum(np.abs(rows).max(1) / 127, np.abs(node.bias) / x.scale / (1 << 24))
    scale[scale == 0] = 1.0
    scale = scale.astype(np.float32).astype(np.float64)  # as a .tflite file would hold them
    q = np.clip(np.rint(rows / scale[:, None]), -127, 127)
    gain, real_bias = x.scale * scale, node.bias
    if match is not None:
        gain, real_bias = match(q, gain)
    bias = np.rint(real_bias / gain)
    rows_of = table(bias, gain / y.scale)
    bound = np.abs(bias) + np.abs(q).sum(1) * max(127 - x.zero_point, 128 + x.zero_point)
    if (bound * 2.0 ** np.maximum(rows_of[:, 2], 0)).max() >= ACC_LIMIT:
        raise ValueError(
            f"The sums of layer {node.name} can overflow 30 bits: make the layer narrower, or "
            "train it with weight decay."
        )
    return replace(draft, table=rows_of, weight=_stored(node, q))


def _lane(
    draft: Operation,
    x: Quant,
    y: Quant,
    span: tuple[int, int],
    group: "int | None",
    match: "Match | None",
) -> tuple[Operation, str]:
    """The same in the lane tier and "", or the draft and why it cannot be. span: of the input."""
    node, rows = draft.node, _rows(draft.node)
    q, scale = lanes.finest(rows, span[1] - span[0], group)
    reason = lanes.too_coarse(rows, q)
    if reason:
        return draft, reason
    gain, real_bias = x.scale * scale, node.bias
    if match is not None:
        gain, real_bias = match(q, gain)
    bound = lanes.accumulator_bound(q, x.zero_point, *span)
    rows_of, reason = lanes.lane_table(gain / y.scale, real_bias / y.scale + y.zero_point, bound)
    if reason:
        return draft, reason
    return replace(draft, table=rows_of, weight=_stored(node, q), tier=LANE), ""


def _draft(node: Node, x: Quant, y: Quant, bits: int) -> Operation:
    """An operation without its table and weights. bits: of its output."""
    low, top = -128, (1 << bits) - 129
    if node.low > -np.inf:
        low = max(low, y.zero_point + round(node.low / y.scale))
    if node.high < np.inf:
        top = min(top, y.zero_point + round(node.high / y.scale))
    no_rows, no_weights = np.zeros((0, 3), np.int32), np.zeros(0, np.int8)
    return Operation(node, x.zero_point, y.zero_point, low, top, no_rows, no_weights)


def quantize(
    net: nn.Module,
    calibration: NDArray,
    *,
    name: str,
    labels: Sequence[str],
    input: "Quant | None" = None,
    features: "dict[str, Any] | None" = None,
    tier: Literal["exact", "lane"] = "exact",
    bits: int = 7,
    group: "int | None" = None,
    match: "bool | None" = None,
) -> QuantizedNet:
    """Quantize a trained net, whose `forward` is followed (see `fold`).

    calibration: real inputs as the layers take them, (N, C, L), (N, C, H, W) or (N, features);
    a few hundred samples of the training data. input: the input's quantization where the features
    fix it, else it is calibrated too.
    labels: a name for each output, or none at all.
    tier: "lane" for layers in the lane tier, except those whose weights would become too coarse
    (`kept_exact` of the result names them). bits: 7 or 8, of the activations that such layers read;
    the network's input always has 8. group: weights that keep the lane bound together; None for all
    of a channel. match: bring each channel's mean and spread to the float network's, on the
    calibration data (default: in the lane tier only).
    Raises ValueError for a layer that a kit cannot run, for calibration data with NaN, for another
    number of labels, and for a tier, bits or group that there is not.
    """
    calibration = np.asarray(calibration, np.float64)
    if not len(calibration) or not np.isfinite(calibration).all():
        raise ValueError(
            "The calibration data is empty or holds NaN: give finite training samples."
        )
    nodes = fold(net, calibration.shape[1:])
    return quantize_nodes(
        nodes, np.moveaxis(calibration, 1, -1), name=name, labels=labels, input=input,
        features=features, tier=tier, bits=bits, group=group, match=match,
    )  # fmt: skip


def quantize_nodes(
    nodes: Sequence[Node],
    x: Array,
    *,
    name: str,
    labels: Sequence[str],
    input: "Quant | None" = None,
    features: "dict[str, Any] | None" = None,
    tier: Literal["exact", "lane"] = "exact",
    bits: int = 7,
    group: "int | None" = None,
    match: "bool | None" = None,
) -> QuantizedNet:
    """`quantize` for a graph of nodes, the last one being the output; x is channels last."""
    _check_tier(tier, bits, group)
    match = tier == "lane" if match is None else match
    narrow, stay_exact = _narrow(nodes, bits, group) if tier == "lane" else (set(), {})
    start = input or Quant.of_range(x.min(), x.max())
    floats = run_float(nodes, x)
    integers: list[NDArray[np.int8]] = []  # what the operations give, only to match
    quants: list[Quant] = []
    operations: list[Operation] = []
    for i, node in enumerate(nodes):
        sources = [start if j == INPUT else quants[j] for j in node.inputs]
        kind = kind_of(node, f"Layer {node.name}")
        if not kind.fits(node):
            raise ValueError(
                f"Layer {node.name} is a {kind.name}, which does not make "
                f"{(node.out_h, node.out_w, node.out_c)} of {(node.in_h, node.in_w, node.in_c)}: "
                "correct its height, width or channels."
            )
        given = sources[0] if kind.bounded else kind.fixed
        width = bits if i in narrow and not given else 8
        y = given or Quant.of_range(floats[i].min(), floats[i].max(), width)
        operation = _draft(node, sources[0], y, width)
        inputs = [start.of(x) if j == INPUT else integers[j] for j in node.inputs] if match else []
        measure: Match | None = None
        if match and kind.weighted:
            wanted = real_output(node, [x if j == INPUT else floats[j] for j in node.inputs])
            sums_of = inputs[0].astype(np.float64) - operation.x_zero
            measure = partial(_matched, node, sums_of, wanted)
        if not kind.weighted:
            operation = kind.quantize(operation, sources, y)
        else:
            if tier == "lane" and i not in stay_exact:
                span = lanes.input_ranges([*operations, operation])[-1]
                operation, reason = _lane(operation, sources[0], y, span, group, measure)
                stay_exact |= {i: reason} if reason else {}
            if operation.tier == EXACT:
                operation = _exact(operation, sources[0], y, measure)
        operations.append(operation)
        quants.append(y)
        if match:
            integers.append(run_integers(operation, inputs))
    last = nodes[-1]
    positions = tuple(n for n in (last.out_h, last.out_w) if n > 1)
    shape = (*positions, last.out_c)
    if labels and len(labels) != math.prod(shape):
        raise ValueError(
            f"The network has {math.prod(shape)} outputs and got {len(labels)} labels: name each."
        )
    sentences = [f"Layer {nodes[i].name} stays exact: {stay_exact[i]}." for i in sorted(stay_exact)]
    return QuantizedNet(
        name, operations, x.shape[1:], start, shape, quants[-1], list(labels), features, sentences
    )


def _check_tier(tier: str, bits: int, group: "int | None") -> None:
    if tier not in ("exact", "lane"):
        raise ValueError(f"There is no tier '{tier}': choose 'exact' or 'lane'.")
    if bits not in (7, 8):
        raise ValueError(f"There are no activations of {bits} bits: choose 7 or 8.")
    if group is not None and group < 1:
        raise ValueError(f"A group of {group} weights is none: give 1 or more, or None for all.")


def _narrow(
    nodes: Sequence[Node], bits: int, group: "int | None"
) -> tuple[set[int], dict[int, str]]:
    """The operations whose output has `bits` bits because a layer in the lane tier reads it, also
    past pooling; and the layers that cannot be in that tier, each with the reason."""
    spans: list[int] = []  # of the values that each operation puts out
    stay_exact: dict[int, str] = {}
    for i, node in enumerate(nodes):
        span = 255 if node.inputs[0] == INPUT else spans[node.inputs[0]]
        kind = kind_of(node, f"Layer {node.name}")
        spans.append(span if kind.bounded else 255 if kind.fixed else (1 << bits) - 1)
        if kind.weighted:
            reason = lanes.too_coarse(_rows(node), lanes.finest(_rows(node), span, group)[0])
            stay_exact |= {i: reason} if reason else {}
    narrow: set[int] = set()
    for i in range(len(nodes) - 1, -1, -1):
        kind = kind_of(nodes[i])
        lane = kind.weighted and i not in stay_exact
        if lane or (i in narrow and kind.bounded):
            narrow.update(nodes[i].inputs)
    return narrow, stay_exact
