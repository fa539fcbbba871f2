"""The table of integer operations: all that the laptop knows of a kind stands in one row.

Whoever needs to know something of an operation asks its row: folding, calibration, the lanes, the
streams, the plan of the arena, the reports. A new operation is its specification in
tinytorch_core.qops, a viper kernel, and a row here.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch.qops import kernels, tables
from tinytorch.quantize.ir import Array, Node, Operation, Quant
from tinytorch_core import mel
from tinytorch_core.model import (
    ADD,
    AVG_POOL,
    CONV2D,
    DENSE,
    DEPTHWISE,
    EXACT,
    LANE,
    LOGISTIC,
    MAX_POOL,
    MEL,
    MOVE,
    MUL,
    Op,
)
from tinytorch_core.qops import ADD_SHIFT
from tinytorch_core.quant import quantize_multiplier

Geometry = Node | Op  # what a node and a record have in common


def input_size(op: Geometry) -> int:
    """The bytes of an operation's first input."""
    return op.in_h * op.in_w * op.in_c


def output_size(op: Geometry) -> int:
    """The bytes of an operation's output."""
    return op.out_h * op.out_w * op.out_c


MUL_SHIFT = 14  # the largest shift of a product of two bytes, see qops

# How an operation meets rows of time, when a network takes a stream of them.
SLIDES = "slides"  # a window of kernel_h rows moves by stride_h
WHOLE = "whole"  # all rows at once
ROW_BY_ROW = "row by row"


def _one(op: Any) -> tuple[int, ...]:
    return (input_size(op),)


def _none(op: Any) -> int:
    return 0


def _slides(op: Any) -> bool:
    """Every window meets the image."""
    rows = 0 <= op.pad_h < op.kernel_h and (op.out_h - 1) * op.stride_h - op.pad_h < op.in_h
    columns = 0 <= op.pad_w < op.kernel_w and (op.out_w - 1) * op.stride_w - op.pad_w < op.in_w
    return rows and columns


def _pools(op: Any) -> bool:
    return _slides(op) and op.out_c == op.in_c


def _multiplies(op: Any) -> bool:
    return _alike(op) and (op.kernel_h, op.kernel_w) in ((1, 1), (op.in_h, op.in_w))


def _alike(op: Any) -> bool:
    """The output has the input's shape."""
    return (op.in_h, op.in_w, op.in_c) == (op.out_h, op.out_w, op.out_c)


def _as_it_is(draft: Operation, sources: Sequence[Quant], y: Quant) -> Operation:
    return draft


@dataclass(frozen=True)
class Kind:
    """A row of the table.

    name: in reports. tiers: EXACT, and LANE where two sums may share a word.
    fits: whether a geometry makes sense.
    real: a node's output before its clip, float64 (N, out_h, out_w, out_c), from its inputs, (N,
    ...) each; None for what stands only in model files.
    input_sizes: the bytes of each input. weights: the weights of one output channel, 0 without any;
    channels_last: these lie as (weights, channels), else as (channels, weights).
    macs: multiply-accumulates of one run.
    bounded: the output has the scale of the first input, and holds nothing beyond its range.
    fixed: the quantization of the output where the operation fixes it; else it is calibrated.
    quantize: a draft without table and weights to the operation; not for those with weights, whose
    tier decides (see calibrate).
    scratch: bytes of work space of the board's own kernel, from a node or record and the bytes of
    its table.
    stream: how it meets rows of time, None where it cannot.
    """

    number: int
    name: str
    fits: Callable[[Any], bool]
    real: "Callable[[Node, Sequence[Array]], Array] | None" = None
    tiers: tuple[int, ...] = (EXACT,)
    input_sizes: Callable[[Any], tuple[int, ...]] = _one
    weights: Callable[[Any], int] = _none
    channels_last: bool = False
    macs: Callable[[Any], int] = _none
    bounded: bool = False
    fixed: "Quant | None" = None
    quantize: Callable[[Operation, Sequence[Quant], Quant], Operation] = _as_it_is
    scratch: Callable[[Any, bytes], int] = lambda op, table: 0
    stream: "str | None" = None

    @property
    def weighted(self) -> bool:
        return self.weights is not _none

    @property
    def integer(self) -> Callable[[Any, bytes, int], None]:
        """The numpy kernel, (arena, program, at)."""
        return kernels.KERNELS[self.number]


# Real numbers. `a` is the first input as an image.


def _image(node: Node, x: Array) -> Array:
    return x.reshape(-1, node.in_h, node.in_w, node.in_c)


def _conv2d(node: Node, inputs: Sequence[Array]) -> Array:
    a = _image(node, inputs[0])
    return np.tensordot(kernels.windows(a, node, 0.0), node.weight, ((4, 5, 3), (1, 2, 3)))


def _depthwise(node: Node, inputs: Sequence[Array]) -> Array:
    a = _image(node, inputs[0])
    w = node.weight.reshape(*node.weight.shape[:2], node.in_c, -1)
    y = np.einsum("nhwcij,ijcm->nhwcm", kernels.windows(a, node, 0.0), w, optimize=True)
    return y.reshape(*y.shape[:3], -1)


def _dense(node: Node, inputs: Sequence[Array]) -> Array:
    return _image(node, inputs[0]) @ node.weight.T


