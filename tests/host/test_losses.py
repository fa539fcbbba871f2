"""Losses and activations as functions: values and gradients against PyTorch and differences."""

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
from tinytorch.ops.activations import erf

torch = oracle("torch", "oracle")
TF = torch.nn.functional
pytestmark = pytest.mark.filterwarnings("ignore:reduction")  # PyTorch's own, of kl_div

seeds = st.integers(0, 2**32 - 1)
reductions = st.sampled_from(["mean", "sum", "none"])


def pair(array):
    """The same numbers for both libraries."""
    return None if array is None else (Tensor(array), torch.tensor(array))


def either(array, index):
    return None if array is None else pair(array)[index]


@settings(deadline=None, max_examples=40)
@given(
    seed=seeds, n=st.integers(1, 4), classes=st.integers(1, 5),
    rest=st.sampled_from([None, (), (3,), (2, 3)]), weighted=st.booleans(), reduction=reductions,
    smoothing=st.sampled_from([0.0, 0.3]), ignored=st.booleans(),
)  # fmt: skip
def test_cross_entropy_and_nll(
    seed, n, classes, rest, weighted, reduction, smoothing, ignored
):  # fmt: skip
    """rest: the lengths after the classes; None: a single sample without a batch."""
    rng = np.random.default_rng(seed)
    shape, places = ((classes,), ()) if rest is None else ((n, classes, *rest), (n, *rest))
    x = rng.normal(size=shape)
    target = rng.integers(0, classes, places)
    at = int(target.flat[0])
    ignore = at if ignored and (target != at).any() else -100
    weight = rng.uniform(0.5, 2, classes) if weighted else None
    with_ignore = {"ignore_index": ignore, "reduction": reduction}
    for name, more in [("nll_loss", {}), ("cross_entropy", {"label_smoothing": smoothing})]:
        ours, theirs = (
            lambda x, f=f, i=i, more=more: f(
                x, either(target, i), either(weight, i), **with_ignore, **more
            )
            for i, f in enumerate((getattr(F, name), getattr(TF, name)))
        )
        check(ours, theirs, x)


@settings(deadline=None, max_examples=20)
@given(
    seed=seeds, rest=st.sampled_from([None, (), (3,)]), reduction=reductions,
    smoothing=st.sampled_from([0.0, 0.3]), weighted=st.booleans(),
)  # fmt: skip
def test_cross_entropy_with_probabilities(seed, rest, reduction, smoothing, weighted):
    rng = np.random.default_rng(seed)
    shape = (4,) if rest is None else (2, 4, *rest)
    weight = rng.uniform(0.5, 2, 4) if weighted else None
    ours, theirs = (
        lambda x, t, f=f, i=i: f(
            x, t, either(weight, i), reduction=reduction, label_smoothing=smoothing
        )
        for i, f in enumerate((F.cross_entropy, TF.cross_entropy))
    )
    check(
        ours,
        theirs,
        rng.normal(size=shape),
        rng.dirichlet([1.0] * int(np.prod(shape))).reshape(shape),
    )


def test_cross_entropy_of_nothing():
    for reduction in ("none", "sum", "mean"):
        x, target = np.zeros((0, 3), np.float32), np.zeros(0, np.int64)
        y = F.cross_entropy(Tensor(x), Tensor(target), reduction=reduction)
        expected = TF.cross_entropy(torch.tensor(x), torch.tensor(target), reduction=reduction)
        np.testing.assert_array_equal(y.data, expected.numpy())


def test_a_class_that_is_impossible_elsewhere_costs_nothing():
    x = Tensor(np.array([[0.0, -np.inf], [-np.inf, 0.0]]))
    assert F.nll_loss(x, tinytorch.tensor([0, 0]), ignore_index=1).item() == np.inf
    assert F.nll_loss(x, tinytorch.tensor([0, 1])).item() == 0


