"""Random integer operations, each a whole model of one operation, for every test of the kernels."""

import numpy as np
from numpy.typing import NDArray

from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.qops import tables
from tinytorch.quantize.ir import INPUT, Node, Operation, Quant, QuantizedNet
from tinytorch_core import qops
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
    MUL,
)
from tinytorch_core.quant import LANE_LIMIT, quantize_multiplier

KINDS = {
    "conv2d": CONV2D, "depthwise": DEPTHWISE, "dense": DENSE,
    "max_pool": MAX_POOL, "avg_pool": AVG_POOL, "add": ADD, "mul": MUL, "logistic": LOGISTIC,
}  # fmt: skip
WEIGHTED = ("conv2d", "depthwise", "dense")
# Every kind in each of its tiers.
KINDS_AND_TIERS = [(kind, EXACT) for kind in KINDS] + [(kind, LANE) for kind in WEIGHTED]


class Reference(Model):
    """A model that runs on the specification's own operations, one sample at a time."""

    kernels = qops.KERNELS

    def run(self) -> None:
        arena = self._view
        for kernel, at in self._steps:
            kernel(arena, self._program, at)

    def run_batch(self, x: NDArray[np.int8]) -> NDArray[np.int8]:
        rows = []
        for sample in x:
            self.input[:] = sample.tobytes()
            self.run()
            rows.append(np.frombuffer(bytes(self.output), np.int8))
        return np.array(rows).reshape(-1, *self.output_shape)


def lane_weights(rng: np.random.Generator, channels: int, n: int) -> NDArray[np.int8]:
    """(channels, n) within the lane bound for inputs from -128 to 127, often just so.

    Mostly over all n weights of a channel, else over groups of fewer.
    """
    group = n if rng.random() < 0.8 else int(rng.integers(1, n + 1))
    limit = LANE_LIMIT // 255
    rows = np.zeros((channels, n), np.int8)
    for row in rows:
        sign = rng.choice([-1, 1])
        for start in range(0, n, group):
            part = row[start : start + group]
            total = limit if rng.random() < 0.6 else int(rng.integers(limit + 1))
            shares = rng.dirichlet(np.full(len(part), rng.choice([0.3, 1, 30])))
            part[:] = np.minimum(rng.multinomial(total, shares), 127)
            part *= sign if rng.random() < 0.6 else rng.choice([-1, 1], len(part)).astype(np.int8)
    return rows


