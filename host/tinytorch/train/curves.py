"""How a training went, as one picture: losses, accuracies and the learning rate by epoch."""

import io
from collections.abc import Sequence
from typing import Any

from tinytorch.train.history import Epoch

INK, TRAINING, VALIDATION = "#1f2933", "#2667a8", "#d1603d"


def picture(history: Sequence[Epoch], title: str = "", best: int = 0) -> bytes:
    """A PNG of a training's history.

    best: the number of the epoch whose weights were kept, marked by a line; 0 for none.
    Raises ValueError for a history without an epoch.
    """
    if not history:
        raise ValueError("curves: there is no epoch in the history: train for one at least.")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    panels = ["loss", "accuracy", "lr"]
    if history[0].accuracy is None:
        panels.remove("accuracy")
    size = (4.2 * len(panels), 3.6)
    figure, row = plt.subplots(1, len(panels), figsize=size, layout="constrained", squeeze=False)
    if title:
        figure.suptitle(title, x=0.01, ha="left", color=INK)
    for axes, name in zip(row[0], panels, strict=True):
        _line(axes, history, name, "training", TRAINING)
        if getattr(history[0], f"val_{name}", None) is not None:
            _line(axes, history, f"val_{name}", "validation", VALIDATION)
        if best and name != "lr":
            axes.axvline(best, color=INK, linewidth=0.8, linestyle=":", label="best epoch")
        if len(axes.lines) > 1:
            axes.legend(frameon=False)
        axes.set_xlabel("epoch")
        axes.set_title("learning rate" if name == "lr" else name, loc="left", color=INK)
        axes.set_xlim(0.5, len(history) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.spines[["top", "right"]].set_visible(False)
        if name == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        elif axes.dataLim.ymin >= 0:
            axes.set_ylim(bottom=0)
    png = io.BytesIO()
    figure.savefig(png, dpi=110)
    plt.close(figure)
    return png.getvalue()


def _line(axes: Any, history: Sequence[Epoch], name: str, label: str, color: str) -> None:
    epochs = [e.epoch for e in history]
    values = [getattr(e, name) for e in history]
    # One epoch makes a point, not a line.
    axes.plot(epochs, values, color=color, label=label, marker="o" if len(epochs) < 3 else None)
