"""Random programs for the island's processor, whatever a program may do to it included.

A program is a list of *blocks* of one to eight instructions that are entered at their first one
only: jumps and branches go forward to another block, so every program comes to its end, where it
begins anew. All registers are free but ``x30`` and ``x31``, which the handlers use, and ``x1`` in a
jump out of the memory, behind which the handler returns to it.
"""

import random
from collections.abc import Callable

from attrs import frozen

from .encoding import BRANCHES, CSRS, IMMEDIATES, LOADS, REGISTERS, SHIFTS, STORES, encode
from .trace import Levels, Window

__all__ = ["CODE_BYTES", "DATA_BASE", "DATA_BYTES", "RandomProgram", "random_program"]

#: The island's memory map, without its registers.
CODE_BYTES, DATA_BASE, DATA_BYTES = 0x4000, 0x1_0000, 0x2000

#: Operands at which sums, comparisons, products and quotients change their ways.
_EDGES = [
    0, 1, 2, 3, 4, 31, 32, 33, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x1_0000,
    0x7FFF_FFFE, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, 0xFFFF_8000, 0xFFFF_FF80,
    0xFFFF_FFFE, 0xFFFF_FFFF, 0xAAAA_AAAA, 0x5555_5555,
]  # fmt: skip

_FREE = [n for n in range(32) if n not in (30, 31)]

#: Registers that any value may be written to without a program losing its way, and others that
#: exist; the rest of the numbers traps.
_WRITABLE = [0x300, 0x304, 0x340, 0x341, 0x342, 0x343, 0xB00, 0xB02, 0xB80, 0xB82]
_CONSTANT = [0x301, 0x310, 0x344, 0x7A0, 0x7A1, 0x7A2]
_READ_ONLY = [0xC00, 0xC02, 0xC80, 0xC82, 0xF11, 0xF12, 0xF13, 0xF14, 0xF15]
_ABSENT = [
    0x000, 0x003, 0x100, 0x302, 0x303, 0x306, 0x320, 0x345, 0x3A0, 0x7A4, 0x7B0, 0xB01, 0xB03,
    0xC01, 0xC03, 0xF10, 0xF16, 0xFFF,
]  # fmt: skip
_MTVEC, _MEPC, _MCAUSE, _MTVAL, _MSTATUS, _MIE = 0x305, 0x341, 0x342, 0x343, 0x300, 0x304

#: Handlers, entered through a jump each in the words behind the reset vector, where ``csrrwi``
#: reaches them.
_HANDLERS = 4


@frozen(kw_only=True)
class RandomProgram:
    """A program and what happens around it.

    Attributes
    ----------
    windows
        Code, that is not stored to, and data, that is not fetched.
    levels
        Levels of the interrupts.
    """

    windows: tuple[Window, ...]
    levels: tuple[Levels, ...]


def random_program(seed: int, *, instructions: int = 3000) -> RandomProgram:
    """Make a program that runs through about so many instructions before it repeats itself."""
    return _Writer(random.Random(seed)).program(instructions)


