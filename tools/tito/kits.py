"""Kits: every kit is a serial port, whether a board, the virtual kit or the emulated Pico."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tito.errors import Fault
from tito.folders import data_folder
from tito.line import read_patience

VIRTUAL = ("virtual", "pico")


@dataclass
class Kit:
    """An open kit. patience: the factor by which host timeouts are stretched for it."""

    name: str
    port: str
    patience: float = 1.0
    _process: "subprocess.Popen[str] | None" = field(default=None, repr=False)

    def __enter__(self) -> "Kit":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def set(self, **settings: object) -> dict:
        """Change a virtual kit while it runs; faults={...} as in tito.line.Faults, or None."""
        assert self._process and self._process.stdin
        self._process.stdin.write(json.dumps(settings) + "\n")
        self._process.stdin.flush()
        return _answer(self._process, self.name)

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
        """Stop a virtual kit; a board is left as it is. May be called more than once."""
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
) -> Kit:
    """Open the kit that `spec` names: "virtual", "pico", or a serial port.

    A virtual kit is started in its own process and stopped by close() or with this process.
    firmware: MicroPython UF2 image for "pico" (default: see tito.firmware). link: a symbolic link
    to the virtual kit's port. faults: see tito.line.Faults. replay: a recording for the sensor of
    the emulated Pico (see tito.pico).
    Raises Fault if a virtual kit cannot start. Ports are checked when they are used.
    """
    if spec not in VIRTUAL:
        return Kit(spec, spec, read_patience(spec))
    image = data_folder() / "kits" / f"{spec}.img"
    command = [sys.executable, "-m", f"tito.{spec}", "--image", str(image)]
    if link:
        command += ["--link", str(link)]
    if spec == "pico":
        from tito.firmware import find_firmware

        command += ["--firmware", str(find_firmware(firmware))]
        if replay:
            command += ["--replay", str(replay)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for us, who then end the kit in good order
    )
    try:
        port = _answer(process, spec)["port"]
        kit = Kit(spec, port, read_patience(port), process)
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
        raise Fault(f"The {name} kit ended before it was ready: run `tito doctor`.")
    answer = json.loads(line)
    if "error" in answer:
        raise Fault(answer["error"])
    return answer
