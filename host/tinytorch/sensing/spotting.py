"""A keyword network as a model that listens, and how well it finds words in a stream: what it
misses, and what it makes up.

The detector's arithmetic is that of tinytorch_core.detector, which runs on the board, for many
thresholds at once.
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
# What a board does with the scores unless a model says otherwise: steps to smooth over, the score
# (0 to 255) that a keyword needs, and steps in which it is not heard twice.
SMOOTH, THRESHOLD, REFRACTORY = 4, 130, 12
VECTORS = 6  # steps of sound in the model file, for a kit to prove itself with
PART = 25  # seconds of a long stream that run as one of many side by side

Int16 = NDArray[np.int16]
Steps = NDArray[np.int8]  # (steps, labels): what a model puts out


def detect_settings(output_scale: float, labels: Sequence[str], **changes: int) -> dict[str, Any]:
    """The settings of tinytorch_core.detector.Detector for a model with outputs of this scale."""
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
    """A trained network in integers that takes a stream of sound, calibrated on `train`, and as
    test vectors consecutive steps of a recording.

    tier: `tier`, `bits` and so on, as `quantize` takes them.
    """
    features = trained.features
    window, _ = quantized_keyword(trained, recordings, name, **tier)
    # A board has the matrix in its tables.
    told = {key: value for key, value in features.items() if key not in ("matrix", "bias", "shift")}
    told["detect"] = detect_settings(window.output.scale, recordings.classes)
    net = stream(replace(window, features=told), features["step"])
    net = with_sound(net, tables_of(features), features["window"], features["hop"])
    clips, _ = recordings.clips("train", samples_of(features))
    loudest = np.abs(clips[:64].astype(np.int32)).max(1).argmax()
    steps = steps_of(clips[loudest : loudest + 1], features)[0]
    at = int(np.abs(steps.astype(np.int32)).max(1).argmax())
    first = max(0, min(at - VECTORS // 2, len(steps) - VECTORS))
    return net, steps[first : first + VECTORS]


def steps_of(clips: Int16, features: dict[str, Any]) -> Int16:
    """Clips (N, samples) as steps of a stream, (N, steps, samples of a step).

    Zeros in front fill the first step, so that the last one ends with the clip, and for clips of
    tinytorch.sensing.mel.samples_of hears just its frames.
    """
    step = features["step"] * features["hop"]
    front = -clips.shape[1] % step
    padded = np.pad(clips, ((0, 0), (front, 0)))
    return padded.reshape(len(clips), -1, step)


def stream_outputs(model: Model, sound: Int16) -> Steps:
    """What the model puts out, step by step, for one long sound (samples,).

    It runs in parts side by side, each of which first hears again what the network remembers.
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


def scores_of(outputs: Steps, detect: dict[str, Any]) -> NDArray[np.int64]:
    """The smoothed scores, 0 to 255, after each step."""
    e = [32768]
    while len(e) < 256:
        e.append((e[-1] * detect["decay"] + (1 << 14)) >> 15)
    q = outputs.astype(np.int64)
    weights = np.array(e)[q.max(1, keepdims=True) - q]
    shares = weights * 255 // weights.sum(1, keepdims=True)
    sums = np.cumsum(np.pad(shares, ((detect["smooth"], 0), (0, 0))), 0)
    return (sums[detect["smooth"] :] - sums[: -detect["smooth"]]) // detect["smooth"]


def heard(
    scores: NDArray[np.int64], labels: Sequence[str], detect: dict[str, Any], threshold: int
) -> list[tuple[int, int]]:
    """(step, label) of each keyword that the detector reports."""
    best = scores.argmax(1)
    ignored = np.array([name in detect["ignore"] for name in labels])
    loud = scores[np.arange(len(scores)), best] >= threshold
    found, free = [], 0
    for step in np.flatnonzero(loud & ~ignored[best]).tolist():
        if step >= free:
            found.append((step, int(best[step])))
            free = step + detect["refractory"] + 1
    return found


@dataclass(frozen=True)
class Curve:
    """Over thresholds: keywords that were made up in an hour of other sound, and the share of
    keywords that were not heard or taken for another. hours: of the other sound."""

    thresholds: NDArray[np.int64]
    false_accepts: NDArray[np.float64]
    false_rejects: NDArray[np.float64]
    hours: float

    def at(self, threshold: int) -> tuple[float, float]:
        i = int(np.searchsorted(self.thresholds, threshold))
        return float(self.false_accepts[i]), float(self.false_rejects[i])


def other_sound(recordings: Recordings, splits: Sequence[str], samples: int, seed: int) -> Int16:
    """So many samples of clips of the classes _unknown_ and _silence_, one after the other in a
    random order, each as often as the others. Raises ValueError where there are none."""
    names = [i for i, name in enumerate(recordings.classes) if name in (UNKNOWN, SILENCE)]
    members = [i for s in splits for i in recordings.members(s) if recordings.labels[i] in names]
    if not members:
        raise ValueError(
            f"The recordings have no {UNKNOWN} and no {SILENCE} to try false accepts with: "
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
    """Each keyword of a split with a second of _silence_ before it and half a second after it,
    (N, samples), and the labels. Raises ValueError where there are none."""
    clips, labels = recordings.clips(split, features["rate"])
    spoken = ~np.isin(np.array(recordings.classes)[labels], (UNKNOWN, SILENCE))
    quiet = [i for i, name in enumerate(recordings.classes) if name == SILENCE]
    noise = clips[np.isin(labels, quiet)]
    words, labels = clips[spoken], labels[spoken]
    if not len(words):
        raise ValueError(f"The split '{split}' has no keywords to miss: add clips of them.")
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
    """False accepts on a stream of `seconds` of other sound from the splits `others`, against
    false rejects on the keywords of a split.

    recordings: with the labels numbered as the model's, see Recordings.for_model.
    """
    features = _features(model)
    detect, labels = features["detect"], model.labels
    sound = other_sound(recordings, others, round(seconds * features["rate"]), seed)
    scores = scores_of(stream_outputs(model, sound), detect)
    hours = len(sound) / features["rate"] / 3600
    spoken, truth = keywords_in_silence(recordings, split, features, seed)
    outputs = model.run_stream(steps_of(spoken, features))
    word_scores = [scores_of(each.reshape(len(each), -1), detect) for each in outputs]
    thresholds = np.union1d(np.arange(0, 256, 4), detect["threshold"])
    accepts, rejects = [], []
    for threshold in thresholds.tolist():
        accepts.append(len(heard(scores, labels, detect, threshold)) / hours)
        right = [
            bool(found) and {label for _, label in found} == {wanted}
            for each, wanted in zip(word_scores, truth.tolist(), strict=True)
            for found in [heard(each, labels, detect, threshold)]
        ]
        rejects.append(1 - float(np.mean(right)))
    return Curve(thresholds, np.array(accepts), np.array(rejects), hours)
