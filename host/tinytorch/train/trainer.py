"""Training: epochs with validation, callbacks, and checkpoints that resume to the bit."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tinytorch import serialize
from tinytorch.autograd.tape import no_grad
from tinytorch.autograd.tensor import Tensor
from tinytorch.nn import functional
from tinytorch.nn.module import Module
from tinytorch.nn.utils import clip_grad_norm_
from tinytorch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from tinytorch.optim.optimizer import Optimizer
from tinytorch.random import get_rng_state, manual_seed, set_rng_state
from tinytorch.train import finite
from tinytorch.train.callbacks import Callback
from tinytorch.train.capture import Step
from tinytorch.train.history import Epoch
from tinytorch.train.metrics import Metric, scores_last
from tinytorch.utils.data import DataLoader

Loss = Callable[[Any, Tensor], Tensor]

_BAR = "{desc} {percentage:3.0f}% |{bar}| {remaining} left{postfix}"


def _quiet() -> np.errstate:
    """What overflows is found here and said in a sentence: numpy's warnings would come before."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


class Score:
    """Running means over samples: of the loss, and of how often the largest output is the target.

    accuracy: in 0..1, or None where the targets are not class numbers. metrics: what else to
    measure, by name; `value` of each is its own.
    """

    def __init__(self, metrics: "Mapping[str, Metric] | None" = None) -> None:
        self._loss, self._right, self._answers, self._count = 0.0, 0, 0, 0
        self._classes = True
        self.metrics = dict(metrics or {})
        for metric in self.metrics.values():
            metric.reset()

    def add(self, loss: float, outputs: Any, targets: Tensor) -> None:
        """A batch: its mean loss, outputs (N, ...) and targets (N, ...)."""
        self._count += len(targets)
        self._loss += loss * len(targets)
        is_tensor = isinstance(outputs, Tensor)
        scores = scores_last(outputs.data, targets.data) if is_tensor else None
        self._classes = scores is not None
        if scores is not None:
            self._right += int((scores.argmax(-1) == targets.data).sum())
            self._answers += targets.numel()
        for metric in self.metrics.values():
            metric.add(outputs, targets)

    @property
    def loss(self) -> float:
        """The mean loss over the samples."""
        return self._loss / self._count

    @property
    def accuracy(self) -> "float | None":
        """The share of answers that are right; None where targets are not class numbers."""
        return self._right / self._answers if self._classes and self._answers else None

    def values(self) -> dict[str, Any]:
        """The metrics' values, by name."""
        return {name: metric.value() for name, metric in self.metrics.items()}

    def numbers(self, prefix: str = "") -> dict[str, float]:
        """Those of the metrics' values that are single numbers."""
        return {prefix + n: float(v) for n, v in self.values().items() if np.ndim(v) == 0}

    def state(self) -> dict[str, Any]:
        """What `load` needs to go on."""
        own = [self._loss, self._right, self._answers, self._count, self._classes]
        return {"own": own, "metrics": {n: m.sums.tolist() for n, m in self.metrics.items()}}

    def load(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._loss, self._right, self._answers, self._count, self._classes = state["own"]
        for name, sums in state["metrics"].items():
            if name in self.metrics:
                self.metrics[name].sums = np.array(sums)


def evaluate(
    net: Module,
    loader: Iterable[Any],
    loss: Loss = functional.cross_entropy,
    metrics: "Mapping[str, Metric] | None" = None,
    what: str = "loss",
) -> Score:
    """Loss, accuracy and other metrics of a net in eval mode; each module's mode is kept.

    Raises ValueError for a loader without a batch, ArithmeticError where a loss is no longer a
    number; what: how the sentence calls it.
    """
    score = Score(metrics)
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with no_grad(), _quiet():
            for number, batch in enumerate(loader, 1):
                inputs, targets = _pair(batch)
                outputs = net(inputs)
                value = loss(outputs, targets).item()
                if not math.isfinite(value):
                    why = finite.where_forward(net, inputs, targets)
                    raise ArithmeticError(f"The {what}, batch {number}, is {value}: {why}.")
                score.add(value, outputs, targets)
    finally:
        for module, mode in modes:
            module.training = mode
    if not score._count:
        raise ValueError(_empty(loader))
    return score


def _pair(batch: Any) -> tuple[Tensor, Tensor]:
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        inputs, targets = batch
        if isinstance(inputs, Tensor) and isinstance(targets, Tensor) and targets.ndim:
            return inputs, targets
    kinds = [type(part).__name__ for part in batch] if isinstance(batch, (tuple, list)) else batch
    kind = f"({', '.join(kinds)})" if isinstance(kinds, list) else type(batch).__name__
    raise TypeError(
        f"A batch of type {kind} cannot be trained on: give (inputs, targets), tensors."
    )


def _empty(loader: Any) -> str:
    samples = len(loader.dataset) if hasattr(loader, "dataset") else 0
    return (
        f"There is not one batch in {samples} samples: give more, or a smaller batch_size without "
        "drop_last."
    )


@dataclass
class _Begun:
    """An epoch under way: its figures so far, and what it takes to come back to this place."""

    score: Score
    lr: float
    chance: dict[str, Any]  # before the order of the batches was drawn
    of: int  # batches in all
    batches: int = 0  # that were trained on


class Trainer:
    """Trains a net: `Trainer(net, optimizer).fit(train, epochs=20, validation=valid)`.

    loss: loss(outputs, targets), the mean over the batch. Default: cross-entropy.
    schedule: of the learning rate; it steps after each epoch, or with schedule_every="batch" after
    each step of the optimizer. ReduceLROnPlateau gets the watched figure.
    accumulate: how many batches make one step of the optimizer, as if they were one. Default: 1.
    clip_norm: the largest norm of all gradients together; larger ones are scaled down to it.
    metrics: what is measured beside loss and accuracy, by name (tinytorch.train.metrics).
    callbacks: called at each batch and epoch, in this order (tinytorch.train.callbacks).
    watch, mode: the figure that decides which epoch is best, and whether "min" or "max" is.
    seed: of all random numbers (shuffling, dropout), set before the first epoch.
    capture: replay the steps instead of running them on the tape; the results are the same to the
    bit.
    progress: show a bar on a terminal.

    history: one Epoch each. steps: of the optimizer, in all. best_epoch: the number of the best
    one, 0 before there is one. stop: set it to end the training after this epoch.
    """

    def __init__(
        self,
        net: Module,
        optimizer: Optimizer,
        loss: Loss = functional.cross_entropy,
        *,
        schedule: "LRScheduler | None" = None,
        schedule_every: str = "epoch",
        accumulate: int = 1,
        clip_norm: "float | None" = None,
        metrics: "Mapping[str, Metric] | None" = None,
        callbacks: Sequence[Callback] = (),
        watch: str = "val_loss",
        mode: str = "min",
        seed: "int | None" = None,
        capture: bool = True,
        progress: bool = True,
    ) -> None:
        _need(accumulate >= 1, f"accumulate={accumulate} is not a whole number from 1")
        _need(clip_norm is None or clip_norm > 0, f"clip_norm={clip_norm} is not above 0")
        _need(mode in ("min", "max"), f"mode={mode!r} is neither 'min' nor 'max'")
        by_batch = schedule_every == "batch"
        _need(by_batch or schedule_every == "epoch", f"schedule_every={schedule_every!r} is "
              "neither 'epoch' nor 'batch'")  # fmt: skip
        plateau = isinstance(schedule, ReduceLROnPlateau)
        _need(not (plateau and by_batch), "ReduceLROnPlateau steps after each epoch, not batch")
        self.net = net
        self.optimizer = optimizer
        self.loss = loss
        self.schedule = schedule
        self.schedule_every = schedule_every
        self.accumulate = accumulate
        self.clip_norm = clip_norm
        self.metrics = dict(metrics or {})
        self.callbacks = list(callbacks)
        self.watch = watch
        self.mode = mode
        self.seed = seed
        self.progress = progress
        self.history: list[Epoch] = []
        self.steps = 0
        self.best_epoch = 0
        self.stop = False
        self._step = Step(net, loss, capture)
        self._best: dict[str, Tensor] = {}
        self._last: dict[str, Tensor] = {}  # the latest weights while the net holds the best
        self._begun: _Begun | None = None
        self._loaders: tuple[Any, ...] = ()
        self._chance: dict[str, Any] | None = None  # while no epoch runs: to go on from

    def fit(
        self, train: DataLoader, epochs: int, validation: "DataLoader | None" = None
    ) -> list[Epoch]:
        """Train until `epochs` have passed in all, earlier ones included; returns the history.

        With validation the net ends with the weights of the best epoch, by `watch`; a later `fit`
        goes on from the last ones, as if there had been no pause. The net is in eval mode then.
        Raises ArithmeticError where the loss or a gradient is no longer a number, with the layer
        where that began; ValueError for a loader without a batch.
        """
        for loader in (train, validation):
            if loader is not None and not len(loader):
                raise ValueError(_empty(loader))
        self._loaders = (train, validation)
        if self._last:
            self.net.load_state_dict(self._last)
            self._last = {}
        if self._chance is not None:
            self._set_chance(self._chance)
        elif self.seed is not None:
            manual_seed(self.seed)
        self._chance = None
        self.stop = False
        total = max(0, epochs - len(self.history)) * len(train)
        try:
            self._call("on_start")
            # None: quiet where the output is not a terminal.
            quiet = not self.progress or None
            with tqdm(total=total, leave=False, disable=quiet, bar_format=_BAR) as bar:
                while len(self.history) < epochs and not self.stop:
                    bar.set_description_str(f"epoch {len(self.history) + 1}/{epochs}")
                    self._epoch(train, validation, bar)
                    self._call("on_epoch")
        finally:
            self._chance = self._get_chance()
            self._call("on_end")
        if self._best:
            self._last = _copies(self.net.state_dict())
            self.net.load_state_dict(self._best)
        self.net.eval()
        return self.history

    def _epoch(self, train: DataLoader, validation: "DataLoader | None", bar: tqdm) -> None:
        number = len(self.history) + 1
        batches = self._batches(train)
        begun = self._begun
        assert begun is not None
        bar.update(begun.batches)
        self.net.train()
        while group := list(islice(batches, self.accumulate)):
            self._train(group, begun)
            bar.update(len(group))
            if not bar.disable:
                bar.set_postfix_str(_shown(begun.score), refresh=False)
            self._call("on_batch")
        self.net.eval()
        self._begun = None
        score = begun.score
        values = score.numbers()
        result = {"loss": score.loss, "accuracy": score.accuracy}
        if validation is not None:
            what = f"validation loss in epoch {number}"
            val = evaluate(self.net, validation, self.loss, self.metrics, what)
            values |= val.numbers("val_")
            result |= {"val_loss": val.loss, "val_accuracy": val.accuracy}
        epoch = Epoch(number, begun.lr, metrics=values, **result)  # type: ignore[arg-type]
        self.history.append(epoch)
        if self._is_best(epoch):
            self.best_epoch = number
            self._best = _copies(self.net.state_dict())
        if isinstance(self.schedule, ReduceLROnPlateau):
            watched = self._watched(epoch)
            self.schedule.step(epoch.loss if watched is None else watched)
        elif self.schedule is not None and self.schedule_every == "epoch":
            self.schedule.step()

    def _batches(self, train: DataLoader) -> Iterator[Any]:
        """The batches of this epoch that are still to come."""
        if self._begun is None:
            lr = self.optimizer.param_groups[0]["lr"]
            self._begun = _Begun(Score(self.metrics), lr, self._get_chance(), len(train))
            return iter(train)
        if self._begun.of != len(train):
            raise ValueError(
                f"Trainer: epoch {len(self.history) + 1} was begun with {self._begun.of} batches, "
                f"and the loader has {len(train)}: go on with the same data and batch_size."
            )
        # Draw the same order again, and pass what was trained on. The rest of the chance, such as
        # for dropout, goes on where it was.
        now = self._get_chance()
        self._set_chance(self._begun.chance)
        batches = iter(train)
        for _ in islice(batches, self._begun.batches):
            pass
        self._set_chance(now)
        return batches

    @_quiet()
    def _train(self, group: list[Any], begun: _Begun) -> None:
        """One step of the optimizer, on a group of batches."""
        pairs = [_pair(batch) for batch in group]
        samples = sum(len(targets) for _, targets in pairs)
        self.optimizer.zero_grad()
        for i, (inputs, targets) in enumerate(pairs):
            where = f"epoch {len(self.history) + 1}, batch {begun.batches + i + 1}"
            chance = get_rng_state()
            outputs, loss = self._step.forward(inputs, targets)
            value = loss.item()
            if not math.isfinite(value):
                set_rng_state(chance)
                why = finite.where_forward(self.net, inputs, targets)
                raise ArithmeticError(f"The loss in {where}, is {value}: {why}.")
            self._step.backward(len(targets) / samples)
            begun.score.add(value, outputs, targets)
        parameters = [p for g in self.optimizer.param_groups for p in g["params"]]
        if not finite.gradients_are(parameters):
            why = finite.where_backward(self.net.named_parameters())
            raise ArithmeticError(f"In {where}, {why}.")
        if self.clip_norm is not None:
            clip_grad_norm_(parameters, self.clip_norm)
        self.optimizer.step()
        if self.schedule is not None and self.schedule_every == "batch":
            self.schedule.step()
        self.steps += 1
        begun.batches += len(group)

    def _watched(self, epoch: Epoch) -> "float | None":
        """The figure to judge an epoch by; None for one of the validation where there is none."""
        figures = epoch.figures()
        if self.watch in figures or (epoch.val_loss is None and self.watch.startswith("val_")):
            return figures.get(self.watch)
        raise ValueError(
            f"Trainer: there is no figure '{self.watch}' to watch: these are measured: "
            f"{', '.join(list(figures)[2:])}."
        )

    def _is_best(self, epoch: Epoch) -> bool:
        new = self._watched(epoch)
        old = self._watched(self.history[self.best_epoch - 1]) if self._best else None
        if new is None or old is None:
            return new is not None
        return new < old if self.mode == "min" else new > old

    def _call(self, hook: str) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(self)

    # Checkpoints.

    def _get_chance(self) -> dict[str, Any]:
        """Where all sources of chance stand: the common one, and the loaders' own."""
        own = [getattr(loader, "generator", None) for loader in self._loaders]
        states = [None if g is None else g.bit_generator.state for g in own]
        return {"common": get_rng_state(), "loaders": states}

    def _set_chance(self, chance: dict[str, Any]) -> None:
        set_rng_state(chance["common"])
        for loader, state in zip(self._loaders, chance["loaders"], strict=False):
            generator = getattr(loader, "generator", None)
            if generator is not None and state is not None:
                generator.bit_generator.state = state

    def save(self, path: "str | Path") -> None:
        """Write all that the next steps depend on; a file that was there stays whole until then.

        Raises OSError where that is not possible.
        """
        tensors = _named("net.", self._last or self.net.state_dict()) | _named("best.", self._best)
        begun = self._begun and {
            "score": self._begun.score.state(),
            "lr": self._begun.lr,
            "chance": self._begun.chance,
            "of": self._begun.of,
            "batches": self._begun.batches,
        }
        state = {
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "chance": self._chance or self._get_chance(),
            "begun": begun,
            "steps": self.steps,
            "best_epoch": self.best_epoch,
            "history": [asdict(epoch) for epoch in self.history],
        }
        metadata = {"kind": "training", **serialize.pack(state, tensors)}
        serialize.save(tensors, path, metadata)

    def resume(self, path: "str | Path") -> None:
        """Continue from what `save` wrote: give `fit` the same data, and the end is the same too.

        Raises FileNotFoundError, or ValueError for a file that is damaged, or of a training with
        another net, optimizer or schedule.
        """
        tensors, metadata = serialize.load_with_metadata(path)
        if metadata.get("kind") != "training":
            raise ValueError(f"{path} holds tensors, but it is not a checkpoint of a training.")
        state = serialize.unpack(metadata, tensors)
        if (self.schedule is None) != (state["schedule"] is None):
            kind = "without" if self.schedule else "with"
            raise ValueError(
                f"{path} is of a training {kind} a learning rate schedule: resume it like that."
            )
        self.net.load_state_dict(_under("net.", tensors))
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        self._best, self._last = _under("best.", tensors), {}
        self.best_epoch = state["best_epoch"]
        self.steps = state["steps"]
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self._chance = state["chance"]
        self._begun = None
        if state["begun"]:
            begun = state["begun"]
            score = Score(self.metrics)
            score.load(begun.pop("score"))
            self._begun = _Begun(score, **begun)


def _need(ok: bool, what: str) -> None:
    if not ok:
        raise ValueError(f"Trainer: {what}.")


def _shown(score: Score) -> str:
    accuracy = score.accuracy
    return f"loss {score.loss:.3f}" + (f", accuracy {accuracy:.1%}" if accuracy is not None else "")


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: Tensor(t.data.copy()) for name, t in tensors.items()}


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: t for name, t in tensors.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
