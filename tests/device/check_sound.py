"""Run on any MicroPython: does this board's MEL give the bytes of the specification?"""

import gc
import struct

from tinytorch.kernels.sound import mel

CASE = "<IIII"  # bytes of the program, bytes of the arena, where the output stands, its bytes


def agreeing(path):
    """(cases with the right bytes, all cases, bytes that all runs allocated) of a file of cases."""
    good = cases = allocated = 0
    with open(path, "rb") as f:  # noqa: PTH123 (no pathlib on MicroPython)
        while True:
            head = f.read(struct.calcsize(CASE))
            if not head:
                return good, cases, allocated
            n, arena_bytes, at, size = struct.unpack(CASE, head)
            program, arena = bytearray(f.read(n)), bytearray(f.read(arena_bytes))
            expected = f.read(size)
            gc.collect()
            gc.disable()
            start = gc.mem_alloc()
            mel(arena, program, 0)
            allocated += gc.mem_alloc() - start
            gc.enable()
            good += arena[at : at + size] == expected
            cases += 1
