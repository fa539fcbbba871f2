"""An assembler for Thumb as the Cortex-M0+ has it (ARMv6-M Architecture Reference Manual, A6.7).

    a = Assembler()
    a.label("loop")
    a.ldmia(r0, r2, r3)      # r0 is written back, unless it is in the list
    a.muls(r2, r3)           # r2 *= r3
    a.add(r8, r2)            # high registers: mov, add, cmp only; flags stay
    a.subs(r1, r1, 1)
    a.b("loop", "ne")
    code = a.assemble()      # position-independent bytes

Methods have the manual's names; what sets flags ends in s, but for cmp and tst. An operand that the
core cannot encode, or whose effect the manual leaves open, raises ValueError, with the instruction.
A conditional branch that reaches too far becomes its inverse over an unconditional one.
"""

import struct
from dataclasses import dataclass

CONDITIONS = {
    "eq": 0, "ne": 1, "hs": 2, "lo": 3, "mi": 4, "pl": 5, "vs": 6, "vc": 7,
    "hi": 8, "ls": 9, "ge": 10, "lt": 11, "gt": 12, "le": 13,
}  # fmt: skip


Name = str  # in Assembler, str is an instruction


@dataclass(frozen=True)
class Register:
    number: int

    def __repr__(self) -> str:
        return {13: "sp", 14: "lr", 15: "pc"}.get(self.number, f"r{self.number}")

    @property
    def low(self) -> bool:
        return self.number < 8


r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11, r12, sp, lr, pc = map(Register, range(16))


@dataclass
class Branch:
    """A jump whose place is known, and whose distance is not; condition -1: always.

    form: 0 a conditional branch, 1 its inverse over b, 2 its inverse over bl, which only a branch
    with `far` may become.
    """

    condition: int
    target: str
    link: bool = False
    far: bool = False
    form: int = 0

    @property
    def size(self) -> int:
        return 2 + 2 * self.form if self.condition >= 0 else 4 if self.link else 2

    def reaches(self, distance: int) -> bool:
        """Whether this form does; of the others, encoding tells."""
        if self.condition < 0 or self.form == 2 or (self.form == 1 and not self.far):
            return True
        return -2048 <= distance - 2 <= 2046 if self.form else -256 <= distance <= 254


@dataclass
class Literal:
    """A load of a word from the pool."""

    register: Register
    value: int
    size: int = 2


@dataclass
class Pool:
    """Where the literals before it go, those that are not in an earlier pool."""

    words: tuple[int, ...] = ()
    pad: int = 0

    @property
    def size(self) -> int:
        return self.pad + 4 * len(self.words)


@dataclass
class Label:
    name: str
    size: int = 0


Item = bytes | Branch | Literal | Pool | Label


def _size(item: Item) -> int:
    return len(item) if isinstance(item, bytes) else item.size


