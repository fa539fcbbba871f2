"""The Cortex-M0+ as a back-end, see `tinytorch.machine.backend`."""

from collections.abc import Callable, Sequence

from tinytorch.machine.armv6m import (
    add,
    average,
    cost,
    depthwise,
    dot,
    logistic,
    mel,
    move,
    mul,
    pool,
    sharing,
)
from tinytorch.machine.kernel import Body, Candidates, Choice, Task
from tinytorch_core.model import (
    ADD,
    AVG_POOL,
    CONV2D,
    DENSE,
    DEPTHWISE,
    LOGISTIC,
    MAX_POOL,
    MEL,
    MOVE,
    MUL,
    Op,
)

# What each kind of operation can run in.
CANDIDATES: dict[int, Callable[[Task], Candidates]] = {
    CONV2D: dot.candidates,
    DENSE: dot.candidates,
    DEPTHWISE: depthwise.candidates,
    MAX_POOL: pool.candidates,
    AVG_POOL: average.candidates,
    ADD: add.candidates,
    MOVE: move.candidates,
    MEL: mel.candidates,
    MUL: mul.candidates,
    LOGISTIC: logistic.candidates,
}


class Armv6m:
    """Thumb code for ARMv6-M; cycles as the Cortex-M0+ takes them."""

    architecture = 4
    most_code = 8192
    unrolling: Sequence[int] = (64, 32, 16)  # weights of a channel, see `dot`

    def candidates(self, task: Task) -> Candidates:
        find = CANDIDATES.get(task.op.kind)
        return find(task) if find else Candidates()

    def viper_cycles(self, op: Op) -> int:
        return cost.viper(op)

    def specialize(self, choices: Sequence[Choice], program: bytes) -> None:
        sharing.specialize(choices, program)

    def prepare(self, choices: Sequence[Choice], body: Body) -> int:
        return sharing.prepare(choices, body)
