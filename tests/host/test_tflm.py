"""Every operation gives the bytes that TensorFlow Lite Micro gives."""

import numpy as np
import pytest

from tests import tflm
from tests.networks import random_network
from tests.sweeps import examples, sweep
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.qops import tables
from tinytorch.quantize.calibrate import quantize
from tinytorch.quantize.fold import fold
from tinytorch.quantize.ir import INPUT, Node, Operation, Quant, QuantizedNet
from tinytorch.quantize.run_float import run_float
from tinytorch_core.model import (
    ADD,
    AVG_POOL,
    CONV2D,
    DENSE,
    DEPTHWISE,
    LOGISTIC,
    MAX_POOL,
    MUL,
)
from tinytorch_core.qops import ADD_SHIFT
from tinytorch_core.quant import quantize_multiplier

CASES = examples(40, long=100)
RANGES = [(-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0)]


def f32(x: float) -> float:
    return float(np.float32(x))


def random_quant(rng, scale: float) -> Quant:
    zero = int(rng.choice([-128, 127, 0, rng.integers(-128, 128)]))
    return Quant(f32(scale * 2 ** rng.uniform(-1, 1)), zero)


def clip(node: Node, y: Quant) -> tuple[int, int]:
    """TensorFlow Lite's CalculateActivationRangeQuantized."""
    low, high = (
        y.zero_point + int(np.floor(np.float32(v) / np.float32(y.scale) + 0.5))
        if np.isfinite(v)
        else None
        for v in (node.low, node.high)
    )
    return (-128 if low is None else max(-128, low)), (127 if high is None else min(127, high))


