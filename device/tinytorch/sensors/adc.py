"""Analog microphones with an amplifier (MAX9814, MAX4466 ...) on the ADC of an RP2040.

Wires: OUT to GP26 (or GP27, GP28), VDD to 3V3, GND to AGND (pin 33 of a Pico: quieter than GND).
VDD to 3V3 and not to 5 V, which the ADC would not survive. A MAX9814's GAIN is left open (60 dB).

The ADC samples by its own clock, and a DMA channel carries each sample into a ring, 4096 samples or
half a second at 8 kHz: the rate is exact, and the processor does nothing for it. A second channel
starts the first one again after 2^29 samples. How many samples the first has moved is read from it,
so that `lost` is exact: samples that were overwritten before they were read.

ADC and DMA registers: Raspberry Pi, "RP2040 Datasheet", sections 4.9 and 2.5. The ADC gives 12 bits
(8.7 effective ones); with `gain` 0 they become the upper bits of the 16, and each step doubles.
The filter of tinytorch.sensors.pcm takes the microphone's bias away. While it runs nothing else can
use the ADC (machine.ADC, the chip's temperature).
"""

import sys
import time

import micropython

from tinytorch.sensors.pcm import AT, COUNT, DC, FIRST, from_adc, new_state

_ADC = micropython.const(0x4004C000)
_CS, _FCS, _FIFO, _DIV = 0, 8, 12, 16  # offsets
_DREQ_ADC = micropython.const(36)
_CLOCK = 48000000

_RING = micropython.const(4096)  # samples of two bytes; a DMA ring is aligned to its size
_MARGIN = micropython.const(64)  # samples that may come while others are converted
_STALLED = micropython.const(1000)  # ms without a sample

MOVES = 1 << 29  # samples until the DMA channel is started again; a power of 2


class Microphone:
    """The microphone as a source of samples.

    rate: Hz, 1000 to 48000. pin: 26, 27, 28 or 29. gain: 0 to 6. Raises ValueError
    where it cannot be started.
    """

    channels = 1

    def __init__(self, rate=8000, pin=26, gain=0):
        if "RP2040" not in sys.implementation._machine:
            raise ValueError(
                "An analog microphone needs a board with an RP2040 (Raspberry Pi Pico, Pico W): "
                "connect an I2S microphone (INMP441) to this one."
            )
        import machine
        import rp2
        import uctypes

        if not 1000 <= rate <= 48000:
            raise ValueError("The ADC takes a rate of 1000 to 48000 Hz here, not %s." % rate)
        if pin not in (26, 27, 28, 29):
            raise ValueError("The ADC's pins are 26 to 29, not %s." % pin)
        self.rate, self.lost = rate, 0
        self._state = new_state(gain)
        mem = self._mem = machine.mem32
        machine.ADC(machine.Pin(pin))  # switches the pin's digital part off
        memory = self._memory = bytearray(4 * _RING)
        start = uctypes.addressof(memory)
        self._ring = uctypes.bytearray_at(start + -start % (2 * _RING), 2 * _RING)

        mem[_ADC + _CS] = 1 | pin - 26 << 12  # EN, AINSEL
        while mem[_ADC + _FCS] >> 16 & 15:  # empty the FIFO
            mem[_ADC + _FIFO]
        mem[_ADC + _FCS] = 3 << 10 | 1 << 24 | 8 | 1  # clear its errors; THRESH, DREQ_EN, EN
        mem[_ADC + _DIV] = (_CLOCK * 256 + rate // 2) // rate - 256  # a period is 1 + DIV / 256
        try:
            self._dma = dma = rp2.DMA()
            self._again = again = rp2.DMA()
        except OSError:
            raise ValueError("No DMA channel is free: close what uses them.") from None
        self._moves = bytearray(MOVES.to_bytes(4, "little"))
        again.config(
            read=self._moves,
            write=dma.registers[7:8],  # AL1_TRANS_COUNT_TRIG
            count=1,
            ctrl=again.pack_ctrl(inc_read=False, inc_write=False),
        )
        dma.config(
            read=_ADC + _FIFO,
            write=self._ring,
            count=MOVES,
            ctrl=dma.pack_ctrl(
                size=1,
                inc_read=False,
                ring_sel=True,
                ring_size=13,  # 2 * _RING is 2^13
                treq_sel=_DREQ_ADC,
                chain_to=again.channel,
            ),
            trigger=True,
        )
        self._count = MOVES  # of the channel when it was looked at last
        self._there = 0  # samples in the ring that were not taken
        self._at = 0  # the first of them
        mem[_ADC + _CS] = 1 | pin - 26 << 12 | 8  # START_MANY
        # The bias is where the filter starts.
        while not self._come():
            pass
        self._state[DC] = ((self._ring[0] | self._ring[1] << 8 & 0xF00) - 2048) << 19

    def readinto(self, buf):
        """Fill buf, of an even length, with int16 samples; returns the bytes it put there.

        Fewer than buf has: for a second none came.
        """
        state = self._state
        at, end = 0, len(buf) & -2
        waited = 0
        while at < end:
            n = min(self._come(), (end - at) >> 1)
            if not n:
                if waited >= _STALLED:
                    break
                # As long as the rest takes to come, but never so long that the ring overflows.
                ms = min(((end - at) >> 1) * 1000 // self.rate, 20) + 1
                time.sleep_ms(ms)
                waited += ms
                continue
            waited = 0
            state[FIRST], state[AT], state[COUNT] = self._at, at, n
            from_adc(self._ring, buf, state, _RING - 1)
            self._at = (self._at + n) & (_RING - 1)
            self._there -= n
            at += 2 * n
        return at

    def close(self):
        """Stop the ADC, and give the DMA channels back."""
        self._mem[_ADC + _CS] = 1
        self._mem[_ADC + _FCS] = 0
        # What starts the other one goes first.
        self._again.close()
        self._dma.close()

    def _come(self):
        """Samples in the ring; the oldest are given up where it was full."""
        count = self._dma.count
        self._there += (self._count - count) & (MOVES - 1)
        self._count = count
        over = self._there - (_RING - _MARGIN)
        if over > 0:
            self.lost += over
            self._there -= over
            self._at = (self._at + over) & (_RING - 1)
        return self._there