# Function -> what makes its input of normal numbers, the target of uniform ones, and arguments.
LOSSES = {
    "binary_cross_entropy": (lambda x: 1 / (1 + np.exp(-x)), lambda u: u, [{}]),
    "binary_cross_entropy_with_logits": (lambda x: 20 * x, lambda u: u, [{}]),
    "mse_loss": (lambda x: x, lambda u: 2 * u, [{}]),
    "l1_loss": (lambda x: x, lambda u: 2 * u, [{}]),
    "huber_loss": (lambda x: x, lambda u: 2 * u, [{}, {"delta": 0.3}]),
    "smooth_l1_loss": (lambda x: x, lambda u: 2 * u, [{}, {"beta": 0.3}, {"beta": 0.0}]),
    "kl_div": (lambda x: x, lambda u: u + 0.1, [{}, {"log_target": True}]),
}
NUMBERS = st.lists(st.integers(0, 3), max_size=3)


@settings(deadline=None, max_examples=15)
@pytest.mark.parametrize("name", LOSSES)
@given(seed=seeds, shape=NUMBERS, reduction=reductions, data=st.data())
def test_losses_element_by_element(name, seed, shape, reduction, data):
    make, aim, arguments = LOSSES[name]
    settings = {"reduction": reduction, **data.draw(st.sampled_from(arguments))}
    if name == "kl_div" and shape and shape[0] and data.draw(st.booleans()):
        settings["reduction"] = "batchmean"
    rng = np.random.default_rng(seed)
    x, target = make(rng.normal(size=shape)), aim(rng.uniform(0.01, 0.99, shape))
    if not x.size and settings["reduction"] == "mean":
        return  # NaN in both
    weight = None
    if "binary" in name:
        weight = rng.uniform(0.5, 2, shape)
    extra = [{} if weight is None else {"weight": either(weight, i)} for i in range(2)]
    check(
        lambda x, t: getattr(F, name)(x, t, **settings, **extra[0]),
        lambda x, t: getattr(TF, name)(x, t, **settings, **extra[1]),
        x, target,
    )  # fmt: skip


def test_weights_of_positives():
    rng = np.random.default_rng(0)
    x, target, weight = rng.normal(size=(4, 3)), rng.uniform(size=(4, 3)), rng.uniform(1, 3, 3)
    ours, theirs = (
        lambda x, f=f, i=i: f(x, either(target, i), pos_weight=either(weight, i))
        for i, f in enumerate(
            (F.binary_cross_entropy_with_logits, TF.binary_cross_entropy_with_logits)
        )
    )
    check(ours, theirs, x)


def test_extreme_logits_and_probabilities():
    x = np.array([-200, -100, 0, 100, 200], np.float32)
    for target in (0.0, 1.0):
        t = np.full_like(x, target)
        for name, inputs in [
            ("binary_cross_entropy_with_logits", x),
            ("binary_cross_entropy", np.float32([0, 1e-30, 0.5, 1, 1])),
        ]:
            ours, theirs = Tensor(inputs, requires_grad=True), torch.tensor(inputs)
            theirs.requires_grad_()
            y = getattr(F, name)(ours, Tensor(t), reduction="none")
            expected = getattr(TF, name)(theirs, torch.tensor(t), reduction="none")
            np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-6, atol=1e-40)
            y.sum().backward()
            expected.sum().backward()
            np.testing.assert_allclose(ours.grad.data, theirs.grad.numpy(), rtol=1e-6, atol=1e-12)


def test_a_probability_of_zero_in_the_target():
    logs, target = np.log(np.float32([0.2, 0.8])), np.float32([0, 1])
    y = F.kl_div(Tensor(logs), Tensor(target), reduction="sum")
    assert y.item() == pytest.approx(TF.kl_div(*map(torch.tensor, (logs, target)), reduction="sum"))


