"""Speech Commands from an archive like the official ones, and synthetic speech."""

import hashlib
import io
import sys
import tarfile
import wave

import numpy as np
import pytest

from tests.host.test_datasets import home, served  # noqa: F401
from tinytorch.cache import cache_folder
from tinytorch.data import datasets, speech
from tinytorch.data.recordings import Recordings

NOWHERE = "http://127.0.0.1:9/"


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
    rng = np.random.default_rng(0)
    files = {"README.md": b"what it is", "LICENSE": b"CC BY 4.0"}
    for number in range(40):
        sound, who = wav(tone(300 + 10 * number)), f"{number:08x}_nohash_{number % 3}"
        for word in ("yes", "no"):
            files[f"{word}/{who}.wav"] = sound
        files[f"_unknown_/bed_{who}.wav.wav"] = sound
        files[f"_silence_/{number}.wav"] = wav(rng.integers(-9, 9, 16000))
    files["yes/ffffffff_nohash_0.wav"] = wav(np.full(12000, 5000))
    return archive(files)


@pytest.fixture
def official(home, monkeypatch):  # noqa: F811
    """The small set on a server whose first answer breaks off."""
    content = small_set()
    with served(content, cut_first=True) as (url, seen):
        monkeypatch.setattr(speech, "PLACE", url.rsplit("/", 1)[0] + "/")
        monkeypatch.setattr(speech, "TEST_SET", ("a.tar.gz", hashlib.sha256(content).hexdigest()))
        yield seen


def test_the_small_set_once_from_its_place_and_then_from_the_cache(official, monkeypatch):
    with pytest.raises(OSError, match="broke off: the next time goes on from there"):
        speech.speech_commands(progress=False)
    first = datasets.load(kind="sound", progress=False)
    monkeypatch.setattr(speech, "PLACE", NOWHERE)
    (cache_folder() / "a.tar.gz").unlink()
    again = datasets.load(kind="sound", progress=False)
    assert len(official) == 2 and official[1].startswith("bytes=")
    assert (first.rate, first.is_sound, first.simulated, first.made) == (8000.0, True, False, "")
    assert "Speech Commands" in first.source and "CC BY 4.0" in first.source
    assert len(first.labels) == 161 and {len(s) for s in first.signals} == {8000}
    assert all(np.array_equal(a, b) for a, b in zip(first.signals, again.signals, strict=True))
    kinds = [first.classes[i] for i in first.labels]
    assert [kinds.count(k) for k in ("yes", "no", "_unknown_", "_silence_")] == [41, 40, 40, 40]
    # Nobody speaks in two splits, and each split has somebody.
    splits = {}
    for split, speaker in zip(first.splits, first.subjects, strict=True):
        splits.setdefault(speaker, set()).add(split)
    assert all(len(found) == 1 for found in splits.values())
    assert set(first.split_names) == {"train", "val", "test"}
    with np.load(next(cache_folder().glob("*.npz"))) as arrays:
        assert set(arrays["word"]) == {"yes", "no", "bed", "_silence_"}
        assert {"00000005", "ffffffff"} < set(arrays["speaker"])


def test_a_clip_keeps_its_sound_at_half_the_rate(home):  # noqa: F811
    sounds = [tone(360), tone(400), np.full(12000, 5000)]
    clips = [(speech._second(s, 8000), "yes", "train", "Ada", "yes") for s in sounds]
    found = speech._cached("some", iter(clips), 8000)
    for signal, hertz in zip(found.signals, (360, 400, 0), strict=True):
        spectrum = np.abs(np.fft.rfft(signal[1000:7000, 0]))
        assert spectrum.argmax() == hertz * 6000 / 8000
    assert abs(np.abs(found.signals[0][1000:7000]).max() / 8000 - 1) < 0.05  # mu-law's steps
    short = found.signals[2][:, 0]
    assert np.abs(short[1100:6900] - 5000).max() < 250  # the middle, and silence around it
    assert np.abs(short[[*range(900), *range(7100, 8000)]]).max() < 250


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
    chosen = found.labels == found.classes.index("_unknown_")
    others = [f"{w}/{n:08x}_nohash_0.wav" for n in range(12) for w in ("bed", "cat", "dog")]
    assert chosen.sum() == sum(speech._number(name) % 16 == 0 for name in others) > 0
    assert found.subjects[go].tolist()[:2] == ["00000000", "00000001"]
    noise = found.labels == found.classes.index("_silence_")
    assert int(noise.sum()) == speech.NOISE_CLIPS
    assert set(found.splits[noise]) == {"train", "val", "test"}


