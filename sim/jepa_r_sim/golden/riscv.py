"""Golden model of the island's processor: an instruction-set simulator of RV32IM_Zicsr.

Machine mode only, from the text of the standard: *The RISC-V Instruction Set Manual*, volume I
(RV32I 2.1, M 2.0, Zicsr 2.0, Zifencei 2.0) and volume II (machine level 1.12). It shares nothing
with the hardware. Where the standard leaves a choice, it is this:

* ``mtvec`` has direct mode only; ``mstatus`` holds MIE and MPIE, its MPP is always machine mode.
* ``mtval`` is the address of a misaligned or refused access (of a jump: its target), the word of an
  illegal instruction, the address of an ``ebreak``, and 0 after ``ecall`` and interrupts.
* A store of a byte or half word reads the word, merges and writes it. An error of either access is
  a store access fault.
* Of an access both misaligned and refused, the fault is that it is misaligned.
* ``wfi`` and ``fence`` do nothing.

A translated instruction is a closure that returns the address of the next; closures are kept by
address, and dropped when their word is written.
"""

import heapq
from collections.abc import Callable, Mapping
from enum import IntEnum

from attrs import define, field, frozen

__all__ = ["BusError", "Cause", "Csr", "Machine", "Region", "Retired"]

_MASK = 0xFFFFFFFF
_SIGN = 0x80000000

#: Regions begin and end at multiples of this many bytes.
PAGE_BYTES = 1 << 12

#: Target of what is written to ``x0``: a place behind the registers that nothing reads.
_NOWHERE = 32

#: An access that does not happen: address, masks of bytes read and written, words read and written.
_NO_ACCESS = (0, 0, 0, 0, 0)


class Cause(IntEnum):
    """Values of ``mcause``; interrupts have bit 31 set."""

    FETCH_MISALIGNED = 0
    FETCH_FAULT = 1
    ILLEGAL = 2
    BREAKPOINT = 3
    LOAD_MISALIGNED = 4
    LOAD_FAULT = 5
    STORE_MISALIGNED = 6
    STORE_FAULT = 7
    ECALL = 11
    TIMER = _SIGN | 7
    EXTERNAL = _SIGN | 11


class Csr(IntEnum):
    """Numbers of the control and status registers that exist."""

    MSTATUS = 0x300
    MISA = 0x301
    MIE = 0x304
    MTVEC = 0x305
    MSTATUSH = 0x310
    MSCRATCH = 0x340
    MEPC = 0x341
    MCAUSE = 0x342
    MTVAL = 0x343
    MIP = 0x344
    TSELECT = 0x7A0
    TDATA1 = 0x7A1
    TDATA2 = 0x7A2
    MCYCLE = 0xB00
    MINSTRET = 0xB02
    MCYCLEH = 0xB80
    MINSTRETH = 0xB82
    CYCLE = 0xC00
    INSTRET = 0xC02
    CYCLEH = 0xC80
    INSTRETH = 0xC82
    MVENDORID = 0xF11
    MARCHID = 0xF12
    MIMPID = 0xF13
    MHARTID = 0xF14
    MCONFIGPTR = 0xF15


#: Registers that always read the same; a write to one below ``0xC00`` is ignored.
_CONSTANTS = {
    Csr.MISA: 0x40001100,
    Csr.MSTATUSH: 0,
    Csr.TSELECT: 0,  # there is no trigger
    Csr.TDATA1: 0,
    Csr.TDATA2: 0,
    Csr.MVENDORID: 0,
    Csr.MARCHID: 0,
    Csr.MIMPID: 0,
    Csr.MHARTID: 0,
    Csr.MCONFIGPTR: 0,
}

_MIE_BIT, _MPIE_BIT, _MPP_BITS = 1 << 3, 1 << 7, 3 << 11
_TIMER_BIT, _EXTERNAL_BIT = 1 << 7, 1 << 11

