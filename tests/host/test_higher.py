"""Gradients of gradients, and of those once more, through layers: against PyTorch, in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinytorch
from tests.oracles import oracle
from tinytorch.autograd.aliasing import changed
from tinytorch.autograd.formulas import FORMULAS, Formula, Needs
from tinytorch.autograd.tape import apply
from tinytorch.autograd.tensor import Tensor
from tinytorch.nn import functional as ours

torch = oracle("torch", "oracle")
theirs = torch.nn.functional


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def derivatives(library, make, f, arrays, order):
    """The first `order` derivatives of random sums of f's numbers, those of each along the last."""
    rng = np.random.default_rng(0)
    inputs = [make(a, requires_grad=True) for a in arrays]
    y = f(*inputs)
    found = []
    for _ in range(order):
        total = (y * make(rng.normal(size=tuple(y.shape)))).sum()
        parts = library.autograd.grad(total, inputs, create_graph=True, allow_unused=True)
        parts = [
            make(np.zeros(tuple(t.shape))) if p is None else p
            for p, t in zip(parts, inputs, strict=True)
        ]
        found += [
            (p + make(np.zeros(()))).detach().numpy() for p in parts
        ]  # torch's may lack memory
        y = library.cat([p.reshape(-1) for p in parts])
        if not y.requires_grad:
            break
    return found


def compare(f, g, *arrays, order=3):
    mine = derivatives(tinytorch, Tensor, f, arrays, order)
    others = derivatives(torch, torch.tensor, g, arrays, order)
    for n, (a, b) in enumerate(zip(mine, others, strict=False)):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-8, err_msg=f"number {n}")
    for rest in (*mine[len(others) :], *others[len(mine) :]):
        assert not rest.any()


