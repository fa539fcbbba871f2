"""The lane tier: the bound that its weights respect, and what it costs."""

from bisect import bisect_left
from fractions import Fraction
from itertools import compress, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.host.test_quantize import channels_last, forward, random_graph
from tests.networks import random_network
from tests.operations import Reference, random_input, random_net
from tests.streams import random_case as random_stream
from tinytorch import nn
from tinytorch.data.datasets import digits
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.optim import Adam
from tinytorch.quantize import lanes
from tinytorch.quantize.calibrate import quantize, quantize_nodes
from tinytorch.quantize.run_integers import run_integers
from tinytorch.train.trainer import Trainer
from tinytorch.utils.data import DataLoader
from tinytorch_core.model import ADD, EXACT, LANE, MOVE
from tinytorch_core.quant import LANE_LIMIT

TIERS = [(7, None), (8, None), (7, 8), (8, 3)]


def random_quantized(seed: int, **tier):
    rng = np.random.default_rng(seed)
    net, shape = random_network(rng, 1 + seed % 2)
    x = rng.normal(0, 1, (60, *shape)).astype(np.float32)
    return net, x, quantize(net, x, name="random", labels=["a", "b", "c", "d"], **tier)


def random_lanes(seed: int):
    """A network in the lane tier, and what it was asked for."""
    rng = np.random.default_rng(seed)
    bits, group = TIERS[seed % len(TIERS)]
    settings = {"tier": "lane", "bits": bits, "group": group, "match": bool(rng.random() < 0.7)}
    if seed % 3:
        return random_quantized(seed, **settings)[2], settings
    nodes = random_graph(rng)
    x = rng.normal(0, 1, (20, nodes[0].in_h, nodes[0].in_w, nodes[0].in_c))
    return quantize_nodes(nodes, x, name="graph", labels=[], **settings), settings


class Watched(Model):
    """A model that remembers the extremes of what every operation got."""

    def run_stream(self, x):
        self.seen: list[tuple[int, int]] = []

        def watch(kernel, op):
            def run(arena, program, at):
                part = arena[:, op.x : op.x + op.in_h * op.in_w * op.in_c]
                self.seen.append((int(part.min()), int(part.max())))
                kernel(arena, program, at)

            return run

        steps = self._steps
        self._steps = [
            (watch(kernel, op), at) for (kernel, at), op in zip(steps, self.operations, strict=True)
        ]
        try:
            return super().run_stream(x)
        finally:
            self._steps = steps


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_input_leaves_its_range(seed):
    _, _, net = random_quantized(seed)
    model = Watched(to_bytes(net))
    ranges = lanes.input_ranges(net.operations)
    assert lanes.input_ranges(model.operations) == ranges
    assert ranges[0] == (-128, 127)
    rng = np.random.default_rng(seed)
    model.run_batch(rng.choice([-128, 127], (200, *model.input_shape)).astype(np.int8))
    for (low, high), seen, op in zip(ranges, model.seen, model.operations, strict=True):
        assert low <= seen[0] <= seen[1] <= high
        assert low <= op.x_zero <= high


@pytest.mark.parametrize("seed", range(25))
def test_what_is_kept_of_a_stream_is_in_the_range_of_what_was_new(seed):
    case = random_stream(seed, "lane")
    model = Watched(to_bytes(case.stream))
    ranges = lanes.input_ranges(model.operations)
    layers = [op.kind != MOVE for op in model.operations]
    assert lanes.input_ranges(case.window.operations) == list(compress(ranges, layers))
    model.run_stream(case.x)
    for i, seen in enumerate(model.seen):
        low, high = ranges[i % len(ranges)]
        assert low <= seen[0] <= seen[1] <= high


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), group=st.sampled_from([None, 1, 3, 8, 500]))
def test_the_excess_is_what_the_sums_reach(seed, group):
    rng = np.random.default_rng(seed)
    kind = str(rng.choice(["conv2d", "depthwise", "dense"]))
    net = random_net(kind, rng)
    operation = net.operations[0]
    node = operation.node
    weight = operation.weight.astype(int).reshape(node.weight.shape)
    worst = 0
    for channel in range(node.out_c):
        row = (weight[..., channel] if kind == "depthwise" else weight[channel]).reshape(-1)
        size = group or len(row)
        for start in range(0, len(row), size):
            worst = max(worst, sum(abs(int(w)) for w in row[start : start + size]))
    assert lanes.excess(operation, -100, 27, group) == 127 * worst
    model = Model(to_bytes(net))
    assert lanes.excess(model.operations[0], -100, 27, group, model._program) == 127 * worst


