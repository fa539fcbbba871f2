"""Machine code that came with a model, in the section that tinytorch.modelfile.section describes.

All that can be checked is checked before any of it is called.
"""

import hashlib
import struct
import sys

import uctypes

from tinytorch_core.model import FIELDS, RECORD_BYTES, _check, check

ABI = 1
HEADER = "<4sHHIIIIII32s"
HEADER_BYTES = 64
STEP = "<5i"
STEP_BYTES = 20
X = 4 * FIELDS.index("x")  # where a record has it, x2 and y
SCRATCH = 4 * FIELDS.index("scratch")
VIPER, NOTHING = 0, -1


def bind(model, f, size):
    """Let a model that is being read run in the `size` bytes of machine code at which f stands.

    The model keeps it as `_code`, and gets its plan of the arena, its steps and its `_prepare`.
    Raises ValueError where it is damaged, or not for this board.
    """
    _check(size >= HEADER_BYTES, "machine code, cut short")
    model._code = code = bytearray(size)
    f.readinto(code)
    (magic, abi, arch, length, model.arena_bytes, model._input_at, model._output_at, steps, prepare,
     sha256) = struct.unpack_from(HEADER, code)  # fmt: skip
    _check(magic == b"TTK\n", "machine code, header")
    if abi != ABI:
        raise ValueError(
            "The model's machine code is of format %d and this board takes format %d: send the "
            "model with 'tito deploy', which brings both up to date." % (abi, ABI)
        )
    here = sys.implementation._mpy >> 10 & 15
    if arch != here:
        raise ValueError(
            "The model's machine code is for architecture %d and this board has %d: send the "
            "model with 'tito deploy', which brings the board's own." % (arch, here)
        )
    body = HEADER_BYTES + steps * STEP_BYTES
    _check(length == size and body <= size, "machine code, length")
    digest = hashlib.sha256(memoryview(code)[HEADER_BYTES:]).digest()
    _check(digest == sha256, "machine code, SHA-256")
    _check(steps == len(model._steps), "machine code, steps")

    from tinytorch.kernels.thumb_call import call

    program, bound = model._program, []
    for i, step in enumerate(model._steps):
        params, x, x2, y, scratch = struct.unpack_from(STEP, code, HEADER_BYTES + i * STEP_BYTES)
        _check(
            min(x, x2, y, scratch) >= 0 and max(x, x2, y, scratch) <= model.arena_bytes,
            "machine code, operation",
            i,
        )
        struct.pack_into("<3i", program, i * RECORD_BYTES + X, x, x2, y)
        struct.pack_into("<i", program, i * RECORD_BYTES + SCRATCH, scratch)
        if params == VIPER:
            check(program, i + 1, model.arena_bytes, i)
            bound.append(step)
        elif params != NOTHING:
            bound.append((call, _place(code, params, body)))
    model._steps = bound
    if prepare:
        model._prepare = call, _place(code, prepare, body)


def _place(code, params, body):
    """The address of a parameter block, whose kernel's offset becomes its address."""
    n = len(code)
    _check(params % 4 == 0 and body <= params <= n - 4, "machine code, parameters at", params)
    entry = struct.unpack_from("<I", code, params)[0]
    _check(entry % 4 == 0 and body <= entry < n, "machine code, kernel at", entry)
    base = uctypes.addressof(code)
    struct.pack_into("<I", code, params, base + entry + 1)  # + 1: Thumb instructions
    return base + params
