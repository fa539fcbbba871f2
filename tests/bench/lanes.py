"""What the lane tier costs in accuracy, after training, on recordings of people:

python -m tests.bench.lanes --data-gesture FILE.npz --data-keyword FILE.npz... [--json]

Two networks that TinyTorch trained: `tito train`'s for gestures, judged by the split `test` and by
each person in turn while the others train it, and MLPerf Tiny's for keywords (DS-CNN) on ten
cepstral coefficients, judged by the split `test`, and by that and `val` together, whose speakers
are also nobody's that it heard. The files are in the npz layout of `tito`; keywords are clips of
one second at 8 kHz. Weights are kept in the cache folder, so that a second run is quick.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinytorch import nn, no_grad, random, serialize
from tinytorch.autograd.tensor import Tensor
from tinytorch.cache import cache_folder
from tinytorch.data import recordings
from tinytorch.data.transforms import ChannelMask, Compose, TimeMask, TimeShift
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.nn import functional
from tinytorch.optim import Adam
from tinytorch.optim.lr_scheduler import CosineAnnealingLR
from tinytorch.quantize.calibrate import quantize
from tinytorch.quantize.ir import QuantizedNet
from tinytorch.sensing import gesture
from tinytorch.sensing.motion import quantize_windows
from tinytorch.train.trainer import Trainer
from tinytorch.utils.data import DataLoader, TensorDataset, Transformed

RATE, WINDOW, HOP, SPECTRUM = 8000, 320, 160, 512  # Hz, and samples: 40 ms every 20 ms
BANDS, COEFFICIENTS = 20, 10
EPOCHS = 120
CALIBRATION = 512  # clips of the training data
AT_MOST = 0.7  # points below float, with groups as long as the layer

Floats = NDArray[np.float32]


class Keywords(NamedTuple):
    """Coefficients (N, 10, 49) of clips, at mean 0 and deviation 1, by split; labels; classes."""

    x: dict[str, Floats]
    y: dict[str, NDArray[np.int64]]
    classes: list[str]


def sound(data: NDArray[np.uint8]) -> Floats:
    """8-bit mu-law to samples in -1..1."""
    m = data.astype(np.float32) / 127.5 - 1.0
    return np.sign(m) * np.expm1(np.abs(m) * np.log(np.float32(256.0))) / 255.0


def mel_bands() -> Floats:
    """Triangles over the spectrum, evenly spaced in mel: (SPECTRUM // 2 + 1, BANDS)."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    hertz = np.arange(SPECTRUM // 2 + 1)[:, None] * RATE / SPECTRUM
    rise = (hertz - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - hertz) / np.diff(edges)[1:]
    return np.maximum(0, np.minimum(rise, fall)).astype(np.float32)


def cepstra(clips: Floats) -> Floats:
    """(N, samples) to (N, COEFFICIENTS, frames): the discrete cosine transform of log mel bands."""
    frames = np.lib.stride_tricks.sliding_window_view(clips, WINDOW, axis=1)[:, ::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW).astype(np.float32), SPECTRUM)) ** 2
    bands = np.log(power.astype(np.float32) @ mel_bands() + 1e-4)
    order = np.arange(COEFFICIENTS)[:, None] * (np.arange(BANDS) + 0.5)
    return (np.cos(np.pi / BANDS * order).astype(np.float32) @ bands.swapaxes(1, 2)).astype("f4")


def read_keywords(files: Sequence[Path]) -> Keywords:
    arrays = [np.load(file, allow_pickle=False) for file in files]
    split = np.concatenate([a["split"] for a in arrays])
    label = np.concatenate([a["label"] for a in arrays]).astype(np.int64)
    x = np.concatenate([cepstra(sound(a["data"])) for a in arrays])
    seen = x[split == "train"]
    x = (x - seen.mean((0, 2), keepdims=True)) / seen.std((0, 2), keepdims=True)
    parts = {str(name): split == name for name in np.unique(split)}
    return Keywords(
        {name: x[part] for name, part in parts.items()},
        {name: label[part] for name, part in parts.items()},
        arrays[0]["classes"].tolist(),
    )


