"""tito quantize: from a trained network to a model file in integers."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tinytorch import serialize
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.quantize import lanes
from tinytorch.quantize.ir import QuantizedNet
from tinytorch.sensing import gesture, keyword, spotting
from tito import report
from tito.arguments import add_data, at_least
from tito.board.device import check_name
from tito.errors import UsageError
from tito.evaluation import load_recordings
from tito.files import late_output_file, write

HELP = "Make the int8 model file of a trained network."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("trained", type=Path, metavar="TRAINED", help="what `tito train` wrote")
    add_data(parser)
    parser.add_argument("--out", metavar="FILE.tt", help="default: NAME.tt")
    parser.add_argument(
        "--name", help="the model's name on a kit; default: gesture, or the kind of network"
    )
    parser.add_argument(
        "--tier", choices=("exact", "lane"), default="exact",
        help="lane: coarser weights, two products at a time on a core without wide ones "
        "(default: exact)",
    )  # fmt: skip
    parser.add_argument(
        "--bits", type=int, choices=(7, 8),
        help="lane: bits of an activation; default: 7, for sound 8",
    )  # fmt: skip
    parser.add_argument(
        "--group", type=at_least(1), metavar="N",
        help="lane: weights that are summed before the sum is widened; default: all of a channel",
    )  # fmt: skip


def run(args: argparse.Namespace) -> dict:
    if args.tier == "exact" and (args.bits or args.group):
        raise UsageError("--bits and --group are for --tier lane.")
    if args.name:
        check_name(args.name)
    if not args.trained.is_file():
        raise UsageError(f"There is no file {args.trained}: make one with `tito train`.")
    out = late_output_file(args.out, "quantize") if args.out else None
    tier = {"tier": args.tier, "group": args.group}
    if args.bits:
        tier["bits"] = args.bits
    if serialize.load_with_metadata(args.trained)[1].get("kind") == "trained":
        from tinytorch.recipes import run

        if args.data and len(args.data) > 1:
            raise UsageError("A network that was trained by a configuration takes one --data file.")
        data = str(args.data[0]) if args.data else ""
        net, vectors, source = run.quantized_net(args.trained, args.name or "", data, **tier)
    else:
        net, vectors, source = _quantized(args, tier)
    out = out or late_output_file(f"{net.name}.tt", "quantize")
    model = Model(to_bytes(net, vectors))
    report.quantized(model)
    layers = lanes.layers(net, args.group)
    report.layers(layers, net.kept_exact)
    write(out, model.data)
    return {
        "out": str(out),
        "model_bytes": len(model.data),
        "arena_bytes": model.arena_bytes,
        "vectors": model.vectors,
        "sha256": model.sha256,
        "data": source,
        "layers": [asdict(layer) for layer in layers],
        "kept_exact": net.kept_exact,
    }


def _quantized(args: argparse.Namespace, tier: dict[str, Any]) -> tuple[QuantizedNet, NDArray, str]:
    """A network for motion or sound in integers, its test vectors, and the data it was made by."""
    made: tuple[QuantizedNet, NDArray]
    if serialize.load_with_metadata(args.trained)[1].get("kind") == "keyword":
        trained, classes = keyword.load_keyword(args.trained)
        recordings = load_recordings(args.data, "sound").for_model(trained.features, classes)
        made = spotting.listening_keyword(trained, recordings, args.name or "keyword", **tier)
    else:
        trained, classes = gesture.load_gesture(args.trained)
        recordings = load_recordings(args.data).for_model(trained.features, classes)
        made = gesture.quantized_gesture(trained, recordings, args.name or "gesture", **tier)
    return *made, recordings.source
