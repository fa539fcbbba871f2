"""tito bench kernels: cycles of our machine code, layer by layer, beside those of C.

Networks and operations run on the emulated Cortex-M0+ without any firmware, where cycles are exact
and the same in every run. Where a MicroPython image for the Pico is available, the DS-CNN also runs
in it, called from Python. Weights are drawn with a fixed seed and batch norm has seen seeded
inputs: cycles hardly depend on either. Outputs are compared with the laptop's, byte by byte.
"""

import argparse
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tinytorch import nn, no_grad
from tinytorch.autograd.tensor import Tensor
from tinytorch.machine.attach import attach
from tinytorch.machine.backend import BACKENDS, BOARDS
from tinytorch.machine.kernel import Choice
from tinytorch.machine.pack import pack
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.quantize.calibrate import quantize
from tinytorch.quantize.operations import kind_of
from tinytorch.sensing.gesture import gesture_net
from tinytorch_core.model import CONV2D
from tito import report
from tito.board.device import connect
from tito.board.repl import Repl
from tito.errors import TitoError
from tito.evaluation import load_model
from tito.files import output_file, write
from tito.kits.cortex_m0 import CoreModel
from tito.kits.firmware import find_firmware
from tito.kits.open import open_kit

HELP = "Compare the cycles of our machine code on the emulated RP2040 with those of C."
CLOCK = 125_000_000  # Hz
BACKEND = BACKENDS[BOARDS["rp2040"].architecture]
Tier = Literal["exact", "lane"]
TIERS: tuple[Tier, ...] = ("exact", "lane")
# CMSIS-NN, compiled by gcc 12 -O3, on the same emulated core: cycles a multiply-accumulate of the
# DS-CNN's layers, and cycles of the whole network; the best C of each layer together.
C_LAYERS = {"first conv": 13.1, "depthwise": 51.4, "pointwise": 9.87}
C_NETWORK, BEST_C_NETWORK = 39_500_000, 33_700_000

Shape = tuple[int, ...]


def ds_cnn() -> nn.Sequential:
    """MLPerf Tiny's keyword network: (N, 1, 49, 10) to 12 classes, 2.66 million MACs."""
    layers: list[nn.Module] = [
        nn.Conv2d(1, 64, (10, 4), stride=2, padding=(5, 1)), nn.BatchNorm2d(64), nn.ReLU(),
    ]  # fmt: skip
    for _ in range(4):
        layers += [
            nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.BatchNorm2d(64), nn.ReLU(),
            nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64), nn.ReLU(),
        ]  # fmt: skip
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 12))


NETWORKS: dict[str, tuple[Callable[[], nn.Sequential], Shape]] = {
    "ds_cnn": (ds_cnn, (1, 49, 10)),
    "gesture": (lambda: gesture_net(3, 4, 128), (3, 128)),
}


def with_relu(layer: nn.Module) -> nn.Sequential:
    return nn.Sequential(layer, nn.ReLU())


