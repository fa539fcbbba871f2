"""Reading a model file written by hand here; a damaged one is refused, always alike."""

import binascii
import hashlib
import io
import struct

from tinytorch_core import model, qops

PROGRAM = 64
META = (
    b'{"name":"m","labels":["a","b"],"features":null,"input":{"shape":[2],"scale":0.5,'
    b'"zero_point":-1},"output":{"shape":[2],"scale":0.25,"zero_point":3}}'
)
HEADER_FIELDS = (
    "magic", "version", "header_bytes", "file_bytes", "crc", "program_at", "program_bytes",
    "meta_at", "meta_bytes", "vectors_at", "vectors", "arena_bytes", "operations", "input_at",
    "input_bytes", "output_at", "output_bytes",
)  # fmt: skip


class Model(model.Model):
    """A model from bytes, on the reference operations."""

    kernels = qops.KERNELS

    def _open(self):
        return io.BytesIO(self.path)


def record(**fields):
    return struct.pack(model.RECORD, *[fields.pop(name, 0) for name in model.FIELDS])


ONES = ("in_h", "in_w", "out_h", "out_w", "kernel_h", "kernel_w", "stride_h", "stride_w")


def dense(**fields):
    """A dense layer of two inputs and two outputs: [[1, 2], [-3, 4]] @ x + [5, -6], halved."""
    f = dict.fromkeys(ONES, 1)
    f.update(kind=model.DENSE, in_c=2, out_c=2, x=8, y=12, scratch=0, table=96, weight=120)
    f.update(x_zero=-1, y_zero=3, low=-128, high=127)
    f.update(fields)
    rows = struct.pack("<iiiiii", 5, 1 << 30, 0, -6, 1 << 30, 0)
    return record(**f) + rows + struct.pack("<bbbb", 1, 2, -3, 4)


SIZES_OF_VECTORS = ("vectors", "input_bytes", "output_bytes")


def sealed(header, body):
    """Header fields (a dict) and body with their checksums."""
    head = struct.pack(model.HEADER, *[header[name] for name in HEADER_FIELDS])
    data = head[: model.CRC_FROM - 4]
    data += struct.pack("<I", binascii.crc32(head[model.CRC_FROM :] + body))
    data += head[model.CRC_FROM :] + body
    return data + hashlib.sha256(data).digest()


def parts(program, meta=META, vectors=(), version=2, kernels=b""):
    """The header fields and the body of a model file."""
    body = program + meta + b"".join(vectors) + kernels
    meta_at = PROGRAM + len(program)
    header = {
        "magic": model.MAGIC, "version": version, "header_bytes": 64,
        "file_bytes": PROGRAM + len(body) + 32, "crc": 0,
        "program_at": PROGRAM, "program_bytes": len(program),
        "meta_at": meta_at, "meta_bytes": len(meta),
        "vectors_at": meta_at + len(meta), "vectors": len(vectors),
        "arena_bytes": 16, "operations": 1,
        "input_at": 8, "input_bytes": 2, "output_at": 12, "output_bytes": 2,
    }  # fmt: skip
    return header, body


# x = [9, -11] and zero point -1: [10 - 20 + 5, -30 - 40 - 6] / 2 + 3, the half rounded up
VECTOR = struct.pack("<bbbb", 9, -11, 1, -35)
GOOD = sealed(*parts(dense(), vectors=[VECTOR]))


def refused(data):
    """The one sentence with which reading and verifying the file ends; None where it is taken."""
    try:
        Model(data).verify()
    except ValueError as e:
        assert str(e)
        return str(e)
    return None


def test_a_good_file():
    m = Model(GOOD)
    assert (m.name, m.labels, m.features) == ("m", ["a", "b"], None)
    assert (m.input_shape, m.scale, m.zero_point) == ((2,), 0.5, -1)
    assert (m.output_shape, m.output_scale, m.output_zero_point) == ((2,), 0.25, 3)
    assert (m.arena_bytes, m.program_bytes, m.vectors) == (16, len(dense()), 1)
    assert m.sha256 == binascii.hexlify(GOOD[-32:]).decode()
    assert m.verify() == 1


