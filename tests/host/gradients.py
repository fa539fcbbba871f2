"""Two judges of a gradient: finite differences in float64, and PyTorch."""

from collections.abc import Callable
from typing import Any

import numpy as np

import tinytorch
from tests.oracles import oracle
from tinytorch.autograd.tensor import Tensor

torch = oracle("torch", "oracle")

Function = Callable[..., Any]


def check_higher(f: Function, *arrays: np.ndarray) -> None:
    """The gradient of a gradient against PyTorch; f runs with the tensors of both."""
    seconds = []
    for library, make in ((tinytorch, Tensor), (torch, torch.tensor)):
        inputs = [make(a.astype(np.float64), requires_grad=True) for a in arrays]
        rng = np.random.default_rng(0)
        y = f(*inputs)
        g = make(rng.normal(size=tuple(y.shape)), requires_grad=True)
        first = library.autograd.grad(y, inputs, g, create_graph=True)
        total = sum((h * make(rng.normal(size=tuple(h.shape)))).sum() for h in first)
        if not total.requires_grad:
            seconds.append([np.zeros(0)] * (1 + len(arrays)))
            continue
        second = library.autograd.grad(total, [g, *inputs], allow_unused=True)
        seconds.append([
            np.zeros(tuple(t.shape)) if s is None else (s.detach() + 0).numpy()
            for s, t in zip(second, [g, *inputs], strict=True)
        ])  # fmt: skip
    for ours, theirs in zip(*seconds, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-8)


def check(ours: Function, theirs: Function, *arrays: np.ndarray) -> None:
    """Values and gradients of `ours` (Tensors) against `theirs` (torch tensors) and differences."""
    inputs = [Tensor(a.astype(np.float64), requires_grad=True) for a in arrays]
    oracles = [torch.tensor(a.astype(np.float64), requires_grad=True) for a in arrays]
    y, expected = ours(*inputs), theirs(*oracles)
    assert y.shape == tuple(expected.shape)
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-9, atol=1e-9)

    rng = np.random.default_rng(0)
    weights = rng.normal(size=y.shape)  # so that each output counts differently
    (y * weights).sum().backward()
    (expected * torch.tensor(weights)).sum().backward()
    for x, theirs_x in zip(inputs, oracles, strict=True):
        assert x.grad is not None and x.grad.shape == x.shape
        np.testing.assert_allclose(x.grad.data, theirs_x.grad.numpy(), rtol=1e-8, atol=1e-8)

    ahead = [rng.normal(size=a.shape) for a in arrays]
    slope = sum((x.grad.data * d).sum() for x, d in zip(inputs, ahead, strict=True))

    def at(step: float) -> float:
        moved = [Tensor(x.data + step * d) for x, d in zip(inputs, ahead, strict=True)]
        return float((ours(*moved).data * weights).sum())

    step = 1e-6
    numeric = (at(step) - at(-step)) / (2 * step)
    assert abs(numeric - slope) <= 1e-5 * (1 + abs(slope)), (numeric, slope)