ACTIVATIONS = {
    "relu": {}, "relu6": {}, "leaky_relu": {"negative_slope": 0.2}, "elu": {"alpha": 1.5},
    "gelu": {}, "gelu tanh": {"approximate": "tanh"}, "silu": {},
    "hardswish": {}, "softplus": {"beta": 2.0, "threshold": 2.0}, "logsigmoid": {},
    "tanh": {}, "sigmoid": {}, "softmax": {"dim": 1}, "log_softmax": {"dim": 0},
    "normalize": {"dim": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    f, options = name.split()[0], ACTIVATIONS[name]
    compare(
        lambda x: getattr(ours, f)(x * 2, **options) * x,
        lambda x: getattr(theirs, f)(x * 2, **options) * x,
        numbers(3, 4),
    )


@settings(max_examples=15, deadline=None)
@given(
    dims=st.integers(1, 2), stride=st.integers(1, 2), padding=st.integers(0, 1),
    dilation=st.integers(1, 2), groups=st.sampled_from([1, 2, 4]), bias=st.booleans(),
)  # fmt: skip
def test_conv(dims, stride, padding, dilation, groups, bias):
    arrays = [numbers(2, 4, *(6, 5)[:dims]), numbers(4, 4 // groups, *(2, 3)[:dims], seed=1)]
    arrays += [numbers(4, seed=2)] * bias
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    compare(
        lambda *t: getattr(ours, f"conv{dims}d")(*t, **options).tanh(),
        lambda *t: getattr(theirs, f"conv{dims}d")(*t, **options).tanh(),
        *arrays,
    )


@pytest.mark.parametrize("dims", (1, 2))
@pytest.mark.parametrize("name", ("max_pool", "avg_pool"))
@pytest.mark.parametrize("window", ((2, 2, 0), (3, 2, 1), (3, 1, 0)))
def test_pools(name, dims, window):
    compare(
        lambda x: getattr(ours, f"{name}{dims}d")(x * x, *window),
        lambda x: getattr(theirs, f"{name}{dims}d")(x * x, *window),
        numbers(2, 3, *(5, 6)[:dims]),
    )


def test_adaptive_pools():
    compare(
        lambda x: ours.adaptive_avg_pool2d(x * x, (2, 3)),
        lambda x: theirs.adaptive_avg_pool2d(x * x, (2, 3)),
        numbers(2, 3, 5, 6),
    )


def normal(x, dims, weight, bias):
    """PyTorch's own third derivatives of what is normalised by its own statistics are wrong:
    they take the statistics for constants. So it is asked by parts."""
    y = (x - x.mean(dims, True)) * (x.var(dims, correction=0, keepdim=True) + 1e-5).rsqrt()
    return y * weight + bias


@pytest.mark.parametrize("shape", ((5, 3), (4, 3, 5), (2, 3, 4, 2)))
@pytest.mark.parametrize("training", (True, False))
def test_batch_norm(shape, training):
    statistics = numbers(3, seed=3), numbers(3, seed=4) ** 2 + 1

    def run(f, make):
        return lambda x, w, b: f(x, *map(make, statistics), w, b, training=training)

    arrays = numbers(*shape), numbers(3, seed=1), numbers(3, seed=2)
    mine, other = run(ours.batch_norm, Tensor), run(theirs.batch_norm, torch.tensor)
    compare(mine, other, *arrays, order=2 if training else 3)
    if training:
        row = (-1, *[1] * (len(shape) - 2))
        batch = (0, *range(2, len(shape)))
        compare(mine, lambda x, w, b: normal(x, batch, w.reshape(row), b.reshape(row)), *arrays)


def test_batch_norm_moves_its_statistics_once():
    x = Tensor(numbers(5, 3), requires_grad=True)
    mean, var = Tensor(np.zeros(3)), Tensor(np.ones(3))
    y = ours.batch_norm(x, mean, var, training=True)
    after = mean.data.copy()
    (g,) = tinytorch.autograd.grad((y * y * y).sum(), x, create_graph=True)
    g.sum().backward()
    assert np.array_equal(mean.data, after)


def test_layer_norm():
    arrays = numbers(2, 3, 4), numbers(3, 4, seed=1), numbers(3, 4, seed=2)

    def mine(x, w, b):
        return ours.layer_norm(x, (3, 4), w, b)

    compare(mine, lambda x, w, b: theirs.layer_norm(x, (3, 4), w, b), *arrays, order=2)
    compare(mine, lambda x, w, b: normal(x, (1, 2), w, b), *arrays)


def test_linear_and_embedding():
    index = np.array([[0, 2], [2, 1]])
    compare(
        lambda e, w, b: ours.linear(
            ours.embedding(Tensor(index), e, padding_idx=1), w, b
        ).sigmoid(),
        lambda e, w, b: theirs.linear(
            theirs.embedding(torch.tensor(index), e, padding_idx=1), w, b
        ).sigmoid(),
        numbers(3, 4), numbers(5, 4, seed=1), numbers(5, seed=2),
    )  # fmt: skip


LOSSES = {
    "cross_entropy": {"label_smoothing": 0.1}, "nll_loss": {"ignore_index": 1},
    "mse_loss": {}, "l1_loss": {}, "huber_loss": {"delta": 0.5}, "smooth_l1_loss": {},
    "binary_cross_entropy": {}, "binary_cross_entropy_with_logits": {},
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("reduction", ("mean", "sum", "none"))
def test_losses(name, reduction):
    x, target = numbers(4, 3), np.abs(numbers(4, 3, seed=1)) % 1
    weight = np.array([1.0, 2.0, 0.5])
    options = {**LOSSES[name], "reduction": reduction}
    if name in ("cross_entropy", "nll_loss"):
        target = np.array([0, 1, 2, 1])
    weights = ("cross_entropy", "nll_loss", "binary_cross_entropy")

    def run(library, make, weighted):
        def loss(t):
            if name == "binary_cross_entropy":
                t = t.sigmoid()
            given = {"weight": make(weight)} if weighted else {}
            return getattr(library, name)(t, make(target), **options, **given)

        return loss

    for weighted in (False, True)[: 1 + (name in weights)]:
        compare(run(ours, Tensor, weighted), run(theirs, torch.tensor, weighted), x)


MASKS = {
    "none": None,
    "causal": None,
    "bool": np.array([[1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool),
    "float": numbers(3, 4, seed=5),
}


@pytest.mark.parametrize("mask", MASKS)
def test_attention(mask):
    causal = mask == "causal"

    def run(library, make):
        given = None if MASKS[mask] is None else make(MASKS[mask])

        def attention(q, k, v):
            if library is theirs:  # its fused kernels have no second derivatives
                with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                    return library.scaled_dot_product_attention(q, k, v, given, is_causal=causal)
            return library.scaled_dot_product_attention(q, k, v, given, is_causal=causal)

        return attention

    compare(
        run(ours, Tensor), run(theirs, torch.tensor),
        numbers(2, 3, 4), numbers(2, 4, 4, seed=1), numbers(2, 4, 5, seed=2), order=2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("RNN", {}), ("RNN", {"nonlinearity": "relu", "bidirectional": True}),
        ("GRU", {"bidirectional": True}), ("LSTM", {"bidirectional": True}),
        ("LSTM", {"bias": False}),
    ],
)  # fmt: skip
def test_recurrent_layers(kind, options):
    mine = getattr(tinytorch.nn, kind)(3, 4, **options)
    other = getattr(torch.nn, kind)(3, 4, **options).double()
    other.load_state_dict({n: torch.tensor(p.data) for n, p in mine.state_dict().items()})
    for p in mine.parameters():
        p.data = p.data.astype(np.float64)
    compare(lambda x: mine(x)[0], lambda x: other(x)[0], numbers(4, 2, 3))


@pytest.mark.parametrize("batch_first", (False, True))
def test_a_transformer_layer(batch_first):
    options = {"dim_feedforward": 6, "dropout": 0.0, "batch_first": batch_first}
    mine = tinytorch.nn.TransformerEncoderLayer(4, 2, **options)
    other = torch.nn.TransformerEncoderLayer(4, 2, **options).double()
    other.load_state_dict({n: torch.tensor(p.data) for n, p in mine.state_dict().items()})
    for p in mine.parameters():
        p.data = p.data.astype(np.float64)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        compare(mine, other, numbers(3, 2, 4), order=2)


@settings(max_examples=15, deadline=None)
@given(zeros=st.integers(0, 3), dim=st.integers(0, 1))
def test_products_with_zeros(zeros, dim):
    a = numbers(3, 4)
    a.reshape(-1)[[0, 3, 5][:zeros]] = 0
    compare(lambda x: x.prod(dim), lambda x: x.prod(dim), a)
    compare(lambda x: x.cumprod(dim), lambda x: x.cumprod(dim), a + (zeros == 0))


def test_hardsigmoid():
    """Which PyTorch knows no second derivatives of."""
    compare(
        lambda x: ours.hardsigmoid(x * x * 3) * x,
        lambda x: ((x * x * 3) / 6 + 0.5).clamp(0, 1) * x,
        numbers(3, 4),
    )


def test_kl_div():
    compare(
        lambda x: ours.kl_div(x.log_softmax(1), x.softmax(0), reduction="sum"),
        lambda x: theirs.kl_div(x.log_softmax(1), x.softmax(0), reduction="sum"),
        numbers(3, 4),
    )


def test_dropout_keeps_its_mask():
    x = Tensor(numbers(20, 20), requires_grad=True)
    y = ours.dropout(x, 0.5)
    mask = y.data / x.data
    (g,) = tinytorch.autograd.grad((y * y * y).sum(), x, create_graph=True)
    np.testing.assert_allclose(g.data, 3 * x.data**2 * mask**3)
    (second,) = tinytorch.autograd.grad(g.sum(), x)
    np.testing.assert_allclose(second.data, 6 * x.data * mask**3)


def test_views_that_were_overwritten():
    def f(x):
        y = x * x
        part = y[1:]
        y[:2] = x[:2] ** 3
        return y * x, part * part

    compare(
        lambda x: tinytorch.cat([t.reshape(-1) for t in f(x)]),
        lambda x: torch.cat([t.reshape(-1) for t in f(x)]),
        numbers(3, 2),
    )


def test_results_that_were_changed_in_place():
    def f(x, w):
        y = x @ w
        y += x
        y = y.sigmoid()
        z = y * y
        z *= x
        return z

    compare(f, f, numbers(3, 3), numbers(3, 3, seed=1))
    x = Tensor(numbers(3), requires_grad=True)
    y = x.softmax(0)
    z = y.mean() + (y - 1).sum()
    y += x
    with pytest.raises(RuntimeError, match="softmax .* changed in place"):
        tinytorch.autograd.grad(z, x, create_graph=True)


def test_a_hessian_times_vectors():
    """Row by row the Hessian of a quadratic form is its matrix, and of a network what torch has."""
    matrix = numbers(4, 4)
    x = Tensor(numbers(4), requires_grad=True)
    (g,) = tinytorch.autograd.grad(x @ Tensor(matrix) @ x, x, create_graph=True)
    rows = [
        tinytorch.autograd.grad(g, x, Tensor(row), retain_graph=True)[0].data for row in np.eye(4)
    ]
    np.testing.assert_allclose(rows, matrix + matrix.T)


def train(library, layers, x):
    """Three steps with a penalty on gradients (Gulrajani et al., 2017): the losses, the weights."""
    net = library.nn.Sequential(*layers)
    optimizer = library.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(3):
        x = x.detach().requires_grad_()
        y = net(x)
        (slopes,) = library.autograd.grad(y.sum(), x, create_graph=True)
        loss = y.mean() + ((slopes.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [p.detach().numpy() for p in net.parameters()]


def test_training_with_a_penalty_on_gradients():
    x = numbers(3, 2, 6, 6).astype(np.float32)
    both = []
    for library in (tinytorch, torch):
        nn = library.nn
        layers = (
            nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.SiLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 1),
        )  # fmt: skip
        for seed, p in enumerate([p for layer in layers for p in layer.parameters()]):
            values = numbers(*p.shape, seed=seed).astype(np.float32) * 0.2
            with library.no_grad():
                p.copy_(library.tensor(values))
        both.append(train(library, layers, library.tensor(x)))
    (mine, weights), (other, expected) = both
    np.testing.assert_allclose(mine, other, rtol=1e-4)
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


def cube(a):
    return a**3, (lambda g: g * 3 * a * a,)


def test_an_operation_without_a_formula_is_named():
    x = Tensor(numbers(3), requires_grad=True)
    y = apply(cube, x).sum()
    with pytest.raises(RuntimeError, match="cube"):
        tinytorch.autograd.grad(y, x, create_graph=True)
    np.testing.assert_allclose(tinytorch.autograd.grad(y, x)[0].data, 3 * x.data**2)


def test_an_operation_from_outside_may_have_a_formula(monkeypatch):
    monkeypatch.setitem(FORMULAS, cube, Formula(lambda g, y, a: (g * 3 * a * a,)))
    x = Tensor(numbers(3), requires_grad=True)
    (slope,) = tinytorch.autograd.grad(apply(cube, x).sum(), x, create_graph=True)
    np.testing.assert_allclose(tinytorch.autograd.grad(slope.sum(), x)[0].data, 6 * x.data)


@pytest.mark.parametrize("needs", Needs)
def test_what_a_formula_needs_must_not_have_changed(monkeypatch, needs):
    """The inputs and the result of an operation whose own gradient holds none of them."""

    def double(a):
        return a * 2, (lambda g: g * 2,)

    monkeypatch.setitem(FORMULAS, double, Formula(lambda g, y, a: (g * 2,), needs))
    for place in ("input", "result"):
        x = Tensor(numbers(3), requires_grad=True)
        a = x.clone()
        y = apply(double, a)
        total = y.sum()
        changed((a if place == "input" else y).data)
        if needs is Needs.RESULT or (needs is Needs.INPUTS and place == "input"):
            with pytest.raises(RuntimeError, match="changed in place"):
                tinytorch.autograd.grad(total, x, create_graph=True)
        else:
            assert tinytorch.autograd.grad(total, x, create_graph=True)[0].tolist() == [2, 2, 2]
