"""tito train: from data to a float network."""

import argparse
from pathlib import Path
from time import perf_counter

from tinytorch.sensing import gesture, keyword
from tinytorch.train.trainer import evaluate
from tinytorch.utils.data import DataLoader
from tito import report
from tito.arguments import add_data, at_least
from tito.errors import TitoError, UsageError
from tito.evaluation import load_recordings
from tito.files import late_output_file

HELP = "Train a network by a configuration, or one for recordings of motion or sound."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", type=Path, nargs="?", metavar="CONFIG.toml", help="what to train, and how"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
        help="change a setting, as in optimizer.lr=0.01; may be repeated",
    )  # fmt: skip
    add_data(parser)
    parser.add_argument(
        "--out", metavar="FILE",
        help="the trained network (default: gesture.safetensors, or keyword.safetensors for "
        "sound); with CONFIG.toml a folder",
    )  # fmt: skip
    parser.add_argument(
        "--epochs", type=at_least(1), metavar="N",
        help=f"default: {gesture.EPOCHS} for motion, {keyword.EPOCHS} for sound",
    )  # fmt: skip
    parser.add_argument(
        "--width", type=at_least(8), metavar="N",
        help=f"channels of a network for sound; default: {keyword.WIDTH}",
    )  # fmt: skip
    parser.add_argument("--seed", type=at_least(0), metavar="N", help="default: 0")
    parser.add_argument(
        "--resume", action="store_true", help="continue a training that stopped at this --out"
    )


def run(args: argparse.Namespace) -> dict:
    if args.config is not None:
        return train_by(args)
    if args.changes:
        raise UsageError("--set changes a configuration: give its file.")
    start = perf_counter()
    recordings = load_recordings(args.data)
    is_sound = recordings.is_sound
    if args.width and not is_sound:
        raise UsageError("--width is for recordings of sound.")
    default = f"{'keyword' if is_sound else 'gesture'}.safetensors"
    out = late_output_file(args.out or default, "train")
    checkpoint = out.with_suffix(".checkpoint")
    if args.resume and not checkpoint.exists():
        raise UsageError(f"There is no {checkpoint} to resume from: train without --resume first.")
    seed, kept = args.seed or 0, {"checkpoint": checkpoint, "resume": args.resume}
    if is_sound:
        epochs, width = args.epochs or keyword.EPOCHS, args.width or keyword.WIDTH
        trained = keyword.train_keyword(recordings, seed, epochs, width, **kept)
        keyword.save_keyword(out, trained, recordings.classes)
    else:
        trained = gesture.train_gesture(recordings, seed, args.epochs or gesture.EPOCHS, **kept)
        gesture.save_gesture(out, trained, recordings.classes)
    split = recordings.test_split
    inputs = keyword.keyword_data if is_sound else gesture.gesture_data
    data = DataLoader(inputs(recordings, split, trained.features), 256)
    score = evaluate(trained.net, data)
    result = {
        "out": str(out),
        "epochs": len(trained.history),
        "accuracy_float": score.accuracy,
        "samples": len(data.dataset),
        "split": split,
        "data": recordings.source,
        "seconds": round(perf_counter() - start, 1),
    }
    rows = [("epochs", str(result["epochs"])), ("accuracy, float", report.percent(score.accuracy))]
    title = f"{result['samples']} samples of the split '{split}'"
    report.table(rows, title + (recordings.made and f", {recordings.made}"))
    print(f"\nwrote      {out}")
    return result


def train_by(args: argparse.Namespace) -> dict:
    """Train by a configuration, whose output folder gets the model, its history and a picture."""
    from tinytorch.recipes import config, run

    for name, key in (("data", "data.path"), ("epochs", "train.epochs"), ("seed", "seed")):
        if getattr(args, name) is not None:
            raise UsageError(
                f"--{name} is for training without a configuration: use --set {key}=..."
            )
    if args.out:
        args.changes.append(f"output.folder={args.out}")
    settings = config.read(args.config, args.changes)
    folder = Path(settings.output.folder)
    if folder.exists() and not folder.is_dir():
        raise UsageError(
            f"{folder} is a file: 'output.folder' names the folder for what is written."
        )
    try:
        result = run.run(settings, args.resume)
    except ImportError as error:  # its message names the package to install
        raise TitoError(str(error)) from None
    rows = [("epochs", f"{result['epochs']}, the best was {result['best_epoch']}")]
    rows.append(("loss", f"{result['loss']:.4f}"))
    if result["accuracy"] is not None:
        rows.append(("accuracy, float", report.percent(result["accuracy"])))
    rows += [(name, f"{result[name]:.4f}") for name in settings.train.metrics]
    rows.append(("parameters", f"{result['parameters']:,}"))
    report.table(rows, f"{result['samples']} samples that were not trained on")
    print(f"\nwrote      {folder}: {', '.join(sorted(p.name for p in folder.iterdir()))}")
    return result
