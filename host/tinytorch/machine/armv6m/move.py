"""MOVE: by words where these lie so, else by bytes."""

from dataclasses import dataclass

from tinytorch.machine.armv6m.thumb import Assembler, lr, pc, r0, r1, r2, r3, r4, r5, r6, r7
from tinytorch.machine.kernel import Call, Candidates, Shape, Task
from tinytorch.quantize.operations import input_size
from tinytorch_core.model import Op


@dataclass(frozen=True)
class Move(Shape):
    """One code for all."""

    def assemble(self, unroll: int) -> bytes:
        return move()

    def cycles(self, op: Op) -> int:
        """Of a call, whose y is a multiple of 4."""
        size = input_size(op)
        if size % 4 or (op.x - op.y) % 4:
            return 28 + 8 * size
        four, rest = divmod(size // 4, 4)
        return 32 + 13 * four + (7 * rest - 2 if rest else 0)

    def parameters(self, call: Call) -> list[int]:
        return [call.x, call.y, input_size(call.op)]


def candidates(task: Task) -> Candidates:
    """The kernel of MOVE."""
    return Candidates([Move()])


def move() -> bytes:
    """Parameters: x, y (arena), bytes.

    r0 to    r1 from    r2 bytes that are left
    """
    a = Assembler()
    a.push(r4, r5, r6, r7, lr)
    a.ldr(r1, r2, 4)
    a.ldr(r3, r2, 8)
    a.ldr(r2, r2, 12)
    a.adds(r1, r1, r0)
    a.adds(r0, r0, r3)
    a.mov(r3, r0)
    a.orrs(r3, r1)
    a.orrs(r3, r2)
    a.lsls(r3, r3, 30)
    a.b("words", "eq")
    a.movs(r3, 0)
    a.label("byte")
    a.ldrb(r4, r1, r3)
    a.strb(r4, r0, r3)
    a.adds(r3, r3, 1)
    a.cmp(r3, r2)
    a.b("byte", "ne")
    a.b("end")
    a.label("four")
    a.ldmia(r1, r4, r5, r6, r7)
    a.stmia(r0, r4, r5, r6, r7)
    a.label("words")
    a.subs(r2, r2, 16)
    a.b("four", "hs")
    a.adds(r2, r2, 16)
    a.b("end", "eq")
    a.label("word")
    a.ldmia(r1, r3)
    a.stmia(r0, r3)
    a.subs(r2, r2, 4)
    a.b("word", "ne")
    a.label("end")
    a.movs(r0, 0)
    a.pop(r4, r5, r6, r7, pc)
    return a.assemble()
