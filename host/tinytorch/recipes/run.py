"""Trainings by configuration: from data and settings by name to a network and its files."""

import difflib
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from tinytorch import nn, optim, random, serialize
from tinytorch.autograd.tensor import Tensor
from tinytorch.data import datasets
from tinytorch.data.readers import read_csv, read_npz
from tinytorch.nn import functional
from tinytorch.ops.array import Array
from tinytorch.optim import lr_scheduler
from tinytorch.quantize.calibrate import quantize
from tinytorch.quantize.ir import Quant, QuantizedNet
from tinytorch.recipes import config as configuration
from tinytorch.recipes.config import Config
from tinytorch.recipes.networks import build_net
from tinytorch.sensing import gesture
from tinytorch.sensing.trained import Trained
from tinytorch.train import curves, metrics
from tinytorch.train.callbacks import (
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    Statistics,
    TensorBoard,
)
from tinytorch.train.trainer import Trainer, evaluate
from tinytorch.utils.data import DataLoader, Dataset, TensorDataset, random_split
from tinytorch_core.dsp import SCALE, ZERO_POINT

CALIBRATION = 512  # samples from which the ranges of activations are estimated

METRICS: dict[str, Callable[[], metrics.Metric]] = {
    "precision": metrics.Precision,
    "recall": metrics.Recall,
    "f1": metrics.F1,
    "mae": metrics.MeanAbsoluteError,
    "mse": metrics.MeanSquaredError,
    "top2": partial(metrics.TopK, 2),
    "top3": partial(metrics.TopK, 3),
    "top5": partial(metrics.TopK, 5),
}


