"""Code as PyTorch's users write it.

test_pytorch_code.py runs this file twice, as it stands and with tinytorch imported instead, and
compares what each function returns. A function sets the weights that it needs, as the two start
from other random numbers.
"""

import math
import tempfile
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.nn.utils import clip_grad_norm_, clip_grad_value_, parameters_to_vector
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    Subset,
    TensorDataset,
    random_split,
)


def _numbers(*shape):
    """Different ones, from -0.5 up to 0.5."""
    count = math.prod(shape)
    return torch.tensor([7 * i % 11 / 11 - 0.5 for i in range(count)]).reshape(shape)


def _set_weights(module):
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(_numbers(*p.shape))
    return module


def _classes(count, classes):
    return torch.tensor([i * i % classes for i in range(count)])


def _fit(net, optimizer, x, y, steps=5, loss_fn=F.cross_entropy, scheduler=None):
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_fn(net(x), y)
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        losses.append(loss.item())
    return losses


# Tensors.


def making_tensors():
    x = torch.tensor([[1, 2], [3, 4]])
    like = torch.zeros_like(x), torch.ones_like(x, dtype=torch.float32), torch.full_like(x, 7)
    ranges = torch.arange(5), torch.arange(1, 2, 0.25), torch.linspace(0, 1, 5), torch.eye(3)
    types = torch.tensor(1.5), torch.tensor(True), torch.tensor([1, 2.5]), torch.full((2,), 3)
    return x, like, ranges, types, torch.empty(2, 0), torch.zeros(2, 3, dtype=torch.int64)


def types_of_results():
    i, f, d, b = (
        torch.tensor([1, 2, 3]), torch.tensor([0.5, 1.5, 2.5]),
        torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), torch.tensor([True, False, True]),
    )  # fmt: skip
    return (
        i + 1, i + 1.0, i / 2, i // 2, i % 2, i * f, f * d, f + 1, b + i, i**2, -i, i.float() / 3,
        f.long(), f.double(), b.int(), i.bool(), f > 1, i == 2, f.to(torch.float64), i.sum(),
        f.mean(), b.sum(), (f > 1) & b, ~b,
    )  # fmt: skip


def broadcasting():
    column, row = torch.arange(3.0).reshape(3, 1), torch.arange(4.0)
    scalar = torch.tensor(2.0, requires_grad=True)
    table = (column * 10 + row) * scalar
    table.mean().backward()
    with pytest.raises((RuntimeError, ValueError)):
        torch.zeros(3, 2) + torch.zeros(4, 2)
    return table, scalar.grad, column.expand(3, 2), (column - row).shape


def indexing():
    x = _numbers(4, 5, 6).requires_grad_()
    rows = torch.tensor([0, 3, 3])
    picked = x[rows, 1:4, -1]
    masked = x[x > 0.3]
    (picked.sum() * 2 + masked.sum() + x[1, ..., None, ::2].sum() + x[-1].sum()).backward()
    y = torch.zeros(3, 4)
    y[0] = 1
    y[:, 2] = torch.tensor([5.0, 6.0, 7.0])
    y[y > 5.5] = -1
    y[torch.tensor([1, 2]), torch.tensor([0, 1])] += 9
    return picked, masked.shape, x.grad, y, x[2, 3, 4].item()


def shapes():
    x = torch.arange(24).reshape(2, 3, 4)
    return (
        x.view(6, -1), x.permute(2, 0, 1), x.transpose(0, 2).shape, x.flatten(1), x.size(),
        x.unsqueeze(1).shape, x[:1].squeeze(0), x.size(-1), x.dim(), x.numel(), x[0].T,
        x.reshape(4, 6).t(), torch.cat([x, x], dim=1).shape, torch.stack([x, x], dim=-1).shape,
        [part.shape for part in x.split(2, dim=2)], [part.shape for part in torch.chunk(x, 3, 1)],
        x.repeat(1, 2, 1).shape, torch.flip(x, (2,)), x.narrow(2, 1, 2), x[0].tolist(),
    )  # fmt: skip


