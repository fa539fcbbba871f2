import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

import tinytorch
from tests.host.gradients import check, check_higher
from tests.oracles import oracle
from tinytorch.autograd.creation import tensor
from tinytorch.autograd.joining import cat, stack
from tinytorch.autograd.tape import no_grad
from tinytorch.autograd.tensor import Tensor
from tinytorch.nn import functional
from tinytorch.utils.checkpoint import checkpoint

torch = oracle("torch", "oracle")
F = torch.nn.functional

few = settings(max_examples=25, deadline=None, derandomize=True)
small = st.integers(1, 4)


def random(*shape, low=-2.0, high=2.0, seed=0):
    return np.random.default_rng(seed).uniform(low, high, shape)


BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
}


@pytest.mark.parametrize("name", BINARY)
@few
@given(shapes=mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=4))
def test_binary_operators_broadcast(name, shapes):
    a, b = shapes.input_shapes
    f = BINARY[name]
    check(f, f, random(*a, low=0.5), random(*b, low=0.5, seed=1))


UNARY = {
    "neg": lambda a: -a,
    "exp": lambda a: a.exp(),
    "log": lambda a: a.log(),
    "sqrt": lambda a: a.sqrt(),
    "tanh": lambda a: a.tanh(),
    "sigmoid": lambda a: a.sigmoid(),
    "relu": lambda a: (a - 1).relu(),
    "square": lambda a: a**2,
    "numbers": lambda a: 2 - 3 * (1 / a + 1) / 4,
    "sum": lambda a: a.sum(),
    "sum of dims": lambda a: a.sum((0, 2)),
    "mean": lambda a: a.mean(),
    "mean of a dim": lambda a: a.mean(-1, keepdim=True),
    "amax": lambda a: a.amax((1, 2)),
    "max": lambda a: a.max(),
    "softmax": lambda a: a.softmax(1),
    "log_softmax": lambda a: a.log_softmax(-1),
    "reshape": lambda a: a.reshape(4, -1) * 2,
    "flatten": lambda a: a.flatten(1),
    "permute": lambda a: a.permute(2, 0, 1),
    "transpose": lambda a: a.transpose(0, -1),
    "index": lambda a: a[0, 1:, None],
    "index with steps": lambda a: a[..., ::2],
    "an index twice": lambda a: a[[0, 1, 0, 0]],
    "clone": lambda a: a.clone(),
    "used twice": lambda a: a * a + a,
}


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_tensor(name):
    check(UNARY[name], UNARY[name], random(2, 3, 4, low=0.5))


def test_equal_maxima_share_the_gradient():
    f = lambda a: a.amax(1)  # noqa: E731
    x = Tensor(np.array([[1.0, 1, 0], [2, 2, 2]]), requires_grad=True)
    f(x).sum().backward()
    assert x.grad.tolist() == [[0.5, 0.5, 0], [1 / 3] * 3]


def test_zero_to_a_power():
    x, oracle = Tensor(np.zeros(3), True), torch.zeros(3, dtype=torch.float64, requires_grad=True)
    p = [0.0, 1.0, 2.0]
    (x ** np.array(p)).sum().backward()
    (oracle ** torch.tensor(p)).sum().backward()
    assert x.grad.tolist() == oracle.grad.tolist()


def test_pad():
    check(
        lambda a: a.pad((1, 2, 0, 3), 7.0),
        lambda a: F.pad(a, (1, 2, 0, 3), value=7.0),
        random(2, 3),
    )


def test_cat_and_stack():
    parts = random(2, 3), random(2, 1, seed=1), random(2, 2, seed=2)
    check(lambda *t: cat(t, 1), lambda *t: torch.cat(t, 1), *parts)
    same = random(2, 3), random(2, 3, seed=1)
    check(lambda *t: stack(t, -1), lambda *t: torch.stack(t, -1), *same)


