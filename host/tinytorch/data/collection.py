"""Collections of recordings: files in the layout of tinytorch.recordings that grow.

`append` is atomic: it writes the new file beside the old one, which it then replaces. Arrays that
it does not know are preserved.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from tinytorch.data.readers import read_npz
from tinytorch.data.recordings import KEYS, MULAW, MULAW_VALUES, SOUND
from tinytorch.serialize import write

Array = NDArray[Any]

PEOPLE = ("speaker", "subject")  # keys that say who made a recording: of sound, of motion
PATIENCE = 30.0  # seconds to wait for another program that is writing the same file

_BORDERS = (MULAW_VALUES[1:].astype(np.int32) + MULAW_VALUES[:-1]) / 2


def to_mulaw(samples: NDArray[np.int16]) -> NDArray[np.uint8]:
    """The mu-law code of the nearest value for each sample, uint8."""
    return np.searchsorted(_BORDERS, samples).astype(np.uint8)


@dataclass(frozen=True)
class Collection:
    """The arrays of a file, checked as far as it takes to find the recordings in them.

    `load` makes one. rate: Hz; channels: C; encoding: MULAW or "".
    """

    arrays: dict[str, Array] = field(repr=False)
    offsets: NDArray[np.int64] = field(repr=False)
    rate: float
    channels: int
    encoding: str

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def signal(self, i: int) -> NDArray[np.int16]:
        """Recording i: int16 (T, C)."""
        rows = self.arrays["data"].reshape(-1, self.channels)[self.offsets[i] : self.offsets[i + 1]]
        return MULAW_VALUES[rows] if self.encoding else np.rint(rows).astype(np.int16)

    @property
    def is_sound(self) -> bool:
        return self.rate >= SOUND

    @property
    def classes(self) -> list[str]:
        return _text(self.arrays["classes"])

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) indices into `classes`."""
        return self.arrays["label"].astype(np.int64)

    @property
    def splits(self) -> list[str]:
        return _text(self.arrays["split"])

    @property
    def people(self) -> list[str]:
        """(N,) names of the speakers or subjects, "" where there is none."""
        for key in PEOPLE:
            if key in self.arrays:
                return _text(self.arrays[key])
        return [""] * len(self)

    @property
    def seconds(self) -> NDArray[np.float64]:
        """(N,) the length of each recording."""
        return np.diff(self.offsets) / self.rate


def load(path: "str | Path") -> Collection:
    """The collection in a file.

    Raises ValueError with one sentence for a file that is none, FileNotFoundError if there is none.
    """
    path = Path(path)

    def check(ok: Any, what: str) -> None:
        if not ok:
            raise ValueError(f"The data file {path.name} {what}.")

    arrays = {key: a for key, a in read_npz(path).items() if isinstance(a, np.ndarray)}
    if not set(KEYS) <= arrays.keys():
        read_npz(path, *KEYS)  # says what is missing
    data, label, classes = arrays["data"], arrays["label"], arrays["classes"]
    hertz = arrays["sample_rate"]
    check(
        hertz.size == 1 and hertz.dtype.kind in "iuf" and np.isfinite(hertz) and hertz > 0,
        "has a sample_rate that is no positive number: write it in Hz",
    )
    rate = float(hertz.reshape(()))
    encoding = str(arrays.get("encoding", np.array("")).astype(str))
    check(
        encoding in ("", MULAW),
        f"has the encoding {encoding!r}: write int16 samples, or codes of {MULAW}",
    )
    check(
        data.dtype == np.uint8 if encoding else data.dtype.kind in "iuf",
        f"has data of type {data.dtype}: write {'uint8 codes' if encoding else 'int16 samples'}",
    )
    check(data.size, "has no samples in it: record some")
    flat = rate >= SOUND  # the axis of channels may be missing
    if "offsets" in arrays:
        check(
            data.ndim == 2 or flat and data.ndim == 1,
            f"has data with {data.ndim} axes beside offsets: write (rows, C)",
        )
        offsets = arrays["offsets"]
        check(
            offsets.ndim == 1 and offsets.dtype.kind in "iu" and len(offsets) > 1
            and offsets[0] == 0 and offsets[-1] == len(data) and np.all(offsets[1:] > offsets[:-1]),
            f"has broken offsets: they must rise from 0 to {len(data)}, the number of rows",
        )  # fmt: skip
        offsets = offsets.astype(np.int64)
        channels = data.shape[1] if data.ndim == 2 else 1
    else:
        check(
            data.ndim == 3 or flat and data.ndim == 2,
            f"has data with {data.ndim} axes and no offsets: write (N, T, C)",
        )
        offsets = np.arange(len(data) + 1) * data.shape[1]
        channels = data.shape[2] if data.ndim == 3 else 1
    count = len(offsets) - 1
    people = [key for key in PEOPLE if key in arrays]
    for key in ("label", "split", *people):
        check(arrays[key].shape == (count,), f"needs one {key} for each of its {count} recordings")
    for key in ("classes", "split"):
        check(arrays[key].dtype.kind in "US", f"has {key} that are not text: write names")
    check(classes.ndim == 1 and len(classes), "has no list of classes")
    check(len(set(classes)) == len(classes), "names a class twice: give every class its own name")
    check(
        label.dtype.kind in "iu" and label.min() >= 0 and label.max() < len(classes),
        f"has labels that are no whole numbers from 0 to {len(classes) - 1}",
    )
    if data.dtype.kind == "f":
        check(np.isfinite(data).all(), "has NaN or infinity in it: repair it")
    if not encoding:
        check(data.min() >= -32768 and data.max() <= 32767, "has samples that do not fit in int16")
    return Collection(arrays, offsets, rate, channels, encoding)


