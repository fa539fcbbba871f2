"""The layers that a kit can run too: written once in tinytorch_core.nn, here on our own Tensor."""

from tinytorch.autograd.tensor import Tensor
from tinytorch.nn.module import Module, Parameter
from tinytorch_core import nn as core


class Identity(Module, core.Identity):
    __doc__ = core.Identity.__doc__


class Sequential(Module, core.Sequential):
    __doc__ = core.Sequential.__doc__


class ModuleList(Module, core.ModuleList):
    __doc__ = core.ModuleList.__doc__


class ModuleDict(Module, core.ModuleDict):
    __doc__ = core.ModuleDict.__doc__


class ParameterList(Module, core.ParameterList):
    __doc__ = core.ParameterList.__doc__


class Linear(Module, core.Linear):
    __doc__ = core.Linear.__doc__


class Conv1d(Module, core.Conv1d):
    __doc__ = core.Conv1d.__doc__


class Conv2d(Module, core.Conv2d):
    __doc__ = core.Conv2d.__doc__


class BatchNorm1d(Module, core.BatchNorm1d):
    __doc__ = core.BatchNorm1d.__doc__


class BatchNorm2d(Module, core.BatchNorm2d):
    __doc__ = core.BatchNorm2d.__doc__


class LayerNorm(Module, core.LayerNorm):
    __doc__ = core.LayerNorm.__doc__


class Embedding(Module, core.Embedding):
    __doc__ = core.Embedding.__doc__

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
    __doc__ = core.ReLU.__doc__


class ReLU6(Module, core.ReLU6):
    __doc__ = core.ReLU6.__doc__


class LeakyReLU(Module, core.LeakyReLU):
    __doc__ = core.LeakyReLU.__doc__


class ELU(Module, core.ELU):
    __doc__ = core.ELU.__doc__


class GELU(Module, core.GELU):
    __doc__ = core.GELU.__doc__


class SiLU(Module, core.SiLU):
    __doc__ = core.SiLU.__doc__


class Tanh(Module, core.Tanh):
    __doc__ = core.Tanh.__doc__


class Sigmoid(Module, core.Sigmoid):
    __doc__ = core.Sigmoid.__doc__


class Hardsigmoid(Module, core.Hardsigmoid):
    __doc__ = core.Hardsigmoid.__doc__


class Hardswish(Module, core.Hardswish):
    __doc__ = core.Hardswish.__doc__


class Softplus(Module, core.Softplus):
    __doc__ = core.Softplus.__doc__


class Softmax(Module, core.Softmax):
    __doc__ = core.Softmax.__doc__


class LogSoftmax(Module, core.LogSoftmax):
    __doc__ = core.LogSoftmax.__doc__


class MaxPool1d(Module, core.MaxPool1d):
    __doc__ = core.MaxPool1d.__doc__


class MaxPool2d(Module, core.MaxPool2d):
    __doc__ = core.MaxPool2d.__doc__


class AvgPool1d(Module, core.AvgPool1d):
    __doc__ = core.AvgPool1d.__doc__


class AvgPool2d(Module, core.AvgPool2d):
    __doc__ = core.AvgPool2d.__doc__


class AdaptiveAvgPool1d(Module, core.AdaptiveAvgPool1d):
    __doc__ = core.AdaptiveAvgPool1d.__doc__


class AdaptiveAvgPool2d(Module, core.AdaptiveAvgPool2d):
    __doc__ = core.AdaptiveAvgPool2d.__doc__


class Flatten(Module, core.Flatten):
    __doc__ = core.Flatten.__doc__


class Unflatten(Module, core.Unflatten):
    __doc__ = core.Unflatten.__doc__


class Dropout(Module, core.Dropout):
    __doc__ = core.Dropout.__doc__
