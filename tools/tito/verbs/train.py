"""tito train and quantize: from data to a float network, and from that to a model file."""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from numpy.typing import NDArray

from tinytorch import serialize
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.quantize import lanes
from tinytorch.quantize.ir import QuantizedNet
from tinytorch.sensing import gesture, keyword, spotting
from tinytorch.train.trainer import evaluate
from tinytorch.utils.data import DataLoader
from tito import report
from tito.board.device import check_name
from tito.errors import Fault, Usage
from tito.files import output_file, write
from tito.verbs.inference import add_data, at_least, load_recordings


def add_verbs(add: Callable[..., argparse.ArgumentParser]) -> None:
    p = add(
        "train", "Train a network by a configuration, or one for recordings of motion or sound."
    )
    p.add_argument("config", type=Path, nargs="?", metavar="CONFIG.toml", help="what to train")
    p.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
        help="change a setting, as in optimizer.lr=0.01; may be repeated",
    )  # fmt: skip
    add_data(p)
    p.add_argument(
        "--out", metavar="FILE",
        help="the trained network (gesture.safetensors, or keyword.safetensors for sound); with "
        "CONFIG.toml a folder",
    )  # fmt: skip
    p.add_argument(
        "--epochs", type=at_least(1), metavar="N",
        help=f"unless told {gesture.EPOCHS} for motion, {keyword.EPOCHS} for sound",
    )  # fmt: skip
    p.add_argument(
        "--width", type=at_least(8), metavar="N",
        help=f"channels of a network for sound, {keyword.WIDTH} unless told",
    )  # fmt: skip
    p.add_argument("--seed", type=at_least(0), metavar="N", help="0 unless told")
    p.add_argument("--resume", action="store_true", help="go on from where this --out stopped")
    p.set_defaults(run=train)
    p = add("quantize", "Make the int8 model file of a trained network.")
    p.add_argument("trained", type=Path, metavar="TRAINED", help="what `tito train` wrote")
    add_data(p)
    p.add_argument("--out", metavar="FILE.tt", help="NAME.tt unless told")
    p.add_argument(
        "--name", help="the model's name on a kit; gesture, or the kind of network, unless told"
    )
    p.add_argument(
        "--tier", choices=("exact", "lane"), default="exact",
        help="lane: coarser weights, two products at a time on a core without wide ones",
    )  # fmt: skip
    p.add_argument(
        "--bits", type=int, choices=(7, 8), help="lane: of activations; unless told 7, for sound 8"
    )
    p.add_argument(
        "--group", type=at_least(1), metavar="N",
        help="lane: weights that are summed up together; all of a channel unless told",
    )  # fmt: skip
    p.set_defaults(run=quantize)


def train(args: argparse.Namespace) -> dict:
    if args.config is not None:
        return train_by(args)
    if args.changes:
        raise Usage("--set changes a configuration: give its file, too.")
    start = perf_counter()
    recordings = load_recordings(args.data)
    hears = recordings.is_sound
    if args.width and not hears:
        raise Usage("--width is for recordings of sound.")
    out = _file(args.out or f"{'keyword' if hears else 'gesture'}.safetensors")
    checkpoint = out.with_suffix(".checkpoint")
    if args.resume and not checkpoint.exists():
        raise Usage(f"There is no {checkpoint} to resume from: train without --resume first.")
    seed, kept = args.seed or 0, {"checkpoint": checkpoint, "resume": args.resume}
    if hears:
        epochs, width = args.epochs or keyword.EPOCHS, args.width or keyword.WIDTH
        trained = keyword.train_keyword(recordings, seed, epochs, width, **kept)
        keyword.save_keyword(out, trained, recordings.classes)
    else:
        trained = gesture.train_gesture(recordings, seed, args.epochs or gesture.EPOCHS, **kept)
        gesture.save_gesture(out, trained, recordings.classes)
    split = recordings.test_split
    inputs = keyword.keyword_data if hears else gesture.gesture_data
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