class _Writer:
    """Writes blocks."""

    def __init__(self, rng: random.Random):
        self._rng = rng
        self._blocks: dict[Callable[[], list[int]], int] = {
            self._constant: 12,
            self._arithmetic: 40,
            self._access: 20,
            self._refused_access: 3,
            self._refused_jump: 2,
            self._register_jump: 4,
            self._backward: 3,
            self._csr: 12,
            self._vector: 2,
            self._interrupts: 4,
            self._return: 2,
            self._illegal: 4,
            self._system: 4,
        }

    def program(self, instructions: int) -> RandomProgram:
        rng = self._rng
        words = [0] * (1 + _HANDLERS)
        for n in range(1, 1 + _HANDLERS):
            words[n] = encode("jal", imm=4 * (len(words) - n))
            words += self._handler(n)
        words[0] = encode("jal", imm=4 * len(words))
        words += [encode("csrrwi", rs1=4, csr=_MTVEC)]
        for register in _FREE:
            words += self._load_constant(register, rng.getrandbits(32))
        first = len(words)
        blocks = rng.choices(list(self._blocks), list(self._blocks.values()), k=instructions)
        starts: list[int] = []
        forward: list[int] = []
        for block in blocks:
            if len(words) - first >= instructions:
                break
            starts.append(len(words))
            if rng.random() < 0.15:
                # A jump or branch whose target, a later block, is not known yet.
                forward.append(len(words))
                words.append(0)
            else:
                words += block()
        starts.append(len(words))
        words += self._far_jump(first - len(words))
        for place in forward:
            later = [start for start in starts if place < start <= place + 40]
            words[place] = self._forward(4 * (rng.choice(later) - place))
        code = b"".join(word.to_bytes(4, "little") for word in words)
        return RandomProgram(
            windows=(
                Window(base=0, size=CODE_BYTES, store=False, contents=code),
                Window(
                    base=DATA_BASE, size=DATA_BYTES, fetch=False,
                    contents=rng.randbytes(DATA_BYTES),
                ),
            ),
            levels=tuple(
                Levels(after, rng.random() < 0.5, rng.random() < 0.5)
                for after in sorted(rng.sample(range(2 * instructions), instructions // 15))
            ),
        )  # fmt: skip

    def _handler(self, variant: int) -> list[int]:
        """Go on behind the instruction that trapped, or behind the jump to nowhere."""
        quiet = encode("csrrwi", rs1=0, csr=_MIE)
        extra = {
            1: [],
            2: [encode("csrrs", rd=30, csr=_MTVAL)],
            3: [encode("csrrs", rd=30, csr=_MSTATUS), encode("csrrs", rd=30, csr=0x344)],
            4: [encode("csrrs", rd=30, csr=0xB02), encode("csrrw", rd=30, rs1=30, csr=0x340)],
        }[variant]
        return [
            *extra,
            encode("csrrs", rd=31, csr=_MCAUSE),
            encode("bge", rs1=31, imm=12),
            quiet,  # the wire keeps its level
            encode("mret"),
            encode("addi", rd=31, rs1=31, imm=-1),
            encode("beq", rs1=31, imm=20),
            encode("csrrs", rd=31, csr=_MEPC),
            encode("addi", rd=31, rs1=31, imm=4),
            encode("csrrw", rs1=31, csr=_MEPC),
            encode("mret"),
            encode("csrrw", rs1=1, csr=_MEPC),
            encode("mret"),
        ]

    def _register(self) -> int:
        """Often one of a few, so that instructions depend on those before them."""
        return self._rng.choice(_FREE if self._rng.random() < 0.5 else [0, 5, 6, 7])

    def _load_constant(self, register: int, value: int) -> list[int]:
        upper = (value + 0x800 >> 12) & 0xFFFFF
        return [
            encode("lui", rd=register, imm=upper),
            encode("addi", rd=register, rs1=register, imm=value & 0xFFF),
        ]

    def _far_jump(self, words: int) -> list[int]:
        return [encode("jal", imm=4 * words)]

    def _forward(self, offset: int) -> int:
        rng = self._rng
        if rng.random() < 0.1:
            offset -= 2  # misaligned: traps if it is taken
        if rng.random() < 0.3:
            return encode("jal", rd=self._register(), imm=offset)
        name = rng.choice(list(BRANCHES))
        return encode(name, rs1=self._register(), rs2=self._register(), imm=offset)

    def _constant(self) -> list[int]:
        return self._load_constant(self._register(), self._rng.choice(_EDGES))

    def _arithmetic(self) -> list[int]:
        rng = self._rng
        name = rng.choice([*REGISTERS, *IMMEDIATES, *SHIFTS, "lui", "auipc"])
        if name in SHIFTS:
            imm = rng.choice([0, 1, 31, rng.randrange(32)])
        elif name in IMMEDIATES:
            imm = rng.choice([0, 1, -1, 2047, -2048, rng.randrange(-2048, 2048)])
        else:
            imm = rng.getrandbits(20)
        rs1 = self._register()
        rs2 = rs1 if rng.random() < 0.1 else self._register()
        return [encode(name, rd=self._register(), rs1=rs1, rs2=rs2, imm=imm)]

    def _access(self) -> list[int]:
        """A base in the data, and loads and stores around it, often to the same words."""
        rng = self._rng
        base = rng.choice([n for n in _FREE if n])
        middle = DATA_BASE + rng.choice([0x800, DATA_BYTES - 0x800, rng.randrange(0x800, 0x1800)])
        words = self._load_constant(base, middle)
        near = rng.randrange(-2048, 2040)
        for _ in range(rng.randint(1, 5)):
            imm = near + rng.randrange(8) if rng.random() < 0.7 else rng.randrange(-2048, 2048)
            if rng.random() < 0.5:
                name, rd = rng.choice(list(LOADS)), rng.choice([n for n in _FREE if n != base])
                words.append(encode(name, rd=rd, rs1=base, imm=imm))
            else:
                name = rng.choice(list(STORES))
                words.append(encode(name, rs1=base, rs2=self._register(), imm=imm))
        return words

    def _refused_access(self) -> list[int]:
        """Stores to the code, loads of it, and anything beyond the ends of the windows."""
        rng = self._rng
        base = rng.choice([n for n in _FREE if n])
        end = rng.choice([0, CODE_BYTES, DATA_BASE, DATA_BASE + DATA_BYTES, rng.getrandbits(32)])
        name, imm = rng.choice([*LOADS, *STORES]), rng.randrange(-8, 8)
        return [
            *self._load_constant(base, end),
            encode(name, rd=self._register(), rs1=base, rs2=self._register(), imm=imm),
        ]

    def _refused_jump(self) -> list[int]:
        rng = self._rng
        if rng.random() < 0.3:
            return [encode("jal", rd=1, imm=rng.choice([0x8_0000, -0x8_0000]))]
        base = rng.choice([n for n in _FREE if n])
        target = rng.choice([CODE_BYTES, DATA_BASE, 0xFFFF_FFFC, 0x8000_0000])
        return [*self._load_constant(base, target), encode("jalr", rd=1, rs1=base)]

    def _register_jump(self) -> list[int]:
        """To the end of the block: straight, with the lowest bit set, or misaligned."""
        rng = self._rng
        base = rng.choice([n for n in _FREE if n])
        imm = 12 + rng.choice([0, 0, 1, 2, 3])
        return [
            encode("auipc", rd=base),
            encode("jalr", rd=self._register(), rs1=base, imm=imm),
            encode("addi", rd=self._register(), rs1=self._register(), imm=1),
        ]

    def _backward(self) -> list[int]:
        rng = self._rng
        back = encode("jal", rd=self._register(), imm=-4)
        if rng.random() < 0.7:
            name = rng.choice(list(BRANCHES))
            back = encode(name, rs1=self._register(), rs2=self._register(), imm=-4)
        return [encode("jal", imm=8), encode("jal", imm=8), back]

    def _csr(self) -> list[int]:
        rng = self._rng
        rd, rs1 = self._register(), self._register()
        name = rng.choice(list(CSRS))
        groups = [_WRITABLE, _CONSTANT, _READ_ONLY, _ABSENT, [_MTVEC]]
        group = rng.choices(groups, [8, 2, 2, 1, 1])[0]
        if group == [_MTVEC]:
            # Its two low bits alone, which are not there.
            name, rs1 = rng.choice(["csrrsi", "csrrci"]), rng.randrange(4)
        elif group == _READ_ONLY and rng.random() < 0.7:
            name, rs1 = rng.choice(["csrrs", "csrrc", "csrrsi", "csrrci"]), 0
        return [encode(name, rd=rd, rs1=rs1, csr=rng.choice(group))]

    def _vector(self) -> list[int]:
        rng = self._rng
        address = 4 * rng.randint(1, _HANDLERS) + rng.randrange(4)
        return [encode("csrrwi", rd=self._register(), rs1=address, csr=_MTVEC)]

    def _interrupts(self) -> list[int]:
        rng = self._rng
        register = rng.choice([n for n in _FREE if n])
        return [
            *self._load_constant(register, rng.choice([0x80, 0x800, 0x880])),
            encode(rng.choice(["csrrw", "csrrs"]), rd=self._register(), rs1=register, csr=_MIE),
            encode("csrrsi", rd=self._register(), rs1=8, csr=_MSTATUS),
        ]

    def _return(self) -> list[int]:
        """``mret`` outside of a handler; an interrupt in its midst would lead it astray."""
        register = self._rng.choice([n for n in _FREE if n])
        return [
            encode("csrrci", rs1=8, csr=_MSTATUS),
            encode("auipc", rd=register),
            encode("addi", rd=register, rs1=register, imm=16),
            encode("csrrw", rs1=register, csr=_MEPC),
            encode("mret"),
        ]

    def _illegal(self) -> list[int]:
        """Words that are no instruction, of every way to be none."""
        rng = self._rng
        word = rng.getrandbits(32)
        free = word & ~0x7F
        unused = [n for n in range(0x03, 0x80, 4) if n not in _OPCODES]

        def with_funct3(opcode: int, values: list[int]) -> int:
            return free & ~0x7000 | rng.choice(values) << 12 | opcode

        ways = [
            word & ~3 | rng.randrange(3),
            free | rng.choice(unused),
            with_funct3(0x03, [3, 6, 7]),
            with_funct3(0x23, [3, 4, 5, 6, 7]),
            with_funct3(0x63, [2, 3]),
            with_funct3(0x67, [1, 2, 3, 4, 5, 6, 7]),
            with_funct3(0x0F, [2, 3, 4, 5, 6, 7]),
            with_funct3(0x73, [4]),
            # Shifts and operations with an upper part that is none of theirs.
            with_funct3(0x13, [1, 5]) & 0x01FF_FFFF | rng.choice([0x01, 0x02, 0x10, 0x60]) << 25,
            with_funct3(0x13, [1]) & 0x01FF_FFFF | 0x20 << 25,
            free & 0x01FF_FFFF | rng.choice([0x02, 0x04, 0x10, 0x21, 0x40]) << 25 | 0x33,
            with_funct3(0x33, [1, 2, 3, 4, 6, 7]) & 0x01FF_FFFF | 0x20 << 25,
            # ecall and its kin with a bit too many; uret, sret, sfence.vma, dret.
            rng.choice([0x73, 0x00100073, 0x30200073, 0x10500073]) | 1 << rng.randrange(7, 12),
            rng.choice([0x00200073, 0x10200073, 0x12000073, 0x7B200073]),
            rng.choice([0, 0xFFFF_FFFF]),
        ]
        return [rng.choice(ways)]

    def _system(self) -> list[int]:
        return [encode(self._rng.choice(["ecall", "ebreak", "wfi", "fence", "fence.i"]))]


_OPCODES = {0x03, 0x0F, 0x13, 0x17, 0x23, 0x33, 0x37, 0x63, 0x67, 0x6F, 0x73}
