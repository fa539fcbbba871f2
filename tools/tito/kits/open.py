"""Open, serve and list kits: boards, the virtual kit and the emulated Pico, all serial ports."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tito.closing import Closing
from tito.errors import TitoError, UsageError
from tito.folders import data_folder
from tito.kits.timeout_scale import read_timeout_scale

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VIRTUAL = ("virtual", "pico")


@dataclass
class Kit(Closing):
    """An open kit. timeout_scale: the factor by which the host's timeouts are stretched for it."""

    name: str
    port: str
    timeout_scale: float = 1.0
    _process: "subprocess.Popen[str] | None" = field(default=None, repr=False)
    _image: Path | None = field(default=None, repr=False)

    def set(self, **settings: object) -> dict:
        """Change a running virtual kit: faults={...} as for tito.kits.line.Faults, or None."""
        assert self._process and self._process.stdin
        try:
            os.write(self._process.stdin.fileno(), json.dumps(settings).encode() + b"\n")
        except OSError:
            raise TitoError(f"The {self.name} kit has ended.") from None
        return _answer(self._process, self.name)

    def play(self, sound: "Path | NDArray[np.int16] | None", rate: "float | None" = None) -> None:
        """Play a recording to a virtual kit's microphone each time that the kit starts it.

        sound: a 16-bit .wav file, an .npy file, or int16 samples of shape (T,), `rate` a second (a
        .wav file states its own). After it comes the noise of a quiet room. None removes the
        microphone. Raises TitoError for a file that is no such recording.
        """
        assert self._image
        for old in self._image.parent.glob(f"{self._image.stem}.sound.*"):
            old.unlink()
        if sound is not None:
            from tito.kits import microphone

            microphone.write(self._image, sound, rate)

    def cut_power(self) -> None:
        """End a virtual kit without warning."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def wait(self) -> None:
        """Wait for the end of a virtual kit."""
        assert self._process
        self._process.wait()

    def close(self) -> None:
        """Stop a virtual kit; a board stays as it is. May be called more than once."""
        if self._process is None:
            return
        with self._process as process:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def open_kit(
    spec: str,
    firmware: Path | None = None,
    *,
    link: Path | None = None,
    faults: dict | None = None,
    replay: Path | None = None,
    rate: float = 25.0,
    sound: "Path | NDArray[np.int16] | None" = None,
    sound_rate: float | None = None,
) -> Kit:
    """Open the kit that `spec` names: "virtual", "pico", or a serial port.

    A virtual kit runs in its own process, which ends at close() or with this process.

    firmware: MicroPython UF2 image for "pico" (default: tito.kits.firmware.find_firmware).
    link: a symbolic link to the virtual kit's port.
    faults: arguments of tito.kits.line.Faults.
    replay: a recording (.npy) for the emulated Pico's motion sensor, `rate` samples a second (see
    tito.kits.mpu6050).
    sound, sound_rate: what the microphone of a virtual kit hears (see Kit.play).

    Raises TitoError if a virtual kit cannot start. Ports are checked when they are used.
    """
    if spec not in VIRTUAL:
        if sound is not None:
            raise UsageError(
                f"Only a virtual kit hears a recording: {spec} has its own microphone."
            )
        return Kit(spec, spec, read_timeout_scale(spec))
    if os.name != "posix":
        raise TitoError(f"The {spec} kit needs a pseudo-terminal (Linux, macOS): use a board here.")
    image = _image(spec)
    command = [sys.executable, "-m", f"tito.kits.{spec}", "--image", str(image)]
    if link:
        command += ["--link", str(link)]
    if spec == "pico":
        from tito.kits.firmware import find_firmware

        command += ["--firmware", str(find_firmware(firmware))]
        if replay:
            command += ["--replay", str(replay), "--rate", str(rate)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the kit
    )
    try:
        port = _answer(process, spec)["port"]
        kit = Kit(spec, port, read_timeout_scale(port), process, image)
        kit.play(sound, sound_rate)
        if faults:
            kit.set(faults=faults)
        return kit
    except BaseException:
        with process:
            process.kill()
        raise


def _answer(process: "subprocess.Popen[str]", name: str) -> dict:
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise TitoError(f"The {name} kit ended before it was ready: run `tito doctor`.")
    answer = json.loads(line)
    if "error" in answer:
        raise (UsageError if answer["status"] == UsageError.status else TitoError)(answer["error"])
    return answer


def serve(
    spec: str,
    link: Path | None = None,
    firmware: Path | None = None,
    announce: Callable[[str], None] = lambda port: print(port, flush=True),
) -> None:
    """Keep a virtual kit running until Ctrl-C or SIGTERM; `announce` is called with its port.

    Raises UsageError for another `spec`, TitoError if the kit does not start or ends by itself.
    """
    if spec not in VIRTUAL:
        raise UsageError(f"Only the kits {' and '.join(VIRTUAL)} can be served, not {spec}.")

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        with open_kit(spec, firmware, link=link) as kit:
            announce(kit.port)
            kit.wait()
            raise TitoError(f"The {spec} kit ended by itself.")
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass
class Row:
    """A line of `tito kits`. name: what --kit takes. usable: whether it can be used now."""

    name: str
    what: str
    usable: bool
    note: str


# USB vendors of MicroPython boards: of the chip, or of its USB-serial converter.
VENDORS = {
    0x2E8A: "Raspberry Pi Pico or another RP2040 / RP2350 board",
    0x303A: "ESP32 (Espressif USB)",
    0x10C4: "CP210x USB-serial converter, as on many ESP32 boards",
    0x1A86: "CH34x USB-serial converter, as on many ESP32 boards",
    0x0403: "FTDI USB-serial converter",
    0xF055: "pyboard",
    0x239A: "Adafruit board",
    0x2341: "Arduino board",
}


def list_kits() -> list[Row]:
    """Serial ports that may be boards, then the kits that need no board."""
    from serial.tools import list_ports

    rows = []
    for port in sorted(list_ports.comports()):
        if port.vid is None:
            continue  # a port of the mainboard
        what = VENDORS.get(port.vid, port.description or "serial port")
        allowed = os.name != "posix" or os.access(port.device, os.R_OK | os.W_OK)
        note = f"USB {port.vid:04x}:{port.pid:04x}" if allowed else _no_permission(port.device)
        rows.append(Row(port.device, what, allowed, note))
    rows.append(_virtual_row("virtual", "MicroPython on this computer", _version_of_micropython))
    rows.append(_virtual_row("pico", "emulated Raspberry Pi Pico", _name_of_firmware))
    return rows


def _virtual_row(name: str, what: str, probe: Callable[[], str]) -> Row:
    if os.name != "posix":
        return Row(name, what, False, "needs a pseudo-terminal (Linux, macOS)")
    from tito.kits.line import holder

    try:
        note = probe()
    except TitoError as error:
        return Row(name, what, False, str(error))
    user = holder(_image(name))
    return Row(name, what, not user, f"in use by {user}" if user else note)


def _image(name: str) -> Path:
    return data_folder() / "kits" / f"{name}.img"


def _no_permission(port: str) -> str:
    return (
        f"you have no permission to open {port}: add yourself to its group (on Linux: "
        "sudo usermod -aG dialout $USER) and log in again"
    )


def _version_of_micropython() -> str:
    from tito.kits.virtual import micropython

    code = "import sys; print('.'.join(str(n) for n in sys.implementation.version[:3]))"
    command = [micropython(), "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, timeout=20)
    if run.returncode:
        raise TitoError(f"{command[0]} does not run: {run.stderr.strip()}")
    return f"MicroPython {run.stdout.strip()}"


def _name_of_firmware() -> str:
    from tito.kits.firmware import find_firmware

    return f"firmware {find_firmware(download=False).name}"
