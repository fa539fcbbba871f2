"""Schedules of the learning rate, with PyTorch's names and values.

Most change the rate that they find, so that several of them may act on one optimizer.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tinytorch.optim.optimizer import Optimizer


class LRScheduler:
    """Sets the learning rate of each group of an optimizer; call `step` after each epoch.

    base_lrs: the groups' rates at the start. last_epoch: how many steps were taken since. All
    attributes but the optimizer and functions are the state. Wrong settings raise ValueError.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self._start()

    def _start(self) -> None:
        self.last_epoch = -1
        self.step()

    def step(self) -> None:
        """Set the rates of the next epoch."""
        self.last_epoch += 1
        self._set(self.get_lr())

    def get_lr(self) -> list[float]:
        """The rates at `last_epoch`; the groups have those of the epoch before."""
        raise NotImplementedError(f"{type(self).__name__} has no get_lr.")

    def get_last_lr(self) -> list[float]:
        """The rates that this schedule last set."""
        return self._last_lr

    def _set(self, lrs: list[float]) -> None:
        for group, lr in zip(self.optimizer.param_groups, lrs, strict=True):
            group["lr"] = lr
        self._last_lr = lrs

    def _times(self, factor: float) -> list[float]:
        """The groups' rates now, times a factor."""
        return [group["lr"] * factor for group in self.optimizer.param_groups]

    def _need(self, fits: bool, sentence: str) -> None:
        if not fits:
            raise ValueError(f"{type(self).__name__}: {sentence}.")

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, and "kind", the name of the class."""
        state = {n: v for n, v in vars(self).items() if n not in ("optimizer", "lr_lambdas")}
        return {"kind": type(self).__name__, **state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on as the schedule of this state; the optimizer's own state has the rates.

        Raises ValueError for the state of another kind of schedule.
        """
        own, state = self.state_dict(), dict(state_dict)
        kind = state.pop("kind", None)
        if kind != own.pop("kind") or own.keys() != state.keys():
            raise ValueError(
                f"load_state_dict: the state is of {kind}, not of {type(self).__name__}."
            )
        vars(self).update(state)


class StepLR(LRScheduler):
    """The rate times gamma every step_size epochs."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self._need(step_size >= 1, f"step_size={step_size} is below 1")
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """The rates now, times gamma at the end of each step_size."""
        ends = self.last_epoch > 0 and self.last_epoch % self.step_size == 0
        return self._times(self.gamma if ends else 1)


class MultiStepLR(LRScheduler):
    """The rate times gamma at each of the milestones, which are epochs."""

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1) -> None:
        self.milestones = sorted(milestones)
        self.gamma = gamma
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """The rates now, times gamma at each milestone."""
        return self._times(self.gamma ** self.milestones.count(self.last_epoch))


class ExponentialLR(LRScheduler):
    """The rate times gamma every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = gamma
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """The rates now, times gamma."""
        return self._times(self.gamma if self.last_epoch else 1)


class ConstantLR(LRScheduler):
    """The rate times factor in the first total_iters epochs."""

    def __init__(self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5) -> None:
        self._need(0 < factor <= 1, f"factor={factor} is not above 0 and at most 1")
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """The rates now, times factor for the first total_iters."""
        if self.last_epoch == 0:
            return self._times(self.factor)
        return self._times(1 / self.factor if self.last_epoch == self.total_iters else 1)


class LinearLR(LRScheduler):
    """The rate times a factor that goes from start_factor to end_factor in total_iters epochs.

    Followed by another schedule in a SequentialLR it is a warm-up.
    """

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1.0 / 3, end_factor: float = 1.0,
        total_iters: int = 5,
    ) -> None:  # fmt: skip
        self._need(0 < start_factor <= 1, f"start_factor={start_factor} is not in 0 to 1, 0 apart")
        self._need(0 <= end_factor <= 1, f"end_factor={end_factor} is not in 0 to 1")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """The rates on the way from start_factor to end_factor."""
        if self.last_epoch == 0:
            return self._times(self.start_factor)
        if self.last_epoch > self.total_iters:
            return self._times(1)
        return self._times(self._factor(self.last_epoch) / self._factor(self.last_epoch - 1))

    def _factor(self, epoch: int) -> float:
        way = epoch / self.total_iters
        return self.start_factor + (self.end_factor - self.start_factor) * way


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from the rate to eta_min in T_max epochs (Loshchilov and Hutter, 2017)."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self._need(T_max >= 1, f"T_max={T_max} is below 1")
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """The rates on half a cosine from the first one to eta_min."""
        lrs = self._times(1)
        if self.last_epoch == 0:
            return lrs
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:  # up again, from eta_min
            way = self._wave(self.T_max - 1)
            return [
                lr + (base - self.eta_min) * way
                for lr, base in zip(lrs, self.base_lrs, strict=True)
            ]
        way = self._wave(self.last_epoch) / self._wave(self.last_epoch - 1)
        return [self.eta_min + (lr - self.eta_min) * way for lr in lrs]

    def _wave(self, epoch: int) -> float:
        return (1 + math.cos(math.pi * epoch / self.T_max)) / 2


