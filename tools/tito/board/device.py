"""A kit that runs our models: `connect(kit)` installs the runtime on stock MicroPython."""

import ast
import base64
import json
import re
import struct
import zlib
from contextlib import suppress
from typing import NamedTuple

from tinytorch_core import link
from tito.board import payload
from tito.board.repl import DeviceError, Repl
from tito.board.stream import ANSWER, Progress, Stream
from tito.closing import Closing
from tito.errors import TitoError, UsageError
from tito.kits.open import Kit

OLDEST = (1, 23)
WORK = 30.0  # seconds that a board may take to load and verify a model
STALL = 2.0  # seconds; a little longer than a source waits for samples

# Runs on whatever Python the board has.
PROBE = f"""
import sys
try:
    with open({payload.MARK!r}) as f: mark = f.read()
except OSError: mark = ''
i = sys.implementation
print(repr((i.name, i.version[:3], getattr(i, '_mpy', 0), sys.platform, mark)))
"""

UNPACK = """
import os, binascii
def clear(path):
    at = path.find('/', 1)
    while at > 0:
        try: os.mkdir(path[:at])
        except OSError as error:
            if error.errno != 17: raise
        at = path.find('/', at + 1)
    try: os.remove(path)
    except OSError: pass
def begin(path):
    global f
    clear(path)
    f = open(path, 'wb')
def put(data): f.write(binascii.a2b_base64(data))
"""
PIECE = 3000  # bytes of the payload that are sent at once

# Prints the hashes of files on the flash, as payload.hashes() computes them.
MEASURE = """
import hashlib
for path in PATHS:
    with open(path, 'rb') as f: h = hashlib.sha256(f.read())
    print(binascii.hexlify(h.digest()).decode())
"""


class Step(NamedTuple):
    """The result of a step of listening.

    waited_us: microseconds spent waiting for samples; run_us: of the model and its detector; free:
    bytes of the kit's heap, counted at every eighth step, less what is yet to be collected, a few
    KB at most; lost: samples lost since the source was opened; event: the index of the label
    recognised now, or -1; scores: one byte a label, its smoothed probability, 0 to 255; output: the
    model's int8 bytes; peak: the loudest sample, 0 to 32768. Where the source has stalled, scores
    and output are empty.
    """

    waited_us: int
    run_us: int
    free: int
    lost: int
    event: int
    scores: bytes
    output: bytes
    peak: int

    @property
    def stalled(self) -> bool:
        return not self.output


