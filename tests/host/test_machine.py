"""Machine code on the emulated Cortex-M0+ equals the specification to the byte, for every kernel.

Which kernel runs an operation, in how many lanes, in blocks of how many words, and what stays words
between two operations, is the planner's choice by cost. Here costs are random, so that every
choice it could make is made; and so are the limits by which it changes a kernel's form.
"""

import struct
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.networks import fill
from tests.operations import KINDS_AND_TIERS, Reference, random_case, random_input
from tests.second_core import SecondCore
from tests.streams import random_case as random_stream
from tests.sweeps import examples, sweep
from tinytorch import nn
from tinytorch.machine.armv6m import tables
from tinytorch.machine.armv6m.add import Add
from tinytorch.machine.armv6m.average import Average
from tinytorch.machine.armv6m.dot import Dot
from tinytorch.machine.armv6m.mel import Mel
from tinytorch.machine.armv6m.move import Move
from tinytorch.machine.armv6m.pool import Pool
from tinytorch.machine.armv6m.tail import Exact
from tinytorch.machine.armv6m.weighted import Weighted
from tinytorch.machine.attach import attach
from tinytorch.machine.backend import BACKENDS, BOARDS
from tinytorch.machine.kernel import Choice
from tinytorch.machine.pack import pack
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.modelfile.section import attach_section
from tinytorch.quantize.calibrate import quantize, quantize_nodes
from tinytorch.quantize.flow import DataFlow
from tinytorch.quantize.ir import INPUT, Node
from tinytorch.quantize.streaming import stream
from tinytorch.sensing.keyword import keyword_net
from tinytorch_core.model import ADD, CONV2D, DEPTHWISE, FIELDS, MAX_POOL, RECORD, Op
from tito.kits.cortex_m0 import RAM, RAM_BYTES, Core, CoreModel

BACKEND = BACKENDS[BOARDS["rp2040"].architecture]
SEEDS = st.integers(0, 2**32 - 1)


