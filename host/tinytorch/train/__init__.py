"""Trainings: the Trainer, and what watches it."""

# ruff: noqa: F401 - the names are for others.

from tinytorch.train.history import Epoch
from tinytorch.train.trainer import Loss, Score, Trainer, evaluate
