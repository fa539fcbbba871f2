"""Parts of a network that are computed again in the backward pass."""

import gc

import numpy as np
import pytest

import tinytorch
from tinytorch import nn
from tinytorch.autograd.tensor import Tensor
from tinytorch.train.capture import Step
from tinytorch.utils.checkpoint import checkpoint


def blocks(seed):
    tinytorch.manual_seed(seed)
    return [
        nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Dropout(0.3), nn.Linear(8, 4))
        for _ in range(3)
    ]


def plain(function, *args):
    return function(*args)


def nested(function, *args):
    return checkpoint(lambda *inner: checkpoint(function, *inner), *args)


def run(parts, how, x, create_graph=False):
    """The loss, and the gradients of the input and of all parameters."""
    tinytorch.manual_seed(7)
    parameters = [p for part in parts for p in part.parameters()]
    y = x
    for part in parts:
        y = how(part, y)
    loss = (y * y).sum()
    found = tinytorch.autograd.grad(loss, [x, *parameters], create_graph=create_graph)
    return [loss, tinytorch.rand(3), *found]


@pytest.mark.parametrize("how", (checkpoint, nested))
def test_everything_is_equal_to_the_bit(how):
    parts = blocks(0)
    x = tinytorch.randn(5, 4, requires_grad=True)
    for a, b in zip(run(parts, how, x), run(parts, plain, x), strict=True):
        assert np.array_equal(a.data, b.data)


@pytest.mark.parametrize("how", (checkpoint, nested))
def test_gradients_of_gradients(how):
    parts = blocks(0)
    x = tinytorch.randn(5, 4, requires_grad=True)
    seconds = []
    for each in (how, plain):
        slopes = run(parts, each, x, create_graph=True)[2]
        inputs = [x, *parts[0].parameters()]
        seconds.append(tinytorch.autograd.grad((slopes * slopes).sum(), inputs))
    for a, b in zip(*seconds, strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-4, atol=1e-4)


def test_backward_reaches_arguments_and_parameters():
    """Those of an argument that does not require a gradient too, and what a function encloses."""
    inner = tinytorch.ones(3, requires_grad=True)
    enclosed = inner * 2
    layer = nn.Linear(3, 3)
    x = tinytorch.randn(2, 3)
    y = checkpoint(lambda t: layer(t) * enclosed, x)
    y.sum().backward()
    again = (layer(x) * 2).sum(0)
    np.testing.assert_allclose(inner.grad.data, again.data, rtol=1e-6)
    np.testing.assert_allclose(layer.bias.grad.data, [4, 4, 4])
    assert x.grad is None


def recorded():
    """How many tensors remember what they were made from."""
    gc.collect()
    return sum(type(o) is Tensor and not o.is_leaf for o in gc.get_objects())


@pytest.mark.parametrize("depth", (5, 60))
def test_nothing_inside_is_kept(depth):
    def deep(t):
        for _ in range(depth):
            t = t.sin()
        return t

    x = tinytorch.ones(3, requires_grad=True)
    before = recorded()
    y = deep(x)
    assert recorded() - before == depth
    y = checkpoint(deep, x)
    few = recorded() - before
    assert few <= 4
    y = checkpoint(deep, checkpoint(deep, y))
    assert recorded() - before == 3 * few


def test_several_results_of_several_types():
    x = Tensor(np.arange(4.0), requires_grad=True)

    def function(t, scale=1.0):
        y = t * scale
        return y, t.argmax(), y.float().exp(), "text", y[:2], t.detach()

    y, place, e, text, first, apart = checkpoint(function, x, scale=0.5)
    assert (place.item(), text, apart.requires_grad) == (3, "text", False)
    assert (y.dtype, e.dtype, first.shape) == (tinytorch.float64, tinytorch.float32, (2,))
    (y.sum() + e.double().sum() * 2 + first.sum() * 3).backward()
    expected = 0.5 + np.exp(0.5 * np.arange(4.0)) + np.array([1.5, 1.5, 0, 0])
    np.testing.assert_allclose(x.grad.data, expected, rtol=1e-6)


def test_random_numbers_may_differ():
    x = tinytorch.ones(1000, requires_grad=True)
    for preserve in (True, False):
        y = checkpoint(lambda t: t.dropout(0.5), x, preserve_rng_state=preserve)
        (g,) = tinytorch.autograd.grad(y.sum(), x)
        assert np.array_equal(g.data, y.data) == preserve


def test_without_a_tape_the_function_runs_once():
    calls = []

    def function(t):
        calls.append(t)
        return t * 2

    with tinytorch.no_grad():
        assert not checkpoint(function, tinytorch.ones(2, requires_grad=True)).requires_grad
    assert not checkpoint(function, tinytorch.ones(2)).requires_grad
    assert len(calls) == 2


def test_a_changed_argument_is_refused():
    x = tinytorch.ones(2, requires_grad=True)
    more = tinytorch.ones(2)
    y = checkpoint(lambda t, other: t * other, x, more)
    more += 1
    with pytest.raises(RuntimeError, match="checkpointed needs .* changed in place"):
        y.sum().backward()


def test_a_function_that_computes_something_else_is_named():
    x = tinytorch.ones(3, requires_grad=True)
    sizes = iter([3, 2])
    y = checkpoint(lambda t: t[: next(sizes)], x)
    with pytest.raises(RuntimeError, match=r"checkpoint: .*\(3,\).*\(2,\)"):
        y.sum().backward()


class Checked(nn.Module):
    def __init__(self, parts, how):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.how = how

    def forward(self, x):
        for part in self.parts:
            x = self.how(part, x)
        return x


def test_a_captured_step_is_left():
    results = []
    for how in (plain, checkpoint):
        net = Checked(blocks(0), how)
        step = Step(net, nn.MSELoss(), capture=True)
        optimizer = tinytorch.optim.SGD(net.parameters(), lr=0.1)
        losses = []
        for _ in range(5):
            x = tinytorch.randn(6, 4)
            _, loss = step.forward(x, x)
            optimizer.zero_grad()
            step.backward()
            optimizer.step()
            losses.append(loss.item())
        results.append([losses, *[p.tolist() for p in net.parameters()]])
    assert results[0] == results[1]
