"""Training steps against PyTorch's, on one thread: python -m tests.bench.training [--json].

A step is the whole of it: batch copied, forward, loss, backward, Adam. Each round times PyTorch
(eager), TinyTorch on numpy and TinyTorch with numba one after the other; the figure is the median
over the rounds of the ratio to PyTorch.
"""

import argparse
import json
import os
import statistics
import timeit
from collections.abc import Callable
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np
import torch

import tinytorch
from tinytorch.ops import compiled
from tinytorch.train.capture import Step

BATCH, BATCHES = 32, 8
AT_MOST = {"K": (1.5, 0.55), "G": (0.5, 0.35), "M": (0.55, 0.35), "T": (1.15, 0.85)}


def ds_cnn(lib: Any) -> Any:
    """MLPerf Tiny's network for keywords."""
    nn = lib.nn
    layers = [nn.Conv2d(1, 64, (10, 4), stride=2, padding=(5, 1)), nn.BatchNorm2d(64), nn.ReLU()]
    for _ in range(4):
        layers += [nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.BatchNorm2d(64), nn.ReLU()]
        layers += [nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 12))


def gestures(lib: Any) -> Any:
    nn = lib.nn
    return nn.Sequential(
        nn.Conv1d(6, 16, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2),
        nn.Flatten(), nn.Linear(800, 64), nn.ReLU(), nn.Linear(64, 5),
    )  # fmt: skip


def mlp(lib: Any) -> Any:
    nn = lib.nn
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def transformer(lib: Any) -> Any:
    nn = lib.nn

    class Net(nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(32, 64)
            self.positions = nn.Parameter(0.02 * lib.randn(32, 64))
            layer = nn.TransformerEncoderLayer(64, 2, 128, dropout=0.0, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2)
            self.head = nn.Linear(64, 32)

        def forward(self, x: Any) -> Any:
            return self.head(self.encoder(self.tokens(x) + self.positions)).flatten(0, 1)

    return Net()


def random_data(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels of some batches."""
    rng = np.random.default_rng(0)
    n = BATCH * BATCHES
    shape, classes = {
        "K": ((1, 49, 10), 12), "G": ((6, 100), 5), "M": ((784,), 10), "T": ((32,), 32),
    }[name]  # fmt: skip
    if name == "T":
        return rng.integers(0, 32, (n, *shape)), rng.integers(0, classes, (n, *shape))
    return rng.standard_normal((n, *shape), np.float32), rng.integers(0, classes, n)


NETS: dict[str, Callable[[Any], Any]] = {"K": ds_cnn, "G": gestures, "M": mlp, "T": transformer}


def batches() -> list[np.ndarray]:
    order = np.random.default_rng(1).permutation(BATCH * BATCHES)
    return np.split(order, BATCHES)


def torch_steps(name: str, lib: ModuleType = torch) -> tuple[Any, Callable[[np.ndarray], float]]:
    net = NETS[name](lib).train()
    optimizer = torch.optim.Adam(net.parameters())
    x, y = map(torch.from_numpy, random_data(name))

    def step(indices: np.ndarray) -> float:
        chosen = torch.from_numpy(indices)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x[chosen]), y[chosen].flatten())
        loss.backward()
        optimizer.step()
        return loss.item()

    return net, step


def our_steps(name: str, weights: dict[str, Any]) -> Callable[[np.ndarray], float]:
    net = NETS[name](tinytorch)
    net.load_state_dict({key: tinytorch.tensor(t.numpy()) for key, t in weights.items()})
    optimizer = tinytorch.optim.Adam(net.parameters())
    data = tinytorch.utils.data.TensorDataset(*random_data(name))
    whole = Step(net, tinytorch.nn.functional.cross_entropy)

    def step(indices: np.ndarray) -> float:
        inputs, targets = data.batch(indices)
        optimizer.zero_grad()
        _, loss = whole.forward(inputs, targets.flatten())
        whole.backward()
        optimizer.step()
        return loss.item()

    return step


def seconds(step: Callable[[np.ndarray], float], order: list[np.ndarray], times: int) -> float:
    """One step's, from some in a row."""
    start = perf_counter()
    for _ in range(times):
        for indices in order:
            step(indices)
    return (perf_counter() - start) / (times * len(order))


def measure(name: str, rounds: int) -> dict[str, float]:
    """The ratios of one network, and PyTorch's own milliseconds."""
    net, theirs = torch_steps(name)
    weights = {key: t.clone() for key, t in net.state_dict().items()}
    ours = {"numpy": our_steps(name, weights), "fast": our_steps(name, weights)}
    order = batches()
    reference = [theirs(indices) for indices in order]
    for kind, step in ours.items():
        compiled.enable(kind == "fast")
        # The same work: the same losses from the same weights.
        np.testing.assert_allclose([step(i) for i in order], reference, rtol=2e-3, err_msg=name)
    times = max(1, round(0.06 / seconds(theirs, order, 1) / len(order)))
    figures: dict[str, list[float]] = {"torch": [], "numpy": [], "fast": []}
    for _ in range(rounds):
        base = seconds(theirs, order, times)
        figures["torch"].append(base * 1e3)
        for kind, step in ours.items():
            compiled.enable(kind == "fast")
            figures[kind].append(seconds(step, order, times) / base)
    return {kind: statistics.median(values) for kind, values in figures.items()}


def addition() -> tuple[float, float]:
    """Microseconds for a + b of ten floats that require gradients: PyTorch's, ours."""
    best = []
    pairs = [[lib.ones(10, requires_grad=True) for _ in "ab"] for lib in (torch, tinytorch)]
    for a, b in pairs:
        best.append(min(timeit.repeat(lambda a=a, b=b: a + b, number=20_000, repeat=9)) / 0.02)
    return best[0], best[1]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--json", action="store_true", help="end with one JSON object")
    words.add_argument("--rounds", type=int, default=21)
    words.add_argument("nets", nargs="*", default=list(NETS), metavar="NET", help="K G M T")
    args = words.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    torch.manual_seed(0)
    result = {}
    print("training step, batch 32, one thread: ratio to PyTorch (at most)")
    print(f"{'':4}{'PyTorch':>12}{'numpy':>18}{'with numba':>18}")
    for name in args.nets:
        found = measure(name, args.rounds)
        result[name] = {kind: round(found[kind], 3) for kind in ("numpy", "fast")}
        cells = "".join(
            f"{found[kind]:>10.2f} ({limit:.2f})"
            for kind, limit in zip(("numpy", "fast"), AT_MOST[name], strict=True)
        )
        print(f"{name:4}{found['torch']:>9.2f} ms{cells}")
    theirs, ours = addition()
    print(f"a + b of ten floats with gradients: PyTorch {theirs:.2f} us, TinyTorch {ours:.2f} us")
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
