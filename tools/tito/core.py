"""A bare Cortex-M0+ core for machine code: rp2040py's, without any firmware, counting cycles.

Its cycles follow the core's manual (one for arithmetic, two for a load, 1 + N for ldmia, two for a
jump that is taken); flash caches and the bus's contention are not modelled, so: everything in SRAM.
"""

import struct

from rp2040py import RP2040

RAM = 0x20000000
RAM_BYTES = 264 * 1024
STACK = RAM + RAM_BYTES - 4096  # grows down from here
_END = RAM + RAM_BYTES - 16  # a breakpoint that stands here is where a call returns to
_BREAKPOINT = 0xBEAB


class Core:
    """264 KB of RAM from RAM on, and the core. `write`, `read` and `call` take addresses."""

    def __init__(self) -> None:
        self._chip = RP2040()
        self._core = self._chip.core
        self._ram = self._chip.sram
        self._halted = False
        self._chip.on_break = self._halt
        self.write(_END, struct.pack("<H", _BREAKPOINT))

    def _halt(self, code: int) -> None:
        self._halted = True

    def write(self, address: int, data: bytes) -> None:
        at = address - RAM
        if not 0 <= at <= RAM_BYTES - len(data):
            raise ValueError(f"{len(data)} bytes at {address:#x} do not fit into the RAM.")
        self._ram[at : at + len(data)] = data

    def read(self, address: int, n: int) -> bytes:
        return bytes(self._ram[address - RAM : address - RAM + n])

    def call(self, address: int, *arguments: int) -> int:
        """Run the function at the address with up to four arguments; the cycles that it took.

        Raises RuntimeError where it does not keep r4 to r11 and the stack as it found them.
        """
        core = self._core
        registers = core.registers
        for i in range(13):
            registers[i] = 0xA0A0A000 + i
        for i, argument in enumerate(arguments):
            registers[i] = argument & 0xFFFFFFFF
        core.sp, core.lr, core.pc = STACK, _END | 1, address & ~1
        self._halted = False
        start, step = core.cycles, core.execute_instruction
        while not self._halted:
            step()
        if core.sp != STACK or any(registers[i] != 0xA0A0A000 + i for i in range(4, 12)):
            raise RuntimeError("The code has not kept r4 to r11 or the stack pointer.")
        return core.cycles - start - 1  # without the breakpoint

    @property
    def result(self) -> int:
        """What the last call left in r0."""
        return self._core.registers[0]
