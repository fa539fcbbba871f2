"""A quantized network as a .tflite file, and its run in TensorFlow Lite Micro: the exact oracle.

The file is written from the real scales and the integer weights; TensorFlow Lite Micro derives
multipliers, shifts, clips and paddings from them by itself.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.oracles import oracle
from tinytorch.quantize.ir import INPUT, Node, Quant, QuantizedNet
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

flatbuffers = oracle("flatbuffers", "test")
tflite = oracle("tflite", "test")
runtime = oracle("tflite_micro", "test").runtime

OPERATORS = {
    CONV2D: ("CONV_2D", "Conv2DOptions"),
    DEPTHWISE: ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions"),
    DENSE: ("FULLY_CONNECTED", "FullyConnectedOptions"),
    MAX_POOL: ("MAX_POOL_2D", "Pool2DOptions"),
    AVG_POOL: ("AVERAGE_POOL_2D", "Pool2DOptions"),
    ADD: ("ADD", "AddOptions"),
    MUL: ("MUL", "MulOptions"),
    LOGISTIC: ("LOGISTIC", "NONE"),
}
ACTIVATIONS = {(-np.inf, np.inf): "NONE", (0.0, np.inf): "RELU", (0.0, 6.0): "RELU6"}


def same_padding(n: int, kernel: int, stride: int) -> tuple[int, int]:
    """(padding before, output size) of TensorFlow's SAME; the padding after may be one more."""
    out = -(-n // stride)
    return max((out - 1) * stride + kernel - n, 0) // 2, out


def padding(node: Node) -> int:
    axes = [
        (node.in_h, node.kernel_h, node.stride_h, (node.pad_h, node.out_h)),
        (node.in_w, node.kernel_w, node.stride_w, (node.pad_w, node.out_w)),
    ]
    if all(have == (0, (n - k) // s + 1) for n, k, s, have in axes):
        return tflite.Padding.VALID
    assert all(have == same_padding(n, k, s) for n, k, s, have in axes), "neither VALID nor SAME"
    return tflite.Padding.SAME


class Writer:
    """The tables of one flatbuffer; every method returns an offset in it, or an index."""

    def __init__(self) -> None:
        self.b = flatbuffers.Builder(1024)
        self.buffers = [self.table("Buffer")]  # the first one is empty by convention
        self.tensors: list[int] = []

    def table(self, kind: str, **fields: Any) -> int:
        getattr(tflite, f"{kind}Start")(self.b)
        for name, value in fields.items():
            getattr(tflite, f"{kind}Add{name}")(self.b, value)
        return getattr(tflite, f"{kind}End")(self.b)

    def offsets(self, items: Sequence[int]) -> int:
        self.b.StartVector(4, len(items), 4)
        for item in reversed(items):
            self.b.PrependUOffsetTRelative(item)
        return self.b.EndVector()

    def numbers(self, values: Any, dtype: str) -> int:
        return self.b.CreateNumpyVector(np.array(values, dtype).reshape(-1))

    def tensor(
        self,
        shape: Sequence[int],
        dtype: str,
        scales: Sequence[float],
        zero_point: int = 0,
        axis: int = 0,
        data: "NDArray | None" = None,
    ) -> int:
        buffer = 0
        if data is not None:
            raw = data.tobytes()
            # Aligned to 16 as the schema asks, so that it can be read in place.
            self.b.StartVector(1, len(raw), 16)
            self.b.head -= len(raw)
            self.b.Bytes[self.b.head : self.b.head + len(raw)] = raw
            self.buffers.append(self.table("Buffer", Data=self.b.EndVector()))
            buffer = len(self.buffers) - 1
        quantization = self.table(
            "QuantizationParameters",
            Scale=self.numbers(scales, "f4"),
            ZeroPoint=self.numbers([zero_point] * len(scales), "i8"),
            QuantizedDimension=axis,
        )
        type_ = {"int8": tflite.TensorType.INT8, "int32": tflite.TensorType.INT32}[dtype]
        self.tensors.append(
            self.table(
                "Tensor",
                Shape=self.numbers(shape, "i4"),
                Type=type_,
                Buffer=buffer,
                Quantization=quantization,
            )
        )
        return len(self.tensors) - 1


def to_tflite(
    net: QuantizedNet, quants: Sequence[Quant], weight_scales: Sequence[Sequence[float]]
) -> bytes:
    """quants: of every operation's output; weight_scales: one a channel, or one."""
    w = Writer()
    first = net.operations[0].node
    start = w.tensor(
        (1, first.in_h, first.in_w, first.in_c), "int8", [net.input.scale], net.input.zero_point
    )
    outputs: list[int] = []
    operators: list[int] = []
    for operation, quant, scales in zip(net.operations, quants, weight_scales, strict=True):
        node = operation.node
        inputs = [start if i == INPUT else outputs[i] for i in node.inputs]
        name = OPERATORS[node.kind][1]
        options: dict[str, int] = {}
        if name != "NONE":
            options["FusedActivationFunction"] = getattr(
                tflite.ActivationFunctionType, ACTIVATIONS[node.low, node.high]
            )
        if node.kind in (CONV2D, DEPTHWISE, MAX_POOL, AVG_POOL):
            options.update(Padding=padding(node), StrideH=node.stride_h, StrideW=node.stride_w)
        if node.kind in (MAX_POOL, AVG_POOL):
            options.update(FilterHeight=node.kernel_h, FilterWidth=node.kernel_w)
        if node.kind == DEPTHWISE:
            options["DepthMultiplier"] = node.out_c // node.in_c
        if len(scales):
            kernel = (node.kernel_h, node.kernel_w)
            shape, axis = {
                CONV2D: ((node.out_c, *kernel, node.in_c), 0),
                DEPTHWISE: ((1, *kernel, node.out_c), 3),
                DENSE: ((node.out_c, node.in_c), 0),
            }[node.kind]
            x = net.input if node.inputs[0] == INPUT else quants[node.inputs[0]]
            bias = operation.table[:, 0].astype("<i4")
            inputs += [
                w.tensor(shape, "int8", scales, 0, axis, operation.weight),
                w.tensor((node.out_c,), "int32", np.float32(x.scale) * scales, data=bias),
            ]
        image = (node.out_h, node.out_w) if node.kind != DENSE else ()
        outputs.append(w.tensor((1, *image, node.out_c), "int8", [quant.scale], quant.zero_point))
        fields = {
            "Inputs": w.numbers(inputs, "i4"),
            "Outputs": w.numbers(outputs[-1:], "i4"),
            "OpcodeIndex": len(operators),
            "BuiltinOptionsType": getattr(tflite.BuiltinOptions, name),
        }
        if name != "NONE":
            fields["BuiltinOptions"] = w.table(name, **options)
        operators.append(w.table("Operator", **fields))
    codes = [getattr(tflite.BuiltinOperator, OPERATORS[o.node.kind][0]) for o in net.operations]
    subgraph = w.table(
        "SubGraph",
        Tensors=w.offsets(w.tensors),
        Inputs=w.numbers([start], "i4"),
        Outputs=w.numbers(outputs[-1:], "i4"),
        Operators=w.offsets(operators),
    )
    model = w.table(
        "Model",
        Version=3,
        OperatorCodes=w.offsets(
            [
                w.table("OperatorCode", DeprecatedBuiltinCode=c, BuiltinCode=c, Version=1)
                for c in codes
            ]
        ),
        Subgraphs=w.offsets([subgraph]),
        Buffers=w.offsets(w.buffers),
    )
    w.b.Finish(model, b"TFL3")
    return bytes(w.b.Output())


def run(model: bytes, x: NDArray[np.int8]) -> NDArray[np.int8]:
    """(N, ...) int8 inputs to (N, values of one output), each by TensorFlow Lite Micro."""
    interpreter = runtime.Interpreter.from_bytes(model)
    shape = interpreter.get_input_details(0)["shape"]
    rows = []
    for sample in x:
        interpreter.set_input(sample.reshape(shape), 0)
        interpreter.invoke()
        rows.append(interpreter.get_output(0).reshape(-1).copy())
    return np.array(rows)
