"""Gestures on the board: live from an MPU6050, or replayed from a file.

After `tito deploy gesture.tt --kit PORT`:

    mpremote connect PORT run examples/gesture/run.py

Wires of the sensor: I2C(0), on a Pico SDA to GP4 and SCL to GP5. Without a sensor it replays
/replay.bin: `mpremote connect PORT fs cp replay.bin :`.
"""

import struct
import time

import tinytorch


class Replay:
    """int16 samples from a file, at the pace of the sensor that took them."""

    def __init__(self, path, channels):
        self.file = open(path, "rb")
        self.raw = bytearray(2 * channels)

    def read(self, sample):
        if self.file.readinto(self.raw) < len(self.raw):
            raise EOFError
        for i in range(len(sample)):
            sample[i] = struct.unpack_from("<h", self.raw, 2 * i)[0]


def sensor(channels):
    try:
        from machine import I2C, Pin

        return tinytorch.MPU6050(I2C(0, sda=Pin(4), scl=Pin(5), freq=400000))
    except (ImportError, OSError) as error:
        print("replaying /replay.bin:", error)
        return Replay("/replay.bin", channels)


def main():
    model = tinytorch.Model(tinytorch.path("gesture"))
    motion = tinytorch.Motion(model.features)
    source = sensor(motion.channels)
    sample = [0] * motion.channels
    period = int(1000 / motion.rate)
    due = time.ticks_ms()
    every = motion.window // 4  # samples between two answers
    count = 0
    while True:
        try:
            source.read(sample)
        except EOFError:
            return
        ready = motion.push(sample)
        count += 1
        if ready and count % every == 0:
            motion.write(model.input)
            start = time.ticks_us()
            model.run()
            us = time.ticks_diff(time.ticks_us(), start)
            print(model.labels[model.best()], us, "us")
        due = time.ticks_add(due, period)
        time.sleep_ms(max(0, time.ticks_diff(due, time.ticks_ms())))


main()
