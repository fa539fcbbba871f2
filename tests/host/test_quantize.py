"""From a float network to the model file: folding, ranges, the arena's plan, the export."""

import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.networks import fill, random_network
from tinytorch import Tensor, nn, no_grad
from tinytorch.modelfile.arena import plan
from tinytorch.modelfile.export import ALIGN, to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.qops import kernels
from tinytorch.quantize.calibrate import quantize, quantize_nodes
from tinytorch.quantize.fold import fold
from tinytorch.quantize.ir import INPUT, Node, Operation, Quant, QuantizedNet
from tinytorch.quantize.run_float import run_float
from tinytorch_core.model import ADD, CONV2D, DENSE, FIELDS, MAX_POOL, RECORD

LABELS = ["a", "b", "c", "d"]


def forward(net, x):
    with no_grad():
        return net(Tensor(x)).numpy()


def channels_last(x):
    return np.moveaxis(x, 1, -1)


def random_quantized(seed: int, **changes):
    rng = np.random.default_rng(seed)
    net, shape = random_network(rng, 1 + seed % 2)
    x = rng.normal(0, 1, (200, *shape)).astype(np.float32)
    arguments = {"name": "random", "labels": LABELS, **changes}
    return net, x, quantize(net, x, **arguments)


@pytest.mark.parametrize("seed", range(40))
def test_folding_keeps_the_networks_function(seed):
    rng = np.random.default_rng(seed)
    net, shape = random_network(rng, 1 + seed % 2)
    net.to(np.float64)
    x = rng.normal(0, 1, (5, *shape))
    y = run_float(fold(net, shape), channels_last(x))[-1]
    np.testing.assert_allclose(y.reshape(5, -1), forward(net, x), rtol=1e-9, atol=1e-9)


