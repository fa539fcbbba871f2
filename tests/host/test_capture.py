"""The captured step equals the tape to the bit, and runs the user's code once a step."""

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor, nn, optim
from tinytorch.nn import functional as F
from tinytorch.train.capture import Step

STEPS = 6


def batch(shape, classes=4, n=8, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, *shape)).astype(np.float32)
    return Tensor(x), Tensor(rng.integers(0, classes, n))


def steps(make, shape, capture, n=STEPS, before=None, **settings):
    """Train afresh; the losses and the state_dict at the end, and the Step."""
    tinytorch.manual_seed(3)
    net = make()
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    step = Step(net, F.cross_entropy, capture=capture)
    losses = []
    for i in range(n):
        if before is not None:
            before(i, net)
        inputs, targets = batch(shape, seed=i, **settings)
        optimizer.zero_grad()
        _, loss = step.forward(inputs, targets)
        losses.append(loss.item())
        step.backward()
        optimizer.step()
    return losses, net, step


def same(make, shape, **settings):
    """Both ways; returns the net and the Step of the captured one."""
    losses, net, step = steps(make, shape, True, **settings)
    expected, taped, plain = steps(make, shape, False, **settings)
    assert losses == expected
    assert plain.replayed == 0
    for (name, ours), theirs in zip(
        net.state_dict().items(), taped.state_dict().values(), strict=True
    ):
        np.testing.assert_array_equal(ours.data, theirs.data, err_msg=name)
    return net, step


def mlp():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 4))


