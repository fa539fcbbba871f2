"""Recordings of sound: files in all their forms, joined, cut to length, and numbered for a model.

Motion and all that is common is in test_datasets.
"""

import numpy as np
import pytest

from tinytorch.data import datasets
from tinytorch.data.recordings import MULAW, MULAW_VALUES, read, read_all

RATE = 8000
NOISE = np.random.default_rng(0).integers(-9000, 9000, (4, 1000)).astype(np.int16)


@pytest.fixture
def written(tmp_path):
    """Writes four sounds in two of three classes, with changes, and gives the path."""

    def write(name="words.npz", **changed):
        arrays = {
            "data": NOISE,
            "label": np.array([2, 0, 2, 0], np.uint8),
            "split": np.array(["train", "train", "home", "home"]),
            "sample_rate": np.int32(RATE),
            "classes": np.array(["_silence_", "no", "yes"]),
            **changed,
        }
        np.savez(tmp_path / name, **{k: v for k, v in arrays.items() if v is not None})
        return tmp_path / name

    return write


def test_sound_in_all_its_forms(written):
    ragged = {"data": NOISE.ravel(), "offsets": np.array([0, 10, 900, 2500, 4000])}
    for changed, lengths in (
        ({}, [1000] * 4),
        ({"data": NOISE[..., None]}, [1000] * 4),
        ({"data": NOISE.astype(np.int32)}, [1000] * 4),
        (ragged, [10, 890, 1600, 1500]),
        ({**ragged, "data": NOISE.reshape(-1, 1)}, [10, 890, 1600, 1500]),
    ):
        found = read(written(**changed, speaker=np.array(list("abca"))))
        assert found.is_sound and (found.rate, found.channels, found.made) == (RATE, 1, "")
        assert [s.shape for s in found.signals] == [(n, 1) for n in lengths]
        assert all(s.dtype == np.int16 for s in found.signals)
        np.testing.assert_array_equal(np.concatenate(found.signals)[:, 0], NOISE.ravel())
        assert found.subjects.tolist() == list("abca")
        # One array in all, of which these are views.
        assert {id(s.base) for s in found.signals} == {id(found.signals[0].base)}


def test_mulaw_is_decoded_as_it_is_defined(written):
    codes = np.arange(256, dtype=np.uint8).reshape(4, 64)
    found = np.concatenate(read(written(data=codes, encoding=np.array(MULAW))).signals)[:, 0]
    for code in (0, 1, 50, 127, 128, 200, 255):
        m = code / 127.5 - 1
        expected = round(32767 * np.copysign((256 ** abs(m) - 1) / 255, m))
        assert found[code] == expected == MULAW_VALUES[code]
    assert (found[0], found[255]) == (-32767, 32767) and np.all(np.diff(found.astype(int)) > 0)
    assert read(written(data=codes, encoding=np.array(MULAW.encode()))).is_sound


def test_what_is_slow_or_has_several_axes_is_motion(written):
    assert not read(written(data=NOISE[..., None], sample_rate=np.float32(100))).is_sound
    assert not read(written(data=NOISE.reshape(4, 500, 2))).is_sound


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"data": NOISE / np.float32(32768)}, "type float32: write int16 samples, 32767 for full"),
        ({"data": (NOISE / 32768)[..., None]}, "type float64: write int16"),
        ({"data": (NOISE >> 8).astype(np.uint8)}, "type uint8: write int16"),
        ({"data": NOISE.astype(np.int32) * 9}, "not fit in int16: write int16 samples"),
        ({"data": NOISE * 0}, "nothing but zeros in it: write int16 samples"),
        ({"encoding": np.array(MULAW)}, f"type int16 and not the bytes of {MULAW}"),
        ({"encoding": np.array("mp3")}, "the encoding 'mp3': write int16, or mulaw"),
        ({"data": NOISE.ravel()}, "1 axes and no offsets"),
        ({"sample_rate": np.int32(100)}, "2 axes and no offsets"),
    ],
)
def test_bad_sound_is_refused_in_one_sentence(written, changed, word):
    with pytest.raises(ValueError, match=word) as caught:
        read(written(**changed))
    assert "words.npz" in str(caught.value) and str(caught.value)[-1] == "."


