"""Write the model file that tinytorch_core.model reads."""

import binascii
import hashlib
import json
import struct
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from tinytorch.graph import INPUT
from tinytorch.plan import align, plan
from tinytorch.quantize import QuantizedNet
from tinytorch.runtime import Model
from tinytorch_core.model import (
    CRC_FROM,
    FIELDS,
    HEADER,
    HEADER_BYTES,
    MAGIC,
    MOVE,
    RECORD,
    RECORD_BYTES,
    VERSION,
)

ALIGN = 16  # of the program in the file and of weights in the program: a flash page divides by it


def to_bytes(net: QuantizedNet, vectors: "NDArray[np.int8] | None" = None) -> bytes:
    """The model file of a quantized network.

    vectors: (N, *input_shape), of the input's type; the file carries them with the outputs that
    the laptop gets, and a kit verifies itself against them when it receives the model. Of a network
    that takes a stream they are one step after the other.
    """
    if vectors is None or not len(vectors):
        return _file(net, b"", 0)
    model = Model(_file(net, b"", 0))
    streams = bool(model.histories)
    outputs = model.run_stream(vectors[None])[0] if streams else model.run_batch(vectors)
    pairs = [x.tobytes() + y.tobytes() for x, y in zip(vectors, outputs, strict=True)]
    return _file(net, b"".join(pairs), len(pairs))


def _program(net: QuantizedNet) -> tuple[bytes, int, int, int]:
    """Records, tables and weights; then the arena's size and the places of input and output."""
    layout = plan(net)
    program = bytearray(RECORD_BYTES * len(net.operations))
    for i, operation in enumerate(net.operations):
        node = operation.node
        # A reader begins with what was kept; MOVE puts the end of that to its beginning.
        places = [
            layout.input - net.kept if j == INPUT else layout.outputs[j] - net.operations[j].kept
            for j in node.inputs
        ]
        y = layout.outputs[i]
        if node.kind == MOVE:
            y, places = places[0], [places[0] + _new_bytes(net, node.inputs[0])]
        table = len(program)
        program += operation.table.astype("<i4").tobytes()
        program += bytes(align(len(program), ALIGN) - len(program))
        weight = len(program)
        program += operation.weight.tobytes()
        program += bytes(align(len(program), ALIGN) - len(program))
        values = {
            "x": places[0], "x2": places[-1], "y": y, "scratch": layout.scratch[i],
            "x_zero": operation.x_zero, "y_zero": operation.y_zero,
            "low": operation.low, "high": operation.high, "table": table, "weight": weight,
            "tier": operation.tier,
        }  # fmt: skip
        record = [values.get(f, getattr(node, f, 0)) for f in FIELDS]
        struct.pack_into(RECORD, program, i * RECORD_BYTES, *record)
    return bytes(program), layout.arena_bytes, layout.input, layout.outputs[-1]


def _new_bytes(net: QuantizedNet, source: int) -> int:
    """Of an operation's output, or of the input, without what was kept."""
    if source == INPUT:
        return _input_bytes(net)
    node = net.operations[source].node
    return node.out_h * node.out_w * node.out_c


def _input_bytes(net: QuantizedNet) -> int:
    return int(np.prod(net.input_shape)) * np.dtype(net.type).itemsize


def _file(net: QuantizedNet, vectors: bytes, count: int) -> bytes:
    program, arena_bytes, input_at, output_at = _program(net)
    meta = {
        "name": net.name,
        "labels": net.labels,
        "features": net.features,
        "input": {"shape": net.input_shape, "type": net.type, **asdict(net.input)},
        "output": {"shape": net.output_shape, **asdict(net.output)},
    }
    meta_bytes = json.dumps(meta, separators=(",", ":")).encode()
    meta_at = HEADER_BYTES + len(program)
    vectors_at = meta_at + len(meta_bytes)
    body = program + meta_bytes + vectors
    head = struct.pack(
        HEADER, MAGIC, VERSION, HEADER_BYTES, HEADER_BYTES + len(body) + 32, 0,
        HEADER_BYTES, len(program), meta_at, len(meta_bytes), vectors_at, count,
        arena_bytes, len(net.operations), input_at, _input_bytes(net),
        output_at, int(np.prod(net.output_shape)),
    )  # fmt: skip
    crc = binascii.crc32(head[CRC_FROM:] + body)
    data = head[: CRC_FROM - 4] + struct.pack("<I", crc) + head[CRC_FROM:] + body
    return data + hashlib.sha256(data).digest()
