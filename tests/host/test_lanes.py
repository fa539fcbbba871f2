"""The lane tier: the bound that its weights respect, and what it costs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.networks import random_network
from tests.operations import random_net
from tinytorch import lanes
from tinytorch.export import to_bytes
from tinytorch.quantize import quantize
from tinytorch.runtime import Model


def random_quantized(seed: int, **tier):
    rng = np.random.default_rng(seed)
    net, shape = random_network(rng, 1 + seed % 2)
    x = rng.normal(0, 1, (60, *shape)).astype(np.float32)
    return net, x, quantize(net, x, name="random", labels=["a", "b", "c", "d"], **tier)


class Watched(Model):
    """A model that remembers the extremes of what every operation got."""

    def _run_arenas(self, x):
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
            return super()._run_arenas(x)
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
