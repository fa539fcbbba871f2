"""How many cycles a kernel takes on the Cortex-M0+, before anything is sent.

Convolutions: a count of what is done, and what each of it costs, fitted to cycles that were
measured on the emulated core (`python -m tests.costs` measures and fits again). Other kernels
count their own instructions.
"""

from collections.abc import Mapping

from tinytorch.quantize.operations import kind_of
from tinytorch_core.model import MEL, MOVE, Op

# Cycles of each, see `Weighted.counts`.
COEFFICIENTS: dict[str, float] = {
    "call": 115.012,
    "channel of a block": 41.379,
    "depthwise product": 3.199,
    "depthwise weight": 0.000,
    "exact output": 20.627,
    "exact output, always": 79.596,
    "exact output, always, wide": 79.964,
    "exact output, wide": 30.782,
    "filter": 61.481,
    "further group": 0.000,
    "gathered input": 5.607,
    "input of a block": 3.312,
    "input of a plane from bytes": 6.754,
    "input of a plane from words": 2.420,
    "output of 1 lanes to bytes": 9.261,
    "output of 1 lanes to bytes, wide": 21.333,
    "output of 2 lanes to bytes": 21.397,
    "output of 2 lanes to bytes, wide": 45.009,
    "output of 2 lanes to words": 17.183,
    "output of 2 lanes to words, wide": 40.562,
    "padding of a plane": 5.523,
    "product": 2.972,
    "row of a plane from bytes": 0.000,
    "row of a plane from words": 0.000,
    "row of a window": 32.754,
    "row of tiles": 0.000,
    "tap of a filter": 6.533,
    "tile": 33.025,
    "weight": 3.182,
    "window": 68.678,
    "word of a plane": 2.150,
}


def cycles(counts: Mapping[str, float]) -> int:
    """Of one call that does each thing so often."""
    return round(sum(COEFFICIENTS[name] * count for name, count in counts.items()))


def viper(op: Op) -> int:
    """The cycles of the kernel that MicroPython compiles itself."""
    values = op.out_h * op.out_w * op.out_c
    if op.kind == MOVE:
        return 600 + 16 * values
    if op.kind == MEL:  # mostly the transform: products of each window for each doubling of it
        return op.out_h * op.kernel_h * op.kernel_h.bit_length() * 300
    kind = kind_of(op)
    taps = op.kernel_h * op.kernel_w if kind.bounded else 1
    return values * (300 + 48 * (kind.weights(op) or taps))
