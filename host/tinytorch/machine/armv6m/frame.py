"""What all kernels for the Cortex-M0+ share: how they are entered and left, and their stack.

A kernel is called as kernel(r0 = arena, r1 = program, r2 = its parameter block), and its bytes are
those of tinytorch_core.qops.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tinytorch.machine.armv6m.thumb import (
    Assembler,
    Branch,
    Label,
    Literal,
    Name,
    Register,
    lr,
    pc,
    r0,
    r1,
    r2,
    r3,
    r4,
    r5,
    r6,
    r7,
    r8,
    r9,
    r10,
    r11,
    sp,
)


class Frame:
    """Words on the stack, by name."""

    def __init__(self, *names: str) -> None:
        self.words = 0
        self._at: dict[str, int] = {}
        for name in names:
            self.take(name)

    def take(self, name: str, words: int = 1) -> None:
        self._at[name] = 4 * self.words
        self.words += words

    def __getitem__(self, name: str) -> int:
        return self._at[name]


class Kernel(Assembler):
    """An assembler with what all kernels share."""

    def __init__(self, frame: Frame) -> None:
        super().__init__()
        self.frame = frame

    def enter(self) -> None:
        self.push(r4, r5, r6, r7, lr)
        for low, high in zip((r4, r5, r6, r7), (r8, r9, r10, r11), strict=True):
            self.mov(low, high)
        self.push(r4, r5, r6, r7)
        self._move_stack(-4 * self.frame.words)

    def leave(self) -> None:
        self._move_stack(4 * self.frame.words)
        self.pop(r4, r5, r6, r7)
        for low, high in zip((r4, r5, r6, r7), (r8, r9, r10, r11), strict=True):
            self.mov(high, low)
        self.movs(r0, 0)
        self.pop(r4, r5, r6, r7, pc)

    def _move_stack(self, by: int) -> None:
        while by:
            step = max(-508, min(508, by))
            self.add(sp, step)
            by -= step

    def get(self, d: Register, name: Name) -> None:
        self.ldr(d, sp, self.frame[name])

    def put(self, d: Register, name: Name) -> None:
        self.str(d, sp, self.frame[name])

    def place(self, index: int, base: Register, name: Name) -> None:
        """Keep base + the parameter block's word `index` (r2: the block) in the frame."""
        self.ldr(r3, r2, 4 * index)
        self.adds(r3, r3, base)
        self.put(r3, name)

    def step(self, d: Register, by: int, scratch: Register) -> None:
        """d += by."""
        if by == 0:
            return
        if -255 <= by <= 255:
            (self.adds if by > 0 else self.subs)(d, d, abs(by))
        else:
            self.load(scratch, abs(by))
            (self.adds if by > 0 else self.subs)(d, d, scratch)

    def literals(self) -> None:
        """The literals so far, in the middle of code that is too long for them to wait."""
        past = self.unique("past")
        self.b(past)
        self.pool()
        self.label(past)

    def fill(self, count: Register, value: Register, to: Register, stride: int, half: bool) -> None:
        """Store the value `count` times (lost), `stride` bytes apart."""
        loop, end = self.unique("fill"), self.unique("filled")
        self.cmp(count, 0)
        self.b(end, "eq")
        self.label(loop)
        (self.strh if half else self.str)(value, to, 0)
        self.adds(to, to, stride)
        self.subs(count, count, 1)
        self.b(loop, "ne")
        self.label(end)

    def clip(self, value: Register, scratch: Register, pushed: int = 0) -> None:
        """Bring the value between `low` and `high` of the frame, above which so much is pushed."""
        for name, condition in (("low", "ge"), ("high", "le")):
            inside = self.unique(name)
            self.ldr(scratch, sp, self.frame[name] + pushed)
            self.cmp(value, scratch)
            self.b(inside, condition)
            self.mov(value, scratch)
            self.label(inside)

    def requantize(self) -> None:
        """r4 = tinytorch_core.quant.requantize(r3, multiplier r1, shift r2); r2 to r7 are lost."""
        right, done = self.unique("right"), self.unique("done")
        self.cmp(r2, 0)
        self.b(right, "le")
        self.lsls(r3, r3, r2)
        self.movs(r2, 0)
        self.label(right)
        self.rsbs(r2, r2)
        # The high half of the 64-bit product, from four of 16 bits; multipliers are positive.
        self.uxth(r4, r3)
        self.asrs(r3, r3, 16)
        self.uxth(r5, r1)
        self.lsrs(r6, r1, 16)
        self.mov(r7, r4)
        self.muls(r7, r5)
        self.muls(r5, r3)
        self.muls(r4, r6)
        self.muls(r3, r6)
        self.lsrs(r7, r7, 16)
        self.adds(r4, r4, r7)
        self.asrs(r6, r5, 16)
        self.uxth(r5, r5)
        self.adds(r3, r3, r6)
        self.adds(r4, r4, r5)
        self.lsrs(r7, r4, 16)
        self.adds(r3, r3, r7)
        # (product + 2**30) >> 31, of which r4 << 16 is the low half's upper part.
        self.lsls(r3, r3, 1)
        self.lsls(r4, r4, 16)
        self.lsrs(r4, r4, 30)
        self.adds(r4, r4, 1)
        self.lsrs(r4, r4, 1)
        self.adds(r4, r4, r3)
        # Halves away from zero: (x + 2**(s - 1) - (x < 0)) >> s.
        self.cmp(r2, 0)
        self.b(done, "eq")
        self.movs(r5, 1)
        self.lsls(r5, r5, r2)
        self.lsrs(r5, r5, 1)
        self.asrs(r6, r4, 31)
        self.adds(r5, r5, r6)
        self.adds(r4, r4, r5)
        self.asrs(r4, r4, r2)
        self.label(done)

    def exact_output(self) -> None:
        """The subroutine `exact`: r4 = the output of the sum in r3, as tinytorch_core.quant says.

        Keeps all but r3, r4 and r7. In the frame: `rows` and `skew`, whose sum is the address of
        the channel's multiplier and shift; `zero`, `low` and `high`.
        """
        kept = (r0, r1, r2, r5, r6, lr)

        def get(d: Register, name: Name) -> None:
            self.ldr(d, sp, self.frame[name] + 4 * len(kept))

        self.label("exact")
        self.push(*kept)
        get(r0, "rows")
        get(r1, "skew")
        self.adds(r0, r0, r1)
        self.ldmia(r0, r1, r2)
        self.requantize()
        get(r5, "zero")
        self.adds(r4, r4, r5)
        self.clip(r4, r5, 4 * len(kept))
        self.pop(*kept[:-1], pc)


