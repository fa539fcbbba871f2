"""Recognising spoken words: the network, and how it is trained."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinytorch import nn, random
from tinytorch.autograd.tensor import Tensor
from tinytorch.data.recordings import Recordings
from tinytorch.data.transforms import ChannelMask, Compose, TimeMask
from tinytorch.nn import functional
from tinytorch.optim import Adam
from tinytorch.optim.lr_scheduler import CosineAnnealingLR
from tinytorch.quantize.calibrate import quantize
from tinytorch.quantize.ir import Quant, QuantizedNet
from tinytorch.sensing.mel import SCALE, ZERO_POINT, Features, Front, samples_of, sound_features
from tinytorch.sensing.trained import Trained, load_trained, save_trained
from tinytorch.train.callbacks import Checkpoint
from tinytorch.train.trainer import Trainer
from tinytorch.utils.data import DataLoader, Dataset, TensorDataset

EPOCHS = 80
DRAWN = 2560  # samples in an epoch, whatever the number of clips
VARIED = 32_000  # augmented clips in total
WIDTH = 64
# A word of one second stands in the middle of 1.4, so that a receptive field of 26 frames covers
# the word and its surroundings equally often.
FRAMES, STEP, VALUES = 72, 4, 20
RATES = (8000, 16000)
SILENCE = "_silence_"
NOISES = 50  # synthetic, added to the recorded ones
CALIBRATION = 512  # clips of the training data

Int16 = NDArray[np.int16]
Floats = NDArray[np.float32]


def keyword_net(values: int, classes: int, width: int = WIDTH) -> nn.Sequential:
    """A small network from features of sound (N, 1, frames, values) to class scores (N, classes).

    Depthwise separable as in Hello Edge (Zhang et al., 2017), but without padding in time, so that
    it can run as a stream. Its receptive field before the average is 26 frames. For 20 values, 12
    classes and a width of 64 it has 23,756 parameters and takes 5.3 million multiply-accumulates
    for a second of sound.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(1, width, (10, 4), stride=2, padding=(0, 1)),
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
    """int8 features (N, frames, values) as the float network's input: (N, 1, frames, values)."""
    return quantized[:, None] * np.float32(SCALE)


def noises(count: int, samples: int, chance: np.random.Generator) -> NDArray[np.float32]:
    """Noise (count, samples) with standard deviation 1, from white to brown."""
    size = samples // 2 + 1
    spectrum = chance.standard_normal((count, size)) + 1j * chance.standard_normal((count, size))
    fall = np.arange(1, size + 1) ** -chance.uniform(0, 1, (count, 1))
    noise = np.fft.irfft(spectrum * fall, samples)
    return (noise / noise.std(1, keepdims=True)).astype(np.float32)


def loudness(x: Floats) -> Floats:
    """The root mean square of sounds (N, samples): (N, 1)."""
    return np.sqrt((x**2).mean(1, keepdims=True))


def spoken(clips: Int16, samples: int, chance: np.random.Generator) -> Floats:
    """The middle of clips (N, length), augmented: float32 (N, samples).

    All are resampled by one random factor, which changes speed and pitch, and each is shifted in
    time by up to 6 %. Beyond their ends the clips are mirrored.
    """
    n, length = clips.shape
    # A multiple of 80 samples, for which the Fourier transform is quick. Between samples it is
    # exact, where straight lines would take the high bands away.
    other = 80 * round(length * np.exp(chance.uniform(-0.1, 0.1)) / 80)
    x = np.fft.irfft(np.fft.rfft(clips.astype(np.float32)), other) * (other / length)
    start = (other - samples) // 2 + np.rint(chance.uniform(-0.06, 0.06, (n, 1)) * length)
    at = np.abs(np.arange(samples) + start.astype(np.int64))
    at = np.abs(other - 1 - np.abs(other - 1 - at))
    return np.take_along_axis(x, at, 1).astype(np.float32)


def behind(x: Floats, noise: Int16, chance: np.random.Generator) -> Floats:
    """Background noise for sounds x (N, samples): (N, samples), zeros for half of them.

    noise: (M, more samples), of which random parts are taken, at a signal-to-noise ratio of 5 to
    40 dB.
    """
    n, samples = x.shape
    start = chance.integers(0, noise.shape[1] - samples + 1, (n, 1))
    which = chance.integers(0, len(noise), (n, 1))
    chosen = noise[which, start + np.arange(samples)].astype(np.float32)
    ratio = 10 ** (-chance.uniform(5, 40, (n, 1)) / 20) * (chance.random((n, 1)) < 0.5)
    return chosen * (loudness(x) / np.maximum(loudness(chosen), 1) * ratio).astype(np.float32)


def varied(
    clips: Int16, noise: Int16, features: dict[str, Any], chance: np.random.Generator
) -> NDArray[np.int8]:
    """Features, int8 (N, frames, values), of augmented clips (N, length).

    The augmentations are speed and pitch, time shift, gain and background noise (M, samples).
    """
    x = spoken(clips, samples_of(features), chance)
    gain = 10 ** (chance.uniform(-6, 6, (len(x), 1)) / 20)
    loud = np.rint((x + behind(x, noise, chance)) * gain)
    return Features(features)(np.clip(loud, -32768, 32767).astype(np.int16))


