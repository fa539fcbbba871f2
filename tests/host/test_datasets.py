import hashlib
import http.server
import io
import sys
import tarfile
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from tinytorch.cache import cache_folder, fetch
from tinytorch.data import datasets
from tinytorch.data.recordings import read
from tinytorch.data.simulator import simulate
from tinytorch.sensing.motion import motion_features, network_input, quantize_windows
from tinytorch_core.dsp import Motion


def layout(**changed):
    """Six recordings of lengths 10, 11, 12, 13, 14 and 50 in the layout, with changes."""
    lengths = [10, 11, 12, 13, 14, 50]
    rows = sum(lengths)
    arrays = {
        "data": (np.arange(rows * 3).reshape(rows, 3) - 150).astype(np.int16),
        "offsets": np.cumsum([0, *lengths]),
        "label": np.array([0, 1, 0, 1, 0, 1], np.uint8),
        "split": np.array(["train", "train", "train", "train", "spare", "spare"]),
        "sample_rate": np.float32(25),
        "classes": np.array(["left", "right"]),
    }
    return {k: v for k, v in {**arrays, **changed}.items() if v is not None}


@pytest.fixture
def written(tmp_path):
    def write(**changed):
        np.savez(tmp_path / "some.npz", **layout(**changed))
        return tmp_path / "some.npz"

    return write


def test_read_ragged(written):
    recordings = read(written(subject=np.array(list("abcabc"))))
    assert [len(s) for s in recordings.signals] == [10, 11, 12, 13, 14, 50]
    np.testing.assert_array_equal(recordings.signals[1], layout()["data"][10:21])
    assert recordings.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert recordings.split_names == ["train", "spare"]
    assert recordings.classes == ["left", "right"]
    assert (recordings.rate, recordings.channels, recordings.simulated) == (25.0, 3, False)
    assert recordings.subjects.tolist() == list("abcabc")
    assert "some.npz" in recordings.source


def test_read_fixed_and_whole_floats(written):
    data = np.arange(6 * 20 * 4).reshape(6, 20, 4)
    names = np.array([b"left", b"right"])
    recordings = read(written(data=data.astype(np.float64) + 0.2, offsets=None, classes=names))
    assert recordings.classes == ["left", "right"]
    assert recordings.channels == 4
    np.testing.assert_array_equal(np.stack(recordings.signals), data)
    assert recordings.signals[0].dtype == np.int16


