"""The detector: from the outputs of a model, step by step, to keywords or gestures.

Its settings are a dict that travels in the model file as features["detect"]:
    {"decay": 31000, "smooth": 4, "threshold": 160, "refractory": 12, "ignore": ["_silence_"]}
`smooth`: the updates, 1 to 256, over which scores are averaged, so that a whole word counts and
not a syllable of it; `threshold`: the score, 0 to 255, at or above which the best label is
detected; `refractory`: the updates after a detection in which there is no other, so that one word
is one detection; `ignore`: labels that are never detected; `decay`: round(2**15 *
exp(-output_scale)), the base of a softmax in integers over a model's int8 logits.
"""

from array import array
from math import exp


class Detector:
    """Detects labels in a model's outputs: softmax, moving average, threshold, refractory time.

    The probabilities are smoothed as in Chen et al. (2014), "Small-footprint keyword spotting using
    deep neural networks", in integers.

    labels: a name for each output, at least one. settings: as above. warm: the updates after a
    reset that are skipped, because the model has not yet seen a whole window.

    Attributes: `scores`, a bytearray of (labels,), the smoothed probability of each label, 0 to
    255; `threshold`, `refractory` and `warm`.

    Raises ValueError for settings out of range.
    """

    def __init__(self, labels, settings, warm=0):
        n = len(labels)
        decay, smooth = settings["decay"], settings["smooth"]
        self.threshold, self.refractory = settings["threshold"], settings["refractory"]
        if not (
            n
            and 0 <= decay <= 32768
            and 1 <= smooth <= 256
            and 0 <= self.threshold <= 255
            and self.refractory >= 0
        ):
            raise ValueError(
                "The detector needs labels, a decay of 0 to 32768, smoothing over 1 to 256 "
                "updates, a threshold of 0 to 255 and a refractory time that is not negative."
            )
        ignored = settings["ignore"]
        self._silent = bytes([1 if name in ignored else 0 for name in labels])
        self._e = e = array("H", bytes(512))
        e[0] = 32768
        for d in range(255):
            e[d + 1] = (e[d] * decay + 16384) >> 15
        self._smooth = smooth
        self._ring = bytearray(smooth * n)
        self._sums = array("H", bytes(2 * n))
        self.warm = warm
        self.scores = bytearray(n)
        self.reset()

    def reset(self):
        """Begin anew: zero scores, and the first `warm` updates are skipped."""
        for i in range(len(self._ring)):
            self._ring[i] = 0
        for i in range(len(self.scores)):
            self._sums[i] = self.scores[i] = 0
        self._at = self._quiet = 0
        self._wait = self.warm

    def update(self, output):
        """Take a model's output, (labels,) int8 as bytes; return the label detected now, or -1.

        Allocates nothing.
        """
        if self._wait:
            self._wait -= 1
            return -1
        e, ring = self._e, self._ring
        sums, scores = self._sums, self.scores  # four at once would be a tuple on the heap
        n = len(scores)
        top = total = best = 0
        # Flipping the top bit turns the order of int8 bytes into that of unsigned ones.
        for i in range(n):
            q = output[i] ^ 128
            if q > top:
                top = q
        for i in range(n):
            total += e[top - (output[i] ^ 128)]
        at = self._at
        for i in range(n):
            p = e[top - (output[i] ^ 128)] * 255 // total
            sums[i] += p - ring[at]
            ring[at] = p
            at += 1
            scores[i] = sums[i] // self._smooth
            if scores[i] > scores[best]:
                best = i
        self._at = at if at < len(ring) else 0
        if self._quiet:
            self._quiet -= 1
            return -1
        if scores[best] < self.threshold or self._silent[best]:
            return -1
        self._quiet = self.refractory
        return best


def detector_of(model):
    """The Detector with the settings in a model's features.

    Defaults for a model of motion without settings: a motion is one detection while it is in the
    window, and the label "negative" is ignored.

    Raises ValueError for a model that was made neither for sound nor for motion, and where outputs
    and labels differ in number.
    """
    features = sensor_features(model)
    labels, settings = model.labels, features.get("detect")
    if len(labels) != len(model.output):
        raise ValueError(
            "The model has %d outputs and %d labels: give every output a name."
            % (len(model.output), len(labels))
        )
    if features["kind"] == "sound":
        warm = (features["frames"] - 1) // features["step"]
    else:
        warm = features["window"] // motion_step(features)
        settings = settings or {
            "decay": round(32768 * exp(-model.output_scale)),
            "smooth": 2,
            "threshold": 160,
            "refractory": warm,
            "ignore": ("negative",),
        }
    return Detector(labels, settings, warm)


def sensor_features(model):
    """The features of a model of sound or motion (dict). Raises ValueError for any other model."""
    features = model.features
    if not features or features.get("kind") not in ("sound", "motion"):
        raise ValueError(
            "The model '%s' does not listen: it was made neither for sound nor for motion."
            % model.name
        )
    return features


def motion_step(features):
    """The samples of motion (per channel) in a step: a quarter of a second."""
    return max(1, int(features["rate"] / 4))
