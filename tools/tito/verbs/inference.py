"""tito deploy, run, evaluate and profile: a model file on the laptop and on a kit."""

import argparse
import io
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tinytorch.data import datasets
from tinytorch.data.recordings import Recordings
from tinytorch.modelfile import heap, section
from tinytorch.modelfile.runtime import Model
from tinytorch.sensing.motion import quantize_windows
from tinytorch_core import model as records
from tito import report
from tito.board.device import Device, connect
from tito.board.stream import Progress
from tito.errors import Fault, Usage
from tito.files import output_file, write
from tito.kits.open import Kit, open_kit

KIT_HELP = "virtual, pico, or a serial port (see `tito kits`)"


def add_kit(
    parser: argparse.ArgumentParser, default: "str | None" = None, required: bool = False
) -> None:
    parser.add_argument("--kit", default=default, required=required, metavar="KIT", help=KIT_HELP)
    parser.add_argument(
        "--firmware", type=Path, metavar="IMAGE", help="MicroPython UF2 image for the pico kit"
    )


def add_verbs(add: Callable[..., argparse.ArgumentParser]) -> None:
    p = add("deploy", "Send a model to a kit, verify it there, make it the active one.")
    p.add_argument("model", type=Path, metavar="MODEL")
    add_kit(p, required=True)
    p.set_defaults(run=deploy)
    p = add("run", "Run inputs from a .npy file on a kit and keep the output bytes.")
    p.add_argument("model", type=Path, metavar="MODEL")
    p.add_argument(
        "--input",
        type=Path,
        required=True,
        metavar="X.npy",
        help="float32, or int8 as the network takes it; of a model that listens int16; the first "
        "axis is samples, or steps",
    )
    p.add_argument("--output", type=output_file, required=True, metavar="Y.npy", help="gets int8")
    add_kit(p, required=True)
    p.set_defaults(run=run)
    p = add("evaluate", "Accuracy of a model on a split of a data file, also on a kit.")
    p.add_argument("model", type=Path, metavar="MODEL")
    add_data(p)
    p.add_argument("--split", default="test", metavar="NAME")
    p.add_argument(
        "--samples", type=at_least(1), metavar="N", help="that the kit runs; all unless told"
    )
    add_kit(p)
    p.set_defaults(run=evaluate)
    p = add("profile", "Work, memory and time of each operation of a model, or layer of a network.")
    p.add_argument(
        "model", type=Path, metavar="MODEL", help="a model file, or what `tito train` wrote"
    )
    p.add_argument(
        "--batch", type=at_least(1), metavar="N", help="samples for a float network (32)"
    )
    p.add_argument(
        "--picture", type=output_file, metavar="FILE.png", help="of a float network's layers"
    )
    add_kit(p)
    p.set_defaults(run=profile)


def at_least(least: int) -> Callable[[str], int]:
    """Takes whole numbers from `least` from the command line, for argparse."""

    def number(word: str) -> int:
        if not word.isdecimal() or int(word) < least:
            raise argparse.ArgumentTypeError(f"{word} is not a whole number from {least} on")
        return int(word)

    return number


def hears(model: Model) -> bool:
    """Is it a model whose input is sound?"""
    return bool(model.features) and model.features.get("kind") == "sound"


def load_model(path: Path) -> Model:
    """The model file, read and checked; its own test vectors agree on this laptop."""
    if not path.is_file():
        raise Usage(f"There is no model file {path}: make one with `tito quantize`.")
    try:
        model = Model(path)
        model.verify()
    except ValueError as error:
        raise Fault(f"{path}: {error}") from error
    return model


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, nargs="+", metavar="FILE.npz", help="recordings in the npz layout"
    )


def load_recordings(paths: "list[Path] | None", kind: str = "motion") -> Recordings:
    """The recordings to work on, announced, so that simulated ones are never taken for real.

    kind: "motion" or "sound", of those to use where no files are given.
    """
    try:
        recordings = datasets.load(paths, kind)
    except ImportError as error:
        raise Fault(str(error)) from None
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


def reach(kit: Kit) -> Device:
    """The kit with our agent running."""
    with bar("install") as progress:
        return connect(kit, progress)