def ds_cnn(classes: int) -> nn.Sequential:
    """MLPerf Tiny's network for keywords: images (N, 1, 49, 10)."""
    layers = [nn.Conv2d(1, 64, (10, 4), stride=2, padding=(5, 1)), nn.BatchNorm2d(64), nn.ReLU()]
    for _ in range(4):
        layers += [nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.BatchNorm2d(64), nn.ReLU()]
        layers += [nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


def images(x: Floats) -> Floats:
    """Coefficients (N, 10, 49) as the network takes them, (N, 1, 49, 10)."""
    return np.ascontiguousarray(x.swapaxes(-1, -2)[:, None])


def train_keywords(data: Keywords, epochs: int, seed: int) -> nn.Sequential:
    random.manual_seed(seed)
    net = ds_cnn(len(data.classes))
    optimizer = Adam(net.parameters(), lr=3e-3)
    vary = Compose([TimeShift(0.1), TimeMask(8), ChannelMask(2), lambda x: Tensor(images(x.data))])
    loader = DataLoader(
        Transformed(TensorDataset(data.x["train"], data.y["train"]), vary), 64, shuffle=True
    )
    trainer = Trainer(
        net, optimizer, partial(functional.cross_entropy, label_smoothing=0.1),
        schedule=CosineAnnealingLR(optimizer, epochs), seed=seed,
    )  # fmt: skip
    trainer.fit(loader, epochs)
    return net


def kept(cache: "Path | None", files: Sequence[Path], what: str) -> Path:
    """The place of a result in the cache: another for other data."""
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    folder = (cache or cache_folder()) / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{what}_{digest}.safetensors"


def trained_keywords(
    files: Sequence[Path], cache: "Path | None" = None, epochs: int = EPOCHS, seed: int = 0
) -> tuple[nn.Sequential, Keywords]:
    """The keyword network in eval mode, trained or from the cache, and its data."""
    data = read_keywords(files)
    path = kept(cache, files, f"keywords_{epochs}_{seed}")
    if not path.exists():
        serialize.save(train_keywords(data, epochs, seed).state_dict(), path)
    net = ds_cnn(len(data.classes))
    net.load_state_dict(serialize.load(path))
    net.eval()
    return net, data


def quantized_keywords(net: nn.Sequential, data: Keywords, **tier: Any) -> QuantizedNet:
    """`tier`, `bits` and so on: as `quantize` takes them."""
    chosen = np.random.default_rng(0).permutation(len(data.x["train"]))[:CALIBRATION]
    return quantize(
        net, images(data.x["train"][chosen]), name="keywords", labels=data.classes, **tier
    )


def keyword_model(
    files: Sequence[Path], cache: "Path | None" = None, epochs: int = EPOCHS, **tier: Any
) -> bytes:
    """The model file of the trained keyword network, with four test vectors.

    files: the keyword recordings. tier: as `quantize` takes it.
    """
    net, data = trained_keywords(files, cache, epochs)
    quantized = quantized_keywords(net, data, **tier)
    x = np.moveaxis(images(data.x["train"][:4]), 1, -1)
    return to_bytes(quantized, quantized.input.of(x))


class Judged(NamedTuple):
    """A float network beside its tiers, on the same samples.

    columns: which samples count, by the name of the figure. right: of the float network, whether
    each answer is. tier: the same for the network quantized so.
    """

    columns: dict[str, NDArray[np.bool_]]
    right: NDArray[np.bool_]
    tier: Callable[..., NDArray[np.bool_]]


def judge_keywords(net: nn.Sequential, data: Keywords) -> Judged:
    test, val = len(data.y["test"]), len(data.y["val"])
    x = images(np.concatenate([data.x["test"], data.x["val"]]))
    y = np.concatenate([data.y["test"], data.y["val"]])
    with no_grad():
        outputs = [net(Tensor(x[i : i + 128])).numpy() for i in range(0, len(x), 128)]

    def tier(**asked: Any) -> NDArray[np.bool_]:
        model = Model(to_bytes(quantized_keywords(net, data, **asked)))
        return model.predict_batch(np.moveaxis(x, 1, -1)) == y

    columns = {"keywords": np.arange(test + val) < test, "with val": np.ones(test + val, bool)}
    return Judged(columns, np.concatenate(outputs).argmax(1) == y, tier)


def judge_gestures(file: Path, cache: "Path | None", who: str = "") -> Judged:
    """who: who judges and does not train (default: the split `test`)."""
    some = recordings.read(file)
    if who:
        assert some.subjects is not None
        some = replace(some, splits=np.where(some.subjects == who, "test", "train"))
    path = kept(cache, [file], f"gestures_{who}")
    if not path.exists():
        gesture.save_gesture(path, gesture.train_gesture(some), some.classes)
    trained, _ = gesture.load_gesture(path)
    data = gesture.gesture_data(some, "test", trained.features)
    x, y = (t.numpy() for t in data.tensors)
    windows, _ = some.windows("test", trained.features["window"])
    with no_grad():
        right = trained.net(Tensor(x)).numpy().argmax(1) == y

    def tier(**asked: Any) -> NDArray[np.bool_]:
        net, _ = gesture.quantized_gesture(trained, some, **asked)
        return Model(to_bytes(net)).predict_batch(quantize_windows(windows, trained.features)) == y

    return Judged({"each person" if who else "gestures": np.ones(len(y), bool)}, right, tier)


def people(file: Path) -> list[str]:
    """Who made gestures: the subjects with more than one class."""
    some = recordings.read(file)
    if some.subjects is None:
        return []
    names = np.unique(some.subjects).tolist()
    return [name for name in names if len(set(some.labels[some.subjects == name])) > 1]


def asked() -> Iterator[tuple[str, dict[str, Any]]]:
    """The tiers, each with its name and as `quantize` takes it."""
    yield "exact", {"tier": "exact"}
    yield "exact, matched", {"tier": "exact", "match": True}
    for bits in (7, 8):
        for group in (None, 16, 8):
            for match in (True, False):
                name = f"lane, {bits} bits, groups {group or 'whole'}{', matched' * match}"
                yield name, {"tier": "lane", "bits": bits, "group": group, "match": match}


def shares(judged: list[Judged], answers: list[NDArray[np.bool_]]) -> dict[str, float]:
    """The right answers of each column in percent."""
    found: dict[str, list[NDArray[np.bool_]]] = {}
    for one, right in zip(judged, answers, strict=True):
        for name, chosen in one.columns.items():
            found.setdefault(name, []).append(right[chosen])
    return {name: 100 * float(np.concatenate(parts).mean()) for name, parts in found.items()}


def table(judged: list[Judged]) -> list[dict[str, Any]]:
    """Print and return the figures of the float networks, and of each tier."""
    floats = shares(judged, [one.right for one in judged])
    print(f"{'right answers in %':38}" + "".join(f"{name:>17}" for name in floats))
    print(f"{'float':38}" + "".join(f"{share:>9.2f}{'':8}" for share in floats.values()))
    rows: list[dict[str, Any]] = [{"tier": "float", **floats}]
    for name, settings in asked():
        found = shares(judged, [one.tier(**settings) for one in judged])
        cells = (f"{found[k]:>9.2f} ({found[k] - floats[k]:+.2f})" for k in floats)
        print(f"{name:38}" + "".join(cells), flush=True)
        rows.append({**settings, **found})
    return rows


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--data-gesture", type=Path, metavar="FILE.npz")
    words.add_argument("--data-keyword", type=Path, nargs="+", default=[], metavar="FILE.npz")
    words.add_argument("--epochs", type=int, default=EPOCHS, help="of the keyword network")
    words.add_argument("--seeds", type=int, default=1, help="keyword networks, counted together")
    words.add_argument("--cache", type=Path, metavar="FOLDER", help="default: that of TinyTorch")
    words.add_argument("--json", action="store_true", help="end with one JSON object")
    args = words.parse_args()
    judged: list[Judged] = []
    if args.data_gesture:
        for who in ("", *people(args.data_gesture)):
            judged.append(judge_gestures(args.data_gesture, args.cache, who))
    for seed in range(args.seeds if args.data_keyword else 0):
        net, data = trained_keywords(args.data_keyword, args.cache, args.epochs, seed)
        judged.append(judge_keywords(net, data))
    if not judged:
        words.error("give --data-gesture, --data-keyword or both")
    rows = table(judged)
    print(f"to reach: lane with groups as long as the layer at most {AT_MOST} below float")
    if args.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
