"""The virtual kit: MicroPython's unix port in its own process, made to behave like a board.

client <-> pseudo-terminal <-> this process <-> pseudo-terminal <-> micropython

The unix port knows no soft reset, takes Ctrl-C only as a signal and has the laptop's files. Here
it gets a flash of its own (littlefs on an image file), a board's heap, soft reset at Ctrl-D, and
Ctrl-C exactly while it would interrupt a board: while code runs and kbd_intr(-1) is not set.
"""

import argparse
import asyncio
import os
import pty
import shutil
import signal
import subprocess
import sys
import tty
from pathlib import Path
from typing import IO

from tito.errors import TitoError
from tito.kits.line import FULL, Line, run

# A Pico has 229 KB free after boot. Words are twice as wide here, which is worth another 32 KB to
# the runtime's own objects; weights and arenas are bytes and weigh the same.
HEAP = "264k"

# What virtual_boot.py prints first: from here on MicroPython has its terminal and its signals.
UP = b"virtual kit up\n"

CTRL_A, CTRL_C = b"\x01", 3
RAW_BANNER, FRIENDLY_BANNER, PROMPT = b"raw REPL; CTRL-B to exit\r\n>", b'Type "help()"', b">>> "


def micropython() -> str:
    """The path of MicroPython's unix port: $MICROPYTHON, this environment's, or the PATH's."""
    beside = Path(sys.executable).with_name("micropython")
    path = os.environ.get("MICROPYTHON") or (str(beside) if beside.exists() else None)
    path = path or shutil.which("micropython")
    if not path:
        raise TitoError(
            "There is no MicroPython for the virtual kit: install a `micropython` (unix port, "
            "1.24 or later) on the PATH, or use --kit pico."
        )
    return path