def reductions():
    x = _numbers(3, 4, 5)
    values, indices = x.max(dim=1)
    return (
        x.sum(), x.sum(dim=(0, 2)), x.mean(-1, keepdim=True), x.std(), x.var(dim=0),
        x.var(dim=1, unbiased=False), x.max(), x.min(dim=2).values, values, indices, x.argmax(),
        x.argmin(dim=-1), x.prod(dim=0), (x > 0).any(), (x > -1).all(), x.abs().sum(1).norm(),
        torch.logsumexp(x, dim=2), x.cumsum(dim=1), x.topk(2, dim=1).values, x.sort(dim=2)[0],
    )  # fmt: skip


def functions_of_elements():
    x = _numbers(4, 5).requires_grad_()
    y = torch.exp(x) + torch.log(x + 1) + (x + 1).sqrt() + torch.tanh(x)
    y = y + torch.sigmoid(x) * torch.abs(x) + torch.clamp(x, -0.2, 0.3) + torch.sin(x) * x.cos()
    y = y + torch.where(x > 0, x, 0.1 * x) + torch.maximum(x, -x) + x.pow(3) + x.square().neg()
    y = y + torch.relu(x) + x.clamp(min=0.1) + torch.minimum(x, torch.zeros(1)) + (x + 1).rsqrt()
    y.sum().backward()
    return y, x.grad, torch.round(x * 10), torch.floor(x * 10), torch.sign(x)


def products_of_matrices():
    a, b = _numbers(2, 3, 4).requires_grad_(), _numbers(4, 5).requires_grad_()
    v = _numbers(4)
    c = a @ b
    d = torch.einsum("bij,jk->bik", a, b)
    e = torch.einsum("bij,bij->b", a, a)
    f = torch.matmul(a, v) + torch.bmm(a, a.transpose(1, 2)).sum(-1)
    (c.sum() + (d * d).sum() + e.sum() + f.sum()).backward()
    return c, d, e, f, a.grad, b.grad, v.dot(v), torch.outer(v, v)


def in_place_rules():
    w = torch.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError):
        w += 1
    with pytest.raises(RuntimeError):
        w.add_(1)
    y = w * 2
    z = y * y
    y += 1
    with pytest.raises(RuntimeError):
        z.sum().backward()
    with torch.no_grad():
        w += 1
        w.mul_(2)
        w[0] = 5
    x = torch.zeros(4)
    x.add_(2).mul_(3).sub_(1).clamp_(max=4)
    x.fill_(1.5)
    copy = torch.zeros(4)
    copy.copy_(x)
    return w, x, copy, y.detach()


# Gradients.


def gradients_by_hand():
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
    return w, b, w.grad, loss.item()


def gradients_without_backward():
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = (x**3).sum()
    (first,) = torch.autograd.grad(y, x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    unused = torch.ones(1, requires_grad=True)
    nothing = torch.autograd.grad((x * 2).sum(), [x, unused], allow_unused=True)
    return first, second, nothing[0], nothing[1] is None, x.grad is None


def a_penalty_on_gradients():
    net = _set_weights(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)))
    x = _numbers(5, 3).requires_grad_()
    (slopes,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    penalty = ((slopes.norm(2, dim=1) - 1) ** 2).mean()
    penalty.backward()
    return penalty, [p.grad for p in net.parameters() if p.grad is not None]


def gradients_of_vectors():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    y.backward(torch.tensor([1.0, 0.5]), retain_graph=True)
    y.backward(torch.ones(2))
    with pytest.raises(RuntimeError):
        y.sum().backward()
    with pytest.raises(RuntimeError):
        (x * 2).backward()
    return x.grad


def hooks_on_tensors():
    seen = []
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    y.retain_grad()
    handle = y.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: seen.append(g.tolist()))
    (y**2).sum().backward()
    handle.remove()
    return x.grad, y.grad, seen