class Parts(NamedTuple):
    """Data for training, validation and test.

    shape: of a sample; outputs: the number of classes, or of values in a target; classes: their
    names, empty for regression; source: a sentence for people; about: metadata for the network's
    file.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    shape: tuple[int, ...]
    outputs: int
    classes: list[str]
    source: str
    about: dict[str, Any]


# Data.


def load_data(settings: configuration.Data, seed: int) -> Parts:
    """The data that [data] names, split in three. Raises ValueError where they do not fit it."""
    if settings.source == "gesture":
        return _gestures(settings, seed)
    if settings.source == "xor":
        x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
        data = TensorDataset(x, np.array([0, 1, 1, 0]))
        return Parts(data, data, data, (2,), 2, ["0", "1"], "Exclusive or.", {})
    if settings.source == "digits":
        train, test = datasets.digits(settings.test, seed)
        names = [str(i) for i in range(10)]
        return _parts(train, test, names, "The digits of scikit-learn.", settings, seed, {})
    if not settings.path:
        raise ValueError(f"'data.path' is empty: with {settings.source} it names the file.")
    if settings.source == "npz":
        arrays = read_npz(settings.path, "x", "y")
        x, y, names = arrays["x"], arrays["y"], []
    else:
        table = read_csv(settings.path, settings.label or -1)
        assert table.labels is not None  # they were asked for
        x, y, names = table.values, table.labels, table.classes
    x, y = _checked(x, y, Path(settings.path).name)
    if y.dtype == np.int64:
        names = names or [str(i) for i in range(int(y.max()) + 1)]
    order = np.random.default_rng(seed).permutation(len(x))
    count = round(settings.test * len(x))
    train, test = (
        TensorDataset(x[part], y[part]) for part in (np.sort(order[count:]), np.sort(order[:count]))
    )
    about: dict[str, Any] = {}
    if settings.standardize and len(train):
        seen = train.tensors[0].data.astype(np.float64)
        mean, std = seen.mean(0), seen.std(0)
        std[std == 0] = 1
        about = {"mean": mean.tolist(), "std": std.tolist()}
        for part in (train, test):
            x, y = (t.data for t in part.tensors)
            part.tensors = Tensor(((x - mean) / std).astype(np.float32)), Tensor(y)
    source = f"Samples from {Path(settings.path).name}."
    return _parts(train, test, names, source, settings, seed, about)


def _parts(
    train: TensorDataset, test: TensorDataset, names: list[str], source: str,
    settings: configuration.Data, seed: int, about: dict[str, Any],
) -> Parts:  # fmt: skip
    count = round(settings.validation * len(train))
    if not count or not len(test) or count == len(train):
        raise ValueError(
            f"{len(train) + len(test)} samples are too few for the splits of 'data.test' and "
            "'data.validation': give more samples, or other fractions."
        )
    rng = np.random.default_rng([seed, 1])
    fitted, valid = random_split(train, [len(train) - count, count], rng)
    x, y = train.tensors
    outputs = len(names) or y.shape[1]
    return Parts(fitted, valid, test, x.shape[1:], outputs, names, source, about)


def _checked(x: Array, y: Array, name: str) -> tuple[Array, Array]:
    """Inputs as float32 (N, ...), classes as int64 (N,) or other targets as float32 (N, K)."""

    def check(ok: Any, what: str) -> None:
        if not ok:
            raise ValueError(f"The data file {name} {what}.")

    check(x.dtype.kind in "iufb" and y.dtype.kind in "iufb", "holds no numbers in x or in y")
    check(x.ndim > 1 and x.size, f"has x of shape {x.shape}: write (samples, ...)")
    check(y.ndim and len(x) == len(y), f"has x {x.shape} and y {y.shape}: write one y a sample")
    bad = np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(1))
    check(not len(bad), f"has NaN or infinity in sample {bad[:1].sum()}: repair it or leave it out")
    check(np.isfinite(y).all(), "has NaN or infinity among y: repair it or leave it out")
    x = x.astype(np.float32)
    if y.dtype.kind == "f":
        return x, y.astype(np.float32).reshape(len(y), -1)
    check(y.ndim == 1, f"has whole numbers of shape {y.shape} as y: write one class a sample")
    check(y.min() >= 0, f"has the class {y.min()}: write classes from 0")
    check(y.max() > 0, "has one class only: nothing is to be learned")
    check(y.max() < len(y), f"has the class {y.max()} in {len(y)} samples: number them from 0 on")
    return x, y.astype(np.int64)


def _gestures(settings: configuration.Data, seed: int) -> Parts:
    recordings = datasets.load(settings.path or None)
    sets = gesture.training_data(recordings, seed)
    features = sets.features
    shape = (features["channels"], features["window"])
    about = {"features": features, "simulated": recordings.simulated}
    test = gesture.gesture_data(recordings, recordings.test_split, features)
    names = recordings.classes
    return Parts(
        sets.train, sets.validation, test, shape, len(names), names, recordings.source, about
    )


# Training.


def build_loss(settings: configuration.Train, data: Parts) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss that [train] names; auto: cross-entropy for classes, mse for regression."""
    name = settings.loss
    if name == "auto":
        name = "cross-entropy" if data.classes else "mse"
    if (name == "cross-entropy") != bool(data.classes):
        what = "classes" if data.classes else "numbers"
        raise ValueError(f"'train.loss' is {name}, and the targets are {what}: use auto.")
    if name == "cross-entropy":
        return partial(functional.cross_entropy, label_smoothing=settings.label_smoothing)
    losses: dict[str, Any] = {
        "mse": functional.mse_loss,
        "l1": functional.l1_loss,
        "huber": functional.huber_loss,
    }
    return losses[name]


def build_optimizer(settings: configuration.Optimizer, net: nn.Module) -> optim.Optimizer:
    """The optimizer that [optimizer] names, for all parameters of `net`."""
    kinds: dict[str, Any] = {
        "sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW, "rmsprop": optim.RMSprop,
    }  # fmt: skip
    more = {"momentum": settings.momentum} if settings.kind in ("sgd", "rmsprop") else {}
    if settings.momentum and not more:
        raise ValueError(f"'optimizer.momentum' is for sgd and rmsprop, not for {settings.kind}.")
    kind = kinds[settings.kind]
    return kind(net.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, **more)


def build_schedule(
    settings: configuration.Schedule, optimizer: optim.Optimizer, epochs: int, steps: int
) -> "tuple[lr_scheduler.LRScheduler | None, str]":
    """The schedule that [schedule] names (None: constant), and its unit: "epoch" or "batch".

    steps: the optimizer's steps in an epoch.
    """
    warmup = settings.warmup
    if warmup and (settings.kind in ("plateau", "one-cycle") or warmup >= epochs):
        raise ValueError(
            f"'schedule.warmup' is {warmup}: it needs more than so many epochs, and a schedule "
            "other than plateau and one-cycle."
        )
    if settings.kind == "plateau":
        return lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=settings.gamma, patience=settings.patience
        ), "epoch"
    if settings.kind == "one-cycle":
        lr = optimizer.param_groups[0]["lr"]
        return lr_scheduler.OneCycleLR(optimizer, lr, epochs * steps), "batch"
    rise = lr_scheduler.LinearLR(optimizer, 1 / (warmup + 1), 1.0, warmup) if warmup else None
    main: lr_scheduler.LRScheduler | None = None
    if settings.kind == "cosine":
        main = lr_scheduler.CosineAnnealingLR(optimizer, epochs - warmup)
    elif settings.kind == "step":
        main = lr_scheduler.StepLR(optimizer, settings.step_size, settings.gamma)
    if rise is not None and main is not None:
        return lr_scheduler.SequentialLR(optimizer, [rise, main], [warmup]), "epoch"
    return main or rise, "epoch"


