"""Recognising spoken words: the network, and how it is trained."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinytorch import nn, random, serialize
from tinytorch.autograd import Tensor
from tinytorch.callbacks import Checkpoint
from tinytorch.export import to_bytes
from tinytorch.nn import functional
from tinytorch.optim import Adam
from tinytorch.optim.lr_scheduler import CosineAnnealingLR
from tinytorch.quantize import Quant, QuantizedNet, quantize
from tinytorch.recordings import Recordings
from tinytorch.sound import SCALE, ZERO_POINT, Features, Front, samples_of, sound_features
from tinytorch.train import Epoch, Trainer
from tinytorch.transforms import ChannelMask, Compose, TimeMask
from tinytorch.utils.data import DataLoader, Dataset, TensorDataset

EPOCHS = 100
WIDTH = 64
FRAMES, VALUES = 48, 10
NOISES = 50  # beside those that were recorded
CALIBRATION = 512  # clips of the training data
SILENCE = "_silence_"

Int16 = NDArray[np.int16]
Floats = NDArray[np.float32]


class Trained(NamedTuple):
    """A trained network in eval mode, how training went, and the features for the model file."""

    net: nn.Sequential
    history: list[Epoch]
    features: dict[str, Any]


def keyword_net(values: int, classes: int, width: int = WIDTH) -> nn.Sequential:
    """A small network from features of sound (N, 1, frames, values) to class scores (N, classes).

    A depthwise separable network as in Hello Edge (Zhang et al., 2017), without padding in time, so
    that it can run as a stream: from 26 frames on it takes any number.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(1, width, (10, 4), stride=(2, 2), padding=(0, 1)),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    for _ in range(4):
        layers += [
            nn.Conv2d(width, width, 3, padding=(0, 1), groups=width),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
    return nn.Sequential(
        *layers,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(width, classes),
    )


def network_input(quantized: NDArray[np.int8]) -> NDArray[np.float32]:
    """int8 features (N, frames, values) as the float network takes them."""
    return quantized[:, None] * np.float32(SCALE)


def noises(count: int, samples: int, chance: np.random.Generator) -> NDArray[np.float32]:
    """Noise (count, samples), deviation 1, from white to brown."""
    size = samples // 2 + 1
    spectrum = chance.standard_normal((count, size)) + 1j * chance.standard_normal((count, size))
    fall = np.arange(1, size + 1) ** -chance.uniform(0, 1, (count, 1))
    noise = np.fft.irfft(spectrum * fall, samples)
    return (noise / noise.std(1, keepdims=True)).astype(np.float32)


def loudness(x: Floats) -> Floats:
    """Of sounds (N, samples): the root of the mean square, (N, 1)."""
    return np.sqrt((x**2).mean(1, keepdims=True))


class Varied(Dataset):
    """Features of clips (N, samples) as the network takes them, each time as another speaker,
    another place and another distance would make them, and their labels.

    Each class is drawn equally often, however many clips it has. noise: (M, samples).
    """

    def __init__(
        self, clips: Int16, labels: NDArray[np.int64], noise: Int16, features: dict[str, Any]
    ) -> None:
        self.clips = clips
        self.labels = labels
        self.noise = noise
        self.samples = samples_of(features)
        self.features = Features(features)
        classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        most = max(map(len, classes))
        self.order = np.concatenate([np.resize(members, most) for members in classes])
        self.hide = Compose([TimeMask(8, p=0.8), ChannelMask(2, p=0.6)])

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> list[Tensor]:
        return [Tensor(part.data[0]) for part in self.batch(np.array([index]))]

    def batch(self, indices: NDArray[np.int64]) -> list[Tensor]:
        chosen = self.order[indices]
        x = self.spoken(self.clips[chosen])
        x += self.behind(x)
        x *= 10 ** random.generator.uniform(-0.6, 0.3, (len(x), 1))
        q = self.features(np.clip(np.rint(x), -32768, 32767).astype(np.int16))
        q = self.hide(q.transpose(0, 2, 1)).transpose(0, 2, 1)
        return [Tensor(network_input(q)), Tensor(self.labels[chosen])]

    def spoken(self, clips: Int16) -> Floats:
        """Clips (N, samples), faster or slower, higher or lower, earlier or later; what lies
        beyond their ends is mirrored."""
        n, last = len(clips), clips.shape[1] - 1
        speed = np.exp(random.generator.uniform(-0.15, 0.15, (n, 1)))
        middle = last * (0.5 + random.generator.uniform(-0.1, 0.1, (n, 1)))
        at = np.abs((np.arange(self.samples) - self.samples / 2) * speed + middle)
        at = last - np.abs(last - at)
        before = np.minimum(at.astype(np.int64), last - 1)
        x = np.take_along_axis(clips, before, 1).astype(np.float32)
        return x + (at - before).astype(np.float32) * (np.take_along_axis(clips, before + 1, 1) - x)

    def behind(self, x: Floats) -> Floats:
        """Noise for most of the sounds x (N, samples), up to as loud as they are."""
        n, draw = len(x), random.generator
        start = draw.integers(0, self.noise.shape[1] - self.samples + 1, (n, 1))
        which = draw.integers(0, len(self.noise), (n, 1))
        noise = self.noise[which, start + np.arange(self.samples)].astype(np.float32)
        ratio = loudness(x) / np.maximum(loudness(noise), 1) * 10 ** -draw.uniform(0, 2, (n, 1))
        return noise * np.where(draw.random((n, 1)) < 0.8, ratio, 0).astype(np.float32)


def keyword_data(recordings: Recordings, split: str, features: dict[str, Any]) -> TensorDataset:
    """A split as the network takes it, unvaried: inputs (N, 1, frames, values) and labels (N,)."""
    clips, labels = recordings.clips(split, samples_of(features))
    return TensorDataset(network_input(Features(features)(clips)), labels)


class KeywordData(NamedTuple):
    """What a keyword network is trained on and watched by, and the features of both."""

    train: Varied
    validation: TensorDataset
    features: dict[str, Any]


def training_data(recordings: Recordings, seed: int = 0) -> KeywordData:
    """The splits `train`, varied, and `val`. Raises ValueError without recordings to train on."""
    recordings = recordings.with_validation(seed)
    rate = round(recordings.rate)
    clips, labels = recordings.clips("train", rate)
    features = sound_features(clips, Front.usual(rate), VALUES, FRAMES)
    noise = np.rint(1000 * noises(NOISES, rate, np.random.default_rng(seed))).astype(np.int16)
    if SILENCE in recordings.classes:
        noise = np.concatenate([noise, clips[labels == recordings.classes.index(SILENCE)]])
    train = Varied(clips, labels, noise, features)
    return KeywordData(train, keyword_data(recordings, "val", features), features)


def train_keyword(
    recordings: Recordings,
    seed: int = 0,
    epochs: int = EPOCHS,
    width: int = WIDTH,
    progress: bool = True,
    checkpoint: "str | Path | None" = None,
    resume: bool = False,
) -> Trained:
    """Train a keyword network on the split `train`, watched by `val`.

    The same seed gives the same network. checkpoint: a file that is rewritten after each epoch,
    from which `resume` continues. Raises ValueError without recordings to train on.
    """
    random.manual_seed(seed)
    data = training_data(recordings, seed)
    net = keyword_net(VALUES, len(recordings.classes), width)
    optimizer = Adam(net.parameters(), lr=4e-3)
    trainer = Trainer(
        net, optimizer, partial(functional.cross_entropy, label_smoothing=0.1),
        schedule=CosineAnnealingLR(optimizer, epochs), seed=seed,
        callbacks=[] if checkpoint is None else [Checkpoint(checkpoint)], progress=progress,
    )  # fmt: skip
    if resume and checkpoint is not None and Path(checkpoint).exists():
        trainer.resume(checkpoint)
    train = DataLoader(data.train, batch_size=64, shuffle=True, num_workers=1)
    history = trainer.fit(train, epochs, DataLoader(data.validation, batch_size=128))
    return Trained(net, history, data.features)


def quantized_keyword(
    trained: Trained, recordings: Recordings, name: str = "keyword", **tier: Any
) -> tuple[QuantizedNet, NDArray[np.int8]]:
    """A trained network in integers, calibrated on `train`, and a test vector per class.

    tier: `tier`, `bits` and so on, as `quantize` takes them.
    """
    clips, labels = recordings.clips("train", samples_of(trained.features))
    x = Features(trained.features)(clips)
    chosen = np.random.default_rng(0).permutation(len(x))[:CALIBRATION]
    net = quantize(
        trained.net, network_input(x[chosen]), name=name, labels=recordings.classes,
        input=Quant(SCALE, ZERO_POINT), features=trained.features, **tier,
    )  # fmt: skip
    return net, x[np.unique(labels, return_index=True)[1]][..., None]


def quantize_keyword(
    trained: Trained, recordings: Recordings, name: str = "keyword", **tier: Any
) -> bytes:
    """The model file of a trained network, with a test vector per class."""
    return to_bytes(*quantized_keyword(trained, recordings, name, **tier))


def save_keyword(path: "str | Path", trained: Trained, classes: list[str]) -> None:
    """Write a trained network as safetensors, with what it takes to build and quantize it again."""
    metadata = {
        "kind": "keyword",
        "classes": classes,
        "width": trained.net[0].weight.shape[0],
        "features": trained.features,
        "history": [asdict(epoch) for epoch in trained.history],
    }
    serialize.save(trained.net.state_dict(), path, metadata)


def load_keyword(path: "str | Path") -> tuple[Trained, list[str]]:
    """What `save_keyword` wrote: the network and its classes. Raises ValueError for others."""
    tensors, metadata = serialize.load_with_metadata(path)
    if metadata.get("kind") != "keyword":
        raise ValueError(f"{path} holds no trained keyword network: make one with `tito train`.")
    features, classes = metadata["features"], metadata["classes"]
    net = keyword_net(features["values"], len(classes), metadata["width"])
    net.load_state_dict(tensors)
    net.eval()
    return Trained(net, [Epoch(**epoch) for epoch in metadata["history"]], features), classes
