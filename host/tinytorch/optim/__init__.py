"""Optimizers and schedules of their rates, with PyTorch's names, defaults and update rules."""

# ruff: noqa: F401 - the names are for others.

from tinytorch.optim import lr_scheduler
from tinytorch.optim.adam import Adam, AdamW
from tinytorch.optim.optimizer import Optimizer
from tinytorch.optim.rmsprop import RMSprop
from tinytorch.optim.sgd import SGD
