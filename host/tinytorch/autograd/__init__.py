"""Tensors that remember how they were made: the tape, and gradients by reverse mode.

tape.py records and walks back; methods/ holds what Tensors can do; tracing.py lets others follow
the operations; formulas.py, filled by second_order.py, knows the gradients of gradients.
"""

# ruff: noqa: F401 - the names are for others.

from tinytorch.autograd import second_order  # fills the table of formulas
from tinytorch.autograd.methods.elementwise import where
from tinytorch.autograd.methods.reduction import ValuesIndices
from tinytorch.autograd.tape import (
    Dims,
    Hook,
    Operand,
    Size,
    apply,
    enable_grad,
    grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from tinytorch.autograd.tensor import Tensor, is_floating_point, is_tensor
from tinytorch.autograd.tracing import ModuleTracker, Tracer