# Single operations, each a network of its own from bytes to bytes: name, layers, input.
OPERATIONS: list[tuple[str, Callable[[], nn.Sequential], Shape]] = [
    *(
        (f"pointwise {c} to {c}", lambda c=c: with_relu(nn.Conv2d(c, c, 1)), (c, 25, 5))
        for c in (8, 16, 32, 64, 96)
    ),
    ("pointwise 64 to 64, 10 x 10", lambda: with_relu(nn.Conv2d(64, 64, 1)), (64, 10, 10)),
    *(
        (
            f"depthwise {k} x {k}, {c}",
            lambda c=c, k=k: with_relu(nn.Conv2d(c, c, k, padding=k // 2, groups=c)),
            (c, h, w),
        )
        for k, c, h, w in ((3, 16, 25, 5), (3, 64, 25, 5), (3, 32, 10, 10), (5, 32, 12, 12))
    ),
    (
        "depthwise 3 x 3 by 2, 32",
        lambda: with_relu(nn.Conv2d(32, 32, 3, stride=2, padding=1, groups=32)),
        (32, 16, 16),
    ),
    ("conv 3 x 3, 8 to 16", lambda: with_relu(nn.Conv2d(8, 16, 3, padding=1)), (8, 16, 16)),
    ("conv 3 x 3 by 2, 16 to 32", lambda: with_relu(nn.Conv2d(16, 32, 3, 2, 1)), (16, 16, 16)),
    ("conv 5, 16 to 24", lambda: with_relu(nn.Conv1d(16, 24, 5, padding=2)), (16, 64)),
    ("dense 64 to 12", lambda: nn.Sequential(nn.Linear(64, 12)), (64,)),
    ("dense 256 to 64", lambda: with_relu(nn.Linear(256, 64)), (256,)),
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["kernels"])
    parser.add_argument("--model", type=Path, action="append", default=[], metavar="MODEL",
                   help="also measure this model file; may be repeated")  # fmt: skip
    parser.add_argument(
        "--firmware", type=Path, metavar="IMAGE",
        help="MicroPython UF2 image for the run in real firmware (default: the cached one)",
    )  # fmt: skip
    parser.add_argument("--no-firmware", action="store_true", help="run on the bare core only")
    parser.add_argument(
        "--picture", type=output_file, default=Path("kernels.png"), metavar="FILE.png",
        help="cycles per MAC of each layer (default: kernels.png)",
    )  # fmt: skip


def seeded(make: Callable[[], nn.Sequential], shape: Shape, tier: Tier) -> tuple[bytes, NDArray]:
    """A network's model file, with its test vectors, and real inputs for it, channels first."""
    from tinytorch import random

    random.manual_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (64, *shape)).astype(np.float32)
    net = make().train()
    with no_grad():
        for _ in range(20):  # batch norm's running statistics
            net(Tensor(x))
    made = quantize(net.eval(), x, name="bench", labels=[], tier=tier)
    model = Model(to_bytes(made))
    vectors = model.quantize(np.moveaxis(x[:2], 1, -1))
    return to_bytes(made, vectors), vectors


def measure(data: bytes, x: NDArray[np.int8]) -> dict[str, Any]:
    """The cycles of each layer of a model on the bare core, for the first input.

    Raises TitoError where a byte of any output differs from the laptop's.
    """
    model = Model(data)
    packed = pack(model, BACKEND)
    core = CoreModel(attach(data, BACKEND.architecture))
    runs = [core.run(sample) for sample in x]
    if not all(
        (y == expected).all() for (y, _), expected in zip(runs, model.run_batch(x), strict=True)
    ):
        raise TitoError(
            f"{model.name} gives other bytes in machine code than on the laptop: report it."
        )
    layers = [row(choice, n) for choice, n in zip(packed.choices, runs[0][1], strict=True)]
    cycles, work = (
        sum(runs[0][1]),
        sum(layer["macs"] for layer in layers),
    )
    return {
        "cycles": cycles,
        "predicted": packed.cycles,
        "macs": work,
        "cycles_per_mac": round(cycles / work, 3) if work else None,
        "ms": round(cycles / CLOCK * 1000, 3),
        "code_bytes": packed.code_bytes,
        "layers": layers,
        "notes": [note for choice in packed.choices for note in choice.notes],
    }


def row(choice: Choice, cycles: int) -> dict[str, Any]:
    op, work = choice.op, kind_of(choice.op).macs(choice.op)
    return {
        "operation": operation_of(choice),
        "output": [op.out_h, op.out_w, op.out_c],
        "macs": work,
        "kernel": choice.kernel,
        "lanes": choice.facts.get("lanes"),
        "cycles": cycles,
        "cycles_per_mac": round(cycles / work, 3) if work else None,
        "predicted": choice.cycles,
    }


def operation_of(choice: Choice) -> str:
    op = choice.op
    if op.kind == CONV2D and op.kernel_h == op.kernel_w == 1:
        return "pointwise"
    return kind_of(op).name


# Runs on the board. One inference as a program makes it: bytes in, the best class out.
FIRMWARE = """
import gc, json, time, tinytorch
m = tinytorch.Model(tinytorch.path('bench'))
x = bytes({x!r})
m.predict(x)
times = []
for call in (lambda: m.predict(x), lambda: None):
    start = time.ticks_us()
    call()
    times.append(time.ticks_diff(time.ticks_us(), start))
kernels = 0
for kernel, at in m._steps:
    start = time.ticks_us()
    kernel(m._arena, m._program, at)
    kernels += time.ticks_diff(time.ticks_us(), start) - times[1]
print(json.dumps([times[0] - times[1], kernels]))
"""


def in_firmware(data: bytes, x: NDArray[np.int8], image: Path) -> dict[str, Any]:
    """One inference on the emulated Pico in MicroPython, called from Python by `predict`.

    x: inputs, of which it takes the first.
    """
    with open_kit("pico", image) as kit:
        with connect(kit) as device:
            report_of = device.put_model(attach(data, BACKEND.architecture), "bench")
        with Repl(kit.port, kit.timeout_scale) as repl:
            repl.enter()
            printed = repl.exec(FIRMWARE.format(x=x[0].tobytes()), timeout=60)
            whole, kernels = json.loads(printed)
        with connect(kit) as device:
            device.delete("bench")
    per_us = CLOCK // 1_000_000
    return {
        "image": image.name,
        "cycles": whole * per_us,
        "kernel_cycles": kernels * per_us,
        "python_share": round((whole - kernels) / whole, 5),
        "ms": whole / 1000,
        "heap_peak": report_of["peak"],
        "vectors": report_of["vectors"],
    }


def image_for(args: argparse.Namespace) -> "tuple[Path | None, str]":
    """The firmware image to run, or None and why. Raises TitoError for a bad --firmware."""
    if args.no_firmware:
        return None, "not asked for"
    try:
        return find_firmware(args.firmware, download=False), ""
    except TitoError as error:
        if args.firmware:
            raise
        return None, str(error)


def run(args: argparse.Namespace) -> dict:
    # Wrong arguments are reported before half a minute of work.
    image, why = image_for(args)
    models = {str(path): load_model(path) for path in args.model}
    result: dict[str, Any] = {"clock": CLOCK, "c": {"cmsis_nn": C_NETWORK, "best": BEST_C_NETWORK}}
    files: dict[str, tuple[bytes, NDArray]] = {}
    for name, (make, shape) in NETWORKS.items():
        result[name] = {}
        for tier in TIERS:
            data, x = files[f"{name}.{tier}"] = seeded(make, shape, tier)
            result[name][tier] = measure(data, x)
            table(f"{name}, {tier} tier", result[name][tier])
    result["operations"] = []
    print(
        f"\n  {'one operation, bytes to bytes':32}"
        + "".join(f"{t + ' cycles per MAC':>22}" for t in TIERS)
    )
    for name, make, shape in OPERATIONS:
        by_tier: dict[str, Any] = {"operation": name}
        for tier in TIERS:
            data, x = seeded(make, shape, tier)
            measured = measure(data, x)
            by_tier[tier] = {
                k: measured[k] for k in ("cycles", "predicted", "macs", "cycles_per_mac")
            }
        result["operations"].append(by_tier)
        print(f"  {name:32}" + "".join(f"{by_tier[t]['cycles_per_mac']:>22.2f}" for t in TIERS))
    result["models"] = {}
    for name, model in models.items():
        x = np.random.default_rng(0).integers(-128, 128, (2, *model.input_shape)).astype(np.int8)
        result["models"][name] = measure(model.data, x)
        table(name, result["models"][name])
    result["firmware"] = {"skipped": why}
    if image:
        result["firmware"] = {tier: in_firmware(*files[f"ds_cnn.{tier}"], image) for tier in TIERS}
        for tier, in_image in result["firmware"].items():
            print(
                f"\nds_cnn, {tier} tier, in {image.name}: {in_image['cycles']:,} cycles, "
                f"{in_image['ms']:.1f} ms; Python's share {in_image['python_share']:.2%}; peak "
                f"heap {in_image['heap_peak']:,} bytes"
            )
    else:
        print(f"\nNo run in real firmware: {why}")
    write(args.picture, picture(result["ds_cnn"]))
    return result


def table(title: str, measured: dict[str, Any]) -> None:
    print(f"\n{title}")
    print(
        f"  {'operation':13} {'output':>11} {'MACs':>9} {'kernel':>9} {'lanes':>5} {'cycles':>10} "
        f"{'predicted':>10} {'per MAC':>6}"
    )
    for layer in measured["layers"]:
        per_mac = layer["cycles_per_mac"]
        print(
            f"  {layer['operation']:13} {'x'.join(map(str, layer['output'])):>11} "
            f"{layer['macs']:>9,} {layer['kernel']:>9} {layer['lanes'] or '-':>5} "
            f"{layer['cycles']:>10,} {layer['predicted']:>10,} "
            f"{'-' if per_mac is None else f'{per_mac:.2f}':>6}"
        )
    print(
        f"  {'all':13} {'':>11} {measured['macs']:>9,} {'':>9} {'':>5} {measured['cycles']:>10,} "
        f"{measured['predicted']:>10,} {measured['cycles_per_mac']:>6.2f}"
        f"   {measured['ms']:.1f} ms, {measured['code_bytes']:,} bytes of code"
    )
    for note in measured["notes"]:
        print(f"  {note}")


def picture(ds_cnn: dict[str, Any]) -> bytes:
    """A PNG: cycles per MAC of the DS-CNN's layers in both tiers and in C, and whole networks."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    kept = [i for i, layer in enumerate(ds_cnn["exact"]["layers"]) if layer["macs"] > 10_000]
    names, c = [], []
    for place, i in enumerate(kept):
        operation = ds_cnn["exact"]["layers"][i]["operation"]
        names.append("first conv" if place == 0 else operation)
        c.append(C_LAYERS[names[-1]])
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(13, 4.6), width_ratios=(3, 1), layout="constrained"
    )
    figure.suptitle(
        "Keyword network (DS-CNN) on the RP2040, emulated cycles", x=0.01, ha="left",
        color=report.INK,
    )  # fmt: skip
    bars: Sequence[tuple[str, str, list[float]]] = [
        ("CMSIS-NN, gcc -O3", "#b8c0c8", c),
        ("exact tier", report.ACCENT,
         [ds_cnn["exact"]["layers"][i]["cycles_per_mac"] for i in kept]),
        ("lane tier", report.WARM,
         [ds_cnn["lane"]["layers"][i]["cycles_per_mac"] for i in kept]),
    ]  # fmt: skip
    for place, (label, color, values) in enumerate(bars):
        at = np.arange(len(kept)) + 0.27 * (place - 1)
        drawn = left.bar(at, values, 0.25, label=label, color=color)
        left.bar_label(drawn, fmt="%.1f", fontsize=7, color=report.INK, padding=1)
    left.set(ylabel="cycles per multiply-accumulate", yscale="log", ylim=(1, 100))
    left.set_xticks(np.arange(len(kept)), [f"{i + 1}\n{name}" for i, name in enumerate(names)])
    left.tick_params(axis="x", labelsize=8)
    left.legend(frameon=False, loc="upper right", ncols=3)
    whole = [C_NETWORK, BEST_C_NETWORK, ds_cnn["exact"]["cycles"], ds_cnn["lane"]["cycles"]]
    colors = ["#b8c0c8", "#98a2ac", report.ACCENT, report.WARM]
    drawn = right.bar(range(4), [cycles / CLOCK * 1000 for cycles in whole], 0.7, color=colors)
    right.bar_label(drawn, fmt="%.0f ms", fontsize=9, color=report.INK, padding=1)
    right.set_xticks(range(4), ["CMSIS-NN", "best C", "exact", "lane"])
    right.set(ylabel="whole network, ms at 125 MHz")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    plt.close(figure)
    return content.getvalue()
