"""The layers that a kit can run too: written once in tinytorch_core.nn, here on our own Tensor."""

from tinytorch.autograd.tensor import Tensor
from tinytorch.nn.module import Module, Parameter
from tinytorch_core import nn as core


class Identity(Module, core.Identity):
    pass


class Sequential(Module, core.Sequential):
    pass


class ModuleList(Module, core.ModuleList):
    pass


class ModuleDict(Module, core.ModuleDict):
    pass


class ParameterList(Module, core.ParameterList):
    pass


class Linear(Module, core.Linear):
    pass


class Conv1d(Module, core.Conv1d):
    pass


class Conv2d(Module, core.Conv2d):
    pass


class BatchNorm1d(Module, core.BatchNorm1d):
    pass


class BatchNorm2d(Module, core.BatchNorm2d):
    pass


class LayerNorm(Module, core.LayerNorm):
    pass


class Embedding(Module, core.Embedding):
    @classmethod
    def from_pretrained(
        cls, embeddings: Tensor, freeze: bool = True, padding_idx: int | None = None
    ) -> "Embedding":
        """With the rows of embeddings (num, d) as weights, trained only if not frozen."""
        num_embeddings, embedding_dim = embeddings.shape
        layer = cls(num_embeddings, embedding_dim, padding_idx)
        layer.register_parameter("weight", Parameter(embeddings, requires_grad=not freeze))
        return layer


class ReLU(Module, core.ReLU):
    pass


class ReLU6(Module, core.ReLU6):
    pass


class LeakyReLU(Module, core.LeakyReLU):
    pass


class ELU(Module, core.ELU):
    pass


class GELU(Module, core.GELU):
    pass


class SiLU(Module, core.SiLU):
    pass


class Tanh(Module, core.Tanh):
    pass


class Sigmoid(Module, core.Sigmoid):
    pass


class Hardsigmoid(Module, core.Hardsigmoid):
    pass


class Hardswish(Module, core.Hardswish):
    pass


class Softplus(Module, core.Softplus):
    pass


class Softmax(Module, core.Softmax):
    pass


class LogSoftmax(Module, core.LogSoftmax):
    pass


class MaxPool1d(Module, core.MaxPool1d):
    pass


class MaxPool2d(Module, core.MaxPool2d):
    pass


class AvgPool1d(Module, core.AvgPool1d):
    pass


class AvgPool2d(Module, core.AvgPool2d):
    pass


class AdaptiveAvgPool1d(Module, core.AdaptiveAvgPool1d):
    pass


class AdaptiveAvgPool2d(Module, core.AdaptiveAvgPool2d):
    pass


class Flatten(Module, core.Flatten):
    pass


class Unflatten(Module, core.Unflatten):
    pass


class Dropout(Module, core.Dropout):
    pass
