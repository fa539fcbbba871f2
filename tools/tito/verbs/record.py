"""tito record: your own words and gestures, from a kit's sensor or the laptop's microphone."""

import argparse
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tinytorch.data import collection
from tinytorch.data.readers import read_npy
from tito.arguments import add_kit, at_least
from tito.errors import TitoError, UsageError
from tito.evaluation import connect_with_progress
from tito.files import output_file
from tito.kits.laptop import LaptopMicrophone
from tito.kits.open import VIRTUAL, open_kit
from tito.verbs.data import AXES, decibels

HELP = "Record words or gestures of your own into a data file."
Signal = NDArray[np.int16]  # (T, C)

SECONDS = {"keyword": 1.0, "gesture": 2.0}
RATES = {"keyword": (16000, 8000), "gesture": (25,)}  # Hz, the first that the source supports
SENSOR = {"keyword": "i2s", "gesture": "mpu6050"}
CLIP = 1.0  # seconds of a word
LONGEST = 3600.0  # seconds of a recording


class Source(Protocol):
    """Where samples come from; see tinytorch_core.listener."""

    rate: int
    channels: int
    lost: int

    def readinto(self, buffer: memoryview) -> int: ...
    def close(self) -> None: ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["keyword", "gesture"])
    parser.add_argument(
        "--label", type=_name, required=True, metavar="NAME", help="the class of the recordings"
    )
    add_kit(parser, required=True, more="laptop, ")
    parser.add_argument(
        "--seconds",
        type=_seconds,
        metavar="N",
        help="length of a recording (default: keyword 1, gesture 2)",
    )
    parser.add_argument(
        "--count",
        type=at_least(1),
        default=1,
        metavar="N",
        help="number of recordings (default: 1)",
    )
    parser.add_argument(
        "--cut", action="store_true",
        help="keep only one second around each word of a long recording",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=output_file, metavar="FILE.npz",
        help="the data file to append to (default: keyword.npz or gesture.npz)",
    )  # fmt: skip
    parser.add_argument(
        "--split", type=_name, default="train", metavar="NAME", help="default: train"
    )
    parser.add_argument("--who", type=_name, metavar="NAME", help="the person who speaks or moves")
    parser.add_argument(
        "--source",
        choices=["i2s", "adc", "mpu6050"],
        help="the kit's sensor (default: keyword i2s, gesture mpu6050)",
    )
    parser.add_argument(
        "--pins", type=pins, default={}, metavar="NAME=N,...",
        help="pins of the sensor: i2s sck, ws, sd; adc pin; mpu6050 bus, sda, scl",
    )  # fmt: skip
    parser.add_argument(
        "--rate", type=at_least(1), metavar="HZ",
        help="samples a second (default: the file's; keyword 16000 or else 8000, gesture 25)",
    )  # fmt: skip
    parser.add_argument(
        "--axes", type=int, choices=[3, 6], help="axes of a gesture (default: the file's, or 3)"
    )
    parser.add_argument(
        "--countdown",
        type=at_least(0),
        metavar="N",
        help="seconds before each recording (default: 3, with --replay 0)",
    )
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="a recording that a virtual kit's sensor plays"
    )


def pins(word: str) -> dict[str, int]:
    """The pins of a sensor, for argparse: "sck=16,ws=17" -> {"sck": 16, "ws": 17}."""
    numbers = {}
    for part in word.split(","):
        name, _, number = part.partition("=")
        if not name.isidentifier() or not number.isdecimal():
            raise argparse.ArgumentTypeError(f"{part!r} is not a pin: write sck=16,ws=17,sd=18")
        numbers[name] = int(number)
    return numbers


def _name(word: str) -> str:
    try:
        return collection.check_name(word, "name")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from None


def _seconds(word: str) -> float:
    with suppress(ValueError):
        if 0.1 <= float(word) <= LONGEST:
            return float(word)
    raise argparse.ArgumentTypeError(f"{word} is not a number from 0.1 to {LONGEST:g}")


class KitSource:
    """A kit's sensor as a source. Raises TitoError where the kit has no such sensor."""

    def __init__(self, device: Any, settings: dict, rate: int, channels: int) -> None:
        self._device = device
        about = device.listen(settings, rate=rate, channels=channels, raw=True)
        self.rate, self.channels, self.lost = about["rate"], about["channels"], 0
        self._rest = b""

    def readinto(self, buffer: memoryview) -> int:
        fill = 0
        while fill < len(buffer):
            if not self._rest:
                self.lost, self._rest = self._device.samples()
                if not self._rest:
                    break
            part = self._rest[: len(buffer) - fill]
            buffer[fill : fill + len(part)] = part
            fill += len(part)
            self._rest = self._rest[len(part) :]
        return fill

    def close(self) -> None:
        with suppress(TitoError):  # the kit may be gone
            self._device.stop_listening()


