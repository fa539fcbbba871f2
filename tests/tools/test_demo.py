"""The demo on real recordings reaches the figures that the README gives."""

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT

RECORDINGS = ROOT.parent / "shared" / "data" / "gesture_magicwand_25hz.npz"


@pytest.mark.skipif(not RECORDINGS.exists(), reason=f"no recordings: {RECORDINGS.name} is not here")
def test_the_demo_on_the_magic_wand_recordings(home, tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "tito.cli", "demo", "gesture", "--json", "--out", "wand.tt"]
        + ["--data", str(RECORDINGS)],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    figures = json.loads(run.stdout.splitlines()[-1])
    assert figures["simulated"] is False
    assert figures["accuracy_float"] >= 0.96
    assert abs(figures["accuracy_int8"] - figures["accuracy_float"]) <= 0.01
    assert figures["accuracy_kit"] == figures["accuracy_int8"]
    assert figures["bit_exact"] == figures["samples"] >= 131
    assert figures["model_bytes"] == (tmp_path / "wand.tt").stat().st_size <= 40 * 1024
    assert abs(figures["ram_predicted"] / figures["ram_measured"] - 1) <= 0.1
    assert (tmp_path / "gesture.png").read_bytes().startswith(b"\x89PNG")