@pytest.mark.parametrize("kind", ["max_pool", "avg_pool", "add"])
def test_what_has_no_weights_has_no_excess(kind):
    operation = random_net(kind, np.random.default_rng(0)).operations[0]
    with pytest.raises(ValueError, match="no weights"):
        lanes.excess(operation, -128, 127)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_the_factor_is_the_largest(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    count = data.draw(st.integers(1, 12))
    span, group = data.draw(st.sampled_from([(127, None), (255, 3), (4000, None), (30000, 2)]))
    row = rng.normal(0, 1, count) * 10.0 ** rng.integers(-3, 3)
    q, scale = lanes.finest(row[None], span, group)
    found = np.abs(q[0]).tolist()

    def rounded(factor):
        return [round(abs(Fraction(w)) * factor) for w in row]

    def fits(q):
        size = group or count
        sums = [sum(q[i : i + size]) for i in range(0, count, size)]
        return max(q) <= 127 and max(sums) * span <= LANE_LIMIT

    # The numbers change where a product passes a half: try between any two such places.
    places = sorted({Fraction(2 * n + 1, 2) / abs(Fraction(w)) for w in row for n in range(128)})
    between = [(a + b) / 2 for a, b in pairwise([Fraction(0), *places])]
    first_bad = bisect_left(between, True, key=lambda factor: not fits(rounded(factor)))
    assert found == rounded(between[first_bad - 1])
    assert (np.sign(q[0]) * np.sign(row) >= 0).all()
    errors = [((row - q[0] * scale[0] * k) ** 2).sum() for k in (0.999, 1, 1.001)]
    assert errors[1] == min(errors)


def test_channels_of_zeros_and_channels_that_vanish():
    weights = np.stack([np.zeros(600), np.ones(600), np.eye(1, 600)[0] * 1e-300])
    q, scale = lanes.finest(weights, 127)
    np.testing.assert_array_equal(
        q, np.stack([np.zeros(600), np.zeros(600), 127 * np.eye(1, 600)[0]])
    )
    assert scale.tolist() == pytest.approx([1, 1, 1e-300 / 127], rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_lanes_are_promised(seed):
    net, asked = random_lanes(seed)
    ranges = lanes.input_ranges(net.operations)
    found = 0
    for operation, (low, high) in zip(net.operations, ranges, strict=True):
        if operation.tier == EXACT:
            continue
        found += 1
        assert lanes.excess(operation, low, high, asked["group"]) <= LANE_LIMIT
        rows = lanes.rows(operation)
        assert np.abs(rows).max(initial=0) <= 127
        # Each input at the end that makes the sum largest, and then smallest.
        ends = np.array([low, high]) - operation.x_zero
        most = (rows[:, :, None] * ends).max(2).sum(1)
        least = (rows[:, :, None] * ends).min(2).sum(1)
        reach = np.maximum(most, -least)
        np.testing.assert_array_equal(
            reach, lanes.accumulator_bound(rows, operation.x_zero, low, high)
        )
        bias, multiplier, shift = operation.table.astype(np.int64).T
        assert (multiplier >= 0).all() and (multiplier < 1 << 15).all()
        assert len(set(shift)) == 1 and 0 <= shift[0] <= 30
        assert (reach * multiplier + np.abs(bias) < 1 << 31).all()
        # One shift more would not fit.
        twice = reach * (2 * multiplier - 1).clip(0) + np.abs(2 * bias) - 1
        assert shift[0] == 30 or multiplier.max() >= 1 << 14 or twice.max() >= (1 << 31) - (1 << 18)
    layers = sum(o.node.weight.size > 0 for o in net.operations)
    assert found + len(net.kept_exact) == layers


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_lane_layers_read_has_its_bits(seed):
    net, asked = random_lanes(seed)
    for operation, (low, high) in zip(
        net.operations, lanes.input_ranges(net.operations), strict=True
    ):
        if operation.tier == LANE:
            assert high - low <= (255 if reads_input(net, operation) else (1 << asked["bits"]) - 1)


def reads_input(net, operation):
    """Whether the network's input gets there past nothing but pooling."""
    source = operation.node.inputs[0]
    while source >= 0 and not net.operations[source].node.weight.size:
        if net.operations[source].node.kind == ADD:
            return False
        source = net.operations[source].node.inputs[0]
    return source < 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_numpy_gives_the_bytes_of_the_specification(seed):
    net, _ = random_lanes(seed)
    data = to_bytes(net)
    x = random_input(net, np.random.default_rng(seed))
    np.testing.assert_array_equal(Model(data).run_batch(x), Reference(data).run_batch(x))
    outputs: list[np.ndarray] = []
    for operation in net.operations:
        sources = [x if j < 0 else outputs[j] for j in operation.node.inputs]
        outputs.append(run_integers(operation, sources))
    np.testing.assert_array_equal(outputs[-1].ravel(), Reference(data).run_batch(x).ravel())


@pytest.mark.parametrize("tier", [{}, {"tier": "lane"}])
def test_matching_keeps_mean_and_spread(tier):
    rng = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(200, 40), nn.ReLU(), nn.Linear(40, 6))
    x = (rng.normal(0, 1, (4000, 200)) ** 2).astype(np.float32)
    y = forward(net, x)

    def figures(match):
        q = quantize(net, x, name="n", labels=[], match=match, **tier)
        out = Model(to_bytes(q)).run_batch(q.input.of(x)).reshape(y.shape).astype(float)
        real = (out - q.output.zero_point) * q.output.scale
        mean = np.abs(real.mean(0) - y.mean(0)).max() / y.std()
        return mean, np.abs(real.std(0) / y.std(0) - 1).max()

    mean, spread = figures(True)
    assert mean < 0.003 and spread < 0.004
    if tier:
        before = figures(False)
        assert before[0] > 5 * mean and before[1] > 5 * spread


def test_lanes_are_matched_unless_told():
    for tier, matched in (("exact", False), ("lane", True)):
        found = [
            to_bytes(random_quantized(5, tier=tier, match=match)[2])
            for match in (None, matched, not matched)
        ]
        assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("tier", ["exact", "lane"])
def test_a_channel_that_varies_by_rounding_alone_is_not_matched_to_nothing(tier):
    net = nn.Sequential(nn.Linear(2, 2))
    net[0].weight.data = np.array([[2, -1], [1, 1]], np.float32)
    net[0].bias.data = np.array([1, 0], np.float32)
    x = np.random.default_rng(0).normal(0, 1, (500, 1)).astype(np.float32) * np.float32([1, 2])
    q = quantize(net, x, name="n", labels=[], tier=tier, match=True)
    assert q.kept_exact == []
    y = Model(to_bytes(q)).run_batch(q.input.of(x)).astype(float)
    real = (y - q.output.zero_point) * q.output.scale
    np.testing.assert_allclose(real, forward(net, x), atol=0.15)


@pytest.fixture(scope="module")
def trained():
    """A network for small pictures of digits, and data to test it on."""
    train, test = digits()
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip
    trainer = Trainer(net, Adam(net.parameters(), lr=1e-2), seed=0, progress=False)
    trainer.fit(DataLoader(train, 64, shuffle=True), 6)
    return net, train.tensors[0].numpy(), *(t.numpy() for t in test.tensors)


@pytest.mark.parametrize(("bits", "group"), TIERS)
def test_a_trained_network_keeps_its_accuracy(trained, bits, group):
    net, calibration, x, y = trained
    right = (forward(net, x).argmax(1) == y).mean()
    assert right > 0.95
    q = quantize(
        net, calibration[:200], name="digits", labels=[], tier="lane", bits=bits, group=group
    )
    assert q.kept_exact == []
    assert [o.tier for o in q.operations if o.node.weight.size] == [LANE] * 4
    model = Model(to_bytes(q))
    assert (model.predict_batch(channels_last(x)) == y).mean() > right - 0.015


def test_layers_that_would_be_too_coarse_stay_exact():
    rng = np.random.default_rng(0)
    net = nn.Sequential(
        nn.Linear(20, 4000), nn.ReLU(), nn.Linear(4000, 3), nn.ReLU(), nn.Linear(3, 2)
    )
    x = rng.normal(0, 1, (30, 20)).astype(np.float32)
    q = quantize(net, x, name="n", labels=[], tier="lane")
    assert [o.tier for o in q.operations] == [LANE, EXACT, LANE]
    (said,) = q.kept_exact
    assert said.startswith("Layer 2 Linear stays exact: its weights would keep ")
    assert said.endswith(" bits, and need 2.5.")
    # Only what a lane layer reads is given fewer bits.
    assert [o.high for o in q.operations] == [127, -1, 127]
    assert quantize(net, x, name="n", labels=[], tier="lane", group=250).kept_exact == []
    net[2].weight.data = np.ones((3, 4000), np.float32)
    (said,) = quantize(net, x, name="n", labels=[], tier="lane").kept_exact
    assert said == (
        "Layer 2 Linear stays exact: nothing would be left of the weights of channel 0."
    )


def test_a_layer_whose_multipliers_differ_too_much_stays_exact():
    net = nn.Sequential(nn.Linear(4, 2), nn.ReLU6())
    net[0].weight.data = np.array([[1e5, 1e5, 0, 0], [0, 0, 1, -1]], np.float32)
    x = np.random.default_rng(0).normal(0, 1, (50, 4)).astype(np.float32)
    q = quantize(net, x, name="n", labels=[], tier="lane")
    (said,) = q.kept_exact
    assert said.startswith("Layer 0 Linear stays exact: its multiplier for channel 1 would be off ")
    y = Model(to_bytes(q)).run_batch(q.input.of(x)).astype(float)
    real = (y - q.output.zero_point) * q.output.scale
    assert np.abs(real[:, 1] - forward(net, x)[:, 1]).max() < 0.05


def test_a_table_that_cannot_be_had():
    table, said = lanes.lane_table(np.array([0.1, 0.2]), np.array([0, 3e9]), np.array([9, 9]))
    assert said == "the sums of channel 1 do not fit 32 bits" and not len(table)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"tier": "fast"}, "no tier 'fast': choose 'exact' or 'lane'"),
        ({"tier": "lane", "bits": 6}, "no activations of 6 bits: choose 7 or 8"),
        ({"tier": "lane", "group": 0}, "group of 0 weights is none"),
    ],
)
def test_what_there_is_not(asked, says):
    with pytest.raises(ValueError, match=says):
        quantize(nn.Sequential(nn.Linear(2, 2)), np.ones((3, 2)), name="n", labels=[], **asked)
