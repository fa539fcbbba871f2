"""Activations, and what losses are made of: the same protocol as in tinytorch.ops.

They write into memory that is used again (tinytorch.memory), one step of arithmetic after another.
"""

import math

import numpy as np

from tinytorch.ops import compiled
from tinytorch.ops.array import Array, Result
from tinytorch.ops.memory import empty_like


def relu6(a: Array) -> Result:
    """min(max(a, 0), 6)."""
    y = np.clip(a, 0, 6, out=empty_like(a))
    return y, (lambda g: g * ((y > 0) & (y < 6)),)


def leaky_relu(a: Array, *, negative_slope: float) -> Result:
    """a where it is positive, else negative_slope times a. (Maas et al., 2013.)"""
    slope = np.where(a > 0, a.dtype.type(1), a.dtype.type(negative_slope))
    return a * slope, (lambda g: g * slope,)


def elu(a: Array, *, alpha: float) -> Result:
    """a where it is positive, else alpha * (exp(a) - 1). (Clevert et al., 2015.)"""
    below = np.expm1(np.minimum(a, 0)) * a.dtype.type(alpha)
    y = np.where(a > 0, a, below)
    return y, (lambda g: g * np.where(a > 0, a.dtype.type(1), below + a.dtype.type(alpha)),)


def _logistic(a: Array) -> Array:
    """1 / (1 + exp(-a)), by tanh, which cannot overflow."""
    y = np.multiply(a, a.dtype.type(0.5), out=empty_like(a))
    np.tanh(y, out=y)
    y *= a.dtype.type(0.5)
    y += a.dtype.type(0.5)
    return y


def silu(a: Array) -> Result:
    """a * sigmoid(a). (Elfwing et al., 2017.)"""
    share, y = empty_like(a), empty_like(a)
    _silu(a, share, y)

    def of_a(g: Array) -> Array:
        result = empty_like(y)
        _silu_of_a(share, y, g, result)
        return result

    return y, (of_a,)


@compiled.elementwise
def _silu(a: Array, share: Array, y: Array) -> None:
    share[...] = _logistic(a)
    np.multiply(a, share, out=y)


@compiled.elementwise
def _silu_of_a(share: Array, y: Array, g: Array, result: Array) -> None:
    np.subtract(1, share, out=result)
    result *= y
    result += share
    result *= g


def hardsigmoid(a: Array) -> Result:
    """a / 6 + 1/2 within 0 and 1. (Howard et al., 2019.)"""
    y = np.clip((a + a.dtype.type(3)) / a.dtype.type(6), 0, 1)
    return y, (lambda g: g * (((a > -3) & (a < 3)) * a.dtype.type(1 / 6)),)


def hardswish(a: Array) -> Result:
    """a * hardsigmoid(a). (Howard et al., 2019.)"""
    y, _ = hardsigmoid(a)
    y *= a

    def of_a(g: Array) -> Array:
        slope = a / a.dtype.type(3) + a.dtype.type(0.5)
        return g * np.where(a < 3, slope * (a > -3), a.dtype.type(1))

    return y, (of_a,)


# erf in single precision: x P(x^2) / Q(x^2) within 3.93 of zero, good to the last bits; these are
# the coefficients of Eigen, the C++ library, from the highest power down.
_ERF_P = (
    2.2905065861350646e-4, 3.4082910107109506e-3, 5.0955695062380861e-2, 1.8520832239976145e-1,
    1.128379143519084,
)  # fmt: skip
_ERF_Q = (
    -1.1791602954361697e-7, 2.3547966471313185e-5, 1.0179625278914885e-3, 1.4070470171167667e-2,
    1.1098505178285362e-1, 4.9746925110067538e-1, 1.0,
)  # fmt: skip
_exact_erf = np.frompyfunc(math.erf, 1, 1)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    y = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        y *= x
        y += x.dtype.type(c)
    return y


def erf(a: Array) -> Array:
    """The error function; float64, which is for checks, one number at a time."""
    if a.dtype != np.float32:
        return np.asarray(_exact_erf(a), a.dtype)
    x = np.asarray(np.clip(a, -3.93, 3.93))
    square = x * x
    x *= _polynomial(_ERF_P, square)
    x /= _polynomial(_ERF_Q, square)
    return np.clip(x, -1, 1, out=x)


def normal_cdf(a: Array) -> Result:
    """The normal distribution's share below a: its cumulative distribution function."""
    share = (erf(a * a.dtype.type(math.sqrt(0.5))) + 1) * a.dtype.type(0.5)

    def of_a(g: Array) -> Array:
        return g * np.exp(a * a * -0.5) * a.dtype.type(1 / math.sqrt(2 * math.pi))

    return share, (of_a,)


