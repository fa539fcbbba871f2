"""tito record: what comes from a source is in the file, whatever ends it."""

import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from tinytorch.data.collection import append, load
from tito import cli
from tito.board.device import connect
from tito.errors import TitoError
from tito.kits.open import open_kit
from tito.verbs.record import KitSource, Session, Stop, words

RNG = np.random.default_rng(5)


class Tape:
    """A source of recorded samples (T, C); `end` says what comes then: nothing, or an error.

    at: position -> what happens before the samples there are read.
    """

    def __init__(self, samples, rate, end=None, at=None):
        self.rate, self.channels, self.lost = rate, samples.shape[1], 0
        self._data, self._at, self._end = samples.astype("<i2").tobytes(), 0, end
        self._events = at or {}

    def readinto(self, buffer):
        for at in [at for at in self._events if at <= self._at]:
            self._events.pop(at)(self)
        data = self._data[self._at : self._at + len(buffer)]
        if not data and self._end:
            raise self._end
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self):
        pass


def speech(seconds, at=(), rate=8000):
    """Soft noise, and a loud tone of 0.4 s around each moment in `at`: int16 (T, 1)."""
    t = np.arange(int(seconds * rate)) / rate
    x = RNG.normal(0, 30, len(t))
    for moment in at:
        x += 9000 * np.sin(2000 * t) * (np.abs(t - moment) < 0.2)
    return np.rint(x).astype(np.int16)[:, None]


def session(tmp_path, tape, *words, what="keyword"):
    """A command's figures and its file, without the part that opens a kit."""
    out = tmp_path / "mine.npz"
    line = ["record", what, "--kit", "laptop", "--out", str(out), "--countdown", "0"]
    args = cli.parser().parse_args([*line, "--label", "yes", *map(str, words)])
    with Stop() as stop:
        return Session(args, tape, out, stop).run()


def test_recordings_one_after_the_other(tmp_path, capsys):
    samples = speech(3)
    words = ("--count", 3, "--split", "val", "--who", "Ada")
    figures = session(tmp_path, Tape(samples, 8000), *words)
    there = load(tmp_path / "mine.npz")
    np.testing.assert_array_equal(np.concatenate([there.signal(i) for i in range(3)]), samples)
    assert there.classes == ["yes"] and there.splits == ["val"] * 3 and there.people == ["Ada"] * 3
    assert figures["recordings"] == figures["total"] == 3 and figures["seconds"] == 3
    said = capsys.readouterr().out
    assert "yes 2/3    1.0 of 1.0 s" in said and "mine.npz has 3" in said


def test_a_gesture_has_its_axes(tmp_path, capsys):
    samples = RNG.integers(-900, 900, (60, 6), dtype=np.int16)
    session(tmp_path, Tape(samples, 25), "--seconds", 2, what="gesture")
    np.testing.assert_array_equal(load(tmp_path / "mine.npz").signal(0), samples[:50])
    assert f"1.0 of 2.0 s  ax {samples[24, 0]:5} ay {samples[24, 1]:5}" in capsys.readouterr().out


@pytest.mark.parametrize("end", [None, TitoError("The kit is gone.")])
def test_what_came_before_the_cable_was_pulled_is_kept(tmp_path, capsys, end):
    samples = speech(2.5)
    with pytest.raises(TitoError, match=r"is gone\.|no more samples"):
        session(tmp_path, Tape(samples, 8000, end), "--count", 4)
    there = load(tmp_path / "mine.npz")
    assert [len(there.signal(i)) for i in range(3)] == [8000, 8000, 4000]
    np.testing.assert_array_equal(there.signal(2), samples[16000:])
    assert "kept       0.50 s" in capsys.readouterr().out


def test_ctrl_c_keeps_what_was_recorded(tmp_path, capsys):
    samples = speech(3)
    press = {16000 + 8000: lambda _: os.kill(os.getpid(), signal.SIGINT)}
    figures = session(tmp_path, Tape(samples, 8000, at=press), "--count", 3)
    assert figures["interrupted"] and figures["recordings"] == 2
    there = load(tmp_path / "mine.npz")
    np.testing.assert_array_equal(
        np.concatenate([there.signal(0), there.signal(1)]), samples[: len(there.signal(1)) + 8000]
    )
    assert 3900 < len(there.signal(1)) < 4400
    assert "recorded   2 recordings" in capsys.readouterr().out


def test_pressed_twice_ctrl_c_ends_it(tmp_path):
    def press(_):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        session(tmp_path, Tape(speech(1), 8000, at={0: press}))
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize(
    ("samples", "counted", "says"),
    [
        (np.zeros((8000, 1)), "silent", "It is silent: check that the microphone"),
        (np.full((8000, 1), -1), "silent", "It is silent"),
        (speech(1, [0.5]) * 4.0, "clipped", "It is clipped: move away"),
        (speech(1, [0.5]), None, ""),
    ],
)
def test_what_is_odd_is_said(tmp_path, capsys, samples, counted, says):
    samples = np.clip(samples, -32768, 32767).astype(np.int16)
    figures = session(tmp_path, Tape(samples, 8000))
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    assert len(said) == bool(counted) and says in "".join(said)
    assert {key: figures[key] for key in ("silent", "clipped")} == {
        key: int(key == counted) for key in ("silent", "clipped")
    }
    assert figures["recordings"] == 1


def test_quiet_is_right_where_silence_is_wanted(tmp_path, capsys):
    quiet = RNG.integers(-9, 9, (8000, 1), dtype=np.int16)
    session(tmp_path, Tape(quiet, 8000), "--label", "_silence_")
    assert "note" not in capsys.readouterr().out
    session(tmp_path, Tape(np.zeros((8000, 1)), 8000), "--label", "_silence_")
    assert "It is silent" in capsys.readouterr().out


