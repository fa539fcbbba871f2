"""The same layers three times: on the shared Tensor, on the laptop's, and PyTorch's own."""

import copy
from collections import OrderedDict

import numpy as np
import pytest

import tinytorch
from tests.host.gradients import check
from tests.oracles import oracle
from tinytorch import nn
from tinytorch.autograd.tensor import Tensor
from tinytorch_core import nn as shared
from tinytorch_core.tensor import tensor as shared_tensor

torch = oracle("torch", "oracle")
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even")  # PyTorch's own

LAYERS = {
    "Linear": (lambda m: m.Linear(5, 3), (4, 5)),
    "Linear without bias": (lambda m: m.Linear(5, 3, bias=False), (2, 4, 5)),
    "Conv1d": (lambda m: m.Conv1d(3, 4, 3, 2, 1, 2), (2, 3, 9)),
    "Conv1d depthwise": (lambda m: m.Conv1d(3, 6, 3, padding=1, groups=3), (2, 3, 9)),
    "Conv2d": (lambda m: m.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=1), (2, 2, 6, 5)),
    "Conv2d depthwise": (lambda m: m.Conv2d(4, 4, 3, groups=4, bias=False), (1, 4, 5, 5)),
    "BatchNorm1d": (lambda m: m.BatchNorm1d(3), (4, 3)),
    "BatchNorm1d of signals": (lambda m: m.BatchNorm1d(3, 1e-3, 0.3), (4, 3, 5)),
    "BatchNorm2d": (lambda m: m.BatchNorm2d(3), (2, 3, 4, 5)),
    "ReLU": (lambda m: m.ReLU(), (3, 4)),
    "MaxPool1d": (lambda m: m.MaxPool1d(3, 2, 1), (2, 3, 8)),
    "MaxPool2d": (lambda m: m.MaxPool2d(2), (2, 3, 4, 6)),
    "AvgPool1d": (lambda m: m.AvgPool1d(3, 2, 1), (2, 3, 8)),
    "AvgPool2d": (lambda m: m.AvgPool2d((2, 3)), (2, 3, 4, 6)),
    "AdaptiveAvgPool1d": (lambda m: m.AdaptiveAvgPool1d(1), (2, 3, 4)),
    "AdaptiveAvgPool2d": (lambda m: m.AdaptiveAvgPool2d(1), (2, 3, 4, 6)),
    "Conv1d same": (lambda m: m.Conv1d(3, 4, 4, padding="same", dilation=3), (2, 3, 9)),
    "Conv1d valid": (lambda m: m.Conv1d(3, 4, 4, padding="valid"), (2, 3, 9)),
    "Conv2d same": (lambda m: m.Conv2d(2, 4, (2, 3), padding="same"), (2, 2, 6, 5)),
    "Conv2d in groups": (
        lambda m: m.Conv2d(4, 6, 3, padding=(2, 1), dilation=2, groups=2), (2, 4, 6, 7),
    ),
    "BatchNorm1d not affine": (lambda m: m.BatchNorm1d(3, affine=False), (4, 3)),
    "BatchNorm1d without bias": (lambda m: m.BatchNorm1d(3, bias=False), (4, 3)),
    "BatchNorm1d of the batch": (lambda m: m.BatchNorm1d(3, track_running_stats=False), (4, 3)),
    "BatchNorm2d averaging": (lambda m: m.BatchNorm2d(3, momentum=None), (2, 3, 2, 3)),
    "LayerNorm": (lambda m: m.LayerNorm(5), (4, 2, 5)),
    "LayerNorm over planes": (lambda m: m.LayerNorm((2, 5), eps=1e-3, bias=False), (4, 2, 5)),
    "LayerNorm bare": (lambda m: m.LayerNorm([5], elementwise_affine=False), (3, 5)),
    "ReLU6": (lambda m: m.Sequential(m.Linear(4, 9), m.ReLU6()), (3, 4)),
    "GELU": (lambda m: m.GELU(), (3, 40)),
    "GELU by tanh": (lambda m: m.GELU("tanh"), (3, 40)),
    "SiLU": (lambda m: m.SiLU(), (3, 4)),
    "Tanh": (lambda m: m.Tanh(), (3, 4)),
    "Sigmoid": (lambda m: m.Sigmoid(), (3, 4)),
    "Hardswish": (lambda m: m.Hardswish(), (3, 40)),
    "Hardsigmoid": (lambda m: m.Hardsigmoid(), (3, 40)),
    "LeakyReLU": (lambda m: m.LeakyReLU(0.2), (3, 4)),
    "ELU": (lambda m: m.ELU(0.7), (3, 4)),
    "Softplus": (lambda m: m.Softplus(2.0, 1.5), (3, 4)),
    "Softmax": (lambda m: m.Softmax(1), (3, 4, 2)),
    "LogSoftmax": (lambda m: m.LogSoftmax(-1), (3, 4)),
    "Flatten": (lambda m: m.Flatten(), (2, 3, 4)),
    "Unflatten": (lambda m: m.Unflatten(1, (2, -1)), (2, 6, 4)),
    "Identity": (lambda m: m.Identity(3, a=4), (2, 3)),
    "AdaptiveAvgPool1d in parts": (lambda m: m.AdaptiveAvgPool1d(3), (2, 3, 7)),
    "AdaptiveAvgPool2d in parts": (lambda m: m.AdaptiveAvgPool2d((2, None)), (2, 3, 5, 4)),
    "Dropout of nothing": (lambda m: m.Dropout(0.0, inplace=True), (2, 3)),
    "Dropout": (lambda m: m.Dropout(0.0), (2, 3)),
    "Sequential": (
        lambda m: m.Sequential(
            m.Conv1d(2, 4, 3), m.BatchNorm1d(4), m.ReLU(), m.MaxPool1d(2), m.Flatten(),
            m.Linear(12, 3),
        ),
        (2, 2, 8),
    ),
}  # fmt: skip


