"""Recognising gestures from a motion sensor: the network, and how it is trained."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinytorch import nn, random
from tinytorch.autograd.tensor import Tensor
from tinytorch.data.recordings import Recordings
from tinytorch.data.transforms import Compose, Jitter, RotateAxes, Scale, TimeShift, TimeWarp
from tinytorch.modelfile.export import to_bytes
from tinytorch.optim import Adam
from tinytorch.optim.lr_scheduler import CosineAnnealingLR
from tinytorch.quantize.calibrate import quantize
from tinytorch.quantize.ir import Quant, QuantizedNet
from tinytorch.sensing.motion import motion_features, network_input, quantize_windows
from tinytorch.sensing.trained import Trained, load_trained, save_trained
from tinytorch.train.callbacks import Checkpoint
from tinytorch.train.trainer import Trainer
from tinytorch.utils.data import DataLoader, TensorDataset, Transformed
from tinytorch_core.dsp import SCALE, ZERO_POINT

EPOCHS = 60
VARIANTS = 4  # augmented copies of each validation window


def window_for(recordings: Recordings) -> int:
    """The window in samples, a multiple of 32, that holds 99 % of the training gestures.

    Recordings of more than four times the median length are streams, and do not count.
    """
    lengths = np.array([len(recordings.signals[i]) for i in recordings.members("train")])
    gestures = lengths[lengths <= 4 * np.median(lengths)]
    return 32 * int(np.ceil(np.quantile(gestures, 0.99) / 32))


def gesture_net(channels: int, classes: int, window: int) -> nn.Sequential:
    """A small network from motion windows (N, channels, window) to class scores (N, classes).

    window: a multiple of 16. For three channels, four classes and 128 samples it has 7,244
    parameters and takes 154,624 multiply-accumulates.
    """
    return nn.Sequential(
        nn.Conv1d(channels, 16, 5, padding=2),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.MaxPool1d(4),
        nn.Conv1d(16, 24, 5, padding=2),
        nn.BatchNorm1d(24),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(24, 32, 5, padding=2),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(32 * (window // 16), classes),
    )


class Varied(Transformed):
    """Augmented windows (N, window, C) as network inputs, and their labels.

    The augmentations are time shift, time warp, rotation of the axes, scale and jitter, for other
    people, grips and speeds.
    """

    def __init__(
        self, windows: NDArray[np.int16], labels: NDArray[np.int64], features: dict[str, Any]
    ) -> None:
        def as_input(x: Tensor) -> Tensor:
            samples = np.clip(np.rint(x.numpy()), -32768, 32767).transpose(0, 2, 1)
            return Tensor(network_input(quantize_windows(samples, features)))

        variations = Compose(
            [
                TimeShift(0.1),
                TimeWarp(speed=1.5, bend=0.1),
                RotateAxes(degrees=20.0),
                Scale(1.5),
                Jitter(0.05 * windows.std((0, 1))),
                as_input,
            ]
        )
        super().__init__(TensorDataset(windows.transpose(0, 2, 1), labels), variations)


def gesture_data(recordings: Recordings, split: str, features: dict[str, Any]) -> TensorDataset:
    """A split without augmentation: inputs (N, C, window) and labels (N,)."""
    windows, labels = recordings.windows(split, features["window"])
    return TensorDataset(network_input(quantize_windows(windows, features)), labels)


class GestureData(NamedTuple):
    """The training and validation data of a gesture network, and the settings of its features."""

    train: Varied
    validation: Varied
    features: dict[str, Any]


def training_data(recordings: Recordings, seed: int = 0) -> GestureData:
    """The splits `train` and `val`, augmented. Raises ValueError without recordings to train on."""
    recordings = recordings.with_validation(seed)
    window = window_for(recordings)
    # Streams are cut four times as finely as for a test: a movement may stand anywhere.
    windows, labels = recordings.windows("train", window, hop=window // 4)
    features = motion_features(windows, recordings.rate)
    train = Varied(windows, labels, features)
    # One or two people say little about which epoch is best: augmented, they stand for more.
    windows, labels = recordings.windows("val", window)
    varied = Varied(windows.repeat(VARIANTS, 0), labels.repeat(VARIANTS), features)
    return GestureData(train, varied, features)


def train_gesture(
    recordings: Recordings,
    seed: int = 0,
    epochs: int = EPOCHS,
    progress: bool = True,
    checkpoint: "str | Path | None" = None,
    resume: bool = False,
) -> Trained:
    """Train a gesture network on the split `train`, with `val` for validation.

    The same seed gives the same network. checkpoint: a file that is rewritten after each epoch,
    from which `resume` continues. Raises ValueError without recordings to train on.
    """
    random.manual_seed(seed)
    data = training_data(recordings, seed)
    net = gesture_net(recordings.channels, len(recordings.classes), data.features["window"])
    optimizer = Adam(net.parameters(), lr=4e-3)
    trainer = Trainer(
        net, optimizer, schedule=CosineAnnealingLR(optimizer, epochs), seed=seed,
        callbacks=[] if checkpoint is None else [Checkpoint(checkpoint)], progress=progress,
    )  # fmt: skip
    if resume and checkpoint is not None and Path(checkpoint).exists():
        trainer.resume(checkpoint)
    train = DataLoader(data.train, batch_size=64, shuffle=True)
    history = trainer.fit(train, epochs, DataLoader(data.validation, batch_size=256))
    return Trained(net, history, data.features)


def quantized_gesture(
    trained: Trained, recordings: Recordings, name: str = "gesture", **tier: Any
) -> tuple[QuantizedNet, NDArray[np.int8]]:
    """Quantize a trained network, calibrated on `train`.

    tier: keyword arguments of `quantize`, such as `tier` and `bits`.

    Returns the network and a test vector per class, int8 (classes, window, C).
    """
    windows, labels = recordings.windows("train", trained.features["window"])
    x = quantize_windows(windows, trained.features)
    net = quantize(
        trained.net, network_input(x), name=name, labels=recordings.classes,
        input=Quant(SCALE, ZERO_POINT), features=trained.features, **tier,
    )  # fmt: skip
    return net, x[np.unique(labels, return_index=True)[1]]


def quantize_gesture(trained: Trained, recordings: Recordings, name: str = "gesture") -> bytes:
    """The model file of a trained network in the exact tier, with a test vector per class."""
    return to_bytes(*quantized_gesture(trained, recordings, name))


def save_gesture(path: "str | Path", trained: Trained, classes: list[str]) -> None:
    """Write a trained network as safetensors, with the metadata to rebuild and quantize it."""
    save_trained(path, "gesture", trained, classes)


def load_gesture(path: "str | Path") -> tuple[Trained, list[str]]:
    """Read the network and classes that `save_gesture` wrote. Raises ValueError for other files."""
    return load_trained(
        path,
        "gesture",
        lambda features, classes, _: gesture_net(features["channels"], classes, features["window"]),
    )