def hooks_on_modules():
    shapes = []
    net = _set_weights(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    handles = [
        layer.register_forward_hook(lambda module, args, output: shapes.append(output.shape))
        for layer in net
    ]
    net[1].register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    out = net(_numbers(5, 3))
    for handle in handles:
        handle.remove()
    net(_numbers(5, 3))
    return out, shapes


def what_is_recorded():
    w = torch.ones(2, requires_grad=True)

    @torch.no_grad()
    def norm(t, depth):
        return norm(t, depth - 1) if depth else (t * t).sum()

    with torch.no_grad():
        inside = w * 2
        with torch.enable_grad():
            again = w * 2
    detached = (w * 2).detach()
    with pytest.raises(RuntimeError):
        w.numpy()
    with pytest.raises((RuntimeError, TypeError)):
        torch.tensor([1, 2], requires_grad=True)
    return (
        inside.requires_grad, again.requires_grad, detached.requires_grad, norm(w, 3).requires_grad,
        (w * w).requires_grad, w.is_leaf, (w * w).is_leaf, torch.is_grad_enabled(),
    )  # fmt: skip


def checkpoints_of_gradients():
    from torch.utils.checkpoint import checkpoint

    net = _set_weights(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)))
    x = _numbers(5, 3).requires_grad_()
    checkpoint(net, x, use_reentrant=False).sum().backward()
    return x.grad, [p.grad for p in net.parameters()]


# Modules.


class _Block(nn.Module):
    def __init__(self, width, scale=1.0):
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.gain = nn.Parameter(torch.full((width,), scale))
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return x + self.gain * F.relu(self.linear(x))


class _Stack(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.blocks = nn.ModuleList(_Block(4) for _ in range(depth))
        self.heads = nn.ModuleDict({"a": nn.Linear(4, 2), "b": nn.Linear(4, 3, bias=False)})

    def forward(self, x, head):
        for block in self.blocks:
            x = block(x)
        return self.heads[head](x)


def modules_of_modules():
    net = _set_weights(_Stack(3))
    out = net(_numbers(2, 4), "a").sum() + net(_numbers(2, 4), head="b").sum()
    out.backward()
    net.blocks.append(_Block(4))
    return (
        out, [name for name, _ in net.named_parameters()], list(net.state_dict()),
        [name for name, _ in net.named_modules()], [name for name, _ in net.named_children()],
        len(net.blocks), net.blocks[0].gain.grad, net.blocks[0].calls, net.training,
        net.eval().blocks[1].training, sum(p.numel() for p in net.parameters()),
    )  # fmt: skip


def state_dicts():
    net, other = _set_weights(_Stack(1)), _Stack(1)
    other.load_state_dict(net.state_dict())
    state = net.state_dict()
    del state["heads.a.bias"]
    with pytest.raises((RuntimeError, ValueError)):
        other.load_state_dict(state)
    result = other.load_state_dict({**state, "more": torch.ones(1)}, strict=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.pt"
        torch.save(net.state_dict(), path)
        loaded = torch.load(path)
    third = _Stack(1)
    third.load_state_dict(loaded)
    return (
        other(_numbers(1, 4), "b"), result.missing_keys, result.unexpected_keys, list(loaded),
        third(_numbers(1, 4), "a"),
    )  # fmt: skip


def checkpoints_of_training():
    x, y = _numbers(8, 3), _classes(8, 2)

    def start():
        net = _set_weights(nn.Linear(3, 2))
        optimizer = optim.Adam(net.parameters(), lr=0.1)
        return net, optimizer, StepLR(optimizer, step_size=2)

    net, optimizer, scheduler = start()
    _fit(net, optimizer, x, y, 3, scheduler=scheduler)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        torch.save(
            {
                "epoch": 3,
                "model": net.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
            },
            path,
        )
        checkpoint = torch.load(path)
    other, optimizer, scheduler = start()
    other.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    scheduler.load_state_dict(checkpoint["scheduler"])
    losses = _fit(other, optimizer, x, y, 3, scheduler=scheduler)
    return checkpoint["epoch"], losses, other.weight, scheduler.get_last_lr()


def parameters_replaced():
    layer = _set_weights(nn.Linear(2, 2))
    layer.weight = nn.Parameter(torch.ones(2, 2))
    layer.bias = None
    with pytest.raises(TypeError):
        layer.weight = torch.ones(2, 2)
    return list(layer.state_dict()), layer(torch.ones(1, 2))


def weights_that_are_shared():
    layer = _set_weights(nn.Linear(3, 3))
    net = nn.Sequential(layer, nn.ReLU(), layer)
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    _fit(net, optimizer, torch.ones(2, 3), torch.zeros(2, 3), 2, F.mse_loss)
    return len(list(net.parameters())), list(net.state_dict()), layer.weight


def initialisers():
    torch.manual_seed(0)
    linear = nn.Linear(400, 300)
    bounds = []
    for init in (nn.init.xavier_uniform_, nn.init.kaiming_uniform_):
        init(linear.weight)
        bounds.append(round(linear.weight.abs().max().item(), 2))
    for init in (nn.init.xavier_normal_, nn.init.kaiming_normal_, nn.init.normal_):
        init(linear.weight)
        bounds.append(round(linear.weight.std().item(), 1))
    nn.init.constant_(linear.bias, 0.5)
    nn.init.orthogonal_(linear.weight)
    square = linear.weight @ linear.weight.T

    def init_weights(module):
        if isinstance(module, nn.Linear):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 1))).apply(init_weights)
    return (
        bounds,
        linear.bias[:3],
        (square - torch.eye(300)).abs().max().item() < 1e-4,
        net(torch.ones(2)),
    )


