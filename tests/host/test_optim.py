import copy
import json
import math
import pickle

import numpy as np
import pytest

import tinytorch
from tests.oracles import oracle
from tinytorch import nn, optim
from tinytorch.ops import compiled
from tinytorch.optim import lr_scheduler
from tinytorch.optim.flat import LARGE
from tinytorch.optim.optimizer import BLOCK

torch = oracle("torch", "oracle")

CASES = {
    "SGD": {"lr": 0.1},
    "SGD decay": {"lr": 0.1, "weight_decay": 0.1, "maximize": True},
    "SGD momentum": {"lr": 0.1, "momentum": 0.9, "dampening": 0.3},
    "SGD nesterov": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "Adam": {"lr": 0.01},
    "Adam decay": {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1},
    "AdamW": {"lr": 0.01},
    "AdamW decay": {"lr": 0.05, "betas": (0.5, 0.7), "weight_decay": 0.3, "maximize": True},
    "AdamW amsgrad": {"lr": 0.01, "amsgrad": True, "betas": (0.8, 0.6)},
    "RMSprop": {},
    "RMSprop centered": {"lr": 0.02, "alpha": 0.8, "centered": True, "eps": 1e-3},
    "RMSprop momentum": {"lr": 0.01, "momentum": 0.8, "weight_decay": 0.1},
}
EVERY = pytest.mark.parametrize("name", CASES)
SHAPES = [(3, 4), (), (0, 2), (LARGE // 2, 2), (5,)], [(7,), (2, 1, 3)]  # of two groups


@pytest.fixture(params=["numpy", "numba"])
def kernels(request):
    before = compiled.enabled()
    compiled.enable(request.param == "numba")
    yield
    compiled.enable(before)


def make(library, name, params, **settings):
    return getattr(library, name.split()[0])(params, **{**CASES[name], **settings})


def parameters(library, dtype="float32"):
    """Two groups of parameters, the same in both libraries."""
    rng = np.random.default_rng(0)
    arrays = [[rng.normal(size=shape).astype(dtype) for shape in group] for group in SHAPES]
    return [[library.nn.Parameter(library.tensor(a)) for a in group] for group in arrays]


def give_gradients(step, *sides):
    """To some of the parameters, the same on each side: (library, groups)."""
    rng = np.random.default_rng(step)
    for i, same in enumerate(zip(*(sum(groups, []) for _, groups in sides), strict=True)):
        g = rng.normal(size=tuple(same[0].shape))
        absent = step % 4 == i or (i == 4 and step < 3)
        for (library, _), p in zip(sides, same, strict=True):
            p.grad = None if absent else library.tensor(g).to(p.dtype)


@EVERY
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_step_is_that_of_torch(name, dtype, kernels):
    tolerance = 2e-5 if dtype == "float32" else 1e-11
    sides = (tinytorch, parameters(tinytorch, dtype)), (torch, parameters(torch, dtype))
    optimizers = [
        make(library.optim, name, [{"params": a}, {"params": b, "lr": 0.03}])
        for library, (a, b) in sides
    ]
    for step in range(24):
        give_gradients(step, *sides)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.param_groups[1]["lr"] *= 0.9
        for p, q in zip(*(sum(groups, []) for _, groups in sides), strict=True):
            q = q.detach().numpy()
            assert p.dtype == q.dtype and p.shape == q.shape
            np.testing.assert_allclose(p.data, q, rtol=tolerance, atol=tolerance)
    for p, q in zip(*(sum(groups, []) for _, groups in sides), strict=True):
        theirs = optimizers[1].state[q]
        for moment in set(theirs) - {"step"}:
            if theirs[moment] is not None:
                mine = optimizers[0].state[p][moment].data
                np.testing.assert_allclose(mine, theirs[moment], rtol=1e-3, atol=1e-5)


@EVERY
def test_neighbours_change_no_bit(name, kernels):
    """Alone, or gathered with others: the same numbers come out, so that resumed runs are exact."""
    rng = np.random.default_rng(1)
    numbers = rng.normal(size=(5, BLOCK + 4001)).astype(np.float32)
    cuts = [1, 2, 65, 70, 3000, 3000 + LARGE, BLOCK - 1]
    whole = nn.Parameter(numbers[0].copy())
    parts = [nn.Parameter(a.copy()) for a in np.split(numbers[0], cuts)]
    one, many = make(optim, name, [whole]), make(optim, name, parts)
    for g in numbers[1:]:
        whole.grad = tinytorch.Tensor(g)
        for p, part in zip(parts, np.split(g, cuts), strict=True):
            p.grad = tinytorch.Tensor(part)
        one.step()
        many.step()
        assert np.concatenate([p.data for p in parts]).tobytes() == whole.data.tobytes()


def steps(optimizer, first, last):
    groups = [group["params"] for group in optimizer.param_groups]
    for step in range(first, last):
        give_gradients(step, (tinytorch, groups))
        optimizer.step()
    return [p.data.tobytes() for group in groups for p in group]


@EVERY
def test_a_state_goes_on_to_the_bit(name):
    groups = parameters(tinytorch)
    optimizer = make(optim, name, [{"params": g} for g in groups])
    steps(optimizer, 0, 5)
    optimizer.param_groups[1]["lr"] = 0.5
    state, numbers = optimizer.state_dict(), [p.data.copy() for p in sum(groups, [])]
    whole = steps(optimizer, 5, 9)
    others = parameters(tinytorch)
    other = make(optim, name, [{"params": g} for g in others], lr=9.0)
    steps(other, 20, 22)
    for p, a in zip(sum(others, []), numbers, strict=True):
        p.data[...] = a
    through_json = json.loads(json.dumps(state["param_groups"]))  # as in a checkpoint
    other.load_state_dict({**state, "param_groups": through_json})
    assert other.param_groups[1]["lr"] == 0.5
    assert steps(other, 5, 9) == whole


def test_a_state_of_something_else_is_refused():
    def adam(*shapes, **settings):
        parameters = [nn.Parameter(np.ones(shape, np.float32)) for shape in shapes]
        return optim.Adam([(f"p{i}", p) for i, p in enumerate(parameters)], **settings)

    optimizer = adam(2, 3)
    steps(optimizer, 6, 7)
    state = optimizer.state_dict()
    before = copy.deepcopy(optimizer.param_groups)
    lacking = copy.deepcopy(state)
    del lacking["state"][1]["exp_avg"]
    renamed = copy.deepcopy(state)
    renamed["param_groups"][0]["param_names"][1] = "bias"
    for wrong, sentence in [
        (optim.AdamW([nn.Parameter(1.0)]).state_dict(), "of AdamW, not of Adam"),
        (adam(2, 3, 4).state_dict(), "of 3 parameters, the optimizer has 2"),
        ({**state, "state": {7: {}}}, "of parameter 7, and there are 2"),
        ({"weight": 1}, "not the state of an optimizer, it holds weight"),
        (lacking, r"parameter 1 has shape \(3,\), its exp_avg is missing"),
        (renamed, "of bias where the optimizer has p1"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            optimizer.load_state_dict(wrong)
    other = adam(2, (3, 1))
    with pytest.raises(ValueError, match=r"has shape \(3, 1\), its exp_avg has \(3,\)"):
        other.load_state_dict(state)
    assert not other.state
    assert str(before) == str(optimizer.param_groups)


def test_data_may_be_replaced_at_any_time():
    """As by Module.to, by load_state_dict, by hand, or by another optimizer."""
    x = tinytorch.tensor(np.linspace(-1, 1, 12).reshape(4, 3))

    def train(optimizer, net, count=3):
        for _ in range(count):
            optimizer.zero_grad()
            (net(x.to(next(net.parameters()).dtype)) ** 2).sum().backward()
            optimizer.step()

    def started():
        tinytorch.manual_seed(3)
        net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
        optimizer = optim.Adam(net.parameters(), lr=0.1)
        train(optimizer, net)
        return net, optimizer

    net, optimizer = started()
    kept = {name: t.clone() for name, t in net.state_dict().items()}
    train(optimizer, net)
    first = net[0].weight.tolist()
    net, optimizer = started()
    net[0].weight.data = net[0].weight.data.copy()
    net[2].bias = nn.Parameter(net[2].bias)  # no longer the optimizer's
    left = optimizer.param_groups[0]["params"][3]
    train(optimizer, net)
    assert net[0].weight.tolist() != kept["0.weight"].tolist() and left.grad is None

    net, optimizer = started()
    second = optim.Adam(net.parameters(), lr=0.1)
    second.load_state_dict(optimizer.state_dict())
    train(second, net)
    assert net[0].weight.tolist() == first
    net.load_state_dict(kept)
    train(optimizer, net)
    assert net[0].weight.tolist() == first

    net, optimizer = started()
    net.to(np.float64)
    train(optimizer, net)
    assert net[0].weight.dtype == optimizer.state[net[0].weight]["exp_avg"].dtype == np.float64
    np.testing.assert_allclose(net[0].weight.data, first, rtol=1e-4)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_goes_on_by_itself(copied):
    optimizer = optim.Adam(parameters(tinytorch)[0])
    steps(optimizer, 0, 3)
    other = copied(optimizer)
    assert steps(other, 3, 6) == steps(optimizer, 3, 6)


def test_a_tensor_that_shares_memory_sees_the_steps():
    layer = nn.Linear(2, 2)
    optimizer = optim.SGD(layer.parameters(), lr=1.0)
    weight = layer.state_dict()["weight"]
    layer.weight.grad = tinytorch.ones(2, 2)
    optimizer.step()
    assert weight.tolist() == layer.weight.tolist()


def test_a_step_between_forward_and_backward_is_noticed():
    net = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    first, second = (net(tinytorch.ones(1, 2)).sum() for _ in range(2))
    first.backward()
    optimizer.step()
    with pytest.raises(RuntimeError, match="changed in place"):
        second.backward()


def test_groups():
    a, b, c = (nn.Parameter(np.ones(2, np.float32)) for _ in range(3))
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 1.0}], lr=0.5, momentum=0.9)
    optimizer.add_param_group({"params": [("c", c)], "weight_decay": 1.0, "name": "last"})
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 1.0, 0.5]
    assert optimizer.param_groups[2]["name"] == "last"
    assert optimizer.defaults["momentum"] == optimizer.param_groups[2]["momentum"] == 0.9
    for p in (a, b, c):
        p.grad = tinytorch.ones(2)
    assert optimizer.step(lambda: 7) == 7
    assert (a.tolist(), b.tolist(), c.tolist()) == ([0.5] * 2, [0.0] * 2, [0.0] * 2)
    optimizer.zero_grad(set_to_none=False)
    assert a.grad.tolist() == [0, 0]
    optimizer.zero_grad()
    assert a.grad is None


