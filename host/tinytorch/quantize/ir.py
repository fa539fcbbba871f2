"""A network between training and the model file: what is computed, from what, in which integers."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch_core.model import EXACT, FIELDS

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


@dataclass(frozen=True)
class Quant:
    """How int8 values stand for real ones: real = (q - zero_point) * scale."""

    scale: float
    zero_point: int

    @staticmethod
    def of_range(low: float, high: float, bits: int = 8) -> "Quant":
        """The finest scale whose 2**bits values, from -128 on, cover [low, high] and zero."""
        low, high = min(low, 0.0), max(high, 0.0)
        if low == high:  # nothing but zeros: every scale holds them, and a usual one fits the rest
            high = 1.0
        span = (1 << bits) - 1
        # float32, so that a board with 32-bit floats holds the same scale.
        scale = float(np.float32(max(high - low, 1e-6) / span))
        return Quant(scale, int(np.clip(round(-128 - low / scale), -128, span - 128)))

    def of(self, real: NDArray) -> NDArray[np.int8]:
        """The int8 values nearest to real ones."""
        return np.clip(np.rint(real / self.scale) + self.zero_point, -128, 127).astype(np.int8)


@dataclass(frozen=True)
class Operation:
    """A node in integers: its quantized clip, table rows (bias, multiplier, shift) and weights.

    kept: in a network that takes a stream, the bytes of earlier outputs that stand in front of this
    one, for whoever reads it.
    """

    node: Node
    x_zero: int
    y_zero: int
    low: int
    high: int
    table: NDArray[np.int32]  # (rows, 3)
    weight: NDArray[np.int8]  # flat, in the order of the specification
    tier: int = EXACT
    kept: int = 0


@dataclass(frozen=True)
class QuantizedNet:
    """All that a model file says about a network; `input_shape` is channels last.

    kept_exact: of the layers that were to be in the lane tier and are not, which and why, a
    sentence each. type: of the input's numbers, "int8" or "int16". kept: as of an Operation, the
    bytes of earlier inputs in front of the input.
    """

    name: str
    operations: list[Operation]
    input_shape: tuple[int, ...]
    input: Quant
    output_shape: tuple[int, ...]
    output: Quant
    labels: list[str]
    features: "dict[str, Any] | None" = None
    kept_exact: list[str] = field(default_factory=list)
    type: str = "int8"
    kept: int = 0

    @property
    def input_bytes(self) -> int:
        """Of one input, or of one step of a stream."""
        return int(np.prod(self.input_shape)) * np.dtype(self.type).itemsize


def record(operation: Operation, **places: int) -> list[int]:
    """The FIELDS of an operation's record. places: its offsets in arena and program."""
    values = {
        "x_zero": operation.x_zero, "y_zero": operation.y_zero, "low": operation.low,
        "high": operation.high, "tier": operation.tier, **places,
    }  # fmt: skip
    return [values.get(name, getattr(operation.node, name, 0)) for name in FIELDS]