def numbers(state):
    return {n: np.array(t.data).reshape(t.shape).tolist() for n, t in state.items()}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_agree(name, training):
    make, shape = LAYERS[name]
    tinytorch.manual_seed(0)
    ours, plain, oracle = make(nn), make(shared), make(torch.nn)
    state = ours.state_dict()
    for key, t in state.items():
        if "var" not in key and "num" not in key:
            t += 0.1 * tinytorch.randn(*t.shape)
    assert list(state) == list(plain.state_dict()) == list(oracle.state_dict())
    plain.load_state_dict({n: shared_tensor(t.tolist()) for n, t in state.items()})
    oracle.load_state_dict({n: torch.tensor(t.numpy().copy()) for n, t in state.items()})

    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = oracle.train(training)(torch.tensor(x)).detach().numpy()
    close = {"rtol": 2e-5, "atol": 2e-6}
    np.testing.assert_allclose(ours.train(training)(Tensor(x)).data, expected, **close)
    y = plain.train(training)(shared_tensor(x.tolist()))
    np.testing.assert_allclose(np.reshape(y.data, y.shape), expected, **close)
    after = {n: t.numpy() for n, t in oracle.state_dict().items()}
    for net in (ours, plain):
        for key, t in net.state_dict().items():
            np.testing.assert_allclose(np.reshape(t.data, t.shape), after[key], **close)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_through_layers(name):
    make, shape = LAYERS[name]
    ours = make(nn).to("float64")
    oracle = make(torch.nn).double()
    oracle.load_state_dict({n: torch.tensor(t.data.copy()) for n, t in ours.state_dict().items()})
    check(ours, oracle, np.random.default_rng(1).normal(size=shape))
    pairs = zip(ours.parameters(), oracle.parameters(), strict=True)
    for mine, theirs in pairs:
        np.testing.assert_allclose(mine.grad.data, theirs.grad.numpy(), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_batches_of_nothing(name, training):
    make, (_, *rest) = LAYERS[name]
    x = np.zeros((0, *rest), np.float32)
    ours, theirs = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    net, oracle = make(nn).train(training), make(torch.nn).train(training)
    y, expected = net(ours), oracle(theirs)
    assert y.shape == tuple(expected.shape)
    y.sum().backward()
    expected.sum().backward()
    assert ours.grad.shape == x.shape
    for p, q in zip(net.parameters(), oracle.parameters(), strict=True):
        np.testing.assert_array_equal(p.grad.data, q.grad.numpy())
    for p, q in zip(net.buffers(), oracle.buffers(), strict=True):
        np.testing.assert_array_equal(p.data, q.numpy())


def test_initial_weights_spread_as_those_of_torch():
    tinytorch.manual_seed(0)
    torch.manual_seed(0)
    for make in (lambda m: m.Linear(64, 64), lambda m: m.Conv2d(16, 64, 3)):
        ours, theirs = make(nn), make(torch.nn)
        for name, t in ours.state_dict().items():
            expected = dict(theirs.named_parameters())[name].detach()
            assert t.data.std() == pytest.approx(expected.std().item(), rel=0.15)


def test_modules_list_what_is_set_on_them():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(tinytorch.ones(2))
            self.note = tinytorch.ones(2)
            self.layer = nn.Linear(2, 2)

    net = Net()
    assert [n for n, _ in net.named_parameters()] == ["gain", "layer.weight", "layer.bias"]
    assert isinstance(net.layer, shared.Linear) and all(p.requires_grad for p in net.parameters())
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())


