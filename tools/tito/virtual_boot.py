# mypy: ignore-errors
# ruff: noqa: PTH123, PTH208, SIM115
"""Runs first in the virtual kit's MicroPython: mounts its flash, then boot.py and main.py."""


def _boot(names):
    import gc
    import os
    import sys

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

    class Machine:
        """This port's `machine`, and what it lacks of a board's."""

        unique_id = staticmethod(lambda: b"virtual\x00")
        freq = staticmethod(lambda hz=None: 125_000_000)
        # As abrupt as on a board: no finalisers, no goodbye.
        reset = staticmethod(lambda: os.system("kill -9 $PPID"))

    for name in dir(machine):
        if not name.startswith("__"):
            setattr(Machine, name, getattr(machine, name))
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