def random_geometry(rng, signal: bool) -> dict[str, int]:
    geometry: dict[str, int] = {}
    same = rng.random() < 0.5
    for axis in "hw":
        n, k, s = (int(rng.integers(1, top)) for top in (9, 5, 4))
        if signal and axis == "h":
            n = k = s = 1
        if not same:
            k = min(k, n)
        pad, out = tflm.same_padding(n, k, s) if same else (0, (n - k) // s + 1)
        names = [f"in_{axis}", f"kernel_{axis}", f"stride_{axis}", f"pad_{axis}", f"out_{axis}"]
        geometry.update(zip(names, (n, k, s, pad, out), strict=True))
    return geometry


def weighted(node: Node, x: Quant, rng, per_channel: bool):
    """An operation with weights, its output's quantization and its weights' scales."""
    taps = node.kernel_h * node.kernel_w * (1 if node.kind == DEPTHWISE else node.in_c)
    weight = rng.integers(-127, 128, taps * node.out_c).astype(np.int8)
    if rng.random() < 0.2:
        weight[:] = rng.choice([-127, 127])
    scales = (2.0 ** rng.uniform(-9, -3, node.out_c if per_channel else 1)).astype(np.float32)
    y = random_quant(rng, x.scale * float(scales.mean()) * 60 * np.sqrt(taps))
    if per_channel:
        factors = [x.scale * float(s) / y.scale for s in scales]
    else:  # the product of the scales is a float32 here
        factors = [float(np.float32(x.scale) * scales[0]) / y.scale] * node.out_c
    bias = rng.integers(-4000, 4000, node.out_c) * int(rng.choice([0, 1, 10]))
    table = [(b, *quantize_multiplier(f)) for b, f in zip(bias, factors, strict=True)]
    low, high = clip(node, y)
    operation = Operation(
        node, x.zero_point, y.zero_point, low, high, np.array(table, np.int32), weight
    )
    return operation, y, scales


def pooled(node: Node, x: Quant):
    low, high = clip(node, x)
    empty = np.zeros((0, 3), np.int32)
    return Operation(node, x.zero_point, x.zero_point, low, high, empty, np.zeros(0, np.int8))


def added(node: Node, a: Quant, b: Quant, y: Quant) -> Operation:
    top = 2 * max(a.scale, b.scale)
    factors = (a.scale / top, b.scale / top, top / ((1 << ADD_SHIFT) * y.scale))
    offsets = (-a.zero_point, -b.zero_point, y.zero_point)
    table = [(o, *quantize_multiplier(f)) for o, f in zip(offsets, factors, strict=True)]
    low, high = clip(node, y)
    return Operation(
        node, a.zero_point, y.zero_point, low, high, np.array(table, np.int32), np.zeros(0, np.int8)
    )


def multiplied(node: Node, a: Quant, b: Quant, y: Quant) -> Operation:
    row = (-b.zero_point, *quantize_multiplier(a.scale * b.scale / y.scale))
    low, high = clip(node, y)
    return Operation(
        node, a.zero_point, y.zero_point, low, high, np.array([row], np.int32), np.zeros(0, np.int8)
    )


def curved(node: Node, x: Quant) -> Operation:
    empty = np.zeros((0, 3), np.int32)
    table = tables.logistic(x.scale, x.zero_point)
    return Operation(node, x.zero_point, -128, -128, 127, empty, table)


def random_net(
    kind: int, rng, signal: bool = False, per_channel: bool = True, channel: bool = False
):
    """A network around one operation of the kind, and the scales that its file leaves out."""
    x = random_quant(rng, 0.05)
    in_c = int(rng.integers(1, 6))
    low, high = RANGES[rng.integers(3)]
    geometry = random_geometry(rng, signal)
    if kind == DENSE:
        in_c = int(rng.integers(1, 80))
        geometry = {"in_h": 1, "in_w": 1, "out_h": 1, "out_w": 1}
    if kind in (ADD, MUL, LOGISTIC):
        geometry.update(out_h=geometry["in_h"], out_w=geometry["in_w"])
        for name in ("kernel", "stride", "pad"):
            geometry.update({f"{name}_{axis}": int(name != "pad") for axis in "hw"})
    out_c = {CONV2D: int(rng.integers(1, 7)), DENSE: int(rng.integers(1, 20))}.get(kind, in_c)
    if kind == DEPTHWISE:
        out_c *= int(rng.integers(1, 4))
    node = Node("it", kind, (INPUT,), in_c=in_c, out_c=out_c, low=low, high=high, **geometry)
    if kind in (MAX_POOL, AVG_POOL):
        operations, quants, scales = [pooled(node, x)], [x], [[]]
    elif kind == ADD:
        # The second summand has scales of its own: a depthwise 1x1 stands before it.
        before = Node("before", DEPTHWISE, (INPUT,), in_c=in_c, out_c=in_c, **geometry)
        first, a, scale = weighted(before, x, rng, True)
        node = Node("it", ADD, (INPUT, 0), in_c=in_c, out_c=in_c, low=low, high=high, **geometry)
        y = random_quant(rng, x.scale + a.scale)
        operations, quants, scales = [first, added(node, x, a, y)], [a, y], [scale, []]
    elif kind == MUL:
        # The second factor is what a depthwise operation makes: of each pixel, or of all of them.
        size = {"kernel_h": geometry["in_h"], "kernel_w": geometry["in_w"]}
        one = {**geometry, **size, "out_h": 1, "out_w": 1} if channel else geometry
        before = Node("before", DEPTHWISE, (INPUT,), in_c=in_c, out_c=in_c, **one)
        first, a, scale = weighted(before, x, rng, True)
        node = Node(
            "it", MUL, (INPUT, 0), in_c=in_c, out_c=in_c, low=low, high=high,
            **(geometry if channel else {**geometry, **size}),
        )  # fmt: skip
        # All products have one sign where zero points are at the ends, so y's is not.
        y = Quant(random_quant(rng, x.scale * a.scale * 200).scale, int(rng.integers(-99, 99)))
        operations, quants, scales = [first, multiplied(node, x, a, y)], [a, y], [scale, []]
    elif kind == LOGISTIC:
        node = Node("it", LOGISTIC, (INPUT,), in_c=in_c, out_c=in_c, **geometry)
        y = Quant(1 / 256, -128)
        operations, quants, scales = [curved(node, x)], [y], [[]]
    else:
        operation, y, scale = weighted(node, x, rng, per_channel)
        operations, quants, scales = [operation], [y], [scale]
    shape = (node.in_h, node.in_w, node.in_c)
    out = (node.out_h, node.out_w, node.out_c)
    return QuantizedNet("it", operations, shape, x, out, quants[-1], []), quants, scales


def inputs(net: QuantizedNet, rng, n: int = 4):
    x = rng.integers(-128, 128, (n, *net.input_shape)).astype(np.int8)
    x[0] = rng.choice([-128, 127], x[0].shape)
    return x


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        (CONV2D, {}), (CONV2D, {"signal": True}), (CONV2D, {"per_channel": False}),
        (DEPTHWISE, {}), (DEPTHWISE, {"signal": True}),
        (DENSE, {"per_channel": False}), (DENSE, {}),
        (MAX_POOL, {}), (MAX_POOL, {"signal": True}),
        (AVG_POOL, {}), (AVG_POOL, {"signal": True}),
        (ADD, {}), (ADD, {"signal": True}),
        (MUL, {}), (MUL, {"signal": True}), (MUL, {"channel": True}),
        (LOGISTIC, {}), (LOGISTIC, {"signal": True}),
    ],
)  # fmt: skip
@sweep
def test_an_operation_equals_tensorflow_lite_micro(kind, how):
    varied = 0
    for seed in range(CASES):
        rng = np.random.default_rng((kind, seed))
        net, quants, scales = random_net(kind, rng, **how)
        x = inputs(net, rng)
        y = Model(to_bytes(net)).run_batch(x).reshape(len(x), -1)
        np.testing.assert_array_equal(
            y, tflm.run(tflm.to_tflite(net, quants, scales), x), f"seed {seed}"
        )
        varied += len(np.unique(y)) > 2
    # Saturated or constant outputs would prove little.
    assert varied > CASES / 2


