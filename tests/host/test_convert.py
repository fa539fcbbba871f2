"""Nets of PyTorch and ours give the same outputs before and after a conversion."""

import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest

import tinytorch
from tests.oracles import oracle
from tinytorch import nn
from tinytorch.convert import from_torch, to_torch

torch = oracle("torch", "oracle")
theirs = torch.nn

N = 3
LAYERS = {  # layer, from torch.nn or our nn; shape of its inputs
    "Linear": (lambda m: m.Linear(5, 3), (N, 5)),
    "Linear, no bias": (lambda m: m.Linear(5, 3, bias=False), (N, 5)),
    "Conv1d": (lambda m: m.Conv1d(4, 6, 3, 2, 1, 2, 2, bias=False), (N, 4, 9)),
    "Conv2d": (lambda m: m.Conv2d(2, 4, (3, 2), (2, 1), padding="valid"), (N, 2, 6, 5)),
    "Conv2d, same": (lambda m: m.Conv2d(2, 4, 3, padding="same"), (N, 2, 6, 5)),
    "BatchNorm1d": (lambda m: m.BatchNorm1d(4, 1e-3, None), (N, 4)),
    "BatchNorm1d, bare": (lambda m: m.BatchNorm1d(4, affine=False), (N, 4, 5)),
    "BatchNorm2d": (lambda m: m.BatchNorm2d(4), (N, 4, 5, 2)),
    "BatchNorm2d of the batch": (
        lambda m: m.BatchNorm2d(4, track_running_stats=False), (N, 4, 5, 2),
    ),
    "LayerNorm": (lambda m: m.LayerNorm((4, 5), 1e-3), (N, 4, 5)),
    "LayerNorm, bare": (lambda m: m.LayerNorm(5, elementwise_affine=False), (N, 5)),
    "Embedding": (lambda m: m.Embedding(5, 3, padding_idx=1), None),
    "ReLU": (lambda m: m.ReLU(inplace=True), (N, 4)),
    "ReLU6": (lambda m: m.ReLU6(), (N, 4)),
    "LeakyReLU": (lambda m: m.LeakyReLU(0.3), (N, 4)),
    "ELU": (lambda m: m.ELU(0.3), (N, 4)),
    "GELU": (lambda m: m.GELU("tanh"), (N, 4)),
    "SiLU": (lambda m: m.SiLU(), (N, 4)),
    "Tanh": (lambda m: m.Tanh(), (N, 4)),
    "Sigmoid": (lambda m: m.Sigmoid(), (N, 4)),
    "Hardsigmoid": (lambda m: m.Hardsigmoid(), (N, 4)),
    "Hardswish": (lambda m: m.Hardswish(), (N, 4)),
    "Softplus": (lambda m: m.Softplus(2.0, 3.0), (N, 4)),
    "Softmax": (lambda m: m.Softmax(1), (N, 4)),
    "LogSoftmax": (lambda m: m.LogSoftmax(dim=-1), (N, 4)),
    "Identity": (lambda m: m.Identity(), (N, 4)),
    "Dropout": (lambda m: m.Dropout(0.3), (N, 4)),
    "MaxPool1d": (lambda m: m.MaxPool1d(3, 2, 1), (N, 2, 9)),
    "MaxPool2d": (lambda m: m.MaxPool2d((2, 3)), (N, 2, 4, 6)),
    "AvgPool1d": (lambda m: m.AvgPool1d(3, 2, 1), (N, 2, 9)),
    "AvgPool2d": (lambda m: m.AvgPool2d(2), (N, 2, 4, 6)),
    "AdaptiveAvgPool1d": (lambda m: m.AdaptiveAvgPool1d(2), (N, 2, 9)),
    "AdaptiveAvgPool2d": (lambda m: m.AdaptiveAvgPool2d((None, 2)), (N, 2, 4, 6)),
    "Flatten": (lambda m: m.Flatten(0, 1), (N, 2, 4)),
    "Unflatten": (lambda m: m.Unflatten(1, (2, 3)), (N, 6)),
    "RNN": (lambda m: m.RNN(4, 5, 2, nonlinearity="relu", batch_first=True), (N, 6, 4)),
    "GRU": (lambda m: m.GRU(4, 5, bias=False, bidirectional=True), (6, N, 4)),
    "LSTM": (lambda m: m.LSTM(4, 5, num_layers=2, dropout=0.1), (6, N, 4)),
    "TransformerEncoderLayer": (
        lambda m: m.TransformerEncoderLayer(8, 2, 16, 0.2, "gelu", 1e-3, True, True),
        (N, 5, 8),
    ),
    "TransformerEncoderLayer, no bias": (
        lambda m: m.TransformerEncoderLayer(8, 2, 16, bias=False), (5, N, 8),
    ),
    "TransformerEncoder": (
        lambda m: m.TransformerEncoder(
            m.TransformerEncoderLayer(8, 2, 16), 2, m.LayerNorm(8), enable_nested_tensor=False
        ),
        (5, N, 8),
    ),
    "Sequential": (
        lambda m: m.Sequential(
            OrderedDict(
                body=m.Sequential(m.Conv1d(2, 4, 3), m.BatchNorm1d(4), m.ReLU()),
                flat=m.Flatten(), head=m.Linear(24, 3),
            )
        ),
        (N, 2, 8),
    ),
}  # fmt: skip


