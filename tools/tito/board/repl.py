"""A small client for MicroPython's raw REPL over a serial port.

The protocol is that of MicroPython's documentation, "The MicroPython Interactive Interpreter Mode
(aka REPL)", with raw-paste mode, whose flow control suits boards with small input buffers.
"""

import contextlib
import errno
import struct
import time

import serial

from tito.closing import Closing
from tito.errors import TitoError, UsageError

BAUD = 115200
BANNER = b"raw REPL; CTRL-B to exit\r\n>"

# A program may sit in readinto() with Ctrl-C switched off, waiting for the rest of a frame. A frame
# has at most 1037 bytes, so this many end any frame (its CRC is then wrong).
FILLER = b"\x00" * 1100


class DeviceError(TitoError):
    """Code on the kit ended in an exception. `.traceback` is what MicroPython printed of it."""

    def __init__(self, port: str, traceback: str) -> None:
        self.traceback = traceback.strip()
        last = self.traceback.rsplit("\n", 1)[-1].strip().rstrip(":")
        super().__init__(f"The kit on {port} stopped with {last}.")


class Repl(Closing):
    """MicroPython behind `port`. Timeouts are in seconds and are stretched by `timeout_scale`.

    goodbye: bytes that make a receiver of the TinyTorch agent leave (a BYE frame), for enter().
    Raises UsageError if there is no such port, and TitoError for everything else.
    """

    def __init__(self, port: str, timeout_scale: float = 1.0, goodbye: bytes = b"") -> None:
        self.port, self.timeout_scale, self.goodbye = port, timeout_scale, goodbye
        self._buffer = bytearray()
        self._serial = _open(port)
        self._serial.write_timeout = 10 * timeout_scale

    def close(self) -> None:
        """Leave the raw REPL and close the port. Never raises: the kit may be gone."""
        if self._serial.is_open:
            with contextlib.suppress(TitoError):
                self.write(b"\r\x02")
            with contextlib.suppress(OSError):
                self._serial.close()

    # Bytes.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self._serial.write(data)
        except serial.SerialTimeoutException:
            raise TitoError(
                f"The kit on {self.port} takes no more bytes: press its reset button and try again."
            ) from None
        except (OSError, TypeError, AttributeError):
            raise self._gone() from None

    def read(self, most: int, timeout: float) -> bytes:
        """Up to `most` bytes: what has come, or comes first within `timeout` seconds; or b""."""
        if not self._buffer:
            self._fill(timeout * self.timeout_scale)
        data = bytes(self._buffer[:most])
        del self._buffer[:most]
        return data

    def discard(self, quiet: float = 0.05) -> bytes:
        """Read until nothing comes for `quiet` seconds; returns the last bytes, at most 200."""
        end = time.monotonic() + 1
        while self._fill(quiet) and time.monotonic() < end:
            del self._buffer[:-200]
        last = bytes(self._buffer)
        self._buffer.clear()
        return last

    def _fill(self, seconds: float) -> bool:
        """Wait at most `seconds` for bytes and take all that are there. False: none came."""
        try:
            if seconds != self._serial.timeout:  # setting it costs system calls
                self._serial.timeout = seconds
            data = self._serial.read(1)
            if data:
                data += self._serial.read(self._serial.in_waiting)
        except (OSError, TypeError, AttributeError):
            # pyserial raises the latter two when the descriptor is closed under it.
            raise self._gone() from None
        self._buffer += data
        return bool(data)

    def until(self, end: bytes, timeout: float) -> bytes | None:
        """All bytes up to and with `end`, or None if it does not come within `timeout` seconds."""
        deadline = time.monotonic() + timeout * self.timeout_scale
        start = 0
        while (at := self._buffer.find(end, start)) < 0:
            start = max(0, len(self._buffer) - len(end) + 1)
            left = deadline - time.monotonic()
            if left <= 0 or not self._fill(left):
                return None
        data = bytes(self._buffer[: at + len(end)])
        del self._buffer[: at + len(end)]
        return data

    def _gone(self) -> TitoError:
        return TitoError(
            f"The kit on {self.port} went away: check the cable and the power, then try again."
        )

    def _silent(self) -> TitoError:
        return TitoError(
            f"The kit on {self.port} stopped answering: press its reset button and try again."
        )

    # The raw REPL.

    def enter(self, soft_reset: bool = True) -> None:
        """Interrupt whatever runs and enter the raw REPL, by default with a fresh heap.

        Raises TitoError if the board does not answer, or if what answers is not MicroPython.
        """
        answer = b""
        for unblock in (b"", FILLER + self.goodbye):
            self.write(unblock + b"\r\x03")
            time.sleep(0.02)
            self.write(b"\x03")
            answer = self.discard() or answer
            self.write(b"\r\x01")
            # The kit has nothing to compute here, so timeout_scale counts for less than elsewhere.
            if self.until(BANNER, 0.98 / self.timeout_scale + 0.02):
                break
            answer = self.discard() or answer
        else:
            if answer:
                said = answer.decode(errors="replace").strip()[-40:]
                raise TitoError(
                    f"What answers on {self.port} is not MicroPython (it sent {said!r}): flash "
                    "MicroPython 1.23 or later, see https://micropython.org/download."
                )
            raise TitoError(
                f"The board on {self.port} does not answer: check the cable, press its reset "
                "button, and check that it has MicroPython 1.23 or later."
            )
        if soft_reset:
            self.soft_reset()

    def soft_reset(self) -> None:
        """A fresh interpreter, in the raw REPL; boot.py runs, main.py does not."""
        self.write(b"\x04")
        if self.until(b"soft reboot\r\n", 5) is None or self.until(BANNER, 10) is None:
            raise self._silent()

    def exec_start(self, code: str | bytes) -> None:
        """Send `code` and have it started; it may then talk through read() and write()."""
        source = code.encode() if isinstance(code, str) else code
        self.write(b"\x05A\x01")
        head = self._exactly(2)
        if head != b"R\x01":
            raise TitoError(
                f"The board on {self.port} does not take code in raw-paste mode: flash "
                "MicroPython 1.23 or later, see https://micropython.org/download."
            )
        window = left = struct.unpack("<H", self._exactly(2))[0]
        at = 0
        while at < len(source):
            while left == 0 or self._buffer or self._fill(0):
                if self._exactly(1) == b"\x04":  # no memory for more, or a syntax error
                    self.write(b"\x04")
                    self.exec_end()
                    raise self._silent()
                left += window
            part = source[at : at + left]
            self.write(part)
            at += len(part)
            left -= len(part)
        self.write(b"\x04")
        if self.until(b"\x04", 10) is None:
            raise self._silent()

    def exec_end(self, timeout: float = 10) -> bytes:
        """Wait for the code to end. Returns what it printed; raises DeviceError for its error."""
        printed, error = self.until(b"\x04", timeout), self.until(b"\x04", timeout)
        if printed is None or error is None or self.until(b">", timeout) is None:
            raise self._silent()
        if error[:-1]:
            raise DeviceError(self.port, error[:-1].decode(errors="replace"))
        return printed[:-1]

    def exec(self, code: str | bytes, timeout: float = 10) -> bytes:
        """Run `code` on the kit. Returns the bytes it printed (a board ends lines with CRLF)."""
        self.exec_start(code)
        return self.exec_end(timeout)

    def _exactly(self, count: int, timeout: float = 5) -> bytes:
        while len(self._buffer) < count:
            if not self._fill(timeout * self.timeout_scale):
                raise self._silent()
        return self.read(count, 0)


def _open(port: str) -> serial.Serial:
    """Open `port` exclusively. Raises UsageError or TitoError with the reason."""
    try:
        return serial.Serial(port, BAUD, exclusive=True)
    except ValueError:
        raise UsageError(f"{port!r} is not the name of a serial port: see `tito kits`.") from None
    except OSError as error:
        code, said = error.errno, str(error)
    if code in (errno.ENOENT, errno.ENXIO) or "FileNotFoundError" in said:
        raise UsageError(f"There is no port {port}: `tito kits` lists the kits that are there.")
    # Windows reports PermissionError for a port that another program has open.
    if code in (errno.EBUSY, errno.EAGAIN) or "exclusively" in said or "PermissionError" in said:
        raise TitoError(f"The port {port} is in use by another program: close that first.")
    if code in (errno.EACCES, errno.EPERM):
        raise TitoError(
            f"You have no permission to open {port}: add yourself to its group (on Linux: "
            "sudo usermod -aG dialout $USER) and log in again."
        )
    raise UsageError(f"{port} is not a serial port: `tito kits` lists the kits that are there.")