class Stop:
    """Catches Ctrl-C while samples come, so that none is lost. Pressed twice, it ends the command
    at once."""

    def __init__(self) -> None:
        self.pressed = False

    def __enter__(self) -> "Stop":
        self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def _press(self, number: int, frame: object) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)


def run(args: argparse.Namespace) -> dict:
    out = args.out or output_file(f"{args.what}.npz")
    _refuse(args)
    existing = collection.load(out) if out.exists() else None
    with ExitStack() as stack:
        source = stack.enter_context(_opened(args, existing))
        if existing:
            collection.check_fit(out, existing, source.rate, source.channels)
        elif (source.rate >= collection.SOUND) != (args.what == "keyword"):
            raise UsageError(
                f"A {args.what} is not recorded at {source.rate} Hz: choose another rate."
            )
        axes = "" if args.what == "keyword" else f", {source.channels} axes"
        print(f"recording  '{args.label}' at {source.rate:g} Hz{axes} into {out}")
        return Session(args, source, out, stack.enter_context(Stop())).run()


def _refuse(args: argparse.Namespace) -> None:
    """Raise UsageError for options that exclude each other."""
    if args.kit == "laptop" and args.what == "gesture":
        raise UsageError("A laptop feels no motion: use a kit with a motion sensor.")
    if args.kit == "laptop" and (args.source or args.pins):
        raise UsageError("The laptop has its own microphone: leave --source and --pins out.")
    if args.replay and args.kit not in VIRTUAL:
        raise UsageError("Only a virtual kit's sensor takes a --replay: leave it out.")
    if args.replay and not args.replay.is_file():
        raise UsageError(f"There is no file {args.replay} to replay.")
    if args.source and (args.source == "mpu6050") != (args.what == "gesture"):
        raise UsageError(f"The sensor {args.source} is not for a {args.what}: leave --source out.")
    if args.what == "keyword" and args.axes:
        raise UsageError("A microphone has no --axes: leave it out.")
    if args.what == "gesture" and args.cut:
        raise UsageError("Only words can be cut by their loudness: leave --cut out.")


@contextmanager
def _opened(args: argparse.Namespace, existing: "collection.Collection | None") -> Iterator[Source]:
    """Open the source that the command names, at --rate or else the rate of the existing file."""
    rates: Sequence[int] = RATES[args.what]
    if args.rate:
        rates = [args.rate]
    elif existing:
        rates = [round(existing.rate)]
    channels = 1
    if args.what == "gesture":
        channels = args.axes or (existing.channels if existing else 3)
    with ExitStack() as stack:
        if args.kit == "laptop":
            make: Callable[[int], Source] = LaptopMicrophone
        else:
            replay = replayed(args.replay, rates[0], stack) if args.replay else {}
            kit = stack.enter_context(open_kit(args.kit, args.firmware, **replay))
            device = stack.enter_context(connect_with_progress(kit))
            settings = {"kind": args.source or SENSOR[args.what], **args.pins}

            def make(rate: int) -> Source:
                return KitSource(device, settings, rate, channels)

        for rate in rates:
            try:
                source = make(rate)
                break
            except UsageError:
                raise
            except TitoError:
                if rate == rates[-1]:
                    raise
        stack.callback(source.close)
        yield source


def replayed(path: Path, rate: float, stack: ExitStack) -> dict[str, Any]:
    """Arguments of open_kit that let a virtual kit's sensor play the recordings of a file.

    rate: samples a second of an .npy file, which does not state it. stack: removes the temporary
    file that a motion sensor reads.
    """
    if path.suffix == ".wav":
        return {"sound": path}
    if path.suffix == ".npz":
        recordings = collection.load(path)
        rate = recordings.rate
        samples = np.concatenate([recordings.signal(i) for i in range(len(recordings))])
    else:
        samples = read_npy(path)
    if rate >= collection.SOUND:
        return {"sound": samples, "sound_rate": rate}
    folder = stack.enter_context(TemporaryDirectory())
    np.save(Path(folder) / "replay.npy", samples)
    return {"replay": Path(folder) / "replay.npy", "rate": rate}


class Take(NamedTuple):
    """One recording. samples: (T, C). lost: samples lost on the way. ended: why the recording is
    shorter than it should be, "" for Ctrl-C, or None if it is complete."""

    samples: Signal
    lost: int
    ended: "str | None"