def outputs(net, x):
    y = net(x)
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.filterwarnings("ignore:dropout option adds dropout:UserWarning")
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_goes_both_ways(name):
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    tinytorch.manual_seed(0)
    x = np.array([[0, 1], [4, 2]])
    if shape is not None:
        x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    original = make(theirs)
    for buffer in original.buffers():
        if buffer.dtype == torch.float32:
            buffer += torch.rand(buffer.shape)
    original.eval()
    ours = from_torch(original)
    mine = make(nn)
    back = to_torch(mine.eval())
    assert type(ours).__module__.startswith("tinytorch") and repr(ours) == repr(mine)
    for here, there in ((ours, original), (mine, back)):
        states = here.state_dict(), there.state_dict()
        assert list(states[0]) == list(states[1])
        for key, value in states[0].items():
            expected = states[1][key].numpy()
            assert value.dtype == expected.dtype
            np.testing.assert_array_equal(value.data, expected)
        assert [m.training for m in here.modules()] == [m.training for m in there.modules()]
        with torch.no_grad(), tinytorch.no_grad():
            expected = outputs(there, torch.tensor(x)).numpy()
            got = outputs(here, tinytorch.tensor(x))
        np.testing.assert_allclose(got.data, expected, rtol=1e-4, atol=1e-5)


def test_attention_alone():
    original = theirs.MultiheadAttention(8, 2, bias=False, kdim=6, vdim=4, batch_first=True)
    ours = from_torch(original)
    q, k, v = (torch.randn(N, n, d) for n, d in ((5, 8), (7, 6), (7, 4)))
    expected = original(q, k, v)
    got = ours(*(tinytorch.tensor(t.numpy()) for t in (q, k, v)))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a.data, b.detach().numpy(), rtol=1e-4, atol=1e-5)
    assert list(to_torch(ours).state_dict()) == list(original.state_dict())


def test_the_copy_is_one():
    original = theirs.Sequential(theirs.Linear(2, 2))
    ours = from_torch(original)
    before = ours[0].weight.data.copy()
    with torch.no_grad():
        original[0].weight.zero_()
    np.testing.assert_array_equal(ours[0].weight.data, before)
    back = to_torch(ours)
    ours[0].weight.data[...] = 0
    np.testing.assert_array_equal(back[0].weight.detach().numpy(), before)


