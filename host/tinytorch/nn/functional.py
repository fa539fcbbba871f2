"""PyTorch's `torch.nn.functional`: layers and losses as functions of Tensors.

reduction, of every loss: "mean" over all its numbers, their "sum", or "none".
"""

import numpy as np

from tinytorch import ops
from tinytorch.autograd.tape import Size, apply
from tinytorch.autograd.tensor import Tensor
from tinytorch_core import shapes

# Activations. inplace is taken as in PyTorch; the result is a new tensor all the same.


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(input, 0)."""
    return input.relu()


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(input, 0), 6)."""
    return input.relu6()


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """input above 0, negative_slope * input below."""
    return input.leaky_relu(negative_slope)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """input above 0, alpha * (exp(input) - 1) below."""
    return input.elu(alpha)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """input times the normal CDF of input; approximate="tanh" comes near to it by tanh."""
    return input.gelu(approximate)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """input * sigmoid(input)."""
    return input.silu()


def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return input.tanh()


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-input))."""
    return input.sigmoid()


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """relu6(input + 3) / 6."""
    return input.hardsigmoid()


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """input * hardsigmoid(input)."""
    return input.hardswish()


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * input)) / beta; input where beta * input is above threshold."""
    return input.softplus(beta, threshold)


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(input)), without overflow."""
    return apply(ops.logsigmoid, input)


def softmax(input: Tensor, dim: int) -> Tensor:
    """exp(input) / sum(exp(input)) along a dimension."""
    return input.softmax(dim)


def log_softmax(input: Tensor, dim: int) -> Tensor:
    """log(softmax(input)) along a dimension, without overflow."""
    return input.log_softmax(dim)


# Layers.


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input (..., in), weight (out, in), bias (out,) -> (..., out)."""
    return input.linear(weight, bias)


def conv1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size = 1,
    padding: Size | str = 0, dilation: Size = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """input (N, C, L), weight (O, C / groups, K), bias (O,) -> (N, O, OL)."""
    return input.conv1d(weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size = 1,
    padding: Size | str = 0, dilation: Size = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """input (N, C, H, W), weight (O, C / groups, KH, KW), bias (O,) -> (N, O, OH, OW)."""
    return input.conv2d(weight, bias, stride, padding, dilation, groups)


def max_pool1d(
    input: Tensor, kernel_size: Size, stride: Size | None = None, padding: Size = 0
) -> Tensor:
    """input (N, C, L) -> (N, C, OL): the largest of each window; stride: kernel_size by default."""
    return input.max_pool1d(kernel_size, stride, padding)


def max_pool2d(
    input: Tensor, kernel_size: Size, stride: Size | None = None, padding: Size = 0
) -> Tensor:
    """input (N, C, H, W) -> (N, C, OH, OW): the largest of each window.

    stride: kernel_size by default.
    """
    return input.max_pool2d(kernel_size, stride, padding)


def avg_pool1d(
    input: Tensor, kernel_size: Size, stride: Size | None = None, padding: Size = 0
) -> Tensor:
    """input (N, C, L) -> (N, C, OL): the mean of each window, with the zeros of the padding."""
    return input.avg_pool1d(kernel_size, stride, padding)


def avg_pool2d(
    input: Tensor, kernel_size: Size, stride: Size | None = None, padding: Size = 0
) -> Tensor:
    """input (N, C, H, W) -> (N, C, OH, OW): the mean of each window, with the padding's zeros."""
    return input.avg_pool2d(kernel_size, stride, padding)


def adaptive_avg_pool1d(input: Tensor, output_size: Size) -> Tensor:
    """input (N, C, L) -> (N, C, output_size): means over equal parts."""
    return input.adaptive_avg_pool1d(output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: Size) -> Tensor:
    """input (N, C, H, W) -> (N, C, *output_size): means over equal parts."""
    return input.adaptive_avg_pool2d(output_size)


def batch_norm(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None,
    weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Each channel of (N, C, ...) normalised; training moves the running statistics."""
    return input.batch_norm(running_mean, running_var, weight, bias, training, momentum, eps)


def layer_norm(
    input: Tensor, normalized_shape: tuple[int, ...], weight: Tensor | None = None,
    bias: Tensor | None = None, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Each sample normalised over its last dimensions, of normalized_shape."""
    return input.layer_norm(normalized_shape, weight, bias, eps)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In training, zeros with probability p and the rest scaled by 1 / (1 - p)."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p={p} is not in [0, 1].")
    return input.dropout(p, training)


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """The rows of weight (num, d) at input, ints of any shape -> (*shape, d)."""
    return input.embedding(weight, padding_idx)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Class numbers of any shape -> (*shape, num_classes) of zeros and ones; -1: as many as found.

    Raises TypeError for other than integers, ValueError for a class outside.
    """
    labels = tensor.data
    if labels.dtype.kind not in "iu":
        raise TypeError(f"one_hot: the tensor holds {labels.dtype}: give class numbers.")
    if num_classes < 0 and not labels.size:
        raise ValueError("one_hot: there is nothing to count the classes of: give num_classes.")
    classes = int(labels.max()) + 1 if num_classes < 0 else num_classes
    _check_labels("one_hot", labels, classes)
    return Tensor((labels[..., None] == np.arange(classes)).astype(np.int64))


def pad(input: Tensor, pad: tuple[int, ...], mode: str = "constant", value: float = 0.0) -> Tensor:
    """pad: (before, after) of the last dimension, then of the one before it, and so on."""
    if mode != "constant":
        raise ValueError(f'pad: mode {mode!r} is not supported, only "constant".')
    return input.pad(pad, value)


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """input divided by its length along a dimension; p, of the norm, is 2."""
    if p != 2:
        raise ValueError(f"normalize: p={p} is not supported, only 2.")
    dim = shapes.axis("normalize", dim, input.ndim)
    return apply(ops.normalize, input, dim=dim, eps=eps)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between two vectors along a dimension."""
    return (normalize(x1, dim=dim, eps=eps) * normalize(x2, dim=dim, eps=eps)).sum(dim)


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
) -> Tensor:  # fmt: skip
    """softmax(query keyT scale) value: (..., L, d), (..., S, d), (..., S, dv) -> (..., L, dv).

    attn_mask, broadcastable to (..., L, S): bools, True where a query may attend, or floats to add.
    dropout_p drops weights, always. scale: 1 / sqrt(d) if None. (Vaswani et al., 2017.)
    """
    q, k, v = query.shape, key.shape, value.shape
    if not min(len(q), len(k), len(v)) > 1 or q[-1] != k[-1] or k[-2] != v[-2]:
        raise ValueError(
            f"scaled_dot_product_attention: query {q}, key {k} and value {v} do not fit; "
            "(..., L, d), (..., S, d) and (..., S, dv) do."
        )
    if attn_mask is not None and is_causal:
        raise ValueError("scaled_dot_product_attention: give attn_mask or is_causal, not both.")
    scale = q[-1] ** -0.5 if scale is None else scale
    if dropout_p:
        weights = _attention_weights(query, key, attn_mask, scale, is_causal)
        return weights.dropout(dropout_p) @ value
    return apply(ops.attention, query, key, value, attn_mask, scale=scale, causal=is_causal)