class Assembler:
    def __init__(self) -> None:
        self._items: list[Item] = []
        self._labels = 0

    # What is no instruction.

    def label(self, name: Name) -> None:
        self._items.append(Label(name))

    def unique(self, name: Name) -> Name:
        """A label's name that nothing else has."""
        self._labels += 1
        return f"{name}.{self._labels}"

    def pool(self) -> None:
        """Put the literals of `load` here, where the core never comes by."""
        self._items.append(Pool())

    def load(self, d: Register, value: int) -> None:
        """d = value, any 32-bit number, with a sign or without; flags change."""
        self._low("load", d)
        if not -(1 << 31) <= value < 1 << 32:
            raise ValueError(f"load takes numbers of 32 bits and got {value}.")
        value &= 0xFFFFFFFF
        if value < 256:
            self.movs(d, value)
            return
        shift = (value & -value).bit_length() - 1
        if value >> shift < 256:
            self.movs(d, value >> shift)
            self.lsls(d, d, shift)
        else:
            self._items.append(Literal(d, value))

    def assemble(self) -> bytes:
        """The code, for any place that is a multiple of 4, as its length is.

        Raises ValueError for a branch or literal out of reach, and for a label that is missing or
        there twice.
        """
        items = [*self._items, Pool()]
        self._fill(items)
        while True:
            places, labels = self._layout(items)
            short = [
                item
                for item, at in zip(items, places, strict=True)
                if isinstance(item, Branch) and not item.reaches(self._distance(item, labels, at))
            ]
            if not short:
                break
            for item in short:
                item.form += 1
        code = b"".join(
            self._encode(item, at, items, places, labels)
            for item, at in zip(items, places, strict=True)
        )
        return code + bytes(-len(code) % 4)

    @staticmethod
    def _fill(items: list[Item]) -> None:
        """Give each pool the literals that wait for it."""
        waiting: list[int] = []
        for item in items:
            if isinstance(item, Literal) and item.value not in waiting:
                waiting.append(item.value)
            elif isinstance(item, Pool):
                item.words = tuple(waiting)
                waiting = []

    @staticmethod
    def _layout(items: list[Item]) -> tuple[list[int], dict[Name, int]]:
        places: list[int] = []
        labels: dict[Name, int] = {}
        at = 0
        for item in items:
            if isinstance(item, Pool):
                item.pad = at % 4 if item.words else 0
            elif isinstance(item, Label):
                if item.name in labels:
                    raise ValueError(f"The label {item.name} is there twice.")
                labels[item.name] = at
            places.append(at)
            at += _size(item)
        return places, labels

    @staticmethod
    def _distance(item: Branch, labels: dict[Name, int], at: int) -> int:
        if item.target not in labels:
            raise ValueError(f"There is no label {item.target}.")
        return labels[item.target] - (at + 4)

    def _encode(
        self, item: Item, at: int, items: list[Item], places: list[int], labels: dict[Name, int]
    ) -> bytes:
        if isinstance(item, bytes):
            return item
        if isinstance(item, Pool):
            return bytes(item.pad) + struct.pack(f"<{len(item.words)}I", *item.words)
        if isinstance(item, Literal):
            return self._encode_literal(item, at, items, places)
        if isinstance(item, Branch):
            return self._encode_branch(item, self._distance(item, labels, at))
        return b""

    @staticmethod
    def _encode_literal(item: Literal, at: int, items: list[Item], places: list[int]) -> bytes:
        for other, start in zip(items, places, strict=True):
            if isinstance(other, Pool) and start >= at and item.value in other.words:
                word = start + other.pad + 4 * other.words.index(item.value)
                distance = word - (at + 4 & ~3)
                if distance > 1020:
                    break
                return struct.pack("<H", 0x4800 | item.register.number << 8 | distance >> 2)
        raise ValueError(f"load {item.register}, {item.value}: no pool within 1020 bytes after it.")

    @classmethod
    def _encode_branch(cls, item: Branch, distance: int) -> bytes:
        if item.condition >= 0:
            if not item.form:
                return struct.pack("<H", 0xD000 | item.condition << 8 | distance >> 1 & 0xFF)
            over = struct.pack("<H", 0xD000 | (item.condition ^ 1) << 8 | item.form - 1)
            always = Branch(-1, item.target, link=item.form == 2)
            return over + cls._encode_branch(always, distance - 2)
        if item.link:
            if not -(1 << 24) <= distance < 1 << 24:
                raise ValueError(f"bl {item.target}: out of reach.")
            s = distance >> 24 & 1
            j1, j2 = (1 - (distance >> bit & 1) ^ s for bit in (23, 22))
            return struct.pack(
                "<HH",
                0xF000 | s << 10 | distance >> 12 & 0x3FF,
                0xD000 | j1 << 13 | j2 << 11 | distance >> 1 & 0x7FF,
            )
        if not -2048 <= distance <= 2046:
            raise ValueError(f"b {item.target}: {distance} bytes are out of reach.")
        return struct.pack("<H", 0xE000 | distance >> 1 & 0x7FF)

    # Checks.

    def _emit(self, halfword: int) -> None:
        self._items.append(struct.pack("<H", halfword))

    @staticmethod
    def _low(name: Name, *registers: Register) -> None:
        for register in registers:
            if not register.low:
                raise ValueError(f"{name} takes r0 to r7 and got {register}.")

    @staticmethod
    def _number(name: Name, value: int, most: int, step: int = 1) -> int:
        if not 0 <= value <= most or value % step:
            steps = f" in steps of {step}" if step > 1 else ""
            raise ValueError(f"{name} takes 0 to {most}{steps} and got {value}.")
        return value // step

    @staticmethod
    def _list(name: Name, registers: tuple[Register, ...], last: "Register | None" = None) -> int:
        """The bits of a list of low registers, and bit 8 for the one that may stand at its end."""
        numbers = [register.number for register in registers]
        if not numbers or numbers != sorted(set(numbers)):
            raise ValueError(f"{name} takes registers in rising order and got {registers}.")
        bits = 0
        for register in registers:
            if not register.low and register != last:
                raise ValueError(
                    f"{name} takes r0 to r7{f' and {last}' if last else ''} and got {register}."
                )
            bits |= 1 << min(register.number, 8)
        return bits

    # Moves and arithmetic.

    def movs(self, d: Register, value: "int | Register") -> None:
        if isinstance(value, Register):
            self._low("movs", d, value)
            self.lsls(d, value, 0)
            return
        self._low("movs", d)
        self._emit(0x2000 | d.number << 8 | self._number("movs", value, 255))

    def _high(self, opcode: int, d: Register, m: Register) -> None:
        self._emit(opcode | (d.number & 8) << 4 | m.number << 3 | d.number & 7)

    def mov(self, d: Register, m: Register) -> None:
        self._high(0x4600, d, m)

    def add(self, d: Register, m: "Register | int") -> None:
        """d += m, flags untouched; with a number: sp += m."""
        if isinstance(m, Register):
            if d == m == pc:
                raise ValueError("add cannot take pc twice.")
            self._high(0x4400, d, m)
        elif d == sp:
            if not -508 <= m <= 508 or m % 4:
                raise ValueError(f"add sp takes -508 to 508 in steps of 4 and got {m}.")
            self._emit((0xB000 if m >= 0 else 0xB080) | abs(m) >> 2)
        else:
            raise ValueError(f"add takes two registers, or sp and a number: use adds for {d}.")

    def add_sp(self, d: Register, value: int) -> None:
        """d = sp + value."""
        self._low("add", d)
        self._emit(0xA800 | d.number << 8 | self._number("add", value, 1020, 4))

    def _sum(self, name: Name, opcode: int, d: Register, n: Register, m: "Register | int") -> None:
        self._low(name, d, n)
        if isinstance(m, Register):
            self._low(name, m)
            self._emit(0x1800 | opcode << 9 | m.number << 6 | n.number << 3 | d.number)
        elif d == n and m > 7:
            self._emit(0x3000 | opcode << 11 | d.number << 8 | self._number(name, m, 255))
        else:
            value = self._number(name, m, 7)
            self._emit(0x1C00 | opcode << 9 | value << 6 | n.number << 3 | d.number)

    def adds(self, d: Register, n: Register, m: "Register | int") -> None:
        self._sum("adds", 0, d, n, m)

    def subs(self, d: Register, n: Register, m: "Register | int") -> None:
        self._sum("subs", 1, d, n, m)

    def cmp(self, n: Register, m: "Register | int") -> None:
        if not isinstance(m, Register):
            self._low("cmp", n)
            self._emit(0x2800 | n.number << 8 | self._number("cmp", m, 255))
        elif n.low and m.low:
            self._emit(0x4280 | m.number << 3 | n.number)
        elif pc in (n, m):
            raise ValueError(f"cmp cannot take pc and got {n}, {m}.")
        else:
            self._high(0x4500, n, m)

    def _two(self, name: Name, opcode: int, d: Register, m: Register) -> None:
        self._low(name, d, m)
        self._emit(0x4000 | opcode << 6 | m.number << 3 | d.number)

    def ands(self, d: Register, m: Register) -> None:
        self._two("ands", 0, d, m)

    def eors(self, d: Register, m: Register) -> None:
        self._two("eors", 1, d, m)

    def adcs(self, d: Register, m: Register) -> None:
        self._two("adcs", 5, d, m)

    def sbcs(self, d: Register, m: Register) -> None:
        self._two("sbcs", 6, d, m)

    def tst(self, d: Register, m: Register) -> None:
        self._two("tst", 8, d, m)

    def rsbs(self, d: Register, m: Register) -> None:
        """d = -m."""
        self._two("rsbs", 9, d, m)

    def orrs(self, d: Register, m: Register) -> None:
        self._two("orrs", 12, d, m)

    def muls(self, d: Register, m: Register) -> None:
        self._two("muls", 13, d, m)

    def bics(self, d: Register, m: Register) -> None:
        self._two("bics", 14, d, m)

    def mvns(self, d: Register, m: Register) -> None:
        self._two("mvns", 15, d, m)

    def _shift(
        self, name: Name, opcode: int, d: Register, m: Register, by: "int | Register"
    ) -> None:
        self._low(name, d, m)
        if isinstance(by, Register):
            if d != m:
                raise ValueError(f"{name} by a register shifts in place and got {d}, {m}.")
            self._two(name, opcode + 2 if opcode < 2 else 4, d, by)
            return
        if opcode == 0:
            by = self._number(name, by, 31)
        elif not 1 <= by <= 32:
            raise ValueError(f"{name} takes 1 to 32 and got {by}.")
        self._emit(opcode << 11 | (by & 31) << 6 | m.number << 3 | d.number)

    def lsls(self, d: Register, m: Register, by: "int | Register") -> None:
        self._shift("lsls", 0, d, m, by)

    def lsrs(self, d: Register, m: Register, by: "int | Register") -> None:
        self._shift("lsrs", 1, d, m, by)

    def asrs(self, d: Register, m: Register, by: "int | Register") -> None:
        self._shift("asrs", 2, d, m, by)

    def _extend(self, name: Name, opcode: int, d: Register, m: Register) -> None:
        self._low(name, d, m)
        self._emit(opcode | m.number << 3 | d.number)

    def sxth(self, d: Register, m: Register) -> None:
        self._extend("sxth", 0xB200, d, m)

    def sxtb(self, d: Register, m: Register) -> None:
        self._extend("sxtb", 0xB240, d, m)

    def uxth(self, d: Register, m: Register) -> None:
        self._extend("uxth", 0xB280, d, m)

    def uxtb(self, d: Register, m: Register) -> None:
        self._extend("uxtb", 0xB2C0, d, m)

    # Memory. The offset is a number of bytes, or a register.

    def _access(
        self,
        name: Name,
        by_number: "tuple[int, int] | None",
        by_register: int,
        t: Register,
        n: Register,
        m: "Register | int",
    ) -> None:
        self._low(name, t)
        if isinstance(m, Register):
            self._low(name, n, m)
            self._emit(0x5000 | by_register << 9 | m.number << 6 | n.number << 3 | t.number)
        elif by_number is None:
            raise ValueError(f"{name} takes a register as its offset and got {m}.")
        else:
            self._low(name, n)
            opcode, step = by_number
            value = self._number(name, m, 31 * step, step)
            self._emit(opcode | value << 6 | n.number << 3 | t.number)

    def ldr(self, t: Register, n: Register, m: "Register | int" = 0) -> None:
        if n == sp and isinstance(m, int):
            self._low("ldr", t)
            self._emit(0x9800 | t.number << 8 | self._number("ldr", m, 1020, 4))
        else:
            self._access("ldr", (0x6800, 4), 4, t, n, m)

    def str(self, t: Register, n: Register, m: "Register | int" = 0) -> None:
        if n == sp and isinstance(m, int):
            self._low("str", t)
            self._emit(0x9000 | t.number << 8 | self._number("str", m, 1020, 4))
        else:
            self._access("str", (0x6000, 4), 0, t, n, m)

    def ldrb(self, t: Register, n: Register, m: "Register | int" = 0) -> None:
        self._access("ldrb", (0x7800, 1), 6, t, n, m)

    def strb(self, t: Register, n: Register, m: "Register | int" = 0) -> None:
        self._access("strb", (0x7000, 1), 2, t, n, m)

    def ldrh(self, t: Register, n: Register, m: "Register | int" = 0) -> None:
        self._access("ldrh", (0x8800, 2), 5, t, n, m)

    def strh(self, t: Register, n: Register, m: "Register | int" = 0) -> None:
        self._access("strh", (0x8000, 2), 1, t, n, m)

    def ldrsb(self, t: Register, n: Register, m: Register) -> None:
        self._access("ldrsb", None, 3, t, n, m)

    def ldrsh(self, t: Register, n: Register, m: Register) -> None:
        self._access("ldrsh", None, 7, t, n, m)

    def ldmia(self, n: Register, *registers: Register) -> None:
        self._low("ldmia", n)
        self._emit(0xC800 | n.number << 8 | self._list("ldmia", registers))

    def stmia(self, n: Register, *registers: Register) -> None:
        if n in registers:
            raise ValueError(f"stmia {n} writes {n} back and cannot store it.")
        self._low("stmia", n)
        self._emit(0xC000 | n.number << 8 | self._list("stmia", registers))

    def push(self, *registers: Register) -> None:
        self._emit(0xB400 | self._list("push", registers, lr))

    def pop(self, *registers: Register) -> None:
        self._emit(0xBC00 | self._list("pop", registers, pc))

    # Jumps.

    def b(self, target: Name, condition: "Name | None" = None, far: bool = False) -> None:
        """Jump to a label, always or on one of CONDITIONS. far: conditionally to any distance, and
        lr is lost."""
        if condition is None:
            self._items.append(Branch(-1, target))
        elif condition not in CONDITIONS:
            raise ValueError(f"b takes one of {', '.join(CONDITIONS)} and got {condition}.")
        else:
            self._items.append(Branch(CONDITIONS[condition], target, far=far))

    def bl(self, target: Name) -> None:
        self._items.append(Branch(-1, target, link=True))

    def _exchange(self, name: Name, opcode: int, m: Register) -> None:
        if m == pc:  # whose lowest bit is 0, as of code that is not Thumb
            raise ValueError(f"{name} cannot take pc.")
        self._emit(opcode | m.number << 3)

    def bx(self, m: Register) -> None:
        self._exchange("bx", 0x4700, m)

    def blx(self, m: Register) -> None:
        self._exchange("blx", 0x4780, m)

    def nop(self) -> None:
        self._emit(0xBF00)
