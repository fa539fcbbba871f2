"""The emulated Pico: the real MicroPython firmware on rp2040py's RP2040, behind a pseudo-terminal.

Its clock is virtual. While the Pico computes, the clock runs at roughly a fiftieth of real time, so
host timeouts are stretched (TIMEOUT_SCALE). While it idles, the clock runs at most in real time, so
that a timeout in the firmware leaves the host as long to answer as a real board would.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
from rp2040py.boards import BOARDS, resolve_firmware
from rp2040py.device import MicroPythonDevice

from tito.errors import TitoError
from tito.kits.line import FLASH_BYTES, FULL, Line, run
from tito.kits.microphone import INMP441, Analog, Sound
from tito.kits.mpu6050 import MPU6050

TIMEOUT_SCALE = 50

BEAT = 100_000  # ns of virtual time between two looks at whether the core idles
USB_PACKET = 64
USB_MICROSECONDS = 60  # a packet; full-speed bulk transfers carry about 1 MB/s

SECTOR_ERASE, BLOCK_ERASE, PAGE_PROGRAM = 0x20, 0xD8, 0x02
ERASED_OR_WRITTEN = {SECTOR_ERASE: 4096, BLOCK_ERASE: 65536, PAGE_PROGRAM: 256}


class _Device(MicroPythonDevice):
    """A Pico whose console is a Line."""

    def _post_boot_handshake(self) -> None:
        """None: no stray newline in front of the client's bytes."""


class EmulatedPico:
    def __init__(self) -> None:
        self._in = bytearray()
        self._asked = 0  # bytes that the firmware waits for on its USB endpoint

    async def start(self, options: argparse.Namespace, image: Path, lock: IO[str]) -> Line:
        self._line = Line(self._receive, TIMEOUT_SCALE, options.link)
        try:
            await self._boot(options, image)
        except (ValueError, TimeoutError, RuntimeError) as error:
            self._line.close()
            raise TitoError(
                f"The emulated Pico does not boot {options.firmware}: {error}."
            ) from None
        return self._line

    def set(self, settings: dict) -> dict:
        """Nothing to set; answers with the virtual time since power-on, in seconds."""
        return {"seconds": self._device.simulator.clock.nanos / 1e9}

    def stop(self) -> None:
        self._device.stop()
        self._image.close()

    async def _boot(self, options: argparse.Namespace, image: Path) -> None:
        spec = resolve_firmware(BOARDS["pico"], "micropython", str(options.firmware))
        assert spec.layout is not None
        device: Any = _Device(board=spec)  # Any: we replace some of its methods
        self._device = device
        self._simulator, self._usb, self._cdc = device.simulator, device.mcu.usb_ctrl, device.cdc

        # The file system's part of the flash is the image, and each change of it is kept at once.
        self._flash_start = spec.layout.fs_start
        self._image = image.open("r+b", buffering=0)
        flash_end = self._flash_start + FLASH_BYTES
        device.mcu.flash[self._flash_start : flash_end] = self._image.read()
        self._ssi = device.mcu.ssi
        self._apply_command = self._ssi._apply_command
        self._ssi._apply_command = self._flash_command

        self._usb.read_delay_microseconds = USB_MICROSECONDS
        self._usb.write_delay_microseconds = USB_MICROSECONDS
        self._endpoint_read = self._usb.on_endpoint_read
        self._usb.on_endpoint_read = self._ask
        self._cdc.on_serial_data = lambda data: self._line.send(bytes(data))
        self._simulator.execute = self._execute
        if options.replay:
            MPU6050(device.mcu, np.load(options.replay), options.rate).attach(0)
        INMP441(device.mcu, Sound(options.image))
        Analog(device.mcu, Sound(options.image))
        await device.astart(timeout=60)

    # USB: bytes to the firmware.

    def _ask(self, endpoint: int, size: int) -> None:
        """The firmware is ready for up to `size` bytes.

        Where there are none, the host stays silent until there are (it NAKs). rp2040py's own
        answer, an empty packet each time, would keep the firmware busy with nothing.
        """
        if endpoint != self._cdc._out_endpoint:
            self._endpoint_read(endpoint, size)
            return
        self._asked = size
        self._give()

    def _give(self) -> None:
        if not self._in or not self._asked or self._cdc._out_endpoint < 0:
            return
        packet = self._in[: min(self._asked, USB_PACKET)]
        del self._in[: len(packet)]
        self._asked = 0
        self._usb.endpoint_read_done(self._cdc._out_endpoint, packet)
        if len(self._in) < FULL:
            self._line.open()

    def _receive(self, data: bytes) -> None:
        self._in += data
        if len(self._in) >= FULL:
            self._line.hold()
        self._give()

    # Flash.

    def _flash_command(self) -> None:
        command = bytes(self._ssi._tx_buffer[:4])
        self._apply_command()
        size = ERASED_OR_WRITTEN.get(command[0]) if len(command) == 4 else None
        if size:
            at = int.from_bytes(command[1:], "big") & -size
            offset = at - self._flash_start
            if 0 <= offset < FLASH_BYTES:
                data = self._device.mcu.flash[at : at + size]
                os.pwrite(self._image.fileno(), data, offset)

    # Time.

    async def _execute(self) -> None:
        """Simulator.execute(), except that an idle core's clock does not outrun ours.

        rp2040py jumps to the next alarm when the core sleeps. A poll(3000) in the firmware would
        be over in milliseconds, before the host could have answered.
        """
        simulator, core, clock = self._simulator, self._simulator.rp2040.core, self._simulator.clock
        halted = False
        stop = simulator.stop

        def halt() -> None:
            nonlocal halted
            halted = True
            stop()

        def beat() -> None:
            # State machines have work while the core sleeps, and are slower than real time anyway.
            if core.waiting and all(pio.stopped for pio in simulator.rp2040.pio):
                simulator.stopped = True  # ends the batch
            alarm.schedule(BEAT)

        simulator.stop = halt
        alarm = clock.create_alarm(beat)
        alarm.schedule(BEAT)
        simulator.stopped = False
        try:
            while not halted:
                simulator._execute_batch()
                if simulator.stopped and not halted:
                    slept = time.monotonic()
                    await asyncio.sleep(0.001)
                    behind = (time.monotonic() - slept) * 1e9
                    while behind > 0 and core.waiting:
                        step = min(behind, BEAT)
                        clock.tick(step)
                        behind -= step
                    simulator.stopped = False
                else:
                    await asyncio.sleep(0)
        except Exception as error:
            simulator.engine_room_error = error
            os.kill(os.getpid(), signal.SIGTERM)  # a dead Pico must not look like a silent one
            raise
        finally:
            simulator.stopped = True


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tito.kits.pico", description=__doc__)
    parser.add_argument("--image", type=Path, required=True, help="flash image, made if absent")
    parser.add_argument("--link", type=Path, help="symbolic link to the port")
    parser.add_argument("--firmware", type=Path, required=True, help="MicroPython UF2 image")
    parser.add_argument("--replay", type=Path, help=".npy recording for an MPU6050 on I2C(0)")
    parser.add_argument("--rate", type=float, default=25.0, help="samples a second of --replay")
    return run(EmulatedPico(), "pico", parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