def _attention_weights(
    query: Tensor, key: Tensor, mask: Tensor | None, scale: float, causal: bool
) -> Tensor:
    """The softmax of scaled_dot_product_attention, (..., L, S), for those who want to see it."""
    scores = (query * scale) @ key.transpose(-1, -2)
    if causal:
        scores = scores + _added_mask(Tensor(np.tri(*scores.shape[-2:], dtype=bool)))
    if mask is not None:
        scores = scores + _added_mask(mask)
    return scores.softmax(-1)


def _added_mask(mask: Tensor) -> Tensor:
    """Bools, True where a query may attend, as numbers to add to its scores."""
    if mask.dtype.kind != "b":
        return mask
    return Tensor(np.where(mask.data, np.float32(0), np.float32(-np.inf)))


# Losses.


def _check_labels(operation: str, labels: np.ndarray, classes: int) -> None:
    outside = labels[(labels < 0) | (labels >= classes)]
    if outside.size:
        raise ValueError(f"{operation}: class {outside.min()} is not one of 0 to {classes - 1}.")


def _check_reduction(operation: str, reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(
            f'{operation}: reduction {reduction!r} is not one of "mean", "sum" and "none".'
        )


def _reduced(operation: str, losses: Tensor, reduction: str) -> Tensor:
    _check_reduction(operation, reduction)
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def _check_shapes(operation: str, input: Tensor, target: Tensor) -> None:
    if input.shape != target.shape:
        raise ValueError(f"{operation}: input {input.shape} does not fit target {target.shape}.")


def _by_class(
    operation: str, input: Tensor, target: Tensor, weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    """input (N, C, ...) as rows of classes, and target (N, ...) as one number for each."""
    shape = input.shape
    if not shape or target.shape != (shape[:1] + shape[2:] if len(shape) > 1 else ()):
        raise ValueError(
            f"{operation}: input {shape} does not fit target {target.shape}; "
            "(N, classes) and (N,) do."
        )
    if target.dtype.kind not in "iu":
        raise TypeError(f"{operation}: the target holds {target.dtype}: give class numbers.")
    classes = shape[1 if len(shape) > 1 else 0]
    if weight is not None and weight.shape != (classes,):
        raise ValueError(f"{operation}: weight {weight.shape} does not fit {classes} classes.")
    if len(shape) == 2:
        return input, target
    if len(shape) > 2:
        input = input.permute(0, *range(2, len(shape)), 1)
    return input.reshape(shapes.size(target.shape), classes), target.reshape(-1)


def cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100,
    reduction: str = "mean", label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """-log softmax(input)[target]; input: (N, classes, ...), target: (N, ...) ints.

    target may also hold probabilities, floats in the shape of input. weight (classes,) counts the
    classes, and the mean is over their weights; targets of ignore_index count nothing;
    label_smoothing spreads that part of each target evenly (Szegedy et al., 2016).
    """
    _check_reduction("cross_entropy", reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing {label_smoothing} is not in [0, 1].")
    if target.shape == input.shape and target.dtype.kind == "f" and input.ndim:
        dim = min(1, input.ndim - 1)
        even = label_smoothing / input.shape[dim]
        shares = target * (1 - label_smoothing) + even if label_smoothing else target
        if weight is not None:
            shares = shares * weight.reshape(-1, *[1] * (input.ndim - dim - 1))
        return _reduced("cross_entropy", -(input.log_softmax(dim) * shares).sum(dim), reduction)
    rows, labels = _by_class("cross_entropy", input, target, weight)
    y = apply(
        ops.cross_entropy, rows, labels, weight, reduction=reduction,
        ignore_index=ignore_index, label_smoothing=label_smoothing,
    )  # fmt: skip
    return y.reshape(target.shape) if reduction == "none" else y


def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """-input[target], for an input of log-probabilities; the rest as in cross_entropy."""
    _check_reduction("nll_loss", reduction)
    rows, labels = _by_class("nll_loss", input, target, weight)
    _check_labels("nll_loss", labels.data[labels.data != ignore_index], rows.shape[1])
    y = apply(ops.nll_loss, rows, labels, weight, reduction=reduction, ignore_index=ignore_index)
    return y.reshape(target.shape) if reduction == "none" else y


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """-log of the probability that the input, within 0 and 1, gives to the target (0 to 1)."""
    _check_shapes("binary_cross_entropy", input, target)
    losses = apply(ops.binary_cross_entropy, input, target)
    return _reduced(
        "binary_cross_entropy", losses if weight is None else losses * weight, reduction
    )


def binary_cross_entropy_with_logits(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """binary_cross_entropy of sigmoid(input), without its overflows.

    pos_weight counts the targets of one, and broadcasts as weight does.
    """
    _check_shapes("binary_cross_entropy_with_logits", input, target)
    logs = logsigmoid(input)
    if pos_weight is not None:
        logs = logs * ((pos_weight - 1) * target + 1)
    losses = (1 - target) * input - logs
    return _reduced(
        "binary_cross_entropy_with_logits", losses if weight is None else losses * weight, reduction
    )


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """The squared differences."""
    _check_shapes("mse_loss", input, target)
    d = input - target
    return _reduced("mse_loss", d * d, reduction)


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """The absolute differences."""
    _check_shapes("l1_loss", input, target)
    return _reduced("l1_loss", (input - target).abs(), reduction)


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0
) -> Tensor:
    """Half the squared difference up to delta, a straight line beyond. (Huber, 1964.)"""
    _check_shapes("huber_loss", input, target)
    if not delta > 0:
        raise ValueError(f"huber_loss: delta {delta} is not above 0.")
    return _reduced("huber_loss", apply(ops.huber, input - target, delta=delta), reduction)


def smooth_l1_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0
) -> Tensor:
    """huber_loss of delta beta, divided by beta; l1_loss for a beta of 0."""
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta {beta} is below 0.")
    if beta == 0:
        return l1_loss(input, target, reduction)
    return huber_loss(input, target, reduction, beta) / beta


def kl_div(
    input: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False
) -> Tensor:
    """target * (log target - input): how far input, log-probabilities, is from the target.

    log_target: the target holds logs too. reduction "batchmean" is the sum over the first length,
    and what mathematics calls the divergence. (Kullback and Leibler, 1951.)
    """
    _check_shapes("kl_div", input, target)
    if log_target:
        losses = target.exp() * (target - input)
    else:
        losses = apply(ops.xlogx, target) - target * input
    if reduction == "batchmean":
        return losses.sum() / (input.shape[0] if input.ndim else 1)
    return _reduced("kl_div", losses, reduction)
