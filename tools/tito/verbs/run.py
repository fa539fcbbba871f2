"""tito run: inputs from a .npy file through a model on a kit."""

import argparse
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch.modelfile.runtime import Model
from tito.arguments import add_kit
from tito.errors import TitoError, UsageError
from tito.evaluation import deployed, load_model, percentiles, run_samples
from tito.files import output_file, write
from tito.kits.open import open_kit

HELP = "Run inputs from a .npy file on a kit and keep the output bytes."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument(
        "--input",
        type=Path,
        required=True,
        metavar="X.npy",
        help="float32, or int8 as the network takes it; int16 for a model that listens; the first "
        "axis is samples, or steps",
    )
    parser.add_argument(
        "--output", type=output_file, required=True, metavar="Y.npy", help="the outputs, int8"
    )
    add_kit(parser, required=True)


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
        "latency_us": percentiles(us),
        "kernels": measured["kernels"],
    }


def read_inputs(path: Path, model: Model) -> NDArray[Any]:
    """Read samples from a .npy file, (N, *input_shape) or (N, values), as the model's integers.

    Raises UsageError if there is no such file, and TitoError if it does not suit the model.
    """
    if not path.is_file():
        raise UsageError(f"There is no input file {path}.")
    try:
        with path.open("rb") as file:
            x = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise TitoError(
            f"{path} is not a .npy file of numbers: write it with numpy.save."
        ) from error
    values = math.prod(model.input_shape)
    if x.ndim < 2 or not len(x) or math.prod(x.shape[1:]) != values:
        raise TitoError(
            f"{path} has the shape {x.shape} and the model takes (N, "
            f"{', '.join(map(str, model.input_shape))}): one sample a row."
        )
    expected = model.input_type
    if x.dtype.kind == "f" and expected == "int8":
        if not np.isfinite(x).all():
            raise TitoError(f"{path} holds NaN or infinity: correct or remove those samples.")
        x = model.quantize(x)
    if x.dtype != expected:
        also = "float32 or " if expected == "int8" else ""
        raise TitoError(f"{path} holds {x.dtype} and the model takes {also}{expected}: convert it.")
    return x.reshape(len(x), *model.input_shape)