def _file(word: str) -> Path:
    try:
        return output_file(word)
    except argparse.ArgumentTypeError as error:
        raise Usage(f"argument --out: {error} (see `tito train --help`).") from None


def train_by(args: argparse.Namespace) -> dict:
    """Train by a configuration; its folder gets the model and how it came about."""
    from tinytorch.recipes import config, run

    for name, key in (("data", "data.path"), ("epochs", "train.epochs"), ("seed", "seed")):
        if getattr(args, name) is not None:
            raise Usage(f"--{name} is for training without a configuration: use --set {key}=...")
    if args.out:
        args.changes.append(f"output.folder={args.out}")
    settings = config.read(args.config, args.changes)
    folder = Path(settings.output.folder)
    if folder.exists() and not folder.is_dir():
        raise Usage(f"{folder} is a file: 'output.folder' names the folder for what is written.")
    try:
        result = run.run(settings, args.resume)
    except ImportError as error:  # an optional part, which names what to install
        raise Fault(str(error)) from None
    rows = [("epochs", f"{result['epochs']}, the best was {result['best_epoch']}")]
    rows.append(("loss", f"{result['loss']:.4f}"))
    if result["accuracy"] is not None:
        rows.append(("accuracy, float", report.percent(result["accuracy"])))
    rows += [(name, f"{result[name]:.4f}") for name in settings.train.metrics]
    rows.append(("parameters", f"{result['parameters']:,}"))
    report.table(rows, f"{result['samples']} samples that were not trained on")
    print(f"\nwrote      {folder}: {', '.join(sorted(p.name for p in folder.iterdir()))}")
    return result


def quantize(args: argparse.Namespace) -> dict:
    if args.tier == "exact" and (args.bits or args.group):
        raise Usage("--bits and --group are for --tier lane.")
    if args.name:
        check_name(args.name)
    if not args.trained.is_file():
        raise Usage(f"There is no file {args.trained}: make one with `tito train`.")
    out = _file(args.out) if args.out else None
    tier = {"tier": args.tier, "group": args.group}
    if args.bits:
        tier["bits"] = args.bits
    if serialize.load_with_metadata(args.trained)[1].get("kind") == "trained":
        from tinytorch.recipes import run

        if args.data and len(args.data) > 1:
            raise Usage("A network that was trained by a configuration takes one --data file.")
        data = str(args.data[0]) if args.data else ""
        net, vectors, source = run.quantized_net(args.trained, args.name or "", data, **tier)
    else:
        net, vectors, source = _quantized(args, tier)
    out = out or _file(f"{net.name}.tt")
    model = Model(to_bytes(net, vectors))
    report.quantized(model)
    layers = lanes.layers(net, args.group)
    report.layers(layers, net.kept_exact)
    write(out, model.data)
    return {
        "out": str(out),
        "model_bytes": len(model.data),
        "arena_bytes": model.arena_bytes,
        "vectors": model.vectors,
        "sha256": model.sha256,
        "data": source,
        "layers": [asdict(layer) for layer in layers],
        "kept_exact": net.kept_exact,
    }


def _quantized(args: argparse.Namespace, tier: dict[str, Any]) -> tuple[QuantizedNet, NDArray, str]:
    """A network for motion or sound in integers, its test vectors, and the data it was made by."""
    made: tuple[QuantizedNet, NDArray]
    if serialize.load_with_metadata(args.trained)[1].get("kind") == "keyword":
        hearing, classes = keyword.load_keyword(args.trained)
        recordings = load_recordings(args.data, "sound").for_model(hearing.features, classes)
        made = spotting.listening_keyword(hearing, recordings, args.name or "keyword", **tier)
    else:
        trained, classes = gesture.load_gesture(args.trained)
        recordings = load_recordings(args.data).for_model(trained.features, classes)
        made = gesture.quantized_gesture(trained, recordings, args.name or "gesture", **tier)
    return *made, recordings.source