def choose_at_random(patch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    def cycles(shape, op):
        # Words have to be cheapest twice, to be written and to be read.
        words = getattr(shape, "words_out", False) or getattr(shape, "words_in", False)
        return float(rng.random()) * (0.4 if words else 1)

    for kind in (Weighted, Average, Pool, Add, Mel):
        patch.setattr(kind, "cycles", cycles)
    patch.setattr(tables, "MOST_CLIP", int(rng.choice([64, 4096])))
    patch.setattr(tables, "MOST_DOUBT", float(rng.choice([0, 0.25, 0.25])))
    most = int(rng.choice([16, 32, 64]))
    patch.setattr(BACKEND, "unrolling", [n for n in (64, 32, 16) if n <= most])


def rest(core: CoreModel) -> bytes:
    """The RAM without the arena and the stack."""
    ram = core.core.read(RAM, RAM_BYTES - 8192)
    start = core._arena - RAM
    return ram[:start] + ram[start + core._section.arena_bytes :]


CORE = Core()  # one for all: to make one takes longer than most cases


def check(data: bytes, x: np.ndarray, expected: np.ndarray) -> list[Choice]:
    """Run a model's samples in machine code; the choices that were made."""
    model = Model(data)
    packed = pack(model, BACKEND)
    assert all(choice.shape for choice in packed.choices)
    core = CoreModel(attach_section(data, packed.section), CORE)
    before = rest(core)
    for sample, y in zip(x, expected, strict=True):
        np.testing.assert_array_equal(core.run(sample)[0], y)
    assert rest(core) == before, "written outside the arena"
    return packed.choices


@sweep
@pytest.mark.parametrize(("kind", "tier"), KINDS_AND_TIERS)
def test_operations_equal_the_specification(kind, tier):
    seen: Counter = Counter()

    @settings(max_examples=examples(200, long=500), deadline=None)
    @given(SEEDS)
    def run(seed):
        data, x, y = random_case(kind, seed, tier)
        with pytest.MonkeyPatch.context() as patch:
            choose_at_random(patch, np.random.default_rng(seed))
            [choice] = check(data, x[:2], y[:2])
        shape = choice.shape
        if isinstance(shape, Weighted):
            seen[f"{shape.lanes} lanes"] += 1
            seen[f"{shape.words} words"] += 1
            seen["wide" if shape.tail.wide else "clip table"] += 1
            if isinstance(shape.tail, Exact):
                seen["tried first" if shape.tail.fraction else "always exact"] += 1
            if isinstance(shape, Dot) and len(shape.groups) > 1:
                seen["groups"] += 1

    run()
    if seen:  # what is to be tested did occur
        wanted = {f"{n} words" for n in range(1, 2 if kind == "dense" else 6)}
        wanted |= {"wide", "clip table"}
        wanted |= {"1 lanes", "2 lanes"} if tier else {"tried first", "always exact"}
        assert not wanted - seen.keys(), seen


def chain(rng: np.random.Generator) -> tuple[nn.Sequential, tuple[int, ...]]:
    """Layers between which words can stay words, with an odd one now and then."""
    h, w, c = (
        int(rng.integers(2, 9)),
        int(rng.choice([2, 3, 4, 5, 6, 8, 10])),
        int(rng.integers(1, 7)),
    )
    shape = (c, h, w)
    layers: list[nn.Module] = []
    for _ in range(int(rng.integers(2, 5))):
        kind = rng.integers(0, 5)
        kernel = int(rng.choice([1, 3, 5]))
        if kind < 2:
            out = int(rng.integers(1, 9))
            layers.append(nn.Conv2d(c, out, 1))
            c = out
        elif kind < 4:
            out = c * int(rng.integers(1, 3))
            layers.append(nn.Conv2d(c, out, kernel, padding=kernel // 2, groups=c))
            c = out
        else:
            layers.append(nn.Conv2d(c, c, 3, padding=1))
        if rng.random() < 0.85:
            layers.append(nn.ReLU())
    if rng.random() < 0.5:
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 3)]
    return nn.Sequential(*layers), shape


@sweep
def test_words_stay_words_between_layers():
    seen: Counter = Counter()

    @settings(max_examples=examples(250, long=350), deadline=None)
    @given(SEEDS)
    def run(seed):
        rng = np.random.default_rng(seed)
        net, shape = chain(rng)
        fill(net, rng)
        x = rng.normal(0, 1, (8, *shape))
        made = quantize(net, x, name="n", labels=[], tier="lane", bits=int(rng.choice([7, 8])))
        data = to_bytes(made)
        model = Model(data)
        samples = random_input(made, rng, 3)
        with pytest.MonkeyPatch.context() as patch:
            choose_at_random(patch, rng)
            for choice in check(data, samples, model.run_batch(samples)):
                shape_of = choice.shape
                seen[choice.kernel] += 1
                if isinstance(shape_of, Weighted):
                    seen[choice.kernel, shape_of.words_in, shape_of.words_out] += 1

    run()
    for kernel in ("dot", "depthwise"):
        for words_in in (False, True):
            for words_out in (False, True):
                assert seen[kernel, words_in, words_out] > 5, seen
    assert seen["average"] > 5


def branched(rng: np.random.Generator) -> list[Node]:
    """Layers of one shape, each of which reads an output of a short while ago, and sums of any
    two; some outputs have several readers, some have none."""
    h, w, c = int(rng.integers(2, 6)), int(rng.choice([2, 4, 6])), int(rng.integers(1, 6))
    shape = {"in_h": h, "in_w": w, "in_c": c, "out_h": h, "out_w": w, "out_c": c}
    nodes: list[Node] = []
    for i in range(int(rng.integers(3, 10))):
        sources = [INPUT, *range(i)]
        source = sources[-1] if rng.random() < 0.7 else int(rng.choice(sources))
        kind = int(rng.choice([CONV2D, CONV2D, DEPTHWISE, DEPTHWISE, MAX_POOL, ADD, ADD]))
        more: dict = {}
        inputs: tuple[int, ...] = (source,)
        if kind in (CONV2D, DEPTHWISE):
            k = int(rng.choice([1, 1, 3]))
            size = (k, k, c) if kind == DEPTHWISE else (c, k, k, c)
            more = {"kernel_h": k, "kernel_w": k, "pad_h": k // 2, "pad_w": k // 2, "low": 0.0}
            more |= {"weight": rng.normal(0, 0.5, size), "bias": rng.normal(0, 0.3, c)}
        elif kind == ADD:
            inputs = (source, int(rng.choice(sources)))
            inputs = inputs if rng.random() < 0.5 else inputs[::-1]
        nodes.append(Node(f"{i}", kind, inputs, **shape, **more))
    return nodes


@sweep
def test_branches_equal_the_specification():
    seen: Counter = Counter()

    @settings(max_examples=examples(250, long=350), deadline=None)
    @given(SEEDS)
    def run(seed):
        rng = np.random.default_rng(seed)
        nodes = branched(rng)
        x = rng.normal(0, 1, (8, nodes[0].in_h, nodes[0].in_w, nodes[0].in_c))
        made = quantize_nodes(nodes, x, name="n", labels=[], tier=("exact", "lane")[seed % 2])
        data = to_bytes(made)
        samples = random_input(made, rng, 3)
        with pytest.MonkeyPatch.context() as patch:
            choose_at_random(patch, rng)
            choices = check(data, samples, Model(data).run_batch(samples))
        assert DataFlow.of_records(Model(data).operations) == DataFlow.of_nodes(nodes)
        for i, choice in enumerate(choices):
            readers = [j for j, node in enumerate(nodes) if i in node.inputs]
            if getattr(choice.shape, "words_out", False):
                assert readers == [i + 1] and choices[i + 1].shape.layout_in
                seen["words"] += 1
            seen["several readers"] += len(readers) > 1
            seen["from far back"] += nodes[i].kind == ADD and min(nodes[i].inputs) < i - 2

    run()
    assert min(seen[what] for what in ("words", "several readers", "from far back")) > 30, seen


def test_a_move_goes_forward_and_takes_the_cycles_that_are_said():
    rng = np.random.default_rng(0)
    code, at, block = Move().assemble(0), RAM + 4096, RAM + 2048
    CORE.write(RAM, code)
    for case in range(200):
        unit = int(rng.choice([1, 4]))
        y, new, n = 4 * int(rng.integers(0, 3)), *(unit * rng.integers(1, 40, 2)).tolist()
        before = rng.integers(0, 256, 400).astype(np.uint8).tobytes()
        expected = bytearray(before)
        for i in range(n):  # one byte after the other, also where they overlap
            expected[y + i] = expected[y + new + i]
        CORE.write(at, before)
        CORE.write(block, struct.pack("<4i", 0, y + new, y, n))
        cycles = CORE.call(RAM, at, 0, block)
        assert CORE.read(at, 400) == expected, case
        values = {"x": y + new, "y": y, "in_h": n, "in_w": 1, "in_c": 1}
        op = Op(struct.pack(RECORD, *(values.get(f, 0) for f in FIELDS)), 0)
        assert Move().cycles(op) == cycles


@sweep
def test_streams_equal_the_specification():
    seen: Counter = Counter()

    @settings(max_examples=examples(29, long=60), deadline=None)
    @given(SEEDS)
    def run(seed):
        case = random_stream(seed, ("exact", "lane")[seed % 2])
        data = to_bytes(case.stream)
        model = Model(data)
        with pytest.MonkeyPatch.context() as patch:
            choose_at_random(patch, np.random.default_rng(seed))
            choices = check(data, case.x[0], model.run_stream(case.x[:1])[0])
        seen.update(choice.kernel for choice in choices)
        seen["words"] += any(getattr(choice.shape, "words_out", False) for choice in choices)
        seen["keeps"] += bool(model.histories)

    run()
    assert seen["words"] and seen["keeps"] > 20 and seen["move"] > 30, seen


@pytest.mark.parametrize("tier", ["exact", "lane"])
def test_a_step_of_the_keyword_network_takes_a_sixth_of_its_window(tier):
    rng = np.random.default_rng(0)
    net = keyword_net(10, 12)
    fill(net, rng)
    net.eval()
    x = rng.normal(0, 1, (16, 1, 48, 10))
    window = quantize(net, x, name="keyword", labels=[], tier=tier)
    model = Model(to_bytes(stream(window, 4)))
    packed = pack(model, BACKEND)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BACKEND, "most_code", 1 << 16)  # all of it in machine code
        whole = pack(Model(to_bytes(window)), BACKEND)
    core = CoreModel(attach_section(model.data, packed.section), CORE)
    steps = rng.integers(-128, 128, (3, 4, 10, 1)).astype(np.int8)
    for sample, y in zip(steps, model.run_stream(steps[None])[0], strict=True):
        found, cycles = core.run(sample)
        np.testing.assert_array_equal(found, y)
    assert abs(sum(cycles) - packed.cycles) < 0.05 * packed.cycles
    assert sum(cycles) < {"exact": 1_040_000, "lane": 575_000}[tier]
    assert 6 * sum(cycles) < whole.cycles
    core.reset()
    np.testing.assert_array_equal(core.run(steps[0])[0], model.run_stream(steps[None, :1])[0, 0])


def wide_net(rng: np.random.Generator, tier: str) -> bytes:
    """Layers with more channels than a small constant holds, and more weights than are unrolled."""
    net = nn.Sequential(
        nn.Conv2d(3, 260, (1, 2)), nn.ReLU(),
        nn.Conv2d(260, 260, 1, groups=260), nn.ReLU(),
        nn.Conv2d(260, 5, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(20, 300), nn.ReLU(), nn.Linear(300, 2),
    )  # fmt: skip
    fill(net, rng)
    x = rng.normal(0, 1, (8, 3, 4, 5))
    return to_bytes(quantize(net, x, name="wide", labels=[], tier=tier))


@pytest.mark.parametrize("tier", ["exact", "lane"])
@pytest.mark.parametrize("seed", range(3))
def test_wide_layers_equal_the_specification(tier, seed):
    rng = np.random.default_rng(seed)
    data = wide_net(rng, tier)
    model = Model(data)
    x = rng.integers(-128, 128, (2, *model.input_shape)).astype(np.int8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BACKEND, "most_code", 1 << 16)
        choose_at_random(patch, rng)
        check(data, x, Reference(data).run_batch(x))


@pytest.mark.parametrize(("kind", "tier"), KINDS_AND_TIERS)
def test_a_second_core_agrees(kind, tier, monkeypatch):
    """QEMU's Cortex-M0, which unlike ours refuses addresses that are not aligned."""
    second = SecondCore()
    rng = np.random.default_rng(0)
    choose_at_random(monkeypatch, rng)
    for seed in range(40):
        data, x, y = random_case(kind, seed, tier)
        core = CoreModel(attach(data, BACKEND.architecture), second)
        for sample, expected in zip(x[:2], y[:2], strict=True):
            np.testing.assert_array_equal(core.run(sample)[0], expected)


def test_a_second_core_agrees_on_streams(monkeypatch):
    second = SecondCore()
    choose_at_random(monkeypatch, np.random.default_rng(0))
    for seed in range(12):
        case = random_stream(seed, ("exact", "lane")[seed % 2])
        model = Model(to_bytes(case.stream))
        core = CoreModel(attach(model.data, BACKEND.architecture), second)
        for sample, expected in zip(case.x[0], model.run_stream(case.x[:1])[0], strict=True):
            np.testing.assert_array_equal(core.run(sample)[0], expected)


def test_code_that_gets_too_long_is_unrolled_less_and_then_left_to_viper(monkeypatch):
    data = wide_net(np.random.default_rng(0), "lane")
    model = Model(data)
    monkeypatch.setattr(BACKEND, "most_code", 1 << 16)
    whole = pack(model, BACKEND).code_bytes
    monkeypatch.setattr(BACKEND, "most_code", whole - 1)
    less = pack(model, BACKEND)
    assert less.code_bytes < whole
    assert all(choice.shape for choice in less.choices)
    monkeypatch.setattr(BACKEND, "most_code", 1500)
    few = pack(model, BACKEND)
    assert few.code_bytes <= 1500
    left = [choice for choice in few.choices if not choice.shape]
    assert left
    assert all("runs in viper" in choice.notes[0] for choice in left)
    assert all("1,500 bytes" in choice.notes[0] for choice in left)
