"""How many cycles a kernel takes on the Cortex-M0+, before anything is assembled or sent."""

from tinytorch.machine import armv6m_simple
from tinytorch.machine.armv6m import Depthwise, Dot, Exact
from tinytorch.machine.armv6m_average import Average
from tinytorch.machine.armv6m_simple import Add, Pool
from tinytorch_core.model import CONV2D, DENSE, Op


def cycles(shape: "Dot | Depthwise | Average | Pool | Add") -> int:
    """The cycles of one call."""
    if isinstance(shape, Add | Pool):
        return armv6m_simple.cycles(shape)
    if isinstance(shape, Average):
        full, rest = divmod(shape.distance, shape.words)
        n = shape.words
        return 100 + shape.channels * (95 + full * (2 * n + 5) + 4 * rest)
    w, n, two = shape.window, shape.words, shape.lanes == 2
    if isinstance(shape.tail, Exact):
        output = 17 if shape.tail.fraction else 85
    elif shape.words_out:
        output = 17
    else:
        output = 19 if two else 12
    if isinstance(shape, Dot):
        k = w.kernel_h * w.kernel_w * w.in_c
        groups = len(shape.groups)
        channel = 60 + k * (3 + 3 * n) + n * output + (groups - 1) * (30 + 5 * n)
        block = 60 + k * (1 + 2 * n + 1)
        if not shape.words_in:
            block += n * shape.lanes * (70 + w.kernel_h * (45 + 6 * w.kernel_w * w.in_c))
        return 400 + shape.blocks * (block + w.out_c * channel)
    taps = w.kernel_h * w.kernel_w
    columns = (n - 1) * w.stride_w + w.kernel_w
    tile = 50 + n * output + w.kernel_h * (1 + columns + 2 * w.kernel_w) + taps * n * 3
    tile -= w.kernel_h * columns
    plane = shape.plane_rows * shape.span[1] * (3 if shape.words_in else 6 * shape.lanes)
    return 400 + w.in_c * (plane + 60) + w.out_c * (8 * taps + shape.rows * shape.tiles * tile)


def viper(op: Op) -> int:
    """The cycles of the kernel that MicroPython compiles itself."""
    values = op.out_h * op.out_w * op.out_c
    taps = op.kernel_h * op.kernel_w * (op.in_c if op.kind in (CONV2D, DENSE) else 1)
    return values * (300 + 48 * taps)
