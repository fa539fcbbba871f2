"""The boards' scripts of the examples, in MicroPython: their answers are the laptop's."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.conftest import ROOT, micropython
from tests.networks import fill
from tinytorch import nn
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.quantize.calibrate import quantize
from tinytorch.quantize.ir import Quant
from tinytorch.quantize.streaming import stream, with_sound
from tinytorch.sensing.mel import SCALE as SOUND_SCALE
from tinytorch.sensing.mel import Front, sound_features, tables_of
from tinytorch.sensing.motion import motion_features, network_input, quantize_windows
from tinytorch.sensing.spotting import detect_settings, detections, scores_of
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
    answers = said_by("gesture", tmp_path, model, stream)
    expected = [labels[best] for best in model.predict_batch(x)]
    assert [line.split()[0] for line in answers] == expected
    assert len(set(expected)) > 1


def said_by(name: str, folder: Path, model: Model, samples: np.ndarray) -> list[str]:
    """The lines that an example's script prints of a replay."""
    (folder / "model.tt").write_bytes(model.data)
    (folder / "replay.bin").write_bytes(samples.astype("<i2").tobytes())
    path = ":".join(str(p) for p in (ROOT / "device", ROOT / "shared", HERE))
    files = (ROOT / f"examples/{name}/run.py", folder / "model.tt", folder / "replay.bin")
    done = subprocess.run(
        [micropython(), "-X", "heapsize=2m", str(HERE / "run_example.py"), *map(str, files), name],
        capture_output=True, text=True, timeout=60, env={"MICROPYPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr or done.stdout
    said, *answers = done.stdout.splitlines()
    assert said.startswith("replaying /replay.bin")
    return answers


def test_words_in_a_replay_are_those_that_the_laptop_hears(tmp_path):
    rng = np.random.default_rng(1)
    labels = ["yes", "no", "go"]
    front = Front.usual(8000, bands=8)
    calm = rng.normal(0, 300, (20, 8000)).astype(np.int16)
    features = sound_features(calm, front, 8, 12)
    net = nn.Sequential(
        nn.Conv2d(1, 6, (4, 3), stride=(2, 1)), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 3),
    )  # fmt: skip
    fill(net, rng)
    x = rng.normal(0, 1, (50, 1, 12, 8)).astype(np.float32)
    window = quantize(net, x, name="keyword", labels=labels, input=Quant(SOUND_SCALE, 0))
    detect = detect_settings(0.3, labels, smooth=2, threshold=90, refractory=3)
    told = replace(window, features={**features, "detect": detect})
    model = Model(
        to_bytes(with_sound(stream(told, 4), tables_of(features), front.window, front.hop))
    )
    loud = 10 ** np.repeat(rng.uniform(1, 4.3, 40), 640)
    sound = np.clip(rng.normal(0, loud), -32768, 32767).astype(np.int16)
    scores = scores_of(model.run_stream(sound.reshape(1, -1, 640))[0][2:], detect)
    expected = [labels[label] for _, label in detections(scores, labels, detect, 90)]
    assert [line.split()[0] for line in said_by("keyword", tmp_path, model, sound)] == expected
    assert len(expected) > 2
