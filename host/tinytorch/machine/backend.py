"""What a chip's kernels have to offer, and which chips have some.

A chip is a package beside this file, and one entry in BACKENDS. Nothing outside of that package
asks for a chip by its name: back-ends are found by MicroPython's number of the architecture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tinytorch.machine.armv6m.backend import Armv6m
from tinytorch.machine.kernel import Body, Candidates, Choice, Task
from tinytorch_core.model import Op


class Backend(Protocol):
    """The kernels for one architecture.

    architecture: MicroPython's number, `sys.implementation._mpy >> 10 & 15`. most_code: bytes of
    RAM that the kernels of a model may take. unrolling: how far loops may be unrolled, from the
    fastest code to the shortest.
    """

    architecture: int
    most_code: int
    unrolling: Sequence[int]

    def candidates(self, task: Task) -> Candidates:
        """The kernels that can run an operation; none for kinds that it does not know."""

    def viper_cycles(self, op: Op) -> int:
        """The expected cycles of the kernel that MicroPython compiles itself."""

    def specialize(self, choices: Sequence[Choice], program: bytes) -> None:
        """Give choices their final shapes, and their constants, now that it is known which
        operations share code."""

    def prepare(self, choices: Sequence[Choice], body: Body) -> int:
        """Put what several kernels read into the section's body. Returns the offset of the
        parameter block of a kernel that is called once, after loading; 0 for none."""


BACKENDS: dict[int, Backend] = {backend.architecture: backend for backend in (Armv6m(),)}


@dataclass(frozen=True)
class Board:
    """A kind of kit. architecture: MicroPython's number; word: bytes of a machine word; frequency:
    of its clock in Hz, None where it can be any."""

    architecture: int
    word: int
    frequency: int | None

    @property
    def backend(self) -> Backend | None:
        """The kernels for it, if there are some."""
        return BACKENDS.get(self.architecture)


BOARDS = {
    "rp2040": Board(4, 4, 125_000_000),
    "esp32": Board(10, 4, 240_000_000),
    "virtual": Board(2, 8, None),  # x64, or whatever the computer is: it needs no kernels of ours
}
