"""The wire protocol between laptop and board: one frame format in both directions.

    0xA5  kind  seq  length (2 bytes)  payload  CRC-32 (4 bytes) of kind up to payload

Numbers are little-endian. Bytes between frames and damaged frames are skipped: the
receiver looks for the next sync byte among the bytes it has. A reply carries its request's seq.
DATA is a stream of its own (go-back-N): each payload begins with its position in the file,
and each ACK says up to which position the board has written.
"""

import binascii
import struct

SYNC = 0xA5
HEAD = 5
OVERHEAD = HEAD + 4
_SYNC = bytes((SYNC,))
PAYLOAD = 1028  # largest payload that a board takes: a DATA frame of 1024 bytes and its position

# Requests and their payloads. The board answers OK with JSON unless another answer is given.
INFO = 0x41  # -> JSON: the board, its free memory, its models
PUT = 0x42  # JSON name, size, fresh -> JSON at, crc: what the board has of this file
DATA = 0x43  # position (4 bytes), bytes -> ACK
END = 0x44  # JSON crc: close the file, read it back, compare
LOAD = 0x45  # JSON name, new: load and verify the active model, or the new one
ACTIVATE = 0x46  # JSON name: the new model, which was loaded and verified, becomes the active one
RUN = 0x47  # position (4 bytes), bytes of the input -> OK: microseconds (4 bytes), output, if last
DELETE = 0x48  # JSON name
PROFILE = 0x4A  # -> JSON list: the microseconds of each operation in one run
BYE = 0x49  # leave the agent: the REPL is back
LISTEN = (
    0x4B  # JSON source (kind, pins), rate, channels, raw -> JSON: open it, for the loaded model
)
STEP = 0x4C  # nothing, or position (4 bytes), sound if the source is the wire -> OK: see STEP_HEAD
SAMPLES = 0x4D  # -> OK: samples lost so far (4 bytes), samples; fewer than step_bytes: it stalled
STOP_LISTENING = 0x4E  # close the source
# Replies.
READY = 0x61  # the agent has started
OK = 0x62
ACK = 0x63  # position (4 bytes)
ERROR = 0x64  # one sentence, UTF-8

# The answer to STEP: microseconds waited for samples, microseconds of the model and its detector,
# bytes of free heap, samples lost so far, the label recognised or -1, the loudest sample (0 to
# 32768); then a score (uint8) and the output (int8) of each label. A head alone: the source has
# stalled, and the step goes on with the next request. Nothing at all: the wire owes more sound.
STEP_HEAD = "<IIIIbH"


def frame(kind, seq=0, payload=b""):
    """One frame as a bytearray. payload: any buffer of up to 65535 bytes."""
    end = HEAD + len(payload)
    out = bytearray(end + 4)
    struct.pack_into("<BBBH", out, 0, SYNC, kind, seq, len(payload))
    out[HEAD:end] = payload
    struct.pack_into("<I", out, end, binascii.crc32(memoryview(out)[1:end]))
    return out


class Reader:
    """Parses frames from a stream of bytes, in a buffer that is allocated once.

    After `read` has said True, `kind`, `seq` and `payload` (a view, valid until the next `read`)
    are those of the frame.
    """

    def __init__(self, payload=PAYLOAD):
        self._size = payload
        self._buffer = bytearray(payload + OVERHEAD)
        self._view = memoryview(self._buffer)
        self._fill = 0  # bytes in the buffer
        self._used = 0  # bytes of the frame that was delivered last
        self.kind = self.seq = 0
        self.payload = self._view[:0]

    def read(self, readinto):
        """Wait for a frame: True, or False where nothing came in time.

        readinto(view) puts up to len(view) bytes there and returns how many, 0 after a timeout.
        It is never asked for more than the frame under way needs, because a board's
        `sys.stdin.buffer.readinto` blocks until it has them all.
        """
        self._drop(self._used)
        self._used = 0
        while True:
            want = self._want()
            if not want:
                return True
            n = readinto(self._view[self._fill : self._fill + want])
            if n:
                self._fill += n
            elif self._fill:
                self._drop(1)  # time was up inside a frame: it was none, or its rest is lost
            else:
                return False

    def _want(self):
        """How many bytes the frame at the head of the buffer lacks; 0 when it is complete."""
        buffer, view = self._buffer, self._view
        self._drop(0)
        while self._fill >= OVERHEAD:
            kind, seq, n = struct.unpack_from("<BBH", buffer, 1)
            if n <= self._size:
                end = HEAD + n
                if self._fill < end + 4:
                    return end + 4 - self._fill
                if binascii.crc32(view[1:end]) == struct.unpack_from("<I", buffer, end)[0]:
                    self._used = end + 4
                    self.kind, self.seq, self.payload = kind, seq, view[HEAD:end]
                    return 0
            self._drop(1)
        return OVERHEAD - self._fill

    def _drop(self, n):
        """Forget n bytes, and those up to the next sync byte."""
        at = self._buffer.find(_SYNC, n, self._fill)
        if at < 0:
            self._fill = 0
        elif at:
            self._view[: self._fill - at] = self._view[at : self._fill]
            self._fill -= at