def test_an_optimizer_of_ones_own():
    class Signs(optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    p.data -= group["lr"] * np.sign(p.grad.data)
                    self.state[p]["count"] = self.state[p].get("count", 0) + 1

    p = nn.Parameter(np.ones(2, np.float32))
    p.grad = tinytorch.tensor([3.0, -3.0])
    optimizer = Signs([p], 0.5)
    optimizer.step()
    other = Signs([p], 0.5)
    other.load_state_dict(optimizer.state_dict())
    other.step()
    assert p.tolist() == [0, 2] and other.state[p]["count"] == 2


def test_wrong_use():
    p = nn.Parameter(np.zeros(2, np.float32))
    for kind, params, settings, sentence in [
        ("Adam", [], {}, "no parameters"),
        ("SGD", [p], {"nesterov": True}, "nesterov"),
        ("SGD", [p, p], {}, "given twice"),
        ("SGD", [{"params": [p]}, {"params": [p]}], {}, "given twice"),
        ("SGD", [p * 2], {}, "was computed"),
        ("SGD", [p], {"lr": 0}, "lr=0 is not a number above 0"),
        ("SGD", [{"params": [p], "lr": -1}], {}, "lr=-1 is not"),
        ("Adam", [p], {"lr": math.nan}, "lr=nan is not"),
        ("Adam", [p], {"lr": "big"}, "lr='big' is not"),
        ("SGD", [p], {"momentum": -0.1}, "momentum=-0.1 is not a number of 0 or above"),
        ("Adam", [p], {"eps": -1}, "eps=-1"),
        ("AdamW", [p], {"weight_decay": -1}, "weight_decay=-1"),
        ("Adam", [p], {"betas": (0.9, 1.0)}, r"betas=\(0.9, 1.0\) is not two numbers"),
        ("Adam", [p], {"betas": 0.9}, "betas=0.9 is not two numbers"),
        ("RMSprop", [p], {"alpha": 1.1}, "alpha=1.1 is not a number from 0 to 1"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            getattr(optim, kind)(params, **settings)
    for params in (p, {"params": [p]}, [np.zeros(2)]):
        with pytest.raises(TypeError, match="SGD: "):
            optim.SGD(params)
    p.grad = tinytorch.ones(2)
    p.data = np.zeros((2, 1), np.float32)
    with pytest.raises(ValueError, match=r"parameter of shape \(2, 1\) has a gradient \(2,\)"):
        optim.SGD([p]).step()


SCHEDULES = {
    "StepLR": lambda s, o: s.StepLR(o, 3, gamma=0.5),
    "MultiStepLR": lambda s, o: s.MultiStepLR(o, [4, 2, 4, 11], gamma=0.5),
    "ExponentialLR": lambda s, o: s.ExponentialLR(o, gamma=0.8),
    "ConstantLR": lambda s, o: s.ConstantLR(o, factor=0.25, total_iters=4),
    "LinearLR": lambda s, o: s.LinearLR(o, start_factor=0.1, total_iters=7),
    "LinearLR down": lambda s, o: s.LinearLR(o, 1.0, 0.0, 9),
    "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, 6, eta_min=0.01),
    "LambdaLR": lambda s, o: s.LambdaLR(o, lambda epoch: 0.95**epoch),
    "LambdaLR each": lambda s, o: s.LambdaLR(o, [lambda e: 1 / (e + 1), lambda e: min(1, e / 5)]),
    "SequentialLR": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, total_iters=5), s.CosineAnnealingLR(o, 15)], [5]
    ),
    "SequentialLR of three": lambda s, o: s.SequentialLR(
        o, [s.ConstantLR(o, 0.1, 3), s.ExponentialLR(o, 0.9), s.StepLR(o, 2)], [3, 9]
    ),
    "OneCycleLR": lambda s, o: s.OneCycleLR(o, 0.3, total_steps=24),
    "OneCycleLR linear": lambda s, o: s.OneCycleLR(
        o, [0.3, 0.7], epochs=6, steps_per_epoch=4, pct_start=0.4, anneal_strategy="linear",
        base_momentum=0.7, max_momentum=[0.9, 0.99], div_factor=10, final_div_factor=50,
    ),
    "OneCycleLR three phases": lambda s, o: s.OneCycleLR(o, 1.0, 24, three_phase=True),
    "OneCycleLR without momentum": lambda s, o: s.OneCycleLR(o, 1.0, 24, cycle_momentum=False),
}  # fmt: skip


