"""Microphones: conversion to int16 as specified, and the I2S driver on the virtual kit."""

import json
import subprocess
import wave

import numpy as np
import pytest
from scipy import signal

from tests.conftest import ROOT, micropython
from tito.board.device import connect
from tito.board.repl import Repl
from tito.errors import TitoError, UsageError
from tito.kits import microphone, pdm
from tito.kits.open import open_kit


def filtered(x, gain, dc=0):
    """The specification in tinytorch.sensors.pcm, on samples of 22 bits."""
    out, right = [], 6 - gain
    for value in x:
        y = int(value) - (dc >> 9)
        dc += y
        out.append(min(max(y + (1 << right >> 1) >> right, -32768), 32767))
    return np.array(out, np.int16)


def of_hex(text):
    return np.frombuffer(bytes.fromhex(text), "<i2")


def sound(seed=1, n=1600, rate=8000):
    rng = np.random.default_rng(seed)
    made = 3000 * np.sin(np.arange(n) * 2 * np.pi * 440 / rate) + rng.normal(0, 300, n)
    return made.astype(np.int16)


def on_the_board(code):
    path = ":".join(str(ROOT / p) for p in ("device", "shared", "tests/device"))
    run = subprocess.run(
        [micropython(), "-c", f"import check_sensors as c, json; print(json.dumps({code}))"],
        capture_output=True, text=True, timeout=60, env={"MICROPYPATH": path},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr or run.stdout
    return json.loads(run.stdout)


def test_conversion_is_as_specified():
    rng = np.random.default_rng(3)
    # As loud as can be with both signs, some of it for so long that the filter follows.
    words = rng.integers(-(2**31), 2**31, 512)
    words[100:200], words[200:300] = 2**31 - 1, -(2**31)
    adc = rng.integers(0, 4096, 512)
    adc[100:200], adc[200:300] = 4095, 0
    asked, wanted = [], []
    for gain in (0, 4, 6):
        dc = int(rng.integers(-(2**30), 2**30))
        data = words.astype("<i4").tobytes()
        asked.append(f"c.converted('words', {gain}, {dc}, {data!r}, [7, 8, 300])")
        wanted.append(filtered(words >> 10, gain, dc))
        # The four upper bits are not the sample's: the highest is set where a conversion failed.
        data = (adc | rng.integers(0, 16, 512) << 12).astype("<u2").tobytes()
        asked.append(f"c.converted('adc', {gain}, {dc}, {data!r}, [7, 8, 300])")
        wanted.append(filtered((adc - 2048) << 10, gain, dc))
    for got, want in zip(on_the_board(f"[{', '.join(asked)}]"), wanted, strict=True):
        np.testing.assert_array_equal(of_hex(got), want)


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A virtual kit for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYTORCH_HOME", str(tmp_path_factory.mktemp("home")))
        with open_kit("virtual", sound=sound(), sound_rate=8000) as kit:
            connect(kit).close()
            source = (ROOT / "tests/device/check_sensors.py").read_text()
            with Repl(kit.port, kit.timeout_scale) as repl:
                repl.enter()
                repl.exec(f"with open('/check_sensors.py', 'w') as f: f.write({source!r})")
            yield kit


def ask(kit, code):
    """What an expression gives on the kit, where `c` is check_sensors and INMP441 the driver."""
    with Repl(kit.port, kit.timeout_scale) as repl:
        repl.enter()
        lines = "import json, check_sensors as c\nfrom tinytorch.sensors.i2s import INMP441\n"
        return json.loads(repl.exec(f"{lines}print(json.dumps({code}))", timeout=20))


def test_inmp441_gives_what_it_hears_and_then_a_quiet_room(kit):
    kit.play(sound(), 8000)
    got, sizes, lost, allocated = ask(kit, "c.read(INMP441(8000), 1280, 4)")
    assert (sizes, lost) == ([1280] * 4, 0)
    assert allocated < 640  # the driver's port is written in Python here: see the Pico's test
    got = of_hex(got)
    np.testing.assert_array_equal(got[:1600], filtered(sound().astype(int) << 2, 4))
    assert 2 < got[2000:].std() < 32


def test_inmp441_at_the_other_rate_and_gain(kit, tmp_path):
    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as f:
        f.setparams((2, 2, 44100, 0, "NONE", ""))
        f.writeframes(np.repeat(sound(n=4407, rate=44100), 2).astype("<i2").tobytes())
    kit.play(path)
    got, sizes, lost, _ = ask(kit, "c.read(INMP441(16000, gain=5), 1280, 2)")
    assert (sizes, lost) == ([1280] * 2, 0)
    heard = np.rint(signal.resample(sound(n=4407, rate=44100), 1599)).astype(int)
    np.testing.assert_array_equal(of_hex(got), filtered(heard[:1280] << 2, 5))


def test_lost_samples_are_counted(kit):
    kit.play(sound(), 8000)
    counted, dropped = ask(kit, "c.overrun(INMP441(8000, buffer=4096), 150)")
    assert dropped > 1000  # two pauses of 150 ms, with a buffer of 64 ms
    assert dropped <= counted <= dropped + 400  # what came while the kit had to wait for its turn


def test_without_a_microphone_there_is_nothing(kit):
    kit.play(None)
    got, sizes, lost, _ = ask(kit, "c.read(INMP441(), 640, 1)")
    assert (sizes, lost, of_hex(got).any()) == ([640], 0, False)


def test_what_a_microphone_cannot_do_is_said(kit):
    tried = {
        "INMP441(44100)": "8000 to 48000 Hz in thousands, not 44100",
        "INMP441(8000, gain=7)": "0 to 6 (each step doubles), not 7",
        "INMP441(8000, buffer=256)": "256 bytes is too small: 8192 do",
        "INMP441(8000, ws=3)": "pins sck=16, ws=3, sd=18",
        "Microphone(8000)": "needs a board with an RP2040",
    }
    code = "\n".join(
        [
            "from tinytorch.sensors.adc import Microphone",
            "def said(make):",
            "    try: make()",
            "    except ValueError as error: return str(error)",
            f"c.said = [{', '.join(f'said(lambda: {name})' for name in tried)}]",
        ]
    )
    for sentence, found in zip(
        tried.values(), ask(kit, f"(exec({code!r}), c.said)[1]"), strict=True
    ):
        assert sentence in found


def test_what_is_not_a_recording_is_refused(tmp_path):
    for made, rate, sentence in (
        (np.zeros(5, np.float32), 8000, "int16 of shape"),
        (np.zeros((5, 2), np.int16), 8000, "int16 of shape"),
        (np.zeros(5, np.int16), None, "give the rate"),
    ):
        np.save(tmp_path / "bad.npy", made)
        with pytest.raises(TitoError, match=sentence):
            microphone.read(tmp_path / "bad.npy", rate)
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    with pytest.raises(TitoError, match="cannot be read as a .wav"):
        microphone.read(tmp_path / "bad.wav", None)
    with pytest.raises(UsageError, match="has its own microphone"):
        open_kit("/dev/ttyACM0", sound=sound(), sound_rate=8000)


@pytest.mark.parametrize(("n", "old", "new"), [(801, 8000, 16000), (1002, 16000, 8000), (7, 3, 8)])
def test_resampling_is_scipys(n, old, new):
    x = np.random.default_rng(n).normal(0, 1000, n)
    want = signal.resample(x, round(n * new / old))
    np.testing.assert_allclose(microphone.resample(x, old, new), want, atol=1e-6)


def test_boards_with_pdm_microphones():
    said = pdm.advice("Seeed XIAO ESP32S3 with ESP32S3")
    assert "XIAO ESP32S3 Sense speaks PDM" in said and "INMP441" in said
    assert not pdm.advice("M5Stack AtomS3 Lite with ESP32S3")
    assert not pdm.advice("Raspberry Pi Pico with RP2040")
    assert "Arduino Nano RP2040 Connect (MP34DT06)" in pdm.table()
