"""tito plan: what a model will take on a board, before anything is sent."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinytorch.machine import pack
from tinytorch.machine.armv6m import Depthwise, Dot
from tinytorch.machine.armv6m_average import Average
from tinytorch.modelfile import heap, section
from tinytorch.modelfile.runtime import Model
from tito.verbs.inference import load_model, macs

# MicroPython's number of the architecture (0: we have no kernels), bytes of a word, clock in Hz.
BOARDS = {
    "rp2040": (pack.ARMV6M, 4, 125_000_000),
    "esp32": (0, 4, 240_000_000),
    "virtual": (0, 8, None),
}


def add_verbs(add: Callable[..., argparse.ArgumentParser]) -> None:
    p = add("plan", "Kernels, cycles, memory and code of a model on a board, before it is sent.")
    p.add_argument("model", type=Path, metavar="MODEL")
    p.add_argument("--board", choices=BOARDS, default="rp2040", help="rp2040 by default")
    p.set_defaults(run=show)


def layout(choice: pack.Choice, ahead: bool) -> str:
    """How an operation's input (ahead) or output lies in the arena."""
    shape = choice.shape
    words = isinstance(shape, Average) and ahead
    if isinstance(shape, Dot | Depthwise):
        words = shape.words_in if ahead else shape.words_out
    return "words" if words else "bytes"


def row(choice: pack.Choice, frequency: "int | None") -> dict[str, Any]:
    op, shape = choice.op, choice.shape
    weighted = shape if isinstance(shape, Dot | Depthwise) else None
    cycles = choice.cycles if frequency else None
    return {
        "operation": pack.KINDS[op.kind],
        "output": [op.out_h, op.out_w, op.out_c],
        "macs": macs(op),
        "tier": choice.tier,
        "kernel": choice.kernel,
        "lanes": weighted.lanes if weighted else None,
        "words": weighted.words if weighted else None,
        "groups": list(weighted.groups) if isinstance(weighted, Dot) else None,
        "input": layout(choice, ahead=True),
        "result": layout(choice, ahead=False),
        "cycles": cycles,
    }


def show(args: argparse.Namespace) -> dict:
    model = load_model(args.model)
    arch, word, frequency = BOARDS[args.board]
    made = pack.plan(model) if arch else None
    fitted = Model(pack.attach(model.data, arch))
    found = section.read(fitted.data)
    choices = made.choices if made else [pack.Choice(op, (-128, 127)) for op in model.operations]
    # What viper takes was measured on the RP2040 alone.
    rows = [row(choice, frequency if arch else None) for choice in choices]
    notes = [note for choice in choices for note in choice.notes]
    if not arch:
        notes.append(
            f"There is no machine code for {args.board}: its viper kernels run everything."
        )
    result = {
        "board": args.board,
        "frequency": frequency,
        "cycles": made.cycles if made else None,
        "ms": round(made.cycles / frequency * 1000, 3) if made and frequency else None,
        "ram": heap.ram(fitted, word),
        "arena_bytes": found.arena_bytes if found else model.arena_bytes,
        "code_bytes": made.code_bytes if made else 0,
        "section_bytes": len(found.data) if found else 0,
        "model_bytes": len(model.data),
        "file_bytes": len(fitted.data),
        "operations": rows,
        "notes": notes,
    }
    report(model, result)
    return result


def report(model: Model, result: dict[str, Any]) -> None:
    """The result of `show`, for people."""
    print(f"\n{model.name} on {result['board']}")
    print(
        f"  {'operation':13} {'output':>11} {'MACs':>9} {'tier':>5} {'kernel':>9} {'lanes':>5} "
        f"{'words':>5}  {'layout':11} {'cycles':>10} {'a MAC':>6}"
    )
    for each in result["operations"]:
        cycles, work = each["cycles"], each["macs"]
        per_mac = f"{cycles / work:6.2f}" if cycles and work else f"{'-':>6}"
        print(
            f"  {each['operation']:13} {'x'.join(map(str, each['output'])):>11} {work:>9,} "
            f"{each['tier'] or '-':>5} {each['kernel']:>9} {each['lanes'] or '-':>5} "
            f"{each['words'] or '-':>5}  {each['input'] + '>' + each['result']:11} "
            f"{'-' if cycles is None else f'{cycles:,}':>10} {per_mac}"
        )
    if result["cycles"]:
        clock = f"{result['frequency'] / 1e6:.0f} MHz"
        cycles = f"{result['cycles']:,} cycles at {clock}"
        print(f"\n  time    {result['ms']:.1f} ms predicted: {cycles}")
    print(f"  heap    {result['ram']:,} bytes at the peak, weights included")
    print(f"  code    {result['code_bytes']:,} of at most {pack.MOST_CODE:,} bytes of machine code")
    print(f"  flash   {result['file_bytes']:,} bytes")
    for note in result["notes"]:
        print(f"  {note}")