def wrong_modules():
    class Forgetful(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(1, 1)

    with pytest.raises(AttributeError, match=r"__init__\(\)"):
        Forgetful()
    with pytest.raises((RuntimeError, ValueError)):
        nn.Linear(3, 2)(torch.ones(2, 4))
    with pytest.raises((RuntimeError, ValueError)):
        nn.Conv1d(3, 2, 3)(torch.ones(2, 4, 8))
    with pytest.raises(AttributeError):
        nn.Linear(2, 2).missing  # noqa: B018
    with pytest.raises((IndexError, ValueError)):
        nn.Embedding(3, 2)(torch.tensor([3]))
    return []


# Networks.


class _ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, kernel_size=3, stride=2, groups=4, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(0.0)
        self.fc = nn.Linear(4 * 1 * 1, 3)

    def forward(self, x):
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        x = F.relu(self.conv2(x))
        x = torch.flatten(x, 1)
        return self.fc(self.dropout(x))


def a_convolutional_network():
    net = _set_weights(_ConvNet())
    optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    x, y = _numbers(6, 1, 8, 8) + _classes(6, 3).reshape(6, 1, 1, 1), _classes(6, 3)
    net.train()
    losses = _fit(net, optimizer, x, y)
    net.eval()
    with torch.no_grad():
        logits = net(x)
    correct = (logits.argmax(dim=1) == y).sum().item()
    return losses, logits, correct, net.bn1.running_mean, net.bn1.num_batches_tracked


def signals():
    net = nn.Sequential(
        nn.Conv1d(3, 4, 5, stride=2, padding=2, dilation=1), nn.BatchNorm1d(4), nn.ReLU6(),
        nn.AvgPool1d(2), nn.Conv1d(4, 8, 1), nn.Hardswish(), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        nn.Linear(8, 2), nn.LogSoftmax(dim=1),
    )  # fmt: skip
    _set_weights(net)
    x, y = _numbers(4, 3, 16), _classes(4, 2)
    loss = nn.NLLLoss()(net(x), y)
    loss.backward()
    return loss, [p.grad for p in net.parameters()]


def functional_style():
    x = torch.sin(torch.arange(48.0)).reshape(2, 3, 8).requires_grad_()
    weight, bias = _numbers(4, 3, 3).requires_grad_(), _numbers(4)
    h = F.conv1d(x, weight, bias, padding=1)
    h = F.layer_norm(h, (8,)) + F.max_pool1d(h, 3, stride=1, padding=1)
    h = F.gelu(h) + F.silu(h) + F.leaky_relu(h, 0.1) + F.softplus(h) + F.elu(h)
    h = F.linear(h, _numbers(5, 8)) * F.softmax(F.pad(h[..., :4], (1, 0)), dim=-1)
    h = F.dropout(h, 0.5, training=False)
    h.sum().backward()
    return h, x.grad, weight.grad, F.one_hot(torch.tensor([2, 0]), 3), F.normalize(bias, dim=0)


def batches_of_nothing():
    x = torch.zeros(0, 2, 9)
    net = nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(4, 4, 2, groups=4), nn.Flatten(), nn.Linear(8, 3),
    ).eval()  # fmt: skip
    return net(x).shape, x.sum(0).shape, x.sum()


