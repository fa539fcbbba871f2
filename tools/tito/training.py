"""tito train and quantize: from recordings to a float network, and from that to a model file."""

import argparse
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from tinytorch.gesture import (
    EPOCHS,
    gesture_data,
    load_gesture,
    quantize_gesture,
    save_gesture,
    train_gesture,
)
from tinytorch.runtime import Model
from tinytorch.train import evaluate
from tinytorch.utils.data import DataLoader
from tito import report
from tito.deploy import check_name
from tito.errors import Usage
from tito.files import output_file, write
from tito.inference import at_least, load_recordings


def add_verbs(add: Callable[..., argparse.ArgumentParser]) -> None:
    p = add("train", "Train a gesture network and keep its float weights.")
    p.add_argument("--data", type=Path, metavar="FILE.npz", help="recordings in the npz layout")
    p.add_argument("--out", type=output_file, default="gesture.safetensors", metavar="FILE")
    p.add_argument("--epochs", type=at_least(1), default=EPOCHS, metavar="N")
    p.add_argument("--seed", type=at_least(0), default=0, metavar="N")
    p.add_argument("--resume", action="store_true", help="go on from where this --out stopped")
    p.set_defaults(run=train)
    p = add("quantize", "Make the int8 model file of a trained network.")
    p.add_argument("trained", type=Path, metavar="TRAINED", help="what `tito train` wrote")
    p.add_argument("--data", type=Path, metavar="FILE.npz", help="what it was trained on")
    p.add_argument("--out", type=output_file, default="gesture.tt", metavar="FILE.tt")
    p.add_argument("--name", default="gesture", help="the model's name on a kit")
    p.set_defaults(run=quantize)


def train(args: argparse.Namespace) -> dict:
    start = perf_counter()
    checkpoint = args.out.with_suffix(".checkpoint")
    if args.resume and not checkpoint.exists():
        raise Usage(f"There is no {checkpoint} to resume from: train without --resume first.")
    recordings = load_recordings(args.data)
    trained = train_gesture(
        recordings, args.seed, args.epochs, checkpoint=checkpoint, resume=args.resume
    )
    save_gesture(args.out, trained, recordings.classes)
    split = recordings.test_split
    data = DataLoader(gesture_data(recordings, split, trained.features), 256)
    score = evaluate(trained.net, data)
    result = {
        "out": str(args.out),
        "epochs": len(trained.history),
        "accuracy_float": score.accuracy,
        "samples": len(data.dataset),
        "split": split,
        "data": recordings.source,
        "seconds": round(perf_counter() - start, 1),
    }
    rows = [("epochs", str(result["epochs"])), ("accuracy, float", report.percent(score.accuracy))]
    simulated = ", simulated" if recordings.simulated else ""
    report.table(rows, f"{result['samples']} samples of the split '{split}'{simulated}")
    print(f"\nwrote      {args.out}")
    return result


def quantize(args: argparse.Namespace) -> dict:
    check_name(args.name)
    if not args.trained.is_file():
        raise Usage(f"There is no file {args.trained}: make one with `tito train`.")
    trained, classes = load_gesture(args.trained)
    recordings = load_recordings(args.data).for_model(trained.features, classes)
    model = Model(quantize_gesture(trained, recordings, args.name))
    report.quantized(model)
    write(args.out, model.data)
    return {
        "out": str(args.out),
        "model_bytes": len(model.data),
        "arena_bytes": model.arena_bytes,
        "vectors": model.vectors,
        "sha256": model.sha256,
        "data": recordings.source,
    }
