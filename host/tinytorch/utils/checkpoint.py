"""Gradient checkpoints: a part of a network is computed again in the backward pass, so that its
intermediate results need not be kept (Chen et al., 2016). PyTorch's `torch.utils.checkpoint`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch import autograd, random
from tinytorch.autograd import Tensor
from tinytorch.ops import Array, Result
from tinytorch_core import shapes


def checkpoint(
    function: Callable[..., Any], *args: Any, use_reentrant: bool = False,
    preserve_rng_state: bool = True, **kwargs: Any,
) -> Any:  # fmt: skip
    """function(*args, **kwargs), a tensor or a tuple of tensors of one type, without its tape.

    backward calls the function once more, which has to compute the same again; preserve_rng_state
    gives it the same random numbers. use_reentrant is taken as in PyTorch and changes nothing.
    Gradients of the gradients are not recorded.
    """
    autograd.to_the_tape()  # a captured step knows operations, not functions
    state = random.get_rng_state()
    start = Tensor(0)._number
    outputs = function(*args, **kwargs)
    results = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    nodes, _ = autograd.graph([y for y in results if y.requires_grad], start)
    sources = [t for number, t in sorted(nodes.items()) if number < start]
    if not sources:
        return outputs
    found = [y.shape for y in results]

    def flat(tensors: list[Tensor]) -> Array:
        return np.concatenate([t.data.reshape(-1) for t in tensors])

    def checkpointed(*_: Array) -> Result:
        def gradients(g: Array) -> tuple[Array | None, ...]:
            now = random.get_rng_state()
            if preserve_rng_state:
                random.set_rng_state(state)
            oldest = Tensor(0)._number
            with autograd.enable_grad():
                again = function(*args, **kwargs)
            random.set_rng_state(now)
            tensors = [again] if isinstance(again, Tensor) else list(again)
            if [t.shape for t in tensors] != found:
                raise RuntimeError(
                    f"checkpoint: the function gave shapes {found}, and now "
                    f"{[t.shape for t in tensors]}: it has to compute the same again."
                )
            ends = np.cumsum([t.numel() for t in tensors])[:-1]
            roots = [
                (t, part.reshape(t.shape))
                for t, part in zip(tensors, np.split(g, ends), strict=True)
                if t.requires_grad
            ]
            return autograd.gradients_between(roots, sources, oldest)

        return flat(results), gradients

    y = autograd.record(checkpointed, tuple(sources), {})
    if isinstance(outputs, Tensor):
        return y.reshape(outputs.shape)
    parts = y.split([shapes.size(shape) for shape in found])
    return tuple([part.reshape(shape) for part, shape in zip(parts, found, strict=True)])
