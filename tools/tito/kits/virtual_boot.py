# mypy: ignore-errors
# ruff: noqa: PTH123, PTH208, SIM115
"""Runs first in the virtual kit's MicroPython: mounts its flash, then boot.py and main.py."""


def _boot(names):
    import gc
    import io
    import os
    import sys
    import time

    import machine
    import vfs

    class Flash:
        """A block device (4 KB blocks) on a file of the laptop."""

        def __init__(self, path):
            # Unbuffered on this port: what littlefs has written is in the file, whatever ends us.
            self.file = open(path, "r+b")
            self.blocks = self.file.seek(0, 2) // 4096

        def readblocks(self, block, buf, offset=0):
            self.file.seek(block * 4096 + offset)
            self.file.readinto(buf)

        def writeblocks(self, block, buf, offset=0):
            self.file.seek(block * 4096 + offset)
            self.file.write(buf)

        def ioctl(self, op, arg):
            return {4: self.blocks, 5: 4096}.get(op, 0)

    laptop = vfs.VfsPosix("/")

    class Pin:
        """A pin to which nothing but the microphone is connected."""

        def __init__(self, number):
            self.number = number

    class I2S(io.IOBase):
        """A port with an INMP441 (see tito.kits.microphone) or with nothing, read like a Pico's.

        What comes in real time is kept in pieces of 16 frames of 8 bytes in `ibuf`, and dropped
        where that is full.
        """

        RX, MONO = 0, 0

        def __init__(self, number, *, sck, ws, sd, mode, bits, format, rate, ibuf):
            known = rate in (8000, 16000)
            if mode or format or bits != 32 or ws.number != sck.number + 1 or not known:
                raise ValueError(
                    "the virtual port reads mono, 32 bits, at 8000 or 16000 Hz, with ws at sck + 1"
                )
            try:
                self._file = laptop.open(f"{os.getenv('KIT_SOUND')}.{rate}", "rb")
            except OSError:
                self._file = None
            else:
                self._samples = self._file.seek(0, 2) // 2
                self._noise = rate  # the last second is what follows for ever
            self._bytes = bytearray(2)
            self._rate, self._room = rate, (ibuf - 1) // 128 * 16
            self._pieces, self._held = [], 0  # (first sample, samples), and all together
            self._start, self._due = time.ticks_us(), 0

        def _come(self):
            """Keep what has come since the last time, as far as there is room for it."""
            us = time.ticks_diff(time.ticks_us(), self._start)
            due = us * self._rate // 16000000 * 16
            n = min(due - self._due, (self._room - self._held) // 16 * 16)
            if n:
                self._pieces.append((self._due, n))
                self._held += n
            self._due = due

        def ioctl(self, request, arg):
            if request != 3:  # not a poll
                return -1
            self._come()
            return arg & 1 if self._held else 0

        def readinto(self, buf):
            self._come()
            at = 0
            while at < len(buf) and self._pieces:
                first, n = self._pieces.pop(0)
                taken = min(n, (len(buf) - at) // 4)
                if taken < n:
                    self._pieces.insert(0, (first + taken, n - taken))
                self._held -= taken
                for i in range(first, first + taken):
                    word = self._sample(i) << 12
                    for k in range(4):
                        buf[at + k] = word >> 8 * k & 255
                    at += 4
            return at

        def _sample(self, i):
            if not self._file:
                return 0
            if i >= self._samples:
                i = self._samples - self._noise + (i - self._samples) % self._noise
            self._file.seek(2 * i)
            self._file.readinto(self._bytes)
            return (self._bytes[0] | self._bytes[1] << 8 ^ 0x8000) - 0x8000

        def deinit(self):
            if self._file:
                self._file.close()

    class Machine:
        """This port's `machine`, and what it lacks of a board's."""

        unique_id = staticmethod(lambda: b"virtual\x00")
        freq = staticmethod(lambda hz=None: 125_000_000)
        # As abrupt as on a board: no finalisers, no goodbye.
        reset = staticmethod(lambda: os.system("kill -9 $PPID"))

    for name in dir(machine):
        if not name.startswith("__"):
            setattr(Machine, name, getattr(machine, name))
    Machine.Pin, Machine.I2S = Pin, I2S
    sys.modules["machine"] = Machine

    def finalise():
        # A board runs all finalisers at a soft reset, which closes the files left open.
        for name in list(names):
            if name != "__name__":
                del names[name]
        gc.collect()

    sys.atexit(finalise)

    flash = Flash(os.getenv("KIT_IMAGE"))
    os.umount("/")
    try:
        os.mount(vfs.VfsLfs2(flash, progsize=256), "/")
    except OSError:
        vfs.VfsLfs2.mkfs(flash, progsize=256)
        os.mount(vfs.VfsLfs2(flash, progsize=256), "/")
    os.chdir("/")
    sys.path[:] = ["", ".frozen", "/lib"]
    print("virtual kit up")

    for script in ("boot.py", "main.py"):
        if script in os.listdir() and not (script == "main.py" and os.getenv("KIT_RAW")):
            try:
                exec(open(script).read(), names)
            except (Exception, KeyboardInterrupt) as error:
                sys.print_exception(error)


_boot(globals())
del _boot
