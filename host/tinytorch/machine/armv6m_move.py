"""MOVE for the Cortex-M0+ (RP2040), by words."""

from dataclasses import dataclass

from tinytorch.machine.thumb import Assembler, lr, pc, r0, r1, r2, r3, r4, r5, r6, r7


@dataclass(frozen=True)
class Move:
    """One code for all lengths, which are multiples of 4, as x and y are."""


def move(shape: Move) -> bytes:
    """Parameters: x, y (arena), bytes."""
    a = Assembler()
    a.push(r4, r5, r6, r7, lr)
    a.ldr(r1, r2, 4)
    a.ldr(r3, r2, 8)
    a.ldr(r2, r2, 12)
    a.adds(r1, r1, r0)
    a.adds(r0, r0, r3)
    a.b("many")
    a.label("four")
    a.ldmia(r1, r4, r5, r6, r7)
    a.stmia(r0, r4, r5, r6, r7)
    a.label("many")
    a.subs(r2, r2, 16)
    a.b("four", "hs")
    a.adds(r2, r2, 16)
    a.b("end", "eq")
    a.label("one")
    a.ldmia(r1, r3)
    a.stmia(r0, r3)
    a.subs(r2, r2, 4)
    a.b("one", "ne")
    a.label("end")
    a.movs(r0, 0)
    a.pop(r4, r5, r6, r7, pc)
    return a.assemble()


def cycles(size: int) -> int:
    """Of a call that moves so many bytes."""
    four, rest = divmod(size // 4, 4)
    return 28 + 13 * four + 7 * rest


def possible(x: int, y: int, size: int) -> bool:
    return x % 4 == y % 4 == size % 4 == 0
