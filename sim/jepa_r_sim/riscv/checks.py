"""What every instruction must do, as assertions about the core's port for verification.

In the manner of riscv-formal, from the text of the standard: each instruction has a check of its
own, which looks at one instruction; others look at how they follow each other and at the bus. All
inputs of the core are free, reset and the answers of the bus included. The checks are bounded: from
reset, for as many cycles as one instruction and a jump or an interrupt before it take.

Two parts of the core are replaced for most checks. Registers read as anything
(:class:`AnyRegisters`), so that the first instruction has any operands; that they keep what is
written to them is :class:`RegisterCheck`, with the real ones. Products and quotients are not within
reach of a solver at 32 bits, so the unit that makes them is a shorter one that does something
simple (:class:`AlternativeMulDiv`): the checks show that the right operands get to the right
operation and its result to the right place. The unit itself is simulated, at a small width with all
operands.
"""

from collections.abc import Callable, Iterable

from amaranth import *
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from attrs import frozen

from jepa_r.safety.core import Core

from ..formal import free_inputs
from ..golden.riscv import Cause, Csr
from .encoding import BRANCHES, CSRS, IMMEDIATES, LOADS, REGISTERS, SHIFTS, STORES, encode

__all__ = [
    "GROUPS",
    "AlternativeMulDiv",
    "AnyRegisters",
    "BusChecks",
    "CheckedCore",
    "InstructionChecks",
    "RegisterCheck",
    "SequenceChecks",
]

_PRODUCTS = [name for name, (funct7, _funct3) in REGISTERS.items() if funct7 == 1]
_SYSTEM = ["fence", "fence.i", "wfi", "ecall", "ebreak", "mret"]

#: Instructions whose checks are proved together.
GROUPS: dict[str, list[str]] = {
    "registers": [name for name in REGISTERS if name not in _PRODUCTS],
    "immediates": [*IMMEDIATES, *SHIFTS, "lui", "auipc"],
    "jumps": ["jal", "jalr", *BRANCHES],
    "loads": list(LOADS),
    "stores": list(STORES),
    "products": _PRODUCTS,
    "system": [*_SYSTEM, *CSRS],
}

#: Constants that tell the operations apart.
_ALTERNATIVES = [
    0x5876063E, 0xF6583FB7, 0xECFBE137, 0x949CE5E8, 0x7F8529EC, 0x10E8FD70, 0x8DA68FA5, 0x3138D0E1,
]  # fmt: skip


class AnyRegisters(wiring.Component):
    """Stands for :class:`jepa_r.safety.registers.RegisterFile`: reads as anything, ``x0`` as 0."""

    first_addr: In(5)
    second_addr: In(5)
    first: Out(32)
    second: Out(32)
    w_en: In(1)
    w_addr: In(5)
    w_data: In(32)

    def elaborate(self, platform):
        m = Module()
        for address, value in ((self.first_addr, self.first), (self.second_addr, self.second)):
            m.d.comb += value.eq(Mux(address.any(), AnySeq(32), 0))
        return m


class AlternativeMulDiv(wiring.Component):
    """Stands for :class:`jepa_r.safety.muldiv.MulDiv`: other operations, in two cycles."""

    start: In(1)
    function: In(3)
    a: In(32)
    b: In(32)
    done: Out(1)
    result: Out(32)

    def elaborate(self, platform):
        m = Module()
        a, b, count = Signal(32), Signal(32), Signal(2)
        m.d.sync += count.eq(count + 1)
        with m.If(self.start):
            m.d.sync += [a.eq(self.a), b.eq(self.b), count.eq(0)]
        m.d.comb += [self.done.eq(count == 1), self.result.eq(_alternative(a, b, self.function))]
        return m


class CheckedCore(Core):
    """The core with the simpler parts."""

    register_file = AnyRegisters
    muldiv = AlternativeMulDiv


class _RegisterCore(Core):
    """The core with its own registers and the simpler unit."""

    muldiv = AlternativeMulDiv


def _alternative(a: Value, b: Value, function: Value) -> Value:
    return ((a - b) ^ Array(C(value, 32) for value in _ALTERNATIVES)[function])[:32]