def two_groups(library, kind, **settings):
    a, b = (library.nn.Parameter(library.zeros(1)) for _ in range(2))
    return getattr(library.optim, kind)([{"params": [a]}, {"params": [b], "lr": 0.4}], **settings)


def options(optimizer):
    """What schedules change, in all groups."""
    groups = optimizer.param_groups
    momenta = [g["betas"][0] if "betas" in g else g["momentum"] for g in groups]
    return [g["lr"] for g in groups] + momenta


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_schedules(name, kind):
    settings = {"lr": 0.1, "momentum": 0.9} if kind == "SGD" else {"lr": 0.1}
    optimizer, oracle = (two_groups(library, kind, **settings) for library in (tinytorch, torch))
    mine = SCHEDULES[name](lr_scheduler, optimizer)
    theirs = SCHEDULES[name](torch.optim.lr_scheduler, oracle)
    for epoch in range(24):
        assert options(optimizer) == pytest.approx(options(oracle), abs=1e-12)
        assert mine.get_last_lr() == pytest.approx(theirs.get_last_lr(), abs=1e-12)
        if epoch == 11:  # a new schedule goes on from the state, through JSON
            state = json.loads(json.dumps(mine.state_dict()))
            rates = json.loads(json.dumps(optimizer.state_dict()))
            optimizer = two_groups(tinytorch, kind, **settings)
            mine = SCHEDULES[name](lr_scheduler, optimizer)
            optimizer.load_state_dict(rates)
            mine.load_state_dict(state)
        for both in (oracle, theirs, optimizer, mine):
            if epoch < 23:
                both.step()


