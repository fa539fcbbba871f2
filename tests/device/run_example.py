# ruff: noqa: PTH123
"""Runs in MicroPython: an example's run.py with a model and a replay on the board's flash.

Arguments: the script, a model file, its features' samples, the model's name.
"""

import binascii
import os
import sys

import ram_flash

import tinytorch
from tinytorch import store


def read(path):
    with open(path, "rb") as f:
        return f.read()


script, model, replay = [read(path) for path in sys.argv[1:4]]
# What the script uses is imported while the laptop's files can still be seen.
for name in ("Model", "Motion", "MPU6050", "INMP441", "path"):
    getattr(tinytorch, name)
from tinytorch.kernels import sound  # noqa: E402, F401

from tinytorch_core import listener, mel  # noqa: E402, F401

os.umount("/")
ram_flash.new()
transfer = store.Transfer(sys.argv[4], len(model), True)
transfer.write(0, model)
transfer.end(binascii.crc32(model))
store.activate(sys.argv[4], "00")
with open("/replay.bin", "wb") as f:
    f.write(replay)
exec(script.decode())