#: Bits of each register that a write changes.
_WRITABLE = {
    Csr.MSTATUS: _MIE_BIT | _MPIE_BIT,
    Csr.MIE: _TIMER_BIT | _EXTERNAL_BIT,
    Csr.MTVEC: ~3 & _MASK,
    Csr.MSCRATCH: _MASK,
    Csr.MEPC: ~3 & _MASK,
    Csr.MCAUSE: _SIGN | 0x1F,
    Csr.MTVAL: _MASK,
    Csr.MIP: 0,
}


class BusError(Exception):
    """The bus refuses an access. Callbacks of a device may raise it."""


class _TrapError(Exception):
    """The instruction traps."""

    def __init__(self, cause: Cause, value: int):
        super().__init__(cause, value)
        self.cause, self.value = cause, value


def _signed(value: int) -> int:
    return (value ^ _SIGN) - _SIGN


def _extend(value: int, bits: int) -> int:
    """Sign-extend ``bits`` to 32, as an unsigned number."""
    sign = 1 << bits - 1
    return ((value & (1 << bits) - 1 ^ sign) - sign) & _MASK


def _divide(a: int, b: int) -> int:
    if b == 0:
        return _MASK
    x, y = _signed(a), _signed(b)
    quotient = abs(x) // abs(y)
    return (quotient if (x < 0) == (y < 0) else -quotient) & _MASK


def _remainder(a: int, b: int) -> int:
    if b == 0:
        return a
    x, y = _signed(a), _signed(b)
    rest = abs(x) % abs(y)
    return (-rest if x < 0 else rest) & _MASK


#: Operations of two registers: by ``funct7`` and ``funct3``.
_OPERATIONS: dict[tuple[int, int], Callable[[int, int], int]] = {
    (0x00, 0): lambda a, b: (a + b) & _MASK,
    (0x20, 0): lambda a, b: (a - b) & _MASK,
    (0x00, 1): lambda a, b: a << (b & 31) & _MASK,
    (0x00, 2): lambda a, b: int((a ^ _SIGN) < (b ^ _SIGN)),
    (0x00, 3): lambda a, b: int(a < b),
    (0x00, 4): lambda a, b: a ^ b,
    (0x00, 5): lambda a, b: a >> (b & 31),
    (0x20, 5): lambda a, b: (_signed(a) >> (b & 31)) & _MASK,
    (0x00, 6): lambda a, b: a | b,
    (0x00, 7): lambda a, b: a & b,
    (0x01, 0): lambda a, b: a * b & _MASK,
    (0x01, 1): lambda a, b: _signed(a) * _signed(b) >> 32 & _MASK,
    (0x01, 2): lambda a, b: _signed(a) * b >> 32 & _MASK,
    (0x01, 3): lambda a, b: a * b >> 32,
    (0x01, 4): _divide,
    (0x01, 5): lambda a, b: a // b if b else _MASK,
    (0x01, 6): _remainder,
    (0x01, 7): lambda a, b: a % b if b else a,
}

#: Conditions of branches: by ``funct3``.
_CONDITIONS: dict[int, Callable[[int, int], bool]] = {
    0: lambda a, b: a == b,
    1: lambda a, b: a != b,
    4: lambda a, b: (a ^ _SIGN) < (b ^ _SIGN),
    5: lambda a, b: (a ^ _SIGN) >= (b ^ _SIGN),
    6: lambda a, b: a < b,
    7: lambda a, b: a >= b,
}

#: Major opcodes, bits 6 to 0 of a word.
_LOAD, _FENCE, _IMMEDIATE, _AUIPC, _STORE = 0x03, 0x0F, 0x13, 0x17, 0x23
_REGISTER, _LUI, _BRANCH, _JALR, _JAL, _SYSTEM = 0x33, 0x37, 0x63, 0x67, 0x6F, 0x73

#: Opcodes that read ``rs1`` and ``rs2``; those of ``_SYSTEM`` do by ``funct3``.
_READS_FIRST = {_LOAD, _IMMEDIATE, _STORE, _REGISTER, _BRANCH, _JALR}
_READS_SECOND = {_STORE, _REGISTER, _BRANCH}

