"""Products of matrices and vectors."""

from typing import TYPE_CHECKING

from tinytorch import ops
from tinytorch.autograd.methods.elementwise import Elementwise
from tinytorch.autograd.methods.movement import Movement
from tinytorch.autograd.tape import TensorBase, apply
from tinytorch_core import shapes

if TYPE_CHECKING:
    from typing_extensions import Self


class Linalg(Elementwise, Movement):
    """Methods that multiply matrices."""

    __slots__ = ()

    def __matmul__(self, other: "Linalg") -> "Self":
        """Matrices of the last two dimensions; a vector is a row on the left, a column on the
        right, and its dimension vanishes."""
        if not isinstance(other, TensorBase):
            return NotImplemented
        a = self.unsqueeze(0) if self.ndim == 1 else self
        b = other.unsqueeze(1) if other.ndim == 1 else other
        shapes.matmul(a.shape, b.shape)
        self._same_type("matmul", other)
        y = apply(ops.matmul, a, b)
        if other.ndim == 1:
            y = y.squeeze(-1)
        return y.squeeze(-1 if other.ndim == 1 else -2) if self.ndim == 1 else y

    def matmul(self, other: "Linalg") -> "Self":
        """self @ other."""
        return self @ other

    def _product(self, name: str, other: "Linalg", dims: int) -> "Self":
        if not self.ndim == other.ndim == dims:
            raise ValueError(
                f"{name}: shapes {self.shape} and {other.shape} do not both have {dims} dimensions."
            )
        return self @ other

    def mm(self, other: "Linalg") -> "Self":
        """(n, m) @ (m, p) -> (n, p). Raises ValueError for other than matrices."""
        return self._product("mm", other, 2)

    def bmm(self, other: "Linalg") -> "Self":
        """(b, n, m) @ (b, m, p) -> (b, n, p). Raises ValueError for other than three dimensions."""
        return self._product("bmm", other, 3)

    def dot(self, other: "Linalg") -> "Self":
        """(n,) @ (n,) -> (). Raises ValueError for other than vectors."""
        return self._product("dot", other, 1)

    def mv(self, vector: "Linalg") -> "Self":
        """(n, m) @ (m,) -> (n,)."""
        return self @ vector

    def outer(self, other: "Linalg") -> "Self":
        """(n,) and (m,) -> (n, m): the product of each pair.

        Raises ValueError for other than vectors.
        """
        if not self.ndim == other.ndim == 1:
            raise ValueError(f"outer: shapes {self.shape} and {other.shape} are not both vectors.")
        return self.unsqueeze(1) * other