def test_a_state_dict_shares_numbers_but_no_tape():
    layer = nn.Linear(2, 2)
    state = layer.state_dict()
    assert not any(t.requires_grad for t in state.values())
    assert np.shares_memory(state["weight"].data, layer.weight.data)


@pytest.mark.parametrize("shape", [(4,), (2, 3), (), (0, 2)])
def test_embeddings(shape):
    ours, plain, theirs = (m.Embedding(5, 3, padding_idx=-1) for m in (nn, shared, torch.nn))
    assert not ours.weight.data[4].any() and ours.padding_idx == theirs.padding_idx == 4
    assert list(plain.weight.data)[12:] == [0, 0, 0]
    ours.load_state_dict({"weight": Tensor(theirs.weight.detach().numpy())})
    plain.load_state_dict({"weight": shared_tensor(ours.weight.tolist())})
    x = np.random.default_rng(0).integers(0, 5, shape)
    y, expected = ours(Tensor(x)), theirs(torch.tensor(x))
    np.testing.assert_array_equal(y.data, expected.detach().numpy())
    if x.size:
        np.testing.assert_array_equal(plain(shared_tensor(x.tolist())).tolist(), y.tolist())
    y.sum().backward()
    expected.sum().backward()
    np.testing.assert_array_equal(ours.weight.grad.data, theirs.weight.grad.numpy())


def test_embeddings_of_given_rows():
    rows = tinytorch.randn(4, 2)
    layer = nn.Embedding.from_pretrained(rows)
    assert layer(tinytorch.tensor([2])).tolist() == [rows[2].tolist()]
    assert not layer.weight.requires_grad
    assert nn.Embedding.from_pretrained(rows, freeze=False).weight.requires_grad
    with pytest.raises(TypeError, match="embedding: the index holds float32"):
        layer(rows)
    with pytest.raises(ValueError, match="index 4 is not one of 0 to 3"):
        layer(tinytorch.tensor([4]))


def residual(m):
    class Residual(m.Module):
        def __init__(self):
            super().__init__()
            self.body = m.Sequential(m.Conv2d(3, 6, 3, 2, 1, bias=False), m.BatchNorm2d(6))
            self.skip = None
            self.register_buffer("mask", None)
            self.activation = m.ReLU(inplace=True)

        def extra_repr(self):
            return "two\nlines"

    return Residual()


REPRS = {
    "leaf": lambda m: m.Linear(3, 2, bias=False),
    "empty": lambda m: m.Sequential(),
    "nested": lambda m: m.Sequential(residual(m), m.ModuleList([residual(m), m.Flatten()])),
    "lists": lambda m: m.ModuleList([m.Tanh(), *[m.Linear(2, 2) for _ in range(3)], m.Tanh()]),
    "no list": lambda m: m.ModuleList(),
    "dict": lambda m: m.ModuleDict({"a": m.GELU(), "b": m.ModuleDict({"c": m.Sigmoid()})}),
    "convs": lambda m: m.Sequential(
        m.Conv1d(4, 8, 3, padding="same", dilation=2, groups=2), m.Conv2d(1, 2, (3, 4), (2, 1)),
        m.MaxPool1d(2), m.MaxPool2d((2, 3), padding=1), m.AvgPool1d(3, 2), m.AvgPool2d(2),
        m.AdaptiveAvgPool1d(1), m.AdaptiveAvgPool2d((None, 2)), m.Unflatten(1, (2, 3)),
    ),
    "norms": lambda m: m.Sequential(
        m.BatchNorm1d(3, momentum=None), m.BatchNorm2d(3, 1e-3, affine=False), m.LayerNorm(4),
        m.LayerNorm((4, 5), bias=False), m.Embedding(5, 3, padding_idx=0), m.Embedding(5, 3),
    ),
    "activations": lambda m: m.Sequential(
        m.ReLU6(), m.LeakyReLU(0.1, inplace=True), m.ELU(), m.SiLU(True), m.GELU("tanh"),
        m.Hardswish(), m.Hardsigmoid(), m.Softplus(), m.Softmax(1), m.LogSoftmax(-1), m.Identity(),
        m.Dropout(0.2, inplace=True),
    ),
    "recurrent": lambda m: m.ModuleList([
        m.RNN(3, 4), m.GRU(3, 4, 2, bias=False, dropout=0.1),
        m.LSTM(3, 4, batch_first=True, bidirectional=True),
    ]),
    "losses": lambda m: m.ModuleList([m.CrossEntropyLoss(), m.MSELoss(), m.HuberLoss(delta=2)]),
}  # fmt: skip


