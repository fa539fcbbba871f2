"""Data sets by name, fetched from their official places."""

import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinytorch.cache import fetch
from tinytorch.data import speech
from tinytorch.data.recordings import Recordings, read_all
from tinytorch.data.simulator import simulate
from tinytorch.utils.data import TensorDataset

# TensorFlow Lite Micro's training data for the SparkFun Edge.
MAGIC_WAND_URL = "https://download.tensorflow.org/models/tflite/magic_wand/data.tar.gz"
MAGIC_WAND_SHA256 = "f1363203508484c50101e4a9d4096d29bd336a7b581cefe0382d3e0cfb1026bc"
MAGIC_WAND_CLASSES = ["negative", "ring", "slope", "wing"]
# No person is in two splits; all others are in train.
MAGIC_WAND_SPLITS = {
    "xunkai": "val", "neg_2": "val",
    "liucx": "test", "lsj": "test", "neg_4": "test",
}  # fmt: skip


def load(
    files: "str | Path | Sequence[str | Path] | None" = None,
    kind: str = "motion",
    seed: int = 0,
    progress: bool = True,
) -> Recordings:
    """Recordings from one or several files, without the classes that have none.

    files: None for a default data set: with kind "motion" the magic-wand recordings, or simulated
    strokes if they cannot be fetched; with kind "sound" Speech Commands, or synthetic speech. The
    result's `source` names it. seed: of simulated and synthetic data.

    Raises ValueError or FileNotFoundError for a bad file, ImportError where Speech Commands cannot
    be fetched and there is no speech synthesizer.
    """
    if files is not None:
        paths = [files] if isinstance(files, str | Path) else files
        if not paths:
            raise ValueError("There is no data file in the list: give one or more.")
        return read_all(paths).of_used_classes()
    if kind == "sound":
        return speech.words(seed=seed, progress=progress)
    try:
        return magic_wand(progress)
    except OSError:
        simulated = simulate(seed)
        source = f"{simulated.source} The magic-wand recordings could not be fetched."
        return Recordings(**{**vars(simulated), "source": source})


def magic_wand(progress: bool = True) -> Recordings:
    """The magic-wand recordings, from the cache or their official place.

    Three axes in milli-g at 25 Hz. Each gesture is a recording; other movements are mostly long
    streams. Raises OSError if they cannot be fetched.
    """
    archive = fetch(MAGIC_WAND_URL, MAGIC_WAND_SHA256, "magic_wand.tar.gz", progress)
    signals, labels, subjects = [], [], []
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda m: m.name):
            path = Path(member.name)
            kind = path.parent.name
            # Beside every file stands a hidden one of macOS.
            if kind not in MAGIC_WAND_CLASSES or path.suffix != ".txt" or path.name[0] == ".":
                continue
            file = tar.extractfile(member)
            assert file is not None  # a member with this name is a file
            name = path.stem.removeprefix(f"output_{kind}_")
            for signal in _takes(file.read().decode()):
                signals.append(signal)
                labels.append(MAGIC_WAND_CLASSES.index(kind))
                subjects.append(name if kind != "negative" else f"neg_{name}")
    return Recordings(
        signals=signals,
        labels=np.array(labels, np.int64),
        splits=np.array([MAGIC_WAND_SPLITS.get(s, "train") for s in subjects]),
        classes=list(MAGIC_WAND_CLASSES),
        rate=25.0,
        source="The magic-wand recordings of TensorFlow Lite Micro.",
        subjects=np.array(subjects),
    )


def _takes(text: str) -> list[np.ndarray]:
    """The recordings in a file: lines of three numbers, separated by lines of -,-,-."""
    takes: list[list[list[float]]] = [[]]
    for line in text.splitlines():
        fields = line.split(",")
        if len(fields) != 3:
            continue
        if fields[2].strip() == "-":
            takes.append([])
        else:
            takes[-1].append([float(field) for field in fields])
    return [np.rint(take).astype(np.int16) for take in takes if take]


def digits(test: float = 0.2, seed: int = 0) -> tuple[TensorDataset, TensorDataset]:
    """Handwritten digits, (train, test): images (1, 8, 8) in 0..1 and labels 0 to 9.

    The 1,797 of scikit-learn (Alpaydin and Kaynak, UCI, 1998). A fraction `test` of every digit is
    held out. Raises ImportError without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as e:
        raise ImportError(
            "The digits come with scikit-learn: pip install 'tinytorch[digits]'."
        ) from e
    images, labels = load_digits(return_X_y=True)
    x = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(labels), bool)
    for label in range(10):
        members = rng.permutation(np.flatnonzero(labels == label))
        held_out[members[: round(len(members) * test)]] = True
    y = labels.astype(np.int64)
    return TensorDataset(x[~held_out], y[~held_out]), TensorDataset(x[held_out], y[held_out])
