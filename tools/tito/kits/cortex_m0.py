"""A bare Cortex-M0+ core for machine code: rp2040py's, without any firmware, counting cycles.

Its cycles are those of the core's manual (Cortex-M0+ Technical Reference Manual, table 3-1: one for
arithmetic, two for a load, 1 + N for ldmia, two for a jump that is taken), with one exception:
lr in push and pc in pop are not counted as one of the N registers, so that each costs one cycle
less here. Flash caches and the bus's contention are not modelled, so: everything in SRAM.

rp2040py has some flags wrong that compilers hardly ever look at: C after a shift by a register that
holds 0 (lsrs, asrs) or more than 32 (lsls), V after adcs and sbcs where the carry makes an operand
of 0x7fffffff overflow.
"""

import struct

import numpy as np
from numpy.typing import NDArray
from rp2040py import RP2040

from tinytorch.modelfile import section
from tinytorch.modelfile.runtime import Model
from tinytorch_core.model import FIELDS, MOVE, RECORD_BYTES, Op

RAM = 0x20000000
RAM_BYTES = 264 * 1024
STACK = RAM + RAM_BYTES - 4096  # grows down from here
_END = RAM + RAM_BYTES - 16  # a breakpoint that stands here is where a call returns to
_BREAKPOINT = 0xBEAB


class _Returned(Exception):
    """The core has reached the breakpoint."""


class _Faults:
    """A log for rp2040py that raises its warnings, since a real core stops there."""

    def debug(self, part: str, message: str) -> None:
        pass

    info = debug

    def warning(self, part: str, message: str) -> None:
        raise RuntimeError(f"The code has gone wrong: {message.removeprefix('Warning: ')}")

    error = warning


class Core:
    """264 KB of RAM from RAM on, and the core. `write`, `read` and `call` take addresses."""

    def __init__(self) -> None:
        self._chip = RP2040()
        self._chip.logger = _Faults()
        self._chip.on_break = self._break
        self._core = self._chip.core
        self.write(_END, struct.pack("<H", _BREAKPOINT))

    def _break(self, code: int) -> None:
        if self._core.pc != _END + 2:
            raise RuntimeError(f"The code has come to a breakpoint at {self._core.pc - 2:#x}.")
        raise _Returned

    @staticmethod
    def _place(address: int, n: int) -> slice:
        at = address - RAM
        if not 0 <= at <= RAM_BYTES - n:
            raise ValueError(f"{n} bytes at {address:#x} are not in the RAM.")
        return slice(at, at + n)

    def write(self, address: int, data: bytes) -> None:
        self._chip.sram[self._place(address, len(data))] = data

    def read(self, address: int, n: int) -> bytes:
        return bytes(self._chip.sram[self._place(address, n)])

    def call(self, address: int, *arguments: int, limit: int = 10**9) -> int:
        """Run the function at the address with up to four arguments; the cycles that it took.

        Raises RuntimeError where it does not keep r4 to r11 and the stack as it found them, has not
        returned after `limit` instructions, or does what the real core stops at: an instruction
        that there is not, a word read from an address that is not a multiple of 4, or from none.
        """
        if len(arguments) > 4:
            raise ValueError(f"A function takes up to four arguments and got {len(arguments)}.")
        core = self._core
        registers = core.registers
        for i in range(13):
            registers[i] = 0xA0A0A000 + i
        for i, argument in enumerate(arguments):
            registers[i] = argument & 0xFFFFFFFF
        core.sp, core.lr, core.pc = STACK, _END | 1, address & ~1
        start, step = core.cycles, core.execute_instruction
        try:
            for _ in range(limit):
                step()
            raise RuntimeError(f"The code has run {limit} instructions and has not returned.")
        except _Returned:
            pass
        if core.sp != STACK or any(registers[i] != 0xA0A0A000 + i for i in range(4, 12)):
            raise RuntimeError("The code has not kept r4 to r11 or the stack pointer.")
        return core.cycles - start

    @property
    def result(self) -> int:
        """What the last call left in r0."""
        return self._core.registers[0]


class CoreModel:
    """A model file with machine code for all of its operations, loaded as the board loads it.

    A model of a stream keeps its past samples from run to run.
    core: an existing core to use, for this model alone.
    """

    def __init__(self, data: bytes, core: "Core | None" = None) -> None:
        code = section.read(data)
        if code is None or not all(step[0] for step in code.steps):
            raise ValueError("An operation has no machine code: it needs a MicroPython to run.")
        model = Model(data)
        self.core = core = core or Core()
        self._section, self._input, self._output = code, len(model.input), len(model.output)
        self._output_shape = model.output_shape
        program = bytearray(model._program)
        for i, step in enumerate(code.steps):
            for name, value in zip(("x", "x2", "y", "scratch"), step[1:], strict=True):
                at = RECORD_BYTES * i + 4 * FIELDS.index(name)
                struct.pack_into("<i", program, at, value)
        self._program = RAM
        self._arena = self._program + -(-len(program) // 16) * 16
        self._code = self._arena + -(-code.arena_bytes // 16) * 16
        blocks = [step[0] for step in code.steps if step[0] > 0]
        part = bytearray(code.data)
        for block in {*blocks, code.prepare} - {0}:
            entry = struct.unpack_from("<I", part, block)[0]
            struct.pack_into("<I", part, block, self._code + entry | 1)
        core.write(self._program, bytes(program))
        core.write(self._code, bytes(part))
        if self._code + len(part) > STACK - 1024:
            raise ValueError("The model does not fit into the RAM.")
        if code.prepare:
            self._call(code.prepare)
        self._moves = [
            Op(program, RECORD_BYTES * i)
            for i, op in enumerate(model.operations)
            if op.kind == MOVE
        ]
        self.reset()

    def reset(self) -> None:
        """Forget all steps so far of a stream."""
        for op in self._moves:
            size = op.x + op.in_h * op.in_w * op.in_c - op.y
            self.core.write(self._arena + op.y, bytes((op.low & 255,)) * size)

    def _call(self, block: int) -> int:
        entry = struct.unpack("<I", self.core.read(self._code + block, 4))[0]
        return self.core.call(entry, self._arena, self._program, self._code + block)

    def run(self, x: NDArray[np.int8]) -> tuple[NDArray[np.int8], list[int]]:
        """One inference: the output, and the cycles of each operation."""
        self.core.write(self._arena + self._section.input_at, x.tobytes())
        cycles = [self._call(step[0]) if step[0] > 0 else 0 for step in self._section.steps]
        y = self.core.read(self._arena + self._section.output_at, self._output)
        return np.frombuffer(y, np.int8).reshape(self._output_shape), cycles
