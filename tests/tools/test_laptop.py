"""The laptop's microphone: ALSA's file device takes its place, behind the real PortAudio."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tinytorch.data.collection import load

ALSA = Path("/usr/share/alsa/alsa.conf")
DEVICE = """
pcm.!default { type plug slave.pcm replay }
pcm.replay { type file slave.pcm nothing file /dev/null infile "RAW" format raw }
pcm.nothing { type null }
"""
WORDS = ["record", "keyword", "--label", "yes", "--kit", "laptop", "--countdown", "0"]


def run(folder, *more, before="pass", **environment):
    """The command in a process of its own, after the Python statement `before`."""
    code = f"import sys; {before}; from tito import cli; sys.exit(cli.main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *WORDS, "--out", folder / "mine.npz", *more],
        cwd=ROOT, env={"HOME": str(folder), **environment}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture
def portaudio():
    if not ALSA.exists():
        pytest.skip("There is no ALSA here.")
    try:
        return pytest.importorskip("sounddevice")
    except OSError as error:
        pytest.skip(f"There is no PortAudio here: {error}")


def test_what_the_microphone_hears_is_in_the_file(tmp_path, portaudio):
    heard = np.random.default_rng(1).integers(-9000, 9000, 40000, dtype=np.int16)
    (tmp_path / "heard.raw").write_bytes(heard.astype("<i2").tobytes())
    (tmp_path / "alsa").write_text(DEVICE.replace("RAW", str(tmp_path / "heard.raw")))
    done = run(tmp_path, ALSA_CONFIG_PATH=f"{ALSA}:{tmp_path / 'alsa'}")
    assert (done.returncode, done.stderr) == (0, "")
    there = load(tmp_path / "mine.npz")
    assert there.rate == 16000 and there.channels == 1
    np.testing.assert_array_equal(there.signal(0)[:, 0], heard[:16000])


def test_a_laptop_without_a_microphone(tmp_path, portaudio):
    if any(device["max_input_channels"] for device in portaudio.query_devices()):
        pytest.skip("There is a microphone here.")
    done = run(tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "no microphone that gives 8000 Hz" in done.stderr and "plug one in" in done.stderr


def test_without_the_package(tmp_path):
    done = run(tmp_path, before="sys.modules['sounddevice'] = None")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "pip install tinytorch[mic]" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PortAudio comes with the package")
def test_without_portaudio(tmp_path):
    if not find_spec("sounddevice"):
        pytest.skip("There is no package sounddevice here.")
    done = run(tmp_path, before="import ctypes.util; ctypes.util.find_library = lambda name: None")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "apt install libportaudio2" in done.stderr