class VirtualKit:
    def __init__(self) -> None:
        self._pid = 0
        self._console = -1
        self._in = bytearray()
        self._tail = b""
        self._raw = False  # in the raw REPL
        self._up = False  # virtual_boot.py runs
        self._rebooting_raw = False  # after a soft reset, on the way back to the raw REPL
        self._looked_twice = False

    async def start(self, options: argparse.Namespace, image: Path, lock: IO[str]) -> Line:
        self._loop = asyncio.get_running_loop()
        self._command = [micropython(), "-X", f"heapsize={options.heap}", "-i"]
        self._command.append(str(Path(__file__).with_name("virtual_boot.py")))
        self._image, self._lock = image, lock
        self._line = Line(self._receive, timeout_scale=1, link=options.link)
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._boot()
        try:
            await asyncio.wait_for(self._started, 10)
        except (asyncio.TimeoutError, EOFError):
            self.stop()
            self._line.close()
            printed = self._tail.decode(errors="replace").strip()
            raise TitoError(f"The program {self._command[0]} does not run: {printed}") from None
        return self._line

    def set(self, settings: dict) -> dict:
        return {}

    def stop(self) -> None:
        self._end()

    def _boot(self) -> None:
        env = {"KIT_IMAGE": str(self._image), "PATH": os.environ.get("PATH", "")}
        env["KIT_SOUND"] = str(
            self._image.with_suffix(".sound")
        )  # see tito.kits.microphone.path_of
        if self._raw:
            env["KIT_RAW"] = "1"
        self._rebooting_raw, self._tail = self._raw, b""
        self._up = False
        # The terminal controls the child: when this process dies, however it dies, so does it.
        # It inherits the lock, so that the next kit waits until this one has really ended.
        os.set_inheritable(self._lock.fileno(), True)
        self._pid, self._console = pty.fork()
        if not self._pid:
            try:
                tty.setraw(0)
                os.execve(self._command[0], self._command, env)
            finally:
                os._exit(127)
        os.set_blocking(self._console, False)
        self._loop.add_reader(self._console, self._printed)

    def _end(self) -> int:
        """Stop MicroPython without warning, like a power cut. Returns its wait status."""
        self._loop.remove_reader(self._console)
        self._loop.remove_writer(self._console)
        os.kill(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        os.close(self._console)
        return status

    # From the client to MicroPython.

    def _receive(self, data: bytes) -> None:
        self._in += data
        if len(self._in) > FULL:
            self._line.hold()
        self._feed()

    def _feed(self) -> None:
        while self._in and self._up:
            if self._in[0] == CTRL_C:
                if self._interruptible():
                    os.kill(self._pid, signal.SIGINT)
                    # A second SIGINT before the first is handled would end the process, while on a
                    # board a second Ctrl-C changes nothing: one is enough, then a short wait.
                    while self._in and self._in[0] == CTRL_C:
                        del self._in[0]
                    self._loop.call_later(0.005, self._feed)
                    return
                if not self._looked_twice and len(self._in) == 1:
                    # Code may be about to start: look again before this becomes plain data.
                    self._looked_twice = True
                    self._loop.call_later(0.003, self._feed)
                    return
            elif self._rebooting_raw:
                return
            self._looked_twice = False
            end = self._in.find(CTRL_C, 1)
            try:
                sent = os.write(self._console, self._in[: end if end > 0 else None])
            except BlockingIOError:
                self._loop.add_writer(self._console, self._feed)
                return
            except OSError:
                return  # MicroPython has ended: _printed() starts it again
            del self._in[:sent]
        self._loop.remove_writer(self._console)
        if not self._in:
            self._line.open()

    def _interruptible(self) -> bool:
        """Does MicroPython catch SIGINT now? It does where a board would heed Ctrl-C."""
        status = Path(f"/proc/{self._pid}/status")
        if status.exists():
            caught = status.read_text().split("SigCgt:")[1].split()[0]
        else:
            ps = ["ps", "-o", "sigcatch=", "-p", str(self._pid)]
            caught = subprocess.run(ps, capture_output=True, text=True).stdout.strip() or "0"
        return bool(int(caught, 16) >> (signal.SIGINT - 1) & 1)

    # From MicroPython to the client.

    def _printed(self) -> None:
        if self._line.waiting > FULL:
            # Nobody reads: MicroPython is held up in its print, as a board is.
            self._loop.remove_reader(self._console)
            self._loop.call_later(0.01, self._loop.add_reader, self._console, self._printed)
            return
        try:
            data = os.read(self._console, 4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._console)
            if self._started.done():
                # One that cannot even start any more is not started again at full speed.
                self._loop.call_later(0 if self._up else 1, self._reboot)
            else:
                self._started.set_exception(EOFError())
            return
        if not self._up:
            started, mark, data = (self._tail + data).partition(UP)
            self._tail = started
            if not mark:
                return
            self._up, self._tail = True, b""
            if not self._started.done():
                self._started.set_result(None)
        seen = self._tail + data
        self._tail = seen[-len(RAW_BANNER) :]
        if RAW_BANNER in seen:
            self._raw, self._rebooting_raw, self._tail = True, False, b""
        elif FRIENDLY_BANNER in seen and not self._rebooting_raw:
            self._raw = False
        elif self._rebooting_raw and seen.endswith(PROMPT):
            os.write(self._console, CTRL_A)
        self._line.send(data)
        if self._in:
            self._feed()

    def _reboot(self) -> None:
        status = self._end()
        if os.WIFEXITED(status):
            self._line.send(b"MPY: soft reboot\r\n")
        else:
            self._raw = False  # machine.reset(), or a crash: like power off and on
        self._boot()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tito.kits.virtual", description=__doc__)
    parser.add_argument("--image", type=Path, required=True, help="flash image, made if absent")
    parser.add_argument("--link", type=Path, help="symbolic link to the port")
    parser.add_argument("--heap", default=HEAP, help=f"heap size (default {HEAP})")
    return run(VirtualKit(), "virtual", parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
