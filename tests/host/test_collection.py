"""Recordings are added to a file, and nothing that is there is ever lost."""

import signal
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.conftest import ROOT
from tinytorch.data import recordings
from tinytorch.data.collection import MULAW, MULAW_VALUES, append, load, to_mulaw

RNG = np.random.default_rng(3)


def motion(*lengths, channels=3):
    return [RNG.integers(-2000, 2000, (n, channels), dtype=np.int16) for n in lengths]


def same(there, signals):
    assert len(there) == len(signals)
    for i, expected in enumerate(signals):
        np.testing.assert_array_equal(there.signal(i), expected)


def arrays(path):
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def test_a_file_grows_and_is_read_as_any_other(tmp_path):
    path = tmp_path / "mine.npz"
    first, second, third = motion(50), motion(50, 50), motion(50)
    assert append(path, first, "wing", 25) == 1
    assert append(path, second, "ring", 25, split="test", who="Ada") == 3
    assert append(path, third, "wing", 25.1) == 4
    there = load(path)
    same(there, first + second + third)
    assert arrays(path)["data"].shape == (4, 50, 3)
    assert there.classes == ["wing", "ring"] and there.labels.tolist() == [0, 1, 1, 0]
    assert there.splits == ["train", "test", "test", "train"]
    assert there.people == ["", "Ada", "Ada", ""]
    read = recordings.read(path)
    assert read.classes == there.classes and read.rate == 25 and read.channels == 3
    assert read.subjects.tolist() == there.people
    for mine, theirs in zip(first + second + third, read.signals, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_lengths_that_differ_make_a_file_ragged(tmp_path):
    path = tmp_path / "mine.npz"
    signals = motion(40, 40, 30, 70, 40)
    append(path, signals[:2], "a", 50)
    append(path, signals[2:3], "b", 50)
    append(path, signals[3:], "a", 50)
    assert arrays(path)["offsets"].tolist() == [0, 40, 80, 110, 180, 220]
    same(load(path), signals)
    for mine, theirs in zip(signals, recordings.read(path).signals, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    append(tmp_path / "at once.npz", signals, "a", 50)
    same(load(tmp_path / "at once.npz"), signals)


@pytest.mark.parametrize("lengths", [(500, 500, 400), (500, 400, 500)])
def test_sound_has_no_axis_of_channels(tmp_path, lengths):
    path = tmp_path / "words.npz"
    signals = motion(*lengths, channels=1)
    append(path, signals[:2], "yes", 16000, who="Ada")
    append(path, signals[2:], "no", 16000)
    assert arrays(path)["data"].shape == (1400,)
    same(load(path), signals)
    read = recordings.read(path)
    same(load(path), read.signals)
    assert read.is_sound and read.subjects.tolist() == ["Ada", "Ada", ""]


def test_mulaw_files_get_mulaw_data(tmp_path):
    some = np.arange(-32768, 32768, 37)
    error = np.abs(MULAW_VALUES[:, None].astype(np.int64) - some)
    chosen = to_mulaw(some.astype(np.int16))
    np.testing.assert_array_equal(error[chosen, np.arange(len(some))], error.min(0))
    np.testing.assert_array_equal(to_mulaw(MULAW_VALUES), np.arange(256))
    path = tmp_path / "words.npz"
    np.savez_compressed(
        path, data=RNG.integers(0, 256, (2, 8000), dtype=np.uint8), label=np.uint8([1, 0]),
        split=["val", "test"], sample_rate=8000, classes=["yes", "no"], encoding=MULAW,
        speaker=["x", "y"], word=["yes", "no"], loud=[0.5, 1.5], take=[7, 8], made="by hand",
    )  # fmt: skip
    before, size = arrays(path), path.stat().st_size
    clip = np.rint(9000 * np.sin(np.arange(8000) / 5)).astype(np.int16)[:, None]
    append(path, [clip], "stop", 8000, who="Ada")
    after = arrays(path)
    assert after["data"].dtype == np.uint8 and after["data"].shape == (3, 8000)
    np.testing.assert_array_equal(after["data"][:2], before["data"])
    np.testing.assert_array_equal(load(path).signal(2), MULAW_VALUES[to_mulaw(clip)])
    assert np.abs(load(path).signal(2) - clip).max() < 200
    assert after["label"].tolist() == [1, 0, 2] and after["label"].dtype == np.uint8
    assert after["speaker"].tolist() == ["x", "y", "Ada"] and after["word"].tolist()[2] == ""
    assert np.isnan(after["loud"][2]) and after["take"].tolist() == [7, 8, 0]
    assert after["made"] == "by hand" and after["encoding"] == MULAW
    assert path.stat().st_size < size + 8000
    append(path, [clip[:4000]], "stop", 8000)
    assert arrays(path)["offsets"].tolist() == [0, 8000, 16000, 24000, 28000]
    np.testing.assert_array_equal(load(path).signal(0)[:, 0], MULAW_VALUES[before["data"][0]])
    np.testing.assert_array_equal(load(path).signal(3), MULAW_VALUES[to_mulaw(clip[:4000])])
    same(load(path), recordings.read(path).signals)


def test_other_kinds_of_arrays(tmp_path):
    """Bytes for text, floats for samples, 256 classes, members that are no arrays."""
    path = tmp_path / "odd.npz"
    names = [b"c%03d" % i for i in range(255)]
    np.savez(
        path, data=np.float32(motion(20, 20)), label=np.uint8([0, 254]), split=[b"train", b"val"],
        sample_rate=np.float32([50]), classes=names, subject=[b"x", b"y"], matrix=np.eye(2),
    )  # fmt: skip
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("README.txt", "mine")
    for word in ("größer", "still more"):
        append(path, motion(20), word, 50)
    there = load(path)
    assert there.classes[-2:] == ["größer", "still more"]
    assert there.labels.tolist()[1:] == [254, 255, 256]
    assert there.people == ["x", "y", "", ""] and there.splits[2:] == ["train"] * 2
    assert np.isnan(there.arrays["matrix"][2:]).all() and len(there.arrays["matrix"]) == 4
    assert zipfile.ZipFile(path).read("README.txt") == b"mine"
    numbered = tmp_path / "numbered.npz"
    np.savez(numbered, **GOOD, subject=[7, 8])
    append(numbered, motion(20), "a", 25)
    assert load(numbered).people == ["7", "8", ""]


GOOD = {
    "data": motion(20, 20), "label": [0, 1], "split": ["train", "test"], "sample_rate": 25,
    "classes": ["a", "b"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"label": None}, "no label"),
        ({"label": [0, 2]}, "labels"),
        ({"label": [0, 1, 1]}, "one label"),
        ({"sample_rate": 50}, "50 Hz and these have 25 Hz"),
        ({"sample_rate": "fast"}, "sample_rate"),
        ({"data": motion(20, 20, channels=6)}, "6 channels and these have 3"),
        ({"data": np.zeros((2, 0, 3))}, "no samples"),
        ({"data": np.full((2, 5, 3), np.nan)}, "NaN"),
        ({"data": np.full((2, 5, 3), 40000)}, "int16"),
        ({"data": np.ones((2, 5), np.int16)}, "2 axes"),
        ({"encoding": "flac"}, "'flac'"),
        ({"encoding": MULAW}, "uint8"),
        ({"offsets": [0, 3, 2]}, "axes beside offsets"),
        ({"data": np.ones((5, 3)), "offsets": [0, 6]}, "broken offsets"),
        ({"classes": ["a", "a"]}, "twice"),
        ({"subject": ["x"]}, "one subject"),
        (b"no archive", "not an .npz"),
        (b"", "not an .npz"),
    ],
)
def test_what_is_no_collection_or_does_not_fit_is_left_to_the_byte(tmp_path, changes, says):
    path = tmp_path / "some.npz"
    if isinstance(changes, bytes):
        path.write_bytes(changes)
    else:
        np.savez(path, **{k: a for k, a in {**GOOD, **changes}.items() if a is not None})
    before = path.read_bytes()
    with pytest.raises(ValueError, match=says) as error:
        append(path, motion(20), "c", 25)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("cut", [1, 500, 5000])