def a_recurrent_network():
    results = []
    for kind in (nn.RNN, nn.GRU, nn.LSTM):
        net = _set_weights(kind(3, 4, num_layers=2, batch_first=True))
        x = _numbers(2, 5, 3).requires_grad_()
        out, state = net(x)
        out[:, -1].sum().backward()
        results += [out, state, x.grad, [p.grad for p in net.parameters()], list(net.state_dict())]
    return results


def a_character_model():
    class CharModel(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(5, 4)
            self.lstm = nn.LSTM(4, 6, batch_first=True)
            self.out = nn.Linear(6, 5)

        def forward(self, x, state=None):
            h, state = self.lstm(self.embed(x), state)
            return self.out(h), state

    net = _set_weights(CharModel())
    text = torch.tensor([[0, 1, 2, 3, 4, 0, 1], [4, 2, 0, 3, 1, 4, 2]])
    optimizer = optim.RMSprop(net.parameters(), lr=0.01)
    losses = []
    for _ in range(4):
        logits, _ = net(text[:, :-1])
        loss = F.cross_entropy(logits.reshape(-1, 5), text[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())
    token, state, written = text[:1, :1], None, []
    with torch.no_grad():
        for _ in range(6):
            logits, state = net(token, state)
            token = logits[:, -1].argmax(dim=-1, keepdim=True)
            written.append(token.item())
    return losses, written


class _PositionalEncoding(nn.Module):
    def __init__(self, d_model, max_len=50):
        super().__init__()
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(max_len, d_model)
        pe[:, 0::2] = torch.sin(position * div_term)
        pe[:, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe.unsqueeze(0))

    def forward(self, x):
        return x + self.pe[:, : x.size(1)]


def a_transformer():
    layer = nn.TransformerEncoderLayer(
        8, nhead=2, dim_feedforward=16, dropout=0.0, activation="gelu", batch_first=True
    )
    net = nn.Sequential(
        nn.Embedding(6, 8), _PositionalEncoding(8), nn.TransformerEncoder(layer, 2), nn.Linear(8, 6)
    )
    _set_weights(net)
    x = torch.tensor([[1, 2, 3, 4], [5, 4, 3, 2]])
    optimizer = optim.AdamW(net.parameters(), lr=0.01)
    losses = _fit(
        net, optimizer, x, x.flip(1), 4, lambda out, y: F.cross_entropy(out.transpose(1, 2), y)
    )
    return losses, net(x), list(net.state_dict())


def attention_by_hand():
    class SelfAttention(nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.heads = heads
            self.qkv = nn.Linear(width, 3 * width, bias=False)
            self.proj = nn.Linear(width, width)

        def forward(self, x):
            n, length, width = x.shape
            q, k, v = self.qkv(x).chunk(3, dim=-1)
            q, k, v = (t.view(n, length, self.heads, -1).transpose(1, 2) for t in (q, k, v))
            scores = q @ k.transpose(-2, -1) / math.sqrt(width // self.heads)
            mask = torch.tril(torch.ones(length, length)) == 0
            scores = scores.masked_fill(mask, float("-inf"))
            out = F.softmax(scores, dim=-1) @ v
            same = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            out = (out + same).transpose(1, 2).contiguous().view(n, length, width)
            return self.proj(out)

    net = _set_weights(SelfAttention(8, 2))
    x = _numbers(2, 5, 8).requires_grad_()
    out = net(x)
    (out**2).sum().backward()
    return out, x.grad, net.qkv.weight.grad


def attention_of_torch():
    attention = _set_weights(nn.MultiheadAttention(8, 2, batch_first=True))
    x, y = _numbers(2, 3, 8), _numbers(2, 5, 8)
    padding = torch.tensor([[False, False, False, False, True], [False, False, True, True, True]])
    out, weights = attention(x, y, y, key_padding_mask=padding)
    return out, weights, list(attention.state_dict())


# Losses.


def losses_with_options():
    x, y = _numbers(5, 4).requires_grad_(), _classes(5, 4)
    target, zero_one = _numbers(5, 4) * 0.3, (_numbers(5, 4) > 0).float()
    ignored = torch.tensor([0, -100, 2, -100, 1])
    log_p, q = F.log_softmax(x, dim=1), F.softmax(target, dim=1)
    losses = [
        F.cross_entropy(x, y, weight=torch.tensor([1.0, 2.0, 0.5, 3.0])),
        F.cross_entropy(x, y, label_smoothing=0.1),
        F.cross_entropy(x, ignored),
        F.cross_entropy(x, q),
        nn.CrossEntropyLoss(reduction="sum")(x, y),
        nn.NLLLoss()(log_p, y),
        nn.MSELoss()(x, target),
        nn.L1Loss(reduction="sum")(x, target),
        nn.SmoothL1Loss(beta=0.2)(x, target),
        nn.HuberLoss(delta=0.2)(x, target),
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.0] * 4))(x, zero_one),
        F.binary_cross_entropy(torch.sigmoid(x), zero_one),
        nn.KLDivLoss(reduction="batchmean")(log_p, q),
    ]
    sum(losses).backward()
    return losses, F.cross_entropy(x, y, reduction="none"), x.grad


def wrong_losses():
    for wrong in (
        lambda: F.cross_entropy(torch.zeros(2, 3), torch.tensor([0, 3])),
        lambda: F.cross_entropy(torch.zeros(2, 3), torch.tensor([0, 1, 2])),
        lambda: nn.BCEWithLogitsLoss()(torch.zeros(2, 3), torch.zeros(2)),
        lambda: F.mse_loss(torch.zeros(2), torch.zeros(2), reduction="most"),
    ):
        with pytest.raises((RuntimeError, ValueError, IndexError)):
            wrong()
    return []


# Training.


def a_training_loop():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1 = nn.Linear(2, 8)
            self.fc2 = nn.Linear(8, 2)

        def forward(self, x):
            return self.fc2(F.relu(self.fc1(x)))

    net = _set_weights(Net())
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = torch.tensor([0, 1, 1, 0])
    optimizer = optim.Adam(net.parameters(), lr=0.05)
    criterion = nn.CrossEntropyLoss()
    net.train()
    running_loss = 0.0
    for _ in range(30):
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
    net.eval()
    with torch.no_grad():
        predicted = torch.max(net(x), 1)[1]
    return running_loss, (predicted == y).float().mean().item()


def every_optimizer():
    results = []
    for make in (
        lambda p: optim.SGD(p, lr=0.1),
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda p: optim.Adam(p, lr=0.02, betas=(0.8, 0.99)),
        lambda p: optim.Adam(p, 0.02, amsgrad=True, weight_decay=0.1),
        lambda p: optim.AdamW(p),
        lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    ):
        net = _set_weights(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)))
        results.append(_fit(net, make(net.parameters()), _numbers(8, 3), _classes(8, 2), 6))
        results.append(parameters_to_vector(net.parameters()))
    return results