def _max_pool(node: Node, inputs: Sequence[Array]) -> Array:
    return kernels.windows(_image(node, inputs[0]), node, -np.inf).max((4, 5))


def _avg_pool(node: Node, inputs: Sequence[Array]) -> Array:
    return kernels.windows(_image(node, inputs[0]), node, 0.0).mean((4, 5))


def _add(node: Node, inputs: Sequence[Array]) -> Array:
    a = _image(node, inputs[0])
    return a + inputs[1].reshape(a.shape)


def _mul(node: Node, inputs: Sequence[Array]) -> Array:
    a = _image(node, inputs[0])
    return a * inputs[1].reshape(-1, node.kernel_h, node.kernel_w, node.in_c)


def _logistic(node: Node, inputs: Sequence[Array]) -> Array:
    # Of exp(-|a|), which does not overflow.
    a = _image(node, inputs[0])
    small = np.exp(-np.abs(a))
    return np.where(a < 0, small, 1.0) / (1 + small)


# Integers.


def table(offsets: Any, factors: Any) -> NDArray[np.int32]:
    """Rows (offset, multiplier, shift) of a model file, from real factors."""
    rows = [(int(o), *quantize_multiplier(float(f))) for o, f in zip(offsets, factors, strict=True)]
    return np.array(rows, np.int32).reshape(-1, 3)


def _quantize_add(draft: Operation, sources: Sequence[Quant], y: Quant) -> Operation:
    a, b = sources
    top = 2 * max(a.scale, b.scale)
    factors = [a.scale / top, b.scale / top, top / ((1 << ADD_SHIFT) * y.scale)]
    return replace(draft, table=table([-a.zero_point, -b.zero_point, y.zero_point], factors))


def _quantize_mul(draft: Operation, sources: Sequence[Quant], y: Quant) -> Operation:
    a, b = sources
    rows = table([-b.zero_point], [a.scale * b.scale / y.scale])
    if rows[0, 2] > MUL_SHIFT:
        raise ValueError(
            f"The products of layer {draft.node.name} are too small for their factors: scale its "
            "inputs so that they use more of their range."
        )
    return replace(draft, table=rows)


def _quantize_logistic(draft: Operation, sources: Sequence[Quant], y: Quant) -> Operation:
    outputs = tables.logistic(sources[0].scale, sources[0].zero_point)
    return replace(draft, weight=np.clip(outputs, draft.low, draft.high))


def _gathered(op: Any, table: bytes) -> int:
    """The window that the viper kernels gather as int32."""
    return 4 * op.kernel_h * op.kernel_w * op.in_c


TABLE = (
    Kind(
        CONV2D, "conv", _slides, _conv2d, (EXACT, LANE),
        weights=lambda op: op.kernel_h * op.kernel_w * op.in_c,
        macs=lambda op: output_size(op) * op.kernel_h * op.kernel_w * op.in_c,
        scratch=_gathered, stream=SLIDES,
    ),
    Kind(
        DEPTHWISE, "depthwise", lambda op: _slides(op) and op.out_c % op.in_c == 0, _depthwise,
        (EXACT, LANE),
        weights=lambda op: op.kernel_h * op.kernel_w, channels_last=True,
        macs=lambda op: output_size(op) * op.kernel_h * op.kernel_w, stream=SLIDES,
    ),
    Kind(
        DENSE, "dense", lambda op: op.in_h == op.in_w == op.out_h == op.out_w == 1, _dense,
        (EXACT, LANE), weights=lambda op: op.in_c,
        macs=lambda op: op.out_c * op.in_c, scratch=_gathered, stream=WHOLE,
    ),
    Kind(MAX_POOL, "max pool", _pools, _max_pool, bounded=True, stream=SLIDES),
    Kind(AVG_POOL, "average pool", _pools, _avg_pool, bounded=True, stream=SLIDES),
    Kind(
        ADD, "add", _alike, _add, input_sizes=lambda op: (input_size(op), input_size(op)),
        quantize=_quantize_add, stream=ROW_BY_ROW,
    ),
    Kind(
        MUL, "mul", _multiplies, _mul,
        input_sizes=lambda op: (input_size(op), op.kernel_h * op.kernel_w * op.in_c),
        quantize=_quantize_mul, stream=ROW_BY_ROW,
    ),
    # A logistic function ends at 0 and 1: TensorFlow Lite fixes the scale that just holds them.
    Kind(
        LOGISTIC, "logistic", _alike, _logistic, fixed=Quant(1 / 256, -128),
        quantize=_quantize_logistic, stream=ROW_BY_ROW,
    ),
    Kind(MOVE, "move", _alike),
    Kind(
        MEL, "mel", lambda op: op.in_c == 2,
        scratch=lambda op, table: mel.scratch_bytes(*struct.unpack_from("<2i", table)),
    ),
)  # fmt: skip
KINDS = {kind.number: kind for kind in TABLE}


def kind_of(op: Geometry, where: str = "") -> Kind:
    """The row of a node or a record. where: its name, for the error.

    Raises ValueError for a kind that is not in the table.
    """
    kind = KINDS.get(op.kind)
    if kind is None:
        names = ", ".join(f"{each.name} ({each.number})" for each in TABLE)
        raise ValueError(
            f"{where or 'An operation'} is of the unknown kind {op.kind}: TinyTorch has {names}."
        )
    return kind
