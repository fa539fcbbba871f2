"""An MPU6050 motion sensor that replays a recording, for the I2C bus of the emulated Pico.

Registers: InvenSense, "MPU-6000 and MPU-6050 Register Map and Descriptions", revision 4.2.
"""

import struct
from typing import Any

import numpy as np
from rp2040py.peripherals.i2c import I2CMode

ADDRESS = 0x68
GYRO_CONFIG, ACCEL_CONFIG, ACCEL_XOUT, PWR_MGMT_1, WHO_AM_I = 0x1B, 0x1C, 0x3B, 0x6B, 0x75
TEMPERATURE = 340  # 37.5 degrees Celsius


class MPU6050:
    """samples: int16 (samples, 3) acceleration in milli-g, or (samples, 6) with angular rates in
    0.1 degrees a second as well. rate: samples a second of the emulated Pico's clock. The recording
    begins with the first reading of the sensor and is repeated.
    """

    def __init__(self, mcu: Any, samples: np.ndarray, rate: float) -> None:
        if samples.ndim != 2 or samples.shape[1] not in (3, 6) or not len(samples):
            raise ValueError(f"a recording has shape (samples, 3 or 6), not {samples.shape}")
        self._mcu, self._rate = mcu, rate
        self._samples = np.zeros((len(samples), 6))
        self._samples[:, : samples.shape[1]] = samples
        self._start: float | None = None
        self._registers = bytearray(128)
        self._registers[WHO_AM_I] = ADDRESS
        self._registers[PWR_MGMT_1] = 0x40  # asleep, until the driver writes 0
        self._at = 0
        self._selecting = False

    def attach(self, bus: int) -> None:
        """Put the sensor on I2C(bus) of the chip."""
        i2c = self._mcu.i2c[bus]

        def connect(address: int, mode: I2CMode) -> None:
            self._selecting = mode == I2CMode.WRITE  # the first byte written is a register's number
            i2c.complete_connect(address == ADDRESS)

        def write(value: int) -> None:
            if self._selecting:
                self._at, self._selecting = value & 127, False
            else:
                self._registers[self._at] = value
                self._at = self._at + 1 & 127
            i2c.complete_write(True)

        def read(acknowledged: bool) -> None:
            if self._at == ACCEL_XOUT:
                self._sense()
            value = self._registers[self._at]
            self._at = self._at + 1 & 127
            i2c.complete_read(value)

        i2c.on_connect, i2c.on_write_byte, i2c.on_read_byte = connect, write, read

    def _sense(self) -> None:
        """Put the sample of this moment into the data registers, all at once as the chip does."""
        if self._registers[PWR_MGMT_1] & 0x40:
            return
        now = self._mcu.clock.nanos / 1e9
        if self._start is None:
            self._start = now
        sample = self._samples[round((now - self._start) * self._rate) % len(self._samples)]
        # Counts per milli-g and per 0.1 degree a second at the smallest range; each step halves.
        accel = 16.384 / (1 << (self._registers[ACCEL_CONFIG] >> 3 & 3))
        gyro = 13.1 / (1 << (self._registers[GYRO_CONFIG] >> 3 & 3))
        counts = np.rint(np.concatenate([sample[:3] * accel, [TEMPERATURE], sample[3:] * gyro]))
        counts = np.clip(counts, -32768, 32767).astype(int)
        struct.pack_into(">7h", self._registers, ACCEL_XOUT, *counts.tolist())
