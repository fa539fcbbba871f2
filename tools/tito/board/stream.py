"""The laptop's end of the wire: requests with answers, and files by go-back-N.

Frames and requests are those of tinytorch_core.link. A request is repeated until it is answered,
which is safe: the board knows a repeated one by its seq. A file goes out in chunks, some of them
under way at once; the board's acknowledgement says up to where it has written, and where that does
not move on, the chunks go out again from there.
"""

import json
import struct
from collections.abc import Callable
from typing import Any

from tinytorch_core import link
from tito.board.repl import FILLER, Repl
from tito.errors import TitoError

CHUNK = link.PAYLOAD - 4
ANSWER = 0.5  # seconds for an answer that takes the board no work to speak of
GIVE_UP = 4.0  # seconds without an answer after which there will be none

Progress = Callable[[int, int], None]  # called with (bytes done, bytes in all)


class Stream:
    """Frames to and from the agent that runs behind `repl`.

    window: chunks that may be under way unacknowledged: 4 where USB or a pseudo-terminal holds the
    line up, 1 where a UART without flow control would lose them.
    """

    def __init__(self, repl: Repl, window: int) -> None:
        self._repl, self.window = repl, window
        self._reader = link.Reader(0xFFFF)
        self._seq = 0
        self._timeout = ANSWER

    def _readinto(self, view: memoryview) -> int:
        data = self._repl.read(len(view), self._timeout)
        view[: len(data)] = data
        return len(data)

    def _receive(self, timeout: float) -> bool:
        self._timeout = timeout
        return self._reader.read(self._readinto)

    def _silent(self) -> TitoError:
        return TitoError(
            f"The kit on {self._repl.port} stopped answering: check that it is plugged in and try "
            "again; a transfer continues where it stopped."
        )

    def wait_ready(self) -> None:
        """Wait for the agent to say that it has started."""
        while self._receive(5):
            if self._reader.kind == link.READY:
                return
        raise self._silent()

    def request(self, kind: int, payload: bytes = b"", timeout: float = ANSWER) -> bytes:
        """Ask, and return the payload of the answer.

        timeout: seconds that the board may take. Raises TitoError with the board's own sentence, or
        if it does not answer.
        """
        self._seq = self._seq % 255 + 1
        frame = link.frame(kind, self._seq, payload)
        for _ in range(max(3, round(GIVE_UP / timeout))):
            self._repl.write(frame)
            while self._receive(timeout):
                reply = self._reader
                if reply.seq == self._seq and reply.kind == link.OK:
                    return bytes(reply.payload)
                if reply.seq == self._seq and reply.kind == link.ERROR:
                    raise TitoError(bytes(reply.payload).decode())
            # A byte was lost, and the board may be waiting for the rest of a frame.
            self._repl.write(FILLER)
        raise self._silent()

    def ask(self, kind: int, timeout: float = ANSWER, **fields: object) -> Any:
        """A request whose payload is a JSON object and whose answer is JSON."""
        return json.loads(self.request(kind, json.dumps(fields).encode(), timeout))

    def send(self, data: bytes, at: int = 0, progress: Progress | None = None) -> None:
        """Send data[at:] to the transfer that PUT has begun there.

        Raises TitoError if the board cannot write or stops answering.
        """
        acked = sent = at
        repeated = -1  # the position from which chunks were last sent again
        silent = 0
        while acked < len(data):
            while sent < len(data) and sent - acked < self.window * CHUNK:
                chunk = data[sent : sent + CHUNK]
                self._repl.write(link.frame(link.DATA, 0, struct.pack("<I", sent) + chunk))
                sent += len(chunk)
            if not self._receive(ANSWER):
                silent += 1
                if silent * ANSWER >= GIVE_UP:
                    raise self._silent()
                self._repl.write(FILLER)
                sent = acked
                continue
            if self._reader.kind == link.ERROR and self._reader.seq == 0:
                raise TitoError(bytes(self._reader.payload).decode())
            if self._reader.kind != link.ACK:
                continue
            (written,) = struct.unpack("<I", self._reader.payload)
            if written > acked:
                acked, sent, silent = written, max(sent, written), 0
                if progress:
                    progress(acked, len(data))
            elif written == acked != repeated:
                # The board got a later chunk: this one is lost. The other chunks that were under
                # way report the same loss, and must not cause another repetition.
                repeated = sent = acked