#: Values of operations of two operands.
_OPERATIONS: dict[str, Callable[[Value, Value], Value]] = {
    "add": lambda a, b: (a + b)[:32],
    "sub": lambda a, b: (a - b)[:32],
    "sll": lambda a, b: (a << b[:5])[:32],
    "slt": lambda a, b: Cat(a.as_signed() < b.as_signed(), C(0, 31)),
    "sltu": lambda a, b: Cat(a < b, C(0, 31)),
    "xor": lambda a, b: a ^ b,
    "srl": lambda a, b: a >> b[:5],
    "sra": lambda a, b: (a.as_signed() >> b[:5])[:32],
    "or": lambda a, b: a | b,
    "and": lambda a, b: a & b,
}

_CONDITIONS: dict[str, Callable[[Value, Value], Value]] = {
    "beq": lambda a, b: a == b,
    "bne": lambda a, b: a != b,
    "blt": lambda a, b: a.as_signed() < b.as_signed(),
    "bge": lambda a, b: a.as_signed() >= b.as_signed(),
    "bltu": lambda a, b: a < b,
    "bgeu": lambda a, b: a >= b,
}


@frozen(kw_only=True)
class _Expected:
    """What an instruction must do.

    Attributes
    ----------
    reads
        How many registers it reads.
    value
        What ``rd`` gets; ``None``: it has none, or it does not matter.
    writes
        Whether it has an ``rd``.
    next_pc
        Where it goes; ``None``: it does not matter.
    trap, cause
        Whether it must trap, and with which cause; ``None``: it does not matter.
    read, written
        Masks of the bytes.
    address
        Of the access.
    stored
        The word whose bytes are written.
    """

    reads: int = 0
    value: Value | None = None
    writes: bool = True
    next_pc: Value | None = None
    trap: Value | None = None
    cause: Value | int | None = None
    read: Value | int = 0
    written: Value | int = 0
    address: Value | None = None
    stored: Value | None = None


class _Specification(Elaboratable):
    """A core with free inputs, and what its bus did for the instruction that is told."""

    def __init__(self, core: Core | None = None):
        # An address with bits of both kinds in all of the places that sums carry through.
        self.core = CheckedCore(reset_vector=0x9ABCDEF0, rvfi=True) if core is None else core

    def elaborate(self, platform):
        m = Module()
        m.submodules.core = core = self.core
        free_inputs(m, core)
        self.rvfi = core.rvfi
        self._watch(m)
        self.check(m)
        return m

    def check(self, m: Module) -> None:
        """Say what must hold."""
        raise NotImplementedError

    def _watch(self, m: Module) -> None:
        core = self.core
        #: Of the last fetch: its address, and how it was answered.
        self.fetch_address, self.fetched = Signal(32), Signal(32)
        self.fetch_refused = Signal()
        #: Of the load and the store since then: whether there was one, and the same.
        self.loads, self.load_address, self.loaded = Signal(), Signal(32), Signal(32)
        self.stores, self.store_address, self.stored = Signal(), Signal(32), Signal(32)
        self.refused = Signal()
        fetch, data = Signal(Core.BUS_LATENCY), Signal(Core.BUS_LATENCY)
        m.d.sync += [
            fetch.eq(Cat(core.bus_en & core.bus_fetch, fetch)),
            data.eq(Cat(core.bus_en & ~core.bus_fetch, data)),
        ]
        with m.If(fetch[-1]):
            m.d.sync += [self.fetched.eq(core.bus_rdata), self.fetch_refused.eq(core.bus_error)]
        with m.If(data[-1]):
            m.d.sync += self.refused.eq(core.bus_error)
            with m.If(~core.bus_write):
                m.d.sync += self.loaded.eq(core.bus_rdata)
        with m.If(core.bus_en):
            with m.If(core.bus_fetch):
                m.d.sync += [
                    self.fetch_address.eq(core.bus_addr),
                    self.loads.eq(0),
                    self.stores.eq(0),
                    self.refused.eq(0),
                ]
            with m.Elif(core.bus_write):
                m.d.sync += [
                    self.stores.eq(1),
                    self.store_address.eq(core.bus_addr),
                    self.stored.eq(core.bus_wdata),
                ]
            with m.Else():
                m.d.sync += [self.loads.eq(1), self.load_address.eq(core.bus_addr)]


