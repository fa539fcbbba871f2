"""A network's nodes in real numbers, in float64."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tinytorch.int8 import kernels
from tinytorch.quantize.ir import INPUT, Array, Node
from tinytorch_core.model import AVG_POOL, CONV2D, DENSE, DEPTHWISE, MAX_POOL


def linear(node: Node, inputs: Sequence[Array]) -> Array:
    """A node's output before its clip, (N, out_h, out_w, out_c); inputs: (N, ...) each."""
    a = inputs[0].reshape(-1, node.in_h, node.in_w, node.in_c)
    if node.kind == CONV2D:
        y = np.tensordot(kernels.windows(a, node, 0.0), node.weight, ((4, 5, 3), (1, 2, 3)))
    elif node.kind == DEPTHWISE:
        w = node.weight.reshape(*node.weight.shape[:2], node.in_c, -1)
        y = np.einsum("nhwcij,ijcm->nhwcm", kernels.windows(a, node, 0.0), w, optimize=True)
        y = y.reshape(*y.shape[:3], -1)
    elif node.kind == DENSE:
        y = a @ node.weight.T
    elif node.kind == MAX_POOL:
        y = kernels.windows(a, node, -np.inf).max((4, 5))
    elif node.kind == AVG_POOL:
        y = kernels.windows(a, node, 0.0).mean((4, 5))
    else:
        y = a + inputs[1].reshape(a.shape)
    return y + node.bias if node.bias.size else y


def run_float(nodes: Sequence[Node], x: NDArray) -> list[Array]:
    """Every node's output in float64; x: (N, H, W, C), or (N, L, C), or (N, features)."""
    outputs: list[Array] = []
    start = np.asarray(x, np.float64)
    for node in nodes:
        inputs = [start if i == INPUT else outputs[i] for i in node.inputs]
        outputs.append(np.clip(linear(node, inputs), node.low, node.high))
    return outputs
