"""Callbacks: what a Trainer does besides training, such as stopping early and writing logs.

What a callback knows of earlier epochs it takes from `trainer.history`, so that a training that is
resumed leaves the same files as one without a pause.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tinytorch import serialize
from tinytorch.nn.module import Module
from tinytorch.ops.array import Array
from tinytorch.optim.optimizer import Optimizer
from tinytorch.train.history import Epoch


class Training(Protocol):
    """What a callback sees of the Trainer."""

    net: Module
    optimizer: Optimizer
    history: list[Epoch]
    steps: int
    best_epoch: int
    watch: str
    stop: bool

    def save(self, path: "str | Path") -> None:
        """Write a checkpoint."""


class Callback:
    """Write the hooks that you need. `trainer.stop = True` ends the training after the epoch."""

    def on_start(self, trainer: Training) -> None:
        """When `fit` begins, before its first batch."""

    def on_batch(self, trainer: Training) -> None:
        """After each step of the optimizer; the gradients are still there."""

    def on_epoch(self, trainer: Training) -> None:
        """After each epoch, validation included; it is the last in the history."""

    def on_end(self, trainer: Training) -> None:
        """When `fit` ends, also by an error."""


class EarlyStopping(Callback):
    """Stops when `patience` epochs have passed since the best one (as `Trainer.watch` tells).

    Raises ValueError in a training without validation.
    """

    def __init__(self, patience: int) -> None:
        if patience < 1:
            raise ValueError(f"EarlyStopping: patience={patience}: give a whole number from 1.")
        self.patience = patience

    def on_start(self, trainer: Training) -> None:
        """Stop at once, if the training that is resumed had come to its end."""
        if trainer.history:
            self.on_epoch(trainer)

    def on_epoch(self, trainer: Training) -> None:
        """Stop after `patience` epochs that were no better."""
        if not trainer.best_epoch:
            raise ValueError(
                f"EarlyStopping: no epoch has the figure '{trainer.watch}': give `fit` validation "
                "data, or watch another."
            )
        if len(trainer.history) - trainer.best_epoch >= self.patience:
            trainer.stop = True


class Checkpoint(Callback):
    """Writes `path`, for `Trainer.resume`, after each epoch, and every so many steps if asked.

    best: another file, for the weights of the best epoch (for `load_state_dict`). A file is
    replaced only when the new one is complete. Give it as the last callback: what it writes then
    never is ahead of what the others wrote.
    """

    def __init__(
        self, path: "str | Path", every: "int | None" = None, best: "str | Path | None" = None
    ) -> None:
        if every is not None and every < 1:
            raise ValueError(f"Checkpoint: every={every}: give a whole number of steps from 1.")
        self.path = path
        self.every = every
        self.best = best

    def on_batch(self, trainer: Training) -> None:
        """Write the checkpoint, every so many steps."""
        if self.every and not trainer.steps % self.every:
            trainer.save(self.path)

    def on_epoch(self, trainer: Training) -> None:
        """Write the checkpoint, and the weights if they are the best so far."""
        if self.best is not None and trainer.best_epoch == len(trainer.history):
            serialize.save(trainer.net.state_dict(), self.best)
        trainer.save(self.path)


class CSVLogger(Callback):
    """Keeps a table of the history in a file: a row an epoch, a column a figure."""

    def __init__(self, path: "str | Path") -> None:
        self.path = path

    def on_epoch(self, trainer: Training) -> None:
        """Write the table anew."""
        _write_table(self.path, [epoch.figures() for epoch in trainer.history])


def _write_table(path: "str | Path", rows: Sequence[Mapping[str, Any]]) -> None:
    names = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO()
    table = csv.DictWriter(text, list(names), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    serialize.write(path, text.getvalue().encode())


def statistics(net: Module) -> list[dict[str, Any]]:
    """How large the weights and the gradients of each parameter are.

    A dict each: parameter, kind ("weight" or "gradient"), norm, mean, std, and zeros, the share
    of exact zeros. Parameters without a gradient, or without a number, have no row for it.
    """
    rows = []
    for name, p in net.named_parameters():
        for kind, tensor in (("weight", p), ("gradient", p.grad)):
            if tensor is not None and tensor.numel():
                rows.append({"parameter": name, "kind": kind, **_moments(tensor.data)})
    return rows


def _moments(a: Array) -> dict[str, float]:
    a = a.astype(np.float64)
    return {
        "norm": float(np.sqrt((a * a).sum())),
        "mean": float(a.mean()),
        "std": float(a.std()),
        "zeros": float((a == 0).mean()),
    }


class Statistics(Callback):
    """Keeps a table of `statistics` in a file: of each epoch's end, with its last gradients."""

    def __init__(self, path: "str | Path") -> None:
        self.path = Path(path)
        self.rows: list[dict[str, Any]] = []

    def on_start(self, trainer: Training) -> None:
        """Read the rows of earlier epochs, of a training that is resumed."""
        if not self.rows and trainer.history and self.path.exists():
            with self.path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            self.rows = [row for row in rows if int(row["epoch"]) <= len(trainer.history)]

    def on_epoch(self, trainer: Training) -> None:
        """Add the rows of this epoch."""
        epoch = len(trainer.history)
        self.rows += [{"epoch": epoch, **row} for row in statistics(trainer.net)]
        _write_table(self.path, self.rows)


class TensorBoard(Callback):
    """Writes the history, and the norms of weights and gradients, into a folder for TensorBoard.

    Raises ModuleNotFoundError where tensorboardX is not installed.
    """

    def __init__(self, folder: "str | Path") -> None:
        try:
            from tensorboardX import SummaryWriter
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                "TensorBoard: tensorboardX is missing: pip install 'tinytorch[tensorboard]'."
            ) from None
        self.folder = str(folder)
        self._open = SummaryWriter
        self._writer: Any = None

    def on_start(self, trainer: Training) -> None:
        """Open the folder."""
        # What a killed training wrote after its checkpoint is not shown.
        self._writer = self._open(self.folder, purge_step=len(trainer.history) + 1)

    def on_epoch(self, trainer: Training) -> None:
        """Add the figures of this epoch."""
        figures = trainer.history[-1].figures()
        epoch = figures.pop("epoch")
        norms = {
            f"{row['kind']}/{row['parameter']}": row["norm"] for row in statistics(trainer.net)
        }
        for name, value in (figures | norms).items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def on_end(self, trainer: Training) -> None:
        """Close the folder."""
        if self._writer is not None:
            self._writer.close()
