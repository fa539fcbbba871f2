"""Training: epochs with validation, early stopping, and checkpoints that resume to the bit."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tinytorch import serialize
from tinytorch.autograd import Tensor, no_grad
from tinytorch.nn import functional
from tinytorch.optim import Optimizer
from tinytorch.optim.lr_scheduler import Schedule
from tinytorch.random import get_rng_state, manual_seed, set_rng_state
from tinytorch.utils.data import DataLoader
from tinytorch_core.nn import Module

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Epoch:
    """How an epoch went. Losses are means over the samples, accuracies as in `Score`."""

    epoch: int
    lr: float
    loss: float
    accuracy: "float | None"
    val_loss: "float | None" = None
    val_accuracy: "float | None" = None


class Score:
    """Running means over samples: of the loss, and of how often the largest output is the target.

    accuracy: in 0..1, or None where the targets are not class numbers.
    """

    def __init__(self) -> None:
        self._loss, self._right, self._count = 0.0, 0, 0
        self._classes = True

    def add(self, loss: float, outputs: Tensor, targets: Tensor) -> None:
        """A batch: its mean loss, outputs (N, ...) and targets (N, ...)."""
        self._count += len(targets)
        self._loss += loss * len(targets)
        self._classes = targets.dtype.kind in "iu" and outputs.ndim == targets.ndim + 1
        if self._classes:
            self._right += int((outputs.data.argmax(-1) == targets.data).sum())

    @property
    def loss(self) -> float:
        return self._loss / self._count

    @property
    def accuracy(self) -> "float | None":
        return self._right / self._count if self._classes else None


def _has_batches(loader: DataLoader) -> None:
    if not len(loader):
        raise ValueError(
            f"There is not one batch in {len(loader.dataset)} samples: give more, or a smaller "
            "batch_size."
        )


def _finite(loss: float, what: str) -> float:
    if not math.isfinite(loss):
        raise ArithmeticError(
            f"The {what} is {loss}: lower the learning rate, or look for such numbers in the data."
        )
    return loss


def evaluate(net: Module, loader: DataLoader, loss: Loss = functional.cross_entropy) -> Score:
    """Loss and accuracy of a net in eval mode; the net's mode is kept.

    Raises ValueError for a loader without a batch.
    """
    _has_batches(loader)
    score = Score()
    mode = net.training
    net.eval()
    with no_grad():
        for inputs, targets in loader:
            outputs = net(inputs)
            score.add(loss(outputs, targets).item(), outputs, targets)
    net.train(mode)
    return score


class Trainer:
    """Trains a net: `Trainer(net, optimizer).fit(train, epochs=20, validation=valid)`.

    loss: from outputs and targets; cross-entropy unless told. schedule: steps after each epoch.
    seed: where chance starts (shuffling, dropout) before the first epoch. patience: stop after so
    many epochs without a lower validation loss. checkpoint: a file that is rewritten, atomically,
    after each epoch; `resume` continues from it, and the weights come out the same to the bit.
    progress: a bar on a terminal. history: one Epoch each.
    """

    def __init__(
        self,
        net: Module,
        optimizer: Optimizer,
        loss: Loss = functional.cross_entropy,
        *,
        schedule: "Schedule | None" = None,
        seed: "int | None" = None,
        patience: "int | None" = None,
        checkpoint: "str | Path | None" = None,
        progress: bool = True,
    ) -> None:
        self.net = net
        self.optimizer = optimizer
        self.loss = loss
        self.schedule = schedule
        self.seed = seed
        self.patience = patience
        self.checkpoint = checkpoint
        self.progress = progress
        self.history: list[Epoch] = []
        self.best_epoch = 0  # how many epochs had passed when the best weights were kept
        self._best: dict[str, Tensor] = {}

    def fit(
        self, train: DataLoader, epochs: int, validation: "DataLoader | None" = None
    ) -> list[Epoch]:
        """Train until `epochs` have passed in all, resumed ones included; returns the history.

        With validation the net ends with the weights of the epoch of the lowest validation loss.
        Raises ArithmeticError where a loss is no longer a number, ValueError for a loader without
        a batch.
        """
        _has_batches(train)
        if not self.history and self.seed is not None:
            manual_seed(self.seed)
        total = max(0, epochs - len(self.history)) * len(train)
        # None: quiet where the output is not a terminal.
        with tqdm(total=total, unit="batch", leave=False, disable=not self.progress or None) as bar:
            while len(self.history) < epochs and not self._stalled():
                bar.set_description(f"epoch {len(self.history) + 1}/{epochs}")
                self._epoch(train, validation, bar)
                if self.checkpoint is not None:
                    self.save(self.checkpoint)
        if self._best:
            self.net.load_state_dict(self._best)
        return self.history

    def _stalled(self) -> bool:
        if self.patience is None or not self._best:
            return False
        return len(self.history) - self.best_epoch >= self.patience

    def _epoch(self, train: DataLoader, validation: "DataLoader | None", bar: tqdm) -> None:
        score = Score()
        lr = self.optimizer.lr
        number = len(self.history) + 1
        self.net.train()
        for inputs, targets in train:
            outputs = self.net(inputs)
            loss = self.loss(outputs, targets)
            _finite(loss.item(), f"loss in epoch {number}")
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            score.add(loss.item(), outputs, targets)
            bar.update()
        if self.schedule is not None:
            self.schedule.step()
        self.net.eval()
        result = Epoch(number, lr, score.loss, score.accuracy)
        if validation is not None:
            val = evaluate(self.net, validation, self.loss)
            _finite(val.loss, f"validation loss in epoch {number}")
            result = replace(result, val_loss=val.loss, val_accuracy=val.accuracy)
            if not self._best or val.loss < (self.history[self.best_epoch - 1].val_loss or 0.0):
                self.best_epoch = result.epoch
                self._best = {n: t.clone() for n, t in self.net.state_dict().items()}
            bar.set_postfix_str(f"val_loss {val.loss:.3f}")
        self.history.append(result)

    def save(self, path: "str | Path") -> None:
        """Write all that the next epochs depend on."""
        state = self.optimizer.state_dict()
        tensors = {f"net.{name}": t for name, t in self.net.state_dict().items()}
        tensors |= {f"best.{name}": t for name, t in self._best.items()}
        for i, arrays in enumerate(state["state"]):
            tensors |= {f"optimizer.{i}.{name}": Tensor(a) for name, a in arrays.items()}
        metadata = {
            "optimizer": {
                **state,
                "state": len(state["state"]),
            },  # its arrays are among the tensors
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "rng": get_rng_state(),
            "best_epoch": self.best_epoch,
            "history": [asdict(epoch) for epoch in self.history],
        }
        serialize.save(tensors, path, metadata)

    def resume(self, path: "str | Path | None" = None) -> None:
        """Continue from a checkpoint; from this trainer's own, if there is one, without a path.

        Raises ValueError for a file that is damaged, or of a training with another net, optimizer
        or schedule.
        """
        if path is None:
            if self.checkpoint is None or not Path(self.checkpoint).exists():
                return
            path = self.checkpoint
        tensors, metadata = serialize.load_with_metadata(path)
        if "history" not in metadata:
            raise ValueError(f"{path} holds tensors, but it is not a checkpoint of a training.")
        if (self.schedule is None) != (metadata["schedule"] is None):
            kind = "without" if self.schedule else "with"
            raise ValueError(
                f"{path} is of a training {kind} a learning rate schedule: resume it like that."
            )
        self.net.load_state_dict(_under("net.", tensors))
        state = metadata["optimizer"]
        arrays: list[dict[str, np.ndarray]] = [{} for _ in range(state["state"])]
        for name, tensor in _under("optimizer.", tensors).items():
            i, part = name.split(".")
            arrays[int(i)][part] = tensor.data
        self.optimizer.load_state_dict({**state, "state": arrays})
        if self.schedule is not None:
            self.schedule.load_state_dict(metadata["schedule"])
        self._best = _under("best.", tensors)
        self.best_epoch = metadata["best_epoch"]
        self.history = [Epoch(**epoch) for epoch in metadata["history"]]
        set_rng_state(metadata["rng"])


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
