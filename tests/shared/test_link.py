"""The frames of the wire: everything arrives, and nothing that is damaged."""

import random

from tinytorch_core import link


class Wire:
    """A stream that hands out at most `step` bytes a call, and 0 at its end."""

    def __init__(self, data, step=10000):
        self.data = bytes(data)
        self.step = step
        self.at = 0
        self.asked = []

    def readinto(self, view):
        self.asked.append(len(view))
        part = self.data[self.at : self.at + min(len(view), self.step)]
        view[: len(part)] = part
        self.at += len(part)
        return len(part)


def frames(data, size=link.PAYLOAD, step=10000):
    wire, reader, found = Wire(data, step), link.Reader(size), []
    while reader.read(wire.readinto):
        found.append((reader.kind, reader.seq, bytes(reader.payload)))
    assert wire.at == len(wire.data)
    return found


def crc32(data):
    """CRC-32 (IEEE 802.3) bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_layout():
    head = b"\x42\x07\x03\x00abc"
    assert bytes(link.frame(0x42, 7, b"abc")) == b"\xa5" + head + crc32(head).to_bytes(4, "little")


def test_frames_come_back_however_the_stream_is_cut():
    sent = [
        (link.RUN, i, bytes(range(256)) * 4 + b"\xa5\xa5" if i == 5 else b"\xa5" * i)
        for i in range(9)
    ]
    data = b"".join(bytes(link.frame(*f)) for f in sent)
    for step in (1, 2, 3, 7, 64, 10000):
        assert frames(data, step=step) == sent


def test_a_reader_never_asks_for_bytes_behind_its_frame():
    wire = Wire(link.frame(link.RUN, 1, b"x" * 100) + b"rest")
    reader = link.Reader()
    assert reader.read(wire.readinto)
    assert wire.data[wire.at :] == b"rest"
    assert wire.asked == [link.OVERHEAD, 100]


def test_garbage_between_frames_is_skipped():
    good = bytes(link.frame(link.OK, 3, b"good"))
    noise = b"OK\r\n\xa5 Traceback \xa5\xff\xff\xff\xff\xff\xff" + bytes(2000)
    assert frames(noise + good + noise + good + noise) == [(link.OK, 3, b"good")] * 2


def test_the_frame_after_a_damaged_one_survives():
    first = bytes(link.frame(link.DATA, 0, bytes(range(200))))
    good = bytes(link.frame(link.DATA, 1, b"after"))
    for i in range(len(first)):
        # One byte flipped, dropped or doubled; a wrong length may swallow frames that wait behind.
        for bad in (
            first[:i] + bytes((first[i] ^ 0x10,)) + first[i + 1 :],
            first[:i] + first[i + 1 :],
            first[: i + 1] + first[i:],
            first[:i],
        ):
            found = frames(bad + good)
            assert found[-1] == (link.DATA, 1, b"after")
            assert all(
                f in ((link.DATA, 0, bytes(range(200))), (link.DATA, 1, b"after")) for f in found
            )


def test_random_damage_never_yields_a_wrong_frame():
    random.seed(1)
    for _ in range(60):
        sent = [(link.DATA, i, bytes(random.getrandbits(8) for _ in range(20))) for i in range(10)]
        data = bytearray(b"".join(bytes(link.frame(*f)) for f in sent))
        for _ in range(4):
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        found = frames(data, size=64)
        assert len(found) >= 6
        assert all(f in sent for f in found)


def test_a_frame_larger_than_the_buffer_is_skipped():
    data = link.frame(link.RUN, 1, bytes(65)) + link.frame(link.RUN, 2, bytes(64))
    assert frames(data, size=64) == [(link.RUN, 2, bytes(64))]


def test_filler_frees_a_reader_wherever_it_waits():
    filler = bytes(link.PAYLOAD + link.OVERHEAD)
    for payload in (0, 5, link.PAYLOAD):
        f = bytes(link.frame(link.DATA, 0, bytes(payload)))
        for cut in range(0, len(f), 97):
            assert frames(f[:cut] + filler + link.frame(link.BYE))[-1] == (link.BYE, 0, b"")


def test_bye_holds_no_control_character_that_the_repl_obeys():
    assert not [b for b in link.frame(link.BYE) if b in b"\x01\x02\x03\x04\x05"]
