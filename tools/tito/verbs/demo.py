"""tito demo: one command from recordings to a kit that recognises them."""

import argparse
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch.data.recordings import Recordings
from tinytorch.modelfile.runtime import Model
from tinytorch.sensing.gesture import EPOCHS, quantize_gesture, train_gesture
from tinytorch.sensing.motion import network_input, quantize_windows
from tinytorch.sensing.trained import Trained
from tinytorch.train.trainer import evaluate
from tinytorch.utils.data import DataLoader, TensorDataset
from tito import report
from tito.errors import Fault, Usage
from tito.files import output_file, write
from tito.kits.open import Kit, open_kit
from tito.verbs import keywords
from tito.verbs.inference import (
    add_data,
    add_kit,
    at_least,
    compare,
    load_recordings,
    reach,
    spread,
)

PICO_SAMPLES = 24  # the emulated Pico runs at about a fiftieth of real time


def add_verbs(add: Callable[..., argparse.ArgumentParser]) -> None:
    p = add("demo", "Train, quantize, deploy and run, on a virtual kit by default.")
    p.add_argument("what", choices=["gesture", "keyword"])
    add_data(p)
    add_kit(p, default="virtual")
    p.add_argument(
        "--samples",
        type=at_least(1),
        metavar="N",
        help="test recordings that the kit runs (gesture: all, on pico "
        f"{PICO_SAMPLES}; keyword: {keywords.VIRTUAL_CLIPS}, on pico {keywords.PICO_CLIPS})",
    )
    p.add_argument("--epochs", type=at_least(1), metavar="N")
    p.add_argument("--width", type=at_least(8), metavar="N", help="keyword: the network's channels")
    p.add_argument(
        "--tier", choices=("exact", "lane"), help="keyword: of the arithmetic; lane unless told"
    )
    p.add_argument("--seed", type=at_least(0), default=0, metavar="N")
    p.add_argument("--out", type=output_file, metavar="FILE.tt", help="keep the model here")
    p.add_argument(
        "--picture", type=output_file, metavar="FILE.png", help="gesture.png, or keyword.png"
    )
    p.set_defaults(run=demo)


def demo(args: argparse.Namespace) -> dict:
    start = perf_counter()
    if args.what == "gesture" and (args.width or args.tier):
        raise Usage("--width and --tier are for `tito demo keyword`.")
    args.picture = args.picture or output_file(f"{args.what}.png")
    recordings = load_recordings(args.data, "motion" if args.what == "gesture" else "sound")
    if recordings.is_sound != (args.what == "keyword"):
        raise Fault(
            f"The recordings are of {'sound' if recordings.is_sound else 'motion'}: use "
            f"`tito demo {'keyword' if recordings.is_sound else 'gesture'}` for them."
        )
    with open_kit(args.kit, args.firmware) as kit:
        reach(kit).close()  # what is wrong with it is to be known before the training
        figures = (keywords.demo if recordings.is_sound else teach)(args, recordings, kit)
    return {**figures, "seconds": round(perf_counter() - start, 1)}


def teach(args: argparse.Namespace, recordings: Recordings, kit: Kit) -> dict:
    """Train, quantize, run on the laptop and on the kit, and show it all."""
    start = perf_counter()
    split = recordings.test_split
    trained = train_gesture(recordings, seed=args.seed, epochs=args.epochs or EPOCHS)
    print(
        f"trained    {len(trained.history)} epochs on the split 'train' "
        f"in {perf_counter() - start:.0f} s"
    )
    model = Model(quantize_gesture(trained, recordings))
    report.quantized(model)
    if args.out:
        write(args.out, model.data)

    windows, labels = recordings.windows(split, trained.features["window"])
    limit = args.samples or (PICO_SAMPLES if kit.patience > 1 else len(labels))
    chosen = spread(labels, limit)
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
    png = draw(title, recordings, trained, windows, labels, answers, kit)
    write(picture, png, "picture")
    return {**figures, "picture": str(picture)}


def draw(
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
