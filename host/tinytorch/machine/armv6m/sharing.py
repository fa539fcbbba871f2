"""What the kernels of one model share: code, clip tables, and weights made ready for `dot`."""

import struct
from collections.abc import Sequence
from dataclasses import replace

from tinytorch.machine.armv6m import tables
from tinytorch.machine.armv6m.dot import Dot
from tinytorch.machine.armv6m.tail import Exact, Lane
from tinytorch.machine.armv6m.thumb import Assembler, lr, pc, r0, r1, r2, r3, r4, r5, r6
from tinytorch.machine.armv6m.weighted import Constants, Weighted, shift_in_code, weights_of_channel
from tinytorch.machine.kernel import Body, Choice

Clip = tuple[int, int, bool]  # low, high, words


def specialize(choices: Sequence[Choice], program: bytes) -> None:
    """Compute the constants of operations with weights. Those whose shapes are alike get one tail
    for all."""
    alike: dict[Weighted, list[Choice]] = {}
    for choice in choices:
        if isinstance(choice.shape, Weighted):
            alike.setdefault(choice.shape, []).append(choice)
    for shape, members in alike.items():
        ops = [choice.op for choice in members]
        ranges = [choice.inputs for choice in members]
        if isinstance(shape.tail, Exact):
            rows = tables.exact_rows(ops, program, ranges)
        else:
            rows = [
                tables.lane_rows(op, program, inputs, shape.groups, shape.lanes)
                for op, inputs in zip(ops, ranges, strict=True)
            ]
        wide = any(isinstance(r.tail, Lane) and r.tail.wide for r in rows)
        in_code = shift_in_code(len(shape.groups), shape.window.out_c, shape.words_out)
        for choice, own in zip(members, rows, strict=True):
            tail = own.tail
            if isinstance(tail, Lane):
                tail = Lane(tail.shift if in_code else None, wide)
            choice.shape, choice.constants = replace(shape, tail=tail), Constants(own)


def prepare(choices: Sequence[Choice], body: Body) -> int:
    """Put the clip tables into the section's body, and a kernel, to be called once, that turns
    weights w into w + 128 in the program where `dot` reads them. Returns the offset of its
    parameter block, or 0 where there is nothing to turn."""
    ranges = [
        (c.op.weight, -(-c.op.out_c * weights_of_channel(c.op) // 4))
        for c in choices
        if isinstance(c.shape, Dot)
    ]
    block = 0
    if ranges:
        entry = body.put(_flip())
        words = [number for each in ranges for number in each]
        block = body.put(struct.pack(f"<{2 + len(words)}i", entry, len(ranges), *words))
    _put_clips(choices, body)
    return block


def _put_clips(choices: Sequence[Choice], body: Body) -> None:
    """One clip table for all operations with the same limits."""
    spans: dict[Clip, tuple[int, int]] = {}
    weighted: list[tuple[Choice, Clip]] = []
    for choice in choices:
        if isinstance(choice.shape, Weighted):
            key = choice.op.low, choice.op.high, choice.shape.words_out
            weighted.append((choice, key))
            least, most = spans.get(key, (0, 0))
            rows = choice.constants.rows
            spans[key] = min(least, rows.least), max(most, rows.most)
    places = {}
    for (low, high, words), span in spans.items():
        table, zero = tables.clip(low, high, *span, words)
        places[low, high, words] = body.put(table) + zero
    for choice, key in weighted:
        choice.constants = replace(choice.constants, clip=places[key])


def _flip() -> bytes:
    """A kernel that flips the top bit of bytes of the program; parameters: the number of ranges,
    then each one's offset and number of words."""
    a = Assembler()
    a.push(r4, r5, r6, lr)
    a.ldr(r3, r2, 4)
    a.adds(r2, r2, 8)
    a.load(r6, 0x80808080)
    a.label("range")
    a.ldmia(r2, r4, r5)
    a.adds(r4, r4, r1)
    a.label("word")
    a.ldr(r0, r4, 0)
    a.eors(r0, r6)
    a.stmia(r4, r0)
    a.subs(r5, r5, 1)
    a.b("word", "ne")
    a.subs(r3, r3, 1)
    a.b("range", "ne")
    a.movs(r0, 0)
    a.pop(r4, r5, r6, pc)
    return a.assemble()