def speak(seed: int) -> Recordings:
    return speech.synthetic_speech(seed, each=1, voices=speech.VOICES[:12], progress=False)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory) -> Recordings:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYTORCH_HOME", str(tmp_path_factory.mktemp("home")))
        found = speak(1)
        patch.setattr(speech, "Espeak", None)
        again = speak(1)  # from the cache
    assert all(np.array_equal(a, b) for a, b in zip(found.signals, again.signals, strict=True))
    assert again.simulated and again.source == found.source
    return found


def test_synthetic_speech_says_so_and_no_split_shares_a_voice(spoken):
    assert spoken.simulated and spoken.made == "synthetic"
    assert spoken.source == "Synthetic speech (espeak-ng), seed 1."
    assert spoken.is_sound and set(spoken.split_names) == {"train", "val", "test"}
    assert np.bincount(spoken.labels).tolist() == [12] * 12
    voices = {}
    for split, voice in zip(spoken.splits, spoken.subjects, strict=True):
        voices.setdefault(voice, set()).add(split)
    assert len(voices) == 12 and all(len(found) == 1 for found in voices.values())


def test_synthetic_speech_is_heard(spoken):
    x = np.concatenate(spoken.signals, 1).T.astype(float)
    loud = np.sqrt((x**2).mean(1))
    quiet = spoken.labels == spoken.classes.index("_silence_")
    assert np.median(loud[~quiet]) > 3 * np.median(loud[quiet])
    assert np.abs(x).max() < 32767  # nothing is clipped
    # A word takes a part of its second, and stands anywhere in it.
    yes = x[spoken.labels == spoken.classes.index("yes")]
    power = (yes.reshape(12, 80, 100) ** 2).mean(2)
    where = [np.flatnonzero(p > p.max() / 100) for p in power]
    assert all(10 < at[-1] - at[0] < 80 for at in where)
    assert np.std([at[0] for at in where]) > 3


def test_every_voice_and_accent_speaks():
    espeak = speech.Espeak()
    said = [espeak.say("go", f"en-us+{v}", 150, 50, 50) for v in speech.VOICES]
    said += [espeak.say("go", f"{a}+f2", 150, 50, 50) for a in speech.ACCENTS]
    assert all(0.1 < len(s) / espeak.rate < 1 and np.abs(s).max() > 1000 for s in said)
    assert len({s.tobytes() for s in said}) == len(said)
    with pytest.raises(ImportError, match="no voice xx: install a newer one"):
        espeak.say("go", "xx", 150, 50, 50)


def test_without_a_net_words_are_synthetic_and_say_why(home, monkeypatch):  # noqa: F811
    monkeypatch.setattr(speech, "PLACE", NOWHERE)
    monkeypatch.setattr(speech.synthetic_speech, "__defaults__", (0, 8000, 1, ["m1", "f1"], False))
    found = datasets.load(kind="sound", seed=3, progress=False)
    assert found.simulated and "seed 3" in found.source
    assert f"could not be fetched: {NOWHERE}" in found.source
    assert "cannot be reached." in found.source


def test_without_a_net_and_a_voice_it_says_what_to_do(home, monkeypatch):  # noqa: F811
    monkeypatch.setattr(speech, "PLACE", NOWHERE)
    monkeypatch.setattr(speech, "find_library", lambda name: None)
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ImportError, match=r"pip install 'tinytorch\[tts\]'; or give recordings"):
        datasets.load(kind="sound", progress=False)
    assert not list(home.rglob("*.npz*"))


def test_an_espeak_that_cannot_be_loaded_is_named(monkeypatch, tmp_path):
    broken = tmp_path / "libespeak-ng.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(speech, "find_library", lambda name: str(broken))
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ImportError, match=f"espeak-ng in {broken} cannot be loaded"):
        speech.Espeak()
