# ruff: noqa: PTH107, PTH123, PTH208
"""Runs in MicroPython: the flash fills up under a transfer, and nothing is lost."""

import binascii
import os

import ram_flash

from tinytorch import store


def receive(name, data):
    transfer = store.Transfer(name, len(data), True)
    try:
        for at in range(0, len(data), 1024):
            transfer.write(at, data[at : at + 1024])
        transfer.end(binascii.crc32(data))
        store.activate(name, "00")
    except OSError:
        transfer.drop()
        raise


def fails_full(call, *args):
    try:
        call(*args)
    except OSError as error:
        assert error.errno == 28, error
        return
    raise AssertionError("the flash should have been full")


os.umount("/")
ram_flash.new()
receive("good", b"good" * 2500)
free = store.free()

# Refused before anything is written.
fails_full(store.Transfer, "large", free, True)
assert store.free() == free

# Other programs fill the flash while the transfer is under way.
transfer = store.Transfer("large", 60000, True)
for at in range(0, 20000, 1000):
    transfer.write(at, bytes(1000))
try:
    with open("/other", "wb") as f:
        while True:
            f.write(bytes(4096))
            f.flush()
except OSError:
    pass


def rest():
    for at in range(20000, 60000, 1000):
        transfer.write(at, bytes(1000))
    transfer.end(binascii.crc32(bytes(60000)))


fails_full(rest)
transfer.drop()
os.remove("/other")
assert store.free() == free, (store.free(), free)
assert [m["name"] for m in store.models()] == ["good"]

# What is left over of another model's transfer goes when the next one begins.
transfer = store.Transfer("left", 20000, True)
transfer.write(0, bytes(20000))
transfer.close()
receive("good", b"more" * 2500)
assert sorted(os.listdir("/models")) == ["good.a.tt", "good.b.tt", "good.json"]
with open(store.path("good"), "rb") as f:
    assert f.read() == b"more" * 2500
store.delete("good")
assert os.listdir("/models") == []

# Files that are no manifests of ours are nobody's models, and no obstacle.
for text in ("[1]", "5", "{}", '{"slot": "c"}', '{"rate": 25}', "null", "", "{"):
    with open("/models/other.json", "w") as f:
        f.write(text)
    assert store.manifest("other") is None and store.models() == [], text
receive("other", b"now a model")
assert [m["name"] for m in store.models()] == ["other"]