@pytest.mark.parametrize("name", REPRS)
def test_modules_print_as_those_of_torch(name):
    assert repr(REPRS[name](nn)) == repr(REPRS[name](torch.nn))


SAME = []  # what gives the same in both libraries


def both(f):
    SAME.append(f)
    return f


@both
def containers(lib):
    m = lib.nn
    net = m.Sequential(OrderedDict([("first", m.Linear(2, 3)), ("then", m.ReLU())]))
    net.append(m.Linear(3, 1)).extend([m.Tanh()])
    net[0] = m.Linear(2, 3, bias=False)
    blocks = m.ModuleList([m.Linear(1, 1)])
    blocks.append(m.Linear(1, 2)).extend([m.ReLU()])
    blocks.insert(0, m.Tanh())
    blocks[-1] = m.Linear(2, 2)
    table = m.ModuleDict({"a": m.Linear(1, 1)})
    table["b"] = m.Sigmoid()
    table.update({"c": m.Linear(2, 2)})
    del table["a"]
    weights = m.ParameterList([m.Parameter(lib.ones(2)), lib.zeros(3)])
    return (
        repr(net), list(net.state_dict()), len(net), repr(net[1:3]), list(net[:1].state_dict()),
        repr(blocks), list(blocks.state_dict()), repr(blocks[1:]),
        list(table), len(table), "b" in table, repr(table["c"]), list(table.state_dict()),
        [name for name, _ in weights.named_parameters()], [w.tolist() for w in weights],
    )  # fmt: skip


@both
def trees(lib):
    m = lib.nn

    class Net(m.Module):
        def __init__(self):
            super().__init__()
            self.register_parameter("gain", m.Parameter(lib.ones(1)))
            self.register_parameter("none", None)
            self.register_buffer("kept", lib.ones(2))
            self.register_buffer("lost", lib.ones(2), persistent=False)
            self.register_buffer("empty", None)
            self.body = m.Sequential(m.Linear(1, 1), m.BatchNorm1d(1))
            self.again = self.body[0]

    net = Net()
    seen = []
    assert net.apply(lambda part: seen.append(type(part).__name__)) is net
    net.kept = lib.zeros(2)
    net.body[0].bias = None
    del net.lost
    assert net.get_submodule("body.1") is net.body[1] and net.get_submodule("") is net
    net.train()
    net.body.eval()
    return (
        seen, list(net.state_dict()), [n for n, _ in net.named_buffers()],
        [n for n, _ in net.named_parameters("net")], [n for n, _ in net.named_modules()],
        [n for n, _ in net.named_modules(prefix="x", remove_duplicate=False)],
        [n for n, _ in net.named_parameters(recurse=False)], len(list(net.buffers(False))),
        [n for n, _ in net.named_children()], [part.training for part in net.modules()],
        net.state_dict()["kept"].tolist(),
    )  # fmt: skip


@both
def partly_loaded(lib):
    net = lib.nn.Sequential(lib.nn.Linear(1, 1), lib.nn.Linear(1, 1))
    found = net.load_state_dict({"0.weight": lib.ones(1, 1), "2.weight": lib.ones(1)}, strict=False)
    return net[0].weight.tolist(), found.missing_keys, found.unexpected_keys


