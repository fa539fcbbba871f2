"""The laptop's own layers: recurrent ones, attention, the Transformer's encoder, initialisers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinytorch
from tests.host.gradients import check
from tests.oracles import oracle
from tinytorch import nn
from tinytorch.autograd.tensor import Tensor
from tinytorch.nn import functional as F
from tinytorch.train.capture import Step

torch = oracle("torch", "oracle")
TF = torch.nn.functional
pytestmark = [
    # PyTorch's own, of its fast paths and of dropout in a single layer.
    pytest.mark.filterwarnings("ignore:enable_nested_tensor"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors"),
    pytest.mark.filterwarnings("ignore:Support for mismatched"),
]

seeds = st.integers(0, 2**32 - 1)


def twins(make):
    """The same layer in both libraries, with PyTorch's numbers, in float64."""
    ours, theirs = make(nn).double(), make(torch.nn).double()
    names = {n: tuple(t.shape) for n, t in ours.state_dict().items()}
    assert list(names.items()) == [(n, tuple(t.shape)) for n, t in theirs.state_dict().items()]
    ours.load_state_dict({n: Tensor(t.numpy()) for n, t in theirs.state_dict().items()})
    return ours, theirs


def same_gradients(ours, theirs):
    for (name, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        got, wanted = p.grad, q.grad
        if wanted is None or not wanted.any():
            assert got is None or np.abs(got.data).max(initial=0) < 1e-9, name
        else:
            np.testing.assert_allclose(got.data, wanted.numpy(), rtol=1e-7, atol=1e-8, err_msg=name)


KINDS = {
    "RNN": {},
    "RNN of relu": {"nonlinearity": "relu"},
    "GRU": {},
    "LSTM": {},
}


@settings(deadline=None, max_examples=12)
@pytest.mark.parametrize("kind", KINDS)
@given(
    seed=seeds, layers=st.integers(1, 2), bidirectional=st.booleans(), batch_first=st.booleans(),
    bias=st.booleans(), single=st.booleans(), started=st.booleans(), length=st.integers(1, 4),
)  # fmt: skip
def test_recurrent_layers(
    kind, seed, layers, bidirectional, batch_first, bias, single, started, length
):
    torch.manual_seed(seed)
    ours, theirs = twins(
        lambda m: getattr(m, kind.split()[0])(
            3,
            4,
            num_layers=layers,
            bidirectional=bidirectional,
            batch_first=batch_first,
            bias=bias,
            **KINDS[kind],
        )  # fmt: skip
    )
    rng = np.random.default_rng(seed)
    n = (2,) if not single else ()
    shape = (length, *n, 3) if single or not batch_first else (*n, length, 3)
    state = (layers * (1 + bidirectional), *n, 4)
    count = (2 if kind == "LSTM" else 1) if started else 0

    def whole(net, cat):
        def run(x, *first):
            hx = None if not first else first if len(first) > 1 else first[0]
            y, last = net(x, hx)
            last = last if isinstance(last, tuple) else (last,)
            return cat([t.reshape(-1) for t in (y, *last)])

        return run

    arrays = [rng.normal(size=s) for s in (shape, *[state] * count)]
    check(whole(ours, tinytorch.cat), whole(theirs, torch.cat), *arrays)
    same_gradients(ours, theirs)


def test_recurrent_layers_at_large_sums():
    """In float32, where exp overflows beyond 88."""
    for kind in ("GRU", "LSTM"):
        ours, theirs = (getattr(m, kind)(1, 2) for m in (nn, torch.nn))
        ours.load_state_dict({n: Tensor(t.numpy()) for n, t in theirs.state_dict().items()})
        x = np.float32([[[1e4]], [[-1e4]]])
        y, expected = ours(Tensor(x))[0], theirs(torch.tensor(x))[0]
        np.testing.assert_allclose(y.data, expected.detach().numpy(), atol=1e-6)


def test_dropout_stands_between_recurrent_layers():
    tinytorch.manual_seed(0)
    net = nn.LSTM(3, 50, num_layers=2, dropout=1.0)
    alone = nn.LSTM(50, 50)
    alone.load_state_dict(
        {n.replace("l1", "l0"): t for n, t in net.state_dict().items() if "l1" in n}
    )
    x = tinytorch.randn(4, 2, 3)
    np.testing.assert_allclose(net(x)[0].data, alone(tinytorch.zeros(4, 2, 50))[0].data, atol=1e-6)
    assert not np.allclose(net.eval()(x)[0].data, net.train()(x)[0].data)


def test_wrong_sequences_are_named():
    for f, parts in [
        (lambda: nn.GRU(3, 4)(tinytorch.zeros(2, 5)), ["GRU", "(2, 5)", "input_size 3"]),
        (lambda: nn.RNN(3, 4)(tinytorch.zeros(0, 1, 3)), ["no time steps"]),
        (
            lambda: nn.GRU(3, 4)(tinytorch.zeros(2, 1, 3), tinytorch.zeros(2, 1, 4)),
            ["(2, 1, 4)", "(1, 1, 4)"],
        ),
        (lambda: nn.RNN(3, 4, dropout=2.0), ["dropout 2"]),
    ]:
        with pytest.raises(ValueError) as raised:
            f()
        assert all(part in str(raised.value) for part in parts), raised.value


@settings(deadline=None, max_examples=40)
@given(
    seed=seeds, batch=st.sampled_from([(), (2,), (2, 3), (0,)]), length=st.integers(1, 4),
    keys=st.integers(1, 4), mask=st.sampled_from([None, "bool", "float", "causal"]),
    scale=st.sampled_from([None, 0.3]),
)  # fmt: skip
def test_scaled_dot_product_attention(seed, batch, length, keys, mask, scale):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(*batch, *s)) for s in ((length, 3), (keys, 3), (keys, 2))]
    masks = {"bool": rng.random((length, keys)) < 0.7, "float": rng.normal(size=(length, keys))}
    given_mask = masks.get(mask)
    if mask == "bool":
        given_mask[:, 0] = True
    ours, theirs = (
        lambda q, k, v, f=f, t=t: f(
            q, k, v, None if given_mask is None else t(given_mask), is_causal=mask == "causal",
            scale=scale,
        )
        for f, t in (
            (F.scaled_dot_product_attention, Tensor),
            (TF.scaled_dot_product_attention, torch.tensor),
        )
    )  # fmt: skip
    check(ours, theirs, *arrays)
    if mask != "causal":  # the way of dropout, and of those who want the weights
        check(
            lambda q, k, v: F._attention_weights(
                q, k, None if given_mask is None else Tensor(given_mask),
                3**-0.5 if scale is None else scale, False,
            ) @ v,
            theirs, *arrays,
        )  # fmt: skip


