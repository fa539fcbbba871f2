"""The board's name, version and clock."""

import sys


def describe():
    """A dict of board (its own name), micropython (version), platform, word (bytes), frequency (Hz)
    and id (hex)."""
    import binascii

    import machine

    about = sys.implementation
    frequency = machine.freq()
    return {
        "board": about._machine,
        "micropython": "%d.%d.%d" % about.version[:3],
        "platform": sys.platform,
        "word": 8 if sys.maxsize >> 31 else 4,
        # Some ports give a tuple, the core's first.
        "frequency": frequency if isinstance(frequency, int) else frequency[0],
        "id": binascii.hexlify(machine.unique_id()).decode(),
    }
