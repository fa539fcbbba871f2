# ruff: noqa: PTH123, PTH208, UP031
"""Runs in MicroPython: cut the power at every flash operation of receiving a model.

The flash stops working at the cut, with the last operation done by half or not at all. Prints how
many cuts were tried, and how many left a prefix that was resumed.
"""

import binascii
import os
import random

import ram_flash
from ram_flash import Flash, power_on

from tinytorch import store

random.seed(7)
OLD = bytes(random.getrandbits(8) for _ in range(6000))
NEW = bytes(random.getrandbits(8) for _ in range(36000))


def receive(data):
    """What a host does: resume what fits, else begin afresh. Returns from where it sent."""
    transfer = store.Transfer("m", len(data), False)
    try:
        if transfer.at > len(data) or transfer.crc != binascii.crc32(data[: transfer.at]):
            transfer.close()
            transfer = store.Transfer("m", len(data), True)
        start = transfer.at
        for at in range(start, len(data), 1024):
            transfer.write(at, data[at : at + 1024])
        transfer.end(binascii.crc32(data))
    except OSError:
        transfer.close()  # the power is gone already: this frees the file's memory
        raise
    store.activate("m", "%08x" % binascii.crc32(data))
    return start


def active():
    with open(store.path("m"), "rb") as f:
        data = f.read()
    assert store.manifest("m")["sha256"] == "%08x" % binascii.crc32(data)
    assert store.manifest("m")["bytes"] == len(data)
    return data


def with_old(twice):
    """A flash whose active model is OLD; after a second model the other slot is taken too."""
    flash = ram_flash.new()
    if twice:
        receive(NEW[:9000])
    receive(OLD)
    os.umount("/")
    return bytes(flash.data)


def main():
    os.umount("/")
    cuts = resumed = 0
    for image in (with_old(False), with_old(True)):
        flash = Flash(image)
        power_on(flash)
        flash.done = 0
        receive(NEW)
        os.umount("/")
        for left in range(flash.done):
            for torn in (False, True):
                broken = Flash(image)
                power_on(broken)
                broken.left, broken.torn = left, torn
                try:
                    receive(NEW)
                    assert left >= flash.done - 1, "operation %d was not cut" % left
                except OSError:
                    pass
                os.umount("/")
                after = Flash(broken.data)
                power_on(after)
                found = active()
                assert found in (OLD, NEW), "after %d operations the model is lost" % left
                resumed += receive(NEW) > 0
                assert active() == NEW
                assert store.models() == [
                    {"name": "m", "slot": store.manifest("m")["slot"],
                     "sha256": "%08x" % binascii.crc32(NEW), "bytes": len(NEW)}
                ]  # fmt: skip
                assert not [e for e in os.listdir("/models") if e.endswith(".new")]
                os.umount("/")
                cuts += 1
    print(cuts, resumed)


main()