class Device(Closing):
    """A kit with our agent running; made by `connect`. Use it as a context manager.

    After a TitoError, or Ctrl-C, the kit's last good model is still the active one.
    """

    def __init__(self, kit: Kit, repl: Repl, window: int, arch: str) -> None:
        self.kit = kit
        self.arch = arch  # one of payload.ARCHITECTURES
        self._repl = repl
        self.stream = Stream(repl, window)
        self._run_time = ANSWER  # seconds that a run may take
        self._step_time = ANSWER  # seconds that a step of listening may take

    def start(self) -> None:
        """Start the agent from the raw REPL."""
        self._repl.exec("import tinytorch.agent")
        self._repl.exec_start("tinytorch.agent.serve()")
        self.stream.wait_ready()

    def info(self) -> dict:
        """Describe the kit.

        board (its own name), micropython (version), platform, word (bytes of a machine word),
        frequency (Hz), id, free_ram and free_flash (bytes), and models: a list of dicts of name,
        slot, sha256 and bytes.
        """
        return self.stream.ask(link.INFO, 3)

    def put_model(
        self, data: bytes, name: str | None = None, progress: Progress | None = None
    ) -> dict:
        """Make the model file `data` the active model of this name on the kit, and load it.

        What is sent is `fit(data)`. name: of letters, digits, - and _; by default the model's own.
        progress: called with (bytes done, bytes in all). A transfer that was cut short is resumed,
        and a model that is there already is not sent again. Returns what `load` returns.

        Raises TitoError, and leaves the active model as it was, where the file is damaged, the
        flash is full, the kit goes away, or the model's test vectors give other bytes on the kit.
        """
        from tinytorch.modelfile.runtime import Model

        try:
            model = Model(data)
            model.verify()
        except ValueError as error:
            raise TitoError(str(error)) from None
        name = model.name if name is None else name
        check_name(name)
        data = self.fit(data)
        installed = {m["name"]: m["sha256"] for m in self.info()["models"]}
        if installed.get(name) == data[-32:].hex():
            with suppress(TitoError):  # its bytes on the flash may be damaged: send them again then
                return self.load(name)
        self._send(data, name, progress)
        report = self._load(name, new=True)
        self.stream.ask(link.ACTIVATE, 3, name=name)
        return report

    def fit(self, data: bytes) -> bytes:
        """The model file with machine code for this kit's processor, as far as there is any."""
        from tinytorch.machine.attach import attach
        from tinytorch.modelfile.section import attach_section

        return attach(attach_section(data, b""), payload.ARCHITECTURES.index(self.arch) + 1)

    def _send(self, data: bytes, name: str, progress: Progress | None) -> None:
        work = 3 + len(data) / 50_000  # the board reads back what it has
        put = self.stream.ask(link.PUT, work, name=name, size=len(data), fresh=False)
        if put["at"] > len(data) or put["crc"] != zlib.crc32(data[: put["at"]]):
            put = self.stream.ask(link.PUT, work, name=name, size=len(data), fresh=True)
        if progress:
            progress(put["at"], len(data))
        self.stream.send(data, put["at"], progress)
        self.stream.ask(link.END, work, crc=zlib.crc32(data))

    def load(self, name: str) -> dict:
        """Load and verify the active model of this name, so that `run` runs it.

        Returns sha256, vectors (how many agreed), us (latency of one run), and the board's RAM for
        it in bytes: peak (load and a run, with the garbage they leave) and kept.
        """
        return self._load(name, new=False)

    def _load(self, name: str, new: bool) -> dict:
        report = self.stream.ask(link.LOAD, WORK, name=name, new=new)
        self._run_time = 1 + 3 * report["us"] / 1e6
        return report

    def run(self, data: bytes) -> tuple[bytes, int]:
        """One inference: the input's bytes -> (the output's bytes, latency in microseconds)."""
        most = link.PAYLOAD - 4
        answer = b""
        for at in range(0, len(data), most):
            part = struct.pack("<I", at) + data[at : at + most]
            answer = self.stream.request(link.RUN, part, self._run_time)
        if not answer:
            raise TitoError(
                f"The model takes more than the {len(data)} bytes of input that it got."
            )
        return answer[4:], struct.unpack_from("<I", answer)[0]

    def profile(self) -> list[int]:
        """The microseconds of each operation in one run of the loaded model."""
        return self.stream.ask(link.PROFILE, self._run_time)

    def listen(
        self,
        source: dict,
        rate: float | None = None,
        channels: int | None = None,
        raw: bool = False,
    ) -> dict:
        """Open a source of samples for the loaded model, or with `raw` for `samples`.

        source: its "kind", "wire" for sound that comes with each `step`, "i2s", "adc" or
        "mpu6050", and its pins, see device/tinytorch/sensors. rate: Hz; rate and channels are the
        model's unless given. Returns rate, channels, step_bytes (of the samples in a step, or with
        raw in what `samples` gives), and of the model name, kind ("sound" or "motion"), labels and
        warm: the steps until its answers mean something.

        Raises TitoError where there is no such source on this kit, or it does not suit the model.
        """
        about = self.stream.ask(
            link.LISTEN, 5, source=source, rate=rate, channels=channels, raw=raw
        )
        sound = about["step_bytes"] / (2 * about["channels"] * about["rate"])
        self._step_time = STALL + 2 * sound + self._run_time
        return about

    def step(self, audio: bytes = b"") -> Step:
        """One step of listening.

        audio: the samples of the step, `step_bytes` of int16, little-endian, for the source "wire";
        nothing for a sensor, whose samples are waited for. Raises TitoError for another length.
        """
        answer = b""
        most = link.PAYLOAD - 4
        for at in range(0, max(1, len(audio)), most):
            part = struct.pack("<I", at) + audio[at : at + most] if audio else b""
            answer = self.stream.request(link.STEP, part, self._step_time)
        if not answer:
            raise TitoError(f"A step takes more than the {len(audio)} bytes of sound that it got.")
        waited, run, free, lost, event, peak = struct.unpack_from(link.STEP_HEAD, answer)
        both = answer[struct.calcsize(link.STEP_HEAD) :]
        n = len(both) // 2
        return Step(waited, run, free, lost, event, both[:n], both[n:], peak)

    def samples(self) -> tuple[int, bytes]:
        """The next samples of the source: how many were lost since it was opened, and int16 bytes,
        channels interleaved. Fewer bytes than `listen` said: the source has stalled."""
        answer = self.stream.request(link.SAMPLES, b"", self._step_time)
        return struct.unpack_from("<I", answer)[0], answer[4:]

    def stop_listening(self) -> None:
        """Stop listening and close the source."""
        self.stream.request(link.STOP_LISTENING)

    def delete(self, name: str) -> None:
        """Remove the model of this name from the kit's flash."""
        self.stream.ask(link.DELETE, 3, name=name)

    def close(self) -> None:
        """Leave the agent, so that the kit's REPL is usable. Never raises: the kit may be gone."""
        with suppress(TitoError):
            self.stream.request(link.BYE)
            self._repl.exec_end()
        self._repl.close()