def test_run_and_predict():
    m = Model(GOOD)
    m.input[:] = VECTOR[:2]
    m.run()
    assert bytes(m.output) == VECTOR[2:]
    assert m.predict([9, -11]) == 0 and bytes(m.output) == VECTOR[2:]
    assert m.predict([5.0, -5.0]) == 0 and bytes(m.output) == VECTOR[2:]  # real = (q + 1) / 2
    assert m.predict([-100, 100]) == 1
    assert m.predict([1000.0, -1000.0]) == 0 and bytes(m.input) == b"\x7f\x80"
    assert m.predict([-128, -128]) == m.best()
    m.output[:] = b"\x80\x80"
    assert m.best() == 0
    m.output[:] = b"\xff\x00"
    assert m.best() == 1


def test_predict_refuses_another_length():
    for x in ([], [1], [1, 2, 3]):
        try:
            Model(GOOD).predict(x)
            raise AssertionError("taken")
        except ValueError as e:
            assert "takes 2 values" in str(e) and "got %d" % len(x) in str(e)


def test_predict_refuses_integers_that_are_no_bytes():
    m = Model(GOOD)
    for wrong in (-129, 256, 1000):
        try:
            m.predict([0, wrong])
            raise AssertionError("taken")
        except ValueError as e:
            assert "int8" in str(e) and "got %d" % wrong in str(e)
    assert m.predict([5, 246]) == m.predict(b"\x05\xf6") == m.predict([5, -10])


# The dense layer again, of the input and the one before: one byte is kept at 8, and the new one
# at 9 takes its place.
MOVE = dict.fromkeys(ONES, 1)
MOVE.update(kind=model.MOVE, in_c=1, out_c=1, x=9, y=8, low=-1, high=127)
DENSE = dense(table=192, weight=216)
STREAM = parts(
    DENSE[:96] + record(**MOVE) + DENSE[96:], META.replace(b"[2]", b"[1]", 1), version=3,
    # [-1, 9]: [20 + 5, 40 - 6] / 2 + 3, then as VECTOR
    vectors=[struct.pack("<bbb", 9, 16, 20), struct.pack("<bbb", -11, 1, -35)],
)  # fmt: skip
STREAM[0].update(operations=2, input_at=9, input_bytes=1)


def test_a_stream_goes_on_until_it_is_reset():
    m = Model(sealed(*STREAM))
    steps = ((9, (16, 20)), (-11, (1, -35)))
    for _ in range(2):
        for x, y in steps:
            m.input[0] = x & 255
            m.run()
            assert bytes(m.output) == struct.pack("<bb", *y)
        assert m._arena[8] == -11 & 255
        m.reset()
        assert m._arena[8:10] == b"\xff\xff"


def test_verify_begins_and_ends_with_a_reset():
    m = Model(sealed(*STREAM))
    m.input[0] = 77
    m.run()
    assert m.verify() == m.verify() == 2
    assert m._arena[8:10] == b"\xff\xff"


def test_a_reset_fills_all_that_is_kept_and_new_and_nothing_else():
    for kept, new in ((1, 1), (150, 3), (3, 150), (64, 64), (100, 28)):
        move = dict(MOVE, in_c=kept, out_c=kept, x=8 + new, low=-5)
        header, body = parts(DENSE[:96] + record(**move) + DENSE[96:])
        header.update(operations=2, arena_bytes=400, input_at=300)
        m = Model(sealed(header, body))
        for i in range(400):
            m._arena[i] = 1
        m.reset()
        end = 8 + kept + new
        assert m._arena[:8] == b"\1" * 8 and m._arena[end:] == b"\1" * (400 - end)
        assert m._arena[8:end] == b"\xfb" * (kept + new)