def every_schedule():
    results = []
    for make in (
        lambda o: StepLR(o, step_size=3, gamma=0.1),
        lambda o: ExponentialLR(o, gamma=0.9),
        lambda o: CosineAnnealingLR(o, T_max=8),
        lambda o: LambdaLR(o, lr_lambda=lambda epoch: 0.95**epoch),
        lambda o: SequentialLR(
            o, schedulers=[LinearLR(o, 0.1, total_iters=3), CosineAnnealingLR(o, 5)], milestones=[3]
        ),
        lambda o: OneCycleLR(o, max_lr=0.1, steps_per_epoch=4, epochs=2),
    ):
        net = _set_weights(nn.Linear(3, 2))
        optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        scheduler = make(optimizer)
        rates = []
        for _ in range(8):
            _fit(net, optimizer, _numbers(8, 3), _classes(8, 2), 1)
            rates.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
        results.append((rates, scheduler.get_last_lr(), net.weight))
    return results


def a_plateau():
    net = _set_weights(nn.Linear(3, 2))
    optimizer = optim.Adam(net.parameters(), lr=0.3)
    scheduler = ReduceLROnPlateau(optimizer, "min", factor=0.5, patience=0)
    rates = []
    for _ in range(12):
        (loss,) = _fit(net, optimizer, _numbers(8, 3), _classes(8, 2), 1)
        scheduler.step(loss)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def weight_decay_for_some():
    net = _set_weights(nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 2)))
    decay = [p for name, p in net.named_parameters() if p.dim() > 1]
    no_decay = [p for name, p in net.named_parameters() if p.dim() <= 1]
    optimizer = optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": no_decay, "weight_decay": 0.0}], lr=0.01
    )
    optimizer.param_groups[1]["lr"] = 0.05
    losses = _fit(net, optimizer, _numbers(8, 3), _classes(8, 2))
    return losses, net[0].weight, net[1].weight, [len(g["params"]) for g in optimizer.param_groups]


