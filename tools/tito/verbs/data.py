"""tito data: what a file of recordings holds, to check before training."""

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

HELP = "Inspect a file of recordings."
MOST = 12  # classes that a picture shows
SOME = 6  # items that a line names
NOBODY = {"", "none"}  # no name
AXES = ("ax", "ay", "az", "gx", "gy", "gz")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="show")
    s = actions.add_parser(
        "show", help="print classes, splits, people, levels and what would spoil a test"
    )
    s.add_argument("file", type=Path, metavar="FILE.npz")
    s.add_argument(
        "--picture", type=output_file, metavar="FILE.png", help="draw an example of each class"
    )
    # Also accepted here; without a default, which would override that of the verb.
    for option in ("--json", "--debug"):
        s.add_argument(option, action="store_true", default=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> dict:
    recordings = collection.load(args.file)
    figures = statistics(recordings)
    print_statistics(args.file.name, recordings, figures)
    if args.picture:
        print()
        write(args.picture, draw(args.file.name, recordings), "picture")
        figures["picture"] = str(args.picture)
    return figures


def statistics(recordings: Collection) -> dict[str, Any]:
    """Describe recordings in figures; recordings are numbered from 0."""
    signals = [recordings.signal(i) for i in range(len(recordings))]
    splits, people = np.array(recordings.splits), np.array(recordings.people)
    order = {"train": 0, "val": 1, "test": 2}
    names = sorted(dict.fromkeys(recordings.splits), key=lambda name: order.get(name, 3))
    in_split = {name: set(people[splits == name].tolist()) - NOBODY for name in names}
    everybody = sorted(set().union(*in_split.values()))
    peaks = np.array([int(np.abs(signal.astype(np.int32)).max()) for signal in signals])
    return {
        "recordings": len(recordings),
        "seconds": round(float(recordings.seconds.sum()), 3),
        "rate": recordings.rate,
        "channels": recordings.channels,
        "kind": "sound" if recordings.is_sound else "motion",
        "encoding": recordings.encoding or str(recordings.arrays["data"].dtype),
        "splits": names,
        "classes": {
            word: {
                name: int(((recordings.labels == k) & (splits == name)).sum()) for name in names
            }
            for k, word in enumerate(recordings.classes)
        },
        "people": {name: len(in_split[name]) for name in names} if everybody else {},
        "people_in_two_splits": [
            person for person in everybody
            if sum(person in group for group in in_split.values()) > 1
        ],
        "peak": {"lowest": int(peaks.min()), "median": int(np.median(peaks)),
                 "highest": int(peaks.max())},
        "clipped": [i for i, s in enumerate(signals) if collection.is_clipped(s, recordings.rate)],
        "silent": [i for i, s in enumerate(signals) if collection.is_silent(s, recordings.rate)],
        "identical": collection.identical(recordings),
    }  # fmt: skip


def print_statistics(name: str, recordings: Collection, figures: dict[str, Any]) -> None:
    lengths = recordings.seconds
    length = f"{lengths.min():.2f}" + (
        "" if lengths.min() == lengths.max() else f" to {lengths.max():.2f}"
    )
    channels = "1 channel" if recordings.channels == 1 else f"{recordings.channels} channels"
    print(
        f"{name}: {figures['kind']}, {len(recordings)} recordings of {length} s, "
        f"{lengths.sum():,.1f} s in all\n"
        f"{channels} at {recordings.rate:g} Hz, {figures['encoding']}"
    )
    splits = figures["splits"]
    width = max(map(len, ["class", *recordings.classes]))
    print(f"\n  {'class':{width}} {''.join(f' {split:>7}' for split in splits)}     all")
    for word, counts in figures["classes"].items():
        cells = "".join(f" {counts[split]:7}" for split in splits)
        print(f"  {word:{width}} {cells} {sum(counts.values()):7}")
    totals = [sum(counts[split] for counts in figures["classes"].values()) for split in splits]
    print(f"  {'all':{width}} {''.join(f' {n:7}' for n in totals)} {len(recordings):7}")

    where = recordings.splits
    spoils = {min(g) for g in figures["identical"] if len({where[i] for i in g}) > 1}
    groups = sorted(figures["identical"], key=lambda group: group[0] not in spoils)
    shared = figures["people_in_two_splits"]
    rows = [("levels", levels(recordings, figures["peak"]))]
    if figures["people"]:
        by_split = ", ".join(f"{split} {n}" for split, n in figures["people"].items())
        rows.insert(0, ("people", by_split))
    if shared:
        rows.append(("in two splits", f"{some(shared)}: a test needs people of its own"))
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


def levels(recordings: Collection, peaks: dict[str, int]) -> str:
    """A sentence on the peaks of the recordings."""
    low, middle, high = (peaks[key] for key in ("lowest", "median", "highest"))
    if recordings.is_sound:
        return (
            f"peaks from {decibels(low)} to {decibels(high)} dB, "
            f"half of them above {decibels(middle)} dB"
        )
    return f"peaks from {low} to {high}, half of them above {middle}"


def decibels(peak: float) -> int:
    """A peak in dB relative to full scale."""
    return round(20 * np.log10(max(peak, 1) / 32768))


def some(items: Sequence[object]) -> str:
    """The first items, and how many more there are."""
    rest = len(items) - SOME
    return ", ".join(map(str, items[:SOME])) + (f" and {rest} more" if rest > 0 else "")


def draw(title: str, recordings: Collection) -> bytes:
    """A PNG: the first recording of each class, for sound with its spectrogram."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    first = [np.flatnonzero(recordings.labels == k) for k in range(len(recordings.classes))]
    chosen = [(recordings.classes[k], int(at[0])) for k, at in enumerate(first) if len(at)][:MOST]
    most = max(1, int(2 * np.median(np.diff(recordings.offsets))))  # only the beginning of a stream
    columns = 2 if recordings.is_sound else 1
    figure, axes = plt.subplots(
        len(chosen), columns, sharex=True, squeeze=False, layout="constrained",
        figsize=(5.2 * columns + 1, 1.2 + 0.9 * len(chosen)),
    )  # fmt: skip
    figure.suptitle(title, x=0.01, ha="left", color=report.INK)
    signals = [recordings.signal(i)[:most] for _, i in chosen]
    peak = max(int(np.abs(signal.astype(np.int32)).max()) for signal in signals)
    powers = [
        spectrogram(signal[:, 0], recordings.rate) for signal in signals if recordings.is_sound
    ]
    loudest = max((power.max() for power in powers), default=0)
    for n, (row, signal, (word, i)) in enumerate(zip(axes, signals, chosen, strict=True)):
        lines = row[0].plot(
            np.arange(len(signal)) / recordings.rate, signal, linewidth=2 / (columns + 1)
        )
        row[0].set_ylabel(f"{word}\n({i})", rotation=0, ha="right", va="center", color=report.INK)
        row[0].set_yticks([])
        row[0].set_ylim(-peak * 1.05 - 1, peak * 1.05 + 1)
        row[0].spines[["top", "right", "left"]].set_visible(False)
        if recordings.is_sound:
            top = max(powers[n].max(), loudest - 30)  # quiet sounds look quiet
            row[1].imshow(
                powers[n].T, aspect="auto", origin="lower", cmap="magma", vmin=top - 70, vmax=top,
                extent=(0, len(signal) / recordings.rate, 0, recordings.rate / 2000),
            )  # fmt: skip
            row[1].set_ylabel("kHz")
    if recordings.channels in (3, 6):
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