def test_dropout_of_attention():
    q, v = tinytorch.zeros(1, 4, 2), tinytorch.ones(1, 4, 2)
    assert F.scaled_dot_product_attention(q, q, v, dropout_p=1.0).data.max() == 0
    tinytorch.manual_seed(0)
    y = F.scaled_dot_product_attention(tinytorch.zeros(64, 8, 2), *[tinytorch.ones(64, 8, 2)] * 2,
                                       dropout_p=0.25)  # fmt: skip
    assert y.data.mean() == pytest.approx(1, abs=0.05) and y.data.std() > 0.05


@settings(deadline=None, max_examples=60)
@given(
    seed=seeds, batch_first=st.booleans(), single=st.booleans(), bias=st.booleans(),
    source=st.sampled_from(["self", "memory", "other widths"]), need_weights=st.booleans(),
    average=st.booleans(), attn=st.sampled_from([None, "bool", "float", "of each head"]),
    padding=st.sampled_from([None, "bool", "float"]),
)  # fmt: skip
def test_multihead_attention(
    seed, batch_first, single, bias, source, need_weights, average, attn, padding
):
    torch.manual_seed(seed)
    widths = {"kdim": 3, "vdim": 5} if source == "other widths" else {}
    ours, theirs = twins(
        lambda m: m.MultiheadAttention(4, 2, bias=bias, batch_first=batch_first, **widths)
    )
    rng = np.random.default_rng(seed)
    n, length, keys = 3, 4, 4 if source == "self" else 2

    def sequence(size, width):
        if single:
            return rng.normal(size=(size, width))
        return rng.normal(size=(n, size, width) if batch_first else (size, n, width))

    arrays = [sequence(length, 4)]
    if source != "self":
        arrays += [sequence(keys, widths.get("kdim", 4)), sequence(keys, widths.get("vdim", 4))]
    masks = {}
    heads = 2 if single else 2 * n
    if attn:
        shape = (heads, length, keys) if attn == "of each head" else (length, keys)
        masks["attn_mask"] = rng.random(shape) < 0.3
        masks["attn_mask"][..., 0] = False
        if attn == "float":
            masks["attn_mask"] = rng.normal(size=shape)
    if padding:
        shape = (keys,) if single else (n, keys)
        masks["key_padding_mask"] = rng.random(shape) < 0.3
        masks["key_padding_mask"][..., 0] = False
        if padding == "float":
            masks["key_padding_mask"] = rng.normal(size=shape)
    if {m.dtype.kind for m in masks.values()} == {"b", "f"}:
        return  # deprecated in PyTorch
    for which in (0, 1) if need_weights else (0,):
        ours.zero_grad()
        theirs.zero_grad()
        y, expected = (
            lambda *a, net=net, t=t, which=which: net(
                *(a * 3 if len(a) == 1 else a), need_weights=need_weights,
                average_attn_weights=average, **{name: t(m) for name, m in masks.items()},
            )[which]
            for net, t in ((ours, Tensor), (theirs, torch.tensor))
        )  # fmt: skip
        if which:
            np.testing.assert_allclose(
                y(*map(Tensor, arrays)).data, expected(*map(torch.tensor, arrays)).detach().numpy()
            )
        else:
            check(y, expected, *arrays)
            same_gradients(ours, theirs)
    if not need_weights:
        assert (
            ours(*map(Tensor, arrays * (3 if source == "self" else 1)), need_weights=False)[1]
            is None
        )


