"""A model with machine code written by hand, small enough to know what must come of it."""

import struct
from pathlib import Path

import numpy as np

from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.section import (
    HEADER_BYTES,
    NOTHING,
    STEP_BYTES,
    VIPER,
    Step,
    attach_section,
    section,
)
from tinytorch.quantize.ir import INPUT, Node, Operation, Quant, QuantizedNet
from tinytorch_core.model import MAX_POOL

ARMV6M = 4
VALUES = 40

# y[i] = x[i] + 1 for n bytes; parameters: code, x, y, n.
ADD_ONE = struct.pack(
    "<14H",
    0x6853,  # ldr r3, [r2, #4]
    0x181B,  # adds r3, r3, r0
    0x6891,  # ldr r1, [r2, #8]
    0x1809,  # adds r1, r1, r0
    0x68D2,  # ldr r2, [r2, #12]
    0x3A01,  # loop: subs r2, #1
    0x5C98,  # ldrb r0, [r3, r2]
    0x3001,  # adds r0, #1
    0x5488,  # strb r0, [r1, r2]
    0x2A00,  # cmp r2, #0
    0xD1F9,  # bne loop
    0x2000,  # movs r0, #0
    0x4770,  # bx lr
    0,
)
# Doubles the word 16 bytes after the start of its parameters: it shows how often it was called.
DOUBLE = struct.pack(
    "<6H",
    0x6913,  # ldr r3, [r2, #16]
    0x005B,  # lsls r3, r3, #1
    0x6113,  # str r3, [r2, #16]
    0x2000,  # movs r0, #0
    0x4770,  # bx lr
    0,
)
RETURN = struct.pack("<2H", 0x2000, 0x4770)  # movs r0, #0; bx lr
HANG = struct.pack("<2H", 0xE7FE, 0)  # b to itself

# From a section's start: three parameter blocks, then the code of operations and of `prepare`.
BODY = HEADER_BYTES + 4 * STEP_BYTES
PREPARE, FIRST, SECOND, CODE = BODY, BODY + 4, BODY + 20, BODY + 36
STEPS: tuple[Step, ...] = (
    (FIRST, 8, 8, 64, 0),
    (VIPER, 64, 64, 128, 0),
    (SECOND, 128, 128, 200, 0),
    (NOTHING, 0, 0, 0, 0),
)


def copies(vectors: int = 0) -> bytes:
    """A model of four operations that copy VALUES bytes: maxima over one value."""
    shape = (1, 1, VALUES)
    none = np.zeros((0, 3), np.int32), np.zeros(0, np.int8)
    operations = [
        Operation(Node("copy", MAX_POOL, (source,), *shape, *shape), 0, 0, -128, 127, *none)
        for source in (INPUT, 0, 1, 2)
    ]
    quant = Quant(1.0, 0)
    net = QuantizedNet("copies", operations, (VALUES,), quant, (VALUES,), quant, [])
    x = np.random.default_rng(0).integers(-128, 128, (vectors, VALUES)).astype(np.int8)
    return to_bytes(net, x)


def made(
    arch: int = ARMV6M,
    arena_bytes: int = 240,
    input_at: int = 8,
    output_at: int = 200,
    prepare: int = PREPARE,
    steps: tuple[Step, ...] = STEPS,
    code: bytes = ADD_ONE,
    code_at: int = CODE,
    prepare_code: bytes = DOUBLE,
) -> bytes:
    """A section for `copies()`, with which bytes come out larger by 2: the first operation adds
    one, the second is left to viper, and the third does the fourth's work too."""
    body = struct.pack("<I", CODE + len(code))
    body += struct.pack("<4I", code_at, 8, 64, VALUES // 2)  # until `prepare` doubles it
    body += struct.pack("<4I", CODE, 128, 200, VALUES)
    return section(
        arch, arena_bytes, input_at, output_at, prepare, steps, body + code + prepare_code
    )


def patched(at: int, value: int, format: str = "<I") -> bytes:
    """The section with a number of its header replaced."""
    data = bytearray(hanging())
    struct.pack_into(format, data, at, value)
    return bytes(data)


def hanging(**other: object) -> bytes:
    """A section whose code never comes back, if it is ever called."""
    return made(code=HANG, prepare_code=HANG, **other)


def returning() -> bytes:
    """A section for `copies()` whose four operations are calls of code that does nothing."""
    steps = [(BODY + 4 * i, 0, 0, 0, 0) for i in range(4)]
    body = struct.pack("<4I", *[BODY + 16] * 4) + RETURN
    return section(ARMV6M, 240, 8, 200, 0, steps, body)


def with_step(i: int, *step: int) -> bytes:
    return hanging(steps=(*STEPS[:i], step, *STEPS[i + 1 :]))


# Sections that every board refuses, each with what it must say.
DAMAGED = [
    (made()[:40], "cut short"),
    (patched(0, 0), "header"),
    (patched(4, 2, "<H"), "of format 2 and this board takes format 1"),
]
# Sections that only a Pico can refuse. The first offset after them is SIZE.
SIZE = len(hanging())
REFUSED = [
    (hanging(arch=5), "architecture 5 and this board has 4"),
    (hanging()[:-4], "length"),
    (patched(24, 1 << 30), "length"),
    (hanging()[:-1] + b"\1", "SHA-256"),
    (hanging(steps=STEPS[:3]), "steps"),
    *[(with_step(2, at, 128, 128, 200, 0), f"parameters at {at}")
      for at in (-2, SECOND + 2, BODY - 4, SIZE)],
    *[(hanging(code_at=at), f"kernel at {at}") for at in (BODY - 4, CODE + 2, SIZE)],
    (with_step(2, FIRST, 128, 128, 200, 0), "kernel at"),  # bound already
    (with_step(2, SECOND, -1, 128, 200, 0), "operation 2"),
    (with_step(2, SECOND, 128, 128, 241, 0), "operation 2"),
    (with_step(1, VIPER, 201, 64, 128, 0), "operation 1"),
    (with_step(1, VIPER, 64, 64, 201, 0), "operation 1"),
    (hanging(input_at=201), "input or output"),
    (hanging(output_at=1 << 31), "input or output"),
    (hanging(prepare=SIZE), f"parameters at {SIZE}"),
]  # fmt: skip


def write(path: Path, sections: "list[tuple[bytes, str]]") -> None:
    """The file of models that check_machine.refusals reads."""
    models = [attach_section(copies(), data) for data, _ in sections]
    path.write_bytes(b"".join(struct.pack("<I", len(data)) + data for data in models))
