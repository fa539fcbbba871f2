"""tito profile: what each operation of a model, or layer of a network, costs."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tinytorch.quantize.operations import kind_of
from tito.arguments import add_kit, at_least
from tito.errors import UsageError
from tito.evaluation import deployed, load_model
from tito.files import output_file, write
from tito.kits.open import open_kit

HELP = "Work, memory and time of each operation of a model, or layer of a float network."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="a model file, or what `tito train` wrote"
    )
    parser.add_argument(
        "--batch", type=at_least(1), metavar="N", help="samples for a float network (default: 32)"
    )
    parser.add_argument(
        "--picture", type=output_file, metavar="FILE.png", help="a float network's layers"
    )
    add_kit(parser)


def run(args: argparse.Namespace) -> dict:
    if args.model.suffix == ".safetensors":
        return profile_float(args)
    if args.batch or args.picture:
        raise UsageError("--batch and --picture are for a float network, FILE.safetensors.")
    model = load_model(args.model)
    times: list[int | None] = [None] * len(model.operations)
    kernels: list[str | None] = [None] * len(model.operations)
    measured: dict[str, Any] = {}
    if args.kit:
        with open_kit(args.kit, args.firmware) as kit, deployed(model, kit) as (device, measured):
            measured_us = iter(device.profile())
            kernels = measured["operations"]
            times = [next(measured_us) if kernel else 0 for kernel in kernels]
    rows: list[dict[str, Any]] = []
    for op, kernel, us in zip(model.operations, kernels, times, strict=True):
        rows.append(
            {
                "operation": kind_of(op).name,
                "output": [op.out_h, op.out_w, op.out_c],
                "macs": kind_of(op).macs(op),
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
    """Profile each layer of a float network in training on this laptop."""
    from tinytorch import nn, randn, serialize
    from tinytorch.profile import profile
    from tinytorch.recipes import run as recipes
    from tinytorch.sensing import gesture, keyword

    if args.kit:
        raise UsageError(
            "A kit runs int8 models: make one with `tito quantize`, or leave --kit out."
        )
    if not args.model.is_file():
        raise UsageError(f"There is no file {args.model}: make one with `tito train`.")
    net: nn.Module
    shape: tuple[int, ...]
    kind = serialize.load_with_metadata(args.model)[1].get("kind")
    if kind == "gesture":
        trained, _ = gesture.load_gesture(args.model)
        net, shape = trained.net, (trained.features["channels"], trained.features["window"])
    elif kind == "keyword":
        trained, _ = keyword.load_keyword(args.model)
        net, shape = trained.net, (1, trained.features["frames"], trained.features["values"])
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
