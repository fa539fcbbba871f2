"""Who feeds whom in a model file, from where its operations read and write."""

from collections.abc import Sequence

from tinytorch.quantize.ir import INPUT
from tinytorch_core.model import ADD, MOVE, Op


def data_flow(ops: Sequence[Op]) -> list[tuple[int, ...]]:
    """Of each operation, those whose outputs it reads (INPUT: the network's input): the last that
    wrote where it reads; of MOVE, that whose output it moves."""
    # What is read may begin with what was kept of earlier steps, and then comes what is new.
    new = {op.y: op.y + input_bytes(op) for op in ops if op.kind == MOVE}

    def source(i: int, at: int) -> int:
        if at in new:
            at, i = new[at], i if ops[i].kind != MOVE else len(ops)
        for j in range(i - 1, -1, -1):
            op = ops[j]
            if op.kind != MOVE and op.y <= at < op.y + op.out_h * op.out_w * op.out_c:
                return j
        return INPUT

    def reads(op: Op) -> tuple[int, ...]:
        if op.kind == ADD:
            return op.x, op.x2
        return (op.y if op.kind == MOVE else op.x,)

    return [tuple(source(i, at) for at in reads(op)) for i, op in enumerate(ops)]


def input_bytes(op: Op) -> int:
    """Of the first input; for MOVE, what it moves."""
    return op.in_h * op.in_w * op.in_c