def lane_table(
    rng: np.random.Generator, rows: NDArray[np.int8], x_zero: int, y_zero: int
) -> NDArray[np.int32]:
    """(bias, multiplier, shift) of each channel, so that no input leaves an int32.

    Some have outputs of a useful size, others go as far as the tier allows.
    """
    positive, negative = np.maximum(rows, 0).sum(1), np.minimum(rows, 0).sum(1)
    largest = positive * (127 - x_zero) + negative * (-128 - x_zero)
    smallest = positive * (-128 - x_zero) + negative * (127 - x_zero)
    shift = int(rng.choice([rng.integers(0, 31), rng.integers(6, 24)]))
    table = []
    for reach in np.maximum(largest, -smallest).tolist():
        limit = min((1 << 15) - 1, ((1 << 31) - 1) // max(reach, 1))
        size = int(rng.integers(1, 600) * 2.0**shift / max(reach, 1))
        multiplier = int(rng.choice([min(size, limit), limit, rng.integers(limit + 1)]))
        room = (1 << 31) - 1 - reach * multiplier
        bias = (y_zero << shift) + (1 << shift >> 1) + int(rng.integers(-3, 4) * reach)
        bias = int(rng.choice([np.clip(bias, -room, room), room, -room], p=[0.6, 0.2, 0.2]))
        table.append((bias, multiplier, shift))
    return np.array(table, np.int32)


def mul_row(rng: np.random.Generator) -> tuple[int, int, int]:
    """(offset of x2, multiplier, shift): mostly for outputs of a useful size, else any legal ones,
    also of multipliers that no scale would give."""
    offset = int(rng.choice([-127, 128, 0, rng.integers(-127, 129)]))
    if rng.random() < 0.6:
        return offset, *quantize_multiplier(2.0 ** rng.uniform(-17, -2))
    most = (1 << 31) - 1
    multiplier = int(rng.choice([0, 1, 1 << 15, 1 << 30, most, rng.integers(most)]))
    return offset, multiplier, int(rng.integers(-31, 15))


def random_net(kind: str, rng: np.random.Generator, tier: int = EXACT) -> QuantizedNet:
    """One operation with random geometry, weights, zero points and clip, extremes included.

    One of the lane tier keeps that tier's promises for any int8 input, many of them just so.
    """
    signal = rng.random() < 0.3
    h, w, c = (
        (1 if signal else int(rng.integers(1, 7))),
        int(rng.integers(1, 9)),
        int(rng.integers(1, 7)),
    )
    kernel = (1 if signal else int(rng.integers(1, h + 2)), int(rng.integers(1, w + 2)))
    stride = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    # A kernel wider than the image needs padding, but less than its own width of it.
    pad = [
        int(rng.integers(max(0, -(-(k - n) // 2)), max(1, k)))
        for k, n in zip(kernel, (h, w), strict=True)
    ]
    if kind == "dense":
        h, w, c, kernel, stride, pad = 1, 1, int(rng.integers(1, 70)), (1, 1), (1, 1), [0, 0]
    if kind in ("add", "mul", "logistic"):
        kernel, stride, pad = (1, 1), (1, 1), [0, 0]
    out = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip((h, w), pad, kernel, stride, strict=True)]
    # The last window must meet the image.
    out = [
        min(o, (n - 1 + p) // s + 1) for o, n, p, s in zip(out, (h, w), pad, stride, strict=True)
    ]
    out_c = c
    if kind in ("conv2d", "dense"):
        out_c = int(rng.integers(1, 9))
    if kind == "depthwise":
        out_c = c * int(rng.integers(1, 4))
    x_zero, y_zero = (int(v) for v in rng.choice([-128, 127, 0, int(rng.integers(-128, 128))], 2))
    weight = np.zeros(0, np.int8)
    table = np.zeros((0, 3), np.int32)
    inputs: tuple[int, ...] = (INPUT,)
    if kind in WEIGHTED:
        shape = {
            "conv2d": (out_c, *kernel, c), "depthwise": (*kernel, out_c), "dense": (out_c, c),
        }[kind]  # fmt: skip
        weight = rng.integers(-127, 128, shape).astype(np.int8)
        if rng.random() < 0.2:
            weight = np.full(shape, rng.choice([-127, 127]), np.int8)
        bias = rng.integers(-(1 << int(rng.integers(1, 20))), 1 << int(rng.integers(1, 20)), out_c)
        factors = 2.0 ** rng.uniform(-16, 1, out_c)
        table = np.array(
            [(b, *quantize_multiplier(f)) for b, f in zip(bias, factors, strict=True)], np.int32
        )
        if tier == LANE:
            rows = lane_weights(rng, out_c, weight.size // out_c)
            weight = (rows.T if kind == "depthwise" else rows).reshape(shape)
            table = lane_table(rng, rows, x_zero, y_zero)
    if kind == "add":
        inputs = (INPUT, INPUT)
        a, b, y = 2.0 ** rng.uniform(-6, 2, 3)
        top = 2 * max(a, b)
        factors = [a / top, b / top, top / ((1 << qops.ADD_SHIFT) * y)]
        offsets = [-x_zero, int(rng.integers(-127, 129)), y_zero]
        table = np.array(
            [(o, *quantize_multiplier(f)) for o, f in zip(offsets, factors, strict=True)], np.int32
        )
    if kind == "mul":  # by itself, or by its own first pixel
        inputs = (INPUT, INPUT)
        kernel = (h, w) if rng.random() < 0.5 else (1, 1)
        table = np.array([mul_row(rng)], np.int32)
    if kind == "logistic":
        weight = rng.integers(-128, 128, 256).astype(np.int8)
        if rng.random() < 0.5:
            weight = tables.logistic(2.0 ** rng.uniform(-9, -1), x_zero)
    low, high = (
        sorted(int(v) for v in rng.integers(-128, 128, 2)) if rng.random() < 0.3 else (-128, 127)
    )
    node = Node(
        kind, KINDS[kind], inputs, h, w, c, *out, out_c, *kernel, *stride, *pad,
        weight=weight.astype(float),
    )  # fmt: skip
    operation = Operation(node, x_zero, y_zero, low, high, table, weight.reshape(-1), tier)
    quant = Quant(0.5, x_zero)
    return QuantizedNet(kind, [operation], (h, w, c), quant, (*out, out_c), Quant(1.0, y_zero), [])


def furthest(operation: Operation) -> NDArray[np.int8]:
    """What of all inputs takes the first window's sum of the first channel highest, (h, w, c).

    In a depthwise operation, of each input channel's first filter.
    """
    node = operation.node
    if node.kind == DEPTHWISE:
        w = operation.weight.reshape(node.kernel_h, node.kernel_w, node.in_c, -1)[..., 0]
    else:
        w = operation.weight[: node.kernel_h * node.kernel_w * node.in_c]
        w = w.reshape(node.kernel_h, node.kernel_w, node.in_c)
    shape = (node.kernel_h + node.in_h, node.kernel_w + node.in_w, node.in_c)
    x = np.full(shape, 127, np.int8)
    x[: node.kernel_h, : node.kernel_w] = np.where(w < 0, -128, 127)
    x = x[node.pad_h :, node.pad_w :]
    return x[: node.in_h, : node.in_w]


def random_input(net: QuantizedNet, rng: np.random.Generator, n: int = 4) -> NDArray[np.int8]:
    """(n, *input_shape): mostly the ends of int8, and what takes a sum to either of its ends."""
    x = rng.integers(-128, 128, (n, *net.input_shape)).astype(np.int8)
    x[0] = rng.choice([-128, 127], x[0].shape)
    if net.name in WEIGHTED:
        x[1] = furthest(net.operations[0])
        x[2] = ~x[1]
    return x


def random_case(
    kind: str, seed: int, tier: int = EXACT
) -> tuple[bytes, NDArray[np.int8], NDArray[np.int8]]:
    """A model file, inputs, and the outputs that the specification gives."""
    rng = np.random.default_rng(seed)
    net = random_net(kind, rng, tier)
    data, x = to_bytes(net), random_input(net, rng)
    return data, x, Reference(data).run_batch(x)