@pytest.mark.parametrize(
    "settings",
    [
        {"patience": 2},
        {"patience": 0, "factor": 0.5, "cooldown": 2, "threshold": 0.1},
        {"mode": "max", "patience": 1, "threshold_mode": "abs", "threshold": 0.2},
        {"mode": "max", "patience": 1, "min_lr": [0.05, 0.1], "factor": 0.5},
        {"patience": 0, "factor": 0.9, "eps": 0.02, "threshold_mode": "abs"},
    ],
)
def test_reduce_on_plateau(settings):
    optimizer, oracle = (two_groups(library, "SGD", lr=0.1) for library in (tinytorch, torch))
    mine = lr_scheduler.ReduceLROnPlateau(optimizer, **settings)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(oracle, **settings)
    rng = np.random.default_rng(0)
    for epoch in range(40):
        metric = abs(float(rng.normal())) * 0.9**epoch
        mine.step(tinytorch.tensor(metric) if epoch % 2 else metric)
        theirs.step(torch.tensor(metric) if epoch % 2 else metric)
        assert options(optimizer) == pytest.approx(options(oracle), abs=1e-12)
        assert mine.get_last_lr() == [g["lr"] for g in optimizer.param_groups]
        if epoch == 13:
            state = json.loads(json.dumps(mine.state_dict()))
            mine = lr_scheduler.ReduceLROnPlateau(optimizer, patience=99)
            mine.load_state_dict(state)
    assert optimizer.param_groups[1]["lr"] < 0.4


