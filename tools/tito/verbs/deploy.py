"""tito deploy: a model file on a kit, verified there."""

import argparse
from pathlib import Path

from tito.arguments import add_kit
from tito.evaluation import deployed, load_model
from tito.kits.open import open_kit

HELP = "Send a model to a kit, verify it there and activate it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL")
    add_kit(parser, required=True)


def run(args: argparse.Namespace) -> dict:
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
