"""Write the model file that tinytorch_core.model reads."""

import json
import math
import struct
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch.modelfile.arena import align, plan
from tinytorch.modelfile.header import Header, seal
from tinytorch.modelfile.runtime import Model
from tinytorch.quantize.ir import INPUT, QuantizedNet, record
from tinytorch.quantize.operations import kind_of, output_size
from tinytorch_core.model import (
    FIELDS,
    HEADER_BYTES,
    MAGIC,
    MOVE,
    RECORD,
    RECORD_BYTES,
)

ALIGN = 16  # of the program in the file and of weights in the program: a flash page divides by it


def to_bytes(net: QuantizedNet, vectors: "NDArray[Any] | None" = None) -> bytes:
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


def _program(net: QuantizedNet) -> tuple[bytes, int, int, int, int]:
    """Records, tables and weights; how many records; then the arena's size and the places of input
    and output."""
    layout = plan(net)
    operations = net.operations
    # Of each source what is kept stands in front of what is new.
    at = {INPUT: layout.input, **dict(enumerate(layout.outputs))}
    new = {INPUT: net.input_bytes, **{i: output_size(o.node) for i, o in enumerate(operations)}}
    kept = {INPUT: (net.kept, net.input.zero_point)}
    kept |= {i: (operation.kept, operation.y_zero) for i, operation in enumerate(operations)}
    moves = {i: _move(at[i] - n, n, new[i], zero) for i, (n, zero) in kept.items() if n}
    # The input is there already: it moves when it has been read.
    last = [moves.pop(INPUT)] if net.kept else []
    first = [*moves.values()]
    count = len(first) + len(operations) + len(last)
    program = bytearray(RECORD_BYTES * count)
    records = []
    for i, operation in enumerate(operations):
        table = len(program)
        program += operation.table.astype("<i4").tobytes()
        program += bytes(align(len(program), ALIGN) - len(program))
        weight = len(program)
        program += operation.weight.tobytes()
        program += bytes(align(len(program), ALIGN) - len(program))
        node = operation.node
        sizes = kind_of(node, f"Layer {node.name}").input_sizes(node)
        # A reader takes the newest bytes of a source, as many as it needs.
        places = [at[j] + new[j] - n for j, n in zip(node.inputs, sizes, strict=True)]
        records.append(
            record(
                operation, x=places[0], x2=places[-1], y=layout.outputs[i],
                scratch=layout.scratch[i], table=table, weight=weight,
            )
        )  # fmt: skip
    for i, each in enumerate([*first, *records, *last]):
        struct.pack_into(RECORD, program, i * RECORD_BYTES, *each)
    return bytes(program), count, layout.arena_bytes, layout.input, layout.outputs[-1]


def _move(begin: int, kept: int, new: int, fill: int) -> list[int]:
    """The record that brings the end of a buffer, which `kept` bytes begin, to its beginning."""
    unit = math.gcd(kept, new)  # so that no extent is too large
    values = {
        "kind": MOVE, "x": begin + new, "y": begin, "low": fill, "high": 127,
        "in_h": kept // unit, "in_c": unit, "out_h": kept // unit, "out_c": unit,
        **dict.fromkeys(("in_w", "out_w", "kernel_h", "kernel_w", "stride_h", "stride_w"), 1),
    }  # fmt: skip
    return [values.get(f, 0) for f in FIELDS]


def _file(net: QuantizedNet, vectors: bytes, count: int) -> bytes:
    program, operations, arena_bytes, input_at, output_at = _program(net)
    meta = {
        "name": net.name,
        "labels": net.labels,
        "features": net.features,
        "input": {"shape": net.input_shape, "type": net.type, **asdict(net.input)},
        "output": {"shape": net.output_shape, **asdict(net.output)},
    }
    meta_bytes = json.dumps(meta, separators=(",", ":")).encode()
    meta_at = HEADER_BYTES + len(program)
    header = Header(
        magic=MAGIC,
        version=0,
        header_bytes=HEADER_BYTES,
        file_bytes=0,
        crc=0,
        program_at=HEADER_BYTES,
        program_bytes=len(program),
        meta_at=meta_at,
        meta_bytes=len(meta_bytes),
        vectors_at=meta_at + len(meta_bytes),
        vectors=count,
        arena_bytes=arena_bytes,
        operations=operations,
        input_at=input_at,
        input_bytes=net.input_bytes,
        output_at=output_at,
        output_bytes=int(np.prod(net.output_shape)),
    )
    return seal(header, program + meta_bytes + vectors)
