"""The kit's end of a serial line: a pseudo-terminal, a flash image, a process that can be ended.

What the virtual kit and the emulated Pico have in common. A kit's process prints one JSON object
when it is ready ({"port": ...}, or {"error": ...} and exit status 1), takes settings as JSON lines
on stdin (each answered by one line), and ends at the end of stdin, so that it never outlives the
process that started it.
"""

import asyncio
import fcntl
import json
import os
import pty
import random
import signal
import sys
import time
import tty
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol

from tito.errors import TitoError, UsageError, reason
from tito.kits.timeout_scale import write_timeout_scale

FLASH_BYTES = 1408 * 1024  # the file system of a Pico with 2 MB of flash
FULL = 8192  # bytes that wait in one direction before the other side is held up


class Faults:
    """A bad line, for tests: flips, drops and repeats bytes, or cuts the kit's power.

    flip, drop, dup: probability per byte. direction: "in" (to the kit), "out" or "both".
    after: bytes in that direction that still pass unharmed. cut: bytes to the kit until its
    process is killed, as if the power had gone.
    """

    def __init__(
        self,
        flip: float = 0.0,
        drop: float = 0.0,
        dup: float = 0.0,
        direction: str = "both",
        after: int = 0,
        cut: int | None = None,
        seed: int = 1,
    ) -> None:
        self.flip, self.drop, self.dup = flip, drop, dup
        self.direction, self.after, self.cut = direction, after, cut
        self.random = random.Random(seed)

    def pass_on(self, direction: str, data: bytes) -> bytes:
        if direction == "in" and self.cut is not None:
            self.cut -= len(data)
            if self.cut < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        if self.direction not in (direction, "both"):
            return data
        spared, data = data[: self.after], data[self.after :]
        self.after -= len(spared)
        out = bytearray(spared)
        for byte in data:
            if self.random.random() < self.drop:
                continue
            if self.random.random() < self.flip:
                byte ^= 1 << self.random.randrange(8)
            out.append(byte)
            if self.random.random() < self.dup:
                out.append(byte)
        return bytes(out)


class Line:
    """A pseudo-terminal: clients open `port`; the kit calls send() and is given what they write."""

    def __init__(
        self, receive: Callable[[bytes], None], timeout_scale: int, link: Path | None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._receive = receive
        # The client's end stays open here too: a client that leaves must not hang up the line.
        self._fd, self._client_fd = pty.openpty()
        tty.setraw(self._client_fd)
        os.set_blocking(self._fd, False)
        write_timeout_scale(self._client_fd, timeout_scale)
        self.port = os.ttyname(self._client_fd)
        self._link = link
        if link:
            if link.exists() and not link.is_symlink():
                raise UsageError(
                    f"{link} is there already and is not a link: give --link another name."
                )
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(self.port)
            self.port = str(link)
        self.faults: Faults | None = None
        self._out = bytearray()
        self.waiting = 0  # bytes that clients have yet to read

    def open(self) -> None:
        """Begin to pass on what clients write."""
        self._loop.add_reader(self._fd, self._readable)

    def hold(self) -> None:
        """Take nothing from clients until open(): the kit has its hands full."""
        self._loop.remove_reader(self._fd)

    def _readable(self) -> None:
        data = os.read(self._fd, 4096)
        self._receive(self.faults.pass_on("in", data) if self.faults else data)

    def send(self, data: bytes) -> None:
        self._out += self.faults.pass_on("out", data) if self.faults else data
        self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                del self._out[: os.write(self._fd, self._out)]
        except BlockingIOError:
            self._loop.add_writer(self._fd, self._flush)
        else:
            self._loop.remove_writer(self._fd)
        self.waiting = len(self._out)

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        os.close(self._fd)
        os.close(self._client_fd)
        if self._link:
            self._link.unlink(missing_ok=True)


def holder(image: Path) -> str:
    """The process that runs a kit on this flash image: "process 123 (port /dev/pts/4)", or ""."""
    lock = image.with_suffix(".lock")
    if not lock.exists():
        return ""
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read() or "another process"
    return ""


def open_image(path: Path, name: str, seconds: float = 1.0) -> tuple[Path, IO[str]]:
    """Create the flash image at `path` if there is none, and lock it for this process.

    Waits a little for a kit that is just ending. Returns the image and the open lock file, which a
    process that writes to the image on our behalf should inherit.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_suffix(".lock").open("a+")
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > end:
                lock.close()
                raise TitoError(
                    f"The {name} kit is in use by {holder(path)}: use that port with --kit, or "
                    "close it."
                ) from None
            time.sleep(0.02)
    lock.truncate(0)
    if not path.exists() or path.stat().st_size == 0:
        try:
            path.write_bytes(b"\xff" * FLASH_BYTES)
        except OSError as error:
            path.unlink()
            lock.close()
            raise TitoError(f"{path} cannot be written: {error.strerror}.") from None
    if path.stat().st_size != FLASH_BYTES:
        lock.close()
        raise TitoError(
            f"{path} is not the flash image of a kit: move it away, and a new one is created."
        )
    return path, lock


class Device(Protocol):
    """What Line and run() need of a kit."""

    async def start(self, options: Namespace, image: Path, lock: IO[str]) -> Line: ...
    def set(self, settings: dict) -> dict: ...
    def stop(self) -> None: ...


async def _serve(device: Device, name: str, options: Namespace) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    image, lock = open_image(options.image, name)
    with lock:
        line = await device.start(options, image, lock)
        try:
            lock.write(f"process {os.getpid()} (port {line.port})")
            lock.flush()

            pending = bytearray()

            def command() -> None:
                data = os.read(sys.stdin.fileno(), 65536)
                if not data:
                    loop.remove_reader(sys.stdin.fileno())
                    ended.set()
                pending.extend(data)
                while (end := pending.find(b"\n")) >= 0:
                    settings = json.loads(pending[:end])
                    del pending[: end + 1]
                    if "faults" in settings:
                        faults = settings.pop("faults")
                        line.faults = Faults(**faults) if faults else None
                    print(json.dumps(device.set(settings)), flush=True)

            loop.add_reader(sys.stdin.fileno(), command)
            line.open()
            print(json.dumps({"port": line.port}), flush=True)
            await ended.wait()
        finally:
            # Callbacks that are still due meet closed files; their errors do not matter.
            loop.set_exception_handler(lambda loop, context: None)
            device.stop()
            line.close()


def run(device: Device, name: str, options: Namespace) -> int:
    """Run a kit's process to its end. Returns the exit status."""
    try:
        asyncio.run(_serve(device, name, options))
    except TitoError as error:
        print(json.dumps({"error": str(error), "status": error.status}), flush=True)
        return error.status
    except OSError as error:
        sentence = f"The {name} kit cannot run: {reason(error)}."
        print(json.dumps({"error": sentence, "status": 1}), flush=True)
        return 1
    return 0