def build_metrics(names: list[str], data: Parts) -> dict[str, metrics.Metric]:
    """The metrics that `train.metrics` names. Raises ValueError where the targets do not suit."""
    chosen = {}
    for name in names:
        if name not in METRICS:
            close = difflib.get_close_matches(name, METRICS, 1, 0.5)
            hint = f"the nearest is {close[0]}" if close else f"there are {', '.join(METRICS)}"
            raise ValueError(f"'train.metrics' has {json.dumps(name)}: {hint}.")
        if (name in ("mae", "mse")) == bool(data.classes):
            what = "classes" if data.classes else "numbers"
            raise ValueError(f"'train.metrics' has {name}, and the targets are {what}.")
        chosen[name] = METRICS[name]()
    return chosen


class Files(NamedTuple):
    """The files that a training writes into its folder."""

    config: Path
    checkpoint: Path
    model: Path
    history: Path
    picture: Path
    statistics: Path
    tensorboard: Path


def files(folder: "str | Path") -> Files:
    """The paths of a training's files in this folder, which need not exist."""
    names = ("config.toml", "checkpoint.safetensors", "model.safetensors", "history.csv",
             "curves.png", "statistics.csv", "tensorboard")  # fmt: skip
    return Files(*(Path(folder) / name for name in names))


def run(config: Config, resume: bool = False, progress: bool = True) -> dict[str, Any]:
    """Train by a configuration, and write model, history, curves and configuration to its folder.

    resume: continue from the folder's checkpoint. Returns a dict for JSON with the loss, accuracy
    and metrics of the test split, and figures of the training.

    Raises ValueError for a configuration that does not fit the data, FileNotFoundError without a
    checkpoint to resume from, ArithmeticError where the loss is NaN or infinite.
    """
    start = perf_counter()
    there = files(config.output.folder)
    if resume:
        _check_resumed(config, there)
    random.manual_seed(config.seed)
    data = load_data(config.data, config.seed)
    net = build_net(config.model, data.shape, data.outputs)
    trainer, train, validation = _trainer(config, net, data, there, progress)
    if resume:
        trainer.resume(there.checkpoint)
    else:
        Path(config.output.folder).mkdir(parents=True, exist_ok=True)
        there.checkpoint.unlink(missing_ok=True)  # of another configuration, maybe
        serialize.write(there.config, configuration.dumps(config).encode())
    history = trainer.fit(train, config.train.epochs, validation)
    _save_net(there.model, config, trainer, data)
    if config.output.picture:
        title = f"{config.model.kind} on {config.data.source}, seed {config.seed}"
        serialize.write(there.picture, curves.picture(history, title, trainer.best_epoch))
    score = evaluate(net, DataLoader(data.test, 256), trainer.loss, trainer.metrics, "test loss")
    return {
        "out": config.output.folder,
        "epochs": len(history),
        "best_epoch": trainer.best_epoch,
        "loss": score.loss,
        "accuracy": score.accuracy,
        **score.numbers(),
        "samples": len(data.test),
        "parameters": sum(p.numel() for p in net.parameters()),
        "classes": data.classes,
        "data": data.source,
        "seconds": round(perf_counter() - start, 1),
    }


def _check_resumed(config: Config, there: Files) -> None:
    for path in (there.config, there.checkpoint):
        if not path.exists():
            raise FileNotFoundError(f"There is no {path} to resume from: train without it first.")
    before = configuration.read(there.config)
    free = ("train.epochs", "train.patience")
    for name in configuration.differences(before, config):
        if name not in free and not name.startswith("output."):
            old, new = (json.dumps(configuration.get(c, name)) for c in (before, config))
            raise ValueError(
                f"'{name}' was {old} when the training began, and is {new} now: resume it as it "
                "was, or train anew."
            )


