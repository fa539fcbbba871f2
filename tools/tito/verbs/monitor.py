"""tito monitor: a kit listens, and the terminal shows what it recognises."""

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch.data import collection
from tinytorch.data.readers import read_npy
from tinytorch.modelfile.runtime import Model
from tito import report
from tito.arguments import add_kit
from tito.board.device import Device, Step
from tito.errors import TitoError, UsageError
from tito.evaluation import connect_with_progress, deployed, load_model
from tito.kits import pdm
from tito.kits.open import VIRTUAL, Kit, open_kit
from tito.verbs.data import decibels
from tito.verbs.record import Source, Stop, pins, replayed

HELP = "Let a kit listen with its model, and show what it recognises."
SOURCES = "wire", "i2s", "adc", "mpu6050"
MOTION = 25.0  # Hz, the rate of a replayed motion whose file does not state it
SILENT = 4  # of 32768: no microphone is as quiet as that
SILENCE = 3.0  # seconds of silence that are reported
CLIPPED = 3  # steps with the largest sample
STALLS = 10  # in a row, after which no more samples will come
REDRAW = 0.1  # seconds
LAST = 3  # keywords that are shown
RECENT = 200  # steps in the latency that is shown while it listens


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_kit(parser, required=True)
    parser.add_argument(
        "--model",
        metavar="NAME|FILE.tt",
        help="a model on the kit, or a file to send (default: the kit's only model)",
    )
    parser.add_argument(
        "--source", choices=SOURCES, default="wire",
        help="the kit's sensor, or wire: samples from the laptop's microphone or --replay "
        "(default: wire)",
    )  # fmt: skip
    parser.add_argument(
        "--pins", type=pins, default={}, metavar="NAME=N,...",
        help="pins of the sensor: i2s sck, ws, sd; adc pin; mpu6050 bus, sda, scl",
    )  # fmt: skip
    parser.add_argument(
        "--replay", type=Path, metavar="FILE",
        help="a .wav, .npy or .npz file, sent over the wire or played to a virtual kit's sensor",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=_seconds, metavar="N", help="how long to listen (default: until Ctrl-C)"
    )
    parser.epilog = pdm.table()


def _seconds(word: str) -> float:
    try:
        seconds = float(word)
    except ValueError:
        seconds = 0
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{word} is not a number of seconds above 0")
    return seconds


def run(args: argparse.Namespace) -> dict:
    if args.replay and not args.replay.is_file():
        raise UsageError(f"There is no file {args.replay} to replay.")
    if args.replay and args.source != "wire" and args.kit not in VIRTUAL:
        raise UsageError("Only a virtual kit's sensor takes a --replay: use --source wire.")
    with ExitStack() as stack:
        model = None
        if args.model and (args.model.endswith(".tt") or Path(args.model).is_file()):
            model = load_model(Path(args.model))
        kit = _kit(args, model, stack)
        if model:
            device, _ = stack.enter_context(deployed(model, kit))
        else:
            device = stack.enter_context(connect_with_progress(kit))
            device.load(args.model or _only(device))
        return _listen(args, kit, device, stack)


def _kit(args: argparse.Namespace, model: "Model | None", stack: ExitStack) -> Kit:
    """Open the kit; a replay for its motion sensor is an argument of opening it."""
    settings = {}
    if args.replay and args.source == "mpu6050":
        features = (model.features if model else None) or {}
        settings = replayed(args.replay, features.get("rate", MOTION), stack)
    return stack.enter_context(open_kit(args.kit, args.firmware, **settings))


def _only(device: Device) -> str:
    names = sorted(m["name"] for m in device.info()["models"])
    if not names:
        raise TitoError("The kit has no model: give one with --model FILE.tt.")
    if len(names) > 1:
        raise UsageError(f"The kit has the models {', '.join(names)}: choose one with --model.")
    return names[0]


