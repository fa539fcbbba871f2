"""Counts against counts by hand; of times only that they are there and add up."""

from time import perf_counter

import numpy as np
import pytest

import tinytorch
from tinytorch import nn
from tinytorch.autograd.tracing import local as traced
from tinytorch.profile import profile


def row(result, name):
    return next(r for r in result.rows if r.name == name)


COUNTS = {  # layer, input shape, MACs
    "Linear": (lambda: nn.Linear(5, 3), (4, 5), 4 * 5 * 3),
    "Linear of sequences": (lambda: nn.Linear(5, 3, bias=False), (2, 7, 5), 2 * 7 * 5 * 3),
    "Conv1d": (lambda: nn.Conv1d(6, 16, 5), (2, 6, 100), 2 * 16 * 96 * 6 * 5),
    "Conv1d in groups": (lambda: nn.Conv1d(6, 4, 3, 2, 1, groups=2), (2, 6, 9), 2 * 4 * 5 * 3 * 3),
    "Conv2d": (lambda: nn.Conv2d(1, 64, (10, 4), 2, (5, 1)), (1, 1, 49, 10), 64 * 25 * 5 * 40),
    "Conv2d dilated": (lambda: nn.Conv2d(2, 3, 3, dilation=2), (1, 2, 9, 9), 3 * 5 * 5 * 2 * 9),
    "depthwise": (lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8), (3, 8, 5, 4), 3 * 8 * 20 * 9),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(5), (4, 5), 0),
    "GRU": (lambda: nn.GRU(6, 7), (5, 2, 6), 5 * 2 * 3 * 7 * (6 + 7)),
    "LSTM, two layers both ways": (
        lambda: nn.LSTM(6, 7, 2, bidirectional=True),
        (5, 2, 6),
        5 * 2 * 4 * 7 * 2 * ((6 + 7) + (14 + 7)),
    ),
    "RNN": (lambda: nn.RNN(6, 7, batch_first=True), (5, 2, 6), 5 * 2 * 7 * (6 + 7)),
}


@pytest.mark.parametrize("name", COUNTS)
def test_macs_are_as_by_hand(name):
    make, shape, macs = COUNTS[name]
    assert profile(make(), tinytorch.randn(*shape), runs=1).total.macs == macs


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_attention_counts_the_same_in_all_its_ways(batch_first, dropout):
    n, length, d = 3, 7, 8
    layer = nn.TransformerEncoderLayer(d, 2, 16, dropout, batch_first=batch_first)
    shape = (n, length, d) if batch_first else (length, n, d)
    result = profile(layer, tinytorch.randn(*shape), runs=1)
    products = n * length * d * 3 * d + 2 * n * length * length * d
    assert row(result, "self_attn").macs == products
    assert row(result, "self_attn.out_proj").macs == n * length * d * d
    assert row(result, "linear1").macs == n * length * d * 16
    assert result.total.macs == products + n * length * (d * d + 2 * d * 16)


def test_attention_to_others_and_products_of_matrices():
    class Across(nn.Module):
        def forward(self, q, k, v):
            y = nn.functional.scaled_dot_product_attention(q, k, v)
            return tinytorch.einsum("nlk,nl->nk", y @ tinytorch.ones(6, 4), q[:, :, 0])

    q, k, v = (tinytorch.randn(2, *s) for s in ((5, 3), (7, 3), (7, 6)))
    result = profile(Across(), q, k, v, runs=1)
    assert [r.name for r in result.rows] == ["(net)", "between"]
    assert result.total.macs == 2 * 5 * 7 * (3 + 6) + 2 * 5 * 6 * 4 + 2 * 5 * 4
    assert result.rows[0].output == (2, 4)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x):
        return (x + self.norm(self.conv(x))).relu()


