"""tito data: what a file of recordings holds, before anything is trained on it."""

import argparse
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch.data import collection
from tinytorch.data.collection import Collection
from tito import report
from tito.files import output_file, write

HELP = "Look at a file of recordings."
MOST = 12  # classes in a picture
SOME = 6  # numbers in a line
NOBODY = {"", "none"}  # in the place of a name
AXES = ("ax", "ay", "az", "gx", "gy", "gz")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="show")
    s = actions.add_parser("show", help="classes, splits, people, levels and what spoils a test")
    s.add_argument("file", type=Path, metavar="FILE.npz")
    s.add_argument("--picture", type=output_file, metavar="FILE.png", help="an example a class")
    # The verb's own --json and --debug, here too, without a default that would undo them.
    for option in ("--json", "--debug"):
        s.add_argument(option, action="store_true", default=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> dict:
    there = collection.load(args.file)
    figures = look(there)
    tell(args.file.name, there, figures)
    if args.picture:
        print()
        write(args.picture, draw(args.file.name, there), "picture")
        figures["picture"] = str(args.picture)
    return figures


def look(there: Collection) -> dict[str, Any]:
    """What can be said of the recordings; they are numbered from 0."""
    signals = [there.signal(i) for i in range(len(there))]
    splits, people = np.array(there.splits), np.array(there.people)
    order = {"train": 0, "val": 1, "test": 2}
    names = sorted(dict.fromkeys(there.splits), key=lambda name: order.get(name, 3))
    in_split = {name: set(people[splits == name].tolist()) - NOBODY for name in names}
    everybody = sorted(set().union(*in_split.values()))
    peaks = np.array([int(np.abs(signal.astype(np.int32)).max()) for signal in signals])
    return {
        "recordings": len(there),
        "seconds": round(float(there.seconds.sum()), 3),
        "rate": there.rate,
        "channels": there.channels,
        "kind": "sound" if there.is_sound else "motion",
        "encoding": there.encoding or str(there.arrays["data"].dtype),
        "splits": names,
        "classes": {
            word: {
                name: int(((there.labels == k) & (splits == name)).sum()) for name in names
            }
            for k, word in enumerate(there.classes)
        },
        "people": {name: len(in_split[name]) for name in names} if everybody else {},
        "people_in_two_splits": [
            who for who in everybody if sum(who in group for group in in_split.values()) > 1
        ],
        "peak": {"lowest": int(peaks.min()), "median": int(np.median(peaks)),
                 "highest": int(peaks.max())},
        "clipped": [i for i, s in enumerate(signals) if collection.is_clipped(s, there.rate)],
        "silent": [i for i, s in enumerate(signals) if collection.is_silent(s, there.rate)],
        "identical": collection.identical(there),
    }  # fmt: skip


def tell(name: str, there: Collection, figures: dict[str, Any]) -> None:
    lengths = there.seconds
    spread = f"{lengths.min():.2f}" + (
        "" if lengths.min() == lengths.max() else f" to {lengths.max():.2f}"
    )
    channels = "1 channel" if there.channels == 1 else f"{there.channels} channels"
    print(
        f"{name}: {figures['kind']}, {len(there)} recordings of {spread} s, "
        f"{lengths.sum():,.1f} s in all\n{channels} at {there.rate:g} Hz, {figures['encoding']}"
    )
    splits = figures["splits"]
    width = max(map(len, ["class", *there.classes]))
    print(f"\n  {'class':{width}} {''.join(f' {split:>7}' for split in splits)}     all")
    for word, counts in figures["classes"].items():
        cells = "".join(f" {counts[split]:7}" for split in splits)
        print(f"  {word:{width}} {cells} {sum(counts.values()):7}")
    totals = [sum(counts[split] for counts in figures["classes"].values()) for split in splits]
    print(f"  {'all':{width}} {''.join(f' {n:7}' for n in totals)} {len(there):7}")

    where = there.splits
    spoils = {min(g) for g in figures["identical"] if len({where[i] for i in g}) > 1}
    groups = sorted(figures["identical"], key=lambda group: group[0] not in spoils)
    shared = figures["people_in_two_splits"]
    rows = [("levels", levels(there, figures["peak"]))]
    if figures["people"]:
        by_split = ", ".join(f"{split} {n}" for split, n in figures["people"].items())
        rows.insert(0, ("people", by_split))
    if shared:
        rows.append(("in two splits", f"{some(shared)}: a test should have people of its own"))
    if figures["clipped"]:
        rows.append(("clipped", f"recordings {some(figures['clipped'])}"))
    if figures["silent"]:
        rows.append(("silent", f"recordings {some(figures['silent'])}"))
    for group in groups[:SOME]:
        same = some([f"{i} ({where[i]})" for i in group])
        end = ": they spoil a test" if group[0] in spoils else ""
        rows.append(("identical", f"recordings {same}{end}"))
    if len(groups) > SOME:
        rows.append(("identical", f"{len(groups) - SOME} more groups"))
    report.table(rows, "what to know")


def levels(there: Collection, peaks: dict[str, int]) -> str:
    """Where the recordings' peaks lie."""
    low, middle, high = (peaks[key] for key in ("lowest", "median", "highest"))
    if there.is_sound:
        return (
            f"peaks from {decibels(low)} to {decibels(high)} dB, "
            f"half of them above {decibels(middle)} dB"
        )
    return f"peaks from {low} to {high}, half of them above {middle}"


def decibels(peak: float) -> int:
    """A peak against full scale."""
    return round(20 * np.log10(max(peak, 1) / 32768))


def some(items: Sequence[object]) -> str:
    """The first of many, and how many more there are."""
    rest = len(items) - SOME
    return ", ".join(map(str, items[:SOME])) + (f" and {rest} more" if rest > 0 else "")


def draw(title: str, there: Collection) -> bytes:
    """A PNG: the first recording of each class, of sound with its spectrogram."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    first = [np.flatnonzero(there.labels == k) for k in range(len(there.classes))]
    chosen = [(there.classes[k], int(at[0])) for k, at in enumerate(first) if len(at)][:MOST]
    most = max(1, int(2 * np.median(np.diff(there.offsets))))  # of a stream, its beginning
    columns = 2 if there.is_sound else 1
    figure, axes = plt.subplots(
        len(chosen), columns, sharex=True, squeeze=False, layout="constrained",
        figsize=(5.2 * columns + 1, 1.2 + 0.9 * len(chosen)),
    )  # fmt: skip
    figure.suptitle(title, x=0.01, ha="left", color=report.INK)
    signals = [there.signal(i)[:most] for _, i in chosen]
    peak = max(int(np.abs(signal.astype(np.int32)).max()) for signal in signals)
    powers = [spectrogram(signal[:, 0], there.rate) for signal in signals if there.is_sound]
    loudest = max((power.max() for power in powers), default=0)
    for n, (row, signal, (word, i)) in enumerate(zip(axes, signals, chosen, strict=True)):
        lines = row[0].plot(
            np.arange(len(signal)) / there.rate, signal, linewidth=2 / (columns + 1)
        )
        row[0].set_ylabel(f"{word}\n({i})", rotation=0, ha="right", va="center", color=report.INK)
        row[0].set_yticks([])
        row[0].set_ylim(-peak * 1.05 - 1, peak * 1.05 + 1)
        row[0].spines[["top", "right", "left"]].set_visible(False)
        if there.is_sound:
            top = max(powers[n].max(), loudest - 30)  # what is quiet beside the others looks so
            row[1].imshow(
                powers[n].T, aspect="auto", origin="lower", cmap="magma", vmin=top - 70, vmax=top,
                extent=(0, len(signal) / there.rate, 0, there.rate / 2000),
            )  # fmt: skip
            row[1].set_ylabel("kHz")
    if there.channels in (3, 6):
        figure.legend(lines, AXES[: len(lines)], loc="upper right", ncols=6, frameon=False)
    for bottom in axes[-1]:
        bottom.set_xlabel("seconds")
    png = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class name with a glyph that the font lacks
        figure.savefig(png, dpi=110)
    plt.close(figure)
    return png.getvalue()


def spectrogram(samples: NDArray[np.int16], rate: float) -> NDArray[np.float64]:
    """The power in windows of 32 ms every 8 ms, in dB, (windows, frequencies)."""
    window = int(0.032 * rate)
    padded = np.pad(samples.astype(float), (0, max(0, window - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[:: window // 4]
    return 20 * np.log10(np.abs(np.fft.rfft(frames * np.hanning(window))) + 1)