def _listen(args: argparse.Namespace, kit: Kit, device: Device, stack: ExitStack) -> dict:
    settings, wire = {"kind": args.source, **args.pins}, args.source == "wire"
    if args.replay and args.source in ("i2s", "adc"):
        rate = _rate(device)  # the model's
        kit.play(_recording(args.replay, rate, 1), rate)
    about = device.listen(settings)
    stack.callback(device.stop_listening)
    advice = pdm.advice(device.info()["board"]) if args.source in ("i2s", "adc") else ""
    rate, channels = about["rate"], about["channels"]
    source: Source | None = None
    seconds = args.seconds
    if args.replay and args.source != "mpu6050":  # its recording begins anew at the end
        sound = _recording(args.replay, rate, channels)
        if len(sound) * 2 * channels < about["step_bytes"]:
            raise TitoError(
                f"{args.replay} is shorter than one step of the model: replay a longer one."
            )
        if wire:
            source = Replay(sound, rate)
        elif not seconds:
            seconds = len(sound) / rate
    elif wire:
        if about["kind"] == "motion":
            raise UsageError(
                "A laptop feels no motion: use --source mpu6050, or --replay a recording."
            )
        from tito.kits.laptop import LaptopMicrophone

        source = LaptopMicrophone(rate)
    if source:
        stack.callback(source.close)
    what = "the laptop's microphone" if wire else f"its {args.source}"
    what = f"{args.replay.name} by {args.source}" if args.replay else what
    print(f"listening  {about['name']} on {kit.name} to {what}, {rate:g} Hz")
    session = ListenSession(about, advice)
    screen = Screen(session)
    with stack.enter_context(Stop()) as stop:
        for step in steps(device, source, about["step_bytes"]):
            event = session.take(step, source.lost if source else 0)
            for sentence in session.warnings():
                screen.say(f"note       {sentence}")
            screen.show(event)
            if stop.pressed or seconds and session.seconds >= seconds - 1e-9:
                break
    screen.end()
    figures = session.figures()
    figures = {"kit": kit.name, "model": about["name"], "source": args.source, **figures}
    _summary(figures, session)
    return figures


def _rate(device: Device) -> float:
    about = device.listen({"kind": "wire"})
    device.stop_listening()
    return about["rate"]


def _recording(path: Path, rate: float, channels: int) -> NDArray[np.int16]:
    """Read samples to replay at `rate`: int16 (T, channels), or (T,) for one channel.

    Of an .npz file these are the recordings of the split "test", or of all splits without one, one
    after the other. Raises TitoError for a file that does not suit the model.
    """
    from tito.kits import microphone

    file_rate = rate
    if path.suffix.lower() == ".npz":
        recordings = collection.load(path)
        chosen = [i for i, split in enumerate(recordings.splits) if split == "test"]
        chosen = chosen or list(range(len(recordings)))
        samples = np.concatenate([recordings.signal(i) for i in chosen])
        file_rate = recordings.rate
    elif channels == 1:
        sound, file_rate = microphone.read(path, rate)
        samples = np.clip(np.rint(sound), -32768, 32767).astype(np.int16)[:, None]
    else:
        samples = read_npy(path)
    if samples.ndim != 2 or samples.shape[1] != channels or samples.dtype != np.int16:
        raise TitoError(
            f"{path} holds {samples.dtype} of shape {samples.shape} and the model takes int16 of "
            f"shape (T, {channels}): replay another recording."
        )
    if channels > 1:
        if file_rate != rate:
            raise TitoError(
                f"{path} has {file_rate:g} samples a second and the model takes {rate:g}: replay "
                "another recording."
            )
        return samples
    resampled = microphone.resample(samples[:, 0].astype(np.float64), file_rate, rate)
    return np.clip(np.rint(resampled), -32768, 32767).astype(np.int16)


class Replay:
    """A recording as a source. samples: int16 (T,) or (T, channels)."""

    lost = 0

    def __init__(self, samples: NDArray[np.int16], rate: int) -> None:
        self.rate = rate
        self.channels = samples.shape[1] if samples.ndim == 2 else 1
        self._bytes = samples.astype("<i2").tobytes()
        self._at = 0

    def readinto(self, buffer: memoryview) -> int:
        part = self._bytes[self._at : self._at + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)

    def close(self) -> None:
        pass


