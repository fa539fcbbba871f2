"""Keyword models: laptop and kit on the same clips, and the demo from recordings to a kit."""

import argparse
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tinytorch.data.recordings import Recordings
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.sensing import spotting
from tinytorch.sensing.keyword import EPOCHS, WIDTH, keyword_data, train_keyword
from tinytorch.sensing.mel import samples_of
from tinytorch.sensing.trained import Trained
from tinytorch.train.trainer import evaluate
from tinytorch.utils.data import DataLoader
from tito import report
from tito.board.device import Device
from tito.files import write
from tito.kits.open import Kit
from tito.verbs.inference import accuracy, deployed, spread

VIRTUAL_CLIPS = 200  # of the test recordings run on a virtual kit unless told, a few seconds each
PICO_CLIPS = 10  # the emulated Pico runs at about a fiftieth of real time


@dataclass
class Heard:
    """Clips on a kit: the bytes after each step, (N, steps, labels) int8; the microseconds of each
    step; the least free heap in bytes while listening."""

    outputs: NDArray[np.int8]
    us: NDArray[np.int64]
    free: int


def hear(device: Device, model: Model, steps: NDArray[np.int16]) -> Heard:
    """Clips as steps of a stream, (N, steps, samples), through the kit's loaded model."""
    outputs, us, free = [], [], []
    for clip in tqdm(steps, desc="listen", unit="clip", leave=False, disable=None):
        device.listen({"kind": "wire"})
        for audio in clip:
            found = device.step(audio.astype("<i2").tobytes())
            outputs.append(np.frombuffer(found.output, np.int8))
            us.append(found.run_us)
            free.append(found.free)
        device.hush()
    shape = (*steps.shape[:2], len(model.labels))
    return Heard(np.array(outputs).reshape(shape), np.array(us), min(free))


def compare(
    model: Model, recordings: Recordings, split: str, kit: "Kit | None", limit: "int | None"
) -> tuple[dict[str, Any], NDArray[np.int64], NDArray[np.int64]]:
    """Laptop and kit on the same clips: figures as tito.inference.compare gives them, the clips'
    labels and the laptop's answers, (N,).

    limit: how many clips the kit runs. All of them decide the laptop's accuracy.
    """
    assert model.features is not None  # Recordings.for_model has refused a model without
    features = model.features
    clips, labels = recordings.clips(split, samples_of(features), features["window"])
    steps = spotting.steps_of(clips, features)
    expected = model.run_stream(steps).reshape(*steps.shape[:2], -1)
    figures: dict[str, Any] = {
        "accuracy_float": None,
        "accuracy_int8": accuracy(expected[:, -1], labels),
        "accuracy_kit": None,
        "samples": len(clips),
        "kit_samples": 0,
        "bit_exact": None,
        "latency_us": {"p50": None, "p95": None},
        "us_per_second": None,
        "free_heap": None,
        "model_bytes": len(model.data),
        "ram_predicted": None,
        "ram_measured": None,
        "kernels": None,
        "kit": kit.name if kit else None,
    }
    answers = expected[:, -1].argmax(1)
    if kit is None:
        return figures, labels, answers
    chosen = spread(labels, limit or len(labels))
    with deployed(model, kit) as (device, measured):
        got = hear(device, model, steps[chosen])
    step_seconds = features["step"] * features["hop"] / features["rate"]
    same = (got.outputs == expected[chosen]).reshape(len(chosen), -1).all(1)
    figures.update(
        accuracy_kit=accuracy(got.outputs[:, -1], labels[chosen]),
        kit_samples=len(chosen),
        bit_exact=int(same.sum()),
        latency_us={f"p{p}": int(np.percentile(got.us, p)) for p in (50, 95)},
        us_per_second=round(float(np.median(got.us)) / step_seconds),
        free_heap=got.free,
        ram_predicted=measured["predicted"],
        ram_measured=measured["peak"],
        kernels=measured["kernels"],
    )
    return figures, labels, answers


def made_up(model: Model, recordings: Recordings, split: str) -> dict[str, Any]:
    """What the detector makes up and misses at the model's own threshold, and the whole curve.

    Nothing where the recordings have nothing but keywords to try it with, which is then said.
    """
    assert model.features is not None
    others = [name for name in recordings.split_names if name != "train"] or [split]
    threshold = model.features["detect"]["threshold"]
    try:
        found = spotting.curve(model, recordings, split, others)
    except ValueError as error:
        print(f"detector   {error}")
        return {}
    accepts, rejects = found.at(threshold)
    return {
        "curve": found,
        "threshold": threshold,
        "false_accepts_per_hour": round(accepts, 1),
        "false_rejects": round(rejects, 4),
        "stream_seconds": round(found.hours * 3600),
    }


def demo(args: argparse.Namespace, recordings: Recordings, kit: Kit) -> dict:
    """Train, quantize, listen on the laptop and on the kit, and show it all."""
    start = perf_counter()
    split = recordings.test_split
    trained = train_keyword(
        recordings, seed=args.seed, epochs=args.epochs or EPOCHS, width=args.width or WIDTH
    )
    seconds = perf_counter() - start
    print(f"trained    {len(trained.history)} epochs on the split 'train' in {seconds:.0f} s")
    net, vectors = spotting.listening_keyword(trained, recordings, tier=args.tier or "lane")
    model = Model(to_bytes(net, vectors))
    report.quantized(model)
    if args.out:
        write(args.out, model.data)
    data = keyword_data(recordings, split, trained.features)
    score = evaluate(trained.net, DataLoader(data, 256))
    limit = args.samples or (PICO_CLIPS if kit.patience > 1 else VIRTUAL_CLIPS)
    figures, labels, answers = compare(model, recordings, split, kit, limit)
    detection = made_up(model, recordings, split)
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
    write(picture, draw(title, trained, recordings, labels, answers, detection), "picture")
    return {**figures, "picture": str(picture)}


def draw(
    title: str,
    trained: Trained,
    recordings: Recordings,
    labels: NDArray,
    answers: NDArray,
    detection: dict[str, Any],
) -> bytes:
    data = keyword_data(recordings, recordings.test_split, trained.features)
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
