"""Losses: what is not a method of a Tensor."""

import numpy as np

from tinytorch import kernels
from tinytorch.autograd import Tensor, apply


def cross_entropy(input: Tensor, target: Tensor) -> Tensor:
    """The mean of -log softmax(input)[target]; input: (N, classes), target: (N,) ints."""
    if input.ndim != 2 or target.shape != input.shape[:1]:
        raise ValueError(
            f"cross_entropy: input {input.shape} does not fit target {target.shape}; "
            "(N, classes) and (N,) do."
        )
    labels = target.data
    if labels.dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: the target holds {labels.dtype}: give class numbers.")
    if labels.size and not 0 <= labels.min() <= labels.max() < input.shape[1]:
        outside = np.unique(labels[(labels < 0) | (labels >= input.shape[1])])[0]
        raise ValueError(f"cross_entropy: class {outside} is not one of 0 to {input.shape[1] - 1}.")
    return apply(
        kernels.cross_entropy, input, target, None, reduction="mean", ignore_index=-100,
        label_smoothing=0.0,
    )  # fmt: skip


def mse_loss(input: Tensor, target: Tensor) -> Tensor:
    """The mean of the squared differences."""
    if input.shape != target.shape:
        raise ValueError(f"mse_loss: input {input.shape} does not fit target {target.shape}.")
    return ((input - target) ** 2).mean()
