"""From a stream of samples to an answer, on every machine with the same numbers.

A source is an object with `rate` (Hz), `channels`, `lost` (samples lost so far), `close()` and
`readinto(buf)`, which fills buf with int16 samples, little-endian, channels interleaved, and
returns the bytes it put there: fewer than buf has where it stalled or ended.

The settings of a Detector are a dict that travels in the model file as features["detect"]:
    {"decay": 31000, "smooth": 4, "threshold": 160, "refractory": 12, "ignore": ["_silence_"]}
`smooth`: the updates, 1 to 256, over which scores are averaged, to hear a whole word and not a
syllable of it; `threshold`: the score, 0 to 255, from which the best label counts; `refractory`:
the updates after an answer in which there is no other, so that one word is one answer; `ignore`:
labels that are never an answer; `decay`: round(2**15 * exp(-output_scale)), by which the integers
turn a model's int8 logits into probabilities.
"""

from array import array
from math import exp


class Detector:
    """Says when a keyword is recognised, from the outputs of a model, one after the other.

    labels: a name for each output, at least one. settings: as above. warm: the updates after a
    reset whose outputs mean nothing yet. `scores` has a byte for each label: its smoothed
    probability, 0 to 255. Raises ValueError for settings out of range.
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
        """Forget all outputs."""
        for i in range(len(self._ring)):
            self._ring[i] = 0
        for i in range(len(self.scores)):
            self._sums[i] = self.scores[i] = 0
        self._at = self._quiet = 0
        self._wait = self.warm

    def update(self, output):
        """Take an output, int8 as bytes; the index of the label recognised now, or -1."""
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
    """The Detector that a model's features ask for.

    A model of motion may leave it open: then a motion is one answer while it is in the window, and
    the label "negative" none. Raises ValueError for a model that does not listen.
    """
    features = _listening(model)
    labels, settings = model.labels, features.get("detect")
    if len(labels) != len(model.output):
        raise ValueError(
            "The model has %d outputs and %d labels: give every output a name."
            % (len(model.output), len(labels))
        )
    if features["kind"] == "sound":
        warm = (features["frames"] - 1) // features["step"]
    else:
        warm = features["window"] // _motion_step(features)
        settings = settings or {
            "decay": round(32768 * exp(-model.output_scale)),
            "smooth": 2,
            "threshold": 160,
            "refractory": warm,
            "ignore": ("negative",),
        }
    return Detector(labels, settings, warm)


def _listening(model):
    features = model.features
    if not features or features.get("kind") not in ("sound", "motion"):
        raise ValueError(
            "The model '%s' does not listen: it was made neither for sound nor for motion."
            % model.name
        )
    return features


def _motion_step(features):
    """The samples of motion between two answers: a quarter of a second."""
    return max(1, int(features["rate"] / 4))


class Listener:
    """A model that listens, the source of its samples, and the detector of its answers.

    `step` reads a step of samples, runs the model, and says what was recognised. A model of sound
    takes the samples as its input; one of motion sees its newest window every quarter of a second.
    `block` is where the samples of a step go, `fill` how many bytes of them are there.
    Raises ValueError for a model that does not listen, and a source that does not suit it.
    """

    def __init__(self, model, source, detector):
        features = _listening(model)
        self.motion = None
        channels = 1
        if features["kind"] == "motion":
            from tinytorch_core.dsp import Motion

            self.motion = Motion(features)
            channels = self.motion.channels
            self._sample = [0] * channels
            self.block = memoryview(bytearray(2 * channels * _motion_step(features)))
        else:
            self.block = model.input
        if source.channels != channels:
            raise ValueError(
                "The model takes %d channels and the source has %d." % (channels, source.channels)
            )
        if source.rate != features["rate"]:
            raise ValueError(
                "The model listens at %d Hz and the source has %d Hz: let it have the model's rate."
                % (features["rate"], source.rate)
            )
        self.model, self.source, self.detector = model, source, detector
        self.reset()

    def reset(self):
        """Forget all that was heard."""
        self.fill = 0
        self.model.reset()
        self.detector.reset()
        if self.motion:
            self.motion.reset()

    def step(self):
        """The index of the label recognised now, or -1. Where the source stalls, nothing runs, and
        the next step goes on with the samples that came. Allocates nothing unless it stalled."""
        return self.answer() if self.hear() else -1

    def hear(self):
        """The first half of a step: read its samples. False where the source stalled or ended."""
        fill, block = self.fill, self.block
        fill += self.source.readinto(block[fill:] if fill else block)
        if fill < len(block):
            self.fill = fill
            return False
        self.fill = 0
        return True

    def answer(self):
        """The second half: run the model on them, and detect."""
        if self.motion:
            self._move(self.motion)
        self.model.run()
        return self.detector.update(self.model.output)

    def _move(self, motion):
        block, sample, at = self.block, self._sample, 0
        while at < len(block):
            for c in range(len(sample)):
                sample[c] = (block[at + 1] ^ 128) * 256 + block[at] - 32768
                at += 2
            motion.push(sample)
        motion.write(self.model.input)