class InstructionChecks(_Specification):
    """Each of the named instructions does what the standard says.

    Parameters
    ----------
    names
        Instructions.
    core
        The core, if it is not :class:`CheckedCore`.
    """

    #: Cycles: a jump, and an instruction of one cycle; or ``sb``, and what tells it.
    DEPTH = 15

    def __init__(self, names: Iterable[str], core: Core | None = None):
        super().__init__(core)
        self._names = list(names)

    def check(self, m):
        for name in self._names:
            self._instruction(m, name)

    def _instruction(self, m, name):
        rvfi = self.rvfi
        word, told = rvfi.insn, Signal(name=f"told_{name}")
        m.d.comb += told.eq(rvfi.valid & _matches(name, word))
        expected = self._expected(name)
        rd = word[7:12] if expected.writes else C(0, 5)
        right = []
        if expected.reads >= 1:
            right.append(rvfi.rs1_addr == word[15:20])
        if expected.reads >= 2:
            right.append(rvfi.rs2_addr == word[20:25])
        if expected.trap is not None:
            right.append(rvfi.trap == expected.trap)
        if expected.cause is not None:
            right.append(~rvfi.trap | (self.core.trap_cause == expected.cause))
        done = [
            rvfi.rd_addr == rd,
            rvfi.mem_rmask == expected.read,
            rvfi.mem_wmask == expected.written,
        ]
        if expected.value is not None:
            done.append(rvfi.rd_wdata == Mux(rd.any(), expected.value, 0))
        if expected.next_pc is not None:
            done.append(rvfi.pc_wdata == expected.next_pc)
        if expected.address is not None:
            done.append(rvfi.mem_addr == Cat(C(0, 2), expected.address[2:]))
        if expected.stored is not None:
            for n in range(4):
                place = slice(8 * n, 8 * n + 8)
                same = rvfi.mem_wdata[place] == expected.stored[place]
                done.append(~rvfi.mem_wmask[n] | same)
        nothing = ~(rvfi.rd_addr.any() | rvfi.mem_rmask.any() | rvfi.mem_wmask.any())
        right.append(Mux(rvfi.trap, nothing, Cat(done).all()))
        m.d.comb += Assert(~told | Cat(right).all(), name)

    def _expected(self, name: str) -> _Expected:
        rvfi = self.rvfi
        word, pc, a, b = rvfi.insn, rvfi.pc_rdata, rvfi.rs1_rdata, rvfi.rs2_rdata
        immediate = word[20:].as_signed()
        following = (pc + 4)[:32]
        if name in _OPERATIONS:
            value = _OPERATIONS[name](a, b)
            return _Expected(reads=2, value=value, next_pc=following, trap=C(0))
        if name in _PRODUCTS:
            value = _alternative(a, b, word[12:15])
            return _Expected(reads=2, value=value, next_pc=following, trap=C(0))
        if name in IMMEDIATES or name in SHIFTS:
            # `sltiu` is the one whose letter for the immediate is not the last.
            operation = "sltu" if name == "sltiu" else name.removesuffix("i")
            extended = Cat(immediate, immediate[-1].replicate(20))
            value = _OPERATIONS[operation](a, extended)
            return _Expected(reads=1, value=value, next_pc=following, trap=C(0))
        if name in ("lui", "auipc"):
            upper = Cat(C(0, 12), word[12:])
            value = upper if name == "lui" else (pc + upper)[:32]
            return _Expected(value=value, next_pc=following, trap=C(0))
        if name in ("jal", "jalr"):
            offset = Cat(C(0, 1), word[21:31], word[20], word[12:20], word[31]).as_signed()
            target = (pc + offset)[:32]
            if name == "jalr":
                target = (a + immediate)[:32] & 0xFFFFFFFE
            return _Expected(
                reads=int(name == "jalr"), value=following, next_pc=target,
                trap=target[:2].any(), cause=Cause.FETCH_MISALIGNED.value,
            )  # fmt: skip
        if name in BRANCHES:
            offset = Cat(C(0, 1), word[8:12], word[25:31], word[7], word[31]).as_signed()
            target = Mux(_CONDITIONS[name](a, b), (pc + offset)[:32], following)
            return _Expected(
                reads=2, writes=False, next_pc=target,
                trap=target[:2].any(), cause=Cause.FETCH_MISALIGNED.value,
            )  # fmt: skip
        if name in LOADS:
            return self._expected_load(name, (a + immediate)[:32], following)
        if name in STORES:
            address = (a + Cat(word[7:12], word[25:]).as_signed())[:32]
            return self._expected_store(name, address, b, following)
        if name in CSRS:
            return self._expected_csr(name, following)
        if name in ("ecall", "ebreak"):
            cause = Cause.ECALL if name == "ecall" else Cause.BREAKPOINT
            return _Expected(writes=False, trap=C(1), cause=cause.value)
        target = None if name == "mret" else following
        return _Expected(writes=False, next_pc=target, trap=C(0))

    def _expected_load(self, name, address, following):
        size = {"b": 1, "h": 2, "w": 4}[name[1]]
        misaligned = (address & size - 1).any()
        shifted = self.rvfi.mem_rdata >> (address[:2] << 3)
        part = shifted[: 8 * size]
        fill = C(0, 1) if name.endswith("u") else part[-1]
        return _Expected(
            reads=1, value=Cat(part, fill.replicate(32 - 8 * size)), next_pc=following,
            trap=misaligned | self.refused,
            cause=Mux(misaligned, Cause.LOAD_MISALIGNED.value, Cause.LOAD_FAULT.value),
            read=(C((1 << size) - 1, 4) << address[:2])[:4], address=address,
        )  # fmt: skip

    def _expected_store(self, name, address, b, following):
        size = {"b": 1, "h": 2, "w": 4}[name[1]]
        misaligned = (address & size - 1).any()
        return _Expected(
            reads=2, writes=False, next_pc=following,
            trap=misaligned | self.refused,
            cause=Mux(misaligned, Cause.STORE_MISALIGNED.value, Cause.STORE_FAULT.value),
            written=(C((1 << size) - 1, 4) << address[:2])[:4], address=address,
            stored=(b << (address[:2] << 3))[:32],
        )  # fmt: skip

    def _expected_csr(self, name, following):
        """Which accesses are legal; what the registers hold is not known here."""
        word = self.rvfi.insn
        exists = Cat(word[20:] == number.value for number in Csr).any()
        writes = C(1) if name in ("csrrw", "csrrwi") else word[15:20].any()
        return _Expected(
            reads=int(not name.endswith("i")), next_pc=following,
            trap=~exists | writes & (word[30:] == 3), cause=Cause.ILLEGAL.value,
        )  # fmt: skip


