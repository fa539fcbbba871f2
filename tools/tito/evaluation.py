"""A model on the laptop and on a kit: what the verbs that load, deploy and compare share."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tinytorch.data import datasets
from tinytorch.data.recordings import Recordings
from tinytorch.modelfile import heap, section
from tinytorch.modelfile.runtime import Model
from tito.board.device import Device, connect
from tito.board.stream import Progress
from tito.errors import TitoError, UsageError
from tito.kits.open import Kit


def takes_sound(model: Model) -> bool:
    """Is it a model whose input is sound?"""
    return bool(model.features) and model.features.get("kind") == "sound"


def load_model(path: Path) -> Model:
    """The model file, read and checked; its own test vectors agree on this laptop."""
    if not path.is_file():
        raise UsageError(f"There is no model file {path}: make one with `tito quantize`.")
    try:
        model = Model(path)
        model.verify()
    except ValueError as error:
        raise TitoError(f"{path}: {error}") from error
    return model


def load_recordings(paths: "list[Path] | None", kind: str = "motion") -> Recordings:
    """The recordings to work on, announced, so that simulated ones are never taken for real.

    kind: "motion" or "sound", of those to use where no files are given.
    """
    try:
        recordings = datasets.load(paths, kind)
    except ImportError as error:
        raise TitoError(str(error)) from None
    print(f"data       {recordings.source}")
    return recordings


@contextmanager
def bar(what: str) -> Iterator[Progress]:
    """A progress callback (done, in all) that draws a bar on a terminal, and leaves none behind."""
    with ExitStack() as stack:
        line: Any = None

        def show(done: int, total: int) -> None:
            nonlocal line
            line = line or stack.enter_context(
                tqdm(total=total, desc=what, unit="B", unit_scale=True, leave=False, disable=None)
            )
            line.update(done - line.n)

        yield show


def connect_with_progress(kit: Kit) -> Device:
    """The kit with our agent running."""
    with bar("install") as progress:
        return connect(kit, progress)


@contextmanager
def deployed(model: Model, kit: Kit) -> Iterator[tuple[Device, dict]]:
    """The kit with this model loaded and verified, and what that took: sha256, vectors, us, peak,
    kept, `predicted`, the peak as the laptop saw it coming, `operations`, what runs each as in
    `kernels_of`, and `kernels`: arch, how many operations in machine code (`machine`) and how many
    in the kit's own kernels (`viper`), and the bytes of machine code.

    Before anything is sent it prints how much memory the model takes. Raises TitoError for a model
    that does not fit.
    """
    with connect_with_progress(kit) as device:
        about = device.info()
        model = Model(device.fit(model.data))
        operations = kernels_of(model)
        found, viper = section.read(model.data), operations.count("viper")
        kernels = {
            "arch": device.arch,
            "machine": len(operations) - viper,
            "viper": viper,
            "bytes": len(found.data) if found else 0,
        }
        predicted = heap.ram(model, about["word"])
        # The unix port names its compiler where a board names itself.
        board = "this computer" if about["word"] == 8 else about["board"]
        print(f"kit        {kit.name}: MicroPython {about['micropython']} on {board}")
        print(
            f"predicted  heap {predicted:,} of {about['free_ram']:,} free bytes, "
            f"flash {len(model.data):,} of {about['free_flash']:,}"
        )
        if predicted > about["free_ram"]:
            raise TitoError(
                f"The model needs {predicted:,} bytes of heap and the kit has "
                f"{about['free_ram']:,}: train one with fewer channels or a shorter window."
            )
        print(
            f"kernels    {device.arch}: {kernels['machine']} of {len(operations)} operations in "
            f"machine code, {kernels['bytes']:,} bytes; {viper} in viper"
        )
        with bar("send") as progress:
            measured = device.put_model(model.data, progress=progress)
        print(f"verified   {measured['vectors']} test vectors give the laptop's bytes on the kit")
        more = {"predicted": predicted, "operations": operations, "kernels": kernels}
        yield device, {**measured, **more}


def kernels_of(model: Model) -> list[str]:
    """What runs each operation of a model that was fitted to a kit: "viper", the kit's own kernels,
    or "machine", machine code, or "" where that of an operation before has done its work."""
    found = section.read(model.data)
    steps = [step[0] for step in found.steps] if found else [section.VIPER] * len(model.operations)
    return [{section.VIPER: "viper", section.NOTHING: ""}.get(step, "machine") for step in steps]


def run_samples(device: Device, x: NDArray) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Each int8 sample on the kit: its output bytes, (N, outputs), and its latency in us, (N,)."""
    outputs, latencies = [], []
    for sample in tqdm(x, desc="run", unit="sample", leave=False, disable=None):
        output, us = device.run(sample.tobytes())
        outputs.append(np.frombuffer(output, np.int8))
        latencies.append(us)
    return np.array(outputs, np.int8), np.array(latencies, np.int64)


def accuracy(outputs: NDArray, labels: NDArray) -> float:
    """Fraction of samples, 0 to 1, whose largest output is at the label."""
    return float((outputs.argmax(1) == labels).mean())


def stratified(labels: NDArray, limit: int) -> NDArray[np.int64]:
    """Up to `limit` samples, the classes in turn, so that a few show all of them."""
    turns = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        turns[labels == label] = np.arange((labels == label).sum())
    return np.sort(np.lexsort((labels, turns))[:limit])


def compare(
    model: Model,
    x: NDArray[np.int8],
    labels: NDArray,
    kit: "Kit | None",
) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """Laptop and kit on the same samples: the figures that `demo` and `evaluate` report, and the
    answers, (N,), of the kit, or without one of the laptop."""
    expected = model.run_batch(x).reshape(len(x), -1)
    figures: dict[str, Any] = {
        "accuracy_float": None,
        "accuracy_int8": accuracy(expected, labels),
        "accuracy_kit": None,
        "samples": len(x),
        "bit_exact": None,
        "latency_us": {"p50": None, "p95": None},
        "model_bytes": len(model.data),
        "ram_predicted": None,
        "ram_measured": None,
        "kernels": None,
        "kit": kit.name if kit else None,
    }
    if kit is None:
        return figures, expected.argmax(1)
    with deployed(model, kit) as (device, measured):
        got, us = run_samples(device, x)
    figures.update(
        accuracy_kit=accuracy(got, labels),
        bit_exact=int((got == expected).all(1).sum()),
        latency_us={f"p{p}": int(np.percentile(us, p)) for p in (50, 95)},
        ram_predicted=measured["predicted"],
        ram_measured=measured["peak"],
        kernels=measured["kernels"],
    )
    return figures, got.argmax(1)
