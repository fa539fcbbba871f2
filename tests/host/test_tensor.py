"""Making, converting and reading tensors, as PyTorch does it."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinytorch
from tests.oracles import oracle
from tinytorch import nn
from tinytorch.autograd.creation import tensor
from tinytorch.autograd.tape import apply, record
from tinytorch.autograd.tensor import Tensor
from tinytorch.autograd.tracing import ModuleTracker, tracing

torch = oracle("torch", "oracle")

TYPES = ["float32", "float64", "int64", "int32", "int8", "uint8", "bool"]


def same(ours, theirs):
    if isinstance(theirs, (tuple, list)):
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            same(mine, other)
    elif isinstance(theirs, torch.Tensor):
        assert ours.shape == tuple(theirs.shape)
        assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.")
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-6)
    else:
        assert ours == theirs


def dtype(library, name):
    return getattr(library, name)


MADE = {
    "tensor": lambda lib: [
        lib.tensor(1), lib.tensor(2.5), lib.tensor(True), lib.tensor([1, 2.5]), lib.tensor([[1],
        [2]]),
        lib.tensor([]), lib.tensor([True, False]), lib.tensor(np.arange(3.0)),
        lib.tensor(np.arange(3, dtype=np.int8)), lib.tensor([1, 2], dtype=lib.float64),
        lib.tensor([0.5, 2], dtype=lib.int), lib.tensor(np.float64(2)), lib.as_tensor([1.5]),
        lib.from_numpy(np.arange(3)), lib.as_tensor(np.ones(2), dtype=lib.float32),
    ],
    "constants": lambda lib: [
        lib.zeros(2, 3), lib.zeros((2, 3), dtype=lib.long), lib.ones(2), lib.ones(2,
        dtype=lib.bool),
        lib.ones(()), lib.full((2,), 7), lib.full((2,), 7.0), lib.full((2, 1), True),
        lib.full((), 2),
        lib.empty(2, 0), lib.eye(3), lib.eye(2, 3, dtype=lib.double), lib.zeros(0),
    ],
    "ranges": lambda lib: [
        lib.arange(5), lib.arange(1, 4), lib.arange(0, 1, 0.25), lib.arange(5.0), lib.arange(5,
        0, -2),
        lib.arange(3, dtype=lib.float32), lib.linspace(0, 1, 5), lib.linspace(-1, 1, 1),
    ],
    "likeness": lambda lib: [
        f(t) for t in (lib.ones(2, 3), lib.tensor([1, 2]), lib.tensor(2.0, dtype=lib.double))
        for f in (lib.zeros_like, lib.ones_like, lambda t: lib.full_like(t, 7),
                  lambda t: lib.ones_like(t, dtype=lib.float32), lambda t: t.new_zeros(2, 2),
                  lambda t: t.new_ones((1,)), lambda t: t.new_full((2,), 3),
                  lambda t: t.new_tensor([4]))
    ],
    "conversions": lambda lib: [
        f(t) for t in (lib.tensor([0.0, 1.7, -2.3]), lib.tensor([0, 3, -1]), lib.tensor([True,
        False]))
        for f in (lambda t: t.float(), lambda t: t.double(), lambda t: t.long(), lambda t: t.int(),
                  lambda t: t.bool(), lambda t: t.to(lib.float64), lambda t: t.to("cpu"),
                  lambda t: t.to(lib.ones(1)), lambda t: t.type(lib.int64), lambda t: t.cpu(),
                  lambda t: t.to("cpu", lib.float64), lambda t: t.type_as(lib.ones(1)),
                  lambda t: t.to(dtype=lib.int8))
    ],
    "what results are": lambda lib: [
        lib.tensor([1, 2]) / 2, lib.tensor([1, 4]).sqrt(), lib.tensor([1, 2]).sum(),
        lib.tensor([True, True]).sum(), lib.tensor([1, 2], dtype=lib.uint8).sum(),
        lib.tensor([1, 2], dtype=lib.int8).prod(), lib.tensor([1, 2]).cumsum(0), lib.tensor([2,
        3]) ** 2,
        2 ** lib.tensor([2, 3]), 0.5 ** lib.tensor([2, 3]), lib.tensor([1, 2]).clamp(0.5, 1.5),
        lib.tensor([1, 2]).exp(), lib.tensor([5, -5]) // 2, lib.tensor([5, -5]) % 3,
        lib.tensor([True]) + 1, lib.tensor([True]) * 1.5, lib.tensor([1, 2]).softmax(0).sum() * 0
        if lib is tinytorch else lib.tensor(0.0), -lib.tensor([1]), lib.tensor([1, -2]).abs(),
        lib.where(lib.tensor([True, False]), 1.0, lib.tensor([1, 2])), ~lib.tensor([1, 2]),
        lib.where(lib.tensor([True, False]), lib.tensor([1, 2]), 0.5), lib.tensor([3]).float() / 2,
        lib.cat([lib.tensor([1]), lib.tensor([0.5])]), lib.tensor([1, 2]).sigmoid(),
        lib.tensor([2, 3]).log(), lib.tensor([1.5, 2]).floor().long(), lib.tensor([1]) == 1.0,
        lib.maximum(lib.tensor([1, 2]), lib.tensor([1.5])), 1 / lib.tensor([2, 4]),
        7 // lib.tensor([2]),
        7 % lib.tensor([4]), 3 - lib.tensor([True]).long(), lib.tensor([1]) | 2,
        lib.tensor([3]) & 2,
        lib.tensor([3]) ^ 1,
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_made_as_in_pytorch(name):
    same(MADE[name](tinytorch), MADE[name](torch))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(a=st.sampled_from(TYPES), b=st.sampled_from(TYPES), a_dims=st.integers(0, 1),
       b_dims=st.integers(0, 1))  # fmt: skip
def test_types_of_two_tensors(a, b, a_dims, b_dims):
    def product(lib):
        x = lib.ones((2,) * a_dims, dtype=getattr(lib, a))
        y = lib.ones((2,) * b_dims, dtype=getattr(lib, b))
        return [x * y, x + y, x / y, x == y, lib.where(x == y, x, y)]

    same(product(tinytorch), product(torch))


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("number", [True, 2, 2.5])
@pytest.mark.parametrize("dims", [0, 1])
def test_types_with_a_number(name, number, dims):
    def results(lib):
        x = lib.ones((2,) * dims, dtype=getattr(lib, name))
        return [x * number, number + x, x > number, x / number]

    same(results(tinytorch), results(torch))


def test_gradients_pass_through_types():
    x = tensor([1.0, 2.0], requires_grad=True)
    (x.double() * tensor([1, 2]) * np.float64(3) * np.ones(2)).sum().backward()
    assert x.grad.dtype == np.float32 and x.grad.tolist() == [3, 6]


def test_chance():
    tinytorch.manual_seed(3)
    for t, low, high in (
        (tinytorch.rand(2000), 0, 1), (tinytorch.randint(2, 9, (2000,)), 2, 8),
        (tinytorch.randint(5, (2000,)), 0, 4), (tinytorch.rand_like(tinytorch.ones(2000)), 0, 1),
        (tinytorch.randint_like(tinytorch.ones(2000), 3), 0, 2),
    ):  # fmt: skip
        assert abs(t.min().item() - low) < 0.01 and abs(t.max().item() - high) < 0.01
    assert tinytorch.randint(5, (2, 3)).dtype == tinytorch.int64
    for t in (tinytorch.randn(5000), tinytorch.randn_like(tinytorch.ones(5000)),
              tinytorch.normal(0, 1, (5000,)), tinytorch.normal(tinytorch.zeros(5000),
              1.0)):  # fmt: skip
        assert abs(t.mean().item()) < 0.05 and abs(t.std().item() - 1) < 0.05
        assert t.dtype == tinytorch.float32
    assert tinytorch.randperm(100).sort().values.tolist() == list(range(100))
    p = tinytorch.bernoulli(tinytorch.full((5000,), 0.3))
    assert set(p.tolist()) == {0, 1} and abs(p.mean().item() - 0.3) < 0.03
    drawn = tinytorch.multinomial(tensor([[0.0, 1, 3]]), 4000, replacement=True)
    assert drawn.shape == (1, 4000) and abs((drawn == 2).float().mean().item() - 0.75) < 0.03
    assert sorted(tinytorch.multinomial(tensor([1.0, 0, 3]), 2).tolist()) == [0, 2]
    assert tinytorch.zeros(5000).bernoulli_(0.5).mean().item() == pytest.approx(0.5, abs=0.05)


def test_reading():
    x = tensor([[1.5, 2], [3, 4]])
    assert x.size() == (2, 2) and x.size(-1) == 2 and x.dim() == x.ndim == 2 and x.numel() == 4
    assert x.nelement() == 4 and len(x) == 2 and [r.tolist() for r in x] == x.tolist()
    assert float(x[0, 0]) == 1.5 and int(x[1, 0]) == 3 and bool(x[0, 0] > 1)
    assert f"{x[0, 0]:.2f} {x.mean():5.1f}" == "1.50   2.6" and x.device == "cpu"
    assert (
        list(range(5))[tensor(3)] == 3
        and x.is_floating_point()
        and not x.long().is_floating_point()
    )
    assert tinytorch.is_tensor(x) and tinytorch.is_floating_point(x) and not tinytorch.is_tensor(1)
    assert tinytorch.allclose(x, x + 1e-9) and tinytorch.equal(x, x.clone())
    assert not tinytorch.equal(x, x[0]) and {x: 1}[x] == 1 and (x == None) is False  # noqa: E711
    assert x.dtype is tinytorch.float32 and {tinytorch.float32: 1}[x.dtype] == 1
    assert np.asarray(x, np.float64).dtype == np.float64 and np.linalg.norm(x) > 5


@pytest.mark.parametrize(
    ("t", "text"),
    [
        (lambda: tensor([1.0, 2.0]), "tensor([1., 2.])"),
        (lambda: tensor([0.1, 2.0]), "tensor([0.1000, 2.0000])"),
        (lambda: tensor([1, -2]), "tensor([ 1, -2])"),
        (lambda: tensor(3), "tensor(3)"),
        (lambda: tensor([True, False]), "tensor([ True, False])"),
        (lambda: tensor([1.0], dtype=tinytorch.float64), "tensor([1.], dtype=float64)"),
        (lambda: tensor([1.5], requires_grad=True), "tensor([1.5000], requires_grad=True)"),
        (lambda: tensor([1.5], requires_grad=True).exp(), "tensor([4.4817], grad_fn=<exp>)"),
        (lambda: tinytorch.zeros(2, 0), "tensor([], size=(2, 0))"),
        (lambda: tensor([float("nan"), 1.0]), "tensor([nan,  1.])"),
        (lambda: tensor([[1, 2], [3, 4]]), "tensor([[1, 2],\n        [3, 4]])"),
    ],
)
def test_printing(t, text):
    assert repr(t()) == text


def test_copies_are_leaves():
    x = tensor([1.0, 2.0], requires_grad=True)
    (x * 2).sum().backward()
    for twin in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert twin.tolist() == x.tolist() and twin.requires_grad and twin.is_leaf
        (twin * x).sum().backward()  # apart on the tape
        assert twin.grad is not x.grad
    for f in (copy.deepcopy, pickle.dumps):
        with pytest.raises(RuntimeError, match="detach"):
            f(x * 2)
    assert copy.copy(x.detach()).tolist() == x.tolist()


def test_from_numpy_shares_and_tensor_copies():
    a = np.zeros(3, np.float32)
    shared, own = tinytorch.from_numpy(a), tensor(a)
    a[0] = 1
    shared[1] = 2
    assert a.tolist() == shared.tolist() == [1, 2, 0] and own.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("f", "error", "parts"),
    [
        (lambda: tensor([[1, 2], [3]]), ValueError, ["tensor", "rows"]),
        (lambda: tensor(["a"]), TypeError, ["U1"]),
        (lambda: tensor([1, 2], requires_grad=True), TypeError, ["int64"]),
        (lambda: tensor([1]).to("cuda"), ValueError, ["cuda", "cpu"]),
        (lambda: tensor([1, 2]).mean(), TypeError, ["mean", "int64", "float()"]),
        (lambda: tensor([1, 2]) ** -1, ValueError, ["-1", "float()"]),
        (lambda: tensor([1.0]) & tensor([True]), TypeError, ["&", "float32"]),
        (lambda: tensor([1.0]) + "a", TypeError, ["+"]),
        (lambda: tinytorch.zeros(0).max(), ValueError, ["amax", "(0,)"]),
        (lambda: tinytorch.zeros(2, 0).argmax(1), ValueError, ["argmax", "(2, 0)"]),
        (lambda: tinytorch.ones(2, 3)[2], IndexError, ["[]", "(2, 3)", "2"]),
        (lambda: tinytorch.ones(2, 3)[0, 0, 0], IndexError, ["[]", "(2, 3)"]),
        (lambda: tinytorch.ones(2, 3)[1.5], IndexError, ["[]", "1.5"]),
        (lambda: tinytorch.ones(2, 3)[tensor([0.5])], IndexError, ["[]", "float32"]),
        (lambda: tinytorch.ones(2, 3)[tensor([True] * 3)], IndexError, ["[]", "(3,)", "(2, 3)"]),
        (lambda: tinytorch.ones(2, 3)[tensor([5])], IndexError, ["[]", "(2, 3)", "5"]),
        (lambda: tinytorch.ones(2, 3).view(4), ValueError, ["(2, 3)", "(4,)"]),
        (lambda: tinytorch.ones(2, 3).expand(3, 3), ValueError, ["expand", "(2, 3)", "(3, 3)"]),
        (lambda: tinytorch.ones(2, 3).repeat(2), ValueError, ["repeat", "(2,)", "(2, 3)"]),
        (lambda: tinytorch.ones(2, 3).split([1, 1, 1], 1)[0] @ 2, TypeError, ["@"]),
        (lambda: tinytorch.ones(2, 3).split([1, 1], 1), ValueError, ["split", "[1, 1]", "(2, 3)"]),
        (lambda: tinytorch.ones(2, 3).chunk(0), ValueError, ["chunk", "0"]),
        (lambda: tinytorch.ones(2, 3).narrow(1, 2, 2), ValueError, ["narrow", "(2, 3)"]),
        (lambda: tinytorch.ones(3).tril(), ValueError, ["tril", "(3,)"]),
        (lambda: tinytorch.ones(2, 3, 4).t(), ValueError, ["t:", "(2, 3, 4)"]),
        (lambda: tinytorch.ones(2, 3).gather(0, tensor([1])), ValueError,
         ["gather", "(1,)", "(2, 3)"]),
        (lambda: tinytorch.ones(3).gather(0, tensor([1.0])), TypeError, ["gather", "float32"]),
        (lambda: tinytorch.ones(3).masked_fill(tensor([1]), 0), TypeError, ["masked_fill",
        "int64"]),
        (lambda: tinytorch.where(tensor([1]), 1.0, 2.0), TypeError, ["where", "int64"]),
        (lambda: tinytorch.where(tensor([True]), tinytorch.ones(2), tinytorch.ones(3)), ValueError,
         ["where", "(2,)", "(3,)"]),
        (lambda: tinytorch.stack([tinytorch.ones(2), tinytorch.ones(3)]), ValueError,
         ["stack", "(2,)", "(3,)"]),
        (lambda: tinytorch.cat([]), ValueError, ["cat"]),
        (lambda: tinytorch.ones(2, 3).mm(tinytorch.ones(3)), ValueError, ["mm", "(2, 3)", "(3,)"]),
        (lambda: tinytorch.ones(2, 3) @ tinytorch.ones(2), ValueError, ["matmul", "(2, 3)"]),
        (lambda: tinytorch.einsum("ij,jk", tinytorch.ones(2, 3)), ValueError, ["einsum", "2", "1"]),
        (lambda: tinytorch.einsum("ij,jk", tinytorch.ones(2, 3), tinytorch.ones(2, 3)), ValueError,
         ["einsum", "(2, 3)", "j is both 3 and 2"]),
        (lambda: tinytorch.einsum("ij", tinytorch.ones(2)), ValueError, ["einsum", "(2,)"]),
        (lambda: tinytorch.einsum("i->j", tinytorch.ones(2)), ValueError, ["einsum", "i->j"]),
        (lambda: tinytorch.ones(3).topk(4), ValueError, ["topk", "4", "(3,)"]),
        (lambda: tinytorch.ones(3).clamp(), ValueError, ["clamp"]),
        (lambda: tinytorch.ones(3).pad((4, 0), mode="reflect"), ValueError, ["reflect", "(3,)"]),
        (lambda: tinytorch.ones(3).pad((1, 0), mode="mirror"), ValueError, ["mirror", "constant"]),
        (lambda: tinytorch.ones(3).pad((1, 0, 1, 0)), ValueError, ["pad", "(1, 0, 1, 0)", "(3,)"]),
        (lambda: tinytorch.multinomial(tensor([1.0, 0.0]), 2), ValueError, ["multinomial", "2"]),
        (lambda: len(tensor(1)), TypeError, ["len"]),
        (lambda: [1, 2][tensor(1.0)], TypeError, ["index", "float32"]),
        (lambda: tinytorch.ones(3).roll(1, 1), ValueError, ["roll", "1"]),
    ],
)  # fmt: skip
def test_wrong_use_is_told_in_one_sentence(f, error, parts):
    with pytest.raises(error) as caught:
        f()
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_function_of_the_face_is_there():
    for name in dir(tinytorch):
        getattr(tinytorch, name)
    x = tinytorch.ones(2, 3)
    assert tinytorch.flatten(x).shape == (6,) and tinytorch.sum(x, dim=1).tolist() == [3, 3]
    assert tinytorch.max(x, dim=0).values.tolist() == [1, 1, 1]
    assert "exp" in dir(tinytorch) and tinytorch.exp is Tensor.exp
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tinytorch.nothing  # noqa: B018


class Tracer:
    """Writes down the names of operations; left: how often it was told of no operation."""

    def __init__(self):
        self.seen = []
        self.left = 0
        self.changes = []

    def __call__(self, operation, inputs, attrs):
        self.seen.append(operation.__name__)
        assert not any(isinstance(s, (np.ndarray, Tensor)) for s in attrs.values())
        assert attrs == attrs and all(t is None or isinstance(t, Tensor) for t in inputs)
        return record(operation, inputs, attrs)

    def leave(self):
        self.left += 1

    def changed(self, tensor, result):
        self.changes.append((tensor, result))


def test_a_tracer_sees_every_operation():
    """Results of questions too: whoever follows a step has to see on what it depends."""
    tracer = Tracer()
    with tracing(tracer):
        x = tinytorch.ones(2, 3)
        index = tensor([0, 1])
        x[index], x[0, ..., None], x > 1, x.argmax(1), x.max(1), x.sort(), x.gather(1, x.argsort(1))
        x.masked_fill(x > 0, 1), x.isnan(), x.any(), x.to(tinytorch.float64), x.view(-1)
        -x, x @ x.T
        tinytorch.where(x > 0, x, 0.0)
        assert tracer.left == 0
        x.zero_()
    assert {"index", "gt", "argmax", "gather", "argsort", "where", "isnan", "any", "to", "reshape",
            "neg", "matmul", "permute"} <= set(tracer.seen)  # fmt: skip
    assert tracer.left == 1
    ((changed, result),) = tracer.changes
    assert changed is x and result.tolist() == x.tolist()


def test_the_innermost_tracer_alone_sees_an_operation():
    x = tinytorch.ones(2)
    outer, inner = Tracer(), Tracer()
    with tracing(outer):
        x.exp()
        with pytest.raises(ValueError, match="broadcast"), tracing(inner):
            x.log()
            x + tinytorch.ones(3)
        with tracing(None):
            x.sin()
        x.tanh()
    x.cos()
    assert outer.seen == ["exp", "tanh"] and inner.seen == ["log", "add"]


def test_a_tracer_knows_the_module_that_asks_for_an_operation():
    class Paths(Tracer, ModuleTracker):
        def __init__(self, net):
            Tracer.__init__(self)
            ModuleTracker.__init__(self, net)

        def __call__(self, operation, inputs, attrs):
            self.seen.append((self.path, operation.__name__))
            return record(operation, inputs, attrs)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            relu = nn.ReLU()
            self.features = nn.Sequential(nn.Sequential(nn.Linear(2, 3), relu), relu)
            self.own = nn.Tanh()
            self.own.forward = lambda x: x.sigmoid()

        def forward(self, x):
            return self.own(-self.features(x))

    net = Net()
    tracer = Paths(net)
    x = tinytorch.ones(1, 2)
    with tracing(tracer), tracer:
        net(x).exp()
    assert tracer.seen == [
        ("features.0.0", "linear"), ("features.0.1", "relu"), ("features.0.1", "relu"),
        ("", "neg"), ("own", "sigmoid"), (None, "exp"),
    ]  # fmt: skip
    assert "forward" not in vars(net) and "forward" in vars(net.own) and tracer.path is None


def test_operations_may_be_written_outside():
    def cube(a):
        return a**3, (lambda g: 3 * g * a * a,)

    x = tensor([2.0], requires_grad=True)
    apply(cube, x).backward()
    assert x.grad.tolist() == [12]
    with pytest.raises(RuntimeError, match="create_graph.*cube"):
        tinytorch.autograd.grad(apply(cube, x), x, create_graph=True)
