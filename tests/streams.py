"""Random networks without padding in time: of a window, and the same of a stream."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.networks import fill
from tinytorch import nn
from tinytorch.quantize.calibrate import quantize
from tinytorch.quantize.ir import QuantizedNet
from tinytorch.quantize.streaming import stream


class Case(NamedTuple):
    """A network of a window of rows, the same of a stream, and streams of steps for it,
    (N, steps, rows of a step, values, 1)."""

    window: QuantizedNet
    stream: QuantizedNet
    x: NDArray[np.int8]

    def rows_until(self, step: int) -> NDArray[np.int8]:
        """What the window holds after so many steps, (N, rows, values, 1)."""
        n = self.window.input_shape[0]
        return self.x[:, :step].reshape(len(self.x), -1, *self.x.shape[3:])[:, -n:]

    @property
    def warm(self) -> int:
        """The steps until a window has come."""
        return -(-self.window.input_shape[0] // self.stream.input_shape[0])


def random_case(seed: int, tier: Any = "exact", more: int = 3) -> Case:
    """more: steps after the window has come."""
    rng = np.random.default_rng(seed)
    values, c = int(rng.integers(2, 12)), 1
    shape = [values]
    layers: list[nn.Module] = []
    times: list[tuple[int, int]] = []  # kernel and stride of each layer, in rows
    for _ in range(int(rng.integers(1, 5))):
        kind, kernel, across = (int(n) for n in rng.integers((0, 1, 1), (5, 5, 4)))
        if layers and rng.random() < 0.4:
            kind = 1  # so that words stay words
        stride = int(rng.integers(1, min(kernel, 2) + 1))
        if kind == 0 and values > 1:
            pool = (nn.MaxPool2d, nn.AvgPool2d)[rng.integers(2)]
            layers.append(pool((kernel, 2), stride=(stride, 2)))
            values //= 2
        else:
            if kind == 1:
                kernel = stride = across = 1
            pad = across // 2
            out, groups = int(rng.choice([1, 3, 4, 8])), 1
            if kind > 2:
                out, groups = c * int(rng.choice([1, 1, 2])), c
            layers.append(nn.Conv2d(c, out, (kernel, across), (stride, 1), (0, pad), groups=groups))
            layers += [nn.ReLU()] * (rng.random() < 0.7)
            c, values = out, values + 2 * pad - across + 1
        times.append((kernel, stride))
    rows = int(rng.integers(1, 5))  # that are left, and are made at each step
    step = int(rng.integers(1, rows + 1))
    if rng.random() < 0.6:
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 3)]
    else:
        layers += [nn.Flatten(), nn.Linear(rows * values * c, 3)]
    for kernel, stride in reversed(times):
        rows, step = (rows - 1) * stride + kernel, step * stride
    net = nn.Sequential(*layers)
    fill(net, rng)
    net.eval()
    x = rng.normal(0, 1, (16, 1, rows, *shape))
    window = quantize(net, x, name="stream", labels=[], tier=tier, bits=int(rng.choice([7, 8])))
    steps = -(-rows // step) + more
    samples = rng.integers(-128, 128, (2, steps, step, *shape, 1)).astype(np.int8)
    return Case(window, stream(window, step), samples)