@both
def hooks(lib):
    layer, calls = lib.nn.Linear(2, 2), []
    before = layer.register_forward_pre_hook(lambda m, args: (args[0] * 0 + 1,))
    first = layer.register_forward_hook(lambda m, args, y: calls.append(args[0].tolist()))
    second = layer.register_forward_hook(lambda m, args, y: y * 0 + 5)
    results = [layer(lib.zeros(1, 2)).tolist()]
    second.remove()
    first.remove()
    first.remove()
    layer.weight.requires_grad_(False).zero_()
    layer.bias.requires_grad_(False).zero_()
    results.append(layer(lib.zeros(1, 2)).tolist())
    before.remove()
    with layer.register_forward_hook(lambda m, args, y: (y, y)):
        results.append(len(layer(lib.zeros(1, 2))))
    return calls, results, layer(lib.ones(1, 2)).tolist()


@both
def gradients_forgotten(lib):
    layer = lib.nn.Linear(2, 1)
    layer(lib.ones(1, 2)).sum().backward()
    layer.zero_grad(set_to_none=False)
    zeros = layer.weight.grad.tolist()
    layer.zero_grad()
    layer.requires_grad_(False)
    return zeros, layer.weight.grad, layer.bias.requires_grad


@both
def copies(lib):
    layer = lib.nn.BatchNorm1d(1)
    copied = copy.deepcopy(layer)
    loss = (layer(lib.tensor([[1.0], [3.0]])) * copied.weight).sum() + (copied.bias * 7).sum()
    loss.backward()
    return (
        layer.weight.grad.tolist(), copied.weight.grad.tolist(), copied.bias.grad.tolist(),
        layer.running_mean.tolist(), copied.running_mean.tolist(),
    )  # fmt: skip


@both
def types(lib):
    net = lib.nn.Sequential(lib.nn.Linear(1, 1), lib.nn.BatchNorm1d(1)).double()
    doubles = [str(t.dtype).split(".")[-1] for t in net.state_dict().values()]
    net = net.float().cpu().to("cpu")
    return doubles, [str(t.dtype).split(".")[-1] for t in net.to(lib.float32).state_dict().values()]


@both
def misuse(lib):
    m = lib.nn
    net = m.Sequential(m.Linear(1, 1))
    for wrong, error in [
        (lambda: net.add_module("forward", m.ReLU()), KeyError),
        (lambda: net.add_module("a.b", m.ReLU()), KeyError),
        (lambda: net.register_buffer("", None), KeyError),
        (lambda: m.ModuleDict({"keys": m.ReLU()}), KeyError),
        (lambda: setattr(net, "0", 3), TypeError),
        (lambda: net.get_submodule("0.x"), AttributeError),
        (lambda: net[1], IndexError),
        (lambda: m.ModuleDict()["a"], KeyError),
        (lambda: m.Dropout(-0.1), ValueError),
        (lambda: m.functional.dropout(lib.ones(1), 1.5), ValueError),
        (lambda: m.MultiheadAttention(6, 4), (ValueError, AssertionError)),
        (lambda: m.RNN(1, 1, nonlinearity="sin"), ValueError),
        (lambda: m.LSTM(0, 1)(lib.ones(1, 1, 1)), (ValueError, RuntimeError)),
    ]:
        with pytest.raises(error):
            wrong()


@pytest.mark.parametrize("f", SAME, ids=lambda f: f.__name__)
def test_it_is_the_same_in_both(f):
    assert f(tinytorch) == f(torch)


def test_dropout_of_all():
    x = tinytorch.ones(3, requires_grad=True)
    y = nn.Dropout(1.0)(x)
    y.sum().backward()
    assert y.tolist() == x.grad.tolist() == [0, 0, 0]


def test_a_state_of_other_names_or_shapes_is_refused():
    layer = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"missing bias, unexpected bios"):
        layer.load_state_dict({"weight": layer.weight, "bios": layer.bias})
    with pytest.raises(ValueError, match=r"weight has shape \(2, 2\) here and \(2,\) in the state"):
        layer.load_state_dict({"weight": layer.bias}, strict=False)


def test_there_is_one_device():
    layer = nn.Linear(1, 1)
    assert layer.to("cpu", "float64").weight.dtype == np.float64
    assert layer.to(dtype=np.float32).weight.dtype == np.float32
    for wrong in ("cuda", np.int64):
        with pytest.raises(ValueError, match='neither a type of floats nor "cpu"'):
            layer.to(wrong)


def test_batches_are_counted_in_whole_numbers():
    norm = nn.BatchNorm1d(2)
    for _ in range(3):
        norm(tinytorch.randn(4, 2))
    assert norm.num_batches_tracked.dtype == np.int64 and norm.num_batches_tracked.item() == 3
    assert norm.double().num_batches_tracked.dtype == np.int64