def steps(device: Device, source: "Source | None", size: int) -> Iterator[Step]:
    """Steps of listening until `source` ends; None: the kit reads its own sensor without end."""
    buffer = memoryview(bytearray(size))
    while source is None or source.readinto(buffer) == size:
        yield device.step(bytes(buffer) if source else b"")


@dataclass
class ListenSession:
    """The events, latencies and warnings of a kit that listens.

    about: what Device.listen returns. advice: a sentence on the board's own microphone, or "".
    """

    about: dict
    advice: str = ""
    us: list[int] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)
    scores: bytes = b""
    peak: int = 0
    free: int = 0
    least: int = 0
    lost: int = 0
    stalls: int = 0
    _stalls: int = 0  # in a row
    _silent: int = 0  # steps in a row
    _clipped: int = 0
    _warned: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.rate = self.about["rate"]
        self.step_seconds = self.about["step_bytes"] / (2 * self.about["channels"] * self.rate)

    @property
    def seconds(self) -> float:
        """The length of the input so far, lost samples included."""
        return len(self.us) * self.step_seconds + self.lost / self.rate

    def take(self, step: Step, lost: int) -> "tuple[float, str] | None":
        """Count a step. Returns the time in seconds and the label of an event, or None."""
        self.lost = step.lost + lost
        if step.stalled:
            self.stalls += 1
            self._stalls += 1
            if self._stalls == STALLS:
                raise TitoError(
                    "The kit's sensor gives no more samples: check its wires and its pins."
                )
            return None
        self._stalls = 0
        self.us.append(step.run_us)
        self.scores, self.peak, self.free = step.scores, step.peak, step.free
        self.least = min(self.least or step.free, step.free)
        self._silent = self._silent + 1 if step.peak <= SILENT else 0
        self._clipped += step.peak >= 32767
        if step.event < 0:
            return None
        self.events.append((round(self.seconds, 3), self.about["labels"][step.event]))
        return self.events[-1]

    def warnings(self) -> Iterator[str]:
        """A sentence for each problem, once."""
        sound = self.about["kind"] == "sound"
        if self._silent * self.step_seconds >= SILENCE:
            sensor = "microphone is connected and not muted" if sound else "sensor is connected"
            yield from self._once(
                "silent", f"The input is silent: check that the {sensor}. {self.advice}".rstrip()
            )
        if sound and self._clipped >= CLIPPED:
            yield from self._once(
                "clips", "The input clips: move away from the microphone, or speak more softly."
            )
        if self.lost:
            why = "something keeps the kit from its source"
            if self.us and self.us[-1] > 0.9e6 * self.step_seconds:
                why = "the kit is slower than its source, so use a smaller model"
            yield from self._once("lost", f"Samples are lost: {why}.")
        if self.stalls:
            yield from self._once("stalls", "The sensor stalls: check its wires and its pins.")

    def _once(self, what: str, sentence: str) -> Iterator[str]:
        if what not in self._warned:
            self._warned.add(what)
            yield sentence

    def latency(self, last: int = 0) -> tuple[int, int]:
        """The median and the 95th percentile of the microseconds of a step.

        last: how many of the last steps count; 0: all.
        """
        if not self.us:
            return 0, 0
        p50, p95 = np.percentile(self.us[-last:], (50, 95))
        return int(p50), int(p95)

    def figures(self) -> dict[str, Any]:
        p50, p95 = self.latency()
        return {
            "seconds": round(self.seconds, 3),
            "steps": len(self.us),
            "events": [{"seconds": at, "label": label} for at, label in self.events],
            "latency_us": {"p50": p50, "p95": p95},
            "real_time": round(p50 / 1e6 / self.step_seconds, 4),
            "free_heap": self.least,
            "lost": self.lost,
            "stalls": self.stalls,
        }


