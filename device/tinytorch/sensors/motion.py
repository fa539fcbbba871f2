"""A motion sensor as a source of samples: read at a steady pace, into blocks of int16."""

import time

from tinytorch.sensors.mpu6050 import ADDRESS, MPU6050


class Paced:
    """Reads `sensor`, whose read(sample) fills a list of ints, `rate` times a second.

    A source as in tinytorch_core.listener. `lost` counts the samples whose time had passed before
    the sensor was asked.
    """

    def __init__(self, sensor, rate, channels):
        self.rate, self.channels = rate, channels
        self.lost = 0
        self._sensor = sensor
        self._sample = [0] * channels
        self._period = round(1000000 / rate)
        self._due = None

    def readinto(self, buf):
        """Fill buf with whole samples, each read when it is due; returns the bytes it put there."""
        sample, period = self._sample, self._period
        if self._due is None:
            self._due = time.ticks_us()
        at, end = 0, len(buf) - 2 * self.channels
        while at <= end:
            ahead = time.ticks_diff(self._due, time.ticks_us())
            if ahead > 0:
                time.sleep_us(ahead)
            elif ahead <= -period:
                missed = -ahead // period
                self.lost += missed
                self._due = time.ticks_add(self._due, missed * period)
            self._sensor.read(sample)
            self._due = time.ticks_add(self._due, period)
            for x in sample:
                buf[at] = x & 255
                buf[at + 1] = x >> 8 & 255
                at += 2
        return at

    def close(self):
        """Nothing is to be closed: the sensor keeps running."""


def open_mpu6050(rate, channels, bus=0, sda=4, scl=5, address=ADDRESS):
    """An MPU6050 on I2C `bus`, with the pins `sda` and `scl`, as a source.

    channels: 3 for acceleration in milli-g, 6 for turning rates in 0.1 deg/s as well. Raises
    OSError where no sensor answers, ValueError for other channels and where the board has no I2C.
    """
    if channels not in (3, 6):
        raise ValueError("An MPU6050 has 3 channels, or 6 with its gyroscope, not %d." % channels)
    try:
        from machine import I2C, Pin
    except ImportError:
        raise ValueError("This board has no I2C for an MPU6050.") from None
    i2c = I2C(bus, sda=Pin(sda), scl=Pin(scl), freq=400000)
    return Paced(MPU6050(i2c, address), rate, channels)