class Drawn(Dataset):
    """Augmented features, int8 (variants, N, frames, values), as network inputs, and labels (N,).

    Classes are balanced: each is drawn equally often, whatever the number of its clips. Inputs are
    masked in time and in channels (SpecAugment, Park et al., 2019).
    """

    def __init__(self, variants: NDArray[np.int8], labels: NDArray[np.int64]) -> None:
        self.variants = variants.swapaxes(2, 3)  # a transform's signals have time last
        self.labels = labels
        self.members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        self.hide = Compose([TimeMask(6, p=0.8), ChannelMask(4, p=0.8)])

    def __len__(self) -> int:
        return DRAWN

    def __getitem__(self, index: int) -> list[Tensor]:
        return [Tensor(part.data[0]) for part in self.batch(np.array([index]))]

    def batch(self, indices: NDArray[np.int64]) -> list[Tensor]:
        chance = random.generator
        chosen = np.array([chance.choice(self.members[i % len(self.members)]) for i in indices])
        variant = chance.integers(0, len(self.variants), len(chosen))
        hidden = self.hide(self.variants[variant, chosen])
        return [Tensor(network_input(hidden.swapaxes(1, 2))), Tensor(self.labels[chosen])]


def keyword_data(recordings: Recordings, split: str, features: dict[str, Any]) -> TensorDataset:
    """A split without augmentation: inputs (N, 1, frames, values) and labels (N,)."""
    clips, labels = recordings.clips(split, samples_of(features), features["window"])
    return TensorDataset(network_input(Features(features)(clips)), labels)


class KeywordData(NamedTuple):
    """The training and validation data of a keyword network, and the settings of its features."""

    train: Drawn
    validation: TensorDataset
    features: dict[str, Any]


def training_data(recordings: Recordings, seed: int = 0) -> KeywordData:
    """The split `train`, augmented, and `val`.

    Raises ValueError without recordings to train on, and for a rate other than 8 or 16 kHz.
    """
    recordings = recordings.with_validation(seed)
    if recordings.rate not in RATES:
        raise ValueError(
            f"Sound of {recordings.rate:g} Hz cannot be trained on: record at 8000 or 16000 Hz."
        )
    rate = int(recordings.rate)
    clips, labels = recordings.clips("train", rate)
    features = sound_features(clips, Front.usual(rate), VALUES, FRAMES, STEP)
    longer, _ = recordings.clips("train", samples_of(features) + rate // 4)
    chance = np.random.default_rng(seed)
    noise = np.rint(1000 * noises(NOISES, rate, chance)).astype(np.int16)
    if SILENCE in recordings.classes:
        noise = np.concatenate([noise, clips[labels == recordings.classes.index(SILENCE)]])
    noise = np.concatenate([noise, noise], 1)  # a window is longer than a second
    count = int(np.clip(VARIED // len(clips), 1, 40))
    parts = [longer[i : i + 64] for i in range(0, len(clips), 64)]
    variants = np.stack(
        [
            np.concatenate([varied(part, noise, features, chance) for part in parts])
            for _ in range(count)
        ]
    )
    return KeywordData(Drawn(variants, labels), keyword_data(recordings, "val", features), features)


def train_keyword(
    recordings: Recordings,
    seed: int = 0,
    epochs: int = EPOCHS,
    width: int = WIDTH,
    progress: bool = True,
    checkpoint: "str | Path | None" = None,
    resume: bool = False,
) -> Trained:
    """Train a keyword network on the split `train`, with `val` for validation.

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
    train = DataLoader(data.train, batch_size=64, shuffle=True)
    history = trainer.fit(train, epochs, DataLoader(data.validation, batch_size=128))
    return Trained(net, history, data.features)


def quantized_keyword(
    trained: Trained, recordings: Recordings, name: str = "keyword", **tier: Any
) -> tuple[QuantizedNet, NDArray[np.int8]]:
    """Quantize a trained network as a model of windows, calibrated on `train`.

    `tinytorch.spotting.listening_keyword` makes a model of a stream of sound of it.

    tier: keyword arguments of `quantize`, such as `tier` and `bits` (default: 8, with which
    keywords lose least accuracy in the lane tier).

    Returns the network and a test vector per class, int8 (classes, frames, values, 1).
    """
    clips, labels = recordings.clips("train", samples_of(trained.features))
    x = Features(trained.features)(clips)
    chosen = np.random.default_rng(0).permutation(len(x))[:CALIBRATION]
    net = quantize(
        trained.net, network_input(x[chosen]), name=name, labels=recordings.classes,
        input=Quant(SCALE, ZERO_POINT), features=trained.features, **{"bits": 8, **tier},
    )  # fmt: skip
    return net, x[np.unique(labels, return_index=True)[1]][..., None]


def save_keyword(path: "str | Path", trained: Trained, classes: list[str]) -> None:
    """Write a trained network as safetensors, with the metadata to rebuild and quantize it."""
    save_trained(path, "keyword", trained, classes)


def load_keyword(path: "str | Path") -> tuple[Trained, list[str]]:
    """Read the network and classes that `save_keyword` wrote. Raises ValueError for other files."""
    return load_trained(
        path,
        "keyword",
        lambda features, classes, tensors: keyword_net(
            features["values"], classes, len(tensors["0.weight"])
        ),
    )