def check_name(name: str) -> str:
    """Return `name` if it is a valid name of a model on a kit. Raises UsageError if not."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", name):
        raise UsageError(
            f"{name!r} cannot name a model on a kit: use up to 32 letters, digits, - and _."
        )
    return name


def connect(kit: Kit, progress: Progress | None = None) -> Device:
    """Enter the kit, refresh our files on it if they differ, and start the agent.

    progress: called with (bytes done, bytes in all) if files are sent. Raises UsageError if there
    is no such port, and TitoError if the board has no MicroPython 1.23 or later or no room on its
    flash.
    """
    repl = Repl(kit.port, kit.timeout_scale, goodbye=bytes(link.frame(link.BYE)))
    try:
        repl.enter()
        python, version, mpy, platform, mark = ast.literal_eval(repl.exec(PROBE).decode().strip())
        _refuse(kit, python, version)
        ours, installed = payload.build(mpy), {}
        with suppress(ValueError):  # no mark, or a damaged one
            installed = dict(json.loads(mark))
        # Only where the line holds us up may more than one chunk be under way.
        window = 4 if platform in ("rp2", "linux", "darwin") else 1
        device = Device(kit, repl, window, payload.architecture(mpy))
        try:
            _install(repl, ours, installed, progress)
            device.start()
        except DeviceError:
            if not installed:
                raise
            # Our files on the board were changed.
            repl.soft_reset()
            _install(repl, ours, {}, progress)
            device.start()
        return device
    except BaseException:
        repl.close()
        raise


def _refuse(kit: Kit, python: str, version: tuple[int, ...]) -> None:
    has = f"{python} {'.'.join(map(str, version))}"
    if python != "micropython" or version[:2] < OLDEST:
        raise TitoError(
            f"The board on {kit.port} has {has} and TinyTorch needs MicroPython "
            f"{'.'.join(map(str, OLDEST))} or later: see https://micropython.org/download."
        )


def _install(
    repl: Repl, ours: dict[str, bytes], installed: dict[str, str], progress: Progress | None
) -> None:
    """Update our files on the board's flash from `installed` (path -> hash) to `ours`.

    The files are read back, and the mark that lists them is written last.
    """
    hashes = payload.hashes(ours)
    if installed == hashes:
        return
    changed = [path for path in ours if installed.get(path) != hashes[path]]
    total, done = sum(len(ours[path]) for path in changed), 0
    try:
        code, waiting = UNPACK, 0
        for path in (payload.MARK, *(installed.keys() - ours.keys())):
            code += f"clear({path!r})\n"
        for path in changed:
            code += f"begin({path!r})\n"
            for at in range(0, len(ours[path]), PIECE):
                piece = ours[path][at : at + PIECE]
                if waiting + len(piece) > PIECE:
                    repl.exec(code)
                    done += waiting
                    code, waiting = "", 0
                    if progress:
                        progress(done, total)
                code += f"put({base64.b64encode(piece)!r})\n"
                waiting += len(piece)
            code += "f.close()\n"
        repl.exec(code)
        written = repl.exec(MEASURE.replace("PATHS", repr(changed))).decode().split()
        if written != [hashes[path] for path in changed]:
            raise TitoError(
                f"Our files arrived damaged on the kit on {repl.port}: check the cable, try again."
            )
        repl.exec(f"begin({payload.MARK!r}); f.write({json.dumps(hashes)!r}); f.close()")
        if progress:
            progress(total, total)
    except DeviceError as error:
        if "ENOSPC" not in error.traceback and "OSError: 28" not in error.traceback:
            raise
        raise TitoError(
            f"The flash of the kit on {repl.port} has no room for our {total} bytes: delete files "
            "from it."
        ) from None
