"""A trained network as a short list of float operations, ready to be quantized."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch import ops
from tinytorch.quantize.ir import INPUT, Array, Node
from tinytorch.quantize.operations import kind_of
from tinytorch.quantize.trace import Call, trace
from tinytorch_core import nn
from tinytorch_core.model import (
    ADD,
    AVG_POOL,
    CONV2D,
    DENSE,
    DEPTHWISE,
    LOGISTIC,
    MAX_POOL,
    MUL,
)

POSSIBLE = (
    "use Conv, Linear, BatchNorm, ReLU, ReLU6, Sigmoid, SiLU, pooling, Flatten and Dropout, and "
    "sums and products of their outputs"
)


def fold(net: nn.Module, shape: Sequence[int]) -> list[Node]:
    """What a net computes as nodes, batch norm and ReLU folded into what they follow.

    The net's own `forward` is followed, with its branches. shape: of one input as the net takes it,
    (C, L), (C, H, W) or (features,). The last node is the output.
    Raises ValueError for a layer that a kit cannot run, with its path in the net.
    """
    followed = trace(net, shape)
    fold = _Fold(shape)
    for call in followed.calls:
        fold.add(call, followed.readers)
    if not fold.nodes:
        raise ValueError("The network has no layer that computes anything.")
    return fold.nodes


@dataclass(frozen=True)
class _Activation:
    """A value on its way: which node gives it, and its extents there.

    alone: nobody else reads what the node gives. flat: its dimensions are one, (C, H, W) in a row.
    """

    source: int
    c: int
    h: int
    w: int
    flat: bool
    alone: bool = True

    @property
    def extents(self) -> tuple[int, int, int]:
        return self.c, self.h, self.w


def _float64(a: "NDArray[Any] | None", otherwise: float, n: int) -> Array:
    return np.full(n, otherwise) if a is None else np.array(a, np.float64)


class _Fold:
    """The nodes so far, and where each value is."""

    def __init__(self, shape: Sequence[int]):
        self.nodes: list[Node] = []
        self.signal = len(shape) == 2
        c, h, w = (shape[0], 1, shape[1]) if self.signal else (*shape, 1, 1)[:3]
        self.values = {0: _Activation(INPUT, c, h, w, flat=len(shape) == 1, alone=False)}

    def add(self, call: Call, readers: Any) -> None:
        method = self.METHODS.get(call.operation)
        inputs = [n for n in call.inputs if isinstance(n, int)]
        if method is None:
            raise ValueError(f"Layer {call.where} cannot run on a kit: {POSSIBLE}.")
        if not isinstance(call.inputs[0], int) or any(
            isinstance(n, int) != (method in (_Fold.plus, _Fold.times)) for n in call.inputs[1:]
        ):
            raise ValueError(
                f"Layer {call.where} mixes its input with constants in a way that a kit cannot "
                f"run: {POSSIBLE}."
            )
        values = [
            replace(self.values[n], alone=self.values[n].alone and readers[n] == 1) for n in inputs
        ]
        self.values[call.value] = method(self, call, *values)

    def _node(
        self, call: Call, kind: int, sources: Sequence[_Activation], out_c: int, **fields: Any
    ) -> _Activation:
        """Append a node that puts out an image."""
        a = sources[0]
        extents = {"in_h": a.h, "in_w": a.w, "in_c": a.c, "out_h": a.h, "out_w": a.w} | fields
        inputs = tuple([each.source for each in sources])
        node = Node(call.where, kind, inputs, out_c=out_c, **extents)
        self.nodes.append(node)
        return _Activation(len(self.nodes) - 1, out_c, node.out_h, node.out_w, a.flat)

    def _pair(self, numbers: Sequence[int], height: int) -> tuple[int, int]:
        """(height, width) of a kernel, a stride or a padding; `height` is a signal's."""
        return (height if self.signal else numbers[0], numbers[-1])

    def _window(
        self, call: Call, x: _Activation, kernel: Sequence[int], stride: Sequence[int],
        padding: Sequence[int],
    ) -> dict[str, int]:  # fmt: skip
        """The geometry of a layer that slides a window."""
        k, s, p = self._pair(kernel, 1), self._pair(stride, 1), self._pair(padding, 0)
        if p[0] >= k[0] or p[1] >= k[1]:
            raise ValueError(
                f"Layer {call.where} has windows of nothing but padding: make its padding smaller "
                "than its kernel."
            )
        return {
            "out_h": (x.h + 2 * p[0] - k[0]) // s[0] + 1,
            "out_w": (x.w + 2 * p[1] - k[1]) // s[1] + 1,
            "kernel_h": k[0], "kernel_w": k[1], "stride_h": s[0], "stride_w": s[1],
            "pad_h": p[0], "pad_w": p[1],
        }  # fmt: skip

    def conv(self, call: Call, x: _Activation) -> _Activation:
        attrs, name = call.attrs, call.where
        given: Any = call.inputs[1]
        if set(attrs["dilation"]) != {1}:
            raise ValueError(f"Layer {name} is dilated: a kit runs it with dilation=1.")
        if attrs["groups"] not in (1, x.c):
            raise ValueError(
                f"Layer {name} has {attrs['groups']} groups: a kit runs 1 or in_channels."
            )
        geometry = self._window(call, x, given.shape[2:], attrs["stride"], attrs["padding"])
        weight = _float64(given, 0, 0)
        if self.signal:
            weight = weight[:, :, None]
        if attrs["groups"] == 1:
            kind, weight = CONV2D, weight.transpose(0, 2, 3, 1)
        else:
            kind, weight = DEPTHWISE, weight[:, 0].transpose(1, 2, 0)
        bias: Any = call.inputs[2]
        out = len(given)
        return self._node(
            call, kind, [x], out, weight=weight, bias=_float64(bias, 0, out), **geometry
        )

    def pad(self, call: Call, x: _Activation) -> _Activation:
        raise ValueError(f"Layer {call.where} pads its ends differently: a kit pads both alike.")

    def linear(self, call: Call, x: _Activation) -> _Activation:
        given: Any = call.inputs[1]
        bias: Any = call.inputs[2]
        if not x.flat:
            raise ValueError(
                f"Layer {call.where} follows a layer with positions: put a Flatten before it."
            )
        out, values = given.shape
        # torch flattens (C, H, W); the kit's activations lie as (H, W, C).
        weight = _float64(given, 0, 0).reshape(out, x.c, x.h * x.w).transpose(0, 2, 1)
        return self._node(
            call, DENSE, [x], out, in_h=1, in_w=1, in_c=values, out_h=1, out_w=1,
            weight=weight.reshape(out, -1), bias=_float64(bias, 0, out),
        )  # fmt: skip

    def max_pool(self, call: Call, x: _Activation) -> _Activation:
        return self._pool(call, MAX_POOL, x)

    def avg_pool(self, call: Call, x: _Activation) -> _Activation:
        if any(call.attrs["padding"]):
            raise ValueError(
                f"Layer {call.where} averages over padding: a kit runs it with padding=0."
            )
        return self._pool(call, AVG_POOL, x)

    def _pool(self, call: Call, kind: int, x: _Activation) -> _Activation:
        attrs = call.attrs
        geometry = self._window(call, x, attrs["kernel"], attrs["stride"], attrs["padding"])
        return self._node(call, kind, [x], x.c, **geometry)

    def adaptive_avg_pool(self, call: Call, x: _Activation) -> _Activation:
        raise ValueError(
            f"Layer {call.where} has {call.attrs['size']} outputs a channel: a kit runs 1."
        )

    def mean(self, call: Call, x: _Activation) -> _Activation:
        """Over all positions: what global average pooling is."""
        spatial = (2,) if self.signal else (2, 3)
        if x.flat or tuple(call.attrs["dims"]) != spatial:
            raise ValueError(
                f"Layer {call.where} takes a mean that is not over all positions of each channel: "
                "a kit runs AdaptiveAvgPool with output_size=1."
            )
        y = self._node(call, AVG_POOL, [x], x.c, out_h=1, out_w=1, kernel_h=x.h, kernel_w=x.w)
        return replace(y, flat=not call.attrs["keepdim"])

    def batch_norm(self, call: Call, x: _Activation) -> _Activation:
        weight, bias, mean, var = (n for n in call.inputs[1:5] if not isinstance(n, int))
        name = call.where
        last = self.nodes[x.source] if x.source != INPUT else None
        clipped = last is not None and (last.low > -np.inf or last.high < np.inf)
        if last is None or not last.weight.size or clipped or not x.alone:
            raise ValueError(
                f"Layer {name} must follow a Conv or Linear layer directly, whose output nobody "
                "else reads."
            )
        if mean is None or var is None:
            raise ValueError(f"Layer {name} has no running statistics to fold.")
        if len(mean) != last.out_c:
            raise ValueError(
                f"Layer {name} has {len(mean)} features and follows {last.out_c} channels: put it "
                "before the Flatten."
            )
        n = last.out_c
        gain = 1 / np.sqrt(_float64(var, 0, 0) + call.attrs["eps"])
        gain = gain if weight is None else _float64(weight, 1, n) * gain
        new_bias = (last.bias - _float64(mean, 0, n)) * gain
        new_bias = new_bias if bias is None else new_bias + _float64(bias, 0, n)
        # The output channel stands last in depthwise weights and first in the others.
        ones = () if kind_of(last).channels_last else (1,) * (last.weight.ndim - 1)
        self.nodes[x.source] = replace(
            last, weight=last.weight * gain.reshape(-1, *ones), bias=new_bias
        )
        return x

    def relu(self, call: Call, x: _Activation) -> _Activation:
        return self._clip(call, x, 0.0, np.inf)

    def relu6(self, call: Call, x: _Activation) -> _Activation:
        return self._clip(call, x, 0.0, 6.0)

    def clamp(self, call: Call, x: _Activation) -> _Activation:
        low, high = call.attrs["low"], call.attrs["high"]
        return self._clip(
            call, x, -np.inf if low is None else low, np.inf if high is None else high
        )

    def _clip(self, call: Call, x: _Activation, low: float, high: float) -> _Activation:
        if x.source == INPUT:
            raise ValueError(f"Layer {call.where} must follow another layer.")
        if not x.alone:  # as a pooling of single values, which costs a copy
            x = self._node(call, MAX_POOL, [x], x.c)
        last = self.nodes[x.source]
        self.nodes[x.source] = replace(last, low=max(last.low, low), high=min(last.high, high))
        return x

    def sigmoid(self, call: Call, x: _Activation) -> _Activation:
        return self._node(call, LOGISTIC, [x], x.c)

    def silu(self, call: Call, x: _Activation) -> _Activation:
        gate = self._node(call, LOGISTIC, [x], x.c)
        return self._node(call, MUL, [x, gate], x.c, kernel_h=x.h, kernel_w=x.w)

    def plus(self, call: Call, a: _Activation, b: _Activation) -> _Activation:
        if a.extents != b.extents:
            raise ValueError(
                f"Layer {call.where} adds {a.extents} and {b.extents} (channels, height, width): a "
                "kit adds outputs of one shape."
            )
        return self._node(call, ADD, [a, b], a.c)

    def times(self, call: Call, a: _Activation, b: _Activation) -> _Activation:
        if (a.h, a.w) == (1, 1):
            a, b = b, a
        if a.c != b.c or (b.h, b.w) not in ((1, 1), (a.h, a.w)):
            raise ValueError(
                f"Layer {call.where} multiplies {a.extents} and {b.extents} (channels, height, "
                "width): a kit multiplies outputs of one shape, or each channel by one value."
            )
        return self._node(call, MUL, [a, b], a.c, kernel_h=b.h, kernel_w=b.w)

    def same(self, call: Call, x: _Activation) -> _Activation:
        return x

    def expand(self, call: Call, x: _Activation) -> _Activation:
        """One value a channel over all positions, for a product."""
        if (x.h, x.w) != (1, 1) or call.shape[1] != x.c:
            raise ValueError(f"Layer {call.where} repeats more than one value a channel.")
        return x

    def reshape(self, call: Call, x: _Activation) -> _Activation:
        """What keeps (C, H, W), or makes one row of it and back."""
        shape = call.shape[1:]
        image = (x.c, x.w) if self.signal else x.extents
        if shape == (math.prod(x.extents),):
            return replace(x, flat=True)
        if shape != image and not (x.h == x.w == 1 and shape[0] == math.prod(shape) == x.c):
            raise ValueError(
                f"Layer {call.where} makes {call.shape} of (channels, height, width) {x.extents}: "
                "a kit flattens everything, or nothing."
            )
        return replace(x, flat=False)

    METHODS: "dict[ops.Operation, Callable[..., _Activation]]" = {
        ops.conv: conv,
        ops.pad: pad,
        ops.linear: linear,
        ops.max_pool: max_pool,
        ops.avg_pool: avg_pool,
        ops.adaptive_avg_pool: adaptive_avg_pool,
        ops.mean: mean,
        ops.batch_norm: batch_norm,
        ops.relu: relu,
        ops.relu6: relu6,
        ops.clamp: clamp,
        ops.sigmoid: sigmoid,
        ops.silu: silu,
        ops.add: plus,
        ops.mul: times,
        ops.clone: same,
        ops.expand: expand,
        ops.reshape: reshape,
    }
