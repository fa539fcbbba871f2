"""One training step: forward, loss, backward."""

from collections.abc import Callable

from tinytorch.autograd import Tensor
from tinytorch_core.nn import Module

Loss = Callable[[Tensor, Tensor], Tensor]


class Step:
    """The step of a net and a loss; capture: replay what stays the same from step to step."""

    def __init__(self, net: Module, loss: Loss, capture: bool = True) -> None:
        self.net = net
        self.loss = loss

    def forward(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs and the loss, both ready to be read."""
        outputs = self.net(inputs)
        self._result = self.loss(outputs, targets)
        return outputs, self._result

    def backward(self, scale: float = 1.0) -> None:
        """Add `scale` times the gradients of the last loss to `grad` of the parameters."""
        (self._result if scale == 1.0 else self._result * scale).backward()