def layers_that_are_frozen():
    net = _set_weights(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    for p in net[0].parameters():
        p.requires_grad = False
    optimizer = optim.Adam(filter(lambda p: p.requires_grad, net.parameters()), lr=0.1)
    _fit(net, optimizer, _numbers(8, 3), _classes(8, 2), 2)
    frozen = net[0].weight.clone()
    net.requires_grad_(True)
    optimizer.add_param_group({"params": net[0].parameters(), "lr": 0.01})
    losses = _fit(net, optimizer, _numbers(8, 3), _classes(8, 2), 2)
    return frozen, losses, net[0].weight, net[2].bias


def gradients_that_accumulate():
    net = _set_weights(nn.Linear(3, 2))
    optimizer = optim.SGD(net.parameters(), lr=0.5)
    x, y = _numbers(8, 3), _classes(8, 2)
    loader = DataLoader(TensorDataset(x, y), batch_size=2)
    for i, (inputs, targets) in enumerate(loader):
        loss = F.cross_entropy(net(inputs), targets) / 2
        loss.backward()
        if (i + 1) % 2 == 0:
            optimizer.step()
            optimizer.zero_grad()
    return net.weight, net.bias, net.weight.grad is None


def gradients_that_are_clipped():
    net = _set_weights(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    (net(_numbers(4, 3) * 100) ** 2).mean().backward()
    norm = clip_grad_norm_(net.parameters(), max_norm=1.0)
    again = clip_grad_norm_(net.parameters(), max_norm=10.0)
    clip_grad_value_(net.parameters(), 0.1)
    return norm, again, [p.grad for p in net.parameters()]


def a_closure():
    net = _set_weights(nn.Linear(3, 1))
    optimizer = optim.SGD(net.parameters(), lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (net(_numbers(4, 3)) ** 2).mean()
        loss.backward()
        return loss

    return [optimizer.step(closure).item() for _ in range(3)]


def an_average_of_weights():
    net, average = _set_weights(nn.Linear(3, 2)), nn.Linear(3, 2)
    average.load_state_dict(net.state_dict())
    optimizer = optim.SGD(net.parameters(), lr=0.5)
    for _ in range(3):
        _fit(net, optimizer, _numbers(8, 3), _classes(8, 2), 1)
        with torch.no_grad():
            for a, p in zip(average.parameters(), net.parameters(), strict=True):
                a.mul_(0.9).add_(p, alpha=0.1)
    return average.weight, average.bias


def wrong_optimizers():
    w = torch.ones(2, requires_grad=True)
    for wrong in (
        lambda: optim.SGD([], lr=0.1),
        lambda: optim.SGD([w * 2], lr=0.1),
        lambda: optim.SGD(w, lr=0.1),
        lambda: optim.SGD([w], lr=-1),
        lambda: optim.Adam([w], betas=(1.0, 0.9)),
        lambda: optim.SGD([w], lr=0.1, nesterov=True),
        lambda: optim.SGD([{"params": [w]}, {"params": [w]}], lr=0.1),
        lambda: optim.Adam([w]).load_state_dict(optim.Adam([w, torch.ones(1)]).state_dict()),
    ):
        with pytest.raises((TypeError, ValueError)):
            wrong()
    return []


# Data.


class _Squares(Dataset):
    def __init__(self, count, transform=None):
        self.count = count
        self.transform = transform

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        x = torch.tensor([float(index), float(index * index)])
        return (self.transform(x) if self.transform else x), index % 3


def data_in_batches():
    data = _Squares(10, transform=lambda x: x / 10)
    loader = DataLoader(data, batch_size=4, shuffle=False, drop_last=False)
    batches = [(x, y) for x, y in loader]
    both = ConcatDataset([data, TensorDataset(torch.zeros(2, 2), torch.zeros(2).long())])
    half = Subset(both, [11, 0, 5])
    named = DataLoader([{"x": torch.ones(2), "y": 1}, {"x": torch.zeros(2), "y": 2}], batch_size=2)
    (batch,) = named
    pairs = DataLoader(half, batch_size=3, collate_fn=lambda samples: [y for _, y in samples])
    return (
        batches, len(loader), len(loader.dataset), len(both), [int(y) for y in next(iter(pairs))],
        batch["x"], batch["y"],
    )  # fmt: skip


def data_that_is_split():
    generator = torch.Generator().manual_seed(42)
    train, val = random_split(_Squares(10), [8, 2], generator=generator)
    parts = random_split(range(10), [0.5, 0.3, 0.2])
    indices = sorted(int(i) for i in [*train.indices, *val.indices])
    seen = sorted(int(x[0, 0]) for x, _ in DataLoader(train, shuffle=True)) == sorted(train.indices)
    first = [
        y.tolist()
        for _, y in DataLoader(train, 4, shuffle=True, generator=generator.manual_seed(1))
    ]
    again = [
        y.tolist()
        for _, y in DataLoader(train, 4, shuffle=True, generator=generator.manual_seed(1))
    ]
    return len(train), len(val), [len(p) for p in parts], indices, seen, first == again


def training_with_validation():
    x, y = _numbers(24, 4), _classes(24, 3)
    train = DataLoader(TensorDataset(x[:16], y[:16]), batch_size=4)
    val = DataLoader(TensorDataset(x[16:], y[16:]), batch_size=8)
    net = _set_weights(
        nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    )
    criterion, optimizer = nn.CrossEntropyLoss(), optim.Adam(net.parameters(), lr=1e-2)
    scheduler = CosineAnnealingLR(optimizer, T_max=3)
    best, best_state, history = float("inf"), None, []
    for epoch in range(3):
        net.train()
        total = 0.0
        for inputs, labels in train:
            optimizer.zero_grad(set_to_none=True)
            outputs = net(inputs)
            loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * inputs.size(0)
        scheduler.step()
        net.eval()
        val_loss, correct = 0.0, 0
        with torch.no_grad():
            for inputs, labels in val:
                outputs = net(inputs)
                val_loss += criterion(outputs, labels).item()
                correct += (outputs.argmax(1) == labels).type(torch.float32).sum().item()
        if val_loss < best:
            best, best_state = val_loss, {k: v.clone() for k, v in net.state_dict().items()}
        history.append((epoch, total / len(train.dataset), val_loss, correct))
    net.load_state_dict(best_state)
    return history, best, net(x)


def seeds():
    torch.manual_seed(7)
    first = nn.Linear(3, 2).weight.tolist(), torch.randn(2).tolist(), torch.randperm(5).tolist()
    torch.manual_seed(7)
    again = nn.Linear(3, 2).weight.tolist(), torch.randn(2).tolist(), torch.randperm(5).tolist()
    mask = F.dropout(torch.ones(1000), 0.5)
    return (
        first == again, sorted(first[2]), sorted(set(mask.tolist())), torch.rand(2, 3).shape,
        torch.randint(0, 5, (100,)).max().item() < 5, torch.rand_like(torch.zeros(4)).shape,
    )  # fmt: skip
