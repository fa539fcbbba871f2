"""Which kernel runs which operation of a model: the cheapest ones for all operations together."""

from collections.abc import Mapping, Sequence

from tinytorch.machine.backend import Backend
from tinytorch.machine.kernel import BYTES, Candidates, Choice, Shape, Task
from tinytorch.quantize import lanes
from tinytorch.quantize.flow import DataFlow
from tinytorch.quantize.operations import kind_of
from tinytorch_core.model import Op


def choose(
    ops: Sequence[Op], program: bytes, backend: Backend, viper: Mapping[int, str]
) -> list[Choice]:
    """The choices of least cycles in all, by dynamic programming over the layouts of each
    operation's output.

    viper: the operations that are left to the board's own kernels, and why.
    """
    ranges = lanes.input_ranges(ops)
    chained = [*chains(ops), False]
    # The best way to each layout of what the last operation puts out: its cycles and choices.
    ways: dict[int, tuple[int, list[Choice]]] = {BYTES: (0, [])}
    for i, op in enumerate(ops):
        offered = Candidates(refusal=viper.get(i, ""))
        if i not in viper:
            offered = backend.candidates(Task(i, op, program, ranges[i], chained[i + 1]))
        shapes: list[Shape | None] = [*offered.shapes]
        notes = [*offered.notes]
        if not shapes:
            shapes = [None]
            notes.append(f"Operation {i} ({kind_of(op).name}) runs in viper: {offered.refusal}.")
        best: dict[int, tuple[int, list[Choice]]] = {}
        for layout, (spent, choices) in ways.items():
            for shape in shapes:
                if (shape.layout_in if shape else BYTES) != layout:
                    continue
                cycles = shape.cycles(op) if shape else backend.viper_cycles(op)
                out = shape.layout_out if shape else BYTES
                if out not in best or spent + cycles < best[out][0]:
                    choice = Choice(op, ranges[i], shape, cycles, offered.broken, notes)
                    best[out] = spent + cycles, [*choices, choice]
        ways = best
    return ways[BYTES][1]


def chains(ops: Sequence[Op]) -> list[bool]:
    """Whether an operation reads what the one before it writes, in that shape, and nobody else
    does."""
    flow = DataFlow.of_records(ops)

    def chained(i: int) -> bool:
        if i == 0 or flow.sources[i] != (i - 1,) or flow.readers(i - 1) != [i]:
            return False
        a, b = ops[i - 1], ops[i]
        return (a.out_h, a.out_w, a.out_c) == (b.in_h, b.in_w, b.in_c)

    return [chained(i) for i in range(len(ops))]