def test_schedules_take_turns():
    optimizer, oracle = (two_groups(library, "SGD", lr=0.1) for library in (tinytorch, torch))
    sides = (lr_scheduler, optimizer), (torch.optim.lr_scheduler, oracle)
    pairs = [
        [s.ConstantLR(o, 0.1, 2), s.ExponentialLR(o, 0.9), s.CosineAnnealingLR(o, 5)]
        for s, o in sides
    ]
    for _ in range(20):
        assert options(optimizer) == pytest.approx(options(oracle), rel=1e-9)
        oracle.step()
        for schedules in pairs:
            for schedule in schedules:
                schedule.step()


def test_a_schedule_of_ones_own():
    class Root(lr_scheduler.LRScheduler):
        def get_lr(self):
            return [base / math.sqrt(self.last_epoch + 1) for base in self.base_lrs]

    optimizer = two_groups(tinytorch, "SGD", lr=0.1)
    schedule = Root(optimizer)
    for _ in range(3):
        schedule.step()
    assert schedule.get_last_lr() == [0.05, 0.2]


def test_wrong_schedules():
    optimizer = two_groups(tinytorch, "SGD", lr=0.1)
    s = lr_scheduler
    for wrong, sentence in [
        (lambda: s.StepLR(optimizer, 0), "step_size=0"),
        (lambda: s.CosineAnnealingLR(optimizer, 0), "T_max=0"),
        (lambda: s.ConstantLR(optimizer, 0), "factor=0"),
        (lambda: s.LinearLR(optimizer, 0), "start_factor=0"),
        (lambda: s.LinearLR(optimizer, 1, 2), "end_factor=2"),
        (lambda: s.LambdaLR(optimizer, [abs]), "1 functions for 2 groups"),
        (lambda: s.OneCycleLR(optimizer, 0.1), "total_steps, or epochs and steps_per_epoch"),
        (lambda: s.OneCycleLR(optimizer, 0.1, 0), "total_steps=0"),
        (lambda: s.OneCycleLR(optimizer, 0.1, 5, pct_start=2), "pct_start=2"),
        (lambda: s.OneCycleLR(optimizer, 0.1, 5, anneal_strategy="no"), "anneal_strategy='no'"),
        (lambda: s.OneCycleLR(optimizer, [0.1], 5), "max_lr: 1 numbers for 2 groups"),
        (lambda: s.ReduceLROnPlateau(optimizer, factor=1), "factor=1"),
        (lambda: s.ReduceLROnPlateau(optimizer, mode="low"), "mode='low'"),
        (lambda: s.ReduceLROnPlateau(optimizer, threshold_mode="x"), "threshold_mode='x'"),
        (lambda: s.ReduceLROnPlateau(optimizer, min_lr=[0]), "min_lr: 1 numbers for 2"),
        (lambda: s.SequentialLR(optimizer, [s.StepLR(optimizer, 1)], [1]), "need 0 milestones"),
        (
            lambda: s.SequentialLR(optimizer, [s.ReduceLROnPlateau(optimizer)], []),
            "ReduceLROnPlateau wants a metric",
        ),
        (
            lambda: s.SequentialLR(
                optimizer, [s.StepLR(two_groups(tinytorch, "SGD", lr=1), 1)], []
            ),
            "another optimizer",
        ),
        (
            lambda: s.StepLR(optimizer, 1).load_state_dict(
                s.ExponentialLR(optimizer, 1).state_dict()
            ),
            "of ExponentialLR, not of StepLR",
        ),
    ]:
        with pytest.raises(ValueError, match=sentence):
            wrong()
    schedule = s.OneCycleLR(optimizer, 0.1, 2)
    with pytest.raises(ValueError, match="step 3, and there are to be 2"):
        for _ in range(3):
            schedule.step()