@few
@given(
    n=small,
    k=small,
    m=small,
    batch=mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=3),
)
def test_matmul(n, k, m, batch):
    a, b = batch.input_shapes
    f = lambda a, b: a @ b  # noqa: E731
    check(f, f, random(*a, n, k), random(*b, k, m, seed=1))


@st.composite
def convolutions(draw, dims):
    groups = draw(small)
    per_group, outputs = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    each = lambda low, high: draw(st.tuples(*[st.integers(low, high)] * dims))  # noqa: E731
    kernel, dilation, padding = each(1, 3), each(1, 2), each(0, 2)
    size = [
        max(1, (k - 1) * d + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding, strict=True)
    ]
    size = [n + more for n, more in zip(size, each(0, 3), strict=True)]
    return {
        "x": (draw(st.integers(1, 3)), groups * per_group, *size),
        "weight": (groups * outputs, per_group, *kernel),
        "settings": {
            "stride": each(1, 3),
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
        },
    }


@few
@given(case=convolutions(1))
def test_conv1d(case):
    arrays = random(*case["x"]), random(*case["weight"], seed=1), random(case["weight"][0], seed=2)
    check(
        lambda x, w, b: x.conv1d(w, b, **case["settings"]),
        lambda x, w, b: F.conv1d(x, w, b, **case["settings"]),
        *arrays,
    )


@few
@given(case=convolutions(2))
def test_conv2d(case):
    arrays = random(*case["x"]), random(*case["weight"], seed=1)
    check(
        lambda x, w: x.conv2d(w, **case["settings"]),
        lambda x, w: F.conv2d(x, w, **case["settings"]),
        *arrays,
    )


@pytest.mark.parametrize("name", ["max_pool", "avg_pool"])
@few
@given(st.data())
def test_pools(name, data):
    dims = data.draw(st.integers(1, 2))
    kernel = data.draw(st.tuples(*[st.integers(1, 3)] * dims))
    stride = data.draw(st.none() | st.tuples(*[st.integers(1, 3)] * dims))
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    size = [k + data.draw(st.integers(0, 4)) for k in kernel]
    check(
        lambda x: getattr(x, f"{name}{dims}d")(kernel, stride, padding),
        lambda x: getattr(F, f"{name}{dims}d")(x, kernel, stride, padding),
        random(2, 3, *size),
    )


def test_max_pool_gives_the_first_of_equals_the_gradient():
    x = np.zeros((1, 1, 6))
    x[0, 0, 3] = 1
    mine, oracle = Tensor(x, True), torch.tensor(x, requires_grad=True)
    mine.max_pool1d(3, 1).sum().backward()
    F.max_pool1d(oracle, 3, 1).sum().backward()
    assert mine.grad.tolist() == oracle.grad.tolist()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4), (2, 3, 4, 2)])
def test_batch_norm(training, shape):
    def ours(x, w, b):
        mean, var = Tensor(np.full(3, 0.5)), Tensor(np.full(3, 2.0))
        y = x.batch_norm(mean, var, w, b, training, 0.1, 1e-5)
        return y + mean.data.sum() + var.data.sum() if not training else y

    def theirs(x, w, b):
        mean, var = torch.full((3,), 0.5).double(), torch.full((3,), 2.0).double()
        y = F.batch_norm(x, mean, var, w, b, training, 0.1, 1e-5)
        return y + mean.sum() + var.sum() if not training else y

    check(ours, theirs, random(*shape), random(3, seed=1), random(3, seed=2))


def test_losses():
    target = np.array([2, 0, 1, 2])
    check(
        lambda x: functional.cross_entropy(x, Tensor(target)),
        lambda x: F.cross_entropy(x, torch.tensor(target)),
        random(4, 3) * 5,
    )
    check(functional.mse_loss, F.mse_loss, random(4, 3), random(4, 3, seed=1))
    far = Tensor(np.array([[1e4, -1e4]], np.float32))
    assert functional.cross_entropy(far, Tensor(np.array([1]))).item() == 2e4


