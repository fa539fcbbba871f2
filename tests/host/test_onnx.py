"""Exported files, run by onnxruntime with other batches than the example, against our outputs."""

import math

import numpy as np
import onnx
import onnxruntime
import pytest

import tinytorch
from tests.networks import fill, random_network
from tinytorch import nn
from tinytorch.autograd.tracing import local as traced
from tinytorch.nn import functional
from tinytorch.onnx import export

F = functional


def run(path, *arrays):
    onnx.checker.check_model(onnx.load(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    return session.run(None, dict(zip(names, arrays, strict=True)))


def numbers(shape, rng, kind="f"):
    if kind == "f":
        return rng.normal(size=shape).astype(np.float32)
    return rng.integers(0, 7, shape)


def check(net, *shapes, path, kinds="f", sizes=(1, 5), batch_dim=0, tolerance=1e-5):
    """Export with a batch of 3, and compare with other batches; shapes: without the batch."""
    rng = np.random.default_rng(0)

    def inputs(batch):
        full = [s[:batch_dim] + (batch,) + s[batch_dim:] for s in shapes]
        return [numbers(s, rng, kinds[i % len(kinds)]) for i, s in enumerate(full)]

    export(net, [tinytorch.Tensor(a) for a in inputs(3)], path, batch_dim=batch_dim)
    net.eval()
    for batch in (3, *sizes):
        arrays = inputs(batch)
        with tinytorch.no_grad():
            expected = net(*map(tinytorch.Tensor, arrays))
        expected = expected if isinstance(expected, (tuple, list)) else [expected]
        for got, y in zip(run(path, *arrays), expected, strict=True):
            assert got.shape == y.shape and got.dtype == y.dtype
            np.testing.assert_allclose(got, y.data, rtol=tolerance, atol=tolerance)
    return onnx.load(path)


@pytest.fixture
def path(tmp_path):
    tinytorch.manual_seed(0)
    return tmp_path / "net.onnx"


def kinds(model):
    return [node.op_type for node in model.graph.node]


def test_an_mlp_is_as_short_as_by_hand(path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    model = check(net, (3, 4), path=path)
    assert kinds(model) == ["Reshape", "Gemm", "Relu", "Gemm", "Identity"]
    assert {i.name for i in model.graph.initializer} >= {"1.weight", "1.bias", "4.weight", "4.bias"}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert model.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 3


def test_a_ds_cnn(path):
    def block(c):
        depthwise = nn.Conv2d(c, c, 3, padding=1, groups=c, bias=False)
        pointwise = nn.Conv2d(c, c, 1, bias=False)
        return [depthwise, nn.BatchNorm2d(c), nn.ReLU(), pointwise, nn.BatchNorm2d(c), nn.ReLU6()]

    net = nn.Sequential(
        nn.Conv2d(1, 8, (10, 4), stride=2, padding=(5, 1)), nn.BatchNorm2d(8), nn.ReLU(),
        *block(8), *block(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 12),
    )  # fmt: skip
    fill(net, np.random.default_rng(1))
    net.train()
    check(net, (1, 49, 10), path=path)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dims", [1, 2])
def test_random_networks(path, dims, seed):
    net, shape = random_network(np.random.default_rng(seed), dims)
    check(net, shape, path=path)


ACTIVATIONS = [
    nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.2), nn.ELU(0.7), nn.GELU(), nn.GELU("tanh"), nn.SiLU(),
    nn.Tanh(), nn.Sigmoid(), nn.Hardsigmoid(), nn.Hardswish(), nn.Softplus(2.0, 3.0),
    nn.Softmax(1), nn.LogSoftmax(-1), nn.Identity(),
]  # fmt: skip
LAYERS = {
    **{repr(layer): (layer, (4, 5)) for layer in ACTIVATIONS},
    "Linear of sequences": (nn.Linear(5, 3), (4, 5)),
    "Linear of sequences, no bias": (nn.Linear(5, 3, bias=False), (4, 5)),
    "Linear, no bias": (nn.Linear(5, 3, bias=False), (5,)),
    "Conv1d, dilated, in groups": (nn.Conv1d(4, 6, 3, 2, 2, 2, 2), (4, 11)),
    "Conv2d, same": (nn.Conv2d(2, 3, (2, 3), padding="same"), (2, 5, 6)),
    "MaxPool1d": (nn.MaxPool1d(3, 2, 1), (2, 9)),
    "MaxPool2d": (nn.MaxPool2d(2), (2, 5, 6)),
    "AvgPool1d": (nn.AvgPool1d(3, 2, 1), (2, 9)),
    "AvgPool2d": (nn.AvgPool2d((2, 3), 2), (2, 5, 6)),
    "AdaptiveAvgPool1d": (nn.AdaptiveAvgPool1d(4), (2, 9)),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d((2, 4)), (2, 4, 6)),
    "AdaptiveAvgPool2d of parts that overlap": (nn.AdaptiveAvgPool2d((None, 4)), (2, 4, 6)),
    "BatchNorm1d": (nn.BatchNorm1d(4), (4,)),
    "BatchNorm1d, not affine": (nn.BatchNorm1d(4, affine=False), (4, 5)),
    "BatchNorm2d": (nn.BatchNorm2d(4, 1e-2), (4, 3, 2)),
    "LayerNorm": (nn.LayerNorm((4, 5), 1e-2), (2, 4, 5)),
    "LayerNorm, not affine": (nn.LayerNorm(5, elementwise_affine=False), (4, 5)),
    "LayerNorm, no bias": (nn.LayerNorm(5, bias=False), (5,)),
    "Unflatten": (nn.Unflatten(1, (2, 3)), (6,)),
    "Sinusoidal": (nn.SinusoidalPositionalEncoding(6, batch_first=True), (5, 6)),
    "Learned": (nn.LearnedPositionalEncoding(6, batch_first=True), (5, 6)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer(path, name):
    net, shape = LAYERS[name]
    if sum(1 for _ in net.state_dict()):
        fill(net, np.random.default_rng(2))
    check(net, shape, path=path)


def test_a_batch_norm_without_statistics_is_that_of_the_batch(path):
    check(nn.BatchNorm1d(4, track_running_stats=False), (4, 5), path=path, sizes=(2,))


class Residual(nn.Module):
    """Its own forward, with a skip, a gate, slices, and several outputs."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv1d(4, 4, 3, padding=1), nn.BatchNorm1d(4)
        self.gate = nn.Parameter(tinytorch.randn(4, 1))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        y = (x + self.b(self.a(x)).relu() * self.gate.sigmoid()) / 2
        y = tinytorch.cat([y[:, :, ::2], y[:, :, -2:].flip(2)], 2)
        pooled = y.amax(2) - y.mean((1, 2), keepdim=True)[:, 0] ** 2
        return self.head(pooled).log_softmax(1), y[..., 0], y.argmax(2)


def test_a_module_of_ones_own(path):
    model = check(Residual(), (4, 9), path=path)
    assert [o.name for o in model.graph.output] == ["output", "output1", "output2"]


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_transformer(path, norm_first, activation):
    layer = nn.TransformerEncoderLayer(
        8, 2, 16, activation=activation, batch_first=True, norm_first=norm_first
    )
    net = nn.Sequential(
        nn.Embedding(7, 8), nn.LearnedPositionalEncoding(8, 6, batch_first=True),
        nn.TransformerEncoder(layer, 2, nn.LayerNorm(8)), nn.Linear(8, 7),
    )  # fmt: skip
    check(net, (6,), kinds="i", path=path)


class Causal(nn.Module):
    def __init__(self, batch_first):
        super().__init__()
        self.embed = nn.Embedding(7, 8, padding_idx=0)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.batch_first = batch_first

    def forward(self, tokens):
        x = self.embed(tokens)
        mask = tinytorch.ones(5, 5, dtype=bool).triu(1)
        y, weights = self.attend(x, x, x, attn_mask=mask)
        z, _ = self.attend(x, y, y, need_weights=False, is_causal=True)
        return z, weights


@pytest.mark.parametrize("batch_first", [False, True])
def test_attention_with_masks(path, batch_first):
    net, batch_dim = Causal(batch_first), 0 if batch_first else 1
    check(net, (5,), kinds="i", path=path, batch_dim=batch_dim)


class Padded(nn.Module):
    def forward(self, q, keep):
        return F.scaled_dot_product_attention(q, q, q, (keep > 2).unsqueeze(1))


def test_attention_masked_by_an_input(path):
    check(Padded(), (5, 4), (5,), kinds="fi", path=path)


class Last(nn.Module):
    def __init__(self, recurrent):
        super().__init__()
        self.recurrent = recurrent

    def forward(self, x):
        y, state = self.recurrent(x)
        return [y, *(state if isinstance(state, tuple) else (state,))]


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_recurrent_layers(path, kind):
    both = Last(kind(4, 3, 2, bidirectional=True))
    check(both, (5, 4), path=path, batch_dim=1)
    check(Last(kind(4, 3, bias=False, batch_first=True)), (5, 4), path=path)


class Operations(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


ELEMENTWISE = {
    "signs": lambda x: (x.abs() + x.sign() * -x).floor() + x.ceil() + x.trunc() + x.round(),
    "round to decimals": lambda x: x.round(decimals=1),
    "exponentials": lambda x: x.exp() + x.expm1() + (x * x).log1p() + (x * x + 1).log(),
    "roots": lambda x: (x * x + 1).sqrt() + (x * x + 1).rsqrt() + x.square() + 1 / (x + 9),
    "waves": lambda x: x.sin() * x.cos(),
    "clamp": lambda x: x.clamp(-0.5, 0.7) + x.clamp(min=0) + x.clamp(max=0.1),
    "extremes": lambda x: x.maximum(-x) + x.minimum(x * 2),
    "remainders": lambda x: x % 0.7 + x // 0.3,
    "powers": lambda x: x**3 + (x * x + 1) ** 0.5 + 2**x,
    "choices": lambda x: tinytorch.where((x > 0) & ~(x >= 1) | (x < -1) ^ (x <= -2), x, 0.0),
    "questions": lambda x: ((x == x.round()) | (x != x) | x.isnan() | x.isinf()).to("float32"),
    "logic": lambda x: tinytorch.logical_or(x.floor(), tinytorch.logical_not(x > 1)),
    "masked": lambda x: x.masked_fill(x > x.mean(-1, True), -math.inf).softmax(-1),
    "log-sigmoid": F.logsigmoid,
    "normalize": lambda x: F.normalize(x, dim=1),
    "statistics": lambda x: x.var(1) + x.std(1, correction=0) + x.norm(2, 1) + x.logsumexp(1),
    "of the whole batch": lambda x: (x - x.mean(0)) / x.std(0),
    "sums": lambda x: x.sum((0, 2)) + x.prod(2) + x.cumsum(1).amin(2),
    "any and all": lambda x: (x > 1).any(1) & (x > -1).all(1, keepdim=False),
    "how many": lambda x: (x > 0).sum(1),
    "where the best is": lambda x: x[0].argmax() + x.argmin(2),
    "shapes": lambda x: x.transpose(1, 2).reshape(-1, 3).T.unsqueeze(0).squeeze(0),
    "repeated": lambda x: x.unsqueeze(1).expand(-1, 2, -1, -1).reshape(len(x), -1),
    "batch in two places": lambda x: x.reshape(len(x), 1, 12).expand(len(x), len(x), 12),
    "padded": lambda x: F.pad(x, (1, 2, 0, 1), value=0.5).roll((1, -2), (1, 2)),
    "triangles": lambda x: x.tril() + x.triu(1),
    "parts": lambda x: tinytorch.cat(x.chunk(2, 2)[::-1], 1) + 1,
    "indices": lambda x: (x[:, 1:, None, -1], x[-1, ..., ::-1], x[..., 1:-1:2]),
    "an array of indices": lambda x: x[:, tinytorch.tensor([2, 0, -1, 0]), 1:],
    "gather": lambda x: x.gather(2, x.argmax(2, keepdim=True)),
    "products": lambda x: x @ x.transpose(1, 2) + tinytorch.einsum("nij,nkj->nik", x, x),
    "integers": lambda x: ((x * 9).to("int64") % 5, (x * 9).to("int64") // 4),
    "float64": lambda x: (x.double() * 2).exp(),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_operations(path, name):
    check(Operations(ELEMENTWISE[name]), (3, 4), path=path)


def test_a_batch_that_stays(path):
    net = Operations(lambda x, y: x @ y)
    rng = np.random.default_rng(0)
    x, y = numbers((3, 4), rng), numbers((4, 5), rng)
    tensors = [tinytorch.Tensor(x), tinytorch.Tensor(y)]
    export(net, tensors, path, ["x", "y"], ["product"], batch_dim=None)
    graph = onnx.load(path).graph
    assert [i.name for i in graph.input] == ["x", "y"] and graph.output[0].name == "product"
    np.testing.assert_allclose(run(path, x, y)[0], x @ y, rtol=1e-5)
    with pytest.raises(ValueError, match=r"inputs \(3, 4\), \(4, 5\) have no samples in common"):
        export(net, tensors, path)


def test_the_net_is_left_as_it_was(path):
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    net[2].eval()
    export(net, tinytorch.randn(2, 4), path)
    assert [m.training for m in net.modules()] == [True, True, True, False]
    assert not net[1].running_mean.data.any() and traced.tracer is None


def test_what_cannot_be_exported_is_named(path):
    x = tinytorch.randn(3, 4)

    def bad(function, message):
        with pytest.raises(ValueError, match=message):
            export(Operations(function), x, path)
        assert not path.exists() and traced.tracer is None

    bad(lambda x: F.dropout(x, 0.5, training=True), "the operation dropout cannot be exported")
    bad(lambda x: x.argsort(1), "the operation argsort cannot be exported")
    bad(lambda x: x[[0, 1], [1, 0]], "take one part at a time")
    bad(lambda x: x + tinytorch.Tensor(x.data * 2), "numbers that the net's own Python made")
    bad(lambda x: x * float(x.data[0, 0]), "numbers that the net's own Python made")
    bad(lambda x: x.exp() if x.data[0, 0] > x.data[-1, -1] else x.tanh(), "does something else")
    bad(lambda x: x.clone().add_(1), "changes a tensor in place")
    bad(lambda x: x[: len(x) - 1], "a file holds sizes that are fixed")
    with pytest.raises(ValueError, match="2 output names do not fit 1 outputs"):
        export(nn.ReLU(), x, path, output_names=["a", "b"])


def test_without_onnx(path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'tinytorch\[onnx\]'"):
        export(nn.ReLU(), tinytorch.randn(2, 3), path)