_ECALL, _EBREAK, _MRET, _WFI = 0x00000073, 0x00100073, 0x30200073, 0x10500073


@define(kw_only=True)
class Region:
    """A piece of the memory map, of words.

    Attributes
    ----------
    base, size
        First byte and number of bytes, multiples of ``PAGE_BYTES``.
    fetch, load, store
        What the bus allows.
    read, write
        Callbacks of a device: ``read(offset)`` returns a word, ``write(offset, word)`` takes one;
        either may raise :class:`BusError`. Without them the region is memory.
    words
        Contents of a memory.

    Raises
    ------
    ValueError
        If it does not begin and end at multiples of ``PAGE_BYTES``, or has one callback alone.
    """

    base: int
    size: int
    fetch: bool = False
    load: bool = True
    store: bool = True
    read: Callable[[int], int] | None = None
    write: Callable[[int, int], None] | None = None
    words: list[int] = field(factory=list, repr=False)

    def __attrs_post_init__(self):
        if self.base % PAGE_BYTES or self.size % PAGE_BYTES or self.size <= 0:
            raise ValueError(
                f"region of {self.size} bytes from {self.base:#x}; both must be multiples of "
                f"{PAGE_BYTES}, and the size above 0"
            )
        if (self.read is None) != (self.write is None):
            raise ValueError(f"region at {self.base:#x} has one of read and write; give both")
        if self.read is None:
            self.words += [0] * (self.size // 4 - len(self.words))

    def place(self, data: bytes, offset: int = 0) -> None:
        """Copy bytes into a memory, from a multiple of 4.

        Raises
        ------
        ValueError
            If they do not fit.
        """
        if offset % 4 or offset + len(data) > self.size:
            raise ValueError(
                f"{len(data)} bytes at offset {offset:#x} of a region of {self.size}; "
                "the offset must be a multiple of 4 and the bytes fit"
            )
        data += bytes(-len(data) % 4)
        for n in range(0, len(data), 4):
            self.words[(offset + n) // 4] = int.from_bytes(data[n : n + 4], "little")


@frozen(kw_only=True)
class Retired:
    """What one step did: RISC-V Formal Interface's fields, and the trap's cause and value.

    Attributes
    ----------
    order
        Count of steps before this one.
    insn
        The word; 0 if its fetch was refused.
    trap
        The instruction trapped: it wrote no register, and ``pc_wdata`` is the handler.
    intr
        First instruction of a handler, after a trap or an interrupt.
    rs1_addr, rs2_addr, rd_addr
        Registers read and written; 0 if none.
    rs1_rdata, rs2_rdata, rd_wdata
        Their values; 0 for ``x0``.
    pc_rdata, pc_wdata
        Address of the instruction, and of the next.
    mem_addr
        Address of the word accessed, its low two bits 0; 0 if none, or if refused.
    mem_rmask, mem_wmask
        Its bytes that the instruction asked for and wrote.
    mem_rdata, mem_wdata
        The word read, and the word with the bytes written in their places and 0 elsewhere.
    cause, value
        Of a trap; otherwise ``None`` and 0.
    """

    order: int
    insn: int
    trap: bool
    intr: bool
    rs1_addr: int
    rs1_rdata: int
    rs2_addr: int
    rs2_rdata: int
    rd_addr: int
    rd_wdata: int
    pc_rdata: int
    pc_wdata: int
    mem_addr: int
    mem_rmask: int
    mem_wmask: int
    mem_rdata: int
    mem_wdata: int
    cause: Cause | None
    value: int


class _Translations(dict[int, tuple[Callable[[], int], int]]):
    """Closure and cycles of the instruction at each address, translated at first use."""

    def __init__(self, translate: Callable[[int], tuple[Callable[[], int], int]]):
        super().__init__()
        self._translate = translate

    def __missing__(self, pc: int) -> tuple[Callable[[], int], int]:
        entry = self._translate(pc)
        self[pc] = entry
        return entry


class Machine:
    """A hart, its memory map and its time.

    Parameters
    ----------
    regions
        The memory map; everything outside is refused.
    reset_vector
        Address of the first instruction.
    cycles_of
        Cycles of an instruction by its word; one each by default.
    trap_cycles
        Cycles of entering a handler, behind those of the instruction that trapped.
    constants
        Registers that exist besides those of :class:`Csr`, and the value they always read.

    Attributes
    ----------
    x
        Registers; the last place takes what is written to ``x0``.
    pc
        Address of the next instruction.
    csr
        Registers of :class:`Csr` that hold a value.
    cycle, retired
        ``mcycle`` and ``minstret``, of 64 bits. During an instruction they count those before it.
    irq_timer, irq_external
        Levels of the interrupts' wires.

    Raises
    ------
    ValueError
        If two regions overlap, or the reset vector is not a multiple of 4.
    """

    def __init__(
        self,
        *,
        regions: list[Region],
        reset_vector: int = 0,
        cycles_of: Callable[[int], int] = lambda word: 1,
        trap_cycles: int = 0,
        constants: Mapping[int, int] | None = None,
    ):
        if reset_vector % 4:
            raise ValueError(f"reset_vector is {reset_vector:#x}; it must be a multiple of 4")
        self._pages: dict[int, Region] = {}
        for region in regions:
            for page in range(region.base // PAGE_BYTES, (region.base + region.size) // PAGE_BYTES):
                if page in self._pages:
                    raise ValueError(f"two regions hold address {page * PAGE_BYTES:#x}")
                self._pages[page] = region
        self._cycles_of = cycles_of
        self._trap_cycles = trap_cycles
        self._constants = {int(number): value for number, value in _CONSTANTS.items()}
        self._constants.update(constants or {})
        self._reset_vector = reset_vector
        self._code = _Translations(self._translate)
        self.reset()

    # A copy of a machine has closures of its own registers.

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_code"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._code = _Translations(self._translate)

    def reset(self) -> None:
        """Reset the hart and its time. Memories keep their contents."""
        self.x = [0] * (_NOWHERE + 1)
        self.pc = self._reset_vector
        self.csr: dict[int, int] = dict.fromkeys(map(int, _WRITABLE), 0)
        self.csr[Csr.MSTATUS] = _MPP_BITS
        self.cycle = 0
        self._ahead = 0
        self.retired = 0
        self.irq_timer = False
        self.irq_external = False
        self._order = 0
        self._handler = False
        self._access = _NO_ACCESS
        self._written_retired: int | None = None
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._scheduled = 0
        self._code.clear()  # closures hold the list of registers

    # Time

    @property
    def time(self) -> int:
        """Cycles since reset: ``cycle`` without what was written to it."""
        return self.cycle - self._ahead

    def schedule(self, time: int, call: Callable[[], None]) -> None:
        """Call something before the first instruction that begins at ``time`` or later."""
        heapq.heappush(self._events, (time, self._scheduled, call))
        self._scheduled += 1

    def skip(self, cycles: int) -> None:
        """Let time pass without instructions."""
        self.cycle += cycles

    def _elapse(self) -> None:
        while self._events and self._events[0][0] <= self.time:
            heapq.heappop(self._events)[2]()

    # Bus

    def read_word(self, address: int) -> int:
        """Load a word as the processor does.

        Raises
        ------
        BusError
            If the map has no such word or refuses it.
        """
        region = self._pages.get(address >> 12)
        if region is None or not region.load:
            raise BusError(f"no load from {address:#010x}")
        if region.read is not None:
            return region.read(address - region.base) & _MASK
        return region.words[address - region.base >> 2]

    def write_word(self, address: int, word: int) -> None:
        """Store a word as the processor does.

        Raises
        ------
        BusError
            If the map has no such word or refuses it.
        """
        region = self._pages.get(address >> 12)
        if region is None or not region.store:
            raise BusError(f"no store to {address:#010x}")
        if region.write is not None:
            region.write(address - region.base, word)
            return
        region.words[address - region.base >> 2] = word
        if region.fetch:
            self._code.pop(address, None)

    def _fetch(self, pc: int) -> int:
        region = self._pages.get(pc >> 12)
        if region is None or not region.fetch:
            raise BusError(f"no fetch from {pc:#010x}")
        if region.read is not None:
            return region.read(pc - region.base) & _MASK
        return region.words[pc - region.base >> 2]

    # Control and status registers

    def _read_csr(self, number: int) -> int:
        if number in self._constants:
            return self._constants[number]
        match number:
            case Csr.MIP:
                return _TIMER_BIT * self.irq_timer | _EXTERNAL_BIT * self.irq_external
            case Csr.MCYCLE | Csr.CYCLE:
                return self.cycle & _MASK
            case Csr.MCYCLEH | Csr.CYCLEH:
                return self.cycle >> 32 & _MASK
            case Csr.MINSTRET | Csr.INSTRET:
                return self.retired & _MASK
            case Csr.MINSTRETH | Csr.INSTRETH:
                return self.retired >> 32 & _MASK
        return self.csr[number]

    def _write_csr(self, number: int, value: int) -> None:
        if number in self._constants:
            return
        match number:
            case Csr.MCYCLE:
                self._write_cycle(self.cycle & ~_MASK | value)
            case Csr.MCYCLEH:
                self._write_cycle(value << 32 | self.cycle & _MASK)
            # The instruction that writes the count does not count itself on top of what it wrote.
            case Csr.MINSTRET:
                self._written_retired = self.retired & ~_MASK | value
            case Csr.MINSTRETH:
                self._written_retired = value << 32 | self.retired & _MASK
            case _:
                mask = _WRITABLE[Csr(number)]
                self.csr[number] = self.csr[number] & ~mask | value & mask

    def _write_cycle(self, value: int) -> None:
        self._ahead += value - self.cycle
        self.cycle = value

    def _exists(self, number: int) -> bool:
        return number in self._constants or number in Csr.__members__.values()

    # Translation

    def _translate(self, pc: int) -> tuple[Callable[[], int], int]:
        try:
            word = self._fetch(pc)
        except BusError:
            return self._refusal(Cause.FETCH_FAULT, pc), 0
        return self._closure(pc, word), self._cycles_of(word)

    @staticmethod
    def _refusal(cause: Cause, value: int) -> Callable[[], int]:
        def run() -> int:
            raise _TrapError(cause, value)

        return run

    def _closure(self, pc: int, word: int) -> Callable[[], int]:
        """What the instruction does; it returns the address of the next."""
        x = self.x
        opcode, f3, f7 = word & 0x7F, word >> 12 & 7, word >> 25
        d, s, t = word >> 7 & 31 or _NOWHERE, word >> 15 & 31, word >> 20 & 31
        after = (pc + 4) & _MASK
        immediate = _extend(word >> 20, 12)

        if opcode == _REGISTER and (f7, f3) in _OPERATIONS:
            operation = _OPERATIONS[f7, f3]

            def run() -> int:
                x[d] = operation(x[s], x[t])
                return after

        elif opcode == _IMMEDIATE and (f3 not in (1, 5) or (f7, f3) in {(0, 1), (0, 5), (0x20, 5)}):
            operation = _OPERATIONS[f7 if f3 in (1, 5) else 0, f3]

            def run() -> int:
                x[d] = operation(x[s], immediate)
                return after

        elif opcode in (_LUI, _AUIPC):
            upper = (word & 0xFFFFF000) + (pc if opcode == _AUIPC else 0) & _MASK

            def run() -> int:
                x[d] = upper
                return after

        elif opcode == _JAL:
            offset = word >> 31 << 20 | (word >> 12 & 0xFF) << 12
            offset |= (word >> 20 & 1) << 11 | (word >> 21 & 0x3FF) << 1
            target = (pc + _extend(offset, 21)) & _MASK
            if target & 3:
                return self._refusal(Cause.FETCH_MISALIGNED, target)

            def run() -> int:
                x[d] = after
                return target

        elif opcode == _JALR and f3 == 0:

            def run() -> int:
                target = x[s] + immediate & 0xFFFFFFFE
                if target & 2:
                    raise _TrapError(Cause.FETCH_MISALIGNED, target)
                x[d] = after
                return target

        elif opcode == _BRANCH and f3 in _CONDITIONS:
            offset = word >> 31 << 12 | (word >> 7 & 1) << 11
            offset |= (word >> 25 & 0x3F) << 5 | (word >> 8 & 0xF) << 1
            target = (pc + _extend(offset, 13)) & _MASK
            condition = _CONDITIONS[f3]

            def run() -> int:
                if not condition(x[s], x[t]):
                    return after
                if target & 3:
                    raise _TrapError(Cause.FETCH_MISALIGNED, target)
                return target

        elif opcode == _LOAD and f3 in (0, 1, 2, 4, 5):
            return self._load(f3, d, s, immediate, after)
        elif opcode == _STORE and f3 in (0, 1, 2):
            return self._store(f3, s, t, _extend(f7 << 5 | word >> 7 & 31, 12), after)
        elif opcode == _FENCE and f3 in (0, 1):

            def run() -> int:
                return after

        elif opcode == _SYSTEM:
            return self._system(pc, word, after)
        else:
            return self._refusal(Cause.ILLEGAL, word)
        return run

    def _load(self, f3: int, d: int, s: int, immediate: int, after: int) -> Callable[[], int]:
        x, size = self.x, 1 << (f3 & 3)
        signed, bits, ones = f3 < 2, 8 << (f3 & 3), (1 << 8 * size) - 1

        def run() -> int:
            address = x[s] + immediate & _MASK
            if address & size - 1:
                raise _TrapError(Cause.LOAD_MISALIGNED, address)
            aligned = address & ~3
            try:
                word = self.read_word(aligned)
            except BusError:
                raise _TrapError(Cause.LOAD_FAULT, address) from None
            self._access = (aligned, (1 << size) - 1 << (address & 3), 0, word, 0)
            value = word >> 8 * (address & 3) & ones
            x[d] = _extend(value, bits) if signed else value
            return after

        return run

    def _store(self, f3: int, s: int, t: int, immediate: int, after: int) -> Callable[[], int]:
        x, size = self.x, 1 << f3
        ones = (1 << 8 * size) - 1

        def run() -> int:
            address = x[s] + immediate & _MASK
            if address & size - 1:
                raise _TrapError(Cause.STORE_MISALIGNED, address)
            aligned, shift = address & ~3, 8 * (address & 3)
            part = (x[t] & ones) << shift
            try:
                kept = self.read_word(aligned) & ~(ones << shift) if size < 4 else 0
                self.write_word(aligned, kept | part)
            except BusError:
                raise _TrapError(Cause.STORE_FAULT, address) from None
            self._access = (aligned, 0, (1 << size) - 1 << (address & 3), 0, part)
            return after

        return run

    def _system(self, pc: int, word: int, after: int) -> Callable[[], int]:
        x, f3 = self.x, word >> 12 & 7
        if word == _ECALL:
            return self._refusal(Cause.ECALL, 0)
        if word == _EBREAK:
            return self._refusal(Cause.BREAKPOINT, pc)
        if word == _WFI:
            return lambda: after
        if word == _MRET:

            def leave() -> int:
                status = self.csr[Csr.MSTATUS]
                enable = _MIE_BIT if status & _MPIE_BIT else 0
                self.csr[Csr.MSTATUS] = status & ~_MIE_BIT | enable | _MPIE_BIT
                return self.csr[Csr.MEPC]

            return leave

        d, s, number = word >> 7 & 31 or _NOWHERE, word >> 15 & 31, word >> 20
        # The forms that set and clear bits write nothing when the field of the operand is 0.
        writes = f3 & 3 == 1 or s != 0
        if f3 & 3 == 0 or not self._exists(number) or (writes and number >> 10 == 3):
            return self._refusal(Cause.ILLEGAL, word)

        def access() -> int:
            operand = s if f3 & 4 else x[s]
            old = self._read_csr(number)
            if writes:
                new = {1: operand, 2: old | operand, 3: old & ~operand}[f3 & 3]
                self._write_csr(number, new)
            x[d] = old
            return after

        return access

    # Traps and interrupts

    def _enter(self, cause: int, value: int) -> None:
        """Enter the handler; ``pc`` is where ``mret`` returns to."""
        status = self.csr[Csr.MSTATUS]
        previous = _MPIE_BIT if status & _MIE_BIT else 0
        self.csr[Csr.MSTATUS] = status & ~(_MIE_BIT | _MPIE_BIT) | previous
        self.csr[Csr.MEPC] = self.pc
        self.csr[Csr.MCAUSE] = int(cause)
        self.csr[Csr.MTVAL] = value
        self.pc = self.csr[Csr.MTVEC]
        self.cycle += self._trap_cycles
        self._handler = True

    def pending(self) -> Cause | None:
        """Interrupt that is due before the next instruction: external before timer."""
        if not self.csr[Csr.MSTATUS] & _MIE_BIT:
            return None
        enabled = self.csr[Csr.MIE]
        if self.irq_external and enabled & _EXTERNAL_BIT:
            return Cause.EXTERNAL
        if self.irq_timer and enabled & _TIMER_BIT:
            return Cause.TIMER
        return None

    def interrupt(self, cause: Cause) -> None:
        """Take an interrupt before the next instruction, whatever is enabled."""
        self._enter(cause, 0)

    # Running

    def _execute(self) -> _TrapError | None:
        """Run the next instruction, with its counts."""
        operation, cycles = self._code[self.pc]
        self._handler = False
        try:
            self.pc = operation()
        except _TrapError as trap:
            self.cycle += cycles
            self._enter(trap.cause, trap.value)
            return trap
        self.cycle += cycles
        self.retired += 1
        if self._written_retired is not None:
            self.retired, self._written_retired = self._written_retired, None
        return None

    def run(self, instructions: int, until: Callable[[], bool] | None = None) -> int:
        """Run so many instructions, taking interrupts that are due; return how many ran.

        Parameters
        ----------
        instructions
            How many at most.
        until
            Asked before each instruction: stop if it returns true.
        """
        for count in range(instructions):
            if self._events and self._events[0][0] <= self.time:
                self._elapse()
            if self.irq_timer or self.irq_external:
                cause = self.pending()
                if cause is not None:
                    self._enter(cause, 0)
            if until is not None and until():
                return count
            self._execute()
        return instructions

    def step(self, interrupt: Cause | None = None) -> Retired:
        """Run one instruction and tell what it did.

        An interrupt that is due, or the one that is asked for, is entered before it.
        """
        self._elapse()
        cause = interrupt or self.pending()
        if cause is not None:
            self._enter(cause, 0)
        pc, first = self.pc, self._handler
        try:
            word = self._fetch(pc)
        except BusError:
            word = 0
        opcode, f3 = word & 0x7F, word >> 12 & 7
        s = word >> 15 & 31
        s *= opcode in _READS_FIRST or (opcode == _SYSTEM and f3 in (1, 2, 3))
        t = (word >> 20 & 31) * (opcode in _READS_SECOND)
        first_value, second_value = self.x[s], self.x[t]

        self._access = _NO_ACCESS
        trap = self._execute()
        d = 0 if trap or opcode in (_STORE, _BRANCH, _FENCE) else word >> 7 & 31
        address, read_mask, write_mask, read, written = self._access
        order = self._order
        self._order += 1
        return Retired(
            order=order,
            insn=word,
            trap=trap is not None,
            intr=first,
            rs1_addr=s,
            rs1_rdata=first_value,
            rs2_addr=t,
            rs2_rdata=second_value,
            rd_addr=d,
            rd_wdata=self.x[d],
            pc_rdata=pc,
            pc_wdata=self.pc,
            mem_addr=address,
            mem_rmask=read_mask,
            mem_wmask=write_mask,
            mem_rdata=read,
            mem_wdata=written,
            cause=trap.cause if trap else None,
            value=trap.value if trap else 0,
        )
