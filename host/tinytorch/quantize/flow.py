"""Who feeds whom, in a network and in the records of a model file."""

from collections.abc import Sequence
from dataclasses import dataclass

from tinytorch.quantize.ir import INPUT, Node
from tinytorch.quantize.operations import input_size, kind_of, output_size
from tinytorch_core.model import MOVE, Op


@dataclass(frozen=True)
class DataFlow:
    """Who feeds whom.

    sources: of each operation the operations whose outputs it reads, INPUT for the network's input;
    of MOVE, the one whose output it keeps.
    """

    sources: tuple[tuple[int, ...], ...]

    def readers(self, source: int) -> list[int]:
        """The operations that read an operation's output, or with INPUT the network's input."""
        return [i for i, sources in enumerate(self.sources) if source in sources]

    @staticmethod
    def of_nodes(nodes: Sequence[Node]) -> "DataFlow":
        return DataFlow(tuple([node.inputs for node in nodes]))

    @staticmethod
    def of_records(ops: Sequence[Op]) -> "DataFlow":
        """The flow of a model file's records, which name bytes of the arena.

        What an operation reads is the whole output of the last operation that wrote there, or its
        newest part behind what MOVE kept of it. Raises ValueError where it is neither.
        """
        last = len(ops)
        # [first byte, end of what is kept, end]: a buffer that MOVE moves, and then a step fills.
        buffers = [
            (op.y, op.y + input_size(op), op.x + input_size(op)) for op in ops if op.kind == MOVE
        ]

        def source(reader: int, at: int, count: int) -> int:
            """Of `count` bytes at `at`, which are read by the operation `reader`, or after all."""
            whole = at, at + count
            for first, new, end in buffers:
                if first <= at < end:
                    if whole[1] != end:
                        raise _unclear(reader)
                    whole = new, end
            for i in range(reader - 1, -1, -1):
                op = ops[i]
                if op.kind == MOVE:
                    continue
                written = op.y, op.y + output_size(op)
                if written[0] < whole[1] and whole[0] < written[1]:
                    if written != whole:
                        raise _unclear(reader)
                    return i
            return INPUT

        sources: list[tuple[int, ...]] = []
        for i, op in enumerate(ops):
            if op.kind == MOVE:
                new = op.x - op.y
                sources.append((source(last, op.x + input_size(op) - new, new),))
            else:
                places = zip((op.x, op.x2), kind_of(op).input_sizes(op), strict=False)
                sources.append(tuple([source(i, at, count) for at, count in places]))
        return DataFlow(tuple(sources))


def _unclear(reader: int) -> ValueError:
    return ValueError(
        f"Operation {reader} of the model reads bytes that are not one operation's output: export "
        "the model again."
    )
