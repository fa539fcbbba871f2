"""A second core for machine code, to check tito.kits.cortex_m0: QEMU's Cortex-M0, in Unicorn.

It counts no cycles. It is strict about addresses: each word and halfword is where the real core
can read and write it, and nothing is outside the RAM.
"""

import unicorn
from unicorn import arm_const as arm

from tito.kits.cortex_m0 import RAM, RAM_BYTES, STACK

_END = RAM + RAM_BYTES - 16


class SecondCore:
    """tito.kits.cortex_m0.Core's RAM, `write`, `read`, `call` and `result`."""

    def __init__(self):
        self._uc = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        self._uc.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M0)
        self._uc.mem_map(RAM, RAM_BYTES)
        kinds = unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE
        self._uc.hook_add(kinds, self._check)

    def _check(self, uc, access, address, size, value, data):
        if address % size:
            at = uc.reg_read(arm.UC_ARM_REG_PC)
            raise RuntimeError(f"{size} bytes at {address:#x}, by the code near {at:#x}.")

    def write(self, address, data):
        self._uc.mem_write(address, data)
        self._uc.ctl_flush_tb()  # it may be code

    def read(self, address, n):
        return bytes(self._uc.mem_read(address, n))

    def call(self, address, *arguments, limit=10**7):
        """Run the function. Raises RuntimeError as tito.kits.cortex_m0.Core does."""
        first = arm.UC_ARM_REG_R0
        for i in range(13):
            self._uc.reg_write(first + i, 0xA0A0A000 + i)
        for i, argument in enumerate(arguments):
            self._uc.reg_write(first + i, argument & 0xFFFFFFFF)
        self._uc.reg_write(arm.UC_ARM_REG_SP, STACK)
        self._uc.reg_write(arm.UC_ARM_REG_LR, _END | 1)
        try:
            self._uc.emu_start(address | 1, _END, count=limit)
        except unicorn.UcError as error:
            at = self._uc.reg_read(arm.UC_ARM_REG_PC)
            raise RuntimeError(f"{error}, by the code near {at:#x}.") from None
        if self._uc.reg_read(arm.UC_ARM_REG_PC) != _END:
            raise RuntimeError(f"The code has run {limit} instructions and has not returned.")
        kept = [self._uc.reg_read(first + i) for i in range(4, 12)]
        if self._uc.reg_read(arm.UC_ARM_REG_SP) != STACK or kept != [
            0xA0A0A000 + i for i in range(4, 12)
        ]:
            raise RuntimeError("The code has not kept r4 to r11 or the stack pointer.")

    @property
    def result(self):
        """What the last call left in r0."""
        return self._uc.reg_read(arm.UC_ARM_REG_R0)