def test_a_move_against_its_direction_is_refused():
    for wrong in ({"y": 10}, {"out_c": 2}, {"in_c": 2}, {"x": 16}, {"y": -1}):
        header, body = parts(DENSE[:96] + record(**dict(MOVE, **wrong)) + DENSE[96:])
        header["operations"] = 2
        assert "operation 1" in refused(sealed(header, body)), wrong


def test_a_file_without_vectors():
    assert Model(sealed(*parts(dense()))).verify() == 0


def test_cut_at_every_length():
    for n in range(len(GOOD)):
        assert refused(GOOD[:n]), n


def test_longer_than_it_says():
    assert refused(GOOD + b"\0")


def test_every_bit_flipped():
    data = bytearray(GOOD)
    for i in range(8 * len(data)):
        data[i >> 3] ^= 1 << (i & 7)
        assert refused(bytes(data)), (i >> 3, i & 7)
        data[i >> 3] ^= 1 << (i & 7)


def test_every_byte_inverted():
    data = bytearray(GOOD)
    for i in range(len(data)):
        data[i] ^= 255
        assert refused(bytes(data)), i
        data[i] ^= 255


def test_format_1_is_read():
    m = Model(sealed(*parts(dense(), vectors=[VECTOR], version=1)))
    assert m.verify() == 1


KERNELS = bytes(range(100))
WITH_KERNELS = sealed(*parts(dense(), vectors=[VECTOR], kernels=KERNELS))


def test_kernels_are_passed_over():
    m = Model(WITH_KERNELS)
    assert m.verify() == m.vectors == 1
    assert (m.arena_bytes, m.program_bytes) == (16, len(dense()))


def test_format_1_has_no_kernels():
    assert refused(sealed(*parts(dense(), vectors=[VECTOR], version=1, kernels=KERNELS)))


def test_both_checksums_cover_the_kernels():
    for i in range(len(WITH_KERNELS) - 132, len(WITH_KERNELS)):
        data = bytearray(WITH_KERNELS)
        data[i] ^= 255
        assert refused(bytes(data)), i
        # The right CRC-32 leaves it to the SHA-256.
        crc = struct.pack("<I", binascii.crc32(data[model.CRC_FROM : -32]))
        data[model.CRC_FROM - 4 : model.CRC_FROM] = crc
        assert "SHA-256" in refused(bytes(data)), i


class Binding(Model):
    """Takes the kernels over as a board does: its own step, in an arena of its own."""

    def _bind(self, f, size):
        self.bound = f.read(size)
        self.arena_bytes, self._input_at, self._output_at = 8, 2, 6
        self._steps = [(self._answer, 96)]

    def _answer(self, arena, program, at):
        assert at == 96 and arena is self._arena and program is self._program
        arena[6:8] = VECTOR[2:]


def test_a_board_takes_the_kernels_over():
    m = Binding(WITH_KERNELS)
    assert m.bound == KERNELS
    assert (len(m._arena), len(m.input), len(m.output)) == (8, 2, 2)
    assert m.predict(VECTOR[:2]) == 0 and bytes(m._arena[2:]) == VECTOR[:2] + b"\0\0" + VECTOR[2:]
    assert m.verify() == 1


def test_where_there_are_no_kernels_the_board_is_told():
    assert Binding(GOOD).bound == b""


def test_another_kind_of_file():
    for data in (b"", b"PK\3\4" + bytes(200), b"TTM", bytes(500)):
        assert "not a TinyTorch model" in refused(data), data


def test_a_newer_format_says_so():
    for version in (5, 6, 65535):
        said = refused(sealed(*parts(dense(), version=version)))
        assert "format %d" % version in said and "update" in said