def gelu(a: Array, *, approximate: str) -> Result:
    """a times the normal distribution's share below a, or near it with tanh for approximate "tanh".

    (Hendrycks and Gimpel, 2016.)
    """
    one = a.dtype.type(1)
    if approximate == "tanh":
        slope, cubic = a.dtype.type(math.sqrt(8 / math.pi)), a.dtype.type(0.044715)
        share = _logistic((a * a * cubic + one) * a * slope)

        def of_a(g: Array) -> Array:
            inner = (a * a * (3 * cubic) + one) * slope
            return g * (share + a * inner * share * (one - share))

    else:
        share = empty_like(a)
        _normal_cdf(a, share)

        def of_a(g: Array) -> Array:
            result = empty_like(a)
            _gelu_of_a(a, share, g, result)
            return result

    return np.multiply(a, share, out=empty_like(a)), (of_a,)


@compiled.elementwise
def _normal_cdf(a: Array, share: Array) -> None:
    share[...] = erf(a * a.dtype.type(math.sqrt(0.5)))
    share += 1
    share *= 0.5


@compiled.elementwise
def _gelu_of_a(a: Array, share: Array, g: Array, result: Array) -> None:
    np.multiply(a, a, out=result)
    result *= -0.5
    np.exp(result, out=result)
    result *= a
    result *= 1 / math.sqrt(2 * math.pi)
    result += share
    result *= g


def softplus(a: Array, *, beta: float, threshold: float) -> Result:
    """log(1 + exp(beta a)) / beta; a itself where beta a is above the threshold."""
    scaled = a * a.dtype.type(beta)
    y = np.maximum(scaled, 0) + np.log1p(np.exp(-np.abs(scaled)))
    y = np.where(scaled > threshold, a, y / a.dtype.type(beta))
    return y, (lambda g: g * np.where(scaled > threshold, a.dtype.type(1), _logistic(scaled)),)


def logsigmoid(a: Array) -> Result:
    """log(sigmoid(a)), which does not overflow."""
    y = np.minimum(a, 0) - np.log1p(np.exp(-np.abs(a)))
    return y, (lambda g: g * _logistic(-a),)


def normalize(a: Array, *, dim: int, eps: float) -> Result:
    """a divided by its length along a dimension, or by eps where it is shorter."""
    norm = np.sqrt((a * a).sum(dim, keepdims=True))
    length = np.maximum(norm, a.dtype.type(eps))
    y = a / length

    def of_a(g: Array) -> Array:
        along = (g * y).sum(dim, keepdims=True) * (norm > eps)
        return (g - y * along) / length

    return y, (of_a,)


# Of losses, element by element.


def huber(a: Array, *, delta: float) -> Result:
    """a^2 / 2 within delta, a straight line beyond. (Huber, 1964.)"""
    inside = np.clip(a, -delta, delta)
    return inside * (a - a.dtype.type(0.5) * inside), (lambda g: g * inside,)


def binary_cross_entropy(p: Array, target: Array) -> Result:
    """-log of the probability p that was given to the target; logs end at -100, as in PyTorch."""
    if p.size and not (p.min() >= 0 and p.max() <= 1):
        raise ValueError(
            "binary_cross_entropy: the input is not within 0 and 1: use sigmoid first, or "
            "binary_cross_entropy_with_logits."
        )
    with np.errstate(divide="ignore"):
        of_one = np.maximum(np.log(p), -100)
        of_zero = np.maximum(np.log1p(-p), -100)
    y = (target - 1) * of_zero - target * of_one
    return y, (
        lambda g: g * (p - target) / np.maximum((1 - p) * p, p.dtype.type(1e-12)),
        lambda g: g * (of_zero - of_one),
    )


def nll_loss(
    x: Array, target: Array, weight: Array | None, *, reduction: str, ignore_index: int
) -> Result:
    """-x[target] of each row: x (N, C) and target (N,) ints -> a number, or (N,).

    weight, ignore_index and reduction as in tinytorch.ops.cross_entropy.
    """
    counted = target != ignore_index
    at = np.arange(len(x)), np.where(counted, target, 0)
    share = counted.astype(x.dtype) if weight is None else np.where(counted, weight[at[1]], 0)
    y = -np.where(counted, x[at], 0) * share
    total = share.sum() if reduction == "mean" else x.dtype.type(1)
    if reduction != "none":
        with np.errstate(invalid="ignore"):  # the mean of nothing is NaN
            y = np.asarray(y.sum() / total)

    def of_x(g: Array) -> Array:
        result = np.zeros_like(x)
        result[at] = -share * (g / total)
        return result

    return y, (of_x, None, None)


def xlogx(a: Array) -> Result:
    """a log(a), which is 0 at 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(a)
        return np.where(a == 0, 0, a * logs), (lambda g: g * (logs + 1),)
