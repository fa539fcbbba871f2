"""The losses as modules: each calls its function."""

from tinytorch.autograd import Tensor
from tinytorch.nn import functional
from tinytorch.nn.module import Module


class CrossEntropyLoss(Module):
    """The mean of -log softmax(input)[target]; input: (N, classes), target: (N,) ints."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(input, target)


class MSELoss(Module):
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.mse_loss(input, target)