def test_dropout_drops_the_same_gradients():
    tinytorch.manual_seed(0)
    x = tinytorch.ones(1000).requires_grad_()
    y = x.dropout(0.2)
    y.sum().backward()
    assert x.grad.tolist() == y.tolist()
    assert 700 < (y.data > 0).sum() < 900 and abs(y.data.max() - 1.25) < 1e-6


def test_gradients_accumulate_and_stay_apart():
    a, b = tensor([1.0, 2.0], requires_grad=True), tensor([3.0, 4.0], requires_grad=True)
    start = tensor([1.0, 1.0])
    (a + b).backward(start)
    a.grad.data[0] = start.data[0] = 9
    assert b.grad.tolist() == [1, 1]
    (a * 2).sum().backward()
    assert a.grad.tolist() == [11, 3]


def test_a_gradient_of_the_result_can_be_given():
    a = tensor([1.0, 2.0], requires_grad=True)
    (a * a).backward(tensor([1.0, 10.0]))
    assert a.grad.tolist() == [2, 40]


def test_a_long_chain_needs_no_recursion():
    x = tensor(1.0, requires_grad=True)
    y = x
    for _ in range(20_000):
        y = y + 1
    y.backward()
    assert x.grad.item() == 1


def test_no_grad_and_detach_leave_the_tape():
    x = tensor([1.0], requires_grad=True)
    with no_grad():
        assert not (x * 2).requires_grad
        with no_grad():
            pass
        assert not tinytorch.is_grad_enabled()
    assert tinytorch.is_grad_enabled()
    assert not x.detach().requires_grad and not (x > 0).requires_grad
    (x * x.detach()).sum().backward()
    assert x.grad.item() == 1


def test_leafs_change_in_place_under_no_grad():
    w = tensor([1.0, 2.0], requires_grad=True)
    same = w
    (w * 3).sum().backward()
    with no_grad():
        w -= 0.5 * w.grad
    assert w is same and w.tolist() == [-0.5, 0.5] and w.requires_grad
    with pytest.raises(RuntimeError, match="no_grad"):
        w -= 1


def test_types():
    assert tensor([1.0]).dtype == np.float32 and tensor([1]).dtype == np.int64
    assert tensor(np.zeros(2)).dtype == np.float64
    x = tinytorch.randn(2, 2).requires_grad_()
    y = (2 * x / 3 + 1 - x.mean()).softmax(1).sum()
    y.backward()
    assert y.dtype == np.float32 and x.grad.dtype == np.float32
    assert isinstance(np.ones(2, np.float32) * tensor([1.0, 2.0]), Tensor)


def test_randomness_follows_the_seed():
    tinytorch.manual_seed(1)
    a = tinytorch.randn(3).tolist()
    state = tinytorch.get_rng_state()
    b = tinytorch.rand(3).tolist()
    tinytorch.set_rng_state(state)
    assert tinytorch.rand(3).tolist() == b
    tinytorch.manual_seed(1)
    assert tinytorch.randn(3).tolist() == a != b


@pytest.mark.parametrize(
    ("f", "parts"),
    [
        (lambda: tensor([[1.0, 2.0]]) + tensor([1.0, 2.0, 3.0]), ["+", "(1, 2)", "(3,)"]),
        (lambda: tinytorch.ones(2, 3) @ tinytorch.ones(2, 3), ["matmul", "(2, 3) and (2, 3)"]),
        (lambda: tinytorch.ones(2, 3) @ tensor(np.ones((3, 1))), ["float32", "float64"]),
        (lambda: tinytorch.ones(6).reshape(4, -1), ["reshape", "(6,)", "(4, -1)"]),
        (
            lambda: tinytorch.ones(2, 3, 9).conv1d(tinytorch.ones(4, 2, 3)),
            ["conv", "(2, 3, 9)", "(4, 2, 3)"],
        ),
        (lambda: tinytorch.ones(1, 1, 2).max_pool1d(3), ["max_pool", "(1, 1, 2)", "(3,)"]),
        (lambda: cat([tinytorch.ones(2, 3), tinytorch.ones(3, 3)], 1), ["cat", "(2, 3)", "(3, 3)"]),
        (lambda: functional.cross_entropy(tinytorch.ones(2, 3), tensor([0, 3])), ["class 3", "3"]),
        (lambda: functional.cross_entropy(tinytorch.ones(2, 3), tensor([0])), ["(2, 3)", "(1,)"]),
        (lambda: functional.mse_loss(tensor([1.0]), tensor(1.0)), ["mse_loss", "(1,)", "()"]),
        (lambda: tinytorch.ones(3).sum(1), ["sum", "1"]),
        (lambda: tinytorch.ones(3).item(), ["item", "(3,)"]),
    ],
)
def test_wrong_use_names_the_operation_and_the_shapes(f, parts):
    with pytest.raises(ValueError) as caught:
        f()
    for part in parts:
        assert part in str(caught.value)