MODULES = {
    "CrossEntropyLoss": ({"label_smoothing": 0.1, "ignore_index": 1}, "classes"),
    "NLLLoss": ({"reduction": "sum"}, "classes"),
    "BCELoss": ({"reduction": "none"}, "shares"),
    "BCEWithLogitsLoss": ({}, "shares"),
    "MSELoss": ({}, "shares"),
    "L1Loss": ({"reduction": "sum"}, "shares"),
    "HuberLoss": ({"delta": 0.1}, "shares"),
    "SmoothL1Loss": ({"beta": 0.1}, "shares"),
    "KLDivLoss": ({"reduction": "batchmean", "log_target": True}, "shares"),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_of_losses(name):
    arguments, kind = MODULES[name]
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 0.9, (6, 3))
    target = rng.integers(0, 3, 6) if kind == "classes" else rng.uniform(size=(6, 3))
    weight = rng.uniform(0.5, 2, 3)
    takes_weight = kind == "classes" or name.startswith("BCE")
    ours, theirs = (
        getattr(m, name)(**arguments, **({"weight": either(weight, i)} if takes_weight else {}))
        for i, m in enumerate((nn, torch.nn))
    )
    assert list(ours.state_dict()) == list(theirs.state_dict())
    y, expected = ours(Tensor(x), Tensor(target)), theirs(torch.tensor(x), torch.tensor(target))
    np.testing.assert_allclose(y.data, expected.numpy(), rtol=1e-9)


def test_wrong_targets_are_named():
    x, labels = tinytorch.zeros(2, 3), tinytorch.tensor([0, 1])
    for f, error, parts in [
        (lambda: F.cross_entropy(x, tinytorch.tensor([0, 3])), ValueError, ["class 3", "0 to 2"]),
        (lambda: F.nll_loss(x, tinytorch.tensor([0, -1])), ValueError, ["class -1", "0 to 2"]),
        (lambda: F.cross_entropy(x, labels.to("float32")), TypeError, ["float32", "class numbers"]),
        (lambda: F.cross_entropy(x, labels.reshape(2, 1)), ValueError, ["(2, 3)", "(2, 1)"]),
        (lambda: F.cross_entropy(x, labels, tinytorch.ones(2)), ValueError, ["(2,)", "3 classes"]),
        (lambda: F.cross_entropy(x, labels, reduction="avg"), ValueError, ["'avg'", "mean"]),
        (lambda: F.cross_entropy(x, labels, label_smoothing=2), ValueError, ["2", "[0, 1]"]),
        (lambda: F.mse_loss(x, x[0]), ValueError, ["mse_loss", "(2, 3)", "(3,)"]),
        (lambda: F.huber_loss(x, x, delta=0), ValueError, ["delta 0"]),
        (lambda: F.smooth_l1_loss(x, x, beta=-1), ValueError, ["beta -1"]),
        (lambda: F.binary_cross_entropy(x - 1, x), ValueError, ["0 and 1", "with_logits"]),
        (lambda: F.one_hot(x), TypeError, ["float32"]),
        (lambda: F.one_hot(labels, 1), ValueError, ["class 1", "0 to 0"]),
        (lambda: F.pad(x, (1, 1), "reflect"), ValueError, ["'reflect'"]),
        (lambda: x.gelu("fast"), ValueError, ["'fast'"]),
    ]:
        with pytest.raises(error) as raised:
            f()
        assert all(part in str(raised.value) for part in parts), raised.value


ACTIVATIONS = {
    "relu": [{}], "relu6": [{}], "leaky_relu": [{}, {"negative_slope": 0.3}],
    "elu": [{}, {"alpha": 2.0}], "gelu": [{}, {"approximate": "tanh"}], "silu": [{}], "tanh": [{}],
    "sigmoid": [{}], "hardsigmoid": [{}], "hardswish": [{}], "logsigmoid": [{}],
    "softplus": [{}, {"beta": 3.0, "threshold": 2.0}], "softmax": [{"dim": -1}],
    "log_softmax": [{"dim": 0}],
}  # fmt: skip


