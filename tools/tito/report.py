"""Reports: short tables in the terminal, and pictures."""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch.modelfile.runtime import Model
from tinytorch.quantize.lanes import Layer
from tinytorch.sensing.spotting import Curve

INK, ACCENT, WARM = "#1f2933", "#2667a8", "#d1603d"


def table(rows: Sequence[tuple[str, str]], title: str) -> None:
    width = max(len(name) for name, _ in rows)
    print(f"\n{title}")
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")


def percent(fraction: "float | None") -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f} %"


def quantized(model: Model) -> None:
    print(f"quantized  int8, {len(model.data):,} bytes with {model.vectors} test vectors")


def layers(rows: Sequence[Layer], kept_exact: Sequence[str]) -> None:
    """Print how each layer was quantized, and why layers stayed exact despite --tier lane."""
    lines = [
        (
            row.layer,
            f"{row.tier:5}  weights {row.weight_bits:4.1f} bits"
            f"{'' if row.group is None else f' in groups of {row.group}':20}"
            f"  multipliers {row.multiplier_bits:4.1f} bits",
        )
        for row in rows
    ]
    table(lines, "layers")
    for sentence in kept_exact:
        print(sentence)
    print()


def comparison(result: Mapping[str, Any], title: str) -> None:
    """Print the table at the end of `demo` and `evaluate`."""
    rows = [("samples", f"{result['samples']}")]
    if result["accuracy_float"] is not None:
        rows.append(("accuracy, float on the laptop", percent(result["accuracy_float"])))
    rows.append(("accuracy, int8 on the laptop", percent(result["accuracy_int8"])))
    if result["accuracy_kit"] is not None:
        latency = result["latency_us"]
        count = result.get("kit_samples", result["samples"])
        rows += [
            (f"accuracy, int8 on the kit ({result['kit']})", percent(result["accuracy_kit"])),
            ("same output bytes", f"{result['bit_exact']} of {count}"),
            (
                "latency on the kit",
                f"{latency['p50'] / 1000:.2f} ms, 95 % below {latency['p95'] / 1000:.2f} ms",
            ),
        ]
        if result.get("us_per_second"):
            spent = result["us_per_second"] / 1000
            rows += [
                ("one second of sound takes", f"{spent:.0f} ms of the kit's time"),
                ("free heap while it listens", f"{result['free_heap']:,} bytes"),
            ]
        rows += [
            (
                "heap at the peak",
                f"{result['ram_measured']:,} bytes (predicted {result['ram_predicted']:,})",
            ),
        ]
    if "false_accepts_per_hour" in result:
        rows += [
            (
                f"false accepts in {result['stream_seconds']} s of other sound",
                f"{result['false_accepts_per_hour']:.0f} per hour at threshold "
                f"{result['threshold']} of 255",
            ),
            ("false rejects at that threshold", percent(result["false_rejects"])),
        ]
    rows.append(("model file", f"{result['model_bytes']:,} bytes"))
    table(rows, title)


def picture(
    title: str,
    history: Sequence[Mapping[str, float]],
    examples: Sequence[tuple[str, NDArray]],
    rate: float,
    labels: Sequence[str],
    truth: NDArray,
    predictions: NDArray,
    where: str,
) -> bytes:
    """A PNG: examples of the data, the training curve, the confusion matrix of the predictions.

    history: one mapping an epoch with loss and val_loss. examples:
    (label, (T, C) samples).
    """
    figure, (left, middle, right) = _figure(title, 3, 13)
    for axes, (label, samples) in zip(_column(left, len(examples)), examples, strict=True):
        axes.plot(np.arange(len(samples)) / rate, samples, linewidth=1)
        axes.set_ylabel(label, rotation=0, ha="right", va="center", color=INK)
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("seconds")
    _training(middle.subplots(), history)
    _confusion(right.subplots(), labels, truth, predictions, where)
    return _png(figure)


def sound_picture(
    title: str,
    history: Sequence[Mapping[str, float]],
    examples: Sequence[tuple[str, NDArray]],
    seconds: float,
    labels: Sequence[str],
    truth: NDArray,
    predictions: NDArray,
    where: str,
    curve: "Curve | None",
    threshold: int,
) -> bytes:
    """A PNG: input features, the training curve, the confusion matrix, and the detector's false
    accepts per hour against its false rejects.

    examples: (label, (frames, values) int8), each `seconds` long. threshold: the
    model's own. Without a curve the last part is left out.
    """
    figure, parts = _figure(title, 4, 18) if curve else _figure(title, 3, 13)
    left, middle, right = parts[:3]
    for axes, (label, features) in zip(_column(left, len(examples)), examples, strict=True):
        axes.imshow(
            features.T, aspect="auto", origin="lower", extent=(0, seconds, 0, 1), cmap="magma"
        )
        axes.set_ylabel(label, rotation=0, ha="right", va="center", color=INK)
        axes.set_yticks([])
    axes.set_xlabel("seconds")
    _training(middle.subplots(), history)
    _confusion(right.subplots(), labels, truth, predictions, where)
    if not curve:
        return _png(figure)
    axes = parts[3].subplots()
    rejected = 100 * curve.false_rejects
    axes.plot(rejected, curve.false_accepts, color=ACCENT)
    accepts, rejects = curve.at(threshold)
    axes.plot([100 * rejects], [accepts], "o", color=WARM, label=f"threshold {threshold} of 255")
    axes.set(
        xlabel="false rejects, %",
        ylabel="false accepts per hour",
        xlim=(0, min(100, 2 * 100 * rejects + 20)),
        ylim=(0, 3 * accepts + 30),
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return _png(figure)


def _figure(title: str, parts: int, width: float) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(width, 4.6), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", color=INK)
    ratios = (1.15, 1, 1.15) if parts == 3 else (0.9, 0.9, 1.5, 0.9)
    return figure, figure.subfigures(1, parts, width_ratios=ratios)


def _column(part: Any, count: int) -> Any:
    return part.subplots(count, 1, sharex=True, squeeze=False)[:, 0]


def _training(axes: Any, history: Sequence[Mapping[str, float]]) -> None:
    epochs = range(1, len(history) + 1)
    axes.plot(epochs, [h["loss"] for h in history], color=ACCENT, label="training")
    axes.plot(epochs, [h["val_loss"] for h in history], color=WARM, label="validation")
    axes.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def _confusion(
    axes: Any, labels: Sequence[str], truth: NDArray, predictions: NDArray, where: str
) -> None:
    counts = np.zeros((len(labels), len(labels)), int)
    np.add.at(counts, (truth, predictions), 1)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(counts.shape):
        if counts[i, j]:
            axes.text(j, i, counts[i, j], ha="center", va="center",
                      fontsize=10 if len(labels) < 8 else 8,
                      color="white" if share[i, j] > 0.5 else INK)  # fmt: skip
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel=f"prediction of {where}", ylabel="label")


def _png(figure: Any) -> bytes:
    from matplotlib import pyplot as plt

    png = io.BytesIO()
    with warnings.catch_warnings():
        # A class name may have a glyph that the font lacks, or too little room.
        warnings.simplefilter("ignore")
        figure.savefig(png, dpi=110)
    plt.close(figure)
    return png.getvalue()