def test_header_fields_that_contradict_each_other():
    # Checksums are right, so only the fields themselves can give these files away.
    sizes = (0, 1, 63, 64, 65, 100, 4096, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
    for version in (1, 2, 3):
        for name in HEADER_FIELDS[2:]:
            if name == "crc":
                continue
            for value in (0, 1, 63, 65535) if name == "header_bytes" else sizes:
                header, body = parts(dense(), vectors=[VECTOR], version=version)
                if header[name] == value:
                    continue
                # A larger arena is no contradiction, and neither are two other bytes of this one
                # for the input or output: then the test vector speaks.
                if name == "arena_bytes" and value > 16:
                    continue
                # What smaller vectors leave over could be kernels.
                if version > 1 and name in SIZES_OF_VECTORS and value < header[name]:
                    continue
                header[name] = value
                assert refused(sealed(header, body)), (version, name, value)


def test_a_vector_that_does_not_agree_is_named():
    wrong = struct.pack("<bbbb", 9, -11, 1, -34)
    said = refused(sealed(*parts(dense(), vectors=[VECTOR, wrong])))
    assert "vector 1" in said and "'m'" in said


class Arena:
    """Bytes that take no index outside: a bytearray would take negative ones."""

    def __init__(self, n):
        self.data = bytearray(n)

    def __getitem__(self, i):
        assert 0 <= i < len(self.data)
        return self.data[i]

    def __setitem__(self, i, value):
        assert 0 <= i < len(self.data)
        self.data[i] = value


def in_bounds(program, arena_bytes):
    """Run the one operation of a program that `check` took on an arena that minds its bounds."""
    op = model.Op(program, 0)
    # A table that was moved holds shifts of any size, and 1 << 2**31 fills the memory; only the
    # indices matter here.
    requantize, scaled = qops.requantize, qops._scaled
    qops.requantize = lambda acc, multiplier, shift: acc
    qops._scaled = lambda program, op, channel, acc: acc + qops._row(program, op, channel)[0]
    try:
        qops.KERNELS[op.kind](Arena(arena_bytes), program, 0)
    finally:
        qops.requantize, qops._scaled = requantize, scaled
    # What the fast kernels do beyond the reference: gather a window of int32 in the scratch.
    if op.kind in (model.CONV2D, model.DENSE):
        assert op.scratch % 4 == op.table % 4 == 0
        assert op.scratch + 4 * op.kernel_h * op.kernel_w * op.in_c <= arena_bytes
        assert op.weight + op.out_c * op.kernel_h * op.kernel_w * op.in_c <= len(program)
    # ... and walk input or output by the other one's size.
    if op.kind == model.ADD:
        n = op.out_h * op.out_w * op.out_c
        assert max(op.x, op.x2) + n <= arena_bytes
    # ... or a table of bytes to its end, whatever the input is.
    if op.kind == model.LOGISTIC:
        assert 0 <= op.weight <= len(program) - 256
    assert op.y + op.out_h * op.out_w * op.out_c <= arena_bytes


def samples():
    """One program for each operation, all with an arena of 160 bytes."""
    image = {
        "in_h": 3, "in_w": 3, "in_c": 2, "out_h": 2, "out_w": 2, "out_c": 2,
        "kernel_h": 2, "kernel_w": 2, "stride_h": 2, "stride_w": 2, "pad_h": 1, "pad_w": 1,
        "x": 112, "x2": 112, "y": 132, "scratch": 4, "low": -128, "high": 127,
        "table": 96, "weight": 132,
    }  # fmt: skip
    tail = struct.pack("<iii", 1, 1 << 30, -7) * 3 + bytes(range(24))
    for kind in (model.CONV2D, model.DEPTHWISE, model.MAX_POOL, model.AVG_POOL):
        yield record(kind=kind, **image) + tail
    ones = dict.fromkeys(ONES, 1)
    image.update(ones, pad_h=0, pad_w=0)
    yield record(**dict(image, kind=model.DENSE, in_c=12)) + tail
    yield record(**dict(image, kind=model.ADD, in_c=12, out_c=12)) + tail
    yield record(**dict(image, kind=model.MOVE, y=108, in_c=12, out_c=12)) + tail
    yield record(**dict(image, kind=model.MUL, in_c=12, out_c=12)) + tail
    whole = dict(image, kind=model.MUL, in_h=2, in_w=3, kernel_h=2, kernel_w=3, out_h=2, out_w=3)
    yield record(**whole) + tail
    yield record(**dict(image, kind=model.LOGISTIC, in_c=12, out_c=12)) + bytes(36 + 256)


def test_check_takes_sound_records():
    for program in samples():
        model.check(program, 1, 160)
        in_bounds(program, 160)


def test_check_refuses_every_record_that_leaves_its_bounds():
    values = list(range(-130, 165)) + [1 << 16, 1 << 20, (1 << 31) - 1, -(1 << 31), (1 << 31) - 4]
    taken = left = 0
    for program in samples():
        for field in range(len(model.FIELDS)):
            for value in values:
                fuzzed = bytearray(program)
                struct.pack_into("<i", fuzzed, 4 * field, value)
                try:
                    model.check(fuzzed, 1, 160)
                except ValueError:
                    left += 1
                    continue
                taken += 1
                in_bounds(fuzzed, 160)
    assert taken > 1000 and left > 10000, (taken, left)


def test_check_refuses_pairs_of_fields_that_leave_their_bounds():
    state = 7
    for program in samples():
        for _ in range(3000):
            fuzzed = bytearray(program)
            for _ in range(3):
                state = (state * 6364136223846793005 + 1442695040888963407) & ((1 << 64) - 1)
                field, value = (state >> 33) % len(model.FIELDS), (state >> 40) % 20 - 2
                struct.pack_into("<i", fuzzed, 4 * field, value)
            try:
                model.check(fuzzed, 1, 160)
            except ValueError:
                continue
            in_bounds(fuzzed, 160)


def test_check_refuses_a_tier_that_its_kind_has_not():
    for program in samples():
        kind = program[0]
        tiers = (0, 1) if kind in (model.CONV2D, model.DEPTHWISE, model.DENSE) else (0,)
        for tier in (-(1 << 31), -1, 0, 1, 2, 3, 256, (1 << 31) - 1):
            fuzzed = bytearray(program)
            struct.pack_into("<i", fuzzed, model.RECORD_BYTES - 4, tier)
            try:
                model.check(fuzzed, 1, 160)
                assert tier in tiers, (kind, tier)
            except ValueError as e:
                assert tier not in tiers and "tier of operation 0" in str(e), (kind, tier)


def test_an_unknown_kind_asks_for_an_update():
    for kind in (-(1 << 31), -1, 0, len(model.SINCE), 100, (1 << 31) - 1):
        said = refused(sealed(*parts(dense(kind=kind))))
        assert "of kind %d," % kind in said and "update" in said and "damaged" not in said, said


def test_mul_takes_as_many_pixels_as_there_are_or_one():
    programs = [p for p in samples() if p[0] == model.MUL]
    assert len(programs) == 2
    for program in programs:
        for sizes in ((1, 2), (2, 1), (1, 3), (3, 2)):
            fuzzed = bytearray(program)
            struct.pack_into("<2i", fuzzed, 4 * model.FIELDS.index("kernel_h"), *sizes)
            try:
                model.check(fuzzed, 1, 160)
                raise AssertionError("taken with %d by %d" % sizes)
            except ValueError as e:
                assert "shapes of operation 0" in str(e)


def test_check_refuses_more_operations_than_there_are():
    for program in samples():
        for count in (2, 3, 1 << 31, (1 << 32) - 1):
            try:
                model.check(program, count, 160)
                raise AssertionError("taken")
            except ValueError:
                pass


def test_check_refuses_a_program_cut_short():
    for program in list(samples())[:2]:
        need = 132 + (16 if program[0] == model.CONV2D else 8)
        for n in range(need):
            try:
                model.check(program[:n], 1, 160)
                raise AssertionError("taken at %d" % n)
            except ValueError:
                pass
