"""What layers compute: PyTorch's functions of an input and its parameters."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tinytorch import ops
from tinytorch.autograd.methods.reduction import Reduction
from tinytorch.autograd.tape import Size, apply
from tinytorch_core import shapes

if TYPE_CHECKING:
    from typing_extensions import Self


class Layers(Reduction):
    """Methods that layers call."""

    __slots__ = ()

    def linear(self, weight: "Layers", bias: "Layers | None" = None) -> "Self":
        """self (..., in), weight (out, in), bias (out,) -> (..., out)."""
        shapes.linear(self.shape, weight.shape, None if bias is None else bias.shape)
        self._same_type("linear", weight)
        return apply(ops.linear, self, weight, bias)

    def embedding(self, weight: "Layers", padding_idx: int | None = None) -> "Self":
        """The rows of weight (num, d) at these indices -> (*shape, d).

        padding_idx: the row that gets no gradient.
        """
        if self.data.dtype.kind not in "iu":
            raise TypeError(f"embedding: the index holds {self.dtype}: give integers.")
        return apply(ops.embedding, weight, self, padding_idx=padding_idx)

    def layer_norm(
        self, shape: Sequence[int], weight: "Layers | None" = None, bias: "Layers | None" = None,
        eps: float = 1e-5,
    ) -> "Self":  # fmt: skip
        """Normalised over the last dimensions, of this shape."""
        given = [t.shape for t in (weight, bias) if t is not None]
        dims = shapes.layer_norm(self.shape, shape, given)
        if weight is not None:
            self._same_type("layer_norm", weight)
        return apply(ops.layer_norm, self, weight, bias, dims=dims, eps=eps)

    def conv1d(
        self, weight: "Layers", bias: "Layers | None" = None, stride: Size = 1,
        padding: Size | str = 0, dilation: Size = 1, groups: int = 1,
    ) -> "Self":  # fmt: skip
        """self (N, C, L), weight (O, C / groups, K), bias (O,) -> (N, O, OL)."""
        return self._conv(1, weight, bias, stride, padding, dilation, groups)

    def conv2d(
        self, weight: "Layers", bias: "Layers | None" = None, stride: Size = 1,
        padding: Size | str = 0, dilation: Size = 1, groups: int = 1,
    ) -> "Self":  # fmt: skip
        """self (N, C, H, W), weight (O, C / groups, KH, KW), bias (O,) -> (N, O, OH, OW)."""
        return self._conv(2, weight, bias, stride, padding, dilation, groups)

    def _conv(
        self, count: int, weight: "Layers", bias: "Layers | None", stride: Size,
        padding: Size | str, dilation: Size, groups: int,
    ) -> "Self":  # fmt: skip
        self._same_type("conv", weight)
        stride, dilation = shapes.ntuple(stride, count), shapes.ntuple(dilation, count)
        padding, more = shapes.padding("conv", padding, weight.shape[2:], stride, dilation)
        x = self.pad(more) if any(more) else self
        return apply(
            ops.conv, x, weight, bias, stride=stride, padding=padding, dilation=dilation,
            groups=groups,
        )  # fmt: skip

    def max_pool1d(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0
    ) -> "Self":
        """self (N, C, L) -> (N, C, OL): the largest of each window.

        stride: kernel_size by default.
        """
        return self._pool(ops.max_pool, 1, kernel_size, stride, padding)

    def max_pool2d(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0
    ) -> "Self":
        """self (N, C, H, W) -> (N, C, OH, OW): the largest of each window.

        stride: kernel_size by default.
        """
        return self._pool(ops.max_pool, 2, kernel_size, stride, padding)

    def avg_pool1d(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0
    ) -> "Self":
        """self (N, C, L) -> (N, C, OL): the mean of each window, with the zeros of the padding."""
        return self._pool(ops.avg_pool, 1, kernel_size, stride, padding)

    def avg_pool2d(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0
    ) -> "Self":
        """self (N, C, H, W) -> (N, C, OH, OW): each window's mean, with the padding's zeros."""
        return self._pool(ops.avg_pool, 2, kernel_size, stride, padding)

    def _pool(
        self, op: ops.Operation, count: int, kernel: Size, stride: Size | None, padding: Size
    ) -> "Self":
        kernel = shapes.ntuple(kernel, count)
        stride = kernel if stride is None else shapes.ntuple(stride, count)
        padding = shapes.ntuple(padding, count)
        return apply(op, self, kernel=kernel, stride=stride, padding=padding)

    def adaptive_avg_pool1d(self, output_size: Size) -> "Self":
        """(N, C, L) -> (N, C, output_size): means over equal parts."""
        return self._adaptive_avg_pool("adaptive_avg_pool1d", shapes.ntuple(output_size, 1))

    def adaptive_avg_pool2d(self, output_size: "int | Sequence[int | None]") -> "Self":
        """(N, C, H, W) -> (N, C, *output_size): means over equal parts."""
        return self._adaptive_avg_pool("adaptive_avg_pool2d", shapes.ntuple(output_size, 2))

    def _adaptive_avg_pool(self, operation: str, size: Sequence[int | None]) -> "Self":
        shapes.parts(operation, self.shape, size)
        if all(n == 1 for n in size):
            return self.mean(tuple(range(2, self.ndim)), True)
        return apply(ops.adaptive_avg_pool, self, size=tuple(size))

    def batch_norm(
        self, running_mean: "Layers | None", running_var: "Layers | None",
        weight: "Layers | None" = None, bias: "Layers | None" = None, training: bool = False,
        momentum: float | None = 0.1, eps: float = 1e-5, count: "Layers | None" = None,
    ) -> "Self":  # fmt: skip
        """Each channel of (N, C, ...) normalised: see tinytorch.ops.batch_norm."""
        if weight is not None:
            self._same_type("batch_norm", weight)
        return apply(
            ops.batch_norm, self, weight, bias, running_mean, running_var, count,
            training=training, momentum=momentum, eps=eps,
        )  # fmt: skip
