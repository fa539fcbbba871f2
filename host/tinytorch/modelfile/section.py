"""The kernels section of a model file: machine code for one architecture.

    header    HEADER_BYTES, little-endian, see HEADER
    steps     one for each operation, see STEP: params, x, x2, y, scratch
    body      parameter blocks, code, constants

`params` is the offset of the operation's parameter block, or VIPER where the board's own kernel
runs the operation, or NOTHING where an earlier kernel has done its work. x, x2, y and scratch take
the place of the record's fields: the section has an arena plan of its own.

A parameter block's first word is the offset of a kernel's code, for which the board puts the code's
address. A kernel is called as kernel(arena, program, its parameter block), by the architecture's
rules for C functions, and returns 0. `prepare` is the parameter block of one that is called once,
after loading (0: none). Offsets count from the section's start, and are multiples of 4.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from tinytorch.modelfile import header as file_header
from tinytorch_core.model import HEADER_BYTES as FILE_HEADER_BYTES

MAGIC = b"TTK\n"
ABI = 1  # how kernels are called
# magic, ABI, architecture (MicroPython's number: sys.implementation._mpy >> 10 & 15), bytes of the
# section, arena bytes, input at, output at, steps, prepare, SHA-256 of all after the header
HEADER = "<4sHHIIIIII32s"
HEADER_BYTES = struct.calcsize(HEADER)
STEP = "<5i"
STEP_BYTES = struct.calcsize(STEP)
VIPER, NOTHING = 0, -1

Step = tuple[int, int, int, int, int]  # params, x, x2, y, scratch


@dataclass(frozen=True)
class Section:
    """What a section's header and steps say. arch: MicroPython's number of the architecture; data:
    all of its bytes, which the board keeps in RAM."""

    arch: int
    arena_bytes: int
    input_at: int
    output_at: int
    prepare: int
    steps: tuple[Step, ...]
    data: bytes

    @property
    def viper(self) -> int:
        """How many operations the board's own kernels run."""
        return sum(step[0] == VIPER for step in self.steps)


def section(
    arch: int,
    arena_bytes: int,
    input_at: int,
    output_at: int,
    prepare: int,
    steps: Sequence[Step],
    body: bytes,
) -> bytes:
    """A section's bytes. `body` is what follows the steps, at HEADER_BYTES + len(steps) *
    STEP_BYTES from the section's start."""
    rest = b"".join(struct.pack(STEP, *step) for step in steps) + body
    header = struct.pack(
        HEADER, MAGIC, ABI, arch, HEADER_BYTES + len(rest), arena_bytes, input_at, output_at,
        len(steps), prepare, hashlib.sha256(rest).digest(),
    )  # fmt: skip
    return header + rest


def _at(data: bytes) -> int:
    """Where in a model file its section begins."""
    header = file_header.read(data)
    return header.vectors_at + header.vectors * (header.input_bytes + header.output_bytes)


def read(data: bytes) -> Section | None:
    """The section of a model file (its bytes, checked by `Model` before), or None without one.

    Raises ValueError for a section that is cut short, or of another kind.
    """
    found = data[_at(data) : -32]
    if not found:
        return None
    if len(found) >= HEADER_BYTES:
        magic, abi, arch, size, arena_bytes, input_at, output_at, count, prepare, _ = (
            struct.unpack_from(HEADER, found)
        )
        body = HEADER_BYTES + count * STEP_BYTES
        if magic == MAGIC and abi == ABI and body <= size == len(found):
            steps = tuple(struct.iter_unpack(STEP, found[HEADER_BYTES:body]))
            return Section(arch, arena_bytes, input_at, output_at, prepare, steps, found)
    raise ValueError("The model file has a kernels section of an unknown kind: update TinyTorch.")


def attach_section(data: bytes, section: bytes) -> bytes:
    """The model file with this section in place of the one that it may have; b"" for none."""
    return file_header.seal(file_header.read(data), data[FILE_HEADER_BYTES : _at(data)] + section)
