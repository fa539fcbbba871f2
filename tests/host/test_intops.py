"""The numpy kernels equal the specification to the byte, and the specification its own formula."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.operations import (
    KINDS_AND_TIERS,
    WEIGHTED,
    Reference,
    random_case,
    random_input,
    random_net,
)
from tests.sweeps import examples, sweep
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch_core.model import DEPTHWISE, LANE
from tinytorch_core.quant import LANE_LIMIT


@sweep
@pytest.mark.parametrize(("kind", "tier"), KINDS_AND_TIERS)
@settings(max_examples=examples(120, long=500), deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_numpy_equals_the_reference(kind, tier, seed):
    data, x, expected = random_case(kind, seed, tier)
    np.testing.assert_array_equal(Model(data).run_batch(x), expected)


def sums(operation, x):
    """The sums of every output, (N, out_h, out_w, out_c), straight from their definition."""
    node = operation.node
    shape = (node.out_c, node.kernel_h, node.kernel_w, node.in_c)
    if node.kind == DEPTHWISE:  # as a convolution whose filters are zero for the other channels
        w = np.zeros(shape, np.int64)
        filters = operation.weight.reshape(node.kernel_h, node.kernel_w, node.out_c)
        for o in range(node.out_c):
            w[o, :, :, o * node.in_c // node.out_c] = filters[..., o]
    else:
        w = operation.weight.reshape(shape).astype(np.int64)
    height = node.pad_h + node.in_h + node.out_h * node.stride_h + node.kernel_h
    width = node.pad_w + node.in_w + node.out_w * node.stride_w + node.kernel_w
    padded = np.full((len(x), height, width, node.in_c), operation.x_zero, np.int64)
    padded[:, node.pad_h :, node.pad_w :][:, : node.in_h, : node.in_w] = x
    acc = np.zeros((len(x), node.out_h, node.out_w, node.out_c), np.int64)
    for i, j in np.ndindex(node.out_h, node.out_w):
        h, w_at = i * node.stride_h, j * node.stride_w
        window = padded[:, h : h + node.kernel_h, w_at : w_at + node.kernel_w] - operation.x_zero
        acc[:, i, j] = (window[:, None] * w).sum((2, 3, 4))
    return acc


@pytest.mark.parametrize("kind", WEIGHTED)
def test_the_lane_tier_is_its_formula_up_to_its_limits(kind):
    largest_word, at_the_limit = 0, set()
    shifts, outputs = set(), []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        net = random_net(kind, rng, LANE)
        x, operation = random_input(net, rng), net.operations[0]
        bias, multiplier, shift = operation.table.T.astype(np.int64)
        acc = sums(operation, x)
        words = acc * multiplier + bias
        expected = np.clip(words // 2**shift, operation.low, operation.high)
        found = Reference(to_bytes(net)).run_batch(x)
        np.testing.assert_array_equal(found, expected.reshape(found.shape), str(seed))
        # These cases are made to use all that the tier allows, and no more.
        assert multiplier.min() >= 0 and multiplier.max() < 1 << 15 and len(set(shift)) == 1
        at_the_limit.update(multiplier[(abs(acc) == LANE_LIMIT).any((0, 1, 2))].tolist())
        largest_word = max(largest_word, (abs(acc * multiplier) + abs(bias)).max())
        shifts.add(int(shift[0]))
        outputs += found.reshape(-1).tolist()
    assert (1 << 15) - 1 in at_the_limit and largest_word == (1 << 31) - 1
    assert shifts == set(range(31))
    assert len(set(outputs)) > 200 and np.mean(np.abs(outputs) < 127) > 0.3
