"""The model file: read it, check it, run it. One format, one reader, on the laptop and the board.

    header    64 bytes, little-endian, see HEADER
    program   operation records, then per-channel tables and weights; all that a run reads
    meta      JSON: name, labels, shapes, scales, feature settings
    vectors   test inputs, each followed by the output bytes that it must give
    kernels   from format 2 on, may be empty: machine code for one architecture, which a board that
              has it binds; everyone else passes over it
    sha256    32 bytes over everything before

Every operation is a record of int32 FIELDS at the head of the program. `x`, `x2`, `y` and
`scratch` are offsets into the arena, whose plan was made on the laptop; `table` and `weight` are
offsets into the program. A table row is (bias, multiplier, shift), one for each output channel;
for ADD the rows are (offset, multiplier, shift) of the first input, the second and the output.
MUL has one row, (offset of x2, multiplier, shift); x2 is kernel_h by kernel_w pixels, as many as x
or one, which then serves them all. LOGISTIC has none: `weight` are 256 outputs, of x = -128 to 127.
`tier` says how sums become outputs: EXACT for every kind, LANE for CONV2D, DEPTHWISE and DENSE.
Activations are int8, channels last; a signal (L, C) is an image of height 1.

A model that listens takes one step of a stream and keeps what later steps need in its arena. MOVE
copies in_h * in_w * in_c bytes from x to y, which lies before x, first byte first: a buffer
[kept | new] whose reader has run gives up its oldest part. `low` fills such a buffer at a reset.
MEL makes features of sound, see tinytorch_core.sound: x are in_h int16 samples, little-endian
(in_c is 2), windows of kernel_h every stride_h become out_h rows of out_c values.
"""

import binascii
import hashlib
import json
import struct

MAGIC = b"TTM\n"
VERSION = 4  # the newest that is read, from 1 on; written is the oldest that holds a file's kinds
# magic, version, header bytes, file bytes, CRC-32 of all that follows the CRC up to the SHA-256,
# program at/bytes, meta at/bytes, vectors at/count, arena bytes, operations,
# input at/bytes, output at/bytes
HEADER = "<4sHHIIIIIIIIIIIIII"
HEADER_BYTES = struct.calcsize(HEADER)
CRC_FROM = 16

CONV2D = 1
DEPTHWISE = 2
DENSE = 3
MAX_POOL = 4
AVG_POOL = 5
ADD = 6
MOVE = 7
MEL = 8
MUL = 9
LOGISTIC = 10
SINCE = (0, 1, 1, 1, 1, 1, 1, 3, 3, 4, 4)  # by kind: the version of the format that it came with

# Tiers: how an operation comes from its sums to its output, see tinytorch_core.qops.
EXACT = 0
LANE = 1

FIELDS = (
    "kind", "x", "x2", "y",
    "in_h", "in_w", "in_c", "out_h", "out_w", "out_c",
    "kernel_h", "kernel_w", "stride_h", "stride_w", "pad_h", "pad_w",
    "x_zero", "y_zero", "low", "high", "table", "weight", "scratch", "tier",
)  # fmt: skip
RECORD = "<%di" % len(FIELDS)
RECORD_BYTES = struct.calcsize(RECORD)


class _Slice:
    def __getitem__(self, index):
        return index


_ALL = _Slice()[:]  # made once: a slice is an object on the heap
_BYTES = (bytes, bytearray)


class Op:
    """One operation record, its FIELDS as attributes."""

    def __init__(self, program, at):
        values = struct.unpack_from(RECORD, program, at)
        for name, value in zip(FIELDS, values):
            setattr(self, name, value)

    def __getattr__(self, name) -> int:  # tells a type checker what the fields are
        raise AttributeError(name)


def _check(ok, what, number=""):
    if not ok:
        what = "%s %s" % (what, number) if number != "" else what
        raise ValueError(
            "The model file is damaged (%s): send it again, or export it again." % what
        )


