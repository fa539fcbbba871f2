"""The board's script of the gesture example, in MicroPython: its answers are the laptop's."""

import subprocess
from pathlib import Path

import numpy as np

from tests.conftest import ROOT, micropython
from tests.networks import fill
from tinytorch import nn
from tinytorch.export import to_bytes
from tinytorch.features import motion_features, network_input, quantize_windows
from tinytorch.quantize import Quant, quantize
from tinytorch.runtime import Model
from tinytorch_core.dsp import SCALE, ZERO_POINT

HERE = Path(__file__).parent
WINDOW = 16


def test_a_replay_gets_the_laptops_answers(tmp_path):
    rng = np.random.default_rng(0)
    stream = np.clip(rng.normal(0, 800, (200, 3)), -32768, 32767).astype(np.int16)
    every = range(0, len(stream) - WINDOW + 1, WINDOW // 4)
    windows = np.stack([stream[at : at + WINDOW] for at in every])
    features = motion_features(windows, rate=1000)
    x = quantize_windows(windows, features)
    net = nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(56, 3))
    fill(net, rng)
    labels = ["ring", "slope", "wing"]
    model = Model(to_bytes(quantize(
        net, network_input(x), name="gesture", labels=labels, input=Quant(SCALE, ZERO_POINT),
        features=features,
    )))  # fmt: skip
    (tmp_path / "gesture.tt").write_bytes(model.data)
    (tmp_path / "replay.bin").write_bytes(stream.astype("<i2").tobytes())
    path = ":".join(str(p) for p in (ROOT / "device", ROOT / "shared", HERE))
    files = (ROOT / "examples/gesture/run.py", tmp_path / "gesture.tt", tmp_path / "replay.bin")
    done = subprocess.run(
        [micropython(), "-X", "heapsize=2m", str(HERE / "run_example.py"), *map(str, files)],
        capture_output=True, text=True, timeout=60, env={"MICROPYPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr or done.stdout
    said, *answers = done.stdout.splitlines()
    assert said.startswith("replaying /replay.bin")
    expected = [labels[best] for best in model.predict_batch(x)]
    assert [line.split()[0] for line in answers] == expected
    assert len(set(expected)) > 1