def test_what_is_shared_stays_shared():
    layer = theirs.Linear(3, 3)
    tied = theirs.Linear(3, 3)
    tied.weight = layer.weight
    original = theirs.Sequential(layer, theirs.ReLU(), layer, tied)
    ours = from_torch(original)
    assert ours[0] is ours[2] and ours[3].weight is ours[0].weight
    assert len(list(ours.parameters())) == len(list(original.parameters())) == 3
    back = to_torch(ours)
    assert back[0] is back[2] and back[3].weight is back[0].weight


def test_modes_types_and_freezing_come_along():
    original = theirs.Sequential(theirs.Linear(2, 2), theirs.Dropout(0.5)).double()
    original[1].eval()
    original[0].bias.requires_grad_(False)
    ours = from_torch(original)
    assert ours[0].weight.dtype == np.float64
    assert ours[0].weight.requires_grad and not ours[0].bias.requires_grad
    assert (ours.training, ours[0].training, ours[1].training) == (True, True, False)
    assert not to_torch(ours)[0].bias.requires_grad
    for half in (torch.float16, torch.bfloat16):
        layer = theirs.Linear(2, 2).to(half)
        got = from_torch(layer).weight
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got.data, layer.weight.detach().float().numpy())


def test_containers_keep_their_names():
    inner = theirs.ModuleDict({"b": theirs.Linear(1, 2), "a": theirs.ModuleList([theirs.Tanh()])})
    ours = from_torch(inner)
    assert list(ours.state_dict()) == ["b.weight", "b.bias"] and len(ours["a"]) == 1


def test_it_learns_on_as_it_would_have_there():
    original = theirs.Sequential(theirs.Linear(6, 8), theirs.ReLU(), theirs.Linear(8, 3))
    ours = from_torch(original)
    x = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    for net, library in ((ours, tinytorch), (original, torch)):
        optimizer = library.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            (net(library.tensor(x)) ** 2).mean().backward()
            optimizer.step()
    for a, b in zip(ours.parameters(), original.parameters(), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), atol=1e-5)


class Own(theirs.Module):
    pass


class Linear(theirs.Linear):
    """A user's own, whatever its name is."""


def test_what_cannot_be_converted_is_named():
    def bad(module, message):
        with pytest.raises(ValueError, match=message):
            from_torch(module)

    wrap = theirs.Sequential
    bad(
        wrap(theirs.ReLU(), wrap(theirs.Bilinear(1, 2, 3))),
        "Bilinear at '1.0' cannot be conv.*no B",
    )
    bad(wrap(Own()), "Own at '0' is not of torch.nn: convert its layers")
    bad(wrap(Linear(2, 2)), "Linear at '0' is not of torch.nn")
    bad(theirs.Conv1d(1, 1, 3, padding_mode="reflect"), "Conv1d cannot .* padding_mode=reflect")
    bad(wrap(theirs.MaxPool1d(2, dilation=2)), "MaxPool1d at '0' .* no option dilation=2")
    bad(theirs.AvgPool2d(2, ceil_mode=True), "no option ceil_mode=True")
    bad(theirs.Embedding(3, 2, max_norm=1.0), "no option max_norm=1.0")
    bad(theirs.LSTM(3, 4, proj_size=2), "no option proj_size=2")
    bad(theirs.MultiheadAttention(4, 2, add_bias_kv=True), "no option add_bias_kv=True")
    bad(
        theirs.TransformerEncoderLayer(4, 2, activation=theirs.Tanh()),
        "its activation Tanh is neither relu nor gelu",
    )
    with pytest.raises(ValueError, match="torch.nn has no SinusoidalPositionalEncoding"):
        to_torch(nn.Sequential(nn.SinusoidalPositionalEncoding(4)))


def test_torch_is_imported_only_on_the_way_back(monkeypatch):
    code = "import sys, tinytorch; tinytorch.convert.from_torch; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="pip install torch"):
        to_torch(nn.ReLU())