@settings(deadline=None, max_examples=30)
@given(
    seed=seeds, batch_first=st.booleans(), norm_first=st.booleans(), single=st.booleans(),
    activation=st.sampled_from(["relu", "gelu", "silu"]), bias=st.booleans(),
    mask=st.sampled_from([None, "causal", "padding", "both"]), final=st.booleans(),
)  # fmt: skip
def test_transformer_encoder(
    seed, batch_first, norm_first, single, activation, bias, mask, final
):  # fmt: skip
    torch.manual_seed(seed)

    def make(m):
        function = {nn: F.silu, torch.nn: TF.silu}[m] if activation == "silu" else activation
        layer = m.TransformerEncoderLayer(
            4, 2, 6, dropout=0.0, activation=function, batch_first=batch_first,
            norm_first=norm_first, bias=bias,
        )  # fmt: skip
        return m.TransformerEncoder(layer, 2, norm=m.LayerNorm(4) if final else None)

    ours, theirs = twins(make)
    rng = np.random.default_rng(seed)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        numbers = rng.normal(size=p.shape)
        p.data[...] = numbers
        q.data.copy_(torch.tensor(numbers))
    shape = (3, 4) if single else (2, 3, 4) if batch_first else (3, 2, 4)
    masks = {}
    if mask in ("causal", "both"):
        masks["mask"] = np.triu(np.ones((3, 3), bool), 1)
    if mask in ("padding", "both"):
        masks["src_key_padding_mask"] = np.array([[False, False, True], [False] * 3])
        if single:
            masks["src_key_padding_mask"] = masks["src_key_padding_mask"][0]
    check(
        lambda x: ours(x, **{name: Tensor(m) for name, m in masks.items()}),
        lambda x: theirs(x, **{name: torch.tensor(m) for name, m in masks.items()}),
        rng.normal(size=shape),
    )
    same_gradients(ours, theirs)
    if mask == "causal" and ours.training:
        x = rng.normal(size=shape)
        np.testing.assert_allclose(
            ours(Tensor(x), is_causal=True).data,
            ours(Tensor(x), Tensor(masks["mask"])).data, atol=1e-12,
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM", "encoder", "weights"])
def test_a_captured_step_is_the_same_to_the_bit(kind):
    """With dropout, masks and positions: replayed, and equal to the tape's."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(8, 3)
            if kind in ("RNN", "GRU", "LSTM"):
                self.body = getattr(nn, kind)(4, 4, 2, dropout=0.2, bidirectional=True)
                return
            self.first = nn.Linear(4, 8)
            self.positions = nn.SinusoidalPositionalEncoding(8)
            layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, activation="gelu")
            self.body = (
                nn.TransformerEncoder(layer, 2)
                if kind == "encoder"
                else nn.MultiheadAttention(8, 2)
            )

        def forward(self, x):
            if not hasattr(self, "first"):
                return self.head(self.body(x)[0][-1])
            x = self.positions(self.first(x))
            padding = Tensor(np.arange(5) > [[4], [2]])
            if kind == "weights":
                return self.head(self.body(x, x, x, padding)[0].mean(0))
            causal = Tensor(np.triu(np.ones((5, 5), bool), 1))
            return self.head(self.body(x, causal, padding).mean(0))

    losses = []
    for capture in (True, False):
        tinytorch.manual_seed(0)
        net = Net()
        optimizer = tinytorch.optim.SGD(net.parameters(), lr=0.1)
        step = Step(net, lambda y, t: F.cross_entropy(y, t, label_smoothing=0.1), capture)
        for _ in range(4):
            optimizer.zero_grad()
            _, loss = step.forward(tinytorch.randn(5, 2, 4), tinytorch.tensor([2, 0]))
            step.backward()
            optimizer.step()
            losses.append(loss.item())
        assert step.replayed == (3 if capture else 0)
    assert losses[:4] == losses[4:]


def test_the_layers_of_an_encoder_are_copies():
    layer = nn.TransformerEncoderLayer(4, 2, 8)
    net = nn.TransformerEncoder(layer, 2)
    numbers = {id(p) for p in net.parameters()} | {id(p) for p in layer.parameters()}
    assert len(numbers) == 3 * len(list(layer.parameters()))
    assert len({p._sequence_nr for p in net.parameters()}) == len(list(net.parameters()))
    y = net(tinytorch.randn(3, 2, 4))  # with dropout
    assert y.shape == (3, 2, 4)


def test_an_encoder_starts_as_that_of_torch():
    tinytorch.manual_seed(0)
    torch.manual_seed(0)
    ours, theirs = (m.TransformerEncoderLayer(64, 2, 96) for m in (nn, torch.nn))
    for name, t in ours.state_dict().items():
        expected = theirs.state_dict()[name]
        assert t.data.std() == pytest.approx(expected.std(correction=0).item(), rel=0.2, abs=1e-9)
        assert t.data.mean() == pytest.approx(expected.mean().item(), abs=0.03)
    ours, theirs = (m.LSTM(32, 64) for m in (nn, torch.nn))
    for name, t in ours.state_dict().items():
        assert t.data.std() == pytest.approx(theirs.state_dict()[name].std().item(), rel=0.2)


def test_wrong_attention_is_named():
    x = tinytorch.zeros(3, 2, 4)
    net = nn.MultiheadAttention(4, 2)
    for f, parts in [
        (lambda: net(x, x[:, :1], x[:, :1]), ["(3, 2, 4)", "(3, 1, 4)"]),
        (lambda: net(x[..., :3], x, x), ["(3, 2, 3)", "embed_dim 4"]),
        (lambda: net(x, x, x, attn_mask=tinytorch.zeros(3, 2)), ["(3, 2)", "(3, 3)", "(4, 3, 3)"]),
        (lambda: net(x, x, x, tinytorch.zeros(3, 2)), ["key_padding_mask (3, 2)", "(2, 3)"]),
        (lambda: nn.TransformerEncoderLayer(4, 2, activation="sin"), ["'sin'"]),
        (lambda: F.scaled_dot_product_attention(x, x[..., :3], x), ["(3, 2, 4)", "(3, 2, 3)"]),
        (
            lambda: F.scaled_dot_product_attention(x, x, x, x, is_causal=True),
            ["attn_mask or is_causal"],
        ),
    ]:
        with pytest.raises(ValueError) as raised:
            f()
        assert all(part in str(raised.value) for part in parts), raised.value


def test_positional_encodings():
    x = np.random.default_rng(0).normal(size=(2, 5, 7)).astype(np.float32)
    net = nn.SinusoidalPositionalEncoding(7, max_len=6, batch_first=True)
    assert not net.state_dict() and not list(net.parameters())
    added = net(Tensor(x)).data - x
    for t in range(5):
        for i in range(7):
            angle = t / 10000 ** (2 * (i // 2) / 7)
            assert added[1, t, i] == pytest.approx([math.sin, math.cos][i % 2](angle), abs=1e-5)
    other = nn.SinusoidalPositionalEncoding(7)
    y = other(Tensor(x.swapaxes(0, 1))).data.swapaxes(0, 1)
    np.testing.assert_array_equal(y, net(Tensor(x)).data)
    np.testing.assert_array_equal(net(Tensor(x[0])).data, y[0])

    learned = nn.LearnedPositionalEncoding(7, 6, batch_first=True)
    learned(Tensor(x)).sum().backward()
    assert learned.table.grad.tolist() == [[2] * 7] * 5 + [[0] * 7]
    assert list(learned.state_dict()) == ["table"]
    for bad in (np.zeros((1, 7, 7)), np.zeros((1, 3, 6))):
        with pytest.raises(ValueError, match="d_model 7 and max_len 6"):
            learned(Tensor(bad))


INITIALISERS = {
    "uniform_": [{}, {"a": -2, "b": 1}],
    "normal_": [{}, {"mean": 2, "std": 0.5}],
    "trunc_normal_": [{}, {"mean": 1, "std": 2, "a": -1, "b": 1.5}],
    "constant_": [{"val": 3}],
    "zeros_": [{}],
    "ones_": [{}],
    "xavier_uniform_": [{}, {"gain": 2}],
    "xavier_normal_": [{}],
    "kaiming_uniform_": [{}, {"a": 1, "mode": "fan_out"}, {"nonlinearity": "relu"}],
    "kaiming_normal_": [{}, {"mode": "fan_out", "nonlinearity": "tanh"}],
    "orthogonal_": [{}, {"gain": 3}],
}


@pytest.mark.parametrize("name", INITIALISERS)
def test_initialisers_spread_as_those_of_torch(name):
    tinytorch.manual_seed(1)
    torch.manual_seed(1)
    for arguments in INITIALISERS[name]:
        for shape in [(60, 80), (20, 40, 3, 2)]:
            layer = nn.Module()
            layer.weight = nn.Parameter(tinytorch.zeros(shape))
            ours = getattr(nn.init, name)(layer.weight, **arguments)
            theirs = getattr(torch.nn.init, name)(torch.zeros(shape), **arguments).numpy()
            assert ours is layer.weight and ours.requires_grad and ours.dtype == np.float32
            spread = theirs.std()
            np.testing.assert_allclose(ours.data.std(), spread, rtol=0.06)
            np.testing.assert_allclose(ours.data.mean(), theirs.mean(), atol=0.06 * spread + 1e-9)
            for part in (0.01, 0.25, 0.75, 0.99):
                np.testing.assert_allclose(
                    np.quantile(ours.data, part), np.quantile(theirs, part),
                    atol=0.2 * spread + 1e-9,
                )  # fmt: skip


def test_orthogonal_rows():
    for shape in [(4, 6), (6, 4), (3, 2, 2)]:
        w = nn.init.orthogonal_(tinytorch.zeros(*shape), 2.0).data.reshape(shape[0], -1)
        small = w @ w.T if len(w) <= w.shape[1] else w.T @ w
        np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-5)


def test_gains_and_their_errors():
    for name in ("linear", "conv1d", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert nn.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert nn.init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain(
        "leaky_relu", 0.3
    )
    for f, part in [
        (lambda: nn.init.calculate_gain("sin"), "'sin'"),
        (lambda: nn.init.xavier_normal_(tinytorch.zeros(3)), r"shape \(3,\) has no fan"),
        (lambda: nn.init.kaiming_normal_(tinytorch.zeros(3, 3), mode="in"), "'in'"),
        (lambda: nn.init.trunc_normal_(tinytorch.zeros(3), a=1, b=1), "out of reach"),
    ]:
        with pytest.raises(ValueError, match=part):
            f()
