"""How many cycles a kernel takes on the Cortex-M0+, before anything is sent.

Convolutions: a count of what is done, and what each of it costs, fitted to cycles that were
measured on the emulated core (`python -m tests.costs` measures and fits again). Pooling,
addition and features of sound count their own instructions.
"""

from tinytorch.machine import armv6m_simple, armv6m_sound
from tinytorch.machine.armv6m import Depthwise, Dot, Exact
from tinytorch.machine.armv6m_average import Average
from tinytorch.machine.armv6m_simple import Add, Pool
from tinytorch.machine.armv6m_sound import Mel
from tinytorch_core.model import CONV2D, DENSE, MEL, MOVE, Op

# Cycles of each, see `counts`.
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


def counts(shape: "Dot | Depthwise") -> dict[str, float]:
    """How often a kernel does what costs time."""
    w, n, lanes = shape.window, shape.words, shape.lanes
    if isinstance(shape.tail, Exact):
        output = "exact output" if shape.tail.fraction else "exact output, always"
    else:
        output = f"output of {lanes} lanes to {'words' if shape.words_out else 'bytes'}"
    if shape.tail.wide:
        output += ", wide"
    found: dict[str, float] = {"call": 1}
    if isinstance(shape, Dot):
        weights = sum(shape.groups)
        channels = shape.blocks * w.out_c
        found |= {
            "product": channels * weights * n,
            "weight": channels * weights,
            "channel of a block": channels,
            "further group": channels * (len(shape.groups) - 1) * n,
            "input of a block": shape.blocks * weights * n,
            output: channels * n,
        }
        if not shape.words_in:
            positions = shape.blocks * n * lanes
            found["window"] = positions
            found["row of a window"] = positions * w.kernel_h
            found["gathered input"] = positions * weights
        return found
    first, columns = shape.span
    used = sum(
        0 <= i * w.stride_w + k - w.pad_w - first < columns
        for i in range(n)
        for k in range(w.kernel_w)
    )
    width = (n - 1) * w.stride_w + w.kernel_w
    tiles = w.out_c * shape.rows * shape.tiles
    kind = "words" if shape.words_in else "bytes"
    return found | {
        "depthwise product": tiles * w.kernel_h * used,
        "word of a plane": tiles * w.kernel_h * min(width, columns),
        "depthwise weight": tiles * w.kernel_h * w.kernel_w,
        "tile": tiles,
        "row of tiles": w.out_c * shape.rows,
        "filter": w.out_c,
        "tap of a filter": w.out_c * w.kernel_h * w.kernel_w,
        f"input of a plane from {kind}": w.in_c * w.in_h * w.in_w,
        f"row of a plane from {kind}": w.in_c * shape.plane_rows,
        "padding of a plane": shape.plane_rows * columns,
        output: tiles * n,
    }


def cycles(shape: "Dot | Depthwise | Average | Pool | Add | Mel") -> int:
    """The cycles of one call."""
    if isinstance(shape, Add | Pool):
        return armv6m_simple.cycles(shape)
    if isinstance(shape, Mel):
        return armv6m_sound.cycles(shape)
    if isinstance(shape, Average):
        full, rest = divmod(shape.distance, shape.words)
        n = shape.words
        return 100 + shape.channels * (95 + full * (2 * n + 5) + 4 * rest)
    return round(sum(COEFFICIENTS[name] * count for name, count in counts(shape).items()))


def viper(op: Op) -> int:
    """The cycles of the kernel that MicroPython compiles itself."""
    values = op.out_h * op.out_w * op.out_c
    if op.kind == MOVE:
        return 600 + 16 * values
    if op.kind == MEL:  # mostly the transform: products of each window for each doubling of it
        return op.out_h * op.kernel_h * op.kernel_h.bit_length() * 300
    taps = op.kernel_h * op.kernel_w * (op.in_c if op.kind in (CONV2D, DENSE) else 1)
    return values * (300 + 48 * taps)
