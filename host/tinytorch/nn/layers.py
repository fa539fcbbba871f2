"""The layers that a kit can run too: written once in tinytorch_core.nn, here on our own Tensor."""

from tinytorch.nn.module import Module
from tinytorch_core import nn as core


class Sequential(Module, core.Sequential):
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


class ReLU(Module, core.ReLU):
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


class Dropout(Module, core.Dropout):
    pass
