"""Random networks of all the layers that a kit runs, untrained, for the tests of the whole path."""

from typing import Any

import numpy as np

from tinytorch import nn


def fill(net: nn.Module, rng: np.random.Generator) -> None:
    """Random numbers everywhere, also in what training would leave at 0 and 1."""
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        fan_in = max(1, int(np.prod(tensor.shape[1:])))
        values = rng.normal(0, fan_in**-0.5, tensor.shape)
        if len(tensor.shape) == 1:
            values = rng.uniform(-0.5, 0.5, tensor.shape)
        if name.endswith("running_var"):
            values = rng.uniform(0.2, 2.0, tensor.shape)
        tensor.data = values.astype(tensor.data.dtype)


def random_network(
    rng: np.random.Generator, dims: int, strided_padding: bool = True
) -> tuple[nn.Module, tuple[int, ...]]:
    """A Sequential for signals (dims=1) or images (dims=2), and the shape of one input.

    strided_padding: also stride and padding together, which TensorFlow does in another way.
    """
    conv, norm, max_pool, avg_pool = (
        (nn.Conv1d, nn.BatchNorm1d, nn.MaxPool1d, nn.AvgPool1d),
        (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d),
    )[dims - 1]  # fmt: skip
    sizes = [int(n) for n in rng.integers(8, 24 if dims == 1 else 12, dims)]
    c = int(rng.integers(1, 4))
    shape = (c, *sizes)
    layers: list[Any] = []
    for _ in range(int(rng.integers(1, 4))):
        kernel = int(rng.choice([1, 3]))
        padding = int(rng.integers(0, kernel // 2 + 1))
        stride = int(rng.integers(1, 3)) if strided_padding or not padding else 1
        out = int(rng.integers(2, 7))
        groups = 1
        if rng.random() < 0.4:
            groups, out = c, c * int(rng.integers(1, 3))
        bias = bool(rng.random() < 0.7)
        layers.append(
            conv(c, out, kernel, stride=stride, padding=padding, groups=groups, bias=bias)
        )
        c, sizes = out, [(n + 2 * padding - kernel) // stride + 1 for n in sizes]
        layers += [norm(c)] * (rng.random() < 0.6) + [nn.ReLU()] * (rng.random() < 0.7)
        if rng.random() < 0.5 and min(sizes) >= 4:
            layers += [[max_pool, avg_pool][rng.integers(2)](2), nn.Dropout(0.3)]
            sizes = [n // 2 for n in sizes]
        if min(sizes) < 4:
            break
    hidden = int(rng.integers(3, 12))
    layers += [nn.Flatten(), nn.Linear(c * int(np.prod(sizes)), hidden)]
    layers += [nn.BatchNorm1d(hidden)] * (rng.random() < 0.5) + [nn.ReLU(), nn.Linear(hidden, 4)]
    net = nn.Sequential(*layers)
    fill(net, rng)
    net.eval()
    return net, shape


class Residual(nn.Module):
    """Two convolutions beside a shortcut, as in ResNet (He et al., 2015)."""

    def __init__(self, c: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU()
        self.shortcut = nn.Conv2d(c, out, 1, stride) if stride > 1 or c != out else None

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet8(nn.Module):
    """MLPerf Tiny's network for image classification, for smaller images."""

    def __init__(self, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.stages = nn.Sequential(
            Residual(width, width, 1),
            Residual(width, 2 * width, 2),
            Residual(2 * width, 4 * width, 2),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(4 * width, classes)

    def forward(self, x):
        return self.classifier(self.pool(self.stages(self.stem(x))).flatten(1))


class InvertedResidual(nn.Module):
    """MobileNetV2's block (Sandler et al., 2018): expand, depthwise, project, and add."""

    def __init__(self, c: int, out: int, stride: int = 1, expand: int = 3, time: int = 3) -> None:
        super().__init__()
        hidden = expand * c
        self.conv = nn.Sequential(
            nn.Conv2d(c, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(),
            nn.Conv2d(
                hidden, hidden, (time, 3), stride, (time // 2, 1), groups=hidden, bias=False
            ),
            nn.BatchNorm2d(hidden), nn.ReLU6(),
            nn.Conv2d(hidden, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.adds = stride == 1 and c == out

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


class SqueezeExcite(nn.Module):
    """Each channel times what all channels' means say of it (Hu et al., 2017)."""

    def __init__(self, c: int, hidden: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.gate = nn.Sequential(
            nn.Linear(c, hidden), nn.ReLU(), nn.Linear(hidden, c), nn.Sigmoid()
        )

    def forward(self, x):
        n, c, _, _ = x.shape
        return x * self.gate(self.pool(x).view(n, c)).view(n, c, 1, 1)