@pytest.mark.parametrize("norm_type", [2.0, 1, 3.5, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_gradients_are_clipped_by_norm_as_torch_does(norm_type, max_norm):
    sides = [
        (library, [p for group in parameters(library) for p in group if p.numel()])
        for library in (tinytorch, torch)
    ]
    give_gradients(5, *((library, [params]) for library, params in sides))
    norms = [
        library.nn.utils.clip_grad_norm_(params, max_norm, norm_type) for library, params in sides
    ]
    assert norms[0].dtype == np.float32
    assert norms[0].item() == pytest.approx(norms[1].item(), rel=1e-5)
    for p, q in zip(sides[0][1], sides[1][1], strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            np.testing.assert_allclose(p.grad.data, q.grad.numpy(), rtol=1e-5)


def test_gradients_are_clipped():
    a, b = (nn.Parameter(np.ones((2, 2), np.float32)) for _ in range(2))
    for norm_type in (1, 2, math.inf):
        assert nn.utils.clip_grad_norm_([a, b], 1.0, norm_type).item() == 0
    a.grad = tinytorch.tensor([[3.0, 0.0], [-4.0, 0.0]])
    nn.utils.clip_grad_value_([a, b], 3.5)
    assert a.grad.tolist() == [[3, 0], [-3.5, 0]] and b.grad is None
    a.grad = tinytorch.tensor([[3.0, 4.0], [0.0, 0.0]]).T  # not in its order in memory
    assert nn.utils.clip_grad_norm_(a, 1.0).item() == 5
    np.testing.assert_allclose(a.grad.data, [[0.6, 0], [0.8, 0]], rtol=1e-6)
    a.grad = tinytorch.tensor([[np.inf, 0.0], [0.0, 0.0]])
    with pytest.raises(RuntimeError, match="norm of the gradients is inf"):
        nn.utils.clip_grad_norm_([a], 1.0, error_if_nonfinite=True)
    assert a.grad.data[0, 0] == np.inf


def test_parameters_in_one_row():
    layer, other = nn.Linear(3, 2), nn.Linear(3, 2)
    row = nn.utils.parameters_to_vector(layer.parameters())
    assert row.shape == (8,) and row.requires_grad
    nn.utils.vector_to_parameters(row, other.parameters())
    assert other.weight.tolist() == layer.weight.tolist()
    assert other.bias.tolist() == layer.bias.tolist()
    with pytest.raises(ValueError, match=r"vector \(9,\) does not fill parameters of 8"):
        nn.utils.vector_to_parameters(tinytorch.zeros(9), other.parameters())