def check(program, count, arena_bytes, first=0):
    """Refuse a record that would make a kernel touch a byte outside its arena or its program.

    first: the operation to begin with, of the `count` that the program has at its head.
    """
    _check(count * RECORD_BYTES <= len(program), "operations")
    for i in range(first, count):
        (kind, x, x2, y, in_h, in_w, in_c, out_h, out_w, out_c, kernel_h, kernel_w, stride_h,
         stride_w, pad_h, pad_w, x_zero, y_zero, low, high, table, weight_at, scratch_at,
         tier) = struct.unpack_from(RECORD, program, i * RECORD_BYTES)  # fmt: skip
        if not 0 < kind < len(SINCE):
            raise ValueError(
                "Operation %d of the model is of kind %d, which is unknown here: update TinyTorch "
                "on the board and on the laptop." % (i, kind)
            )
        _check(EXACT <= tier <= (LANE if kind <= DENSE else EXACT), "tier of operation", i)
        # Arguments, not tuples or slices: what a check leaves behind on a board's heap counts in
        # the peak. Extents and strides are positive, padding may be none.
        _check(
            min(in_h, in_w, in_c, out_h, out_w, out_c, kernel_h, kernel_w, stride_h, stride_w) > 0
            and max(in_h, in_w, in_c, out_h, out_w, out_c) < 1 << 16
            and max(kernel_h, kernel_w, stride_h, stride_w) < 1 << 16
            and min(x_zero, y_zero, low, high) >= -128
            and max(x_zero, y_zero, low, high) < 128,
            "operation",
            i,
        )
        same = in_h == out_h and in_w == out_w and in_c == out_c
        taps = kernel_h * kernel_w
        x_bytes = in_h * in_w * in_c
        rows = x2_bytes = weight = scratch = 0
        if kind in (CONV2D, DENSE):
            rows = out_c
            weight = out_c * taps * in_c
            scratch = 4 * taps * in_c
        elif kind == DEPTHWISE:
            rows = out_c
            weight = out_c * taps
            _check(out_c % in_c == 0, "channels of operation", i)
        elif kind == ADD:
            rows = 3
            x2_bytes = x_bytes
            _check(same, "shapes of operation", i)
        elif kind == MUL:
            rows = 1
            x2_bytes = taps * in_c
            whole = kernel_h == in_h and kernel_w == in_w
            _check(same and (whole or taps == 1), "shapes of operation", i)
        elif kind == LOGISTIC:
            weight = 256
            _check(same, "shapes of operation", i)
        elif kind == MOVE:
            _check(same and y <= x, "shapes of operation", i)
        elif kind == MEL:
            from tinytorch_core import mel

            scratch = mel.check(program, table, in_h, kernel_h, stride_h, out_h, out_c)
            _check(scratch and in_c == 2, "sound of operation", i)
        else:
            _check(in_c == out_c, "channels of operation", i)
        _check(x2_bytes == 0 or (x2 >= 0 and x2 + x2_bytes <= arena_bytes), "arena")
        _check(
            min(x, y, table, weight_at, scratch_at) >= 0
            and x + x_bytes <= arena_bytes
            and y + out_h * out_w * out_c <= arena_bytes
            and scratch_at + scratch <= arena_bytes
            and scratch_at % 4 == 0
            and table % 4 == 0
            and table + 12 * rows <= len(program)
            and weight_at + weight <= len(program),
            "bounds of operation",
            i,
        )
        _check(
            _meets(out_h, kernel_h, stride_h, pad_h, in_h)
            and _meets(out_w, kernel_w, stride_w, pad_w, in_w),
            "window of operation",
            i,
        )


def _meets(out, kernel, stride, pad, size):
    """Whether the last window starts inside the padded input, so that every one meets the image."""
    return 0 <= pad < kernel and (out - 1) * stride - pad < size


