"""tito demo: from recordings to a kit that recognises them, in one command."""

import argparse
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch.data.recordings import Recordings
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.sensing import gesture, keyword, spotting
from tinytorch.sensing.motion import network_input, quantize_windows
from tinytorch.sensing.trained import Trained
from tinytorch.train.trainer import evaluate
from tinytorch.utils.data import DataLoader, TensorDataset
from tito import keywords, report
from tito.arguments import add_data, add_kit, at_least
from tito.errors import TitoError, UsageError
from tito.evaluation import compare, connect_with_progress, load_recordings, stratified
from tito.files import output_file, write
from tito.kits.open import Kit, open_kit

HELP = "Train, quantize, deploy and run a model, by default on a virtual kit."
# Test recordings that a kit runs by default; the emulated Pico runs at a fiftieth of real time.
PICO_SAMPLES, VIRTUAL_CLIPS, PICO_CLIPS = 24, 200, 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["gesture", "keyword"])
    add_data(parser)
    add_kit(parser, default="virtual")
    parser.add_argument(
        "--samples",
        type=at_least(1),
        metavar="N",
        help="test recordings that the kit runs (default: gesture all, on pico "
        f"{PICO_SAMPLES}; keyword {VIRTUAL_CLIPS}, on pico {PICO_CLIPS})",
    )
    parser.add_argument(
        "--epochs", type=at_least(1), metavar="N",
        help=f"default: gesture {gesture.EPOCHS}, keyword {keyword.EPOCHS}",
    )  # fmt: skip
    parser.add_argument(
        "--width",
        type=at_least(8),
        metavar="N",
        help=f"keyword: the network's channels (default: {keyword.WIDTH})",
    )
    parser.add_argument(
        "--tier", choices=("exact", "lane"), help="keyword: tier of the arithmetic (default: lane)"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="default: 0")
    parser.add_argument(
        "--out", type=output_file, metavar="FILE.tt", help="also save the model here"
    )
    parser.add_argument(
        "--picture",
        type=output_file,
        metavar="FILE.png",
        help="the picture (default: gesture.png or keyword.png)",
    )


def run(args: argparse.Namespace) -> dict:
    start = perf_counter()
    if args.what == "gesture" and (args.width or args.tier):
        raise UsageError("--width and --tier are for `tito demo keyword`.")
    args.picture = args.picture or output_file(f"{args.what}.png")
    recordings = load_recordings(args.data, "motion" if args.what == "gesture" else "sound")
    if recordings.is_sound != (args.what == "keyword"):
        raise TitoError(
            f"The recordings are of {'sound' if recordings.is_sound else 'motion'}: use "
            f"`tito demo {'keyword' if recordings.is_sound else 'gesture'}` for them."
        )
    with open_kit(args.kit, args.firmware) as kit:
        connect_with_progress(kit).close()  # a broken kit fails before the training
        figures = (demo_keyword if recordings.is_sound else demo_gesture)(args, recordings, kit)
    return {**figures, "seconds": round(perf_counter() - start, 1)}


def demo_gesture(args: argparse.Namespace, recordings: Recordings, kit: Kit) -> dict:
    """Train and quantize a gesture network, run it on the laptop and on the kit, and report."""
    start = perf_counter()
    split = recordings.test_split
    trained = gesture.train_gesture(
        recordings, seed=args.seed, epochs=args.epochs or gesture.EPOCHS
    )
    print(
        f"trained    {len(trained.history)} epochs on the split 'train' "
        f"in {perf_counter() - start:.0f} s"
    )
    model = Model(gesture.quantize_gesture(trained, recordings))
    report.quantized(model)
    if args.out:
        write(args.out, model.data)

    windows, labels = recordings.windows(split, trained.features["window"])
    limit = args.samples or (PICO_SAMPLES if kit.timeout_scale > 1 else len(labels))
    chosen = stratified(labels, limit)
    windows, labels = windows[chosen], labels[chosen]
    x = quantize_windows(windows, trained.features)
    score = evaluate(trained.net, DataLoader(TensorDataset(network_input(x), labels), 256))
    figures, answers = compare(model, x, labels, kit)
    figures |= {
        "accuracy_float": score.accuracy,
        "data": recordings.source,
        "simulated": recordings.simulated,
        "split": split,
    }
    title = f"gestures of the split '{split}'" + (recordings.made and f", {recordings.made}")
    report.comparison(figures, title)
    print()
    picture = args.picture.resolve()
    png = draw_gesture(title, recordings, trained, windows, labels, answers, kit)
    write(picture, png, "picture")
    return {**figures, "picture": str(picture)}