def test_backward_says_what_it_cannot_do():
    with pytest.raises(RuntimeError, match="nothing here requires"):
        tensor(1.0).backward()
    with pytest.raises(RuntimeError, match=r"\(2,\) is not a single number"):
        tensor([1.0, 2.0], requires_grad=True).backward()
    with pytest.raises(RuntimeError, match="detach"):
        tensor([1.0], requires_grad=True).numpy()


def test_hooks_see_and_replace_gradients():
    seen = []
    x = tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    hooks = [lambda g: g * 10, lambda g: seen.append(g.tolist())]
    handles = [y.register_hook(hook) for hook in hooks]
    y.retain_grad()
    (x + y).sum().backward(retain_graph=True)
    assert seen == [[10, 10]] and y.grad.tolist() == [10, 10] and x.grad.tolist() == [31, 31]
    for handle in handles:
        handle.remove()
    x.grad = y.grad = None
    with x.register_hook(lambda g: g * 0):
        (x + y).sum().backward()
    assert x.grad.tolist() == [0, 0] and y.grad.tolist() == [1, 1] and len(seen) == 1
    x.register_hook(lambda g: g[:1])
    with pytest.raises(ValueError, match=r"register_hook.*\(1,\).*\(2,\)"):
        (x * 2).sum().backward()
    for f in (tensor(1.0).retain_grad, lambda: tensor(1.0).register_hook(print)):
        with pytest.raises(RuntimeError, match="does not require"):
            f()


def test_a_hook_may_keep_its_gradient():
    kept = []
    x = tensor([1.0, 2.0], requires_grad=True)
    x.register_hook(kept.append)
    (x * 2).sum().backward()
    x.grad.zero_()
    assert kept[0].tolist() == [2, 2]


def test_gradients_of_leaves_have_their_own_memory():
    a, b, c = (tensor(np.ones((2, 2)), requires_grad=True) for _ in range(3))
    start = tensor(np.ones((2, 2)))
    (a + b.t() + c.reshape(-1).reshape(2, 2)).backward(start)
    arrays = [t.grad.data for t in (a, b, c)] + [start.data]
    for i, one in enumerate(arrays):
        for other in arrays[i + 1 :]:
            assert not np.shares_memory(one, other)


def test_grad_returns_what_backward_would_add():
    x, w = tensor([1.0, 2.0], requires_grad=True), tensor([3.0, 4.0], requires_grad=True)
    h = x * w
    y = h.sin().sum()
    found = tinytorch.autograd.grad(y, [w, h, x], retain_graph=True)
    assert x.grad is None and w.grad is None
    y.backward()
    assert found[0].tolist() == w.grad.tolist() and found[2].tolist() == x.grad.tolist()
    np.testing.assert_allclose(found[1].data, np.cos(h.data), rtol=1e-6)
    twice = tinytorch.autograd.grad([x * 2, (w * x).sum()], x, [tensor([1.0, 1.0]), None])
    assert twice[0].tolist() == [5, 6]
    assert tinytorch.autograd.grad(x.sum(), [x, w], allow_unused=True)[1] is None
    with pytest.raises(RuntimeError, match=r"grad: .*\(2,\).*allow_unused"):
        tinytorch.autograd.grad(x.sum(), w)
    with pytest.raises(RuntimeError, match="does not require"):
        tinytorch.autograd.grad(x.sum(), tensor([1.0]))
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        tinytorch.autograd.grad(x * 1, x, tinytorch.ones(3))


