"""Keyword spotting in a stream: the streaming model, and its false accepts and false rejects.

The scores and detections are those of tinytorch_core.detector, which runs on the board, computed
for a whole stream at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch.data.recordings import Recordings
from tinytorch.modelfile.runtime import Model
from tinytorch.quantize.ir import QuantizedNet
from tinytorch.quantize.streaming import stream, with_sound
from tinytorch.sensing.keyword import quantized_keyword
from tinytorch.sensing.mel import samples_of, tables_of
from tinytorch.sensing.trained import Trained

UNKNOWN, SILENCE = "_unknown_", "_silence_"
# Defaults of the detector: steps of the moving average, score (0 to 255) at or above which a
# keyword is detected, and steps after a detection in which there is no other.
SMOOTH, THRESHOLD, REFRACTORY = 4, 130, 12
VECTORS = 6  # test vectors in the model file: consecutive steps of sound
PART = 25  # seconds of a long stream that run as one item of a batch

Int16 = NDArray[np.int16]
Outputs = NDArray[np.int8]  # (steps, labels), of a model


def detect_settings(output_scale: float, labels: Sequence[str], **changes: int) -> dict[str, Any]:
    """The settings of tinytorch_core.detector.Detector.

    output_scale: of the model's int8 outputs. changes: settings other than the defaults.
    """
    return {
        "decay": round(32768 * float(np.exp(-output_scale))),
        "smooth": SMOOTH,
        "threshold": THRESHOLD,
        "refractory": REFRACTORY,
        "ignore": [name for name in labels if name in (UNKNOWN, SILENCE)],
        **changes,
    }


def listening_keyword(
    trained: Trained, recordings: Recordings, name: str = "keyword", **tier: Any
) -> tuple[QuantizedNet, Int16]:
    """Quantize a trained network as a model of a stream of sound, calibrated on `train`.

    tier: keyword arguments of `quantize`, such as `tier` and `bits`.

    Returns the network and its test vectors, int16 (VECTORS, samples of a step):
    consecutive steps around the loudest of a recording.
    """
    features = trained.features
    window, _ = quantized_keyword(trained, recordings, name, **tier)
    # A board has the matrix in its tables.
    settings = {
        key: value for key, value in features.items() if key not in ("matrix", "bias", "shift")
    }
    settings["detect"] = detect_settings(window.output.scale, recordings.classes)
    net = stream(replace(window, features=settings), features["step"])
    net = with_sound(net, tables_of(features), features["window"], features["hop"])
    clips, _ = recordings.clips("train", samples_of(features))
    loudest = np.abs(clips[:64].astype(np.int32)).max(1).argmax()
    steps = steps_of(clips[loudest : loudest + 1], features)[0]
    at = int(np.abs(steps.astype(np.int32)).max(1).argmax())
    first = max(0, min(at - VECTORS // 2, len(steps) - VECTORS))
    return net, steps[first : first + VECTORS]


def steps_of(clips: Int16, features: dict[str, Any]) -> Int16:
    """Clips (N, samples) as steps of a stream, (N, steps, samples of a step).

    Zeros pad the front of the first step, so that the last one ends with the clip. Clips of
    tinytorch.sensing.mel.samples_of samples give the last step exactly the frames of a window.
    """
    step = features["step"] * features["hop"]
    front = -clips.shape[1] % step
    padded = np.pad(clips, ((0, 0), (front, 0)))
    return padded.reshape(len(clips), -1, step)


def stream_outputs(model: Model, sound: Int16) -> Outputs:
    """The model's outputs, int8 (steps, labels), for one long sound (samples,).

    The sound runs in parts as a batch; each part begins with the steps before it that fill the
    network's memory, so that the outputs are those of one run.
    """
    features = _features(model)
    step = features["step"] * features["hop"]
    warm = features["frames"] // features["step"] + 1
    part = max(warm, round(PART * features["rate"] / step))
    steps = sound[: len(sound) // step * step].reshape(-1, step)
    count = -(-len(steps) // part)
    padded = np.concatenate(
        [np.zeros((warm, step), np.int16), steps, np.zeros((count * part - len(steps), step), "i2")]
    )
    parts = np.stack([padded[i * part : (i + 1) * part + warm] for i in range(count)])
    outputs = model.run_stream(parts)[:, warm:]
    return outputs.reshape(count * part, -1)[: len(steps)]


def _features(model: Model) -> dict[str, Any]:
    if not model.features or model.features.get("kind") != "sound":
        raise ValueError("The model does not listen: make one with `tito demo keyword`.")
    return model.features


def scores_of(outputs: Outputs, detect: dict[str, Any]) -> NDArray[np.int64]:
    """The smoothed scores, 0 to 255, after each step: (steps, labels)."""
    e = [32768]
    while len(e) < 256:
        e.append((e[-1] * detect["decay"] + (1 << 14)) >> 15)
    q = outputs.astype(np.int64)
    weights = np.array(e)[q.max(1, keepdims=True) - q]
    shares = weights * 255 // weights.sum(1, keepdims=True)
    sums = np.cumsum(np.pad(shares, ((detect["smooth"], 0), (0, 0))), 0)
    return (sums[detect["smooth"] :] - sums[: -detect["smooth"]]) // detect["smooth"]


def detections(
    scores: NDArray[np.int64], labels: Sequence[str], detect: dict[str, Any], threshold: int
) -> list[tuple[int, int]]:
    """(step, label) of each detection, for scores (steps, labels) as `scores_of` gives them."""
    best = scores.argmax(1)
    ignored = np.array([name in detect["ignore"] for name in labels])
    above = scores[np.arange(len(scores)), best] >= threshold
    events, free = [], 0
    for step in np.flatnonzero(above & ~ignored[best]).tolist():
        if step >= free:
            events.append((step, int(best[step])))
            free = step + detect["refractory"] + 1
    return events


@dataclass(frozen=True)
class Curve:
    """False accepts and false rejects over thresholds, (T,) each.

    thresholds: scores, 0 to 255, ascending; false_accepts: detections per hour of other sound;
    false_rejects: the fraction of keywords, 0 to 1, that were missed or taken for another; hours:
    of the other sound.
    """

    thresholds: NDArray[np.int64]
    false_accepts: NDArray[np.float64]
    false_rejects: NDArray[np.float64]
    hours: float

    def at(self, threshold: int) -> tuple[float, float]:
        """(false accepts per hour, false reject rate) at one of the thresholds."""
        i = int(np.searchsorted(self.thresholds, threshold))
        return float(self.false_accepts[i]), float(self.false_rejects[i])


def other_sound(recordings: Recordings, splits: Sequence[str], samples: int, seed: int) -> Int16:
    """A stream (samples,) of clips of the classes _unknown_ and _silence_ from these splits.

    The clips come in random order, each as often as the others. Raises ValueError where there are
    none.
    """
    names = [i for i, name in enumerate(recordings.classes) if name in (UNKNOWN, SILENCE)]
    members = [i for s in splits for i in recordings.members(s) if recordings.labels[i] in names]
    if not members:
        raise ValueError(
            f"The recordings have no {UNKNOWN} and no {SILENCE} to measure false accepts on: "
            "add clips of other words and of noise."
        )
    rng = np.random.default_rng(seed)
    parts: list[Int16] = []
    while sum(map(len, parts)) < samples:
        parts += [recordings.signals[i][:, 0] for i in rng.permutation(members)]
    return np.concatenate(parts)[:samples]


def keywords_in_silence(
    recordings: Recordings, split: str, features: dict[str, Any], seed: int
) -> tuple[Int16, NDArray[np.int64]]:
    """The keywords of a split in silence: clips (N, samples) and labels (N,).

    Each has a second of _silence_ before it and half a second after it. Raises ValueError where
    the split has no keywords.
    """
    clips, labels = recordings.clips(split, features["rate"])
    spoken = ~np.isin(np.array(recordings.classes)[labels], (UNKNOWN, SILENCE))
    quiet = [i for i, name in enumerate(recordings.classes) if name == SILENCE]
    noise = clips[np.isin(labels, quiet)]
    words, labels = clips[spoken], labels[spoken]
    if not len(words):
        raise ValueError(f"The split '{split}' has no keywords: add clips of them.")
    if not len(noise):
        noise = np.zeros((1, clips.shape[1]), np.int16)
    rng = np.random.default_rng(seed)
    before, after = (noise[rng.integers(len(noise), size=len(words))] for _ in range(2))
    return np.concatenate([before, words, after[:, : features["rate"] // 2]], 1), labels


def curve(
    model: Model,
    recordings: Recordings,
    split: str,
    others: Sequence[str],
    seconds: float = 600.0,
    seed: int = 0,
) -> Curve:
    """Measure false accepts per hour against the false reject rate, over thresholds.

    recordings: with the labels numbered as the model's, see Recordings.for_model. split: whose
    keywords give the false rejects. others: splits whose other sound, `seconds` of it, gives the
    false accepts.

    Raises ValueError for a model that does not listen, and where keywords or other sound lack.
    """
    features = _features(model)
    detect, labels = features["detect"], model.labels
    sound = other_sound(recordings, others, round(seconds * features["rate"]), seed)
    scores = scores_of(stream_outputs(model, sound), detect)
    hours = len(sound) / features["rate"] / 3600
    spoken, truth = keywords_in_silence(recordings, split, features, seed)
    outputs = model.run_stream(steps_of(spoken, features))
    word_scores = [scores_of(output.reshape(len(output), -1), detect) for output in outputs]
    thresholds = np.union1d(np.arange(0, 256, 4), detect["threshold"])
    accepts, rejects = [], []
    for threshold in thresholds.tolist():
        accepts.append(len(detections(scores, labels, detect, threshold)) / hours)
        detected = [
            {label for _, label in detections(word, labels, detect, threshold)}
            for word in word_scores
        ]
        right = [found == {wanted} for found, wanted in zip(detected, truth.tolist(), strict=True)]
        rejects.append(1 - float(np.mean(right)))
    return Curve(thresholds, np.array(accepts), np.array(rejects), hours)
