"""LOGISTIC: by words where these lie so, else by bytes.

The table stays in the program, and may lie anywhere.
"""

from dataclasses import dataclass

from tinytorch.machine.armv6m.thumb import Assembler, lr, pc, r0, r1, r2, r3, r4, r5, r6, r7
from tinytorch.machine.kernel import Call, Candidates, Shape, Task
from tinytorch.quantize.operations import output_size
from tinytorch_core.model import Op

AT_ONCE = 16  # values


@dataclass(frozen=True)
class Logistic(Shape):
    """One code for all."""

    def assemble(self, unroll: int) -> bytes:
        return logistic()

    def cycles(self, op: Op) -> int:
        """Of a call whose x and y are multiples of 4."""
        several, rest = divmod(output_size(op), AT_ONCE)
        return 35 + 95 * several + (1 + 9 * rest if rest else 0)

    def parameters(self, call: Call) -> list[int]:
        return [call.x, call.y, call.op.weight, output_size(call.op)]


def candidates(task: Task) -> Candidates:
    """The kernel of LOGISTIC."""
    return Candidates([Logistic()])


def logistic() -> bytes:
    """Parameters: x, y (arena), the table (program), how many values.

    r0 to    r1 the table's middle    r2 values that are left    r3 from
    """
    a = Assembler()
    a.push(r4, r5, r6, r7, lr)
    a.ldr(r3, r2, 12)
    a.adds(r1, r1, r3)
    a.adds(r1, r1, 128)
    a.ldr(r3, r2, 4)
    a.adds(r3, r3, r0)
    a.ldr(r4, r2, 8)
    a.adds(r0, r0, r4)
    a.ldr(r2, r2, 16)
    a.mov(r4, r0)
    a.orrs(r4, r3)
    a.lsls(r4, r4, 30)
    a.b("words", "eq")
    a.b("bytes")
    a.label("several")
    for _ in range(AT_ONCE // 8):
        a.ldmia(r3, r4, r5)
        for word, result, value in ((r4, r6, r7), (r5, r7, r4)):
            a.sxtb(result, word)
            a.ldrb(result, r1, result)
            for at in (8, 16, 24):
                if at < 24:
                    a.lsls(value, word, 24 - at)
                    a.asrs(value, value, 24)
                else:
                    a.asrs(value, word, 24)
                a.ldrb(value, r1, value)
                a.lsls(value, value, at)
                a.orrs(result, value)
        a.stmia(r0, r6, r7)
    a.label("words")
    a.subs(r2, r2, AT_ONCE)
    a.b("several", "hs")
    a.adds(r2, r2, AT_ONCE)
    a.b("end", "eq")
    a.label("bytes")
    a.adds(r3, r3, r2)
    a.adds(r0, r0, r2)
    a.rsbs(r2, r2)
    a.label("byte")
    a.ldrsb(r4, r3, r2)
    a.ldrb(r4, r1, r4)
    a.strb(r4, r0, r2)
    a.adds(r2, r2, 1)
    a.b("byte", "ne")
    a.label("end")
    a.movs(r0, 0)
    a.pop(r4, r5, r6, r7, pc)
    return a.assemble()