def test_backward_frees_the_graph_unless_told():
    x = tensor([1.0, 2.0], requires_grad=True)
    h = x.exp()
    y = (h * h).sum()
    y.backward(retain_graph=True)
    y.backward()
    for again in (
        y.backward, lambda: (h * 2).sum().backward(), lambda: tinytorch.autograd.grad(y, x),
        lambda: tinytorch.autograd.grad(y, x, allow_unused=True),
    ):  # fmt: skip
        with pytest.raises(RuntimeError, match="freed .*retain_graph=True"):
            again()
    assert not h.is_leaf and h._inputs == () and tinytorch.autograd.grad((h * 2).sum(), h)


def test_grad_of_one_path_leaves_the_others():
    x, w = tensor([1.0], requires_grad=True), tensor([2.0], requires_grad=True)
    y = (x.exp() * w.exp()).sum()
    with pytest.raises(RuntimeError, match="freed"):
        tinytorch.autograd.grad(y, x)
        tinytorch.autograd.grad(y, w)


def test_modes_of_recording():
    x = tensor([1.0], requires_grad=True)

    @no_grad()
    def plain(depth):
        return plain(depth - 1) if depth else x * 2

    @tinytorch.enable_grad
    def recorded():
        return x * 2

    assert not plain(3).requires_grad and tinytorch.is_grad_enabled()
    with no_grad():
        assert recorded().requires_grad and not (x * 2).requires_grad
        with tinytorch.enable_grad():
            assert (x * 2).requires_grad
    with pytest.raises(ZeroDivisionError), no_grad():
        1 / 0  # noqa: B018
    assert tinytorch.is_grad_enabled()
    tinytorch.set_grad_enabled(False)
    assert not tinytorch.is_grad_enabled()
    tinytorch.set_grad_enabled(True)
    with tinytorch.set_grad_enabled(False):
        assert not (x * 2).requires_grad
    with tinytorch.inference_mode():
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad


def test_detached_tensors_are_leaves():
    x = tensor([1.0], requires_grad=True)
    y = x * 2
    assert y.detach_() is y and y.is_leaf and not y.requires_grad
    with pytest.raises(RuntimeError, match="detach"):
        (x * 2).requires_grad_(False)
    assert not x.requires_grad_(False).requires_grad


def test_higher_derivatives():
    x = tensor([0.5, 2.0], requires_grad=True)
    y = x.sin().sum()
    for expected in (np.cos, lambda a: -np.sin(a), lambda a: -np.cos(a), np.sin):
        (y,) = tinytorch.autograd.grad(y.sum(), x, create_graph=True)
        np.testing.assert_allclose(y.data, expected(x.data), rtol=1e-6)
    x = tensor([3.0], requires_grad=True)
    (x**3).backward(create_graph=True)
    assert x.grad.tolist() == [27] and x.grad.requires_grad
    x.grad.sum().backward()
    assert x.grad.tolist() == [27 + 18]


def _hard(x):  # PyTorch's has no gradient of the gradient
    return (x + 3).clamp(0, 6) / 6