@settings(deadline=None, max_examples=8)
@pytest.mark.parametrize("name", ACTIVATIONS)
@given(seed=seeds, shape=NUMBERS, data=st.data())
def test_activations(name, seed, shape, data):
    if "softmax" in name:
        shape = [*shape, 3]
    arguments = data.draw(st.sampled_from(ACTIVATIONS[name]))
    x = np.random.default_rng(seed).normal(0, 3, shape)
    check(
        lambda x: getattr(F, name)(x, **arguments), lambda x: getattr(TF, name)(x, **arguments), x
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_large_numbers(name):
    """In float32, where exp overflows beyond 88."""
    x = np.float32([-1000, -100, -20, -6, -3, 0, 3, 6, 20, 100, 1000])
    for arguments in ACTIVATIONS[name]:
        ours, theirs = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y, expected = (getattr(f, name)(t, **arguments) for f, t in ((F, ours), (TF, theirs)))
        np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-6, atol=2e-6)
        y.sum().backward()
        expected.sum().backward()
        np.testing.assert_allclose(ours.grad.data, theirs.grad.numpy(), rtol=1e-6, atol=2e-6)
        assert y.dtype == ours.grad.dtype == np.float32


def test_the_error_function_in_single_precision():
    x = np.linspace(-6, 6, 100_001)
    np.testing.assert_allclose(erf(x.astype(np.float32)), erf(x), rtol=5e-7, atol=1e-9)


FUNCTIONS = {
    "linear": (lambda f, x, w: f.linear(x, w), (2, 3, 4), (5, 4)),
    "conv1d": (lambda f, x, w: f.conv1d(x, w, padding="same"), (2, 3, 6), (4, 3, 3)),
    "conv2d": (lambda f, x, w: f.conv2d(x, w, None, 2, (1, 0)), (2, 3, 6, 5), (4, 3, 3, 2)),
    "pools": (
        lambda f, x, w: (
            f.max_pool2d(x, 2) + f.avg_pool2d(x, (2, 2), 2) * f.adaptive_avg_pool2d(w, 2)
        ),
        (1, 2, 4, 5), (1, 2, 3, 3),
    ),
    "pools of signals": (
        lambda f, x, w: (
            f.max_pool1d(x, 3, 2, 1) + f.avg_pool1d(x, 2, 2, 1) * f.adaptive_avg_pool1d(w, 3)
        ),
        (1, 2, 5), (1, 2, 4),
    ),
    "batch_norm": (lambda f, x, w: f.batch_norm(x, None, None, w, training=True), (4, 3), (3,)),
    "layer_norm": (lambda f, x, w: f.layer_norm(x, (3,), w), (4, 3), (3,)),
    "dropout": (lambda f, x, w: f.dropout(x, 0.5, training=False) * w, (4, 3), (3,)),
    "normalize": (lambda f, x, w: f.normalize(x, dim=0) * w, (4, 3), (3,)),
    "cosine_similarity": (lambda f, x, w: f.cosine_similarity(x, w), (4, 3), (4, 3)),
    "pad": (lambda f, x, w: f.pad(x, (1, 2, 0, 1), value=0.5) * w, (4, 3), (6,)),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_layers_as_functions(name):
    f, *arrays = FUNCTIONS[name]
    rng = np.random.default_rng(0)
    check(lambda *a: f(F, *a), lambda *a: f(TF, *a), *[rng.normal(size=s) for s in arrays])


def test_short_vectors_are_divided_by_eps():
    x, theirs = Tensor(np.zeros((1, 2)), requires_grad=True), torch.zeros(1, 2).requires_grad_()
    F.normalize(x, eps=0.5).sum().backward()
    TF.normalize(theirs, eps=0.5).sum().backward()
    assert x.grad.tolist() == theirs.grad.tolist() == [[2, 2]]
    with pytest.raises(ValueError, match="p=1"):
        F.normalize(x, p=1)


def test_one_hot_and_embedding():
    labels = np.array([[1, 0], [3, 1]])
    for classes in (-1, 6):
        y, expected = F.one_hot(Tensor(labels), classes), TF.one_hot(torch.tensor(labels), classes)
        assert y.tolist() == expected.tolist() and y.dtype == np.int64
    weight = np.random.default_rng(0).normal(size=(4, 3))
    rows = Tensor(weight, requires_grad=True)
    F.embedding(Tensor(labels), rows, padding_idx=1).sum().backward()
    assert rows.grad.tolist() == [[1] * 3, [0] * 3, [0] * 3, [1] * 3]