class Session:
    """Makes one recording after the other; the file is complete after each."""

    def __init__(self, args: argparse.Namespace, source: Source, out: Path, stop: Stop) -> None:
        self.args, self.source, self.out, self.stop = args, source, out, stop
        self.samples = max(1, round((args.seconds or SECONDS[args.what]) * source.rate))
        # Often enough to look alive, and a single sample where these come slowly.
        self.block = memoryview(bytearray(2 * source.channels * max(1, int(source.rate / 32))))
        self.figures: dict[str, Any] = {
            "out": str(out), "label": args.label, "split": args.split, "rate": source.rate,
            "channels": source.channels, "recordings": 0, "seconds": 0.0, "lost": 0,
            "silent": 0, "clipped": 0, "interrupted": False,
        }  # fmt: skip

    def run(self) -> dict:
        for number in range(1, self.args.count + 1):
            self.head = self.args.label + (
                f" {number}/{self.args.count}" if self.args.count > 1 else ""
            )
            self.count_down()
            if self.stop.pressed:
                self.figures["interrupted"] = True
                break
            take = self.take()
            self.keep(take)
            if take.ended:
                raise TitoError(take.ended)
            if take.ended is not None:
                self.figures["interrupted"] = True
                break
        count = self.figures["recordings"]
        print(
            f"recorded   {count} recording{'s' * (count != 1)}, {self.figures['seconds']:.2f} s; "
            f"{self.out} has {self.figures.get('total', 0)}"
        )
        return self.figures

    def count_down(self) -> None:
        """Wait, and discard samples, so that no old ones are waiting when the recording begins."""
        seconds = self.args.countdown
        if seconds is None:
            seconds = 0 if self.args.replay else 3
        for left in range(seconds, 0, -1):
            with shown(f"{self.head} in {left} ..."):
                end = time.monotonic() + 1
                while time.monotonic() < end and not self.stop.pressed:
                    self.source.readinto(self.block)

    def take(self) -> Take:
        """Make one recording, as far as the source gives it."""
        source, parts, fill, ended = self.source, [], 0, None
        lost = source.lost
        screen = Screen(self.head, source, self.samples)
        while fill < self.samples and ended is None:
            try:
                size = source.readinto(self.block)
            except TitoError as error:
                ended, size = str(error), 0
            else:
                if size < len(self.block):
                    ended = "The sensor gives no more samples: check its wires, or the replay."
            block = np.frombuffer(bytes(self.block[:size]), "<i2")
            block = block[: len(block) // source.channels * source.channels]
            part = block.reshape(-1, source.channels).astype(np.int16)[: self.samples - fill]
            parts.append(part)
            fill += len(part)
            screen.show(part, fill, source.lost - lost)
            if self.stop.pressed and fill < self.samples:
                ended = ended or ""
        screen.end()
        if fill == self.samples:
            ended = None
        return Take(np.concatenate(parts), source.lost - lost, ended)

    def keep(self, take: Take) -> None:
        """Append a recording to the file, and print warnings about it."""
        args, rate, figures = self.args, self.source.rate, self.figures
        samples = take.samples
        if take.ended is not None:
            print(f"kept       {len(samples) / rate:.2f} s of the recording that ended early")
        if not len(samples):
            return
        signals = [samples]
        if args.cut:
            signals = [samples[at] for at in words(samples[:, 0], rate)]
            print(f"cut        {len(signals)} words")
        for sentence in self.warnings(samples, take.lost):
            print(f"note       {sentence}")
        if signals:
            figures["total"] = collection.append(
                self.out, signals, args.label, rate, split=args.split, who=args.who or ""
            )
        figures["recordings"] += len(signals)
        figures["seconds"] = round(figures["seconds"] + sum(map(len, signals)) / rate, 3)

    def warnings(self, samples: Signal, lost: int) -> Iterator[str]:
        """A sentence for each problem of a recording."""
        rate, sound = self.source.rate, self.args.what == "keyword"
        flat = samples.min(0).tolist() == samples.max(0).tolist()
        # Silence may be wanted, but no microphone gives the same number all the time.
        if flat or collection.is_silent(samples, rate) and self.args.label != "_silence_":
            self.figures["silent"] += 1
            yield (
                "It is silent: check that the microphone is connected and not muted."
                if sound
                else "Nothing moved: check that the sensor is connected."
            )
        if collection.is_clipped(samples, rate):
            self.figures["clipped"] += 1
            yield (
                "It is clipped: move away from the microphone, or speak more softly."
                if sound
                else "It is clipped: the sensor's range is too small, so move more gently."
            )
        if lost:
            self.figures["lost"] += lost
            yield f"{lost} samples were lost on the way: record again, or at a lower --rate."


def words(samples: NDArray[np.int16], rate: float) -> "list[slice]":
    """Find the words of a long recording (T,): slices of one second around each loud part.

    Loud is within 20 dB of the loudest tenth of a second, and 10 dB above the median.
    """
    length, block = round(CLIP * rate), max(1, round(rate / 50))
    if len(samples) <= length:
        return [slice(0, len(samples))]
    count = len(samples) // block
    x = samples[: count * block].astype(np.float64)
    energy = ((x - np.median(x)).reshape(count, block) ** 2).mean(1)
    energy = np.convolve(energy, np.ones(5) / 5, "same")
    least = max(energy.max() / 100, 10 * float(np.median(energy)), 1.0)
    slices, wide = [], round(length / block)
    while energy.max() >= least:
        top = int(energy.argmax())
        first, last = max(0, top - wide // 2), top + wide // 2
        near = energy[first:last]
        middle = first + int((near * np.arange(len(near))).sum() / near.sum() + 0.5)
        start = min(max(0, middle * block + block // 2 - length // 2), len(samples) - length)
        slices.append(slice(start, start + length))
        energy[max(0, min(top, middle) - wide // 2) : max(top, middle) + wide // 2] = 0
    return sorted(slices, key=lambda at: at.start)


@contextmanager
def shown(line: str) -> Iterator[None]:
    """Show a line on a terminal inside the `with`; a pipe keeps it."""
    if sys.stdout.isatty():
        print(f"\r{line}\x1b[K", end="", flush=True)
        yield
        print("\r\x1b[K", end="", flush=True)
    else:
        print(line)
        yield


class Screen:
    """Shows the signal while it is recorded: on a terminal a moving line, for motion one per axis;
    in a pipe one line per second."""

    def __init__(self, head: str, source: Source, samples: int) -> None:
        self._head, self._rate, self._samples = head, source.rate, samples
        self._sound = source.rate >= collection.SOUND
        self._lines = source.channels
        self._moving = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns - 36 - len(head if self._sound else "")
        self._past = [deque[float](maxlen=max(8, width)) for _ in range(self._lines)]
        self._drawn = False
        self._second = 1
        self._peak = np.zeros(self._lines, np.int32)
        self._blocks = "▁▂▃▄▅▆▇█"
        try:
            self._blocks.encode(sys.stdout.encoding or "ascii")
        except (UnicodeEncodeError, LookupError):
            self._blocks = "_.:-=+*#"

    def show(self, part: Signal, done: int, lost: int) -> None:
        """part: the newest samples (n, C). done: samples so far. lost: samples lost so far."""
        if not len(part):
            return
        size = np.abs(part.astype(np.int32)).max(0)
        self._peak = np.maximum(self._peak, size)
        time = f"{done / self._rate:5.1f} of {self._samples / self._rate:.1f} s"
        missing = f", {lost} lost" if lost else ""
        if self._moving:
            self._move(part, size, time + missing)
        elif done >= self._second * self._rate or done == self._samples:
            self._second = int(done / self._rate) + 1
            if self._sound:
                level = f"{self._bar([60 + decibels(int(self._peak[0]))], 60)} "
                level += f"{decibels(int(self._peak[0])):3} dB"
            else:
                level = " ".join(
                    f"{a} {v:5}" for a, v in zip(AXES, part[-1].tolist(), strict=False)
                )
            print(f"{self._head}  {time}  {level}{missing}")
            self._peak[:] = 0

    def _move(self, part: Signal, size: NDArray[np.int32], text: str) -> None:
        if self._sound:
            self._past[0].append(60 + decibels(int(size[0])))
            wave = self._bar(list(self._past[0]), 60)
            print(f"\r{self._head}  {text}  {wave}\x1b[K", end="", flush=True)
            return
        rows = [f"{self._head}  {text}"]
        for c, past in enumerate(self._past):
            past.append(float(part[-1, c]))
            limit = max(2000.0, *map(abs, past))
            wave = self._bar([value + limit for value in past], 2 * limit)
            rows.append(f"  {AXES[c] if c < len(AXES) else c} {part[-1, c]:6}  {wave}")
        up = f"\x1b[{len(rows) - 1}A" if self._drawn else ""
        print(f"\r{up}" + "\n".join(f"{row}\x1b[K" for row in rows), end="", flush=True)
        self._drawn = True

    def _bar(self, values: "list[float]", full: float) -> str:
        """A character for each value, from 0 to `full`."""
        top = len(self._blocks) - 1
        return "".join(self._blocks[min(top, max(0, int(v / full * top + 0.5)))] for v in values)

    def end(self) -> None:
        if self._moving:
            print()
