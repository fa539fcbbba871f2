"""INMP441: a digital microphone with 24 bits over I2S; others of its kind (ICS-43434, SPH0645,
MSM261S4030H0) are read in the same way.

Wires      Raspberry Pi Pico     ESP32     what it is
SCK        GP16                  GPIO32    bit clock, 64 times the rate
WS         GP17                  GPIO25    left or right; on a Pico it must be SCK's pin + 1
SD         GP18                  GPIO33    the samples
L/R        GND                   GND       this microphone speaks on the left channel
VDD, GND   3V3, GND              3V3, GND

These are the default pins. An ESP32-S3, -C3 or -C6 lacks some of them: name three that your board
has. For half a second after the start an INMP441 gives silence (2^18 bit clocks).

Full scale is a sound of 120 dB, and speech in a room is at 60 to 70. The default `gain` of 4 makes
it 16 times as loud, so that clipping begins at 96 dB; see tinytorch.sensors.pcm for the filter.

MicroPython buffers samples while a program does something else: `buffer` bytes, 8 for each sample,
a quarter of a second at 8 kHz. When the buffer is full it drops samples without notice, so they are
counted by the clock. The samples due by now, less those taken, are in the buffer or lost. After
each read they are at most what the buffer holds, and at most a few where the read has just emptied
it; any excess counts as lost. "A few" are two of the blocks in which samples arrive (of 16, on an
ESP32 256) and those of 2 ms: `lost` may be too large by so many each time that the buffer is full,
and too small by so many in ten seconds where it is never full.
"""

import select
import sys
import time

import micropython

from tinytorch.sensors.pcm import AT, COUNT, FIRST, from_words, new_state

_WORDS = micropython.const(128)  # taken from MicroPython's buffer at a time
_STALLED = micropython.const(1000)  # ms without a sample
# ms over which the board's two clocks, the microphone's and its own, count the same to a sample.
_SURE = micropython.const(10000)
PINS = {"esp32": (32, 25, 33)}
PICO = 16, 17, 18


class INMP441:
    """The microphone as a source of samples.

    rate: Hz, 8000 to 48000, a multiple of 1000. sck, ws, sd: pin numbers. gain: 0 to 6.
    buffer: bytes, as above. Raises ValueError where it cannot be started.
    """

    channels = 1

    def __init__(self, rate=8000, sck=None, ws=None, sd=None, gain=4, buffer=16384, number=0):
        import machine

        if rate % 1000 or not 8000 <= rate <= 48000:
            raise ValueError(
                "An I2S microphone has a rate of 8000 to 48000 Hz in thousands, not %s." % rate
            )
        if not hasattr(machine, "I2S"):
            raise ValueError(
                "This board's MicroPython has no machine.I2S: take a Raspberry Pi Pico (RP2040), "
                "an ESP32, or send the laptop's microphone over the wire."
            )
        pins = PINS.get(sys.platform, PICO)
        sck = pins[0] if sck is None else sck
        ws = pins[1] if ws is None else ws
        sd = pins[2] if sd is None else sd
        self._state = new_state(gain)
        # What MicroPython's buffer holds for sure, and in how large pieces it is filled: extmod and
        # ports/*/machine_i2s.c.
        if sys.platform == "esp32":
            grain, held = 256, (max(buffer // 2048, 2) - 1) * 256
        else:
            grain, held = 16, (buffer - 1) // 128 * 16
        # What the clock may be wrong by: a grain is under way, and a millisecond has begun.
        few = self._few = grain + rate // 1000
        if held < 2 * few:
            raise ValueError("A microphone's buffer of %s bytes is too small: 8192 do." % buffer)
        try:
            self._i2s = machine.I2S(
                number,
                sck=machine.Pin(sck),
                ws=machine.Pin(ws),
                sd=machine.Pin(sd),
                mode=machine.I2S.RX,
                bits=32,
                format=machine.I2S.MONO,
                rate=rate,
                ibuf=buffer,
            )
            now = time.ticks_ms()
        except MemoryError:
            raise ValueError(
                "There is no room for the microphone's buffer of %d bytes: make it smaller."
                % buffer
            ) from None
        except (OSError, ValueError) as error:
            raise ValueError(
                "The I2S microphone does not start on pins sck=%s, ws=%s, sd=%s (%s): name pins "
                "that this board has; on a Pico ws is sck + 1." % (sck, ws, sd, error)
            ) from None
        self.rate, self.lost = rate, 0
        self._khz, self._held = rate // 1000, held
        # Polling puts I2S into the mode in which readinto returns with what is there.
        self._poll = select.poll()
        self._poll.register(self._i2s, select.POLLIN)
        self._raw = bytearray(4 * _WORDS)
        self._next = self._end = 0  # the words in _raw that are not yet asked for
        self._start(now)

    def readinto(self, buf):
        """Fill buf, of an even length, with int16 samples; returns the bytes it put there.

        Fewer than buf has where no sample has come for a second.
        """
        state = self._state
        at, end = 0, len(buf) & -2
        while at < end:
            if self._next == self._end and not self._fill():
                break
            n = min(self._end - self._next, (end - at) >> 1)
            state[FIRST], state[AT], state[COUNT] = self._next, at, n
            from_words(self._raw, buf, state)
            self._next += n
            at += 2 * n
        return at

    def close(self):
        """Stop the microphone."""
        self._i2s.deinit()

    def _start(self, now):
        """Count from now, when MicroPython's buffer is empty."""
        self._since, self._gone = now, 0  # _gone: samples taken, and lost

    def _fill(self):
        """Read available words into _raw, waiting if there are none; returns their number."""
        if self._end < _WORDS:  # it was empty a moment ago
            time.sleep_ms(_WORDS // self._khz)
        for _ in self._poll.ipoll(_STALLED):
            n = self._i2s.readinto(self._raw) >> 2
            now = time.ticks_ms()
            over = self._missing(now) + self._few - self._held
            if over > 0:
                self._lose(over)
            self._next, self._end = 0, n
            self._gone += n
            if n < _WORDS:  # it is empty now
                missing = self._missing(now)
                if missing > 2 * self._few:
                    self._lose(missing)
                if time.ticks_diff(now, self._since) > _SURE:
                    self._start(now)
            return n
        return 0

    def _missing(self, now):
        """The samples due by now that were neither taken nor counted as lost."""
        return time.ticks_diff(now, self._since) * self._khz - self._gone

    def _lose(self, n):
        self.lost += n
        self._gone += n