def append(
    path: "str | Path",
    signals: "Sequence[NDArray[np.int16]]",
    label: str,
    rate: float,
    *,
    split: str = "train",
    who: str = "",
) -> int:
    """Add recordings of one class to a file, or begin one, and return how many it has then.

    signals: int16 (T, C), T of 1 and more, all with the same C. label: a class that the file does
    not have yet comes after its others. rate: Hz. split: the recordings' split. who: their speaker
    or subject.
    Other arrays with a row for each recording get an empty row for each new one ("", 0 or NaN), and
    what else there is stays as it is. The file becomes ragged where lengths differ.

    Raises ValueError for a file that is no collection, or that recordings like these do not fit
    into, and OSError where it cannot be written: it is then what it was, to the byte. Programs that
    append at the same time wait for each other, by a lock in `.NAME.lock` beside the file.
    """
    path = Path(path).resolve()
    for word, name in ((label, "label"), (split, "split")):
        check_name(word, name)
    if who:
        check_name(who, "name")
    if not len(signals) or not all(len(signal) for signal in signals):
        raise ValueError("There is no recording to add: each needs at least one sample.")
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=PATIENCE):
            if path.exists():
                old = load(path)
                check_fit(path, old, rate, signals[0].shape[1])
                content = _grown(path, old, signals, label, split, who)
                count = len(old) + len(signals)
            else:
                content = _packed(_begun(signals, label, rate, split, who))
                count = len(signals)
            write(path, content)
    except Timeout:
        raise ValueError(
            f"Another program has been writing {path.name} for {PATIENCE:.0f} seconds: end it."
        ) from None
    return count


def check_name(word: str, what: str) -> str:
    """The word itself, if a class, a split or a person can have it as a name. Raises ValueError."""
    if not word or word != word.strip() or not word.isprintable() or len(word) > 64:
        raise ValueError(
            f"The {what} {word!r} cannot be used: give up to 64 letters without a blank around."
        )
    return word


def check_fit(path: "str | Path", there: Collection, rate: float, channels: int) -> None:
    """Raises ValueError where recordings of this rate (Hz) and these channels do not fit in."""
    name = Path(path).name
    if abs(rate / there.rate - 1) > 0.01:
        raise ValueError(
            f"{name} has recordings at {there.rate:g} Hz and these have {rate:g} Hz: "
            f"record at {there.rate:g} Hz, or into another file."
        )
    if channels != there.channels:
        raise ValueError(
            f"{name} has recordings of {there.channels} channels and these have {channels}: "
            f"record {there.channels}, or into another file."
        )


def is_silent(signal: NDArray[np.int16], rate: float) -> bool:
    """Whether a recording is silent: sound below -54 dBFS, motion without any change."""
    far = np.abs(signal - np.median(signal, axis=0)).max()
    return bool(far < 64 if rate >= SOUND else far == 0)


def is_clipped(signal: NDArray[np.int16], rate: float) -> bool:
    """Whether the sensor's range was too small.

    In sound a thousandth of the samples stands at full scale; in motion three samples in a row at
    their extreme, beyond 1.9 g or 190 degrees a second.
    """
    size = np.abs(signal.astype(np.int32))
    if rate >= SOUND:
        return bool(np.mean(size >= 32700) >= 0.001)
    held = (size == size.max(0)) & (size >= 1900) & (len(size) >= 3)
    return bool((held[2:] & held[1:-1] & held[:-2]).any())


