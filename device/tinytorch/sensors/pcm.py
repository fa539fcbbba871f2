"""From a microphone converter's samples to int16: DC removal, gain, clipping.

The specification, in integers; x is a sample as 22 bits with a sign, `dc` starts at 0:
    y = x - (dc >> 9);  dc += y;  sample = clip((y + half) >> right),  right = 6 - gain,
    half = (1 << right) >> 1;  clip limits to -32768 ... 32767.
This is a high-pass filter with a time constant of 512 samples (2.5 Hz at 8 kHz, 5 Hz at 16 kHz).
`gain` 0 leaves full scale unchanged; each step doubles, up to 6 (64 times).

state: array('i') of DC, RIGHT, FIRST (number of the first sample to take), AT (where in buf its
bytes go), COUNT. Words are 32 bits on a board and 64 on the unix port, where ptr32 reads unsigned:
what may be negative gets its sign back by `(v ^ top) - top`. buf may stand at an odd address.
"""

from array import array

import micropython

DC, RIGHT, FIRST, AT, COUNT = range(5)


def new_state(gain):
    """The state for from_words and from_adc. Raises ValueError for a gain out of range."""
    if not 0 <= gain <= 6:
        raise ValueError("The gain of a microphone is 0 to 6 (each step doubles), not %s." % gain)
    return array("i", (0, 6 - gain, 0, 0, 0))


@micropython.viper
def from_words(words, buf, state):
    """Convert words of 32 bits, of which the upper 22 are used, to int16 in buf."""
    s = ptr32(state)
    x = ptr32(words)
    y = ptr8(buf)
    top = 1  # 1 << 31 as a literal would be an object on 32 bits
    top <<= 31
    mask = top | (top - 1)
    dc = ((s[0] & mask) ^ top) - top
    right = s[1]
    half = (1 << right) >> 1
    i = s[2]
    end = i + s[4]
    at = s[3]
    while i < end:
        v = ((((x[i] & mask) ^ top) - top) >> 10) - (dc >> 9)
        dc += v
        v = (v + half) >> right
        if v > 32767:
            v = 32767
        elif v < -32768:
            v = -32768
        y[at] = v
        y[at + 1] = v >> 8
        at += 2
        i += 1
    s[0] = dc


@micropython.viper
def from_adc(ring, buf, state, mask: int):
    """Convert unsigned 12-bit samples, uint16 in a ring of mask + 1, to int16 in buf."""
    s = ptr32(state)
    x = ptr16(ring)
    y = ptr8(buf)
    top = 1
    top <<= 31
    dc = ((s[0] & (top | (top - 1))) ^ top) - top
    right = s[1]
    half = (1 << right) >> 1
    i = s[2]
    end = i + s[4]
    at = s[3]
    while i < end:
        v = (((x[i & mask] & 4095) - 2048) << 10) - (dc >> 9)
        dc += v
        v = (v + half) >> right
        if v > 32767:
            v = 32767
        elif v < -32768:
            v = -32768
        y[at] = v
        y[at + 1] = v >> 8
        at += 2
        i += 1
    s[0] = dc
