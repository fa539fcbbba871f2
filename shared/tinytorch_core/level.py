"""How loud a block of sound is, and what is wrong with the microphone if something is."""

CLIPPED = 32700  # from here on a sample counts as clipped: filters move full scale a little


def level(block):
    """(peak, mean square, clipped samples) of a block, int16 little-endian, all in integers.

    Both are 0 for an empty block. About 20 us a sample on a Pico.
    """
    n = len(block) >> 1
    peak = clipped = high = low = 0
    for i in range(0, 2 * n, 2):
        x = block[i] | block[i + 1] << 8
        if x & 0x8000:
            x = 0x10000 - x
        if x > peak:
            peak = x
        if x >= CLIPPED:
            clipped += 1
        # In two parts, so that small integers of 31 bits hold the sum of a second or two.
        x *= x
        high += x >> 15
        low += x & 0x7FFF
    return peak, ((high << 15) + low) // n if n else 0, clipped


def trouble(levels):
    """What is wrong with the microphone, in a sentence, or "".

    levels: what level() gave for the blocks of a second or more, in a row. An INMP441 is silent for
    half a second after its start: leave that out.
    """
    peak = clipped = loudest = 0
    for p, square, c in levels:
        peak, clipped, loudest = max(peak, p), clipped + c, max(loudest, square)
    if not levels:
        return ""
    if peak <= 1:
        return (
            "No sound comes from the microphone: check its wires and pins, and that L/R is "
            "connected to GND."
        )
    if clipped > len(levels):
        return (
            "The sound is clipped (%d samples): speak from further away or set a lower gain."
            % clipped
        )
    if loudest < 16:
        return "The microphone is almost silent: come closer, or set a higher gain."
    return ""
