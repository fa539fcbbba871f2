"""Spoken words: Google's Speech Commands from their official place, and synthetic speech.

Speech Commands v0.02: Warden, 2018, "Speech Commands: A Dataset for Limited-Vocabulary Speech
Recognition", CC BY 4.0.
"""

import ctypes
import re
import tarfile
import wave
from collections.abc import Iterator, Sequence
from ctypes.util import find_library
from dataclasses import replace
from hashlib import sha1
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tinytorch import serialize
from tinytorch.cache import cache_folder, fetch
from tinytorch.data.collection import to_mulaw
from tinytorch.data.recordings import MULAW, Recordings, read

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
OWN_RATE = 16000
BACKGROUND = "_background_noise_"
LISTS = {"validation_list.txt": "val", "testing_list.txt": "test"}
OTHER_WORDS = 16  # of the full set's other words, one clip in so many is used
NOISE_CLIPS = 600  # cut from each of the full set's recordings of noise
# Percent of the speakers for the splits test and val, where the archive does not say.
TEST, VAL = 20, 15
EDITION = 1  # of the files in the cache; a new number makes them anew

Int16 = NDArray[np.int16]
# A clip: a second of sound, its class, split, speaker and word.
Clip = tuple[Int16, str, str, str, str]


def speech_commands(rate: int = 8000, full: bool = False, progress: bool = True) -> Recordings:
    """Ten words, other words and silence, one second each.

    Fetched once from the official place and cached. rate: Hz, at most 16000. full: the full archive
    (2.4 GB) with its own splits (default: the test set of 108 MB, whose speakers are split into
    train, val and test).

    Raises ValueError for a higher rate, OSError if they cannot be fetched.
    """
    if not 0 < rate <= OWN_RATE:
        raise ValueError(
            f"Speech Commands are sampled at 16000 Hz, not at {rate}: give at most 16000."
        )
    clips = (_full if full else _small)(rate, progress)
    found = _cached(f"speech_commands_{'full' if full else 'small'}", clips, rate)
    size = "" if full else ", the small set"
    return replace(found, source=f"Speech Commands v0.02 by Google{size}, CC BY 4.0.")


def _small(rate: int, progress: bool) -> Iterator[Clip]:
    for path, file in _files(TEST_SET, progress):
        kind = path.parent.name
        if kind in CLASSES and ".wav" in path.suffixes:
            speaker, word = _who(path)
            split = _share(_number(speaker) % 100)
            yield _second(read_wave(file)[0], rate), kind, split, speaker, word or kind


def _full(rate: int, progress: bool) -> Iterator[Clip]:
    listed: dict[str, str] = {}
    missing = set(LISTS)
    for path, file in _files(FULL, progress):
        if path.name in LISTS:
            listed |= dict.fromkeys(file.read().decode().split(), LISTS[path.name])
            missing -= {path.name}
            if not missing:
                break
    for path, file in _files(FULL, progress):
        word, name = path.parent.name, f"{path.parent.name}/{path.name}"
        if path.suffix != ".wav":
            continue
        if word == BACKGROUND:
            yield from _noise(read_wave(file)[0], rate, path.stem)
        elif word in WORDS or _number(name) % OTHER_WORDS == 0:
            kind = word if word in WORDS else UNKNOWN
            second = _second(read_wave(file)[0], rate)
            yield second, kind, listed.get(name, "train"), _who(path)[0], word


def _files(archive: tuple[str, str], progress: bool) -> Iterator[tuple[Path, IO[bytes]]]:
    """The files of an official archive one after the other, without unpacking it."""
    name, digest = archive
    packed = fetch(PLACE + name, digest, name, progress)
    with tarfile.open(packed, "r|gz") as tar:
        for member in tqdm(
            tar, f"reading {name}", unit=" files", leave=False, disable=not progress
        ):
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None:
                yield Path(member.name), BytesIO(file.read())


def _noise(samples: Int16, rate: int, name: str) -> Iterator[Clip]:
    """Clips of one second from a long recording, of which each split has its own part."""
    rng = np.random.default_rng(_number(name))
    bounds = np.cumsum([0, 100 - TEST - VAL, VAL, TEST]) * len(samples) // 100
    for i, split in enumerate(("train", "val", "test")):
        first, last = int(bounds[i]), int(bounds[i + 1]) - OWN_RATE
        share = NOISE_CLIPS * (100 - TEST - VAL, VAL, TEST)[i] // 100
        for start in rng.integers(first, max(first, last) + 1, share):
            yield _second(samples[start : start + OWN_RATE], rate), SILENCE, split, name, SILENCE


