"""What is done to all gradients or parameters of a network at once: PyTorch's `nn.utils`."""

import math
from collections.abc import Iterable
from itertools import accumulate

import numpy as np

from tinytorch.autograd.aliasing import changed
from tinytorch.autograd.joining import cat
from tinytorch.autograd.tensor import Tensor
from tinytorch.ops.array import Array


def _gradients(parameters: "Tensor | Iterable[Tensor]") -> list[Array]:
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p.grad.data for p in parameters if p.grad is not None]


def clip_grad_norm_(
    parameters: "Tensor | Iterable[Tensor]",
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale the gradients down, all by one factor, so that their norm is max_norm at most.

    Returns the norm of all of them, seen as one vector, before that. norm_type: of a p-norm, also
    infinity. Raises RuntimeError for a norm that is no number, if that is asked for.
    """
    gradients = _gradients(parameters)
    norm = _norm(np.array([_norm(g, norm_type) for g in gradients]), norm_type)
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(f"clip_grad_norm_: the norm of the gradients is {norm}.")
    scale = max_norm / (norm + 1e-6)
    if not scale >= 1:  # NaN scales, too
        for g in gradients:
            g *= scale
    return Tensor(np.array(norm, gradients[0].dtype if gradients else np.float32))


def _norm(array: Array, p: float) -> float:
    flat = array.ravel("K")  # no copy, whatever the order in memory is
    if p == 2:
        return math.sqrt(np.vdot(flat, flat))
    return float(np.linalg.norm(flat, p)) if flat.size else 0.0


def clip_grad_value_(parameters: "Tensor | Iterable[Tensor]", clip_value: float) -> None:
    """Bring each number of the gradients into -clip_value to clip_value."""
    for g in _gradients(parameters):
        np.clip(g, -clip_value, clip_value, out=g)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All numbers in one row; gradients flow through."""
    return cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy a row of numbers, as `parameters_to_vector` makes it, into the parameters.

    Raises ValueError for a row of another length.
    """
    parameters = list(parameters)
    ends = list(accumulate(p.numel() for p in parameters))
    if vec.shape != (ends[-1],):
        raise ValueError(
            f"vector_to_parameters: a vector {vec.shape} does not fill parameters of {ends[-1]} "
            "numbers."
        )
    for p, part in zip(parameters, np.split(vec.data, ends[:-1]), strict=True):
        p.data[...] = part.reshape(p.shape)
        changed(p.data)