def test_a_damaged_file_is_left_to_the_byte(tmp_path, cut):
    path = tmp_path / "some.npz"
    append(path, motion(400), "a", 25)
    damaged = path.read_bytes()[:-cut] if cut != 500 else path.read_bytes().replace(b"NUMPY", b"X")
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="damaged"):
        append(path, motion(20), "a", 25)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("word", ["", " a", "a\n", "a" * 65])
def test_names_that_no_class_can_have(tmp_path, word):
    with pytest.raises(ValueError, match="cannot be used"):
        append(tmp_path / "some.npz", motion(20), word, 25)
    with pytest.raises(ValueError, match="at least one sample"):
        append(tmp_path / "some.npz", [], "a", 25)
    assert not (tmp_path / "some.npz").exists()


def test_a_disk_that_is_full(tmp_path):
    path = tmp_path / "some.npz"
    append(path, motion(400), "a", 25)
    before = path.read_bytes()
    code = (
        "import resource, signal, sys, numpy as np; from tinytorch.data.collection import append\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "try: append(sys.argv[1], [np.ones((9999, 3), np.int16)], 'a', 25)\n"
        "except OSError as error: print(error.filename)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True
    )
    assert run.stdout.strip() == str(path), run.stderr
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.new"))


def test_programs_that_append_at_once_lose_nothing(tmp_path):
    path = tmp_path / "some.npz"
    with ThreadPoolExecutor(4) as pool:
        for n in range(12):
            pool.submit(append, path, [np.full((10, 3), n + 1, np.int16)], f"c{n % 3}", 25)
    there = load(path)
    assert sorted(int(there.signal(i)[0, 0]) for i in range(len(there))) == list(range(1, 13))


ENDLESS = """
import sys, numpy as np
from tinytorch.data.collection import append
for n in range(1, 30000):
    append(sys.argv[1], [np.full((50, 3), n, np.int16)], f"c{n % 7}", 25)
    print(n, flush=True)
"""


def test_killed_while_it_appends_the_file_is_whole(tmp_path):
    path = tmp_path / "some.npz"
    for _ in range(4):
        path.unlink(missing_ok=True)
        with subprocess.Popen(
            [sys.executable, "-c", ENDLESS, path], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process:
            stop = int(RNG.integers(3, 12))
            for line in process.stdout:
                if int(line) == stop:
                    break
            process.send_signal(signal.SIGKILL)
            said = [int(line) for line in process.stdout]
        done = max([stop, *said])
        there = load(path)
        assert len(there) in (done, done + 1)
        numbers = [int(there.signal(i)[0, 0]) for i in range(len(there))]
        assert numbers == list(range(1, len(there) + 1))
        assert append(path, motion(20), "after", 25) == len(there) + 1
