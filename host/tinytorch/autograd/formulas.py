"""The gradients of gradients (create_graph=True): a table of formulas, by operation.

The tape looks them up here. second_order fills the table for the operations of tinytorch.ops;
whoever writes an operation may add its formula.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from tinytorch.ops.array import Array, Operation


class Needs(Enum):
    """Which numbers a formula looks at: they must not have been changed in place since."""

    NOTHING = 0  # none but those that the operation's own gradient functions hold
    INPUTS = 1
    RESULT = 2  # those of the result as well as those of the inputs


class Formula(NamedTuple):
    """gradients(g, y, *inputs, **attrs) -> the gradient of each input, all as Tensors.

    g: the gradient of the result y. As in tinytorch.ops the gradient of a broadcast input may have
    the result's shape.
    """

    gradients: Callable[..., Any]
    needs: Needs = Needs.INPUTS


FORMULAS: dict[Operation, Formula] = {}


def needed(t: Any, inputs: list[Any]) -> list[Array]:
    """The arrays that the formula for tensor t, made from inputs, looks at."""
    formula = FORMULAS.get(t._operation)
    needs = Needs.INPUTS if formula is None else formula.needs
    tensors = {Needs.NOTHING: [], Needs.INPUTS: inputs, Needs.RESULT: [t, *inputs]}[needs]
    return [s.data for s in tensors if s is not None]


def gradients(t: Any, inputs: list[Any], g: Any) -> Any:
    """The gradients of what tensor t was made from. Raises RuntimeError if there is no formula."""
    formula = FORMULAS.get(t._operation)
    if formula is None:
        raise RuntimeError(
            f"create_graph: the gradient of {t._operation.__name__} has no gradient itself: call "
            "backward without create_graph."
        )
    return formula.gradients(g, t, *inputs, **(t._attrs or {}))