FLOATS = layout()["data"].astype(np.float32)
NAN = FLOATS.copy()
NAN[25, 1] = np.nan


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"label": None, "classes": None}, "no label and no classes"),
        ({"split": None}, "no split"),
        ({"data": NAN}, "NaN or infinity in recording 2"),
        ({"data": FLOATS * 1000}, "int16"),
        ({"data": FLOATS / 1e6}, "nothing but zeros"),
        ({"data": FLOATS.astype(str)}, "type <U"),
        ({"data": FLOATS[:, 0]}, "axes"),
        ({"data": FLOATS[:0]}, "no samples"),
        ({"offsets": None}, "no offsets"),
        ({"offsets": np.array([0, 10, 5, 30, 40, 50, 110])}, "offsets"),
        ({"offsets": np.array([0, 10, 20, 30, 40, 50, 109])}, "offsets"),
        ({"offsets": np.array([0, 10, 10, 30, 40, 50, 110])}, "offsets"),
        ({"offsets": np.array([], int)}, "offsets"),
        ({"label": np.array([0, 1, 2, 0, 1, 0])}, "labels from 0 to 2"),
        ({"label": np.array([0, 1, -1, 0, 1, 0])}, "labels from -1 to 1"),
        ({"label": np.zeros(6)}, "whole numbers"),
        ({"label": np.zeros(5, int)}, "one label for each"),
        ({"split": np.array(["train"])}, "one split for each"),
        ({"split": np.arange(6)}, "not text"),
        ({"classes": np.array(["left", "left"])}, "twice"),
        ({"classes": np.array(["left"])}, "two classes"),
        ({"sample_rate": np.float32(0)}, "sample_rate"),
        ({"sample_rate": np.array([25.0, 50.0])}, "sample_rate"),
        ({"classes": np.array([{}, {}])}, "damaged"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(written, changed, word):
    with pytest.raises(ValueError, match=word) as caught:
        read(written(**changed))
    message = str(caught.value)
    assert "some.npz" in message
    assert message.endswith(".")
    assert "\n" not in message


def test_what_is_no_npz_is_refused(tmp_path, written):
    whole = written().read_bytes()
    path = tmp_path / "other.npz"
    single = io.BytesIO()
    np.save(single, np.zeros(3))
    flipped = bytearray(whole)
    flipped[len(whole) // 8] ^= 255
    for content in (b"", b"PK", b"text", whole[:500], single.getvalue(), bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"other\.npz cannot be read"):
            read(path)
    for flag in (1, 64):  # a password; another kind of encryption
        locked = bytearray(whole)
        locked[whole.index(b"PK\1\2") + 8] = flag  # of the first member, in the directory
        path.write_bytes(locked)
        with pytest.raises(ValueError, match="cannot be read"):
            read(path)
    with pytest.raises(ValueError, match="cannot be read"):
        read(tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no data file"):
        read(tmp_path / "none.npz")


def test_windows(written):
    recordings = read(written())
    data = layout()["data"]
    x, y = recordings.windows("train", 12)
    assert x.shape == (4, 12, 3)
    assert x.dtype == np.int16
    assert y.tolist() == [0, 1, 0, 1]
    # Ten samples in the middle of twelve, with the edges repeated; the middle twelve of thirteen.
    np.testing.assert_array_equal(x[0], data[[0, *range(10), 9]])
    np.testing.assert_array_equal(x[3], data[33:45])
    # Fifty samples are a stream of four windows of twelve; fourteen are not.
    x, y = recordings.windows("spare", 12)
    assert y.tolist() == [0, 1, 1, 1, 1]
    np.testing.assert_array_equal(x[1:].reshape(-1, 3), data[60:108])
    assert len(recordings.windows("spare", 12, hop=5)[0]) == 1 + 8
    assert len(recordings.windows("spare", 25)[0]) == 2


def test_splits(written):
    recordings = read(written())
    assert recordings.test_split == "spare"
    with pytest.raises(ValueError, match="'test': these splits exist: train, spare"):
        recordings.windows("test", 10)
    with_val = recordings.with_validation(seed=3, share=0.5)
    again = recordings.with_validation(seed=3, share=0.5)
    assert with_val.splits.tolist() == again.splits.tolist()
    assert sorted(with_val.labels[with_val.members("val")]) == [0, 1]
    assert sorted(with_val.labels[with_val.members("train")]) == [0, 1]
    assert len(with_val.members("spare")) == 2
    assert with_val.with_validation() is with_val
    assert recordings.split_names == ["train", "spare"]
    with pytest.raises(ValueError, match="too few"):
        recordings.with_validation(share=0.1)
    only = read(written(split=np.array(["mine"] * 6)))
    assert only.test_split == "mine"
    for others, judge in ((["train"], "val"), (["train", "test", "mine"], "test")):
        splits = np.array((["val", *others] * 6)[:6])
        assert read(written(split=splits)).test_split == judge
    with pytest.raises(ValueError, match="'train'"):
        only.with_validation()


def test_for_model(written):
    recordings = read(written())
    features = {"kind": "motion", "rate": 25.0, "channels": 3, "window": 8, "shift": [0, 0, 0]}
    renumbered = recordings.for_model(features, ["right", "up", "left"])
    assert renumbered.labels.tolist() == [2, 0, 2, 0, 2, 0]
    for changed, word in (
        ({"channels": 6}, "3 channels at 25 Hz .* 6 at 25 Hz"),
        ({"rate": 50.0}, "at 50 Hz"),
        ({"kind": "mfcc"}, "motion"),
    ):
        with pytest.raises(ValueError, match=word):
            recordings.for_model({**features, **changed}, ["left", "right"])
    with pytest.raises(ValueError, match="'right', which the model does not know: it knows left"):
        recordings.for_model(features, ["left"])


def test_many_windows_give_the_boards_bytes():
    rng = np.random.default_rng(0)
    size = np.array([20, 300, 5000, 40000, 127, 4064])
    windows = np.clip(rng.normal(size=(20, 9, 6)) * size, -32768, 32767).astype(np.int16)
    windows[0, 0], windows[0, 1] = 32767, -32768
    features = motion_features(windows, 50)
    quantized = quantize_windows(windows, features)
    assert quantized.dtype == np.int8
    motion = Motion(features)
    out = bytearray(windows[0].size)
    for window, expected in zip(windows, quantized, strict=True):
        for sample in window:
            motion.push(sample.tolist())
        motion.write(out)
        assert out == expected.tobytes()
    x = network_input(quantized)
    assert x.dtype == np.float32
    assert x[3, 2, 1] == quantized[3, 1, 2] / 64


def test_the_shift_is_the_finest_that_fits():
    windows = np.zeros((100, 100, 4), np.int16)
    windows[:, 0, 0] = 127
    windows[:, 0, 1] = -128
    windows[:, 0, 2] = 4079
    windows[0, :9, 3] = 30000  # nine samples in ten thousand may be clipped
    assert motion_features(windows, 25)["shift"] == [0, 1, 5, 0]
    windows[0, :20, 3] = 30000
    assert motion_features(windows, 25)["shift"][3] == 8


def test_simulated_strokes():
    a, b, other = simulate(1), simulate(1), simulate(2)
    assert a.simulated
    assert "imulated" in a.source
    assert all(np.array_equal(x, y) for x, y in zip(a.signals, b.signals, strict=True))
    assert not np.array_equal(a.signals[0], other.signals[0])
    people = [set(a.subjects[a.splits == s]) for s in ("train", "val", "test")]
    assert sum(map(len, people)) == len(set.union(*people))
    for split in a.split_names:
        assert np.bincount(a.labels[a.splits == split]).min() >= 20
    rest = np.median([np.linalg.norm(s[:2].mean(0)) for s in a.signals])
    assert 900 < rest < 1100  # gravity, in milli-g
    for signal in a.signals:
        assert signal.shape[1] == 3
        assert np.abs(signal).max() <= 2000


RING = "-,-,-\n-766.0,132.0,709.0\n-751.0,276.0,931.4\n\n-,-,-\n1.0,2.0,3.0\n4,5,6\n7,8,9\n"
STREAM = "".join(f"{t}.0,{-t}.0,1000.0\n" for t in range(300))


def archive():
    """A small archive like the official one, with its hidden files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in {
            "./ring/output_ring_hyw.txt": RING,
            "./ring/._output_ring_hyw.txt": "\0\0",
            "./wing/output_wing_liucx.txt": RING,
            "./slope/output_slope_xunkai.txt": RING,
            "./negative/output_negative_4.txt": STREAM,
            "./readme.txt": "hello",
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


@contextmanager
def served(content, cut_first=False, says_length=True, resumes=True):
    """A local server of one file, which can break off its first answer in the middle."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers["Range"]
            seen.append(wanted)
            start = int(wanted[6:-1]) if wanted and resumes else 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if says_length:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            rest = content[start:]
            self.wfile.write(rest[: len(rest) // 2] if cut_first and len(seen) == 1 else rest)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/some.tar.gz", seen
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYTORCH_HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path


def test_magic_wand_from_its_place_and_then_from_the_cache(home, monkeypatch):
    content = archive()
    with served(content) as (url, seen):
        monkeypatch.setattr(datasets, "MAGIC_WAND_URL", url)
        monkeypatch.setattr(datasets, "MAGIC_WAND_SHA256", hashlib.sha256(content).hexdigest())
        recordings = datasets.load(progress=False)
        again = datasets.load(progress=False)
    assert len(seen) == 1
    assert again.labels.tolist() == recordings.labels.tolist()
    assert [len(s) for s in recordings.signals] == [300, 2, 3, 2, 3, 2, 3]
    assert recordings.signals[1].tolist() == [[-766, 132, 709], [-751, 276, 931]]
    assert recordings.labels.tolist() == [0, 1, 1, 2, 2, 3, 3]
    assert recordings.splits.tolist() == ["test", "train", "train", "val", "val", "test", "test"]
    assert recordings.subjects.tolist()[:3] == ["neg_4", "hyw", "hyw"]
    assert (recordings.rate, recordings.simulated) == (25.0, False)


def test_fetch_resumes(home):
    content = np.random.default_rng(0).bytes(300_000)
    digest = hashlib.sha256(content).hexdigest()
    with served(content, cut_first=True) as (url, seen):
        with pytest.raises(OSError, match="broke off: the next time goes on"):
            fetch(url, digest, "some.bin", progress=False)
        kept = (cache_folder() / "some.bin.part").stat().st_size
        assert 0 < kept < len(content)
        assert fetch(url, digest, "some.bin", progress=False).read_bytes() == content
    assert seen == [None, f"bytes={kept}-"]
    assert [p.name for p in cache_folder().iterdir()] == ["some.bin"]


def test_fetch_begins_anew_where_the_server_cannot_resume(home, capsys):
    content = np.random.default_rng(0).bytes(300_000)
    digest = hashlib.sha256(content).hexdigest()
    with served(content, cut_first=True, resumes=False) as (url, seen):
        with pytest.raises(OSError, match="broke off"):
            fetch(url, digest, "some.bin", progress=False)
        assert fetch(url, digest, "some.bin").read_bytes() == content
    assert len(seen) == 2 and seen[1].startswith("bytes=")
    assert "fetching some.bin from its beginning" in capsys.readouterr().err
    assert [p.name for p in cache_folder().iterdir()] == ["some.bin"]


@pytest.mark.parametrize("kept", [b"part of another file", b"more" * 100])
def test_fetch_begins_anew_if_what_was_kept_is_not_of_this_file(home, capsys, kept):
    content = np.random.default_rng(0).bytes(300)
    cache_folder().mkdir(parents=True)
    (cache_folder() / "some.bin.part").write_bytes(kept)
    with served(content) as (url, seen):
        path = fetch(url, hashlib.sha256(content).hexdigest(), "some.bin")
    assert path.read_bytes() == content
    assert seen == [f"bytes={len(kept)}-", None]
    assert "some.bin was damaged: fetching it anew" in capsys.readouterr().err


def test_fetch_completes_what_was_whole_but_not_yet_checked(home):
    cache_folder().mkdir(parents=True)
    (cache_folder() / "some.bin.part").write_bytes(b"whole")
    with served(b"whole") as (url, _):
        path = fetch(url, hashlib.sha256(b"whole").hexdigest(), "some.bin", progress=False)
    assert path.read_bytes() == b"whole"


def test_fetch_takes_a_file_whose_length_nobody_says(home):
    with served(b"short", says_length=False) as (url, _):
        path = fetch(url, hashlib.sha256(b"short").hexdigest(), "some.bin", progress=False)
    assert path.read_bytes() == b"short"


def test_fetch_refuses_another_file(home):
    with served(b"another file") as (url, _), pytest.raises(OSError, match="wrong checksum"):
        fetch(url, "0" * 64, "some.bin", progress=False)
    assert list(cache_folder().iterdir()) == []


def test_load_falls_back_to_simulated_strokes(home, monkeypatch, written):
    monkeypatch.setattr(datasets, "MAGIC_WAND_URL", "http://127.0.0.1:9/data.tar.gz")
    recordings = datasets.load(seed=4, progress=False)
    assert recordings.simulated
    assert "imulated" in recordings.source
    assert np.array_equal(recordings.signals[0], simulate(4).signals[0])
    assert not datasets.load(written()).simulated


def test_digits():
    train, test = datasets.digits()
    x, y = train.tensors
    assert x.shape == (1438, 1, 8, 8) and x.dtype == np.float32 and y.dtype == np.int64
    assert (x.numpy().min(), x.numpy().max()) == (0, 1)
    assert len(train) + len(test) == 1797
    assert np.all(abs(np.bincount(test.tensors[1].numpy()) / len(test) - 0.1) < 0.005)
    seen = {a.numpy().tobytes() for a in x}
    assert not any(a.numpy().tobytes() in seen for a in test.tensors[0])
    again, other = datasets.digits(), datasets.digits(0.5, seed=1)
    np.testing.assert_array_equal(again[1].tensors[0].numpy(), test.tensors[0].numpy())
    assert len(other[1]) == pytest.approx(1797 / 2, abs=10)


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'tinytorch\[digits\]'\.$"):
        datasets.digits()
