"""Keyword models: the same clips on laptop and kit, and the errors of the detector."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tinytorch.data.recordings import Recordings
from tinytorch.modelfile.runtime import Model
from tinytorch.sensing import spotting
from tinytorch.sensing.mel import samples_of
from tito.board.device import Device
from tito.evaluation import accuracy, deployed, percentiles, stratified
from tito.kits.open import Kit


@dataclass
class ClipRun:
    """What N clips gave on a kit.

    outputs: int8 (N, steps, labels), after each step. us: the microseconds of each step. free: the
    smallest free heap while listening, in bytes.
    """

    outputs: NDArray[np.int8]
    us: NDArray[np.int64]
    free: int


def hear(device: Device, model: Model, steps: NDArray[np.int16]) -> ClipRun:
    """Stream clips, int16 (N, steps, samples), through the model that is loaded on the kit."""
    outputs, us, free = [], [], []
    for clip in tqdm(steps, desc="listen", unit="clip", leave=False, disable=None):
        device.listen({"kind": "wire"})
        for audio in clip:
            step = device.step(audio.astype("<i2").tobytes())
            outputs.append(np.frombuffer(step.output, np.int8))
            us.append(step.run_us)
            free.append(step.free)
        device.stop_listening()
    shape = (*steps.shape[:2], len(model.labels))
    return ClipRun(np.array(outputs).reshape(shape), np.array(us), min(free))


def compare(
    model: Model, recordings: Recordings, split: str, kit: "Kit | None", limit: "int | None"
) -> tuple[dict[str, Any], NDArray[np.int64], NDArray[np.int64]]:
    """Run the same clips on the laptop and on the kit.

    limit: how many clips the kit runs (default: all); the laptop runs all of them.
    Returns figures as tito.evaluation.compare does, the labels (N,) and the laptop's predictions
    (N,).
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
    chosen = stratified(labels, limit or len(labels))
    with deployed(model, kit) as (device, measured):
        clip_run = hear(device, model, steps[chosen])
    step_seconds = features["step"] * features["hop"] / features["rate"]
    same = (clip_run.outputs == expected[chosen]).reshape(len(chosen), -1).all(1)
    figures.update(
        accuracy_kit=accuracy(clip_run.outputs[:, -1], labels[chosen]),
        kit_samples=len(chosen),
        bit_exact=int(same.sum()),
        latency_us=percentiles(clip_run.us),
        us_per_second=round(float(np.median(clip_run.us)) / step_seconds),
        free_heap=clip_run.free,
        ram_predicted=measured["predicted"],
        ram_measured=measured["peak"],
        kernels=measured["kernels"],
    )
    return figures, labels, answers


def detection_errors(model: Model, recordings: Recordings, split: str) -> dict[str, Any]:
    """False accepts per hour and false rejects at the model's own threshold, and the whole curve.

    Empty where the recordings hold only keywords; a message says so.
    """
    assert model.features is not None
    others = [name for name in recordings.split_names if name != "train"] or [split]
    threshold = model.features["detect"]["threshold"]
    try:
        curve = spotting.curve(model, recordings, split, others)
    except ValueError as error:
        print(f"detector   {error}")
        return {}
    accepts, rejects = curve.at(threshold)
    return {
        "curve": curve,
        "threshold": threshold,
        "false_accepts_per_hour": round(accepts, 1),
        "false_rejects": round(rejects, 4),
        "stream_seconds": round(curve.hours * 3600),
    }
