"""tito data show: what a file holds is said, and what spoils a test is named."""

import json

import numpy as np
import pytest

from tinytorch.data.collection import append, load
from tito import cli
from tito.verbs.data import draw

RNG = np.random.default_rng(1)


def tone(level: float, seconds: float = 0.5) -> np.ndarray:
    """int16 (T, 1) at 8 kHz."""
    t = np.arange(int(8000 * seconds))
    pitch = 0.1 + RNG.random()
    return np.clip(np.rint(level * np.sin(pitch * t)), -32768, 32767).astype(np.int16)[:, None]


def show(capsys, *words):
    """The status, what it printed, its JSON, its stderr."""
    status = cli.main(["data", "show", *map(str, words), "--json"])
    out, err = capsys.readouterr()
    return status, out, json.loads(out.splitlines()[-1]), err


@pytest.fixture
def words(tmp_path):
    """Six words: 1 is clipped, 2 is silent, 3 is 0 again in another split, 5 is 4 again."""
    path = tmp_path / "words.npz"
    first, again = tone(9000), tone(900)
    append(path, [first, tone(90000)], "yes", 8000, who="Ada")
    append(path, [np.full((4000, 1), 5, np.int16)], "no", 8000)
    append(path, [first], "no", 8000, split="test", who="Ada")
    append(path, [again, again], "yes", 8000, split="test", who="Bob")
    return path


def test_what_a_file_holds(words, capsys):
    picture = words.with_suffix(".png")
    status, said, figures, err = show(capsys, words, "--picture", picture)
    assert (status, err) == (0, "")
    assert (figures["recordings"], figures["seconds"], figures["rate"]) == (6, 3, 8000)
    assert (figures["kind"], figures["channels"]) == ("sound", 1)
    assert figures["classes"] == {"yes": {"train": 2, "test": 2}, "no": {"train": 1, "test": 1}}
    assert figures["people"] == {"train": 1, "test": 2}
    assert figures["people_in_two_splits"] == ["Ada"]
    assert figures["clipped"] == [1] and figures["silent"] == [2]
    assert figures["identical"] == [[0, 3], [4, 5]]
    assert figures["peak"]["highest"] == 32768
    assert "recordings 0 (train), 3 (test): they spoil a test" in said
    assert "recordings 4 (test), 5 (test)\n" in said
    assert "Ada: a test needs people of its own" in said
    assert max(map(len, said.splitlines()[:-3])) <= 80
    assert picture.read_bytes().startswith(b"\x89PNG") and figures["picture"] == str(picture)


def test_motion_of_several_lengths(tmp_path, capsys):
    path = tmp_path / "strokes.npz"
    held = np.full((30, 6), 100, np.int16)
    held[::2] = 1000
    held[10:13, 1] = -2000
    append(path, [RNG.integers(-900, 900, (50, 6), dtype=np.int16), held], "wing", 25)
    append(path, [np.full((9, 6), 1000, np.int16)], "löop 圈", 25, split="dev")
    status, said, figures, _ = show(capsys, path, "--picture", tmp_path / "strokes.png")
    assert status == 0 and figures["kind"] == "motion"
    assert figures["clipped"] == [1] and figures["silent"] == [2]
    assert figures["people"] == {} and "\n  people" not in said
    assert "0.36 to 2.00 s" in said


def test_recordings_shorter_than_a_window_are_drawn(tmp_path):
    append(tmp_path / "clicks.npz", [np.full((3, 1), 7, np.int16)], "a", 16000)
    assert draw("clicks", load(tmp_path / "clicks.npz")).startswith(b"\x89PNG")


def test_what_cannot_be_shown(tmp_path, words, capsys):
    assert show(capsys, tmp_path / "none.npz")[0] == 2
    (tmp_path / "text.npz").write_text("yes")
    status, _, figures, err = show(capsys, tmp_path / "text.npz")
    assert status == 1 and "not an .npz" in figures["error"] and err.count("\n") == 1
    assert show(capsys, words, "--picture", tmp_path / "no folder" / "a.png")[0] == 2
