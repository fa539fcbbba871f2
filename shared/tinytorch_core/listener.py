"""The listener: reads a source of samples and runs a model on it, step by step.

A source is an object with `rate` (Hz), `channels`, `lost` (samples lost so far), `close()` and
`readinto(buf)`, which fills buf with int16 samples, little-endian, channels interleaved, and
returns the bytes it put there: fewer than buf has where it stalled or ended.
"""

from tinytorch_core.detector import motion_step, sensor_features


class Listener:
    """Runs a model and its detector on a source of samples, one step at a time.

    A model of sound takes the samples of a step as its input; a model of motion takes its newest
    window every quarter of a second.

    Attributes: `block`, a memoryview of the int16 samples of a step; `fill`, how many bytes of them
    have been read; `model`, `source` and `detector`, as given; `motion`, the window of a model of
    motion, else None.

    Raises ValueError for a model that was made neither for sound nor for motion, and for a source
    with another rate or another number of channels.
    """

    def __init__(self, model, source, detector):
        features = sensor_features(model)
        self.motion = None
        channels = 1
        if features["kind"] == "motion":
            from tinytorch_core.dsp import Motion

            self.motion = Motion(features)
            channels = self.motion.channels
            self._sample = [0] * channels
            self.block = memoryview(bytearray(2 * channels * motion_step(features)))
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
        """Begin anew: forget the samples read and what model and detector remember of them."""
        self.fill = 0
        self.model.reset()
        self.detector.reset()
        if self.motion:
            self.motion.reset()

    def step(self):
        """Read a step of samples and run the model; return the label detected now, or -1.

        Where the source stalls, the model does not run, and the next step continues with the
        samples that have been read. Allocates nothing unless the source has stalled.
        """
        return self.answer() if self.hear() else -1

    def hear(self):
        """The first half of `step`: read. False where the source has stalled or ended."""
        fill, block = self.fill, self.block
        fill += self.source.readinto(block[fill:] if fill else block)
        if fill < len(block):
            self.fill = fill
            return False
        self.fill = 0
        return True

    def answer(self):
        """The second half of `step`: run model and detector; the label detected now, or -1."""
        if self.motion:
            self._move(self.motion)
        self.model.run()
        return self.detector.update(self.model.output)

    def _move(self, motion):
        """Push the samples of `block` into the window, and the window into the model's input."""
        block, sample, at = self.block, self._sample, 0
        while at < len(block):
            for c in range(len(sample)):
                sample[c] = (block[at + 1] ^ 128) * 256 + block[at] - 32768
                at += 2
            motion.push(sample)
        motion.write(self.model.input)
