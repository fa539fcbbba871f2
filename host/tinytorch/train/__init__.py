"""Trainings: the Trainer, and what watches it."""

# ruff: noqa: F401 - the names are for others.

from tinytorch.train.trainer import Epoch, Loss, Score, Trainer, evaluate
