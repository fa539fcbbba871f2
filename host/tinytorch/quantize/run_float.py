"""A network's nodes in real numbers, in float64."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tinytorch.quantize.ir import INPUT, Array, Node
from tinytorch.quantize.operations import kind_of


def real_output(node: Node, inputs: Sequence[Array]) -> Array:
    """A node's output before its clip, (N, out_h, out_w, out_c); inputs: (N, ...) each.

    Raises ValueError for a kind that has no meaning in real numbers, or that nobody knows.
    """
    kind = kind_of(node, f"Layer {node.name}")
    if kind.real is None:
        raise ValueError(f"Layer {node.name} is a {kind.name}, which stands only in model files.")
    y = kind.real(node, inputs)
    return y + node.bias if node.bias.size else y


def run_float(nodes: Sequence[Node], x: NDArray) -> list[Array]:
    """Every node's output in float64; x: (N, H, W, C), or (N, L, C), or (N, features)."""
    outputs: list[Array] = []
    start = np.asarray(x, np.float64)
    for node in nodes:
        inputs = [start if i == INPUT else outputs[i] for i in node.inputs]
        outputs.append(np.clip(real_output(node, inputs), node.low, node.high))
    return outputs
