"""Where everything lies on the board, decided on the laptop: the arena, the program, the heap."""

from dataclasses import dataclass

from tinytorch.quantize.ir import INPUT, QuantizedNet
from tinytorch.quantize.operations import kind_of, output_size


@dataclass
class Buffer:
    """A stretch of the arena that is needed from step `first` to step `last`, both included."""

    size: int
    first: int
    last: int
    at: int = -1


@dataclass(frozen=True)
class ArenaPlan:
    """Arena offsets in bytes: the input, each operation's output, each one's scratch.

    What was kept of earlier inputs or outputs stands right before them.
    """

    input: int
    outputs: list[int]
    scratch: list[int]
    arena_bytes: int


def align(n: int, to: int) -> int:
    return (n + to - 1) // to * to


def plan(net: QuantizedNet) -> ArenaPlan:
    """Place every tensor as tinytorch_core.qops and viper kernels want it."""
    steps = len(net.operations)
    start = Buffer(net.kept + net.input_bytes, 0, steps if net.kept else 0)
    outputs, scratch = [], []
    for i, operation in enumerate(net.operations):
        node = operation.node
        size = operation.kept + output_size(node)
        outputs.append(Buffer(size, 0, steps) if operation.kept else Buffer(size, i, i))
        work = kind_of(node, f"Layer {node.name}").scratch(node, operation.table.tobytes())
        scratch.append(Buffer(work, i, i))
        for source in node.inputs:
            used = start if source == INPUT else outputs[source]
            used.last = max(used.last, i)
    outputs[-1].last = steps
    arena_bytes = place([start, *outputs, *scratch])
    return ArenaPlan(
        start.at + net.kept,
        [b.at + o.kept for b, o in zip(outputs, net.operations, strict=True)],
        [b.at for b in scratch],
        arena_bytes,
    )


def place(buffers: list[Buffer]) -> int:
    """Give every buffer a place such that those alive together do not overlap; the bytes in all.

    Greedy by size, as in Pisarchyk and Lee, 2020, "Efficient Memory Management for Deep Neural Net
    Inference": the largest first, each at the lowest place that is free during its life.
    """
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda b: -b.size):
        alive = [b for b in placed if b.first <= buffer.last and buffer.first <= b.last]
        buffer.at = 0
        for other in sorted(alive, key=lambda b: b.at):
            if buffer.at + buffer.size <= other.at:
                break
            buffer.at = max(buffer.at, align(other.at + other.size, 4))
        placed.append(buffer)
    return align(max(b.at + b.size for b in placed), 4)
