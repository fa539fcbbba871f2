"""A model's kernels as a section for its file: chosen, shrunk to what a board has room for, and
every tensor in its place."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from tinytorch.machine.backend import Backend
from tinytorch.machine.choose import choose
from tinytorch.machine.kernel import Body, Call, Choice, Shape
from tinytorch.modelfile.arena import Buffer, place
from tinytorch.modelfile.runtime import Model
from tinytorch.modelfile.section import HEADER_BYTES, STEP_BYTES, VIPER, Step, section
from tinytorch.quantize.flow import DataFlow
from tinytorch.quantize.ir import INPUT
from tinytorch.quantize.operations import input_size, kind_of, output_size
from tinytorch_core.model import MOVE, Op


@dataclass
class Packed:
    """A model on a board: its choices in the order of operations, and the section for its file."""

    choices: list[Choice]
    section: bytes
    code_bytes: int
    arena_bytes: int

    @property
    def cycles(self) -> int:
        return sum(choice.cycles for choice in self.choices)


def pack(model: Model, backend: Backend) -> Packed:
    """Choose a model's kernels, assemble them, and write the section."""
    ops, program = model.operations, bytes(model._program)
    viper: dict[int, str] = {}
    while True:
        choices = choose(ops, program, backend, viper)
        backend.specialize(choices, program)
        codes: dict[Shape, bytes] = {}
        for i, choice in enumerate(choices):
            if choice.shape and choice.shape not in codes:
                try:
                    codes[choice.shape] = choice.shape.assemble(backend.unrolling[0])
                except ValueError as error:
                    viper[i] = f"no machine code for its shape ({str(error).rstrip('.')})"
        if any(c.shape and i in viper for i, c in enumerate(choices)):
            continue
        if _shrink(codes, choices, backend) <= backend.most_code:
            return _write(model, choices, program, codes, backend)
        # The kernel that saves least goes; what used it runs in viper.
        saved = {
            shape: sum(backend.viper_cycles(c.op) - c.cycles for c in choices if c.shape == shape)
            for shape in codes
        }
        least = min(saved, key=lambda shape: saved[shape])
        for i, choice in enumerate(choices):
            if choice.shape == least:
                viper[i] = f"the model's kernels would take more than {backend.most_code:,} bytes"


def _shrink(codes: dict[Shape, bytes], choices: list[Choice], backend: Backend) -> int:
    """Unroll less, where it costs least, until all kernels fit into the back-end's `most_code`;
    their bytes."""
    cycles = {shape: sum(c.cycles for c in choices if c.shape == shape) for shape in codes}
    for unroll in backend.unrolling[1:]:
        for shape in sorted(codes, key=lambda shape: cycles[shape]):
            if sum(map(len, codes.values())) <= backend.most_code:
                break
            codes[shape] = shape.assemble(unroll)
    return sum(map(len, codes.values()))


class _Arena:
    """Where a model's tensors lie on the board while these choices run."""

    def __init__(self, model: Model, choices: Sequence[Choice], program: bytes) -> None:
        ops = [choice.op for choice in choices]
        self._ops = ops
        self._flow = DataFlow.of_records(ops)
        # What MOVE keeps of the input or of an operation's output stands in front of it, always.
        self._kept = {
            sources[0]: input_size(op)
            for op, sources in zip(ops, self._flow.sources, strict=True)
            if op.kind == MOVE
        }
        end = len(ops)

        def buffer(size: int, of: int, step: int) -> Buffer:
            kept = self._kept.get(of, 0)
            return Buffer(kept + size, 0, end) if kept else Buffer(size, step, step)

        self._input_bytes = len(model.input)
        self._input = buffer(self._input_bytes, INPUT, 0)
        self._outputs = [buffer(_output_bytes(c), i, i) for i, c in enumerate(choices)]
        self._scratch = [Buffer(_scratch_bytes(c, program), i, i) for i, c in enumerate(choices)]
        for i, sources in enumerate(self._flow.sources):
            for source in sources:
                read = self._buffer(source)
                read.last = max(read.last, i)
        last = max(i for i, op in enumerate(ops) if op.kind != MOVE)
        self._outputs[last].last = end
        self.bytes = place([self._input, *self._outputs, *self._scratch])
        self.input_at = self._input.at + self._kept.get(INPUT, 0)
        self.output_at = self._outputs[last].at

    def tensors(self, i: int, op: Op) -> tuple[int, int, int, int]:
        """Of an operation: x, x2 (x where it has one input), y and scratch."""
        sources = self._flow.sources[i]
        if op.kind == MOVE:  # within what it moves
            y = self._buffer(sources[0]).at
            x = y + op.x - op.y
            return x, x, y, self._scratch[i].at
        sizes = kind_of(op).input_sizes(op)
        inputs = [self._newest(j, n) for j, n in zip(sources, sizes, strict=True)]
        return (
            inputs[0],
            inputs[-1],
            self._outputs[i].at + self._kept.get(i, 0),
            self._scratch[i].at,
        )

    def _buffer(self, source: int) -> Buffer:
        return self._input if source == INPUT else self._outputs[source]

    def _newest(self, source: int, size: int) -> int:
        """Where the newest `size` bytes of a source are, behind what others need of it."""
        new = self._input_bytes if source == INPUT else output_size(self._ops[source])
        return self._buffer(source).at + self._kept.get(source, 0) + new - size


def _output_bytes(choice: Choice) -> int:
    op = choice.op
    if op.kind == MOVE:
        return 0  # its output is a part of what it moves
    return choice.shape.output_bytes(op) if choice.shape else output_size(op)


def _scratch_bytes(choice: Choice, program: bytes) -> int:
    op = choice.op
    if choice.shape:
        return choice.shape.scratch_bytes(op, program)
    return kind_of(op).scratch(op, program[op.table :])


def _write(
    model: Model, choices: list[Choice], program: bytes, codes: dict[Shape, bytes], backend: Backend
) -> Packed:
    """Place the tensors, and write the section."""
    arena = _Arena(model, choices, program)
    body = Body(HEADER_BYTES + STEP_BYTES * len(choices))
    places = {shape: body.put(code) for shape, code in codes.items()}
    prepare = backend.prepare(choices, body)
    steps: list[Step] = []
    for i, choice in enumerate(choices):
        x, x2, y, scratch = arena.tensors(i, choice.op)
        parameters = VIPER
        if choice.shape:
            call = Call(choice.op, x, x2, y, scratch, choice.constants, body)
            words = [places[choice.shape], *choice.shape.parameters(call)]
            parameters = body.put(struct.pack(f"<{len(words)}i", *words))
        steps.append((parameters, x, x2, y, scratch))
    data = section(
        backend.architecture,
        arena.bytes,
        arena.input_at,
        arena.output_at,
        prepare,
        steps,
        bytes(body),
    )
    return Packed(choices, data, sum(map(len, codes.values())), arena.bytes)