def test_rows_are_layers_and_add_up():
    net = nn.Sequential(Residual(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(40, 3))
    result = profile(net, tinytorch.randn(8, 4, 10), runs=5)
    assert [(r.name, r.kind, r.output) for r in result.rows] == [
        ("0", "Residual", (8, 4, 10)),
        ("0.conv", "Conv1d", (8, 4, 10)),
        ("0.norm", "BatchNorm1d", (8, 4, 10)),
        ("1", "Flatten", (8, 40)),
        ("2", "Dropout", (8, 40)),
        ("3", "Linear", (8, 3)),
        ("between", "", None),
    ]
    one = 8 * 4 * 10 * 4
    assert [r.activation_bytes for r in result.rows] == [2 * one, one, one, 0, one, 8 * 3 * 4, 0]
    assert [r.parameters for r in result.rows] == [0, 52, 8, 0, 0, 123, 0]
    for column in ("parameters", "macs", "activation_bytes", "forward_ms", "backward_ms"):
        parts = [getattr(r, column) for r in result.rows]
        assert sum(parts) == getattr(result.total, column) and min(parts) >= 0
    assert result.total.parameters == sum(p.numel() for p in net.parameters())
    assert all(r.forward_ms > 0 for r in result.rows)
    assert all(r.backward_ms > 0 for r in result.rows if r.macs)


def test_the_parts_take_no_longer_than_the_whole():
    net = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256))
    x = tinytorch.randn(256, 256)
    start = perf_counter()
    total = profile(net, x, runs=20).total
    whole = 1000 * (perf_counter() - start)
    assert 20 * (total.forward_ms + total.backward_ms) < 1.2 * whole


def test_a_module_in_two_places_counts_its_parameters_once():
    shared = nn.Linear(4, 4)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    result = profile(net, tinytorch.randn(2, 4), runs=1)
    assert [(r.name, r.parameters, r.macs) for r in result.rows] == [
        ("0", 20, 64), ("1", 0, 0), ("between", 0, 0),
    ]  # fmt: skip
    tied = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    tied[1].weight = tied[0].weight
    result = profile(tied, tinytorch.randn(2, 4), runs=1)
    assert [r.parameters for r in result.rows] == [16, 0, 0] and result.total.macs == 64


def test_parameters_of_layers_that_were_not_called_are_there():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(3, 3), nn.Linear(3, 5)

        def forward(self, x):
            return {"y": self.used(x), "x": (x,)}

    result = profile(Half(), tinytorch.randn(2, 3), runs=1)
    unused = row(result, "unused")
    assert (unused.parameters, unused.macs, unused.output, unused.forward_ms) == (20, 0, None, 0.0)
    assert "-" in str(result).splitlines()[2]


def test_the_net_is_left_as_it_was():
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))
    x = tinytorch.randn(8, 4)
    net(x).sum().backward()
    state = {name: t.data.copy() for name, t in net.state_dict().items()}
    gradients = [p.grad for p in net.parameters()]
    tinytorch.manual_seed(3)
    expected = tinytorch.rand(3).tolist()
    tinytorch.manual_seed(3)
    profile(net, x, runs=1)
    assert tinytorch.rand(3).tolist() == expected
    assert all((t.data == state[name]).all() for name, t in net.state_dict().items())
    assert all(a is b.grad for a, b in zip(gradients, net.parameters(), strict=True))
    assert net.training and "forward" not in vars(net[0]) and traced.tracer is None


def test_an_error_in_the_net_leaves_nothing_behind():
    net = nn.Sequential(nn.Linear(4, 6))
    with pytest.raises(ValueError, match="linear|matmul"):
        profile(net, tinytorch.randn(2, 5))
    assert "forward" not in vars(net) and traced.tracer is None


def test_without_gradients_only_forward_is_measured():
    net = nn.Linear(4, 6).requires_grad_(False)
    total = profile(net, tinytorch.randn(2, 4), runs=1).total
    assert total.forward_ms > 0 and total.backward_ms == 0
    with pytest.raises(ValueError, match="0 runs are too few"):
        profile(net, tinytorch.randn(2, 4), runs=0)


def test_the_table():
    net = nn.Sequential(nn.Conv1d(6, 16, 5), nn.ReLU())
    lines = str(profile(net, tinytorch.randn(32, 6, 100), runs=1)).splitlines()
    assert lines[0].split()[:5] == ["layer", "type", "output", "parameters", "MACs"]
    assert lines[1].split()[:6] == ["0", "Conv1d", "32x16x96", "496", "1,474,560", "192.0"]
    assert lines[2].split()[:5] == ["1", "ReLU", "32x16x96", "0", "0"]
    assert [line.split()[0] for line in lines[3:]] == ["between", "total"]
    assert len({len(line) for line in lines}) == 1


def test_the_picture(tmp_path):
    path = tmp_path / "net.png"
    net = nn.Sequential(nn.Linear(3, 3))
    profile(net, tinytorch.randn(2, 3), runs=1).save_picture(path, "A net")
    from matplotlib.image import imread

    height, width, _ = imread(path).shape
    assert width > 1000 and height > 100
    assert np.unique(imread(path)[:, :, 0]).size > 10
