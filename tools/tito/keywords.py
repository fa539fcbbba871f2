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
from tito.evaluation import accuracy, deployed, stratified
from tito.kits.open import Kit


@dataclass
class ClipRun:
    """Clips on a kit: the bytes after each step, (N, steps, labels) int8; the microseconds of each
    step; the least free heap in bytes while listening."""

    outputs: NDArray[np.int8]
    us: NDArray[np.int64]
    free: int


def hear(device: Device, model: Model, steps: NDArray[np.int16]) -> ClipRun:
    """Clips as steps of a stream, (N, steps, samples), through the kit's loaded model."""
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
    """Laptop and kit on the same clips: figures as tito.evaluation.compare gives them, the clips'
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
    chosen = stratified(labels, limit or len(labels))
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