def test_lost_samples_are_counted_and_said(tmp_path, capsys):
    def lose(tape):
        tape.lost += 123

    figures = session(tmp_path, Tape(speech(2), 8000, at={8000: lose}), "--count", 2)
    assert figures["lost"] == 123
    said = capsys.readouterr().out
    assert said.count("123 samples were lost on the way") == 1 and ", 123 lost\n" in said


def test_words_are_cut_out_of_a_long_recording(tmp_path, capsys):
    moments = [0.1, 1.5, 2.4, 5.9]
    samples = speech(6, moments)
    found = words(samples[:, 0], 8000)
    assert [at.stop - at.start for at in found] == [8000] * 4
    expected = [0, *(m - 0.5 for m in moments[1:3]), 5]
    np.testing.assert_allclose([at.start / 8000 for at in found], expected, atol=0.03)
    session(tmp_path, Tape(samples, 8000), "--seconds", 6, "--cut")
    there = load(tmp_path / "mine.npz")
    for i, at in enumerate(found):
        np.testing.assert_array_equal(there.signal(i), samples[at])
    assert "cut        4 words" in capsys.readouterr().out
    assert words(speech(0.5)[:, 0], 8000) == [slice(0, 4000)]
    assert words(np.zeros(20000, np.int16), 8000) == []


def test_a_recording_without_a_word_leaves_the_file_alone(tmp_path):
    figures = session(tmp_path, Tape(speech(3), 8000), "--seconds", 3, "--cut")
    assert figures["recordings"] == 0 and not (tmp_path / "mine.npz").exists()


# On a kit.


def test_what_a_virtual_kit_hears_is_in_the_file(home, tmp_path, capsys):
    out, heard = tmp_path / "mine.npz", [speech(0.5, [0.25]), speech(0.5, [0.1])]
    append(tmp_path / "heard.npz", heard, "any", 8000)
    line = ["record", "keyword", "--kit", "virtual", "--label", "yes", "--rate", "8000"]
    line += ["--replay", str(tmp_path / "heard.npz"), "--out", str(out)]
    assert cli.main([*line, "--count", "2", "--seconds", "0.5", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (figures["recordings"], figures["lost"], figures["rate"]) == (2, 0, 8000)
    there = load(out)
    for i, expected in enumerate(heard):  # but for what is taken away as DC
        assert len(there.signal(i)) == 4000
        assert np.corrcoef(there.signal(i)[:, 0], expected[:, 0])[0, 1] > 0.999
    before = out.read_bytes()
    line[line.index("8000")] = "16000"
    assert cli.main(line) == 1
    assert "record at 8000 Hz, or into another file" in capsys.readouterr().err
    assert out.read_bytes() == before


def test_a_kit_that_goes_away_leaves_what_it_gave(home, tmp_path, capsys):
    heard = speech(3, [0.5, 1.5, 2.5])[:, 0]
    with open_kit("virtual", sound=heard, sound_rate=8000) as kit, connect(kit) as device:
        source = KitSource(device, {"kind": "i2s"}, 8000, 1)
        timer = threading.Timer(1.2, kit.cut_power)
        timer.start()
        with pytest.raises(TitoError, match="went away"):
            session(tmp_path, source, "--seconds", 30)
        source.close()
        timer.join()
    there = load(tmp_path / "mine.npz")
    got = there.signal(0)[:, 0]
    assert 4000 < len(got) < 12000
    assert np.corrcoef(got, heard[: len(got)])[0, 1] > 0.999
    assert f"kept       {len(got) / 8000:.2f} s" in capsys.readouterr().out


def test_ctrl_c_ends_the_command_in_good_order(home, tmp_path):
    np.save(tmp_path / "heard.npy", speech(2, [0.5])[:, 0])
    words = ["record", "keyword", "--label", "yes", "--kit", "virtual", "--replay", "heard.npy"]
    with subprocess.Popen(
        [sys.executable, "-m", "tito.cli", *words, "--seconds", "60", "--rate", "8000", "--json"],
        cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:  # fmt: skip
        for line in process.stdout:
            if "1.0 of 60.0 s" in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    figures = json.loads(out.splitlines()[-1])
    assert figures["interrupted"] and figures["recordings"] == 1
    seconds = load(tmp_path / "keyword.npz").seconds[0]
    assert 1 <= seconds < 3 and figures["seconds"] == pytest.approx(seconds, abs=0.001)


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ("feels no motion", ("gesture", "--kit", "laptop")),
        ("leave --source and", ("keyword", "--kit", "laptop", "--source", "adc")),
        ("leave --source and", ("keyword", "--kit", "laptop", "--pins", "sck=1")),
        ("'sck=x' is not a pin", ("keyword", "--kit", "virtual", "--pins", "ws=1,sck=x")),
        ("leave --source out", ("gesture", "--kit", "virtual", "--source", "adc")),
        ("has no --axes", ("keyword", "--kit", "virtual", "--axes", "3")),
        ("Only a virtual kit", ("keyword", "--kit", "/dev/ttyX", "--replay", "a.wav")),
        ("no file nix.wav", ("keyword", "--kit", "virtual", "--replay", "nix.wav")),
        ("leave --cut out", ("gesture", "--kit", "virtual", "--cut")),
        ("not a number from 0.1", ("keyword", "--kit", "laptop", "--seconds", "nan")),
        ("not a number from 0.1", ("keyword", "--kit", "laptop", "--seconds", "0")),
        ("cannot be used", ("keyword", "--kit", "laptop", "--label", "")),
        ("cannot be used", ("keyword", "--kit", "laptop", "--who", "a\nb")),
    ],
)
def test_options_that_do_not_go_together(tmp_path, monkeypatch, capsys, says, words):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["record", "--label", "yes", *words]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
