"""What the planner and a chip's kernels say to each other.

A `Shape` is all that a kernel's code depends on. The planner asks a back-end (see `backend`) what
can run a `Task`, gets `Candidates`, makes each operation's `Choice` among them, and at last has
each kernel write the parameters of its `Call`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tinytorch.quantize.operations import kind_of, output_size
from tinytorch_core.model import LANE, Op

BYTES = 0  # the layout of the specification: int8, channels last


@dataclass(frozen=True)
class Task:
    """An operation that wants a kernel.

    index: among the model's operations. program: that `op` is a record of. inputs: the smallest and
    the largest int8 value that its first input can hold. chained: whether the next operation alone
    reads its output, so that this may stay in a layout of the chip's own.
    """

    index: int
    op: Op
    program: bytes
    inputs: tuple[int, int]
    chained: bool


class Body:
    """The part of a section that follows its steps; `base` is where it begins."""

    def __init__(self, base: int) -> None:
        self._base = base
        self._data = bytearray()

    def put(self, data: bytes) -> int:
        """Append the data at the next multiple of 4; its offset in the section."""
        self._data.extend(bytes(-len(self._data) % 4))
        self._data.extend(data)
        return self._base + len(self._data) - len(data)

    def __bytes__(self) -> bytes:
        return bytes(self._data)


@dataclass(frozen=True)
class Call:
    """A kernel in its place. x, x2, y, scratch: offsets in the arena; x2 is x where there is one
    input alone. constants: those of its `Choice`. body: of the section."""

    op: Op
    x: int
    x2: int
    y: int
    scratch: int
    constants: Any
    body: Body


class Shape(ABC):
    """What a kernel's code depends on: a frozen dataclass, since operations of equal shapes share
    their code. A kernel is called as kernel(arena, program, parameters), see
    `tinytorch.modelfile.section`, and leaves the bytes of tinytorch_core.qops.

    Layouts: BYTES, or a number by which a chip tells its own ones apart.
    """

    @property
    def layout_in(self) -> int:
        """How its input lies in the arena."""
        return BYTES

    @property
    def layout_out(self) -> int:
        """How its output does."""
        return BYTES

    @property
    def facts(self) -> dict[str, Any]:
        """What a plan shows: lanes (sums a word), words (of a block), groups (their lengths)."""
        return {}

    @abstractmethod
    def assemble(self, unroll: int) -> bytes:
        """Position-independent code. unroll: one of the back-end's `unrolling`, which a kernel
        whose loops are short takes no notice of.

        Raises ValueError for a shape that no code can be written for.
        """

    @abstractmethod
    def cycles(self, op: Op) -> int:
        """The expected cycles of one call."""

    @abstractmethod
    def parameters(self, call: Call) -> Sequence[int]:
        """The words of the parameter block after its first, the code's place. What is put into the
        call's body here stands before the block."""

    def output_bytes(self, op: Op) -> int:
        """Bytes of the arena that are written at y, with what may be written behind the output."""
        return output_size(op)

    def scratch_bytes(self, op: Op, program: bytes) -> int:
        """Bytes of the arena that are needed beside inputs and output."""
        return 0


@dataclass(frozen=True)
class Candidates:
    """The kernels that can run a task, of all layouts; of equally fast ones the first is taken.

    refusal: why there are none, the end of a sentence. broken: the tier's bound is, so that the
    other tier's kernels are offered. notes: whole sentences for the plan.
    """

    shapes: Sequence[Shape] = ()
    refusal: str = "there is no kernel for it"
    broken: bool = False
    notes: Sequence[str] = ()


@dataclass
class Choice:
    """How an operation runs. inputs: the range of its input. shape None: by the board's own kernel,
    viper. broken: the lane bound is. notes: why it is not what its tier would let one expect, whole
    sentences. constants: what the back-end computed for the kernel to read."""

    op: Op
    inputs: tuple[int, int]
    shape: Shape | None = None
    cycles: int = 0
    broken: bool = False
    notes: list[str] = field(default_factory=list)
    constants: Any = None

    @property
    def tier(self) -> str | None:
        """Whose kernel it is, where there are two tiers."""
        if LANE not in kind_of(self.op).tiers:
            return None
        return "lane" if self.op.tier == LANE and not self.broken else "exact"

    @property
    def kernel(self) -> str:
        return type(self.shape).__name__.lower() if self.shape else "viper"

    @property
    def facts(self) -> dict[str, Any]:
        """Those of its shape."""
        return self.shape.facts if self.shape else {}
