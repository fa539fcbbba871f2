"""What a run looks like: a short table in the terminal and one picture."""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch.lanes import Layer
from tinytorch.runtime import Model

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


def layers(found: Sequence[Layer], kept_exact: Sequence[str]) -> None:
    """What became of each layer in integers, and why layers stayed exact that were not to."""
    rows = [
        (
            row.layer,
            f"{row.tier:5}  weights {row.weight_bits:4.1f} bits"
            f"{'' if row.group is None else f' in groups of {row.group}':20}"
            f"  multipliers {row.multiplier_bits:4.1f} bits",
        )
        for row in found
    ]
    table(rows, "layers")
    for sentence in kept_exact:
        print(sentence)
    print()


def comparison(result: Mapping[str, Any], title: str) -> None:
    """The table that `demo` and `evaluate` end with."""
    rows = [("samples", f"{result['samples']}")]
    if result["accuracy_float"] is not None:
        rows.append(("accuracy, float on the laptop", percent(result["accuracy_float"])))
    rows.append(("accuracy, int8 on the laptop", percent(result["accuracy_int8"])))
    if result["accuracy_kit"] is not None:
        latency = result["latency_us"]
        rows += [
            (f"accuracy, int8 on the kit ({result['kit']})", percent(result["accuracy_kit"])),
            ("same output bytes", f"{result['bit_exact']} of {result['samples']}"),
            (
                "latency on the kit",
                f"{latency['p50'] / 1000:.2f} ms, 95 % below {latency['p95'] / 1000:.2f} ms",
            ),
            (
                "heap at the peak",
                f"{result['ram_measured']:,} bytes (predicted {result['ram_predicted']:,})",
            ),
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
    """A PNG: examples of the data, the training curve, the confusion matrix of the kit's answers.

    history: one mapping an epoch with loss and val_loss. examples:
    (label, (T, C) samples).
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(13, 4.6), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", color=INK)
    parts: Any = figure.subfigures(1, 3, width_ratios=(1.15, 1, 1.15))
    left, middle, right = parts

    for axes, (label, samples) in zip(
        left.subplots(len(examples), 1, sharex=True, squeeze=False)[:, 0], examples, strict=True
    ):
        axes.plot(np.arange(len(samples)) / rate, samples, linewidth=1)
        axes.set_ylabel(label, rotation=0, ha="right", va="center", color=INK)
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("seconds")

    axes = middle.subplots()
    epochs = range(1, len(history) + 1)
    axes.plot(epochs, [h["loss"] for h in history], color=ACCENT, label="training")
    axes.plot(epochs, [h["val_loss"] for h in history], color=WARM, label="validation")
    axes.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)

    axes = right.subplots()
    counts = np.zeros((len(labels), len(labels)), int)
    np.add.at(counts, (truth, predictions), 1)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(counts.shape):
        if counts[i, j]:
            axes.text(j, i, counts[i, j], ha="center", va="center",
                      color="white" if share[i, j] > 0.5 else INK)  # fmt: skip
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel=f"answer of {where}", ylabel="label")
    png = io.BytesIO()
    with warnings.catch_warnings():
        # Odd class names: a glyph that the font lacks, or no room. A box shows instead.
        warnings.simplefilter("ignore")
        figure.savefig(png, dpi=110)
    plt.close(figure)
    return png.getvalue()
