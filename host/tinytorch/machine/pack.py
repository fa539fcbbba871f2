"""A model's kernels as a section for its file: chosen, shrunk to what a board has room for, and
every tensor in its place."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from tinytorch.machine.backend import Backend
from tinytorch.machine.choose import choose
from tinytorch.machine.flow import data_flow, input_bytes
from tinytorch.machine.kernel import Body, Call, Choice, Shape
from tinytorch.modelfile.arena import Buffer, place
from tinytorch.modelfile.runtime import Model
from tinytorch.modelfile.section import HEADER_BYTES, STEP_BYTES, VIPER, Step, section
from tinytorch.quantize.ir import INPUT
from tinytorch_core import mel
from tinytorch_core.model import CONV2D, DENSE, MEL, MOVE, Op


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
            return _write(choices, program, codes, backend)
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

    def __init__(self, choices: Sequence[Choice], program: bytes) -> None:
        ops = [choice.op for choice in choices]
        self.sources = data_flow(ops)
        # What MOVE keeps of the input or of an operation's output stands in front of it, always.
        self._kept = {
            sources[0]: input_bytes(op)
            for op, sources in zip(ops, self.sources, strict=True)
            if op.kind == MOVE
        }
        end = len(ops)

        def buffer(size: int, of: int, step: int) -> Buffer:
            kept = self._kept.get(of, 0)
            return Buffer(kept + size, 0, end) if kept else Buffer(size, step, step)

        reader = next(op for op in ops if op.kind != MOVE)
        self._input = buffer(input_bytes(reader) - self._kept.get(INPUT, 0), INPUT, 0)
        self._outputs = [buffer(_output_bytes(c), i, i) for i, c in enumerate(choices)]
        self._scratch = [Buffer(_scratch_bytes(c, program), i, i) for i, c in enumerate(choices)]
        for i, sources in enumerate(self.sources):
            for source in sources:
                buffer_read = self._input if source == INPUT else self._outputs[source]
                buffer_read.last = max(buffer_read.last, i)
        last = max(i for i, op in enumerate(ops) if op.kind != MOVE)
        self._outputs[last].last = end
        self.bytes = place([self._input, *self._outputs, *self._scratch])
        self.input_at = self._input.at + self._kept.get(INPUT, 0)
        self.output_at = self._outputs[last].at

    def tensors(self, i: int, op: Op) -> tuple[int, int, int, int]:
        """Of an operation: x, x2 (x where it has one input), y and scratch."""
        x = [self._input.at if j == INPUT else self._outputs[j].at for j in self.sources[i]]
        y = self._outputs[i].at + self._kept.get(i, 0)
        if op.kind == MOVE:  # within what it moves
            y, x = x[0], [x[0] + op.x - op.y]
        return x[0], x[-1], y, self._scratch[i].at


def _output_bytes(choice: Choice) -> int:
    op = choice.op
    if op.kind == MOVE:
        return 0  # its output is a part of what it moves
    return choice.shape.output_bytes(op) if choice.shape else op.out_h * op.out_w * op.out_c


def _scratch_bytes(choice: Choice, program: bytes) -> int:
    op = choice.op
    if choice.shape:
        return choice.shape.scratch_bytes(op, program)
    if op.kind == MEL:
        return mel.scratch_bytes(*struct.unpack_from("<2i", program, op.table))
    # The window that a kernel gathers as int32, see device/tinytorch/kernels/viper.py.
    return 4 * op.kernel_h * op.kernel_w * op.in_c if op.kind in (CONV2D, DENSE) else 0


def _write(
    choices: list[Choice], program: bytes, codes: dict[Shape, bytes], backend: Backend
) -> Packed:
    """Place the tensors, and write the section."""
    arena = _Arena(choices, program)
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