class Model:
    """A quantized network from a model file.

    `Model(path)` reads the file with one copy of the weights. `input_shape`, `scale` and
    `zero_point` belong to the int8 input (real = (q - zero_point) * scale); the output has the
    same with `output_` in front. `input` and `output` are views of the arena.

    Raises ValueError for a file that is no model, damaged, or of a newer format.
    """

    kernels: dict = {}  # kind -> function(arena, program, at); each interpreter brings its own

    def __init__(self, path):
        self.path = path
        with self._open() as f:
            self._read(f)

    def _open(self):
        return open(self.path, "rb")

    def _read(self, f):
        raw = f.read(HEADER_BYTES)
        if raw[:4] != MAGIC:
            raise ValueError("This is not a TinyTorch model file: make one with 'tito quantize'.")
        _check(len(raw) == HEADER_BYTES, "cut short")
        (_, version, header_bytes, file_bytes, crc, program_at, program_bytes, meta_at, meta_bytes,
         self._vectors_at, self.vectors, self.arena_bytes, count, self._input_at, input_bytes,
         self._output_at, output_bytes) = struct.unpack(HEADER, raw)  # fmt: skip
        if version > VERSION:
            raise ValueError(
                "The model has format %d and this TinyTorch reads up to %d: update TinyTorch here, "
                "or export the model with the older one." % (version, VERSION)
            )
        kernels_at = self._vectors_at + self.vectors * (input_bytes + output_bytes)
        _check(
            version > 0
            and header_bytes == program_at == HEADER_BYTES
            and meta_at == program_at + program_bytes
            and self._vectors_at == meta_at + meta_bytes
            and file_bytes >= kernels_at + 32
            and (version > 1 or file_bytes == kernels_at + 32),
            "header",
        )
        # The checksum comes before every size that the file's length does not bear out.
        _check(f.seek(0, 2) == file_bytes, "length")
        f.seek(HEADER_BYTES)
        self.program_bytes = program_bytes
        self._program = bytearray(program_bytes)
        found = binascii.crc32(raw[CRC_FROM:])
        for part in self._pieces(f, file_bytes - HEADER_BYTES - 32, memoryview(self._program)):
            found = binascii.crc32(part, found)
        _check(found == crc, "checksum")
        self.sha256 = binascii.hexlify(f.read(32)).decode()
        f.seek(HEADER_BYTES)
        f.readinto(self._program)
        check(self._program, count, self.arena_bytes)
        meta = json.loads(f.read(meta_bytes))

        self._steps = []
        self._moves = []
        for at in range(0, count * RECORD_BYTES, RECORD_BYTES):
            kind = struct.unpack_from("<i", self._program, at)[0]
            self._steps.append((self._kernel(kind), at))
            if kind == MOVE:
                self._moves.append(at)
        f.seek(kernels_at)
        self._bind(f, file_bytes - 32 - kernels_at)
        _check(
            self._input_at + input_bytes <= self.arena_bytes
            and self._output_at + output_bytes <= self.arena_bytes,
            "input or output",
        )

        self._arena = bytearray(self.arena_bytes)
        self._view = view = memoryview(self._arena)
        self.input = view[self._input_at : self._input_at + input_bytes]
        self.output = view[self._output_at : self._output_at + output_bytes]
        self.name = meta["name"]
        self.labels = meta["labels"]
        self.features = meta["features"]
        self.input_shape = tuple(meta["input"]["shape"])
        self.input_type = meta["input"].get("type", "int8")
        self.scale = meta["input"]["scale"]
        self.zero_point = meta["input"]["zero_point"]
        self.output_shape = tuple(meta["output"]["shape"])
        self.output_scale = meta["output"]["scale"]
        self.output_zero_point = meta["output"]["zero_point"]
        self.reset()

    def _kernel(self, kind):
        return self.kernels[kind]

    def _bind(self, f, size):
        """For a board: take over the `size` bytes of kernels at which f stands (0: none).

        It may change steps, records and the arena's plan: the arena does not exist yet.
        """

    def _pieces(self, f, n, view):
        """The next n bytes of the file, in pieces that lie in the view."""
        while n > 0:
            got = f.readinto(view[: min(n, len(view))])
            _check(got, "cut short")
            yield view[:got]
            n -= got

    def reset(self):
        """Forget all steps so far, in a model of a stream; nothing in another."""
        place = FIELDS.index
        for at in self._moves:
            f = struct.unpack_from(RECORD, self._program, at)  # smaller than an Op
            y, low = f[place("y")], f[place("low")] & 255
            end = f[place("x")] + f[place("in_h")] * f[place("in_w")] * f[place("in_c")]
            block = memoryview(bytes((low,)) * min(end - y, 512))
            for start in range(y, end, len(block)):
                n = min(len(block), end - start)
                self._view[start : start + n] = block[:n]

    def run(self):
        """From the bytes in `input` to the bytes in `output`; allocates nothing."""
        arena, program = self._arena, self._program
        for kernel, at in self._steps:
            kernel(arena, program, at)

    def predict(self, x):
        """The index of the best class (see `labels`) for one input.

        x: flat sequence of the input's length: int8 values or their bytes (allocates nothing; bytes
        and a bytearray are copied at once), or floats, which are quantized. Raises ValueError for
        another length, and for larger ints.
        """
        view, zero, n = self.input, self.zero_point, len(self.input)
        if len(x) != n:
            raise ValueError(
                "The model takes %d values, %s, and got %d." % (n, self.input_shape, len(x))
            )
        if isinstance(x[0], float):
            for i in range(n):
                view[i] = min(127, max(-128, round(x[i] / self.scale) + zero)) & 255
        elif isinstance(x, _BYTES):
            view[_ALL] = x
        else:
            for i in range(n):
                if not -128 <= x[i] < 256:
                    raise ValueError("The model takes int8 values or floats, and got %d." % x[i])
                view[i] = x[i] & 255
        self.run()
        return self.best()

    def best(self):
        """The index of the largest output, the first one where several are equal."""
        out, best = self.output, 0
        for i in range(len(out)):
            # Flipping the top bit turns the order of int8 bytes into that of unsigned ones.
            if out[i] ^ 128 > out[best] ^ 128:
                best = i
        return best

    def verify(self):
        """Run the file's own test vectors, in a model of a stream one step after the other from
        a reset on; how many there are.

        Raises ValueError where the file's SHA-256 or an output byte differs.
        """
        with self._open() as f:
            return self._verify(f)

    def _verify(self, f):
        digest = hashlib.sha256()
        n = f.seek(0, 2) - 32
        f.seek(0)
        for part in self._pieces(f, n, self._view):
            digest.update(part)
        _check(binascii.hexlify(digest.digest()).decode() == self.sha256, "SHA-256")
        f.seek(self._vectors_at)
        self.reset()
        expected = bytearray(len(self.output))
        for i in range(self.vectors):
            f.readinto(self.input)
            f.readinto(expected)
            self.run()
            if self.output != expected:
                raise ValueError(
                    "Test vector %d of model '%s' gives other bytes here than on the laptop: "
                    "do not trust this kit, and report it." % (i, self.name)
                )
        self.reset()
        return self.vectors