def cnn():
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(), nn.Conv2d(8, 4, 1, stride=2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


def conv1d():
    return nn.Sequential(
        nn.Conv1d(3, 8, 5, padding=2), nn.ReLU(), nn.AvgPool1d(2), nn.BatchNorm1d(8), nn.ReLU(),
        nn.Flatten(), nn.Linear(48, 4),
    )  # fmt: skip


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = nn.Linear(3, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.layer(self.inside(x)).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(3, 8, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        outputs, _ = self.gru(x)
        return self.head(outputs[:, -1])


class Shared(nn.Module):
    """A weight that is used twice, a residual, numbers beside tensors."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 6)
        self.gain = nn.Parameter(tinytorch.ones(1))
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        y = self.a(x).relu()
        y = y + self.a(y) * self.gain / 2 + 1
        return self.head(y) + self.a.weight.sum() * 0.1


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (mlp, (6,)), (cnn, (2, 8, 8)), (conv1d, (3, 12)), (Encoder, (5, 3)),
        (Recurrent, (5, 3)), (Shared, (6,)),
    ],
)  # fmt: skip
def test_replay_equals_the_tape(make, shape):
    _, step = same(make, shape)
    assert step.replayed == STEPS - 1


class Counting(nn.Module):
    """Code of a user whose way depends on what only the user knows."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 16)
        self.b = nn.Linear(16, 4)
        self.calls = 0

    def way(self, y):
        raise NotImplementedError

    def forward(self, x):
        self.calls += 1
        return self.b(self.way(self.a(x)))


class EveryThird(Counting):
    def way(self, y):
        return y.relu() if self.calls % 3 else y * 2


class ByItsNumbers(Counting):
    def way(self, y):
        return y.relu() if y.mean().item() > 0 else y.tanh()


class ByComparison(Counting):
    def way(self, y):
        return y.relu() if (y > 0).sum() > 60 else y.tanh()


class InNumpy(Counting):
    def way(self, y):
        return y * Tensor(np.sign(np.asarray(y.detach())))


class WithNoise(Counting):
    def way(self, y):
        return (y + tinytorch.randn(16)).relu()


class InPlace(Counting):
    def way(self, y):
        with tinytorch.no_grad():
            self.a.bias *= 0.5
        return y.relu()


class Frozen(Counting):
    def way(self, y):
        with tinytorch.no_grad():
            scale = y.exp().sum()
        return y / scale


class Growing(Counting):
    def way(self, y):
        for _ in range(self.calls):
            y = y.relu() * 0.9
        return y


@pytest.mark.parametrize(
    "make",
    [EveryThird, ByItsNumbers, ByComparison, InNumpy, WithNoise, InPlace, Frozen, Growing],
)
def test_control_flow_may_change(make):
    net, _ = same(make, (6,))
    assert net.calls == STEPS


def test_what_is_replayed_again():
    _, step = same(WithNoise, (6,))
    assert step.replayed == STEPS - 1  # fresh numbers in a constant's place are no change
    _, step = same(Frozen, (6,))
    assert step.replayed == STEPS - 1
    _, step = same(EveryThird, (6,), n=12)
    assert 0 < step.replayed < 11
    _, step = same(ByItsNumbers, (6,))
    assert step.replayed == 0


def test_it_gives_up_on_what_never_repeats():
    _, net, step = steps(Growing, (6,), True, n=30)
    assert step.replayed == 0 and net.calls == 30
    assert all(plan is None for plan in step._plans.values())


def test_batches_of_several_shapes():
    losses = {}
    for capture in (True, False):
        tinytorch.manual_seed(0)
        net = mlp()
        step = Step(net, F.cross_entropy, capture=capture)
        losses[capture] = []
        for i in range(9):
            inputs, targets = batch((6,), n=8 if i % 3 else 5, seed=i)
            losses[capture].append(step.forward(inputs, targets)[1].item())
            step.backward()
    assert losses[True] == losses[False]
    assert step.replayed == 0


def test_what_changes_between_steps():
    def freeze(i, net):
        net[0].requires_grad_(i < 2 or i > 4)

    same(mlp, (6,), before=freeze, n=8)

    def retune(i, net):
        net[2].p = 0.1 * i

    same(mlp, (6,), before=retune)

    def replace(i, net):
        if i == 3:
            net[1] = nn.Tanh()

    same(mlp, (6,), before=replace)

    def mode(i, net):
        net[1].train(i % 2 == 0)

    same(cnn, (2, 8, 8), before=mode)


def test_gradients_accumulate_and_scale():
    grads = {}
    for capture in (True, False):
        tinytorch.manual_seed(0)
        net = Shared()
        step = Step(net, F.cross_entropy, capture=capture)
        for i in range(4):
            step.forward(*batch((6,), seed=i))
            step.backward(0.25)
        grads[capture] = [p.grad.data for p in net.parameters()]
    for ours, theirs in zip(grads[True], grads[False], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_gradients_are_nobody_elses():
    class Sums(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(tinytorch.zeros(8, 4))
            self.b = nn.Parameter(tinytorch.zeros(8, 4))

        def forward(self, x):
            return x + (self.a + self.b)

    net = Sums()
    step = Step(net, lambda outputs, targets: F.cross_entropy(outputs, targets) + self_loss(net))
    for i in range(3):
        inputs, targets = batch((4,), seed=i)
        net.zero_grad()
        step.forward(inputs, targets)
        step.backward()
        for p in net.parameters():
            assert p.grad.data.flags.writeable
        assert not np.may_share_memory(net.a.grad.data, net.b.grad.data)
        np.testing.assert_array_equal(net.a.grad.data, net.b.grad.data)
    assert step.replayed == 2


def self_loss(net):
    """An expression whose last operation is not the loss itself."""
    total = (net.a.sum() + net.b.sum()) * 0.01
    net.a * 2  # computed, and used by nobody
    return total


def test_what_the_user_keeps_stays():
    class Keeping(Counting):
        def __init__(self):
            super().__init__()
            self.kept = []

        def way(self, y):
            self.kept.append((y, y.relu()))
            return self.kept[-1][1]

    net, step = same(Keeping, (6,))
    assert step.replayed == STEPS - 1
    for before, after in net.kept:
        np.testing.assert_array_equal(np.maximum(before.data, 0), after.data)
    means = {float(before.data.mean()) for before, _ in net.kept}
    assert len(means) == STEPS


def test_outputs_stay_after_later_steps():
    tinytorch.manual_seed(0)
    step = Step(mlp().eval(), F.cross_entropy)
    outputs, copies = [], []
    for i in range(4):
        outputs.append(step.forward(*batch((6,), seed=i))[0])
        copies.append(outputs[-1].data.copy())
    for kept, copy in zip(outputs, copies, strict=True):
        np.testing.assert_array_equal(kept.data, copy)


def test_an_error_within_a_step_leaves_nothing_behind():
    step = Step(mlp(), F.cross_entropy)
    inputs, targets = batch((6,))
    for _ in range(3):
        step.forward(inputs, targets)
    net = step.net
    step.net = lambda x: net(x)[:, :2].reshape(7)
    step.net.training = True
    with pytest.raises(ValueError, match="reshape"):
        step.forward(inputs, targets)
    assert (Tensor(np.ones(2)) + 1).tolist() == [2, 2]
    step.net = net
    assert step.forward(inputs, targets)[1].item() > 0


def test_backward_needs_a_forward():
    step = Step(mlp(), F.cross_entropy)
    with pytest.raises(RuntimeError, match="call forward first"):
        step.backward()
    for _ in range(3):
        _, loss = step.forward(*batch((6,)))
        step.backward()
        with pytest.raises(RuntimeError, match="once for each"):
            step.backward()
    with pytest.raises(RuntimeError, match="captured"):
        loss.backward()
