"""Labelled recordings of a sensor, and the file layout in which they are exchanged.

The layout is an .npz with
    data         int16 (N, T, C), or (sum of T, C) beside `offsets` where lengths differ; of sound
                 int16 (N, T) or (sum of T,), or uint8 with `encoding` "mulaw_u8_255"
    offsets      (N + 1,) first row of each recording, and the end
    label        (N,) index into `classes`
    split        (N,) names such as train, val, test
    sample_rate  Hz
    classes      names
    subject      (N,) who made the recording; optional, and for sound called speaker
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch.data.readers import read_npz

KEYS = ("data", "label", "split", "sample_rate", "classes")
SOUND = 4000  # Hz: what is sampled less often is motion
MULAW = "mulaw_u8_255"
_codes = np.arange(256) / 127.5 - 1
# What the 256 codes of mu-law (mu = 255) stand for.
MULAW_VALUES = np.rint(32767 * np.sign(_codes) * (256 ** np.abs(_codes) - 1) / 255).astype(np.int16)


@dataclass(frozen=True)
class Recordings:
    """N recordings of C channels.

    signals: (T, C) int16 each; labels: (N,) index into `classes`; splits: (N,) names;
    rate: Hz; source: a sentence for people; simulated: whether no sensor was used; subjects: (N,)
    who made them.
    """

    signals: list[NDArray[np.int16]]
    labels: NDArray[np.int64]
    splits: NDArray[np.str_]
    classes: list[str]
    rate: float
    source: str
    simulated: bool = False
    subjects: "NDArray[np.str_] | None" = None

    @property
    def channels(self) -> int:
        """C, the number of channels."""
        return self.signals[0].shape[1]

    @property
    def split_names(self) -> list[str]:
        """The splits that exist, in the order of the recordings."""
        return list(dict.fromkeys(self.splits.tolist()))

    @property
    def made(self) -> str:
        """What to call them where no sensor was used: synthetic (sound) or simulated; else ""."""
        return "" if not self.simulated else "synthetic" if self.is_sound else "simulated"

    @property
    def is_sound(self) -> bool:
        """Whether the recordings are sound and not motion."""
        return self.rate >= SOUND and self.channels == 1

    def members(self, split: str) -> NDArray[np.int64]:
        """The indices of a split's recordings. Raises ValueError where there is no such split."""
        members = np.flatnonzero(self.splits == split)
        if not len(members):
            raise ValueError(
                f"There are no recordings in the split '{split}': "
                f"these splits exist: {', '.join(self.split_names)}."
            )
        return members

    @property
    def test_split(self) -> str:
        """The split to evaluate on: test if it exists, else the last that is not for training."""
        names = self.split_names
        others = [name for name in names if name not in ("train", "val", "test")]
        return [name for name in ("train", "val", *others, "test") if name in names][-1]

    def windows(
        self, split: str, window: int, hop: int | None = None
    ) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
        """Windows (N, window, C) of a split, and their labels.

        A recording longer than two windows is a stream, cut into consecutive windows (every `hop`
        samples, if given); any other gives its middle, a short one with its edge samples repeated.
        """
        windows, labels = [], []
        for i in self.members(split):
            signal = self.signals[i]
            length = len(signal)
            if length > 2 * window:
                starts = range(0, length - window + 1, hop or window)
            else:
                starts = range((length - window) // 2, (length - window) // 2 + 1)
            for start in starts:
                at = np.clip(np.arange(start, start + window), 0, length - 1)
                windows.append(signal[at])
                labels.append(self.labels[i])
        return np.stack(windows), np.array(labels, np.int64)

    def clips(
        self, split: str, samples: int, least: int = 1
    ) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
        """Sounds of one length (N, samples) of a split, and their labels.

        A longer recording gives its middle, a shorter one gets zeros at both ends. Raises
        ValueError for one of less than `least` samples.
        """
        members = self.members(split)
        clips = np.zeros((len(members), samples), np.int16)
        for clip, i in zip(clips, members, strict=True):
            signal = self.signals[i][:, 0]
            if len(signal) < least:
                raise ValueError(
                    f"Recording {i} has {len(signal)} samples, too few for a clip: leave "
                    f"it out, or record {least} or more."
                )
            start = (len(signal) - samples) // 2
            part = signal[max(0, start) : max(0, start) + samples]
            clip[max(0, -start) : max(0, -start) + len(part)] = part
        return clips, self.labels[members]

    def of_used_classes(self) -> "Recordings":
        """The recordings without the classes that have none."""
        used = np.unique(self.labels)
        names = [self.classes[i] for i in used]
        return replace(self, labels=np.searchsorted(used, self.labels), classes=names)

    def with_validation(self, seed: int = 0, share: float = 0.15) -> "Recordings":
        """The recordings with a split `val`: without one, a fraction of every class of `train`.

        Raises ValueError if there is nothing to train on, or too little to split.
        """
        train = self.members("train")
        if "val" in self.split_names:
            return self
        rng = np.random.default_rng(seed)
        splits = self.splits.astype(object)
        for label in np.unique(self.labels[train]):
            members = rng.permutation(train[self.labels[train] == label])
            splits[members[: int(len(members) * share + 0.5)]] = "val"
        if "val" not in splits:
            raise ValueError("There are too few recordings in 'train' to set some apart: add more.")
        return replace(self, splits=splits.astype(str))

    def for_model(self, features: "dict[str, Any] | None", labels: Sequence[str]) -> "Recordings":
        """The recordings with the labels numbered as a model's.

        Raises ValueError if the model was made for another sensor or for other classes.
        """
        kind = "sound" if self.is_sound else "motion"
        if not features or features.get("kind") != kind:
            raise ValueError(f"The model was not made for recordings of {kind}: use another model.")
        wanted = (features.get("channels", 1), features["rate"])
        if self.is_sound and self.rate != wanted[1]:
            raise ValueError(
                f"The recordings have {self.rate:g} Hz and the model listens at {wanted[1]:g} Hz: "
                "use recordings of that rate, or a model for theirs."
            )
        if self.channels != wanted[0] or abs(self.rate / wanted[1] - 1) > 0.01:
            raise ValueError(
                f"The recordings have {self.channels} channels at {self.rate:g} Hz and the model "
                f"wants {wanted[0]} at {wanted[1]:g} Hz: use recordings of the model's own sensor."
            )
        known = self.of_used_classes()
        unknown = [name for name in known.classes if name not in labels]
        if unknown:
            raise ValueError(
                f"The recordings have the class '{unknown[0]}', which the model does not know: "
                f"it knows {', '.join(labels)}."
            )
        number = np.array([list(labels).index(name) for name in known.classes], np.int64)
        return replace(self, labels=number[known.labels], classes=list(labels))


def read(path: "str | Path") -> Recordings:
    """Read a file in this module's layout.

    Raises ValueError, in one sentence, for any other file, FileNotFoundError if there is none.
    """
    path = Path(path)

    def check(ok: Any, what: str) -> None:
        if not ok:
            raise ValueError(f"The data file {path.name} {what}.")

    arrays = read_npz(path, *KEYS, optional=("offsets", "subject", "speaker", "encoding"))
    data, label, split = arrays["data"], arrays["label"], arrays["split"]
    classes, rate = arrays["classes"], arrays["sample_rate"]

    check(data.dtype.kind in "iuf", f"has data of type {data.dtype}: write int16 samples")
    check(data.size, "has no samples in it: record some")
    encoding = str(arrays["encoding"].astype(str)) if "encoding" in arrays else ""
    check(encoding in ("", MULAW), f"has the encoding '{encoding}': write int16, or {MULAW}")
    if encoding:
        check(data.dtype == np.uint8, f"has data of type {data.dtype} and not the bytes of {MULAW}")
        data = MULAW_VALUES[data]
    fast = rate.size == 1 and rate.dtype.kind in "iuf" and rate.min() >= SOUND
    if fast and data.ndim == (1 if "offsets" in arrays else 2):
        data = data[..., None]
    sound = fast and data.shape[-1] == 1
    units = "int16 samples, 32767 for full scale" if sound else "milli-g and 0.1 degrees a second"
    # Floats from -1 to 1 would become silence, and unsigned bytes a click.
    check(not sound or data.dtype.kind == "i", f"has sound of type {data.dtype}: write {units}")
    if "offsets" in arrays:
        check(data.ndim == 2, f"has data with {data.ndim} axes beside offsets: write (rows, C)")
        offsets = arrays["offsets"]
        check(
            offsets.ndim == 1 and offsets.dtype.kind in "iu" and len(offsets) > 1
            and offsets[0] == 0 and offsets[-1] == len(data) and np.all(offsets[1:] > offsets[:-1]),
            f"has broken offsets: they must rise from 0 to {len(data)}, the number of rows",
        )  # fmt: skip
        offsets = offsets.astype(np.int64)
    else:
        check(data.ndim == 3, f"has data with {data.ndim} axes and no offsets: write (N, T, C)")
        offsets = np.arange(len(data) + 1) * data.shape[1]
        data = data.reshape(-1, data.shape[2])

    count = len(offsets) - 1
    for key, array in (("label", label), ("split", split)):
        check(array.shape == (count,), f"needs one {key} for each of its {count} recordings")
    check(classes.ndim == 1 and len(classes) > 1, "needs a list of at least two classes")
    names = classes.astype(str).tolist()
    check(len(set(names)) == len(names), "names a class twice: give every class its own name")
    check(label.dtype.kind in "iu", f"has labels of type {label.dtype}: write whole numbers")
    check(
        label.min() >= 0 and label.max() < len(names),
        f"has labels from {label.min()} to {label.max()}: "
        f"with {len(names)} classes they must lie from 0 to {len(names) - 1}",
    )
    check(split.dtype.kind in "US", "has a split that is not text: write names such as train")
    check(
        rate.size == 1 and rate.dtype.kind in "iuf" and np.isfinite(rate).all() and rate.min() > 0,
        "has a sample_rate that is no positive number: write it in Hz",
    )
    if data.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(data).all(1))
        number = np.searchsorted(offsets, bad[0], "right") - 1 if len(bad) else 0
        check(not len(bad), f"has NaN or infinity in recording {number}: repair it or leave it out")
        data = np.rint(data)
    check(
        data.min() >= -32768 and data.max() <= 32767,
        f"has samples that do not fit in int16: write {units}",
    )
    check(np.any(data), f"has nothing but zeros in it: write {units}")
    data = data.astype(np.int16, copy=False)
    people = next((arrays[key] for key in ("subject", "speaker") if key in arrays), None)
    return Recordings(
        signals=[data[a:b] for a, b in zip(offsets[:-1], offsets[1:], strict=True)],
        labels=label.astype(np.int64),
        splits=split.astype(str),
        classes=names,
        rate=float(rate.reshape(())),
        source=f"Recordings from {path.name}.",
        subjects=None if people is None else people.astype(str),
    )


def read_all(paths: "Sequence[str | Path]") -> Recordings:
    """Read several files as one set of recordings.

    Raises ValueError where they differ in rate, channels or classes, and as `read` does.
    """
    parts = [read(path) for path in paths]
    first = parts[0]
    for path, part in zip(paths, parts, strict=True):
        for what, mine, its in (
            ("sample rates", first.rate, part.rate),
            ("numbers of channels", first.channels, part.channels),
            ("classes", first.classes, part.classes),
        ):
            if mine != its:
                raise ValueError(
                    f"{Path(paths[0]).name} and {Path(path).name} have other {what} ({mine} and "
                    f"{its}): give files that belong together."
                )
    if len(parts) == 1:
        return first
    named = all(part.subjects is not None for part in parts)
    return replace(
        first,
        signals=[signal for part in parts for signal in part.signals],
        labels=np.concatenate([part.labels for part in parts]),
        splits=np.concatenate([part.splits for part in parts]),
        source=f"Recordings from {', '.join(Path(path).name for path in paths)}.",
        subjects=np.concatenate([part.subjects for part in parts]) if named else None,
    )