def identical(collection: Collection) -> list[list[int]]:
    """The groups of recordings (their indices) that are equal to the byte."""
    groups: dict[bytes, list[int]] = {}
    for i in range(len(collection)):
        digest = sha256(collection.signal(i).tobytes()).digest()
        groups.setdefault(digest, []).append(i)
    return [group for group in groups.values() if len(group) > 1]


def _begun(
    signals: Sequence[Array], label: str, rate: float, split: str, who: str
) -> dict[str, Array]:
    count, sound = len(signals), rate >= SOUND
    lengths = [len(signal) for signal in signals]
    shape: tuple[int, ...] = (count, lengths[0], signals[0].shape[1])
    arrays: dict[str, Array] = {}
    if len(set(lengths)) > 1:
        shape = (sum(lengths), shape[2])
        arrays["offsets"] = np.cumsum([0, *lengths])
    if sound and shape[-1] == 1:
        shape = shape[:-1]
    arrays["data"] = np.concatenate(signals).astype(np.int16).reshape(shape)
    arrays["label"] = np.zeros(count, np.uint8)
    arrays["split"] = np.array([split] * count)
    arrays["sample_rate"] = np.array(int(rate) if rate == int(rate) else rate)
    arrays["classes"] = np.array([label])
    if who:
        arrays[PEOPLE[0] if sound else PEOPLE[1]] = np.array([who] * count)
    return arrays


def _grown(
    path: Path, old: Collection, signals: Sequence[Array], label: str, split: str, who: str
) -> bytes:
    arrays, count, more = dict(old.arrays), len(old), len(signals)
    classes = old.classes
    if label not in classes:
        arrays["classes"] = _longer(arrays["classes"], [label])
        classes.append(label)
    at = classes.index(label)
    kind = arrays["label"].dtype
    if at > np.iinfo(kind).max:
        kind = np.dtype(np.int64)
    arrays["label"] = np.append(arrays["label"], [at] * more).astype(kind)
    arrays["split"] = _longer(arrays["split"], [split] * more)
    person = next((key for key in PEOPLE if key in arrays), PEOPLE[not old.is_sound])
    if who or person in arrays:
        arrays[person] = _longer(arrays.get(person, np.array([""] * count)), [who] * more)
    for key, array in old.arrays.items():
        known = key in (*KEYS, "offsets", person)
        if not known and array.ndim and len(array) == count:
            empty = np.zeros((more, *array.shape[1:]), array.dtype)
            if array.dtype.kind == "f":
                empty[:] = np.nan
            arrays[key] = np.concatenate([array, empty])

    data, lengths = arrays["data"], [len(signal) for signal in signals]
    new = np.concatenate(signals)
    new = to_mulaw(new) if old.encoding else new.astype(np.result_type(data.dtype, np.int16))
    if "offsets" not in arrays and set(lengths) == {data.shape[1]}:
        new = new.reshape(more, *data.shape[1:])
    else:
        arrays["offsets"] = np.append(old.offsets, old.offsets[-1] + np.cumsum(lengths))
        if "offsets" not in old.arrays:
            data = data.reshape(-1, *data.shape[2:])
        new = new.reshape(-1, *data.shape[1:])
    arrays["data"] = np.concatenate([data, new])
    changed = {key: a for key, a in arrays.items() if a is not old.arrays.get(key)}
    with zipfile.ZipFile(path) as archive:
        return _packed(changed, archive)


def _packed(arrays: dict[str, Array], before: "zipfile.ZipFile | None" = None) -> bytes:
    """The bytes of an .npz: the members of `before`, with these arrays in their place or after."""
    content = io.BytesIO()
    members = {info.filename: info for info in before.infolist()} if before else {}
    # Whoever compressed a file wants it small; what is written during a recording is to be quick.
    small = any(info.compress_type for info in members.values())
    how = zipfile.ZIP_DEFLATED if small else zipfile.ZIP_STORED
    with zipfile.ZipFile(content, "w", how) as archive:
        for name, info in members.items():
            if before and name.removesuffix(".npy") not in arrays:
                archive.writestr(info, before.read(name))
        for key, array in arrays.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return content.getvalue()


def _longer(array: Array, words: list[str]) -> Array:
    """An array of text and more words, in the array's own kind of text; numbers become text."""
    if array.dtype.kind == "S":
        return np.concatenate([array, np.char.encode(np.array(words))])
    return np.concatenate([array.astype(str), np.array(words)])


def _text(array: Array) -> list[str]:
    text = np.char.decode(array, errors="replace") if array.dtype.kind == "S" else array
    return text.astype(str).tolist()
