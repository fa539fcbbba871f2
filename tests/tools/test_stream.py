"""The stream over a bad line, to a real agent in a real MicroPython."""

import random
import zlib

import pytest

from tinytorch_core import link
from tito.board.device import Device, connect
from tito.board.repl import FILLER, Repl
from tito.board.stream import CHUNK, Stream
from tito.errors import TitoError
from tito.kits.open import Kit, open_kit

DATA = random.Random(5).randbytes(30_000)


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYTORCH_HOME", str(tmp_path_factory.mktemp("home")))
        with open_kit("virtual") as kit:
            yield kit


@pytest.fixture
def device(kit):
    with connect(kit) as device:
        yield device
        kit.set(faults=None)


def put(stream: Stream, data: bytes) -> None:
    """Send a plain file; the board compares its CRC at the end."""
    stream.ask(link.PUT, 1, name="file", size=len(data), fresh=True)
    stream.send(data)
    stream.ask(link.END, 1, crc=zlib.crc32(data))


def test_filler_ends_any_frame():
    assert len(FILLER) >= link.PAYLOAD + link.OVERHEAD


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("fault", ["flip", "drop", "dup"])
def test_bytes_that_are_flipped_dropped_or_doubled(kit: Kit, device: Device, fault, window):
    device.stream.window = window
    for direction, rate in (("in", 1e-4), ("out", 2e-3)):
        kit.set(faults={fault: rate, "direction": direction, "seed": window})
        put(device.stream, DATA)
    kit.set(faults={"flip": 3e-5, "drop": 3e-5, "dup": 3e-5, "seed": 7 + window})
    put(device.stream, DATA)


def test_a_line_that_is_dead_ends_in_one_sentence(kit: Kit, device: Device):
    kit.set(faults={"drop": 1.0, "after": 9000, "direction": "in"})
    with pytest.raises(TitoError, match="stopped answering"):
        put(device.stream, DATA)


def test_a_clean_line_needs_no_byte_twice(device: Device, monkeypatch):
    sent = []
    write = Repl.write
    monkeypatch.setattr(
        Repl, "write", lambda self, data: (sent.append(len(data)), write(self, data))
    )
    put(device.stream, DATA)
    chunks = -(-len(DATA) // CHUNK)
    frames = [n for n in sent if n > 200]
    assert len(frames) == chunks
    assert sum(frames) == len(DATA) + chunks * (link.OVERHEAD + 4)