def read_wave(file: IO[bytes]) -> tuple[Int16, int]:
    """Mono int16 samples and their rate. Raises ValueError for another kind of .wav file."""
    with wave.open(file) as wav:
        if wav.getsampwidth() != 2 or wav.getnchannels() != 1:
            raise ValueError("A clip is no .wav file with one channel of 16 bits.")
        return np.frombuffer(wav.readframes(wav.getnframes()), "<i2"), wav.getframerate()


def resample(samples: NDArray[Any], count: int) -> Int16:
    """Resample (T,) to (count,) int16 by Fourier transform, with an ideal low-pass filter."""
    if count == len(samples):
        return np.asarray(samples, np.int16)
    spectrum = np.fft.rfft(samples)[: count // 2 + 1]
    resampled = np.fft.irfft(spectrum, count) * (count / len(samples))
    return np.clip(np.rint(resampled), -32768, 32767).astype(np.int16)


def _second(samples: Int16, rate: int) -> Int16:
    """The second in the middle of a clip of 16 kHz, at another rate."""
    missing = max(0, OWN_RATE - len(samples))
    padded = np.pad(samples, (missing // 2, missing - missing // 2))
    start = (len(padded) - OWN_RATE) // 2
    return resample(padded[start : start + OWN_RATE], rate)


def _who(path: Path) -> tuple[str, str]:
    """The speaker of a file, and its word where the name says it: bed_3ff840aa_nohash_0.wav.wav."""
    found = re.match(r"(?:(.*)_)?([0-9a-f]{8})_nohash", path.name)
    return (found[2], found[1] or "") if found else (path.stem, "")


def _number(name: str) -> int:
    return int(sha1(name.encode()).hexdigest()[:8], 16)


def _share(percent: int) -> str:
    """The split of a speaker, from a number of the speaker's own, 0 to 99."""
    return "test" if percent < TEST else "val" if percent < TEST + VAL else "train"


def _cached(name: str, clips: Iterator[Clip], rate: int) -> Recordings:
    """The recordings of a file in the cache, which is written from the clips unless it exists."""
    path = cache_folder() / f"{name}_{rate}_{EDITION}.npz"
    if not path.exists():
        content = _packed(clips, rate)
        path.parent.mkdir(parents=True, exist_ok=True)
        serialize.write(path, content)
    return read(path)


def _packed(clips: Iterator[Clip], rate: int) -> bytes:
    """The clips as an .npz in the layout of tinytorch.recordings, with only codes in memory."""
    codes, about = bytearray(), []
    for samples, *rest in clips:
        codes += to_mulaw(samples).tobytes()
        about.append(rest)
    if not about:
        raise OSError("the archive of Speech Commands has no clips in it")
    kinds, splits, speakers, spoken = zip(*about, strict=True)
    content = BytesIO()
    np.savez(
        content,
        data=np.frombuffer(codes, np.uint8).reshape(-1, rate),
        encoding=np.array(MULAW),
        label=np.array([CLASSES.index(kind) for kind in kinds], np.uint8),
        split=np.array(splits),
        speaker=np.array(speakers),
        word=np.array(spoken),
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
# Variants of a voice, in an order in which no split has only men or only women.
VOICES = [
    "m1", "f1", "m2", "f2", "m3", "f3", "m4", "f4", "m5", "f5", "m6", "belinda", "m7", "linda",
    "m8", "Annie", "Andy", "Alicia", "adam", "aunty", "Denis", "steph", "Michael", "Andrea",
    "david", "shelby", "grandpa", "grandma", "max", "zac",
]  # fmt: skip
SYNCHRONOUS, RATE, PITCH, RANGE, UTF8 = 2, 1, 3, 4, 1  # of espeak-ng/speak_lib.h


class Espeak:
    """The speech synthesizer espeak-ng, from the library of `espeakng-loader` or the system's.

    rate: Hz of the samples that `say` returns. Raises ImportError where there is no such library.
    """

    def __init__(self) -> None:
        data: bytes | None = None
        try:
            import espeakng_loader

            library = str(espeakng_loader.get_library_path())
            data = str(espeakng_loader.get_data_path()).encode()
        except ImportError:
            library = find_library("espeak-ng") or ""
        if not library:
            raise ImportError("There is no espeak-ng here to speak: pip install 'tinytorch[tts]'.")
        try:
            self._lib = ctypes.CDLL(library)
        except OSError as error:
            raise ImportError(f"The espeak-ng in {library} cannot be loaded: {error}.") from error
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

    def say(self, text: str, voice: str, speed: int, pitch: int, swing: int) -> Int16:
        """Synthesize speech: int16 (T,).

        speed: words per minute, 80 to 450; pitch and swing (its range): 0 to 100.
        """
        if self._lib.espeak_SetVoiceByName(voice.encode()):
            raise ImportError(f"This espeak-ng has no voice {voice}: install a newer one.")
        for which, value in ((RATE, speed), (PITCH, pitch), (RANGE, swing)):
            self._lib.espeak_SetParameter(which, value, 0)
        self._said.clear()
        spoken = text.encode() + b"\0"
        size = ctypes.c_size_t(len(spoken))
        self._lib.espeak_Synth(spoken, size, 0, 0, 0, UTF8, None, None)
        return np.concatenate(self._said) if self._said else np.zeros(0, np.int16)


def synthetic_speech(
    seed: int = 0,
    rate: int = 8000,
    each: int = 5,
    voices: Sequence[str] = VOICES,
    progress: bool = True,
) -> Recordings:
    """The classes of Speech Commands by espeak-ng's voices, one second each, with noise.

    each: clips per class and voice, in several accents. No voice is in two splits. The clips are
    cached, because espeak-ng's own noise differs from run to run; synthesis takes about 15 seconds.

    Raises ImportError without espeak-ng.
    """
    name = f"synthetic_speech_{len(voices)}x{each}_{seed}"
    found = _cached(name, _synthetic(seed, rate, each, voices, progress), rate)
    source = f"Synthetic speech (espeak-ng), seed {seed}."
    return replace(found, source=source, simulated=True)


def _synthetic(
    seed: int, rate: int, each: int, voices: Sequence[str], progress: bool
) -> Iterator[Clip]:
    espeak, rng = Espeak(), np.random.default_rng(seed)
    shown = tqdm(voices, "speaking", unit=" voices", leave=False, disable=not progress)
    for number, voice in enumerate(shown):
        split = _share(37 * number % 100)  # each split gets voices from all of the list
        for kind in chain(*[CLASSES] * each):
            word = str(rng.choice(OTHERS)) if kind == UNKNOWN else kind
            sound = _hiss(rate, rng) * 10 ** rng.uniform(0.5, 2.7)
            if kind != SILENCE:
                accent = rng.choice(ACCENTS)
                speed, pitch, swing = rng.integers((110, 20, 10), (220, 80, 90)).tolist()
                said = espeak.say(word, f"{accent}+{voice}", speed, pitch, swing)
                sound += resample(_placed(said, espeak.rate, rng), rate)
            samples = np.clip(np.rint(sound), -32768, 32767).astype(np.int16)
            yield samples, kind, split, voice, word


def _placed(spoken: Int16, rate: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A word at a random place of a second and with a random loudness: (rate,)."""
    peak = max(1, int(np.abs(spoken.astype(np.int32)).max(initial=0)))
    audible = np.flatnonzero(np.abs(spoken.astype(np.int32)) > peak / 100)
    word = spoken[audible[0] : audible[-1] + 1][:rate] if len(audible) else spoken[:0]
    start = int(rng.integers(0, rate - len(word) + 1))
    second = np.zeros(rate)
    second[start : start + len(word)] = word * (10 ** rng.uniform(3.2, 4.4) / peak)
    return second


def _hiss(samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise (samples,) with standard deviation 1, between white and brown."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum *= np.arange(1, len(spectrum) + 1) ** -rng.uniform(0, 1)
    noise = np.fft.irfft(spectrum, samples)
    return noise / noise.std()


def words(rate: int = 8000, seed: int = 0, progress: bool = True) -> Recordings:
    """Speech Commands, or synthetic speech if they cannot be fetched.

    Raises ImportError if there is no espeak-ng either.
    """
    try:
        return speech_commands(rate, progress=progress)
    except OSError as error:
        why = f"Speech Commands could not be fetched: {error}."
    try:
        synthetic = synthetic_speech(seed, rate, progress=progress)
    except ImportError as error:
        raise ImportError(
            f"{why} For synthetic speech in their place: pip install 'tinytorch[tts]'; or give "
            "recordings with --data."
        ) from error
    return replace(synthetic, source=f"{synthetic.source} {why}")
