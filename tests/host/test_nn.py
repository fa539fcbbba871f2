"""The same layers three times: on the shared Tensor, on the laptop's, and PyTorch's own."""

import numpy as np
import pytest

import tinytorch
from tests.host.gradients import check
from tests.oracles import oracle
from tinytorch import nn
from tinytorch.autograd import Tensor
from tinytorch_core import nn as shared
from tinytorch_core.tensor import tensor as shared_tensor

torch = oracle("torch", "oracle")

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
    "Flatten": (lambda m: m.Flatten(), (2, 3, 4)),
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


def test_losses_are_modules():
    x, target = tinytorch.randn(3, 4), tinytorch.tensor([0, 3, 1])
    expected = torch.nn.CrossEntropyLoss()(torch.tensor(x.numpy()), torch.tensor(target.numpy()))
    assert nn.CrossEntropyLoss()(x, target).item() == pytest.approx(expected.item(), rel=1e-6)
    assert nn.MSELoss()(x, x + 2).item() == pytest.approx(4)