def test_several_files_are_one_set(written):
    a = written("a.npz", speaker=np.array(list("aabb")))
    b = written(
        "b.npz",
        data=NOISE[:3, :500],
        label=np.array([1, 1, 1]),
        split=np.array(["test"] * 3),
        speaker=np.array(["c"] * 3),
    )
    both = read_all([a, b])
    assert [len(s) for s in both.signals] == [1000] * 4 + [500] * 3
    assert both.labels.tolist() == [2, 0, 2, 0, 1, 1, 1]
    assert both.split_names == ["train", "home", "test"]
    assert both.subjects.tolist() == list("aabbccc")
    assert "a.npz" in both.source and "b.npz" in both.source
    assert read_all([a]).source == read(a).source
    assert read_all([written("c.npz"), b]).subjects is None
    for changed, word in (
        ({"sample_rate": np.int32(16000)}, r"sample rates \(8000.0 and 16000.0\)"),
        ({"data": NOISE.reshape(4, 500, 2)}, r"channels \(1 and 2\)"),
        ({"classes": np.array(["no", "yes", "go"])}, "other classes"),
    ):
        with pytest.raises(ValueError, match=rf"a.npz and d.npz have .*{word}.*give files that"):
            read_all([a, written("d.npz", **changed)])


def test_load_takes_one_path_or_several_and_leaves_out_empty_classes(written):
    one, path = written("b.npz", label=np.array([1, 1, 1, 1])), written()
    found = datasets.load(path)
    assert found.classes == ["_silence_", "yes"] and found.labels.tolist() == [1, 0, 1, 0]
    assert datasets.load(str(path)).classes == found.classes
    assert datasets.load([path, one]).classes == ["_silence_", "no", "yes"]
    assert datasets.load((path,)).source == found.source
    with pytest.raises(ValueError, match="no data file in the list: give one or more"):
        datasets.load([])


def test_clips_have_one_length(written):
    offsets = np.array([0, 10, 901, 2501, 4000])
    found = read(written(data=NOISE.ravel(), offsets=offsets, label=np.array([2, 0, 1, 1])))
    x, labels = found.clips("train", 900)
    assert x.shape == (2, 900) and x.dtype == np.int16 and labels.tolist() == [2, 0]
    flat = NOISE.ravel()
    np.testing.assert_array_equal(x[0], np.pad(flat[:10], 445))
    np.testing.assert_array_equal(x[1], np.pad(flat[10:901], (5, 4)))
    x, labels = found.clips("home", 900)  # a name of one's own
    assert labels.tolist() == [1, 1]
    np.testing.assert_array_equal(x[0], flat[901 + 350 : 901 + 1250])
    np.testing.assert_array_equal(x[1], flat[2501 + 299 : 2501 + 1199])
    with pytest.raises(ValueError, match="Recording 0 has 10 samples, .* record 320 or more"):
        found.clips("train", 900, least=320)
    assert len(found.clips("home", 900, least=320)[0]) == 2
    with pytest.raises(ValueError, match="'test': these splits exist: train, home"):
        found.clips("test", 900)


def test_sound_for_a_model(written):
    features = {"kind": "sound", "rate": RATE}
    found = read(written())
    numbered = found.for_model(features, ["yes", "_silence_"])  # nobody says "no" in the file
    assert numbered.labels.tolist() == [0, 1, 0, 1] and numbered.classes == ["yes", "_silence_"]
    for changed, labels, word in (
        (
            {"rate": 16000},
            ["yes"],
            "have 8000 Hz and the model listens at 16000 Hz: use recordings",
        ),
        ({"rate": 8001}, ["yes"], "listens at 8001 Hz"),
        ({"kind": "motion", "channels": 1}, ["yes"], "not made for recordings of sound"),
        ({}, ["yes", "no"], "class '_silence_', which the model does not know: it knows yes, no"),
    ):
        with pytest.raises(ValueError, match=word):
            found.for_model({**features, **changed}, labels)
