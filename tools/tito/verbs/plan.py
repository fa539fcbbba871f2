"""tito plan: what a model needs on a board, before anything is sent."""

import argparse
from pathlib import Path
from typing import Any

from tinytorch.machine.attach import attach
from tinytorch.machine.backend import BOARDS
from tinytorch.machine.kernel import BYTES, Choice
from tinytorch.machine.pack import pack
from tinytorch.modelfile import heap, section
from tinytorch.modelfile.runtime import Model
from tinytorch.quantize.operations import kind_of
from tito.evaluation import load_model

HELP = "Predict kernels, cycles, memory and code size of a model on a board."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--board", choices=BOARDS, default="rp2040", help="default: rp2040")


def row(choice: Choice, cycles: "int | None") -> dict[str, Any]:
    op, shape, facts = choice.op, choice.shape, choice.facts

    def layout(of: int) -> str:
        return "bytes" if of == BYTES else "words"

    return {
        "operation": kind_of(op).name,
        "output": [op.out_h, op.out_w, op.out_c],
        "macs": kind_of(op).macs(op),
        "tier": choice.tier,
        "kernel": choice.kernel,
        "lanes": facts.get("lanes"),
        "words": facts.get("words"),
        "groups": facts.get("groups"),
        "input": layout(shape.layout_in if shape else BYTES),
        "result": layout(shape.layout_out if shape else BYTES),
        "cycles": cycles,
    }


def run(args: argparse.Namespace) -> dict:
    model = load_model(args.model)
    board = BOARDS[args.board]
    backend, frequency = board.backend, board.frequency
    packed = pack(model, backend) if backend else None
    fitted = Model(attach(model.data, board.architecture))
    code = section.read(fitted.data)
    choices = packed.choices if packed else [Choice(op, (-128, 127)) for op in model.operations]
    # The cycles of viper kernels are known only where there is machine code to compare them with.
    rows = [row(choice, choice.cycles if packed else None) for choice in choices]
    notes = [note for choice in choices for note in choice.notes]
    if not backend:
        notes.append(
            f"There is no machine code for {args.board}: viper kernels run every operation."
        )
    result = {
        "board": args.board,
        "frequency": frequency,
        "cycles": packed.cycles if packed else None,
        "ms": round(packed.cycles / frequency * 1000, 3) if packed and frequency else None,
        "ram": heap.ram(fitted, board.word),
        "arena_bytes": code.arena_bytes if code else model.arena_bytes,
        "code_bytes": packed.code_bytes if packed else 0,
        "section_bytes": len(code.data) if code else 0,
        "model_bytes": len(model.data),
        "file_bytes": len(fitted.data),
        "operations": rows,
        "notes": notes,
    }
    report(model, result)
    return result


def report(model: Model, result: dict[str, Any]) -> None:
    """Print the result of `run` as tables."""
    print(f"\n{model.name} on {result['board']}")
    print(
        f"  {'operation':13} {'output':>11} {'MACs':>9} {'tier':>5} {'kernel':>9} {'lanes':>5} "
        f"{'words':>5}  {'layout':11} {'cycles':>10} {'per MAC':>7}"
    )
    for row in result["operations"]:
        cycles, work = row["cycles"], row["macs"]
        per_mac = f"{cycles / work:6.2f}" if cycles and work else f"{'-':>6}"
        print(
            f"  {row['operation']:13} {'x'.join(map(str, row['output'])):>11} {work:>9,} "
            f"{row['tier'] or '-':>5} {row['kernel']:>9} {row['lanes'] or '-':>5} "
            f"{row['words'] or '-':>5}  {row['input'] + '>' + row['result']:11} "
            f"{'-' if cycles is None else f'{cycles:,}':>10} {per_mac}"
        )
    if result["cycles"]:
        clock = f"{result['frequency'] / 1e6:.0f} MHz"
        cycles = f"{result['cycles']:,} cycles at {clock}"
        print(f"\n  time    {result['ms']:.1f} ms predicted: {cycles}")
    print(f"  heap    {result['ram']:,} bytes at the peak, weights included")
    backend = BOARDS[result["board"]].backend
    most = f" of at most {backend.most_code:,}" if backend else ""
    print(f"  code    {result['code_bytes']:,}{most} bytes of machine code")
    print(f"  flash   {result['file_bytes']:,} bytes")
    for note in result["notes"]:
        print(f"  {note}")