class SequenceChecks(_Specification):
    """How instructions follow each other, and that nothing but instructions retires."""

    #: Cycles, and the most cycles from one instruction told to the next: of the longest one,
    #: ``sb``, its trap, and an interrupt before it.
    DEPTH = 20
    LONGEST = 13 + Core.TRAP_CYCLES + Core.INTERRUPT_CYCLES

    def check(self, m):
        rvfi = self.rvfi
        known = [_matches(name, rvfi.insn) for names in GROUPS.values() for name in names]
        legal = Signal()
        m.d.comb += legal.eq(Cat(known).any())
        last_order, last_pc, last_trap = Signal(64), Signal(32), Signal()
        some, age = Signal(), Signal(range(64))
        m.d.sync += age.eq(age + (age != 63))
        with m.If(rvfi.valid):
            m.d.sync += [
                last_order.eq(rvfi.order),
                last_pc.eq(rvfi.pc_wdata),
                last_trap.eq(rvfi.trap),
                some.eq(1),
                age.eq(0),
            ]
        after = rvfi.valid & some
        interrupt = rvfi.intr & ~last_trap
        statements = {
            "x0 is never written": ~rvfi.valid | rvfi.rd_addr.any() | ~rvfi.rd_wdata.any(),
            "x0 reads 0": ~rvfi.valid
            | (rvfi.rs1_addr.any() | ~rvfi.rs1_rdata.any())
            & (rvfi.rs2_addr.any() | ~rvfi.rs2_rdata.any()),
            "order counts": ~after | (rvfi.order == (last_order + 1)[:64]),
            "the next instruction is where the last one went": ~after
            | interrupt
            | (rvfi.pc_rdata == last_pc),
            "a trap is followed by its handler": ~after | ~last_trap | rvfi.intr,
            "a trap tells itself, and only a trap": self.core.trap == (rvfi.valid & rvfi.trap),
            "no other word retires": ~rvfi.valid | rvfi.trap | legal,
            "another word is illegal": ~rvfi.valid
            | legal
            | self.fetch_refused
            | (self.core.trap_cause == Cause.ILLEGAL.value),
            "instructions end": age <= self.LONGEST,
        }
        m.d.comb += [Assert(statement, name) for name, statement in statements.items()]