def test_folding_a_network_of_linear_layers():
    rng = np.random.default_rng(1)
    net = nn.Sequential(
        nn.Linear(7, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(), nn.Sequential(nn.Linear(5, 3))
    ).to(np.float64)
    fill(net, rng)
    net.eval()
    x = rng.normal(0, 1, (4, 7))
    np.testing.assert_allclose(
        run_float(fold(net, (7,)), x)[-1].reshape(4, 3), forward(net, x), rtol=1e-9
    )


def test_folding_same_padding_relu6_and_norms_without_weights():
    rng = np.random.default_rng(1)
    net = nn.Sequential(
        nn.Conv2d(2, 6, (3, 5), padding="same"), nn.BatchNorm2d(6, affine=False), nn.ReLU6(),
        nn.Identity(), nn.Conv2d(6, 4, 3, padding="valid"), nn.BatchNorm2d(4, bias=False),
        nn.AdaptiveAvgPool2d((1, 1)),
    ).double()  # fmt: skip
    fill(net, rng)
    net.eval()
    x = rng.normal(0, 9, (4, 2, 6, 7))
    y = run_float(fold(net, (2, 6, 7)), channels_last(x))
    assert y[0].max() == 6
    np.testing.assert_allclose(y[-1].reshape(4, -1), forward(net, x).reshape(4, -1), rtol=1e-9)


class Odd(nn.Module):
    def forward(self, x):
        return x.sin()


@pytest.mark.parametrize(
    ("layers", "shape", "named"),
    [
        ([Odd()], (2, 8), "0 Odd"),
        ([nn.Conv1d(2, 2, 3), Odd()], (2, 8), "1 Odd"),
        ([nn.BatchNorm1d(2)], (2, 8), "0 BatchNorm1d"),
        ([nn.Conv1d(2, 2, 3), nn.ReLU(), nn.BatchNorm1d(2)], (2, 8), "2 BatchNorm1d"),
        ([nn.Conv1d(2, 2, 3), nn.Flatten(), nn.BatchNorm1d(12)], (2, 8), "2 BatchNorm1d"),
        ([nn.ReLU()], (2, 8), "0 ReLU"),
        ([nn.Conv1d(4, 4, 3, groups=2)], (4, 8), "0 Conv1d"),
        ([nn.Conv1d(2, 2, 1, padding=1)], (2, 8), "0 Conv1d"),
        ([nn.AvgPool1d(2, padding=1)], (2, 8), "0 AvgPool1d"),
        ([nn.Conv1d(2, 2, 3), nn.Linear(6, 2)], (2, 8), "1 Linear"),
        ([nn.Flatten(), nn.Linear(15, 2)], (2, 8), "1 Linear"),
        ([nn.ReLU6()], (2, 8), "0 ReLU6"),
        ([nn.Conv1d(2, 2, 2, padding="same")], (2, 8), "0 Conv1d"),
        ([nn.Conv1d(2, 2, 3), nn.AdaptiveAvgPool1d(2)], (2, 8), "1 AdaptiveAvgPool1d"),
        (
            [nn.Conv1d(2, 2, 3), nn.BatchNorm1d(2, track_running_stats=False)],
            (2, 8),
            "1 BatchNorm1d",
        ),
    ],
)
def test_a_refused_layer_is_named(layers, shape, named):
    with pytest.raises(ValueError, match=f"Layer {named} "):
        fold(nn.Sequential(*layers), shape)


def test_an_empty_network_is_refused():
    with pytest.raises(ValueError, match="no layer"):
        fold(nn.Sequential(nn.Dropout()), (2, 8))


@pytest.mark.parametrize("bad", [np.zeros((0, 2, 8)), np.full((3, 2, 8), np.nan)])
def test_bad_calibration_data_is_refused(bad):
    with pytest.raises(ValueError, match="calibration"):
        quantize(nn.Sequential(nn.Conv1d(2, 2, 3)), bad, name="n", labels=[])


def test_sums_that_could_overflow_are_refused():
    net = nn.Sequential(nn.Linear(40000, 1))
    net[0].weight.data = np.ones((1, 40000), np.float32)
    with pytest.raises(ValueError, match="0 Linear can overflow"):
        quantize(net, np.ones((2, 40000)), name="n", labels=[])


@given(st.floats(-100, 100), st.floats(-100, 100))
def test_a_quantization_covers_its_range_and_zero(a, b):
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    q = Quant.of_range(low, high)
    assert q.scale == np.float32(q.scale) and -128 <= q.zero_point <= 127
    assert (-128 - q.zero_point) * q.scale <= low + 0.51 * q.scale
    assert (127 - q.zero_point) * q.scale >= high - 0.51 * q.scale


@pytest.mark.parametrize("seed", range(20))
def test_the_integer_network_stays_near_the_float_one(seed):
    net, x, quantized = random_quantized(seed)
    model = Model(to_bytes(quantized))
    y = forward(net, x)
    q = model.run_batch(model.quantize(channels_last(x))).reshape(y.shape)
    error = (q.astype(float) - model.output_zero_point) * model.output_scale - y
    # Eight bits give about 40 dB a tensor; each layer adds its own rounding.
    assert 10 * np.log10(y.var() / (error**2).mean()) > 25
    assert (model.predict_batch(channels_last(x)) == y.argmax(1)).mean() > 0.9


def test_a_dead_channel_and_a_large_bias():
    net = nn.Sequential(nn.Linear(2, 3))
    net[0].weight.data = np.array([[0, 0], [1e-9, 0], [1, -1]], np.float32)
    net[0].bias.data = np.array([0, 2, 0.5], np.float32)
    x = np.random.default_rng(0).uniform(-1, 1, (50, 2)).astype(np.float32)
    model = Model(to_bytes(quantize(net, x, name="n", labels=["a", "b", "c"])))
    y = model.run_batch(model.quantize(x)).reshape(-1, 3).astype(float)
    np.testing.assert_allclose(
        (y - model.output_zero_point) * model.output_scale, forward(net, x), atol=0.02
    )


def random_graph(rng: np.random.Generator) -> list[Node]:
    """Convolutions and pools of one shape, joined by ADD across any distance."""
    h, w, c = (int(n) for n in rng.integers(1, 6, 3))
    shape = {"in_h": h, "in_w": w, "in_c": c, "out_h": h, "out_w": w, "out_c": c}
    nodes: list[Node] = []
    for i in range(int(rng.integers(1, 9))):
        sources = [INPUT, *range(i)]
        source = int(rng.choice(sources[-3:]))
        what = rng.integers(3) if nodes else 0
        if what == 0:
            pad = {"kernel_h": 3, "kernel_w": 3, "pad_h": 1, "pad_w": 1}
            weight = rng.normal(0, 0.3, (c, 3, 3, c))
            bias = rng.normal(0, 0.3, c)
            nodes.append(Node(f"{i}", CONV2D, (source,), **shape, **pad, weight=weight, bias=bias))
        elif what == 1:
            nodes.append(Node(f"{i}", MAX_POOL, (source,), **shape))
        else:
            nodes.append(Node(f"{i}", ADD, (int(rng.choice(sources)), source), **shape))
    return nodes


def values_alone(net: QuantizedNet, x):
    """Every operation run in an arena of its own, so that no buffer can hurt another."""
    outputs: list[np.ndarray] = []
    for operation in net.operations:
        sources = operation.node.inputs
        a, b = (x if i == INPUT else outputs[i] for i in (sources[0], sources[-1]))
        outputs.append(alone(operation, a, b))
    return outputs[-1]


def alone(operation: Operation, a, b):
    node = operation.node
    size = a[0].size
    taps = operation.table.astype("<i4").tobytes()
    n = node.out_h * node.out_w * node.out_c
    table = struct.calcsize(RECORD)
    values = {
        "x": 0, "x2": size, "y": 2 * size, "table": table, "weight": table + len(taps),
        "x_zero": operation.x_zero, "y_zero": operation.y_zero,
        "low": operation.low, "high": operation.high,
    }  # fmt: skip
    record = [values.get(f, getattr(node, f, 0)) for f in FIELDS]
    program = struct.pack(RECORD, *record) + taps + operation.weight.tobytes()
    arena = np.zeros((len(a), 2 * size + n), np.int8)
    arena[:, :size], arena[:, size : 2 * size] = a.reshape(len(a), -1), b.reshape(len(b), -1)
    kernels.KERNELS[node.kind](arena, program, 0)
    return arena[:, 2 * size :].reshape(len(a), node.out_h, node.out_w, node.out_c)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_two_buffers_that_live_together_overlap(seed):
    rng = np.random.default_rng(seed)
    nodes = random_graph(rng)
    x = rng.normal(0, 1, (6, nodes[0].in_h, nodes[0].in_w, nodes[0].in_c))
    net = quantize_nodes(nodes, x, name="g", labels=[])
    layout = plan(net)
    size = x[0].size
    steps = len(nodes)
    # (place, bytes, first step, last step): written at the first, read till the last.
    lives = [(layout.input, size, 0, max(i for i in range(steps) if INPUT in nodes[i].inputs))]
    for i, node in enumerate(nodes):
        readers = [j for j in range(steps) if i in nodes[j].inputs]
        lives.append((layout.outputs[i], size, i, steps if i == steps - 1 else max([i, *readers])))
        if node.kind == CONV2D:
            lives.append((layout.scratch[i], 4 * 9 * node.in_c, i, i))
            assert layout.scratch[i] % 4 == 0
    for i, (at, n, first, last) in enumerate(lives):
        assert at >= 0 and at + n <= layout.arena_bytes
        for other_at, other_n, other_first, other_last in lives[:i]:
            together = first <= other_last and other_first <= last
            assert not together or at + n <= other_at or other_at + other_n <= at
    assert layout.arena_bytes <= sum(4 * -(-n // 4) for _, n, _, _ in lives)
    model = Model(to_bytes(net))
    q = model.quantize(x)
    np.testing.assert_array_equal(
        model.run_batch(q).reshape(len(x), -1), values_alone(net, q).reshape(len(x), -1)
    )


def test_a_chain_reuses_its_memory():
    nodes = [
        Node(str(i), DENSE, (i - 1,), 1, 1, 64, 1, 1, 64, weight=np.eye(64), bias=np.zeros(64))
        for i in range(10)
    ]
    net = quantize_nodes(nodes, np.ones((2, 64)), name="n", labels=[])
    assert plan(net).arena_bytes == 64 + 64 + 4 * 64


def test_the_file_says_what_the_network_says():
    _, x, net = random_quantized(3)
    features = {"kind": "motion", "rate": 25.0, "channels": 3, "window": 64, "shift": [1, 2, 3]}
    net = replace(net, name="wand", labels=["ä", "b", "c", "d"], features=features)
    q = channels_last(x[:7])
    model = Model(to_bytes(net))
    assert (model.name, model.labels, model.features) == ("wand", ["ä", "b", "c", "d"], features)
    assert (model.input_shape, model.output_shape) == (net.input_shape, (4,))
    assert (model.scale, model.zero_point) == (net.input.scale, net.input.zero_point)
    assert model.output_scale == net.output.scale
    assert model.output_zero_point == net.output.zero_point
    assert model.input_shape == q.shape[1:]
    assert model.arena_bytes == plan(net).arena_bytes and model.verify() == 0


def test_the_file_carries_vectors_that_verify():
    _, x, net = random_quantized(4)
    q = Model(to_bytes(net)).quantize(channels_last(x[:9]))
    bare, data = to_bytes(net), to_bytes(net, q)
    assert Model(data).verify() == 9
    assert len(data) == len(bare) + 9 * (q[0].size + 4)
    assert to_bytes(net, q) == data


def test_weights_lie_aligned_and_once():
    _, _, net = random_quantized(5)
    data = to_bytes(net)
    model = Model(data)
    weights = sum(o.weight.size for o in net.operations)
    tables = sum(12 * len(o.table) for o in net.operations)
    records = len(net.operations) * struct.calcsize(RECORD)
    assert model.program_bytes <= weights + tables + records + 2 * ALIGN * len(net.operations)
    for operation in net.operations:
        raw = operation.weight.tobytes()
        if len(raw) >= ALIGN:
            assert data.count(raw) == 1 and data.index(raw) % ALIGN == 0


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused(data):
    good = FILES[0]
    i = data.draw(st.integers(0, len(good) - 1))
    mask = data.draw(st.integers(1, 255))
    for damaged in (good[:i], good[:i] + bytes([good[i] ^ mask]) + good[i + 1 :], good + b"\0"):
        with pytest.raises(ValueError):
            Model(damaged).verify()


def _file() -> bytes:
    _, x, net = random_quantized(6)
    return to_bytes(net, np.zeros((2, *net.input_shape), np.int8))


FILES = [_file()]


def test_predict_takes_what_predict_batch_takes():
    _, x, net = random_quantized(7)
    model = Model(to_bytes(net))
    real = channels_last(x[:20])
    q = model.quantize(real)
    best = model.predict_batch(q).tolist()
    assert [model.predict(sample.reshape(-1).tolist()) for sample in q] == best
    assert [model.predict(sample.reshape(-1)) for sample in q] == best
    assert [model.predict(sample.tobytes()) for sample in q] == best
    assert [model.predict(sample.reshape(-1)) for sample in real] == best


def test_predict_refuses_what_could_be_meant_either_way():
    _, x, net = random_quantized(5)
    model = Model(to_bytes(net))
    q = model.quantize(channels_last(x))
    with pytest.raises(TypeError, match="int8 values or floats, and got int64"):
        model.predict(q[0].astype(np.int64))
    with pytest.raises(TypeError, match="int16"):
        model.predict_batch(q.astype(np.int16))
    with pytest.raises(ValueError, match="NaN"):
        model.predict_batch(np.full_like(channels_last(x), np.nan))
    assert model.predict_batch(q[:0]).shape == (0,)


def test_a_dead_layer_is_quantized():
    rng = np.random.default_rng(0)
    net = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 4))
    fill(net, rng)
    net[0].bias.data[:] = -100
    x = rng.normal(size=(50, 2, 8)).astype(np.float32)
    model = Model(to_bytes(quantize(net, x, name="dead", labels=LABELS)))
    y = model.run_batch(model.quantize(channels_last(x))).astype(np.float32)
    real = (y - model.output_zero_point) * model.output_scale
    np.testing.assert_allclose(real, forward(net, x), atol=model.output_scale)


def test_each_output_needs_a_label():
    with pytest.raises(ValueError, match="4 outputs and got 3 labels"):
        random_quantized(0, labels=["a", "b", "c"])


def test_run_batch_refuses_another_shape_or_type():
    _, _, net = random_quantized(8)
    model = Model(to_bytes(net))
    for x in (np.zeros((2, 3), np.int8), np.zeros((2, *net.input_shape), np.float32)):
        with pytest.raises(ValueError, match="int8 inputs of shape"):
            model.run_batch(x)
    assert model.run_batch(np.zeros((0, *net.input_shape), np.int8)).shape == (0, 4)
