"""PyTorch's `torch.nn.init`: first numbers for parameters, in place, without gradients.

Each function takes a Tensor and returns it. Fans are the numbers of inputs that an output sees
(fan_in) and of outputs that see an input (fan_out): weights are (out, in, *kernel).
"""

import math

import numpy as np

from tinytorch.autograd.tape import no_grad
from tinytorch.autograd.tensor import Tensor
from tinytorch.ops.array import Array
from tinytorch.random import generator
from tinytorch_core import shapes


def _fill(tensor: Tensor, numbers: Array | float) -> Tensor:
    with no_grad():
        return tensor.copy_(Tensor(np.broadcast_to(np.asarray(numbers), tensor.shape)))


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """From the uniform distribution on [a, b)."""
    return _fill(tensor, generator.uniform(a, b, tensor.shape))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Draw from the normal distribution with this mean and standard deviation."""
    return _fill(tensor, generator.normal(mean, std, tensor.shape))


def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0
) -> Tensor:
    """From the normal distribution, within [a, b]: what falls outside is drawn again."""
    numbers = generator.normal(mean, std, tensor.shape)
    reach = abs(mean - min(max(mean, a), b))
    if not a < b or reach > 2 * std:
        raise ValueError(f"trunc_normal_: [{a}, {b}] is out of reach of mean {mean} and std {std}.")
    while (outside := (numbers < a) | (numbers > b)).any():
        numbers[outside] = generator.normal(mean, std, int(outside.sum()))
    return _fill(tensor, numbers)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """One number everywhere."""
    return _fill(tensor, val)


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros everywhere."""
    return _fill(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Ones everywhere."""
    return _fill(tensor, 1.0)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """How much weights before this function are scaled up; param: leaky_relu's negative_slope."""
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    gains = {
        "linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "sigmoid": 1.0, "tanh": 5 / 3,
        "relu": math.sqrt(2), "selu": 3 / 4,
    }  # fmt: skip
    if nonlinearity not in gains:
        known = ", ".join([*gains, "leaky_relu"])
        raise ValueError(f"calculate_gain: {nonlinearity!r} is not one of {known}.")
    return gains[nonlinearity]


def _fans(operation: str, tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise ValueError(f"{operation}: shape {tensor.shape} has no fan; (out, in, ...) has.")
    kernel = shapes.size(tensor.shape[2:])
    return tensor.shape[1] * kernel, tensor.shape[0] * kernel


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """(Glorot and Bengio, 2010.)"""
    bound = gain * math.sqrt(6 / sum(_fans("xavier_uniform_", tensor)))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """(Glorot and Bengio, 2010.)"""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(_fans("xavier_normal_", tensor))))


def _kaiming(operation: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    """The standard deviation."""
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f'{operation}: mode {mode!r} is not "fan_in" or "fan_out".')
    fan = _fans(operation, tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def kaiming_uniform_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """a: the negative_slope of a leaky_relu. (He et al., 2015.)"""
    bound = math.sqrt(3) * _kaiming("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """a: the negative_slope of a leaky_relu. (He et al., 2015.)"""
    return normal_(tensor, 0.0, _kaiming("kaiming_normal_", tensor, a, mode, nonlinearity))


def orthogonal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Rows, or columns where they are fewer, of length `gain` that are orthogonal to each other.

    (Saxe et al., 2013.)
    """
    _fans("orthogonal_", tensor)
    rows, columns = tensor.shape[0], shapes.size(tensor.shape[1:])
    numbers = generator.normal(size=(max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(numbers)
    q = q * np.sign(np.diag(r))  # otherwise not every matrix would be as likely
    return _fill(tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape))
