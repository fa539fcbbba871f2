"""Microphones of the virtual kits, which play a recording.

A recording starts when the board starts its microphone, and is followed by the faint noise of a
quiet room. Its level suits the drivers' defaults: with these the board reads the recording's own
int16 values, apart from the removal of DC, and from the ADC with a resolution of 12 bits.
"""

import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch.data.readers import read_npy
from tito.errors import TitoError

RATES = 8000, 16000  # at which a virtual microphone can be read
NANOS = 8  # a cycle of the emulated Pico, at 125 MHz
NOISE = 8  # of the quiet room, standard deviation
GAIN = 4  # the default of tinytorch.sensors.i2s
BIAS = 1552  # what an analog microphone's 1.25 V (MAX9814) are on the ADC, of 4096


def read(sound: "Path | NDArray[np.int16]", rate: "float | None") -> tuple[NDArray[Any], float]:
    """Samples (T,) as float64 in the range of int16, and their rate.

    sound: a .wav file of 16 bits, of which several channels are averaged, an .npy file, or an
    array, int16 (T,) or (T, 1). rate: samples a second; a .wav file has its own. Raises TitoError.
    """
    if isinstance(sound, Path) and sound.suffix.lower() == ".wav":
        try:
            with wave.open(str(sound)) as f:
                channels, width, own = f.getnchannels(), f.getsampwidth(), f.getframerate()
                data = f.readframes(f.getnframes())
        except (OSError, EOFError, wave.Error) as error:
            raise TitoError(f"{sound} cannot be read as a .wav file: {error}.") from None
        if width != 2:
            raise TitoError(f"{sound} has {8 * width} bits per sample: save it with 16.")
        return np.frombuffer(data, "<i2").reshape(-1, channels).mean(1), own
    what = "The recording"
    if isinstance(sound, Path):
        what = str(sound)
        try:
            sound = read_npy(sound)
        except (OSError, ValueError) as error:
            raise TitoError(str(error)) from None
    if sound.dtype != np.int16 or sound.ndim not in (1, 2) or sound.size != len(sound):
        raise TitoError(
            f"{what} is {sound.dtype} of shape {sound.shape}: a sound is int16 of shape (T,)."
        )
    if not rate or rate <= 0:
        raise TitoError(f"{what} does not state its sample rate: give the rate.")
    return sound.reshape(-1).astype(np.float64), rate


def resample(samples: NDArray[Any], old: float, new: float) -> NDArray[Any]:
    """The same sound at another rate, by its spectrum: nothing above half the lower rate is kept,
    so that nothing is folded. The sound is taken as periodic: its ends are a little blurred."""
    n = round(len(samples) * new / old)
    if n == len(samples) or not n:
        return samples[:n]
    spectrum = np.fft.rfft(samples)
    spectrum = spectrum[: n // 2 + 1]
    return np.fft.irfft(spectrum, n) * (n / len(samples))


def path_of(image: Path, rate: int) -> Path:
    """The file with the sound of the kit with this flash image at a rate: little-endian int16."""
    return image.with_suffix(f".sound.{rate}")


def write(image: Path, sound: "Path | NDArray[np.int16]", rate: "float | None") -> None:
    """Write the sound that the kit with this flash image plays, as for read(). Raises TitoError.

    The files hold the sound and a second of the room's noise, which is repeated without end.
    """
    samples, old = read(sound, rate)
    for to in RATES:
        noise = np.random.default_rng(0).normal(0, NOISE, to)
        made = np.concatenate([resample(samples, old, to), noise])
        made = np.clip(np.rint(made), -32768, 32767).astype("<i2")
        path_of(image, to).write_bytes(made.tobytes())


class Sound:
    """The recording for a microphone of the emulated Pico, read again each time that it starts."""

    def __init__(self, image: Path) -> None:
        self._image = image
        self._samples: NDArray[np.int16] = np.zeros(0, np.int16)
        self._rate = 0

    def start(self, rate: float) -> None:
        """A microphone starts to be read at about this rate."""
        self._rate = min(RATES, key=lambda known: abs(known - rate))
        path = path_of(self._image, self._rate)
        fits = abs(rate / self._rate - 1) < 0.02
        self._samples = np.fromfile(path, "<i2") if fits and path.exists() else self._samples[:0]

    def sample(self, i: int) -> int:
        n = len(self._samples)
        if not n:
            return 0
        return int(self._samples[i if i < n else n - self._rate + (i - n) % self._rate])


class INMP441:
    """On I2S pins of the emulated Pico: SCK and WS drive it bit by bit, and it drives SD.

    Timing: InvenSense, "INMP441", DS-INMP441-00: the most significant of 24 bits follows one clock
    after WS falls, each bit at SCK's falling edge; the right channel's half stays low here.
    """

    def __init__(self, mcu: Any, sound: Sound, sck: int = 16, ws: int = 17, sd: int = 18) -> None:
        self._mcu, self._sound = mcu, sound
        self._sck, self._ws, self._sd = mcu.gpio[sck], mcu.gpio[ws], mcu.gpio[sd]
        self._word = 0  # what is left to be shifted out
        self._left = False  # in the left half of a frame
        self._level = False  # of SD
        self._frame, self._began = 0, -1e9
        # One for each step of the state machine: rp2040py jumps from alarm to alarm while the core
        # sleeps, and drops what the state machine has to do in between.
        self._alarm = mcu.clock.create_alarm(self._step)
        self._sck.add_listener(self._clocked)

    def _clocked(self, new: Any, old: Any) -> None:
        self._pio = pio = self._mcu.pio[self._sck.function_select & 1]  # functions 6 and 7
        self._alarm.schedule(((pio.next_due_fp - pio.cycle_fp + 255 >> 8) + 0.01) * NANOS)
        if new:  # not GPIOPinState.LOW
            return
        if self._ws.output_value:
            self._left = False
            return
        if not self._left:
            self._left = True
            self._begin_frame()
        level = bool(self._word & 0x80000000)
        self._word = self._word << 1 & 0xFFFFFFFF
        if level != self._level:
            self._level = level
            self._sd.set_input_value(level)

    def _begin_frame(self) -> None:
        now = self._mcu.clock.nanos
        since, self._began = now - self._began, now
        if since > 1e6:  # the clock stood still: this is a start, and the rate is not known yet
            self._frame, self._word = -2, 0
            return
        self._frame += 1
        if not self._frame:
            self._sound.start(1e9 / since)
        if self._frame >= 0:
            self._word = self._sound.sample(self._frame) << 16 - GAIN & 0xFFFFFF00

    def _step(self) -> None:
        """The step is due, but for what rp2040py may have rounded away of a cycle."""
        if not self._pio.stopped:
            self._alarm.schedule(2 * NANOS)


class Analog:
    """An analog microphone on one of the emulated Pico's ADC pins, 26 to 29."""

    def __init__(self, mcu: Any, sound: Sound, pin: int = 26) -> None:
        self._adc, self._clock, self._sound, self._channel = mcu.adc, mcu.clock, sound, pin - 26
        self._i, self._last = 0, -1e9
        self._convert: Callable[[int], None] = self._adc.on_adc_read
        self._adc.on_adc_read = self._read

    def _read(self, channel: int) -> None:
        if channel == self._channel:
            now = self._clock.nanos
            self._i += 1
            if now - self._last > 1e7:
                self._i = 0
                self._sound.start(48e6 / self._adc.divider)
            self._last = now
            value = BIAS + (self._sound.sample(self._i) >> 4)
            self._adc.channel_values[channel] = min(max(value, 0), 4095)
        self._convert(channel)
