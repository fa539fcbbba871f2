"""Gradient checkpoints: a part of a network is computed again in the backward pass, so that its
intermediate results need not be kept (Chen et al., 2016). PyTorch's `torch.utils.checkpoint`."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinytorch import random
from tinytorch.autograd.formulas import FORMULAS, Formula
from tinytorch.autograd.tape import enable_grad, gradients_between, graph, leave_capture, record
from tinytorch.autograd.tensor import Tensor
from tinytorch.ops.array import Array, Result


def checkpoint(
    function: Callable[..., Any], *args: Any, use_reentrant: bool = False,
    preserve_rng_state: bool = True, **kwargs: Any,
) -> Any:  # fmt: skip
    """function(*args, **kwargs), a tensor or several things, without its tape.

    backward calls the function once more, which has to compute the same again; preserve_rng_state
    gives it the same random numbers. use_reentrant is taken as in PyTorch and changes nothing.
    Raises RuntimeError in backward if the shapes are not the same again.
    """
    leave_capture()  # a captured step knows operations, not functions
    state = random.get_rng_state()
    start = Tensor(0)._sequence_nr
    outputs = function(*args, **kwargs)
    single = isinstance(outputs, Tensor)
    results = [outputs] if single else list(outputs)
    tracked = _tracked(results)
    nodes, _ = graph(tracked, start)
    sources = tuple([t for number, t in sorted(nodes.items()) if number < start])
    if not sources:
        return outputs
    found = [y.shape for y in tracked]

    def back(g: Any, create_graph: bool = False) -> tuple[Any, ...]:
        now = random.get_rng_state()
        if preserve_rng_state:
            random.set_rng_state(state)
        oldest = Tensor(0)._sequence_nr
        with enable_grad():
            again = function(*args, **kwargs)
        if preserve_rng_state:
            random.set_rng_state(now)
        tensors = _tracked([again] if single else again)
        if [t.shape for t in tensors] != found:
            raise RuntimeError(
                f"checkpoint: the function gave shapes {found}, and now "
                f"{[t.shape for t in tensors]}: it has to compute the same again."
            )
        ends = np.cumsum([t.numel() for t in tensors])
        roots = [
            (t, g[end - t.numel() : end].reshape(t.shape))
            for t, end in zip(tensors, ends, strict=True)
        ]
        return gradients_between(roots, sources, oldest, create_graph)

    flat = np.concatenate([y.data.reshape(-1) for y in tracked])
    y = record(checkpointed, sources, {"flat": flat, "back": back})
    parts = iter(y.split([t.numel() for t in tracked]))
    results = [
        next(parts).reshape(t.shape).to(t.dtype) if any(t is other for other in tracked) else t
        for t in results
    ]
    return results[0] if single else tuple(results)


def _tracked(results: Sequence[Any]) -> list[Tensor]:
    return [y for y in results if isinstance(y, Tensor) and y.requires_grad]


def checkpointed(*sources: Array, flat: Array, back: Callable[..., Any]) -> Result:
    """The numbers of all of a function's results, which were computed from sources."""
    return flat, back


FORMULAS[checkpointed] = Formula(lambda g, y, *sources, flat, back: back(g, create_graph=True))