def _trainer(
    config: Config, net: nn.Module, data: Parts, there: Files, progress: bool
) -> tuple[Trainer, DataLoader, DataLoader]:
    settings = config.train
    train = DataLoader(
        data.train, config.data.batch_size, shuffle=True, num_workers=config.data.workers
    )
    optimizer = build_optimizer(config.optimizer, net)
    steps = -(-len(train) // settings.accumulate)
    schedule, every = build_schedule(config.schedule, optimizer, settings.epochs, steps)
    callbacks: list[Callback] = [CSVLogger(there.history)]
    if settings.patience:
        callbacks.append(EarlyStopping(settings.patience))
    if config.output.statistics:
        callbacks.append(Statistics(there.statistics))
    if config.output.tensorboard:
        callbacks.append(TensorBoard(there.tensorboard))
    callbacks.append(Checkpoint(there.checkpoint, settings.checkpoint_every or None))
    trainer = Trainer(
        net, optimizer, build_loss(settings, data), schedule=schedule, schedule_every=every,
        accumulate=settings.accumulate, clip_norm=settings.clip_norm or None,
        metrics=build_metrics(settings.metrics, data), callbacks=callbacks, seed=config.seed,
        capture=settings.capture, progress=progress,
    )  # fmt: skip
    return trainer, train, DataLoader(data.validation, 256)


def _save_net(path: Path, config: Config, trainer: Trainer, data: Parts) -> None:
    if config.model.kind == "gesture" and config.data.source == "gesture":
        assert isinstance(trainer.net, nn.Sequential)
        trained = Trained(trainer.net, trainer.history, data.about["features"])
        gesture.save_gesture(path, trained, data.classes)  # as `tito quantize` reads it
        return
    about = {"classes": data.classes, "shape": data.shape, "outputs": data.outputs, **data.about}
    metadata = {"kind": "trained", "config": asdict(config), **about}
    serialize.save(trainer.net.state_dict(), path, metadata)


def load_net(path: "str | Path") -> tuple[nn.Module, dict[str, Any]]:
    """The network that `run` wrote, in eval mode, and the metadata of its file.

    The metadata are a dict of config, shape (of a sample), outputs and classes, and mean and std
    where inputs were standardized. Raises ValueError for any other file.
    """
    tensors, metadata = serialize.load_with_metadata(path)
    if metadata.get("kind") != "trained":
        raise ValueError(f"{path} is no network that was trained by a configuration.")
    config = configuration.from_table(metadata["config"])
    net = build_net(config.model, tuple(metadata["shape"]), metadata["outputs"])
    net.load_state_dict(tensors)
    return net.eval(), metadata


def quantized_net(
    path: "str | Path", name: str = "", data: str = "", **tier: Any
) -> tuple[QuantizedNet, Array, str]:
    """Quantize the network that `run` wrote, calibrated on its training data.

    name: the model's name on a kit (default: the kind of the network). data: a file that replaces
    the configuration's `data.path`. tier: keyword arguments of `quantize`.

    Returns the network in integers, test vectors for its file, (N, *sample) int8 with channels
    last, and the source of the data (str). Raises ValueError for an operation that a kit cannot
    run, named by its path, and for data of another shape than the network's.
    """
    net, about = load_net(path)
    config = configuration.from_table(about["config"])
    if data and config.data.source in ("digits", "xor"):
        raise ValueError(f"It was trained on {config.data.source}, which is no file: give no data.")
    config.data.path = data or config.data.path
    parts = load_data(config.data, config.seed)
    if (list(parts.shape), parts.outputs) != (list(about["shape"]), about["outputs"]):
        raise ValueError(
            f"The data have samples {parts.shape} and {parts.outputs} outputs, and the network "
            f"was trained on {tuple(about['shape'])} and {about['outputs']}: give its own data."
        )
    random.manual_seed(config.seed)
    order = np.random.default_rng(config.seed).permutation(len(parts.train))
    x, y = (t.numpy() for t in parts.train.batch(order[:CALIBRATION]))
    features = about.get("features")
    if "mean" in about:
        features = {"kind": "standardized", "mean": about["mean"], "std": about["std"]}
    net_input = Quant(SCALE, ZERO_POINT) if "features" in about else None
    quantized = quantize(
        net, x, name=name or config.model.kind, labels=parts.classes, input=net_input,
        features=features, **tier,
    )  # fmt: skip
    first = np.unique(y, return_index=True)[1] if parts.classes else np.arange(min(4, len(x)))
    vectors = quantized.input.of(np.moveaxis(x[first], 1, -1))
    return quantized, vectors, parts.source