def draw_gesture(
    title: str,
    recordings: Recordings,
    trained: Trained,
    windows: NDArray,
    labels: NDArray,
    answers: NDArray,
    kit: Kit,
) -> bytes:
    history: list[dict[str, Any]] = [vars(epoch) for epoch in trained.history]
    first = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)[:6]]
    examples = [(recordings.classes[labels[i]], windows[i]) for i in first]
    return report.picture(
        f"TinyTorch: {title}",
        history,
        examples,
        recordings.rate,
        recordings.classes,
        labels,
        answers,
        f"the kit ({kit.name})",
    )


def demo_keyword(args: argparse.Namespace, recordings: Recordings, kit: Kit) -> dict:
    """Train and quantize a keyword network, run it on the laptop and on the kit, and report."""
    start = perf_counter()
    split = recordings.test_split
    epochs, width = args.epochs or keyword.EPOCHS, args.width or keyword.WIDTH
    trained = keyword.train_keyword(recordings, seed=args.seed, epochs=epochs, width=width)
    seconds = perf_counter() - start
    print(f"trained    {len(trained.history)} epochs on the split 'train' in {seconds:.0f} s")
    net, vectors = spotting.listening_keyword(trained, recordings, tier=args.tier or "lane")
    model = Model(to_bytes(net, vectors))
    report.quantized(model)
    if args.out:
        write(args.out, model.data)
    data = keyword.keyword_data(recordings, split, trained.features)
    score = evaluate(trained.net, DataLoader(data, 256))
    limit = args.samples or (PICO_CLIPS if kit.timeout_scale > 1 else VIRTUAL_CLIPS)
    figures, labels, answers = keywords.compare(model, recordings, split, kit, limit)
    detection = keywords.detection_errors(model, recordings, split)
    figures |= {
        "accuracy_float": score.accuracy,
        "training_seconds": round(seconds, 1),
        "data": recordings.source,
        "simulated": recordings.simulated,
        "split": split,
        **{key: value for key, value in detection.items() if key != "curve"},
    }
    title = f"keywords of the split '{split}'" + (recordings.made and f", {recordings.made}")
    report.comparison(figures, title)
    print()
    picture = args.picture.resolve()
    write(picture, draw_keyword(title, trained, recordings, labels, answers, detection), "picture")
    return {**figures, "picture": str(picture)}


def draw_keyword(
    title: str,
    trained: Trained,
    recordings: Recordings,
    labels: NDArray,
    answers: NDArray,
    detection: dict[str, Any],
) -> bytes:
    data = keyword.keyword_data(recordings, recordings.test_split, trained.features)
    x, y = (t.numpy() for t in data.tensors)
    first = [int(np.flatnonzero(y == label)[0]) for label in np.unique(y)[:6]]
    features = trained.features
    return report.sound_picture(
        f"TinyTorch: {title}",
        [vars(epoch) for epoch in trained.history],
        [(recordings.classes[y[i]], x[i, 0]) for i in first],
        features["frames"] * features["hop"] / features["rate"],
        recordings.classes,
        labels,
        answers,
        "the int8 model",
        detection.get("curve"),
        detection.get("threshold", 0),
    )
