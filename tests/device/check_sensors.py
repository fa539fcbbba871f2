"""Run on any MicroPython: what the conversions and the sources of samples give."""

import binascii
import gc
import time

from tinytorch.sensors import pcm


def converted(kind, gain, dc, data, cuts):
    """The samples from words or from the ADC's 12 bits (a ring), in pieces, at an odd address."""
    state = pcm.new_state(gain)
    state[pcm.DC] = dc
    n = len(data) // (4 if kind == "words" else 2)
    out = bytearray(2 * n + 1)
    buf = memoryview(out)[1:]
    first = 0
    for end in cuts + [n]:
        state[pcm.FIRST], state[pcm.AT], state[pcm.COUNT] = first, 2 * first, end - first
        if kind == "words":
            pcm.from_words(data, buf, state)
        else:
            state[pcm.FIRST] += 3 * n  # a ring goes round
            pcm.from_adc(data, buf, state, n - 1)
        first = end
    return hexed(out[1:])


def read(source, size, times):
    """[hex of the samples, bytes of each read, samples lost, bytes that reads but the first
    allocate] of some reads in a row."""
    buf, got, sizes = bytearray(size), bytearray(size * times), []
    allocated = 0
    for i in range(times):
        gc.collect()
        gc.disable()
        before = gc.mem_alloc()
        n = source.readinto(buf)
        allocated = max(allocated, gc.mem_alloc() - before if i else 0)
        gc.enable()
        got[i * size : (i + 1) * size] = buf
        sizes.append(n)
    return [hexed(got), sizes, source.lost, allocated]


def hexed(data):
    return binascii.hexlify(data).decode()


def overrun(source, ms):
    """[samples lost by the source's account, those that the virtual port has dropped], after a
    pause that is longer than its buffer."""
    buf, taken = bytearray(256), 0
    for pause in (0, ms, 0, ms, 0, 0):
        time.sleep_ms(pause)
        taken += source.readinto(buf) // 2
    port = source._i2s
    return [source.lost, port._due - port._held - taken - (source._end - source._next)]
