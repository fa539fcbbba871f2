"""Random integer operations, each a whole model of one operation, for every test of the kernels."""

import numpy as np
from numpy.typing import NDArray

from tinytorch.export import to_bytes
from tinytorch.graph import INPUT, Node
from tinytorch.quantize import Operation, Quant, QuantizedNet
from tinytorch.runtime import Model
from tinytorch_core import qops
from tinytorch_core.model import ADD, AVG_POOL, CONV2D, DENSE, DEPTHWISE, MAX_POOL
from tinytorch_core.quant import quantize_multiplier

KINDS = {
    "conv2d": CONV2D, "depthwise": DEPTHWISE, "dense": DENSE,
    "max_pool": MAX_POOL, "avg_pool": AVG_POOL, "add": ADD,
}  # fmt: skip


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


def random_net(kind: str, rng: np.random.Generator) -> QuantizedNet:
    """One operation with random geometry, weights, zero points and clip, extremes included."""
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
    if kind == "add":
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
    if kind in ("conv2d", "depthwise", "dense"):
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
    if kind == "add":
        inputs = (INPUT, INPUT)
        a, b, y = 2.0 ** rng.uniform(-6, 2, 3)
        top = 2 * max(a, b)
        factors = [a / top, b / top, top / ((1 << qops.ADD_SHIFT) * y)]
        offsets = [-x_zero, int(rng.integers(-127, 129)), y_zero]
        table = np.array(
            [(o, *quantize_multiplier(f)) for o, f in zip(offsets, factors, strict=True)], np.int32
        )
    low, high = (
        sorted(int(v) for v in rng.integers(-128, 128, 2)) if rng.random() < 0.3 else (-128, 127)
    )
    node = Node(
        kind, KINDS[kind], inputs, h, w, c, *out, out_c, *kernel, *stride, *pad,
        weight=weight.astype(float),
    )  # fmt: skip
    operation = Operation(node, x_zero, y_zero, low, high, table, weight.reshape(-1))
    quant = Quant(0.5, x_zero)
    return QuantizedNet(kind, [operation], (h, w, c), quant, (*out, out_c), Quant(1.0, y_zero), [])


def random_input(net: QuantizedNet, rng: np.random.Generator, n: int = 3) -> NDArray[np.int8]:
    x = rng.integers(-128, 128, (n, *net.input_shape)).astype(np.int8)
    x[0] = rng.choice([-128, 127], x[0].shape)
    return x


def random_case(kind: str, seed: int) -> tuple[bytes, NDArray[np.int8], NDArray[np.int8]]:
    """A model file, inputs, and the outputs that the specification gives."""
    rng = np.random.default_rng(seed)
    net = random_net(kind, rng)
    data, x = to_bytes(net), random_input(net, rng)
    return data, x, Reference(data).run_batch(x)
