"""MPU6050: acceleration and turning rate over I2C.

Registers: InvenSense, "MPU-6000 and MPU-6050 Register Map and Descriptions", revision 4.2.
"""

ADDRESS = 0x68
_GYRO_CONFIG = 0x1B
_ACCEL_CONFIG = 0x1C
_ACCEL_XOUT = 0x3B
_POWER = 0x6B
_WHO_AM_I = 0x75


class MPU6050:
    """The sensor on a machine.I2C bus; `address` is 0x69 where its pin AD0 is high.

    Raises OSError where nothing answers as an MPU6050.
    """

    def __init__(self, i2c, address=ADDRESS):
        self._i2c = i2c
        self._address = address
        self._raw = bytearray(14)
        try:
            who = i2c.readfrom_mem(address, _WHO_AM_I, 1)[0]
        except OSError:
            who = None
        if who is None or who & 0x7E != ADDRESS:
            raise OSError("No MPU6050 answers on I2C address 0x%x: check its wires." % address)
        i2c.writeto_mem(address, _POWER, b"\x01")  # awake, by the gyroscope's clock
        i2c.writeto_mem(address, _ACCEL_CONFIG, b"\x00")  # +-2 g
        i2c.writeto_mem(address, _GYRO_CONFIG, b"\x18")  # +-2000 degrees a second

    def read(self, sample):
        """Fill `sample`, a list of 3 or 6 ints: ax ay az in milli-g, gx gy gz in 0.1 deg/s."""
        self._i2c.readfrom_mem_into(self._address, _ACCEL_XOUT, self._raw)
        for i in range(len(sample)):
            # The chip's temperature stands between the two.
            at = 2 * i if i < 3 else 2 * i + 2
            raw = (self._raw[at] ^ 128) * 256 + self._raw[at + 1] - 32768
            # 16384 counts a g; 16.4 counts a degree a second.
            sample[i] = raw * 125 + 1024 >> 11 if i < 3 else raw * 25 // 41
