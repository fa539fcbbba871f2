"""A flash in RAM under littlefs, the boards' own file system, whose power can be cut."""

import os

import vfs

BLOCK = 4096
BLOCKS = 40


class Flash:
    def __init__(self, data):
        self.data = bytearray(data)
        self.left = -1  # operations that are still done before the cut; -1: no cut
        self.torn = False  # the cut does half of an operation
        self.cut = False
        self.done = 0

    def step(self):
        """Count an operation: 2 it is done, 1 it is the one that the cut tears, 0 too late."""
        self.done += 1
        if self.cut:
            return 0
        if self.left == 0:
            self.cut = True
            return 1
        self.left -= 1
        return 2

    def readblocks(self, block, buf, offset=0):
        at = block * BLOCK + offset
        buf[:] = self.data[at : at + len(buf)]

    def writeblocks(self, block, buf, offset=0):
        at, step = block * BLOCK + offset, self.step()
        n = len(buf) if step == 2 else len(buf) // 2 if step == 1 and self.torn else 0
        self.data[at : at + n] = memoryview(buf)[:n]
        return 0 if step == 2 else -5

    def ioctl(self, op, arg):
        if op == 4:
            return BLOCKS
        if op == 5:
            return BLOCK
        if op == 6:
            step = self.step()
            n = BLOCK if step == 2 else BLOCK // 2 if step == 1 and self.torn else 0
            self.data[arg * BLOCK : arg * BLOCK + n] = b"\xff" * n
            return 0 if step == 2 else -5
        return 0


def power_on(flash):
    os.mount(vfs.VfsLfs2(flash, progsize=256), "/")


def new():
    """A formatted flash, mounted as the only file system."""
    flash = Flash(b"\xff" * (BLOCK * BLOCKS))
    vfs.VfsLfs2.mkfs(flash, progsize=256)
    power_on(flash)
    return flash
