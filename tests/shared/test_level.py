"""Loudness of a block: checked against plain arithmetic, at both ends of int16."""

from array import array

from tinytorch_core.level import CLIPPED, level, trouble


def pcm(*samples):
    return bytes(array("h", samples))


def test_level():
    assert level(b"") == (0, 0, 0)
    assert level(pcm(0, -1, 1)) == (1, 0, 0)
    assert level(pcm(3, -5)) == (5, 17, 0)
    assert level(pcm(-32768) + b"\x01") == (32768, 1 << 30, 1)
    assert level(pcm(CLIPPED, -CLIPPED, CLIPPED - 1)) == (
        CLIPPED,
        (2 * CLIPPED**2 + (CLIPPED - 1) ** 2) // 3,
        2,
    )
    n = 4000
    assert level(pcm(*[-32768] * n)) == (32768, 1 << 30, n)


def test_trouble():
    quiet, speech = level(pcm(*[2, -3] * 400)), level(pcm(*[900, -1200] * 400))
    dead, hot = level(pcm(*[0] * 800)), level(pcm(*[32767, -32768] * 400))
    assert trouble([]) == trouble([speech]) == trouble([dead, speech, quiet]) == ""
    assert "wires" in trouble([dead, dead])
    assert "almost silent" in trouble([dead, quiet])
    assert "clipped (800 samples)" in trouble([speech, hot])
