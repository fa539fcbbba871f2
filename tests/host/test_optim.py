import numpy as np
import pytest

import tinytorch
from tests.oracles import oracle
from tinytorch import nn, optim

torch = oracle("torch", "oracle")

CASES = {
    "SGD": {"lr": 0.1},
    "SGD momentum": {"lr": 0.1, "momentum": 0.9, "dampening": 0.3},
    "SGD nesterov": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "Adam": {"lr": 0.01},
    "Adam decay": {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1},
}


@pytest.mark.parametrize("name", CASES)
def test_each_step_is_that_of_torch(name):
    kind = name.split()[0]
    rng = np.random.default_rng(0)
    starts = rng.normal(size=(3, 4)), rng.normal(size=5)
    ours = [nn.Parameter(s.copy()) for s in starts]
    theirs = [torch.nn.Parameter(torch.tensor(s)) for s in starts]
    mine = getattr(optim, kind)(ours, **CASES[name])
    oracle = getattr(torch.optim, kind)(theirs, **CASES[name])
    for step in range(8):
        for p, q in zip(ours, theirs, strict=True):
            g = rng.normal(size=p.shape)
            skip = step == 3 and p is ours[1]  # a parameter without a gradient stays
            p.grad = None if skip else tinytorch.tensor(g)
            q.grad = None if skip else torch.tensor(g)
        mine.step()
        oracle.step()
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_a_state_dict_carries_on(name):
    make = getattr(optim, name.split()[0])

    def steps(parameter, optimizer, count):
        for _ in range(count):
            parameter.grad = tinytorch.Tensor(np.sin(parameter.data * 7))
            optimizer.step()

    whole = nn.Parameter(np.arange(4.0))
    optimizer = make([whole], **CASES[name])
    steps(whole, optimizer, 3)
    state, copy = optimizer.state_dict(), nn.Parameter(whole.data.copy())
    steps(whole, optimizer, 3)
    other = make([copy], **{**CASES[name], "lr": 9.0})
    other.load_state_dict(state)
    steps(copy, other, 3)
    assert copy.tolist() == whole.tolist()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("StepLR", {"step_size": 3, "gamma": 0.5}),
        ("CosineAnnealingLR", {"T_max": 10, "eta_min": 0.01}),
    ],
)
def test_schedules(kind, settings):
    optimizer = optim.SGD([nn.Parameter(np.zeros(1))], lr=0.4)
    oracle = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    mine = getattr(optim.lr_scheduler, kind)(optimizer, **settings)
    theirs = getattr(torch.optim.lr_scheduler, kind)(oracle, **settings)
    for _ in range(10):
        assert optimizer.lr == pytest.approx(oracle.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        oracle.step()
        mine.step()
        theirs.step()


def test_zero_grad_and_wrong_use():
    p = nn.Parameter(np.zeros(1))
    p.grad = tinytorch.ones(1)
    optim.SGD([p]).zero_grad()
    assert p.grad is None
    with pytest.raises(ValueError, match="no parameters"):
        optim.Adam([])
    with pytest.raises(ValueError, match="nesterov"):
        optim.SGD([p], nesterov=True)
    with pytest.raises(ValueError, match="1 parameters, the optimizer has 2"):
        optim.SGD([p, p]).load_state_dict(optim.SGD([p]).state_dict())
