"""The store, in MicroPython on a flash in RAM."""

import subprocess
from pathlib import Path

from tests.conftest import ROOT, micropython

HERE = Path(__file__).parent


def run(script: str) -> str:
    path = ":".join(str(p) for p in (ROOT / "device", ROOT / "shared", HERE))
    command = [micropython(), "-X", "heapsize=2m", str(HERE / script)]
    env = {"MICROPYPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr or done.stdout
    assert not done.stderr
    return done.stdout


def test_no_power_cut_loses_a_model():
    cuts, resumed = map(int, run("power_cut.py").split())
    assert cuts > 200
    assert resumed > cuts / 2


def test_a_full_flash_loses_nothing():
    run("flash_full.py")
