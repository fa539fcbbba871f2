"""Speech Commands from an archive like the official ones, and synthetic speech."""

import hashlib
import io
import sys
import tarfile
import wave
from ctypes import util

import numpy as np
import pytest

from tests.host.test_datasets import home, served  # noqa: F401
from tinytorch import datasets, speech
from tinytorch.cache import cache_folder
from tinytorch.recordings import Recordings

VOICES = speech.VOICES[::4]


def wav(samples: np.ndarray, rate: int = 16000) -> bytes:
    content = io.BytesIO()
    with wave.open(content, "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(rate)
        f.writeframes(samples.astype("<i2").tobytes())
    return content.getvalue()


def archive(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return content.getvalue()


def tone(hertz: float, samples: int = 16000) -> np.ndarray:
    return 8000 * np.sin(2 * np.pi * hertz * np.arange(samples) / 16000)


def small_set() -> bytes:
    files = {"README.md": b"what it is", "LICENSE": b"CC BY 4.0"}
    for number in range(40):
        for word in ("yes", "no", "_unknown_"):
            files[f"{word}/{number:08x}_nohash_{number % 3}.wav"] = wav(tone(300 + 10 * number))
        files[f"_silence_/noise_{number}.wav"] = wav(np.full(16000, number))
    files["yes/ffffffff_nohash_0.wav"] = wav(tone(400, 12000))
    return archive(files)


@pytest.fixture
def official(home, monkeypatch):  # noqa: F811
    content = small_set()
    with served(content) as (url, seen):
        monkeypatch.setattr(speech, "PLACE", url.rsplit("/", 1)[0] + "/")
        monkeypatch.setattr(speech, "TEST_SET", ("a.tar.gz", hashlib.sha256(content).hexdigest()))
        yield seen


def test_the_small_set_once_from_its_place_and_then_from_the_cache(official):
    first = datasets.load(kind="sound", progress=False)
    again = datasets.load(kind="sound", progress=False)
    assert len(official) == 1
    assert (first.rate, first.is_sound, first.simulated, first.made) == (8000.0, True, False, "")
    assert "Speech Commands" in first.source and "CC BY 4.0" in first.source
    assert len(first.labels) == 161 and {len(s) for s in first.signals} == {8000}
    assert all(np.array_equal(a, b) for a, b in zip(first.signals, again.signals, strict=True))
    kinds = [first.classes[i] for i in first.labels]
    assert kinds.count("yes") == 41 and kinds.count("_silence_") == 40
    # Nobody speaks in two splits, and each split has somebody.
    splits = {}
    for split, speaker in zip(first.splits, first.subjects, strict=True):
        splits.setdefault(speaker, set()).add(split)
    assert all(len(found) == 1 for found in splits.values())
    assert set(first.split_names) == {"train", "val", "test"}


def test_a_clip_keeps_its_sound_at_half_the_rate(official):
    recordings = speech.speech_commands(8000, progress=False)
    for label, who, hertz in ((2, "00000006", 360), (3, "0000000a", 400)):
        chosen = (recordings.labels == label) & (recordings.subjects == who)
        signal = recordings.signals[int(np.flatnonzero(chosen)[0])][:, 0]
        spectrum = np.abs(np.fft.rfft(signal[1000:7000]))
        assert spectrum.argmax() == round(hertz * 6000 / 8000)
        assert abs(np.abs(signal[1000:7000]).max() / 8000 - 1) < 0.05  # mu-law's steps


def test_what_half_the_rate_cannot_hold_is_gone():
    both = tone(1000) + tone(5000)
    found = speech.resample(both, 8000)
    assert np.abs(found - 8000 * np.sin(2 * np.pi * np.arange(8000) / 8)).max() < 2


def test_a_broken_archive_is_not_kept(home, monkeypatch):  # noqa: F811
    with served(b"another file") as (url, _):
        monkeypatch.setattr(speech, "PLACE", url.rsplit("/", 1)[0] + "/")
        with pytest.raises(OSError, match="wrong checksum"):
            speech.speech_commands(progress=False)
    assert list(cache_folder().iterdir()) == []


def test_the_full_set_has_its_own_splits(home, monkeypatch):  # noqa: F811
    files = {"_background_noise_/rain.wav": wav(np.arange(16000 * 30) % 5000)}
    for number in range(12):
        files[f"go/{number:08x}_nohash_0.wav"] = wav(tone(500))
        for word in ("bed", "cat", "dog"):
            files[f"{word}/{number:08x}_nohash_0.wav"] = wav(tone(700))
    files["validation_list.txt"] = b"go/00000001_nohash_0.wav\n"
    files["testing_list.txt"] = b"go/00000002_nohash_0.wav\ngo/00000003_nohash_0.wav\n"
    content = archive(files)
    with served(content) as (url, _):
        monkeypatch.setattr(speech, "PLACE", url.rsplit("/", 1)[0] + "/")
        monkeypatch.setattr(speech, "FULL", ("f.tar.gz", hashlib.sha256(content).hexdigest()))
        found = speech.speech_commands(16000, full=True, progress=False)
    go = found.labels == found.classes.index("go")
    assert {s: int((found.splits[go] == s).sum()) for s in found.split_names} == {
        "train": 9, "val": 1, "test": 2,
    }  # fmt: skip
    unknown = int((found.labels == found.classes.index("_unknown_")).sum())
    assert unknown < 12  # one in sixteen of the others
    noise = found.labels == found.classes.index("_silence_")
    assert int(noise.sum()) == speech.NOISE_CLIPS
    assert set(found.splits[noise]) == {"train", "val", "test"}


@pytest.fixture(scope="module")
def spoken() -> Recordings:
    return speech.synthetic_speech(seed=1, each=1, voices=VOICES)


def test_synthetic_speech_says_so_and_differs_by_word_and_voice(spoken):
    assert spoken.simulated and spoken.made == "synthetic" and "ynthetic" in spoken.source
    assert spoken.is_sound and set(spoken.split_names) == {"train", "val", "test"}
    assert np.bincount(spoken.labels).tolist() == [18] * 12
    x = np.concatenate(spoken.signals, 1).T.astype(float)
    loud = np.sqrt((x**2).mean(1))
    quiet = spoken.labels == spoken.classes.index("_silence_")
    assert np.median(loud[~quiet]) > 3 * np.median(loud[quiet])
    voices = {}
    for split, voice in zip(spoken.splits, spoken.subjects, strict=True):
        voices.setdefault(voice, set()).add(split)
    assert all(len(found) == 1 for found in voices.values())


def test_without_a_net_words_are_synthetic_and_say_why(home, monkeypatch):  # noqa: F811
    monkeypatch.setattr(speech, "PLACE", "http://127.0.0.1:9/")
    monkeypatch.setattr(speech.synthetic_speech, "__defaults__", (0, 8000, 1, VOICES[:2]))
    found = datasets.load(kind="sound", progress=False)
    assert found.simulated and "could not be fetched" in found.source


def test_without_a_net_and_a_voice_it_says_what_to_do(home, monkeypatch):  # noqa: F811
    monkeypatch.setattr(speech, "PLACE", "http://127.0.0.1:9/")
    monkeypatch.setattr(util, "find_library", lambda name: None)
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ImportError, match=r"pip install 'tinytorch\[tts\]'; or give recordings"):
        datasets.load(kind="sound", progress=False)