def _summary(figures: dict, session: ListenSession) -> None:
    latency, events = figures["latency_us"], figures["events"]
    heard = ", ".join(f"{e['label']} at {e['seconds']:.1f} s" for e in events[-LAST:])
    more = f"{len(events)}, the last: " if len(events) > LAST else ""
    rows = [
        ("listened", f"{figures['seconds']:.1f} s, {figures['steps']} steps"),
        ("recognised", more + heard or "nothing"),
        (
            "a step takes",
            f"{latency['p50'] / 1000:.2f} ms, 95 % below {latency['p95'] / 1000:.2f} ms: "
            f"{100 * figures['real_time']:.1f} % of real time",
        ),
        ("free heap, at least", f"{figures['free_heap']:,} bytes"),
        ("samples lost", str(figures["lost"])),
        ("stalls", str(figures["stalls"])),
    ]
    report.table(rows, f"{session.about['name']} on {figures['kit']}")


class Screen:
    """Shows a ListenSession: in place on a terminal, in a pipe a line per keyword and second."""

    def __init__(self, session: ListenSession) -> None:
        self.session = session
        self._moving = sys.stdout.isatty()
        self._rows = 0  # on the terminal
        self._second = 1
        self._drawn = 0.0
        self._full, self._empty = "█", "·"
        try:
            self._full.encode(sys.stdout.encoding or "ascii")
        except (UnicodeEncodeError, LookupError):
            self._full, self._empty = "#", "."

    def show(self, event: "tuple[float, str] | None") -> None:
        session = self.session
        if self._moving:
            now = time.monotonic()
            if event or now - self._drawn >= REDRAW:
                self._drawn = now
                self._draw(self._picture())
            return
        if event:
            print(f"{event[0]:7.2f} s  {event[1]}")
        if session.seconds >= self._second and session.scores:
            self._second = int(session.seconds) + 1
            best = max(range(len(session.scores)), key=lambda i: session.scores[i])
            print(
                f"{session.seconds:7.2f} s  {self._level()}  {session.about['labels'][best]} "
                f"{session.scores[best]}  {self._figures()}"
            )

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._erase()
        print(line)

    def end(self) -> None:
        """Draw the last state."""
        if self._moving:
            self._draw(self._picture())

    def _erase(self) -> None:
        if self._rows:
            print(f"\x1b[{self._rows}A\r\x1b[J", end="")
            self._rows = 0

    def _draw(self, rows: list[str]) -> None:
        # Lines are cut at the width: a wrapped line would leave rows that are not erased.
        width = shutil.get_terminal_size().columns - 1
        up = f"\x1b[{self._rows}A\r" if self._rows else ""
        print(up + "".join(f"{row[:width]}\x1b[K\n" for row in rows), end="", flush=True)
        self._rows = len(rows)

    def _picture(self) -> list[str]:
        session = self.session
        labels = session.about["labels"]
        wide = max(9, *map(len, labels))
        scores = session.scores or bytes(len(labels))
        recent = ", ".join(f"{label} {at:.1f} s" for at, label in reversed(session.events[-LAST:]))
        return [
            f"{'level':{wide}}  {self._bar(self._loudness())}  {self._level()}",
            *(
                f"{label:{wide}}  {self._bar(score / 255)}  {score:3}"
                for label, score in zip(labels, scores, strict=True)
            ),
            f"{'heard':{wide}}  {recent or '-'}",
            f"{f'{session.seconds:.1f} s':{wide}}  {self._figures()}",
        ]

    def _bar(self, share: float) -> str:
        full = round(30 * max(0.0, min(1.0, share)))
        return self._full * full + self._empty * (30 - full)

    def _loudness(self) -> float:
        if self.session.about["kind"] == "motion":
            return self.session.peak / 4000
        return 1 + decibels(self.session.peak) / 60

    def _level(self) -> str:
        if self.session.about["kind"] == "motion":
            return f"{self.session.peak / 1000:.2f} g"
        return f"{decibels(self.session.peak)} dB"

    def _figures(self) -> str:
        session = self.session
        p50, _ = session.latency(RECENT)
        return (
            f"{p50 / 1000:.2f} ms a step ({p50 / 1e4 / session.step_seconds:.0f} %)  "
            f"free {session.free:,}  lost {session.lost}  stalls {session.stalls}"
        )
