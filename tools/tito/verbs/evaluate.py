"""tito evaluate: the accuracy of a model on the laptop and on a kit."""

import argparse
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter

from tinytorch.sensing.motion import quantize_windows
from tito import keywords, report
from tito.arguments import add_data, add_kit, at_least
from tito.evaluation import compare, load_model, load_recordings, stratified, takes_sound
from tito.kits.open import open_kit

HELP = "Measure the accuracy of a model on a split of a data file, also on a kit."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL")
    add_data(parser)
    parser.add_argument("--split", default="test", metavar="NAME", help="default: test")
    parser.add_argument(
        "--samples", type=at_least(1), metavar="N", help="samples that the kit runs; default: all"
    )
    add_kit(parser)


def run(args: argparse.Namespace) -> dict:
    start = perf_counter()
    model = load_model(args.model)
    kind = "sound" if takes_sound(model) else "motion"
    recordings = load_recordings(args.data, kind).for_model(model.features, model.labels)
    with open_kit(args.kit, args.firmware) if args.kit else nullcontext() as kit:
        if takes_sound(model):
            figures, *_ = keywords.compare(model, recordings, args.split, kit, args.samples)
        else:
            assert model.features is not None  # for_model has refused a model without
            windows, labels = recordings.windows(args.split, model.features["window"])
            chosen = stratified(labels, args.samples or len(labels))
            x = quantize_windows(windows[chosen], model.features)
            figures, _ = compare(model, x, labels[chosen], kit)
    figures |= {
        "seconds": round(perf_counter() - start, 2),
        "data": recordings.source,
        "split": args.split,
    }
    title = f"{model.name} on the split '{args.split}'"
    report.comparison(figures, title + (recordings.made and f", {recordings.made}"))
    return figures
