"""Scores, detections and false accepts, equal to those of the board's own detector."""

import numpy as np
import pytest

from tinytorch.data.recordings import Recordings
from tinytorch.sensing import spotting
from tinytorch_core.detector import Detector

LABELS = ["yes", "no", "_unknown_", "_silence_"]


def random_outputs(rng: np.random.Generator, steps: int) -> np.ndarray:
    """int8 outputs (steps, labels) that stay with a label for a while, as those of words do."""
    holds = np.repeat(rng.integers(0, len(LABELS), steps), rng.integers(1, 12, steps))[:steps]
    outputs = rng.normal(-20, 25, (steps, len(LABELS)))
    outputs[np.arange(steps), holds] += rng.uniform(0, 120)
    return np.clip(outputs, -128, 127).astype(np.int8)


@pytest.mark.parametrize("seed", range(12))
def test_scores_and_keywords_are_the_boards(seed):
    rng = np.random.default_rng(seed)
    detect = spotting.detect_settings(
        rng.uniform(0.01, 0.3), LABELS, smooth=int(rng.integers(1, 9)),
        refractory=int(rng.integers(0, 20)), threshold=int(rng.integers(40, 256)),
    )  # fmt: skip
    outputs = random_outputs(rng, 400)
    detector, scores, found = Detector(LABELS, detect), [], []
    for step, output in enumerate(outputs):
        label = detector.update(output.tobytes())
        scores.append(list(detector.scores))
        if label >= 0:
            found.append((step, label))
    ours = spotting.scores_of(outputs, detect)
    assert ours.tolist() == scores
    assert spotting.detections(ours, LABELS, detect, detect["threshold"]) == found


def test_some_keywords_are_found_and_none_that_are_ignored():
    rng = np.random.default_rng(0)
    detect = spotting.detect_settings(0.1, LABELS)
    assert detect["ignore"] == ["_unknown_", "_silence_"]
    found = spotting.detections(
        spotting.scores_of(random_outputs(rng, 4000), detect), LABELS, detect, 100
    )
    assert len(found) > 20 and {label for _, label in found} <= {0, 1}


def test_steps_end_with_the_clip():
    features = {"step": 4, "hop": 10, "window": 20, "frames": 8}
    clips = np.arange(1, 181).reshape(2, 90).astype(np.int16)
    steps = spotting.steps_of(clips, features)
    assert steps.shape == (2, 3, 40)
    assert np.array_equal(steps.reshape(2, -1)[:, 30:], clips)
    assert not steps.reshape(2, -1)[:, :30].any()


def recordings() -> Recordings:
    labels = np.repeat(np.arange(4), 5)
    signals = [np.full((100, 1), i + 1, np.int16) for i in range(20)]
    splits = np.array((["train"] * 3 + ["test"] * 2) * 4)
    return Recordings(signals, labels, splits, LABELS, 100.0, "made here")


def test_other_sound_is_of_no_keyword_and_each_clip_comes_as_often():
    sound = spotting.other_sound(recordings(), ["test"], 800, seed=0)
    clips, counts = np.unique(sound, return_counts=True)
    assert clips.tolist() == [14, 15, 19, 20] and set(counts.tolist()) == {200}


def test_without_other_sound_it_says_what_to_add():
    some = recordings()
    only = Recordings(
        some.signals[:10], some.labels[:10], some.splits[:10], LABELS, 100.0, "made here"
    )
    with pytest.raises(ValueError, match="add clips of other words and of noise"):
        spotting.other_sound(only, ["test"], 800, seed=0)