class Counted(Kernel):
    """A kernel that counts its own cycles: `cycles`, of what stands in it so far."""

    def __init__(self, frame: Frame) -> None:
        super().__init__(frame)
        self.cycles = 0.0
        self._turns = 1.0
        self._counted = 0

    @contextmanager
    def times(self, n: float) -> Iterator[None]:
        """What is written now runs so many times, where what is around it runs once. A conditional
        jump at its end is taken all times but the last."""
        self.count()
        outer = self._turns
        self._turns *= n
        yield
        self.count()
        self._turns = outer
        last = self._items[-1]
        if isinstance(last, Branch) and last.condition >= 0:
            self.cycles -= outer

    def count(self) -> None:
        """Count what has been written since the last time, with conditional jumps taken that go
        back. For one over a single instruction it makes no difference."""
        items = self._items
        for i in range(self._counted, len(items)):
            item = items[i]
            cycles = 1
            if isinstance(item, bytes):
                if item[1] >> 4 == 12 or item[1] in (0xB4, 0xB5, 0xBC, 0xBD):
                    cycles += item[0].bit_count() + 3 * (item[1] == 0xBD)
                elif 5 <= item[1] >> 4 <= 9:
                    cycles = 2
            elif isinstance(item, Branch):
                back = any(isinstance(x, Label) and x.name == item.target for x in items[:i])
                cycles = 3 if item.link else 2 if item.condition < 0 or back else 1
            elif isinstance(item, Literal):
                cycles = 2
            else:
                cycles = 0
            self.cycles += self._turns * cycles
        self._counted = len(items)
