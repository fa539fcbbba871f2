"""Code as PyTorch's users write it: unchanged but for the import, with the same results.

Every snippet takes the library as `torch` and returns numbers; it sets the weights that it needs.
"""

import pytest

import tinytorch
from tests.oracles import oracle

SNIPPETS = []


def snippet(f):
    SNIPPETS.append(f)
    return f


def numbers(torch, *shape):
    """Different ones, from -0.5 up to 0.5."""
    flat = torch.ones(shape).numel()
    return torch.tensor([7 * i % 11 / 11 - 0.5 for i in range(flat)]).reshape(shape)


def set_weights(torch, net):
    """The same weights in both libraries."""
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(numbers(torch, *p.shape))


@snippet
def gradients_by_hand(torch):
    w = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    b = torch.zeros(1, requires_grad=True)
    for _ in range(3):
        loss = ((w * 2 + b - torch.tensor([1.0, 2.0, 3.0])) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            w -= 0.1 * w.grad
            b -= 0.1 * b.grad
        w.grad.zero_()
        b.grad.zero_()
    return w.tolist(), b.tolist(), w.grad.tolist(), loss.item()


@snippet
def a_training_loop(torch):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1 = torch.nn.Linear(2, 8)
            self.relu = torch.nn.ReLU()
            self.fc2 = torch.nn.Linear(8, 2)

        def forward(self, x):
            return self.fc2(self.relu(self.fc1(x)))

    net = Net()
    set_weights(torch, net)
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = torch.tensor([0, 1, 1, 0])
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    criterion = torch.nn.CrossEntropyLoss()
    losses = []
    net.train()
    for _ in range(30):
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    net.eval()
    with torch.no_grad():
        predicted = net(x).argmax(1)
    accuracy = (predicted == y).sum().item() / len(y)
    return losses, accuracy, [name for name, _ in net.named_parameters()]


@snippet
def a_residual_connection(torch):
    conv = torch.nn.Conv1d(2, 2, 3, padding=1)
    norm = torch.nn.BatchNorm1d(2)
    set_weights(torch, conv)
    x = numbers(torch, 3, 2, 4)
    out = norm(conv(x))
    out += x
    total = torch.zeros(1)
    total += (out * out).mean()
    total.backward()
    return out.detach().tolist(), conv.weight.grad.tolist(), norm.bias.grad.tolist()


@snippet
def layers_that_share_weights(torch):
    layer = torch.nn.Linear(3, 3)
    net = torch.nn.Sequential(layer, torch.nn.ReLU(), layer)
    set_weights(torch, layer)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.ones(2, 3)).sum().backward()
        optimizer.step()
    return len(list(net.parameters())), list(net.state_dict()), layer.weight.tolist()


@snippet
def parameters_replaced(torch):
    layer = torch.nn.Linear(2, 2)
    set_weights(torch, layer)
    layer.weight = torch.nn.Parameter(torch.ones(2, 2))
    layer.bias = None
    with pytest.raises(TypeError):
        layer.weight = torch.ones(2, 2)
    return list(layer.state_dict()), layer(torch.ones(1, 2)).tolist()


@snippet
def shapes_and_types(torch):
    x = torch.zeros((2, 3, 4)) + torch.ones(3, 1)
    ints = torch.tensor([1, 2, 3])
    halves = ints * 0.5
    assert halves.dtype == (ints / 2).dtype == (x * ints.reshape(3, 1)).dtype == torch.float32
    assert ints.clone().dtype == torch.int64 and x.to(torch.float64).dtype == torch.float64
    w = torch.tensor([1.5, 2.5], requires_grad=True)
    (w.to(torch.float64) * 3).sum().backward()
    assert w.grad.dtype == torch.float32 and not w.to(torch.int64).requires_grad
    return (
        list(x.permute((2, 0, 1)).shape), list(x.flatten(1).shape), list(x.reshape((4, -1)).shape),
        list(torch.tensor(2.0).flatten().shape), halves.tolist(), w.grad.tolist(),
    )  # fmt: skip


@snippet
def batches_of_nothing(torch):
    x = torch.zeros(0, 2, 9)
    net = torch.nn.Sequential(
        torch.nn.Conv1d(2, 4, 3), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.MaxPool1d(2),
        torch.nn.Conv1d(4, 4, 2, groups=4), torch.nn.Flatten(), torch.nn.Linear(8, 3),
    ).eval()  # fmt: skip
    return list(net(x).shape), list(x.sum(0).shape), x.sum().item()


@snippet
def functions_without_gradients(torch):
    w = torch.ones(2, requires_grad=True)

    @torch.no_grad()
    def norm(t, depth):
        return norm(t, depth - 1) if depth else (t * t).sum()

    inside = norm(w, 3)
    after = (w * w).sum()
    return inside.requires_grad, after.requires_grad, torch.is_grad_enabled()


@snippet
def misuse(torch):
    with pytest.raises((RuntimeError, TypeError)):  # integers have no gradients
        torch.tensor([1, 2], requires_grad=True)
    w = torch.tensor([1.0], requires_grad=True)
    with pytest.raises(RuntimeError):  # a leaf changes only without recording
        w += 1
    with pytest.raises(RuntimeError):
        w += w * 2
    with pytest.raises(ValueError):
        torch.optim.SGD([w * 2], lr=0.1)
    with pytest.raises((TypeError, ValueError)):
        torch.optim.SGD(torch.nn.Parameter(torch.ones(2, 2)), lr=0.1)
    with pytest.raises(RuntimeError):
        w.numpy()

    class Forgetful(torch.nn.Module):
        def __init__(self):
            self.layer = torch.nn.Linear(1, 1)

    with pytest.raises(AttributeError, match=r"__init__\(\)"):
        Forgetful()
    return w.tolist()


@snippet
def tensors_of_tensors(torch):
    one = torch.tensor([1.0, 2.0])
    copy = torch.tensor(one.tolist())
    rows = torch.stack([one, copy * 2])
    both = torch.cat([rows, rows[:1]], dim=0)
    one += 1
    return rows.tolist(), both.tolist(), [t.tolist() for t in both], one.numpy().tolist()


@pytest.mark.parametrize("f", SNIPPETS, ids=lambda f: f.__name__)
def test_it_runs_in_both(f):
    ours, theirs = f(tinytorch), f(oracle("torch", "oracle"))
    assert flat(ours) == pytest.approx(flat(theirs), rel=1e-4, abs=1e-5)


def flat(result):
    if isinstance(result, (list, tuple)):
        return [number for part in result for number in flat(part)]
    return [hash(result) if isinstance(result, str) else result]


def test_a_state_dict_goes_through_a_file(tmp_path):
    for torch in (tinytorch, oracle("torch", "oracle")):
        net, other = (torch.nn.Linear(3, 2) for _ in range(2))
        torch.save(net.state_dict(), tmp_path / "net")
        other.load_state_dict(torch.load(tmp_path / "net"))
        assert other.weight.tolist() == net.weight.tolist()


def test_the_same_seed_gives_the_same_weights():
    for torch in (tinytorch, oracle("torch", "oracle")):
        torch.manual_seed(7)
        first = torch.nn.Linear(3, 2).weight.tolist(), torch.randn(2).tolist()
        torch.manual_seed(7)
        assert (torch.nn.Linear(3, 2).weight.tolist(), torch.randn(2).tolist()) == first
