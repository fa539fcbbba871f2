"""tito monitor: what a kit hears, as it is shown and as it is reported."""

import argparse
import json
import os
import pty
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pytest

from tests.tools.test_listen import DETECT, LABELS, RATE, audio, hearing
from tinytorch.modelfile.runtime import Model
from tinytorch_core.detector import Detector
from tito.board.device import Step, connect
from tito.cli import parser
from tito.errors import TitoError, UsageError
from tito.verbs import monitor

MOTION = {"kind": "motion", "rate": 24.0, "channels": 3, "window": 8, "shift": [5, 5, 5]}


@pytest.fixture
def model(tmp_path) -> Path:
    (tmp_path / "m.tt").write_bytes(hearing())
    return tmp_path / "m.tt"


def write_wav(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    with wave.open(str(path), "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(rate)
        f.writeframes(samples.astype("<i2").tobytes())
    return path


def words(*words: object) -> argparse.Namespace:
    return parser().parse_args(["monitor", *map(str, words)])


def run(*given: object) -> dict:
    return monitor.run(words(*given))


def expected_events(steps: np.ndarray) -> list[dict]:
    model, detector, found = Model(hearing()), Detector(LABELS, DETECT, 1), []
    for i, x in enumerate(steps):
        event = detector.update(model.run_batch(x.view(np.int8)[None]).tobytes())
        if event >= 0:
            found.append({"seconds": round(0.08 * (i + 1), 3), "label": LABELS[event]})
    return found


def test_a_recording_over_the_wire(virtual_kit, model, tmp_path, capsys):
    steps = audio(45)
    wav = write_wav(tmp_path / "x.wav", steps.reshape(-1)[:-10])
    found = run("--kit", virtual_kit.port, "--model", model, "--replay", wav)
    said = capsys.readouterr().out
    assert found["events"] == expected_events(steps[:-1])
    assert (found["steps"], found["seconds"]) == (44, 3.52)
    assert (found["lost"], found["stalls"]) == (0, 0)
    assert 0 < found["latency_us"]["p50"] <= found["latency_us"]["p95"]
    assert 0 < found["real_time"] < 1 and found["free_heap"] > 50_000
    lines = said.splitlines()
    assert sum(line.endswith((" s  up", " s  down")) for line in lines) == len(found["events"])
    assert said.count("a step (") == 3  # a line each second
    assert "listened" in said and max(map(len, lines)) <= 100
    # The model is there now, and the only one; a recording at another rate, cut short.
    np.savez(
        tmp_path / "x.npz", data=steps[:2].reshape(1, -1), label=np.array([0]),
        split=np.array(["test"]), sample_rate=4000, classes=np.array(["up"]),
    )  # fmt: skip
    again = run("--kit", virtual_kit.port, "--replay", tmp_path / "x.npz", "--seconds", 0.08)
    assert (again["model"], again["steps"]) == ("hearing", 1)


def test_motion_over_the_wire(virtual_kit, tmp_path):
    (tmp_path / "m.tt").write_bytes(hearing(12, MOTION))
    x = np.random.default_rng(5).normal(0, 2000, (60, 3)).astype(np.int16)
    np.save(tmp_path / "x.npy", x)
    replay = ("--replay", tmp_path / "x.npy")
    found = run("--kit", virtual_kit.port, "--model", tmp_path / "m.tt", *replay)
    assert (found["steps"], found["seconds"]) == (10, 2.5)  # six samples a step
    with pytest.raises(UsageError, match="feels no motion"):
        run("--kit", virtual_kit.port)
    with pytest.raises(TitoError, match="has no I2C"):
        run("--kit", virtual_kit.port, "--source", "mpu6050")


def test_in_a_terminal_until_ctrl_c(home, model, tmp_path):
    """A virtual kit hears a recording with its microphone, in real time."""
    wav = write_wav(tmp_path / "x.wav", audio(60).reshape(-1))
    command = [sys.executable, "-m", "tito.cli", "monitor", "--kit", "virtual", "--json"]
    command += ["--model", str(model), "--source", "i2s", "--replay", str(wav)]
    master, slave = pty.openpty()
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        said, end = b"", time.monotonic() + 30
        while b"heard      down" not in said and b"heard      up" not in said:
            said += os.read(master, 4096)
            assert time.monotonic() < end, said
        process.send_signal(signal.SIGINT)
        try:
            while data := os.read(master, 4096):
                said += data
        except OSError:  # it has ended
            pass
        assert process.wait() == 0
    os.close(master)
    shown = said.decode().splitlines()
    found = json.loads(shown[-1])
    assert 1 <= len(found["events"]) <= 3 and found["source"] == "i2s"
    assert "\x1b[6A" in said.decode() and "Traceback" not in said.decode()
    assert any(line.startswith("_silence_  ") for line in shown)


def test_what_is_wrong_is_one_sentence(virtual_kit, model, tmp_path):
    kit = virtual_kit.port
    short = write_wav(tmp_path / "short.wav", audio(1)[0, :100])
    for says, given in (
        ("no file", ["--replay", tmp_path / "none.wav"]),
        ("Only a virtual kit", ["--source", "i2s", "--replay", short]),
        ("has no model", []),
        ("shorter than one step", ["--model", model, "--replay", short]),
        ("no model 'other'", ["--model", "other"]),
        ("of sound does not listen", ["--source", "mpu6050", "--model", model]),
    ):
        with pytest.raises(TitoError, match=says):
            run("--kit", kit, *given)
    with connect(virtual_kit) as device:
        device.put_model(hearing(), name="second")
    with pytest.raises(UsageError, match="hearing, second: choose one"):
        run("--kit", kit)
    for given in (["--seconds", "0"], ["--pins", "sck"], ["--source", "radio"]):
        with pytest.raises(UsageError, match=given[0][2:]):
            words("--kit", kit, *given)


def step(**changes: object) -> Step:
    plain = Step(1000, 2000, 90000, 0, -1, bytes(3), bytes(3), 900)
    return plain._replace(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "heard, says",
    [
        ([step(peak=3)] * 38, "input is silent: check that the microphone"),
        ([step(peak=32768)] * 3, "input clips"),
        ([step(lost=7)], "Samples are lost: something keeps"),
        ([step(lost=7, run_us=90_000)], "Samples are lost: the kit is slower"),
        ([step(scores=b"", output=b"")], "sensor stalls"),
        ([step(peak=3)] * 37 + [step()] * 9 + [step(peak=32767)] * 2, ""),
    ],
)
def test_each_warning_comes_once(heard, says):
    about = {"rate": RATE, "channels": 1, "step_bytes": 1280, "kind": "sound", "labels": LABELS}
    session, said = monitor.ListenSession(about), []
    for found in [*heard, *heard[:1]]:
        session.take(found, 0)
        said += session.warnings()
    assert len(said) == bool(says) and says in "".join(said)
    assert all(sentence.endswith(".") for sentence in said)


def test_a_sensor_that_gives_nothing_any_more_ends_it():
    about = {"rate": RATE, "channels": 1, "step_bytes": 1280, "kind": "sound", "labels": LABELS}
    session = monitor.ListenSession(about)
    with pytest.raises(TitoError, match="gives no more samples"):
        for _ in range(10):
            session.take(step(scores=b"", output=b"", lost=800), 0)
    assert session.figures()["stalls"] == 10 and session.figures()["lost"] == 800
