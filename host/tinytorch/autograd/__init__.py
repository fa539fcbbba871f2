"""Tensors that remember how they were made: the tape, and gradients by reverse mode."""

# ruff: noqa: F401 - the names are for others.

from tinytorch.autograd.tensor import (
    Hook,
    Tensor,
    apply,
    enable_grad,
    grad,
    inference_mode,
    is_floating_point,
    is_grad_enabled,
    is_tensor,
    no_grad,
    set_grad_enabled,
    where,
)
