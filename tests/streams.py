"""Random networks without padding in time, as they are and as they take a stream of it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.networks import fill
from tinytorch import nn
from tinytorch.quantize import QuantizedNet, quantize
from tinytorch.streaming import stream


class Case(NamedTuple):
    """A network of a window, the same of a stream, and steps for it (N, steps, *input_shape)."""

    window: QuantizedNet
    stream: QuantizedNet
    steps: NDArray[np.int8]


def random_layers(rng: np.random.Generator) -> tuple[list[nn.Module], list[tuple[int, int]], int]:
    """Layers, kernel and stride in time of each that has any, and the output's channels."""
    values, c = int(rng.integers(2, 12)), 1
    layers: list[nn.Module] = []
    times: list[tuple[int, int]] = []

    def slide(layer, kernel: int, stride: int = 1) -> None:
        layers.append(layer)
        times.append((kernel, stride))

    for _ in range(int(rng.integers(1, 5))):
        kind = int(rng.integers(0, 5))
        kernel, across = (int(n) for n in rng.integers(1, 5, 2))
        pad = int(rng.integers(0, across))
        across = min(across, values + 2 * pad)
        stride = int(rng.integers(1, min(kernel, 2) + 1))
        if kind == 4 and values >= 2:
            pool = (nn.MaxPool2d, nn.AvgPool2d)[rng.integers(2)]
            slide(pool((kernel, 2), stride=(stride, 2)), kernel, stride)
            values //= 2
            continue
        out, groups = int(rng.choice([1, 3, 4, 8])), 1
        if kind == 1:
            kernel = across = stride = 1
            pad = 0
        elif kind >= 2:
            out, groups = c * int(rng.choice([1, 1, 2])), c
        slide(
            nn.Conv2d(c, out, (kernel, across), (stride, 1), (0, pad), groups=groups),
            kernel, stride,
        )  # fmt: skip
        c, values = out, values + 2 * pad - across + 1
        layers.append(nn.ReLU())
    return layers, times, c * values


def random_stream(seed: int, tier: str, steps: int = 0) -> Case:
    """steps: how many; 0 for as many as it takes until nothing of the reset is left, and three."""
    rng = np.random.default_rng(seed)
    layers, times, _ = random_layers(rng)
    last = frames = int(rng.integers(1, 5))
    step = int(rng.integers(1, last + 1))
    for kernel, stride in reversed(times):
        frames, step = (frames - 1) * stride + kernel, step * stride
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    values = 14
    x = rng.normal(0, 1, (16, 1, frames, values))
    head = nn.Sequential(*layers)
    fill(head, rng)
    c, width = (convolutions[-1].out_channels if convolutions else 1), values
    del c, width
    raise NotImplementedError
