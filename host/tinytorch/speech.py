"""Spoken words: Google's Speech Commands from their official place, and synthetic speech.

Speech Commands v0.02: Warden, 2018, "Speech Commands: A Dataset for Limited-Vocabulary Speech
Recognition", CC BY 4.0.
"""

import re
import tarfile
import wave
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha1
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tinytorch import serialize
from tinytorch.cache import cache_folder, fetch
from tinytorch.collection import to_mulaw
from tinytorch.recordings import MULAW, Recordings, read

WORDS = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]
UNKNOWN, SILENCE = "_unknown_", "_silence_"
CLASSES = [SILENCE, UNKNOWN, *WORDS]
PLACE = "https://download.tensorflow.org/data/"
# Twelve classes, 4,890 clips, 108 MB.
TEST_SET = (
    "speech_commands_test_set_v0.02.tar.gz",
    "cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df",
)
# 35 words, 105,829 clips, 2.4 GB.
FULL = (
    "speech_commands_v0.02.tar.gz",
    "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
)
BACKGROUND = "_background_noise_"
OTHER_WORDS = 16  # one clip in so many of the full set's other words is kept
NOISE_CLIPS = 600  # cut from each of the full set's recordings of noise
# Percent of the speakers for the splits test and val, where the archive does not say.
TEST, VAL = 20, 15

Int16 = NDArray[np.int16]


def speech_commands(rate: int = 8000, full: bool = False, progress: bool = True) -> Recordings:
    """Ten words, other words and silence, one second each.

    From the cache, or once from the official place: the archive of 108 MB that was meant for tests,
    whose speakers are split here into train, val and test, or the full one with its own splits.
    rate: 16000, or less. Raises OSError if they are in neither place.
    """
    if not 0 < rate <= 16000:
        raise ValueError(f"Speech Commands have 16000 Hz and cannot be had at {rate}: give less.")
    name = f"speech_commands_{'full' if full else 'small'}_{rate}.npz"
    kept = cache_folder() / name
    if not kept.exists():
        file, digest = FULL if full else TEST_SET
        archive = fetch(PLACE + file, digest, file, progress)
        with tarfile.open(archive, "r|gz") as tar:
            clips = list(_full(tar, rate) if full else _small(tar, rate))
        serialize.write(kept, _packed(clips, rate))
    size = "" if full else ", the small set"
    return replace(read(kept), source=f"Speech Commands v0.02 by Google{size}, CC BY 4.0.")


# A clip: its samples, its class, its split or "" until that is known, who said it, its word.
Clip = tuple[Int16, str, str, str, str]


def _small(tar: tarfile.TarFile, rate: int) -> Iterator[Clip]:
    for path, file in _files(tar):
        kind = path.parent.name
        if path.suffix == ".wav" and kind in CLASSES:
            speaker = _speaker(path)
            yield _second(read_wave(file)[0], rate), kind, _share(speaker), speaker, kind


def _full(tar: tarfile.TarFile, rate: int) -> Iterator[Clip]:
    listed: dict[str, str] = {}
    clips: list[tuple[str, Clip]] = []
    for path, file in _files(tar):
        word = path.parent.name
        if path.name in ("validation_list.txt", "testing_list.txt"):
            split = "val" if path.name[0] == "v" else "test"
            listed |= dict.fromkeys(file.read().decode().split(), split)
        elif path.suffix != ".wav":
            continue
        elif word == BACKGROUND:
            yield from _noise(read_wave(file)[0], rate, path.stem)
        elif word in WORDS or _number(f"{word}/{path.name}") % OTHER_WORDS == 0:
            kind = word if word in WORDS else UNKNOWN
            clip = _second(read_wave(file)[0], rate), kind, "train", _speaker(path), word
            clips.append((f"{word}/{path.name}", clip))
    for name, (samples, kind, split, speaker, word) in clips:
        yield samples, kind, listed.get(name, split), speaker, word


def _files(tar: tarfile.TarFile) -> Iterator[tuple[Path, IO[bytes]]]:
    for member in tar:
        file = tar.extractfile(member) if member.isfile() else None
        if file is not None:
            yield Path(member.name), BytesIO(file.read())


