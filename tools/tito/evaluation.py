"""Load a model, deploy it to a kit, and compare laptop and kit: what several verbs share."""

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
    """Whether the input of the model is sound."""
    return bool(model.features) and model.features.get("kind") == "sound"


def load_model(path: Path) -> Model:
    """Read a model file and verify its test vectors on this laptop.

    Raises UsageError if there is no such file, and TitoError if it is damaged.
    """
    if not path.is_file():
        raise UsageError(f"There is no model file {path}: make one with `tito quantize`.")
    try:
        model = Model(path)
        model.verify()
    except ValueError as error:
        raise TitoError(f"{path}: {error}") from error
    return model


def load_recordings(paths: "list[Path] | None", kind: str = "motion") -> Recordings:
    """Load recordings and print where they come from, so that nobody takes simulated ones for real.

    kind: "motion" or "sound", the default recordings to use without paths.
    """
    try:
        recordings = datasets.load(paths, kind)
    except ImportError as error:
        raise TitoError(str(error)) from None
    print(f"data       {recordings.source}")
    return recordings


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """A progress callback (done, total) that draws a bar on a terminal and erases it at the end."""
    with ExitStack() as stack:
        drawn: Any = None

        def show(done: int, total: int) -> None:
            nonlocal drawn
            drawn = drawn or stack.enter_context(
                tqdm(total=total, desc=what, unit="B", unit_scale=True, leave=False, disable=None)
            )
            drawn.update(done - drawn.n)

        yield show


def connect_with_progress(kit: Kit) -> Device:
    """Connect to a kit; a progress bar shows the files that are installed on it."""
    with progress_bar("install") as progress:
        return connect(kit, progress)


@contextmanager
def deployed(model: Model, kit: Kit) -> Iterator[tuple[Device, dict]]:
    """Deploy a model: the connected kit with the model loaded and verified, and a report of it.

    The report is what Device.put_model returns (sha256, vectors, us, peak, kept), with
    predicted: the peak of the heap in bytes as the laptop predicts it;
    operations: what runs each operation, as kernels_of returns it;
    kernels: a dict of arch, machine and viper (operations in machine code and in the kit's own
    kernels) and bytes (of machine code).

    Prints the predicted memory before anything is sent. Raises TitoError if the model does not fit.
    """
    with connect_with_progress(kit) as device:
        about = device.info()
        model = Model(device.fit(model.data))
        operations = kernels_of(model)
        code, viper = section.read(model.data), operations.count("viper")
        kernels = {
            "arch": device.arch,
            "machine": len(operations) - viper,
            "viper": viper,
            "bytes": len(code.data) if code else 0,
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
        with progress_bar("send") as progress:
            measured = device.put_model(model.data, progress=progress)
        print(f"verified   {measured['vectors']} test vectors give the laptop's bytes on the kit")
        more = {"predicted": predicted, "operations": operations, "kernels": kernels}
        yield device, {**measured, **more}


def kernels_of(model: Model) -> list[str]:
    """What runs each operation of a model that is fitted to a kit.

    "machine" is machine code, "viper" the kit's own kernels, and "" an operation that the machine
    code of an earlier operation includes.
    """
    code = section.read(model.data)
    steps = [step[0] for step in code.steps] if code else [section.VIPER] * len(model.operations)
    return [{section.VIPER: "viper", section.NOTHING: ""}.get(step, "machine") for step in steps]


def run_samples(device: Device, x: NDArray) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Run int8 samples (N, ...) on the kit: outputs (N, outputs) and latencies in us (N,)."""
    outputs, latencies = [], []
    for sample in tqdm(x, desc="run", unit="sample", leave=False, disable=None):
        output, us = device.run(sample.tobytes())
        outputs.append(np.frombuffer(output, np.int8))
        latencies.append(us)
    return np.array(outputs, np.int8), np.array(latencies, np.int64)


def percentiles(us: NDArray[np.int64]) -> dict[str, int]:
    """The median and the 95th percentile of latencies in microseconds."""
    return {f"p{p}": int(np.percentile(us, p)) for p in (50, 95)}


def accuracy(outputs: NDArray, labels: NDArray) -> float:
    """The fraction of samples, 0 to 1, whose largest output is at the label."""
    return float((outputs.argmax(1) == labels).mean())


def stratified(labels: NDArray, limit: int) -> NDArray[np.int64]:
    """The indices of at most `limit` samples, sorted, the classes represented evenly.

    labels: (N,).
    """
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
    """Run the same samples on the laptop and on the kit.

    Returns the figures that `demo` and `evaluate` report, and the predicted classes (N,) of the
    kit, or of the laptop without a kit.
    """
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
        outputs, us = run_samples(device, x)
    figures.update(
        accuracy_kit=accuracy(outputs, labels),
        bit_exact=int((outputs == expected).all(1).sum()),
        latency_us=percentiles(us),
        ram_predicted=measured["predicted"],
        ram_measured=measured["peak"],
        kernels=measured["kernels"],
    )
    return figures, outputs.argmax(1)