class BusChecks(_Specification):
    """What is told of fetches, loads and stores is what the bus did; stores keep their distance."""

    DEPTH = 20

    def check(self, m):
        core, rvfi = self.core, self.rvfi
        since = Signal(range(16), init=15)
        m.d.sync += since.eq(since + (since != 15))
        with m.If(core.bus_en & core.bus_write):
            m.d.sync += since.eq(1)
        reads, writes = rvfi.mem_rmask.any(), rvfi.mem_wmask.any()
        partial = writes & ~rvfi.mem_wmask.all()
        merged = Cat(
            Mux(rvfi.mem_wmask[n], rvfi.mem_wdata, self.loaded)[8 * n : 8 * n + 8] for n in range(4)
        )
        last_en = Signal()
        m.d.sync += last_en.eq(core.bus_en)
        statements = {
            "addresses are of words": ~core.bus_addr[:2].any(),
            "a request is one cycle": ~(core.bus_en & last_en),
            "a fetch is no store": ~(core.bus_fetch & core.bus_write),
            "the word is that of its address": ~rvfi.valid
            | self.fetch_refused
            | (rvfi.insn == self.fetched) & (rvfi.pc_rdata == self.fetch_address),
            "a refused fetch traps": ~(rvfi.valid & self.fetch_refused)
            | rvfi.trap & (core.trap_cause == Cause.FETCH_FAULT.value),
            "a refused load or store traps": ~(rvfi.valid & self.refused) | rvfi.trap,
            "a load is what the bus read": ~(rvfi.valid & reads)
            | self.loads & (rvfi.mem_addr == self.load_address) & (rvfi.mem_rdata == self.loaded),
            "a store is what the bus wrote": ~(rvfi.valid & writes)
            | self.stores & (rvfi.mem_addr == self.store_address) & (self.stored == merged),
            "a part is merged into its word": ~(rvfi.valid & partial)
            | self.loads & (self.load_address == self.store_address),
            "nothing else is written": ~(rvfi.valid & self.stores) | writes | self.refused,
            "nothing else is read": ~(rvfi.valid & self.loads) | reads | partial | self.refused,
            "stores keep their distance": ~(core.bus_en & ~core.bus_fetch)
            | (since >= Core.STORE_TO_LOAD),
        }
        m.d.comb += [Assert(statement, name) for name, statement in statements.items()]


class RegisterCheck(_Specification):
    """Any one register reads as what was last written to it; 0 after reset. Bounded."""

    DEPTH = 19

    def __init__(self, core: Core | None = None):
        super().__init__(_RegisterCore(rvfi=True) if core is None else core)

    def check(self, m):
        rvfi, number, value = self.rvfi, AnyConst(5), Signal(32)
        with m.If(rvfi.valid & (rvfi.rd_addr == number)):
            m.d.sync += value.eq(rvfi.rd_wdata)
        m.d.comb += [
            Assert(~rvfi.valid | (rvfi.rs1_addr != number) | (rvfi.rs1_rdata == value), "rs1"),
            Assert(~rvfi.valid | (rvfi.rs2_addr != number) | (rvfi.rs2_rdata == value), "rs2"),
        ]


def _matches(name: str, word: Value) -> Value:
    """Whether a word is of this instruction. Fields that a fence ignores may be anything."""
    if name in ("wfi", "ecall", "ebreak", "mret"):
        return word == encode(name)
    mask = 0x7F
    if name not in ("lui", "auipc", "jal"):
        mask |= 0x7000
    if name in REGISTERS or name in SHIFTS:
        mask |= 0xFE000000
    return (word & mask) == (encode(name) & mask)
