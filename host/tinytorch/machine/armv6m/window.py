"""The geometry of operations on images."""

from dataclasses import dataclass

from tinytorch_core.model import Op


@dataclass(frozen=True)
class Window:
    """The geometry of an operation on images, channels last. pad: what stands for padding,
    x_zero + 128."""

    in_h: int
    in_w: int
    in_c: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    pad_h: int
    pad_w: int
    out_h: int
    out_w: int
    out_c: int
    pad: int

    @staticmethod
    def of(op: Op, pad: int = 0) -> "Window":
        """That of an operation record."""
        return Window(
            op.in_h, op.in_w, op.in_c, op.kernel_h, op.kernel_w, op.stride_h, op.stride_w,
            op.pad_h, op.pad_w, op.out_h, op.out_w, op.out_c, pad,
        )  # fmt: skip