def logistic_of_all(scale: float, zero_point: int):
    """What TensorFlow Lite Micro makes of all int8 values of this scale and zero point, (256,)."""
    x, y = Quant(f32(scale), zero_point), Quant(1 / 256, -128)
    node = Node("it", LOGISTIC, (INPUT,), 1, 1, 256, 1, 1, 256)
    net = QuantizedNet("it", [curved(node, x)], (256,), x, (256,), y, [])
    values = np.arange(-128, 128, dtype=np.int8)[None]
    return tflm.run(tflm.to_tflite(net, [y], [[]]), values)[0]


def test_the_table_of_the_logistic_function_equals_tensorflow_lite_micro():
    rng = np.random.default_rng(0)
    scales = [2.0**k for k in range(-26, 9)] + [0.1, 1 / 3, 8 / 127, 16 / 255, 0.0625001, 15.9, 1e3]
    for scale in [*scales, *2.0 ** rng.uniform(-12, 3, 60)]:
        for zero_point in {-128, 127, 0, int(rng.integers(-128, 128))}:
            found = tables.logistic(scale, zero_point)
            expected = logistic_of_all(scale, zero_point)
            np.testing.assert_array_equal(found, expected, f"{scale} {zero_point}")


def test_the_table_of_the_logistic_function_is_the_function():
    x = (np.arange(-128, 128) + 5) * f32(0.05)
    real = 256 / (1 + np.exp(-x)) - 128
    assert np.abs(tables.logistic(0.05, -5) - np.clip(real, -128, 127)).max() < 0.51
    for wrong in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="^A scale is positive and finite, and got "):
            tables.logistic(wrong, 0)


def real_scales(nodes, x, net: QuantizedNet):
    """The scales of every operation's output and weights, derived anew."""
    quants: list[Quant] = []
    scales = []
    for node, y in zip(nodes, run_float(nodes, x), strict=True):
        pools = node.kind in (MAX_POOL, AVG_POOL)
        source = net.input if node.inputs[0] == INPUT else quants[node.inputs[0]]
        quants.append(source if pools else Quant.of_range(y.min(), y.max()))
        channel = node.weight.ndim - 1 if node.kind == DEPTHWISE else 0
        others = tuple(i for i in range(node.weight.ndim) if i != channel)
        # A channel's scale serves its bias too, which must stay below 2**24 steps.
        least = np.abs(node.bias) / source.scale / (1 << 24)
        whole = np.abs(node.weight).max(others) / 127 if node.weight.size else least
        scales.append(np.maximum(whole, least))
    return quants, scales


@pytest.mark.parametrize("seed", range(30))
def test_a_quantized_network_equals_tensorflow_lite_micro(seed):
    rng = np.random.default_rng(seed)
    layers, shape = random_network(rng, 1 + seed % 2, strided_padding=False)
    x = rng.normal(0, 1, (50, *shape))
    net = quantize(layers, x, name="chain", labels=[])
    quants, scales = real_scales(fold(layers, shape), np.moveaxis(x, 1, -1), net)
    for operation, y, scale in zip(net.operations, quants, scales, strict=True):
        node = operation.node
        source = net.input if node.inputs[0] == INPUT else quants[node.inputs[0]]
        # A .tflite file holds every scale as a float32.
        factors = [source.scale * f32(s) / y.scale for s in scale]
        assert operation.table[:, 1:].tolist() == [[*quantize_multiplier(f)] for f in factors]
    q = inputs(net, rng, 8)
    q[2:] = Model(to_bytes(net)).quantize(np.moveaxis(x, 1, -1))[:6]
    y = Model(to_bytes(net)).run_batch(q).reshape(len(q), -1)
    np.testing.assert_array_equal(y, tflm.run(tflm.to_tflite(net, quants, scales), q))