def _noise(samples: Int16, rate: int, name: str) -> Iterator[Clip]:
    """Seconds of a long recording; each split has a part of it that is its own."""
    rng = np.random.default_rng(_number(name))
    bounds = np.cumsum([0, 100 - TEST - VAL, VAL, TEST]) * len(samples) // 100
    for i, split in enumerate(("train", "val", "test")):
        first, last = int(bounds[i]), int(bounds[i + 1]) - 16000
        share = NOISE_CLIPS * (100 - TEST - VAL, VAL, TEST)[i] // 100
        for start in rng.integers(first, max(first, last) + 1, share):
            yield _second(samples[start : start + 16000], rate), SILENCE, split, name, SILENCE


def read_wave(file: IO[bytes]) -> tuple[Int16, int]:
    """Mono int16 samples and their rate. Raises ValueError for another kind of .wav file."""
    with wave.open(file) as wav:
        if wav.getsampwidth() != 2 or wav.getnchannels() != 1:
            raise ValueError("A clip is no .wav file with one channel of 16 bits.")
        return np.frombuffer(wav.readframes(wav.getnframes()), "<i2"), wav.getframerate()


def resample(samples: NDArray[Any], count: int) -> Int16:
    """The same sound in `count` samples, without what they cannot hold, by Fourier's transform."""
    if count == len(samples):
        return np.asarray(samples, np.int16)
    spectrum = np.fft.rfft(samples)[: count // 2 + 1]
    found = np.fft.irfft(spectrum, count) * (count / len(samples))
    return np.clip(np.rint(found), -32768, 32767).astype(np.int16)


def _second(samples: Int16, rate: int) -> Int16:
    """A second of 16 kHz in its middle, at another rate."""
    missing = max(0, 16000 - len(samples))
    padded = np.pad(samples, (missing // 2, missing - missing // 2))
    start = (len(padded) - 16000) // 2
    return resample(padded[start : start + 16000], rate)


def _speaker(path: Path) -> str:
    found = re.search(r"([0-9a-f]{8})_nohash", path.stem)
    return found[1] if found else path.stem


def _number(name: str) -> int:
    return int(sha1(name.encode()).hexdigest()[:8], 16)


def _share(speaker: str) -> str:
    """The split of a speaker, always the same."""
    percent = _number(speaker) % 100
    return "test" if percent < TEST else "val" if percent < TEST + VAL else "train"


def _packed(clips: list[Clip], rate: int) -> bytes:
    """The clips as an .npz in the layout of tinytorch.recordings."""
    if not clips:
        raise OSError("the archive of Speech Commands has no clips in it")
    samples, kinds, splits, speakers, words = zip(*clips, strict=True)
    content = BytesIO()
    np.savez_compressed(
        content,
        data=np.stack([to_mulaw(clip) for clip in samples]),
        encoding=np.array(MULAW),
        label=np.array([CLASSES.index(kind) for kind in kinds], np.uint8),
        split=np.array(splits),
        speaker=np.array(speakers),
        word=np.array(words),
        sample_rate=np.array(rate),
        classes=np.array(CLASSES),
    )
    return content.getvalue()


# Synthetic speech.

OTHERS = [
    "bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow", "zero",
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "visual", "learn",
]  # fmt: skip
ACCENTS = ["en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-029"]
VARIANTS = ["m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5"]
VOICES = [f"{accent}+{variant}" for accent in ACCENTS for variant in VARIANTS]
SYNCHRONOUS, RATE, PITCH, RANGE, UTF8 = 2, 1, 3, 4, 1  # of espeak-ng/speak_lib.h


class Espeak:
    """The speech synthesizer espeak-ng, by its library: the system's, or of `espeakng-loader`.

    rate: Hz of what `say` gives. Raises ImportError where there is none.
    """

    def __init__(self) -> None:
        import ctypes
        from ctypes.util import find_library

        library, data = find_library("espeak-ng"), None
        if library is None:
            try:
                import espeakng_loader
            except ImportError as error:
                raise ImportError(
                    "There is no espeak-ng here to speak: pip install 'tinytorch[tts]'."
                ) from error
            library = str(espeakng_loader.get_library_path())
            data = str(espeakng_loader.get_data_path()).encode()
        self._lib = ctypes.CDLL(library)
        self.rate = self._lib.espeak_Initialize(SYNCHRONOUS, 0, data, 0)
        if self.rate <= 0:
            raise ImportError(f"The espeak-ng in {library} does not start: install it again.")
        self._said: list[Int16] = []
        kind = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )

        def take(samples: Any, count: int, _: Any) -> int:
            if samples and count:
                self._said.append(np.ctypeslib.as_array(samples, (count,)).astype(np.int16))
            return 0

        self._take = kind(take)  # as long as the library may call it
        self._lib.espeak_SetSynthCallback(self._take)
        self._size = ctypes.c_size_t

    def say(self, text: str, voice: str, speed: int, pitch: int, swing: int) -> Int16:
        """speed: words a minute, 80 to 450; pitch and swing: 0 to 100."""
        if self._lib.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f"This espeak-ng has no voice {voice}.")
        for which, value in ((RATE, speed), (PITCH, pitch), (RANGE, swing)):
            self._lib.espeak_SetParameter(which, value, 0)
        self._said.clear()
        spoken = text.encode() + b"\0"
        self._lib.espeak_Synth(spoken, self._size(len(spoken)), 0, 0, 0, UTF8, None, None)
        return np.concatenate(self._said) if self._said else np.zeros(0, np.int16)


def synthetic_speech(
    seed: int = 0, rate: int = 8000, each: int = 3, voices: Sequence[str] = VOICES
) -> Recordings:
    """The words of Speech Commands by espeak-ng's voices, one second each, with noise.

    each: clips of a word by each voice. No split shares a voice. The seed decides all but some of
    a voice's own noise. Raises ImportError without espeak-ng.
    """
    espeak, rng = Espeak(), np.random.default_rng(seed)
    shares = {voice: _share(voice) for voice in voices}
    signals: list[Int16] = []
    labels: list[int] = []
    splits: list[str] = []
    subjects: list[str] = []
    for voice in voices:
        for kind in CLASSES:
            for _ in range(each):
                sound = np.zeros(rate)
                if kind != SILENCE:
                    word = str(rng.choice(OTHERS)) if kind == UNKNOWN else kind
                    sound = _placed(_spoken(espeak, word, voice, rng), rate, espeak.rate, rng)
                sound += _hiss(rate, rng) * 10 ** rng.uniform(0.5, 2.7)
                signals.append(np.clip(np.rint(sound), -32768, 32767).astype(np.int16)[:, None])
                labels.append(CLASSES.index(kind))
                splits.append(shares[voice])
                subjects.append(voice)
    return Recordings(
        signals, np.array(labels, np.int64), np.array(splits), list(CLASSES), float(rate),
        f"Synthetic speech (espeak-ng), seed {seed}.", True, np.array(subjects),
    )  # fmt: skip


def _spoken(espeak: Espeak, word: str, voice: str, rng: np.random.Generator) -> Int16:
    speed, pitch, swing = (int(rng.integers(*span)) for span in ((110, 220), (20, 80), (10, 90)))
    return espeak.say(word, voice, speed, pitch, swing)


def _placed(
    spoken: Int16, rate: int, own_rate: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A word somewhere in a second, as loud as people are near and far from a microphone."""
    heard = np.flatnonzero(np.abs(spoken.astype(np.int32)) > 200)
    spoken = spoken[heard[0] : heard[-1] + 1] if len(heard) else spoken
    word = resample(spoken, max(1, round(len(spoken) * rate / own_rate)))[:rate].astype(np.float64)
    start = int(rng.integers(0, rate - len(word) + 1))
    second = np.zeros(rate)
    second[start : start + len(word)] = word * 10 ** rng.uniform(-1, 0)
    return second


def _hiss(samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise of deviation 1, between white and brown."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum *= np.arange(1, len(spectrum) + 1) ** -rng.uniform(0, 1)
    noise = np.fft.irfft(spectrum, samples)
    return noise / noise.std()


def words(rate: int = 8000, seed: int = 0, progress: bool = True) -> Recordings:
    """Speech Commands, or where they cannot be had, synthetic speech.

    Raises ImportError where there is nothing to speak with, either.
    """
    try:
        return speech_commands(rate, progress=progress)
    except OSError:
        why = "Speech Commands could not be fetched."
    try:
        made = synthetic_speech(seed, rate)
    except ImportError as error:
        raise ImportError(
            f"{why} For synthetic speech in their place: pip install 'tinytorch[tts]'; or give "
            "recordings with --data."
        ) from error
    return replace(made, source=f"{made.source} {why}")