LAYERS = {
    "linear": (lambda F, x, w: F.linear(x, w, w[:, 0]), [(2, 3, 4), (5, 4)]),
    "layer_norm": (lambda F, x, w: F.layer_norm(x, (4,), w, w + 1), [(2, 3, 4), (4,)]),
    "attention": (
        lambda F, q, k: F.scaled_dot_product_attention(q, k, k * 2),
        [(2, 3, 4), (2, 5, 4)],
    ),
    "causal attention": (
        lambda F, q, k: F.scaled_dot_product_attention(q, k, k, is_causal=True),
        [(2, 3, 4), (2, 3, 4)],
    ),
    "leaky_relu": (lambda F, x: F.leaky_relu(x, 0.1) * x, [(3, 4)]),
    "elu": (lambda F, x: F.elu(x) * x, [(3, 4)]),
    "silu": (lambda F, x: F.silu(x), [(3, 4)]),
    "softplus": (lambda F, x: F.softplus(x), [(3, 4)]),
    "logsigmoid": (lambda F, x: F.logsigmoid(x), [(3, 4)]),
    "hardswish": (lambda F, x: F.hardswish(x) if F is functional else x * _hard(x), [(3, 4)]),
    "hardsigmoid": (lambda F, x: (F.hardsigmoid(x) if F is functional else _hard(x)) * x, [(3, 4)]),
    "relu6": (lambda F, x: F.relu6(x * 5) * x, [(3, 4)]),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers_have_gradients_of_gradients(name):
    f, shapes = LAYERS[name]
    check_higher(
        lambda *t: f(functional if isinstance(t[0], Tensor) else F, *t),
        *[random(*shape, seed=i) for i, shape in enumerate(shapes)],
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_have_gradients_of_gradients(reduction, weighted):
    def loss(x):
        library, functions = (tinytorch, functional) if isinstance(x, Tensor) else (torch, F)
        weight = library.tensor(np.arange(1.0, 4)) if weighted else None
        return functions.cross_entropy(
            x, library.tensor([2, 0, -100, 1]), weight, reduction=reduction, label_smoothing=0.1
        )

    check_higher(loss, random(4, 3))


def test_embeddings_have_gradients_of_gradients():
    def f(w):
        library, functions = (tinytorch, functional) if isinstance(w, Tensor) else (torch, F)
        return functions.embedding(library.tensor([[1, 2], [1, 0]]), w, padding_idx=0) ** 2

    check_higher(f, random(3, 2))


def blocks(drop):
    """A function with parameters of its own and an argument that is no leaf."""
    tinytorch.manual_seed(0)
    w = tinytorch.randn(4, 4).requires_grad_()
    x = tinytorch.randn(3, 4).requires_grad_()
    h = x.tanh()

    def block(t, scale=1.0):
        return ((t @ w * scale).relu().dropout(drop) + h).sin()

    return w, x, h, block


@pytest.mark.parametrize("drop", [0.0, 0.5])
def test_checkpoints_give_the_same_gradients(drop):
    results = []
    for checked in (False, True):
        w, x, h, block = blocks(drop)
        y = checkpoint(block, h, scale=2.0, use_reentrant=False) if checked else block(h, scale=2.0)
        y = (checkpoint(block, y) if checked else block(y)) * h
        seen = []
        w.register_hook(lambda g, seen=seen: seen.append(1))
        y.sum().backward()
        assert len(seen) == 1
        results.append([y, x.grad, w.grad, tinytorch.rand(2)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-6, atol=1e-7)


def test_checkpoints_keep_nothing_and_watch_their_arguments():
    calls = []

    def block(t):
        calls.append(t)
        return (t * 2).exp(), t.sum()

    x = tensor(np.ones(3), requires_grad=True)
    first, second = checkpoint(block, x)
    (first.sum() * 3 + second).backward()
    np.testing.assert_allclose(x.grad.data, 3 * 2 * np.exp(2) + np.ones(3))
    assert len(calls) == 2 and first.shape == (3,) and second.shape == ()
    (found,) = tinytorch.autograd.grad(checkpoint(block, x)[1], x)
    assert found.tolist() == [1, 1, 1]
    y = checkpoint(block, x)[0]
    with no_grad():
        x += 1
        assert not checkpoint(block, x)[0].requires_grad
    with pytest.raises(RuntimeError, match="checkpoint.*changed in place"):
        y.sum().backward()
    sizes = iter([2, 1])
    y = checkpoint(lambda t: t[: next(sizes)], x)
    with pytest.raises(RuntimeError, match=r"checkpoint: .*\(2,\).*\(1,\)"):
        y.sum().backward()
