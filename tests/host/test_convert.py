"""Networks from PyTorch and back: the same numbers come out."""

from collections import OrderedDict

import numpy as np
import pytest

import tinytorch
from tests.oracles import oracle
from tinytorch import convert, nn

torch = oracle("torch", "oracle")

NETS = {
    "mlp": ((5, 6), lambda t: t.Sequential(t.Linear(6, 8), t.ReLU(), t.Linear(8, 3, bias=False))),
    "named, nested": (
        (5, 6),
        lambda t: t.Sequential(
            OrderedDict(body=t.Sequential(t.Linear(6, 4), t.Tanh()), head=t.Linear(4, 2))
        ),
    ),
    "images": (
        (4, 2, 9, 8),
        lambda t: t.Sequential(
            t.Conv2d(2, 6, (3, 2), stride=2, padding=1, bias=False), t.BatchNorm2d(6, eps=1e-3),
            t.ReLU6(), t.Conv2d(6, 6, 3, padding="same", groups=6), t.Hardswish(),
            t.MaxPool2d(3, 2, 1), t.AvgPool2d(2, 1), t.SiLU(), t.AdaptiveAvgPool2d(1),
            t.Flatten(), t.Linear(6, 2), t.LogSoftmax(1),
        ),
    ),
    "signals": (
        (4, 3, 20),
        lambda t: t.Sequential(
            t.Conv1d(3, 8, 5, dilation=2), t.BatchNorm1d(8, affine=False), t.GELU("tanh"),
            t.MaxPool1d(2), t.LeakyReLU(0.2), t.AvgPool1d(3, 1, 1), t.ELU(0.5), t.Hardsigmoid(),
            t.AdaptiveAvgPool1d(2), t.Unflatten(1, (2, 4)), t.Softplus(2.0), t.Identity(),
            t.LayerNorm((4, 2)), t.Sigmoid(), t.Dropout(0.4), t.Softmax(-1),
        ),
    ),
    "attention": (
        (3, 5, 8),
        lambda t: t.Sequential(
            t.TransformerEncoderLayer(
                8, 2, 16, 0.2, "gelu", 1e-4, batch_first=True, norm_first=True
            ),
            t.TransformerEncoder(
                t.TransformerEncoderLayer(8, 4, 12, batch_first=True, bias=False), 2,
                t.LayerNorm(8), enable_nested_tensor=False,
            ),
        ),
    ),
}  # fmt: skip
SINGLE = {
    "lstm": ((4, 3, 5), lambda t: t.LSTM(5, 6, 2, batch_first=True, bidirectional=True)),
    "gru": ((4, 3, 5), lambda t: t.GRU(5, 6, bias=False)),
    "rnn": ((4, 3, 5), lambda t: t.RNN(5, 6, nonlinearity="relu", dropout=0.0)),
}


def vary(module):
    """Statistics and weights unlike those of the start."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for t in module.state_dict().values():
            if t.is_floating_point():
                t.add_(0.3 * torch.rand(t.shape, generator=generator))
    return module


def first(outputs):
    return outputs[0] if isinstance(outputs, tuple) else outputs


@pytest.mark.parametrize("name", [*NETS, *SINGLE])
def test_there_and_back(name):
    shape, make = (NETS | SINGLE)[name]
    theirs = vary(make(torch.nn)).eval()
    ours = convert.from_torch(theirs)
    assert not ours.training
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    expected = first(theirs(torch.tensor(x))).detach().numpy()
    np.testing.assert_allclose(
        first(ours(tinytorch.tensor(x))).detach().numpy(), expected, rtol=1e-4, atol=1e-5
    )
    assert repr(ours).replace("NonDynamicallyQuantizable", "") == repr(theirs).replace(
        "NonDynamicallyQuantizable", ""
    )
    back = convert.to_torch(ours)
    assert repr(back) == repr(theirs)
    assert not back.training
    np.testing.assert_array_equal(first(back(torch.tensor(x))).detach().numpy(), expected)


def test_embeddings_types_and_frozen_weights():
    theirs = torch.nn.Sequential(torch.nn.Embedding(7, 4, padding_idx=2), torch.nn.Linear(4, 2))
    theirs[0].weight.requires_grad_(False)
    theirs[1].eval()
    theirs.double()
    ours = convert.from_torch(theirs)
    assert [p.requires_grad for p in ours.parameters()] == [False, True, True]
    assert [m.training for m in ours.modules()] == [m.training for m in theirs.modules()]
    assert ours[1].weight.dtype == np.float64
    indices = [[0, 2], [6, 1]]
    np.testing.assert_allclose(
        ours(tinytorch.tensor(indices)).detach().numpy(),
        theirs(torch.tensor(indices)).detach().numpy(),
        rtol=1e-12,
    )
    back = convert.to_torch(ours)
    assert [p.requires_grad for p in back.parameters()] == [False, True, True]
    half = convert.from_torch(torch.nn.Linear(2, 2).to(torch.bfloat16))
    assert half.weight.dtype == np.float32


def test_a_layer_in_two_places_stays_one():
    layer = torch.nn.Linear(4, 4)
    ours = convert.from_torch(torch.nn.Sequential(layer, torch.nn.ReLU(), layer))
    assert ours[0] is ours[2]
    assert len(list(ours.parameters())) == 2


def test_it_learns_on_like_the_original():
    theirs = NETS["mlp"][1](torch.nn)
    ours = convert.from_torch(theirs)
    x = np.random.default_rng(1).standard_normal((5, 6)).astype(np.float32)
    for net, library in ((ours, tinytorch), (theirs, torch)):
        optimizer = library.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            (net(library.tensor(x)) ** 2).mean().backward()
            optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), atol=1e-5)


class Custom(torch.nn.Module):
    pass


class Linear(torch.nn.Linear):
    """One of a user's own, whatever its name."""


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t: t.Sequential(t.ReLU(), t.Sequential(t.Bilinear(2, 2, 2))), "1.0 Bilinear"),
        (lambda t: t.Sequential(Custom()), "0 Custom"),
        (lambda t: t.Sequential(Linear(2, 2)), "0 Linear cannot"),
        (lambda t: t.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), "padding_mode='reflect'"),
        (lambda t: t.Sequential(t.MaxPool2d(2, ceil_mode=True)), "0 MaxPool2d.*ceil_mode=True"),
        (lambda t: t.MaxPool2d(2, dilation=2), "dilation=2"),
        (lambda t: t.AvgPool2d(2, divisor_override=3), "divisor_override=3"),
        (lambda t: t.LSTM(4, 4, proj_size=2), "proj_size=2"),
        (lambda t: t.TransformerEncoderLayer(4, 2, activation=t.SiLU()), "SiLU"),
    ],
)
def test_what_cannot_be_converted_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        convert.from_torch(make(torch.nn))


def test_our_own_layers_do_not_exist_in_pytorch():
    with pytest.raises(ValueError, match="0 SinusoidalPositionalEncoding"):
        convert.to_torch(nn.Sequential(nn.SinusoidalPositionalEncoding(4)))