class LambdaLR(LRScheduler):
    """The rate at the start times lr_lambda(epoch).

    lr_lambda: one function, or a list with one for each group. Functions are not saved.
    """

    def __init__(
        self, optimizer: Optimizer,
        lr_lambda: "Callable[[int], float] | Sequence[Callable[[int], float]]",
    ) -> None:  # fmt: skip
        groups = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        count = len(self.lr_lambdas)
        self._need(count == groups, f"there are {count} functions for {groups} groups")
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """The first rates, times what the functions give for this epoch."""
        pairs = zip(self.base_lrs, self.lr_lambdas, strict=True)
        return [base * function(self.last_epoch) for base, function in pairs]


class SequentialLR(LRScheduler):
    """One schedule after another, each from its milestone on, an epoch.

    Each starts from the rates at the start of the training, and counts epochs anew.
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]
    ) -> None:
        self._need(
            len(milestones) == len(schedulers) - 1,
            f"{len(schedulers)} schedules need {len(schedulers) - 1} milestones, not "
            f"{len(milestones)}",
        )
        for s in schedulers:
            self._need(s.optimizer is optimizer, "a schedule is of another optimizer")
            self._need(not isinstance(s, ReduceLROnPlateau), "ReduceLROnPlateau wants a metric")
        self._schedulers = list(schedulers)
        self.milestones = list(milestones)
        super().__init__(optimizer)

    def _start(self) -> None:
        self.last_epoch = 0
        self._begin(self._current())

    def _current(self) -> LRScheduler:
        return self._schedulers[bisect_right(self.milestones, self.last_epoch)]

    def _begin(self, scheduler: LRScheduler) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        scheduler._start()
        self._last_lr = scheduler.get_last_lr()

    def step(self) -> None:
        """A step of the schedule whose turn it is."""
        self.last_epoch += 1
        scheduler = self._current()
        if self.last_epoch in self.milestones:
            self._begin(scheduler)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """The state, with those of all schedules."""
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on as the schedules of this state."""
        own = self._schedulers
        super().load_state_dict({**state_dict, "_schedulers": own})
        for scheduler, state in zip(own, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(state)


class OneCycleLR(LRScheduler):
    """Up to max_lr, then down to almost nothing, in total_steps steps (Smith and Topin, 2018).

    Call `step` after each batch. total_steps: or epochs times steps_per_epoch. The way up, from
    max_lr / div_factor, is pct_start of all steps; the end is the start / final_div_factor.
    three_phase: down to the start in as many steps as up, and only then to the end.
    cycle_momentum: momentum, or the first of the betas, goes from max_momentum down to
    base_momentum and up again. max_lr and the momenta: one number, or one for each group.
    """

    def __init__(
        self, optimizer: Optimizer, max_lr: float | Sequence[float],
        total_steps: int | None = None, epochs: int | None = None,
        steps_per_epoch: int | None = None, pct_start: float = 0.3, anneal_strategy: str = "cos",
        cycle_momentum: bool = True, base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95, div_factor: float = 25.0,
        final_div_factor: float = 1e4, three_phase: bool = False,
    ) -> None:  # fmt: skip
        if total_steps is None:
            self._need(
                epochs is not None and steps_per_epoch is not None,
                "give total_steps, or epochs and steps_per_epoch",
            )
            total_steps = (epochs or 0) * (steps_per_epoch or 0)
        self._need(total_steps >= 1, f"total_steps={total_steps} is below 1")
        self._need(0 <= pct_start <= 1, f"pct_start={pct_start} is not in 0 to 1")
        known = anneal_strategy in ("cos", "linear")
        self._need(known, f"anneal_strategy={anneal_strategy!r} is neither 'cos' nor 'linear'")
        has = optimizer.defaults
        self._need(
            not cycle_momentum or "momentum" in has or "betas" in has,
            "the optimizer has no momentum: set cycle_momentum=False",
        )
        self.total_steps = total_steps
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        # Where each phase ends, and between which entries of a group it goes.
        up = pct_start * total_steps - 1
        down = "base_momentum", "max_momentum"
        self.phases: list[list[Any]] = [[up, "initial_lr", "max_lr", *reversed(down)]]
        if three_phase:
            self.phases.append([2 * up, "max_lr", "initial_lr", *down])
            last = "initial_lr", "min_lr", "max_momentum", "max_momentum"
        else:
            last = "max_lr", "min_lr", *down
        self.phases.append([total_steps - 1, *last])
        count = len(optimizer.param_groups)
        for name, value in (
            ("max_lr", max_lr), ("base_momentum", base_momentum), ("max_momentum", max_momentum)
        ):  # fmt: skip
            values = list(value) if isinstance(value, Sequence) else [value] * count
            self._need(len(values) == count, f"{name}: {len(values)} numbers for {count} groups")
            for group, number in zip(optimizer.param_groups, values, strict=True):
                group[name] = number
        for group in optimizer.param_groups:
            group["initial_lr"] = group["max_lr"] / div_factor
            group["min_lr"] = group["initial_lr"] / final_div_factor
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """The rates of this phase; the momentum is set, too."""
        self._need(
            self.last_epoch <= self.total_steps,
            f"this is step {self.last_epoch}, and there are to be {self.total_steps}",
        )
        ends = [end for end, *_ in self.phases]
        at = min(bisect_left(ends, self.last_epoch), len(ends) - 1)
        start, (end, *names) = ends[at - 1] if at else 0, self.phases[at]
        way = (self.last_epoch - start) / (end - start)
        lrs = []
        for group in self.optimizer.param_groups:
            lr0, lr1, momentum0, momentum1 = (group[name] for name in names)
            lrs.append(self._between(lr0, lr1, way))
            momentum = self._between(momentum0, momentum1, way)
            if self.cycle_momentum and "betas" in group:
                group["betas"] = momentum, group["betas"][1]
            elif self.cycle_momentum:
                group["momentum"] = momentum
        return lrs

    def _between(self, a: float, b: float, way: float) -> float:
        if self.anneal_strategy == "cos":
            return b + (a - b) / 2 * (1 + math.cos(math.pi * way))
        return a + (b - a) * way


class ReduceLROnPlateau(LRScheduler):
    """The rate times factor when a metric was no better for more than `patience` epochs.

    mode: whether the "min" or the "max" is best. Better is by a part `threshold` of the best
    ("rel"), or by `threshold` itself ("abs"). For `cooldown` epochs after a change nothing counts.
    min_lr: the lowest rate, one or one for each group. A change below eps is not made.
    """

    def __init__(
        self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10,
        threshold: float = 1e-4, threshold_mode: str = "rel", cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0, eps: float = 1e-8,
    ) -> None:  # fmt: skip
        self._need(factor < 1, f"factor={factor} is not below 1")
        self._need(mode in ("min", "max"), f"mode={mode!r} is neither 'min' nor 'max'")
        known = threshold_mode in ("rel", "abs")
        self._need(known, f"threshold_mode={threshold_mode!r} is neither 'rel' nor 'abs'")
        groups = len(optimizer.param_groups)
        self.min_lrs = list(min_lr) if isinstance(min_lr, Sequence) else [min_lr] * groups
        count = len(self.min_lrs)
        self._need(count == groups, f"min_lr: {count} numbers for {groups} groups")
        self.optimizer = optimizer
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.eps = eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self.last_epoch = 0
        self._last_lr = self._times(1)

    def step(self, metrics: Any) -> None:  # type: ignore[override]
        """metrics: the number to watch, or a Tensor that holds it."""
        now = float(metrics)
        self.last_epoch += 1
        if self._is_better(now):
            self.best = now
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
            lower = map(max, self._times(self.factor), self.min_lrs)
            pairs = zip(self._times(1), lower, strict=True)
            self._set([new if old - new > self.eps else old for old, new in pairs])
        self._last_lr = self._times(1)

    def _is_better(self, now: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            return sign * now > sign * self.best * (1 + sign * self.threshold)
        return sign * now > sign * self.best + self.threshold