@contextmanager
def deployed(model: Model, kit: Kit) -> Iterator[tuple[Device, dict]]:
    """The kit with this model loaded and verified, and what that took: sha256, vectors, us, peak,
    kept, `predicted`, the peak as the laptop saw it coming, `operations`, what runs each as in
    `kernels_of`, and `kernels`: arch, how many operations in machine code (`machine`) and how many
    in the kit's own kernels (`viper`), and the bytes of machine code.

    Says before anything is sent how much memory the model will take, and raises Fault for one that
    cannot fit.
    """
    with reach(kit) as device:
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
            raise Fault(
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


def spread(labels: NDArray, limit: int) -> NDArray[np.int64]:
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


def deploy(args: argparse.Namespace) -> dict:
    model = load_model(args.model)
    with open_kit(args.kit, args.firmware) as kit, deployed(model, kit) as (_, measured):
        print(f"deployed   {model.name}: one run takes {measured['us'] / 1000:.2f} ms")
    return {
        "kit": args.kit,
        "name": model.name,
        "sha256": model.sha256,
        "model_bytes": len(model.data),
        "vectors": measured["vectors"],
        "latency_us": measured["us"],
        "ram_predicted": measured["predicted"],
        "ram_measured": measured["peak"],
        "kernels": measured["kernels"],
    }


def run(args: argparse.Namespace) -> dict:
    model = load_model(args.model)
    x = read_inputs(args.input, model)
    with open_kit(args.kit, args.firmware) as kit, deployed(model, kit) as (device, measured):
        outputs, us = run_samples(device, x)
    outputs = outputs.reshape(len(x), *model.output_shape)
    content = io.BytesIO()
    np.save(content, outputs)
    write(args.output, content.getvalue())
    return {
        "kit": args.kit,
        "samples": len(x),
        "output": str(args.output),
        "latency_us": {f"p{p}": int(np.percentile(us, p)) for p in (50, 95)},
        "kernels": measured["kernels"],
    }


def read_inputs(path: Path, model: Model) -> NDArray[Any]:
    """The samples of a .npy file, (N, *input_shape) or (N, values), as the model's integers."""
    if not path.is_file():
        raise Usage(f"There is no input file {path}.")
    try:
        with path.open("rb") as file:
            x = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise Fault(f"{path} is not a .npy file of numbers: write it with numpy.save.") from error
    values = math.prod(model.input_shape)
    if x.ndim < 2 or not len(x) or math.prod(x.shape[1:]) != values:
        raise Fault(
            f"{path} has the shape {x.shape} and the model takes (N, "
            f"{', '.join(map(str, model.input_shape))}): one sample a row."
        )
    takes = model.input_type
    if x.dtype.kind == "f" and takes == "int8":
        if not np.isfinite(x).all():
            raise Fault(f"{path} holds NaN or infinity: repair it or leave these samples out.")
        x = model.quantize(x)
    if x.dtype != takes:
        also = "float32 or " if takes == "int8" else ""
        raise Fault(f"{path} holds {x.dtype} and the model takes {also}{takes}.")
    return x.reshape(len(x), *model.input_shape)


def evaluate(args: argparse.Namespace) -> dict:
    start = perf_counter()
    model = load_model(args.model)
    kind = "sound" if hears(model) else "motion"
    recordings = load_recordings(args.data, kind).for_model(model.features, model.labels)
    with open_kit(args.kit, args.firmware) if args.kit else nullcontext() as kit:
        if hears(model):
            from tito.verbs import keywords

            figures, *_ = keywords.compare(model, recordings, args.split, kit, args.samples)
        else:
            assert model.features is not None  # for_model has refused a model without
            windows, labels = recordings.windows(args.split, model.features["window"])
            chosen = spread(labels, args.samples or len(labels))
            x = quantize_windows(windows[chosen], model.features)
            figures, _ = compare(model, x, labels[chosen], kit)
    figures |= {
        "seconds": round(perf_counter() - start, 2),
        "data": recordings.source,
        "split": args.split,
    }
    title = f"{model.name} on the split '{args.split}'"
    report.comparison(figures, title + (recordings.made and f", {recordings.made}"))
    return figures


KINDS = {
    records.CONV2D: "conv",
    records.DEPTHWISE: "depthwise",
    records.DENSE: "dense",
    records.MAX_POOL: "max pool",
    records.AVG_POOL: "average pool",
    records.ADD: "add",
    records.MOVE: "move",
    records.MEL: "mel",
}


def macs(op: records.Op) -> int:
    """Multiply-accumulates of one run of an operation."""
    window = op.out_h * op.out_w * op.out_c * op.kernel_h * op.kernel_w
    if op.kind in (records.CONV2D, records.DENSE):
        return window * op.in_c
    return window if op.kind == records.DEPTHWISE else 0


def profile(args: argparse.Namespace) -> dict:
    if args.model.suffix == ".safetensors":
        return profile_float(args)
    if args.batch or args.picture:
        raise Usage("--batch and --picture are for a float network, FILE.safetensors.")
    model = load_model(args.model)
    times: list[int | None] = [None] * len(model.operations)
    kernels: list[str | None] = [None] * len(model.operations)
    measured: dict[str, Any] = {}
    if args.kit:
        with open_kit(args.kit, args.firmware) as kit, deployed(model, kit) as (device, measured):
            taken = iter(device.profile())
            kernels = measured["operations"]
            times = [next(taken) if kernel else 0 for kernel in kernels]
    rows: list[dict[str, Any]] = []
    for op, kernel, us in zip(model.operations, kernels, times, strict=True):
        rows.append(
            {
                "operation": KINDS[op.kind],
                "output": [op.out_h, op.out_w, op.out_c],
                "macs": macs(op),
                "kernel": kernel,
                "us": us,
            }
        )
    print(f"\n{model.name}: {len(model.data):,} bytes, arena {model.arena_bytes:,} bytes")
    print(f"  {'operation':13} {'output':>14} {'MACs':>9}  {'kernel':7} {'us':>8}")
    for row in rows:
        shape, us = "x".join(map(str, row["output"])), row["us"]
        print(
            f"  {row['operation']:13} {shape:>14} {row['macs']:>9,}  {row['kernel'] or '-':7} "
            f"{'-' if us is None else us:>8}"
        )
    total = sum(row["macs"] for row in rows)
    whole = sum(row["us"] for row in rows) if args.kit else None
    print(f"  {'all':13} {'':>14} {total:>9,}  {'':7} {'-' if whole is None else whole:>8}")
    return {
        "kit": args.kit,
        "model_bytes": len(model.data),
        "arena_bytes": model.arena_bytes,
        "macs": total,
        "operations": rows,
        "latency_us": whole,
        "ram_predicted": measured.get("predicted"),
        "ram_measured": measured.get("peak"),
        "kernels": measured.get("kernels"),
    }


def profile_float(args: argparse.Namespace) -> dict:
    """Each layer of a network in float, as it trains on this laptop."""
    from tinytorch import nn, randn, serialize
    from tinytorch.profile import profile
    from tinytorch.recipes import run as recipes
    from tinytorch.sensing import gesture, keyword

    if args.kit:
        raise Usage("A kit runs int8 models: make one with `tito quantize`, or leave --kit out.")
    if not args.model.is_file():
        raise Usage(f"There is no file {args.model}: make one with `tito train`.")
    net: nn.Module
    shape: tuple[int, ...]
    kind = serialize.load_with_metadata(args.model)[1].get("kind")
    if kind == "gesture":
        trained, _ = gesture.load_gesture(args.model)
        net, shape = trained.net, (trained.features["channels"], trained.features["window"])
    elif kind == "keyword":
        hearing, _ = keyword.load_keyword(args.model)
        net, shape = hearing.net, (1, hearing.features["frames"], hearing.features["values"])
    else:
        net, about = recipes.load_net(args.model)
        shape = tuple(about["shape"])
    batch = args.batch or 32
    result = profile(net.train(), randn(batch, *shape))
    title = f"{args.model.name} in training, {batch} samples of {'x'.join(map(str, shape))}"
    print(f"\n{title}\n{result}")
    if args.picture:
        write(args.picture, result.picture(title))
    names = ("parameters", "macs", "activation_bytes", "forward_ms", "backward_ms")
    return {
        "batch": batch,
        **{name: getattr(result.total, name) for name in names},
        "layers": [asdict(row) for row in result.rows],
    }
