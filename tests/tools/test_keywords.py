"""The demo on words, made here: from recordings to a kit that hears them, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

CLASSES = ["low", "high", "_unknown_", "_silence_"]


def write(
    path: Path, rate: int = 8000, seconds: float = 1.0, splits=("train", "val", "test"), kinds=4
):
    """Words are tones, another word is a click, and all stand in some noise."""
    rng = np.random.default_rng(len(splits))
    data, labels, names = [], [], []
    at = np.arange(int(rate * seconds)) / rate
    for split in splits:
        for i in range(48 if split == "train" else 12):
            label = i % kinds
            start = rng.uniform(0.2, 0.5) * seconds
            inside = (at > start) & (at < start + 0.3 * seconds)
            tone = np.sin(2 * np.pi * (300, 1500, 0, 0)[label] * rng.uniform(0.9, 1.1) * at)
            x = 6000 * tone * inside + rng.normal(0, 40, len(at))
            if label == 2:
                x += 8000 * inside * (rng.random(len(at)) < 0.01)
            data.append(np.rint(x).astype(np.int16))
            labels.append(label)
            names.append(split)
    np.savez(
        path, data=np.stack(data), label=labels, split=names, sample_rate=rate, classes=CLASSES
    )
    return path


def test_a_kit_hears_words_and_what_is_wrong_is_said(home, tmp_path):
    words = write(tmp_path / "words.npz")

    def tito(*arguments: object) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "tito.cli", *map(str, arguments), "--json"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    run = tito("demo", "keyword", "--data", words, "--epochs", 2, "--samples", 6, "--out", "k.tt")
    assert run.returncode == 0, run.stderr
    figures = json.loads(run.stdout.splitlines()[-1])
    assert figures["accuracy_float"] > 0.7 and figures["simulated"] is False
    assert figures["bit_exact"] == figures["kit_samples"] == 6 and figures["samples"] == 12
    assert abs(figures["ram_predicted"] / figures["ram_measured"] - 1) <= 0.1
    assert figures["us_per_second"] > 0 and figures["free_heap"] > 60_000
    assert figures["stream_seconds"] == 600 and 0 <= figures["false_rejects"] <= 1
    assert (tmp_path / "keyword.png").read_bytes().startswith(b"\x89PNG")

    other = write(tmp_path / "other.npz", splits=("never", "seen"))
    found = json.loads(
        tito("evaluate", "k.tt", "--data", other, "--split", "seen").stdout.split("\n")[-2]
    )
    assert found["samples"] == 12 and found["accuracy_int8"] > 0.7

    for arguments, says in (
        (("--data", write(tmp_path / "fast.npz", rate=16000)), "the model listens at 8000 Hz"),
        (("--data", write(tmp_path / "short.npz", seconds=0.01)), "too few for a clip"),
        (("--data", words, "--split", "none"), "these splits exist: train, val, test"),
    ):
        run = tito("evaluate", "k.tt", *arguments)
        assert run.returncode == 1 and says in run.stderr and run.stderr.count("\n") == 1
    run = tito("demo", "gesture", "--data", words)
    assert run.returncode == 1 and "use `tito demo keyword` for them" in run.stderr


def test_keywords_alone_are_enough(home, tmp_path):
    """Those of one's own, without other words and silence: only the false accepts are missing."""
    words = write(tmp_path / "mine.npz", splits=("train",), kinds=2)
    command = [sys.executable, "-m", "tito.cli", "demo", "keyword", "--data", str(words), "--json"]
    run = subprocess.run(
        [*command, "--epochs", "1", "--width", "8", "--samples", "2"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    figures = json.loads(run.stdout.splitlines()[-1])
    assert figures["bit_exact"] == 2 and "false_accepts_per_hour" not in figures
    assert "add clips of other words and of noise" in run.stdout
    assert (tmp_path / "keyword.png").read_bytes().startswith(b"\x89PNG")
