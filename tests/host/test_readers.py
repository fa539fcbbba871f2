import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytorch.data.readers import read_csv, read_npy, read_npz
from tinytorch.data.windows import WindowDataset, window_labels, windows
from tinytorch.utils.data import ConcatDataset, DataLoader, TensorDataset

FLOWERS = """sepal, petal ,kind
5.1,1.4,setosa
7.0,4.7,"versicolor"

6.3,6e0, virginica
5.0,-.2,setosa
"""


@pytest.fixture
def written(tmp_path):
    def write(content, name="some.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_csv_with_classes(written):
    table = read_csv(written(FLOWERS), label="kind")
    assert table.columns == ["sepal", "petal"]
    assert table.values.dtype == np.float32
    np.testing.assert_allclose(table.values, [[5.1, 1.4], [7, 4.7], [6.3, 6], [5, -0.2]])
    assert table.classes == ["setosa", "versicolor", "virginica"]
    assert table.labels.tolist() == [0, 1, 2, 0] and table.labels.dtype == np.int64
    data = TensorDataset(table.values, table.labels)
    assert next(iter(DataLoader(data, 4)))[1].tolist() == [0, 1, 2, 0]


def test_csv_with_numbers(written):
    path = written("\ufeff1;2;3\r\n4;5;6\r\n")
    table = read_csv(path, label=0, header=False, delimiter=";")
    assert table.columns == ["1", "2"] and table.classes == []
    assert table.values.tolist() == [[2, 3], [5, 6]]
    assert table.labels.tolist() == [1, 4] and table.labels.dtype == np.int64
    floats = read_csv(written("a,b\n1,0.5\n2,1\n"), label=-1)
    assert floats.labels.tolist() == [0.5, 1.0] and floats.labels.dtype == np.float32
    plain = read_csv(written("a,b\n1,0.5\n"))
    assert plain.labels is None and plain.values.tolist() == [[1.0, 0.5]]
    assert read_csv(written("y\ncat\ndog\n"), label="y").values.shape == (2, 0)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 4).flatmap(
        lambda f: st.lists(
            st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=f, max_size=f), min_size=1
        )
    )
)
def test_csv_reads_what_numpy_writes(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "some.csv"
    np.savetxt(path, np.array(rows), delimiter=",", fmt="%.9g")
    np.testing.assert_array_equal(read_csv(path, header=False).values, np.array(rows, "f4"))


@pytest.mark.parametrize(
    ("content", "settings", "words"),
    [
        ("a,b\n1,2\n3,x\n", {}, "has 'x' in line 3, column b: write a number"),
        ("a,b,c\n1,,3\n", {"label": "a"}, "has an empty cell in line 2, column b"),
        ('a,b\n"1\n",2\n3,\n', {}, "an empty cell in line 4, column b"),
        ("a,b\n1,2\n3,4,5\n", {}, "has 3 cells in line 3: it has 2 columns"),
        ("a,b\n1,2\n3\n", {}, "has 1 cells in line 3"),
        ("a,b\n1,2\n\n3,nan\n", {}, "has nan in line 4, column b: write a finite number"),
        ("a,b\n1,1e39\n", {}, r"has 1e\+39 in line 2, column b"),
        ("a,y\n1,\n", {"label": "y"}, "has no label in line 2"),
        ("1,2\n3,4\n", {}, "numbers in its first line: use header=False"),
        ("a,b\n1,2\n", {"label": "c"}, "has no single column 'c': its columns are a, b"),
        ("a,a\n1,2\n", {"label": "a"}, "has no single column 'a'"),
        ("a,b\n1,2\n", {"label": 2}, "has no single column 2"),
        ("a,b\n", {}, "has no row of samples"),
        ("", {}, "has no row of samples"),
        (b"a,b\n1,\xff\n", {}, "cannot be read as text"),
    ],
)
def test_bad_csv_is_refused_in_one_sentence(written, content, settings, words):
    with pytest.raises(ValueError, match=words) as caught:
        read_csv(written(content), **settings)
    message = str(caught.value)
    assert message.startswith("The data file some.csv ") and message.endswith(".")
    assert "\n" not in message


def test_npz(tmp_path):
    path = tmp_path / "some.npz"
    np.savez(path, y=np.arange(3), x=np.ones((3, 2)), note=np.array("hello"))
    assert list(read_npz(path, "x", "y")) == ["x", "y"]
    assert list(read_npz(path)) == ["y", "x", "note"]
    assert list(read_npz(path, "y", optional=["z", "note"])) == ["y", "note"]
    assert len(TensorDataset(*read_npz(path, "x", "y").values())) == 3
    with pytest.raises(ValueError, match=r"some\.npz has no z and no w: it has y, x, note\."):
        read_npz(path, "z", "x", "w")
    np.savez_compressed(path, x=np.arange(5000))
    assert read_npz(path, "x")["x"].sum() == 5000 * 4999 // 2
    np.savez(path)
    with pytest.raises(ValueError, match="no x: it has no arrays at all"):
        read_npz(path, "x")


def test_npy(tmp_path):
    path = tmp_path / "some.npy"
    array = np.arange(12.0).reshape(4, 3)
    np.save(path, array)
    np.testing.assert_array_equal(read_npy(path), array)
    mapped = read_npy(path, mmap=True)
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(windows(mapped, 2)[1], array[2:].T)


def test_damaged_files_are_refused(tmp_path, written):
    np.savez(tmp_path / "whole.npz", x=np.arange(100))
    np.save(tmp_path / "whole.npy", np.arange(100))
    objects = io.BytesIO()
    np.save(objects, np.array([{}]), allow_pickle=True)
    contents = [b"", b"PK", b"text", objects.getvalue()]
    for kind in ("npz", "npy"):
        whole = (tmp_path / f"whole.{kind}").read_bytes()
        other = (tmp_path / f"whole.{'npy' if kind == 'npz' else 'npz'}").read_bytes()
        for content in (*contents, whole[: len(whole) // 2], other):
            path = written(content, f"some.{kind}")
            for read in (read_npz,) if kind == "npz" else (read_npy, lambda p: read_npy(p, True)):
                with pytest.raises(ValueError, match=f"some.{kind} cannot be read: it is damaged"):
                    read(path)
    for read in (read_npz, read_npy, read_csv):
        with pytest.raises(FileNotFoundError, match="There is no data file .*none"):
            read(tmp_path / "none")


# Windows of streams.


@settings(deadline=None, max_examples=80)
@given(
    length=st.integers(1, 30), channels=st.integers(1, 3), size=st.integers(1, 12),
    step=st.none() | st.integers(1, 14), pad=st.booleans(),
)  # fmt: skip
def test_windows(length, channels, size, step, pad):
    stream = np.arange(length * channels).reshape(length, channels)
    if length < size and not pad:
        with pytest.raises(ValueError, match=f"a stream of {length} samples holds no window of"):
            windows(stream, size, step)
        return
    cut = windows(stream, size, step, pad=pad)
    stride = step or size
    count = (math.ceil if pad else math.floor)(max(length - size, 0) / stride) + 1
    assert cut.shape == (count, channels, size)
    for i, window in enumerate(cut):
        at = np.minimum(np.arange(size) + i * stride, length - 1)
        np.testing.assert_array_equal(window, stream[at].T)
    if not pad:
        assert np.shares_memory(cut, stream) and not cut.flags.writeable


def test_labels_are_those_of_most_samples():
    labels = np.array([0, 0, 0, 2, 2, 1, 2, 1, 1, -1])
    assert window_labels(labels, 10, 3).tolist() == [0, 2, 1]
    assert window_labels(labels, 10, 4, 2).tolist() == [0, 2, 1, 1]
    assert window_labels(labels, 10, 4, pad=True).tolist() == [
        0,
        1,
        -1,
    ]  # of 2, 1, 2, 1 the smallest
    segments = [(1, 4, 5), (3, 9, 2)]
    assert window_labels(segments, 10, 1).tolist() == [-1, 5, 5, 2, 2, 2, 2, 2, 2, -1]
    assert window_labels([], 10, 5).tolist() == [-1, -1]


def test_a_set_of_windows():
    stream = np.arange(40, dtype=np.int16).reshape(20, 2)
    data = WindowDataset(stream, 4, 2, labels=[(0, 6, 1), (12, 20, 0)])
    assert [y.item() for _, y in data] == [1, 1, 0, 0, 0]
    x, y = next(iter(DataLoader(data, 5)))
    assert x.shape == (5, 2, 4) and x.dtype == np.int16 and y.dtype == np.int64
    np.testing.assert_array_equal(x.numpy()[2], stream[12:16].T)  # 10 to 13 is half without a label
    others = WindowDataset(stream, 4, 2, labels=[(0, 6, 1), (12, 20, 0)], background=2)
    assert [y.item() for _, y in others] == [1, 1, 2, 2, 2, 2, 0, 0, 0]
    (alone,) = WindowDataset(stream[:, 0], 8, pad=True)[2]
    assert alone.tolist() == [[32, 34, 36, 38, 38, 38, 38, 38]]
    both = ConcatDataset([data, WindowDataset(stream, 4, labels=np.zeros(20, int))])
    assert len(both) == 5 + 5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: windows(np.zeros((3, 2, 1)), 2), r"shape is \(3, 2, 1\)"),
        (lambda: windows(np.zeros((0, 2)), 2, pad=True), "T at least 1"),
        (lambda: windows(np.zeros(5), 0), "size 0 and step 0 must be positive"),
        (lambda: windows(np.zeros(5), 2, -1), "step -1"),
        (lambda: window_labels(np.zeros(4, int), 5, 2), r"int64 of shape \(4,\): give \(5,\)"),
        (lambda: window_labels(np.zeros(5), 5, 2), "float64"),
        (lambda: window_labels(np.full(5, -2), 5, 2), "whole numbers from 0"),
        (lambda: window_labels([(2, 9, 1)], 5, 2), "segment 2 to 9 does not lie in a stream of 5"),
        (lambda: window_labels([(3, 3, 1)], 5, 2), "segment 3 to 3"),
    ],
)
def test_bad_windows_are_refused_in_one_sentence(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
