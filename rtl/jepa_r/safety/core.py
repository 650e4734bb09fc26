"""The island's processor."""

from amaranth import *
from amaranth.lib import enum
from amaranth.lib.wiring import In, Out

from ..platform import Macro
from .alu import Alu
from .csr import Cause, CsrFile, TrapCause
from .decoder import Base, Decoder, Kind, Opcode
from .muldiv import MulDiv
from .registers import RegisterFile
from .rvfi import Rvfi, RvfiLayout

__all__ = ["Core"]


class _State(enum.Enum, shape=4):
    """All sixteen values are states: no flipped bit leaves the machine without a way on."""

    FETCH = 0
    FETCH_REQUEST = 1
    FETCH_WAIT = 2
    FETCH_ANSWER = 3
    READ = 4
    EXECUTE = 5
    LOAD_REQUEST = 6
    LOAD_WAIT = 7
    LOAD_ANSWER = 8
    WRITE_BACK = 9
    MERGE = 10
    STORE_REQUEST = 11
    STORE_WAIT = 12
    STORE_ANSWER = 13
    MULDIV = 14
    TRAP = 15


class Core(Macro):
    """RV32IM_Zicsr with ``fence.i``, user counters and machine mode, in constant time.

    One instruction at a time, without caches or speculation: fetch, read, execute, and what its
    kind needs besides. :meth:`cycles_of` is what an instruction takes, whatever its operands and
    whether or not a branch is taken. One that traps is cut short where it is found out, at the end
    of it at the latest, and takes ``TRAP_CYCLES`` more; an interrupt takes ``INTERRUPT_CYCLES``
    between two instructions.

    Traps are those of volume II of the standard. ``mtval`` is the address of a misaligned or
    refused access (of a jump: its target), the word of an illegal instruction, the address of an
    ``ebreak``, and 0 after ``ecall`` and interrupts. An access that is misaligned is never on the
    bus. ``sb`` and ``sh`` load the word, merge and store it; an error of either access is a store
    access fault. ``wfi`` and fences do nothing.

    Every register has a reset value, the processor's own 31 included. The golden model is
    :class:`jepa_r_sim.golden.riscv.Machine`.

    Parameters
    ----------
    reset_vector : :class:`int`
        Address of the first instruction.
    rvfi : :class:`bool`
        Whether the core tells what every instruction did.

    Members
    -------
    bus_en : ``Out(1)``
        A request, for one cycle. All ``bus_*`` outputs are registers and keep their last value.
    bus_fetch, bus_write : ``Out(1)``
        It is a fetch, or a store; neither: a load.
    bus_addr : ``Out(32)``
        Address of a word, its low two bits 0.
    bus_wdata : ``Out(32)``
        Word to store.
    bus_rdata, bus_error : ``In(32)``, ``In(1)``
        Answer, read ``BUS_LATENCY`` cycles after the cycle of ``bus_en``: the word, or that the
        access is refused. A store that is refused does not retire.
    irq_timer, irq_external : ``In(1)``
        Interrupts, as levels, in this domain.
    trap, trap_cause : ``Out(1)``, ``Out(5)``
        For one cycle, the one after the trap is entered: a synchronous trap, and its cause.
    rvfi : ``Out(RvfiLayout())``
        With ``rvfi``: the instruction that retired or trapped a cycle ago.

    Raises
    ------
    :exc:`ValueError`
        If ``reset_vector`` is not a multiple of 4 of 32 bits.
    """

    #: Cycles from a request to its answer.
    BUS_LATENCY = 2

    #: Cycles from a store's request to the next load's or store's, at least.
    STORE_TO_LOAD = 9

    #: Cycles of entering a handler, behind those of the instruction that trapped.
    TRAP_CYCLES = 1

    #: The registers and the unit of the M operations; proofs put simpler ones in their place.
    register_file = RegisterFile
    muldiv = MulDiv

    #: Cycles of an interrupt, from the end of an instruction to the first fetch of the handler.
    INTERRUPT_CYCLES = 2

    def __init__(self, *, reset_vector=0, rvfi=False):
        if reset_vector % 4 or not 0 <= reset_vector < 1 << 32:
            raise ValueError(
                f"reset_vector is {reset_vector:#x}; it must be a multiple of 4 of 32 bits"
            )
        self._reset_vector = reset_vector
        self._rvfi = rvfi
        super().__init__(
            {
                "bus_en": Out(1),
                "bus_fetch": Out(1),
                "bus_write": Out(1),
                "bus_addr": Out(32),
                "bus_wdata": Out(32),
                "bus_rdata": In(32),
                "bus_error": In(1),
                "irq_timer": In(1),
                "irq_external": In(1),
                "trap": Out(1),
                "trap_cause": Out(5),
                **({"rvfi": Out(RvfiLayout())} if rvfi else {}),
            },
            macro_name=f"core_{reset_vector:08x}{'_rvfi' if rvfi else ''}",
        )

    @staticmethod
    def cycles_of(word):
        """Cycles from the fetch of an instruction to the fetch of the next one, if it retires.

        Those of a word that always traps do not include ``TRAP_CYCLES``.
        """
        execute = _State.EXECUTE.value + 1
        load, store = execute + 4, execute + 3
        funct3, funct7 = word >> 12 & 7, word >> 25
        match word & 0x7F:
            case Opcode.LOAD.value if funct3 in (0, 1, 2, 4, 5):
                return load
            case Opcode.STORE.value if funct3 == 2:
                return store
            case Opcode.STORE.value if funct3 < 2:
                return load + 3
            case Opcode.REGISTER.value if funct7 == 1:
                return execute + MulDiv.latency()
        return execute

    def build(self, platform):
        m = Module()
        m.submodules.decoder = decoder = Decoder()
        m.submodules.registers = registers = self.register_file()
        m.submodules.alu = alu = Alu()
        m.submodules.muldiv = muldiv = self.muldiv()
        m.submodules.csr = csr = CsrFile()

        pc = Signal(30, init=self._reset_vector >> 2)
        insn, a, b = Signal(32), Signal(32), Signal(32)
        cause, value = Signal(TrapCause), Signal(32)
        state = Signal(_State)

        here, following = Signal(32), Signal(32)
        base, address = Signal(32), Signal(32)
        with m.Switch(decoder.base):
            with m.Case(Base.REGISTER):
                m.d.comb += base.eq(a)
            with m.Case(Base.PC):
                m.d.comb += base.eq(here)
        m.d.comb += [
            here.eq(Cat(C(0, 2), pc)),
            following.eq(Cat(C(0, 2), pc + 1)),
            address.eq(base + decoder.immediate),
            decoder.insn.eq(insn),
            registers.first_addr.eq(insn[15:20]),
            registers.second_addr.eq(insn[20:25]),
            alu.a.eq(a),
            alu.b.eq(Mux(decoder.immediate_second, decoder.immediate, b)),
            alu.function.eq(insn[12:15]),
            alu.subtract.eq(decoder.subtract),
            alu.arithmetic.eq(decoder.arithmetic),
            alu.unsigned.eq(decoder.unsigned),
            muldiv.function.eq(insn[12:15]),
            muldiv.a.eq(a),
            muldiv.b.eq(b),
            csr.address.eq(insn[20:]),
            csr.mode.eq(insn[12:14]),
            csr.operand.eq(Mux(insn[14], insn[15:20], a)),
            # Setting or clearing the bits of x0, or of 0, does not write.
            csr.modifies.eq((insn[12:14] == 1) | insn[15:20].any()),
            csr.pc.eq(pc),
            csr.cause.eq(cause),
            csr.value.eq(value),
            csr.irq_timer.eq(self.irq_timer),
            csr.irq_external.eq(self.irq_external),
        ]

        retire, next_pc, result = Signal(), Signal(32), Signal(32)
        m.d.comb += [
            next_pc.eq(following),
            registers.w_en.eq(retire),
            registers.w_addr.eq(decoder.rd),
            registers.w_data.eq(result),
            csr.retire.eq(retire),
            self.trap_cause.eq(cause.code),
        ]
        with m.If(retire):
            m.d.sync += [pc.eq(next_pc[2:]), state.eq(_State.FETCH)]
        m.d.sync += [self.bus_en.eq(0), self.trap.eq(0)]

        def request(word_address, *, fetch=0, write=0):
            m.d.sync += [
                self.bus_en.eq(1),
                self.bus_fetch.eq(fetch),
                self.bus_write.eq(write),
                self.bus_addr.eq(Cat(C(0, 2), word_address)),
            ]

        def refuse(code, what):
            m.d.sync += [
                cause.eq(Cat(C(code, 5), C(0, 1))),
                value.eq(what),
                state.eq(_State.TRAP),
            ]

        target = Signal(32)
        misaligned = Signal()
        # A jump's target has its lowest bit cleared; of the others' it is 0.
        m.d.comb += target.eq(Cat(C(0, 1), address[1:]))
        with m.Switch(insn[12:14]):
            with m.Case(1):
                m.d.comb += misaligned.eq(address[0])
            with m.Case(2):
                m.d.comb += misaligned.eq(address[:2].any())

        loaded = self._extract(m, a, value[:2], insn[12:15])
        merged = self._merge(m, a, b, value[:2], insn[12])

        with m.Switch(state):
            with m.Case(_State.FETCH):
                with m.If(csr.interrupt):
                    m.d.sync += [
                        cause.code.eq(csr.interrupt_code),
                        cause.interrupt.eq(1),
                        value.eq(0),
                        state.eq(_State.TRAP),
                    ]
                with m.Else():
                    request(pc, fetch=1)
                    m.d.sync += state.eq(_State.FETCH_REQUEST)
            with m.Case(_State.FETCH_REQUEST):
                m.d.sync += state.eq(_State.FETCH_WAIT)
            with m.Case(_State.FETCH_WAIT):
                m.d.sync += state.eq(_State.FETCH_ANSWER)
            with m.Case(_State.FETCH_ANSWER):
                m.d.sync += [insn.eq(self.bus_rdata), state.eq(_State.READ)]
                with m.If(self.bus_error):
                    refuse(Cause.FETCH_FAULT, here)
            with m.Case(_State.READ):
                m.d.sync += [
                    a.eq(registers.first),
                    b.eq(registers.second),
                    state.eq(_State.EXECUTE),
                ]
            with m.Case(_State.EXECUTE):
                # Of an access that is refused later.
                m.d.sync += value.eq(address)
                with m.Switch(decoder.kind):
                    with m.Case(Kind.NOTHING):
                        m.d.comb += retire.eq(1)
                    with m.Case(Kind.COMPUTE):
                        m.d.comb += [retire.eq(1), result.eq(alu.result)]
                    with m.Case(Kind.ADDRESS):
                        m.d.comb += [retire.eq(1), result.eq(address)]
                    with m.Case(Kind.JUMP):
                        m.d.comb += [result.eq(following), next_pc.eq(target)]
                        with m.If(target[1]):
                            refuse(Cause.FETCH_MISALIGNED, target)
                        with m.Else():
                            m.d.comb += retire.eq(1)
                    with m.Case(Kind.BRANCH):
                        m.d.comb += next_pc.eq(Mux(alu.condition, target, following))
                        with m.If(alu.condition & target[1]):
                            refuse(Cause.FETCH_MISALIGNED, target)
                        with m.Else():
                            m.d.comb += retire.eq(1)
                    with m.Case(Kind.LOAD):
                        with m.If(misaligned):
                            refuse(Cause.LOAD_MISALIGNED, address)
                        with m.Else():
                            request(address[2:])
                            m.d.sync += state.eq(_State.LOAD_REQUEST)
                    with m.Case(Kind.STORE, Kind.STORE_PART):
                        with m.If(misaligned):
                            refuse(Cause.STORE_MISALIGNED, address)
                        with m.Elif(decoder.kind == Kind.STORE):
                            request(address[2:], write=1)
                            m.d.sync += [self.bus_wdata.eq(b), state.eq(_State.STORE_REQUEST)]
                        with m.Else():
                            request(address[2:])
                            m.d.sync += state.eq(_State.LOAD_REQUEST)
                    with m.Case(Kind.MULDIV):
                        m.d.comb += muldiv.start.eq(1)
                        m.d.sync += state.eq(_State.MULDIV)
                    with m.Case(Kind.CSR):
                        m.d.comb += result.eq(csr.r_data)
                        with m.If(csr.legal):
                            m.d.comb += [retire.eq(1), csr.execute.eq(1)]
                        with m.Else():
                            refuse(Cause.ILLEGAL, insn)
                    with m.Case(Kind.CALL):
                        refuse(Cause.ECALL, 0)
                    with m.Case(Kind.BREAK):
                        refuse(Cause.BREAKPOINT, here)
                    with m.Case(Kind.RETURN):
                        m.d.comb += [
                            retire.eq(1),
                            csr.leave.eq(1),
                            next_pc.eq(Cat(C(0, 2), csr.resume)),
                        ]
                    with m.Default():
                        refuse(Cause.ILLEGAL, insn)
            with m.Case(_State.LOAD_REQUEST):
                m.d.sync += state.eq(_State.LOAD_WAIT)
            with m.Case(_State.LOAD_WAIT):
                m.d.sync += state.eq(_State.LOAD_ANSWER)
            with m.Case(_State.LOAD_ANSWER):
                m.d.sync += a.eq(self.bus_rdata)
                with m.If(decoder.kind == Kind.LOAD):
                    m.d.sync += state.eq(_State.WRITE_BACK)
                    with m.If(self.bus_error):
                        refuse(Cause.LOAD_FAULT, value)
                with m.Else():
                    m.d.sync += state.eq(_State.MERGE)
                    with m.If(self.bus_error):
                        refuse(Cause.STORE_FAULT, value)
            with m.Case(_State.WRITE_BACK):
                m.d.comb += [retire.eq(1), result.eq(loaded)]
            with m.Case(_State.MERGE):
                request(value[2:], write=1)
                m.d.sync += [
                    self.bus_wdata.eq(merged),
                    state.eq(_State.STORE_REQUEST),
                ]
            with m.Case(_State.STORE_REQUEST):
                m.d.sync += state.eq(_State.STORE_WAIT)
            with m.Case(_State.STORE_WAIT):
                m.d.sync += state.eq(_State.STORE_ANSWER)
            with m.Case(_State.STORE_ANSWER):
                with m.If(self.bus_error):
                    refuse(Cause.STORE_FAULT, value)
                with m.Else():
                    m.d.comb += retire.eq(1)
            with m.Case(_State.MULDIV):
                m.d.comb += [retire.eq(muldiv.done), result.eq(muldiv.result)]
            with m.Case(_State.TRAP):
                m.d.comb += csr.enter.eq(1)
                m.d.sync += [
                    pc.eq(csr.vector),
                    self.trap.eq(~cause.interrupt),
                    state.eq(_State.FETCH),
                ]

        if self._rvfi:
            m.submodules.rvfi = rvfi = Rvfi()
            trapped = Signal()
            m.d.comb += [
                trapped.eq((state == _State.TRAP) & ~cause.interrupt),
                rvfi.read.eq(state == _State.READ),
                rvfi.first.eq(registers.first),
                rvfi.second.eq(registers.second),
                rvfi.retire.eq(retire),
                rvfi.trap.eq(trapped),
                rvfi.interrupt.eq((state == _State.TRAP) & cause.interrupt),
                rvfi.refused.eq(trapped & (cause.code == Cause.FETCH_FAULT)),
                rvfi.insn.eq(insn),
                rvfi.kind.eq(decoder.kind),
                rvfi.rd.eq(decoder.rd),
                rvfi.rd_data.eq(result),
                rvfi.pc.eq(here),
                rvfi.next_pc.eq(Mux(trapped, Cat(C(0, 2), csr.vector), next_pc)),
                rvfi.address.eq(value),
                rvfi.loaded.eq(a),
                rvfi.stored.eq(self.bus_wdata),
                self.rvfi.eq(rvfi.o),
            ]
        return m

    def _extract(self, m, word, offset, funct3):
        """The part of a word that a load asks for, extended."""
        shifted, loaded = Signal(32), Signal(32)
        signed = ~funct3[2]
        m.d.comb += shifted.eq(word >> Cat(C(0, 3), offset))
        with m.Switch(funct3[:2]):
            with m.Case(0):
                m.d.comb += loaded.eq(Cat(shifted[:8], (signed & shifted[7]).replicate(24)))
            with m.Case(1):
                m.d.comb += loaded.eq(Cat(shifted[:16], (signed & shifted[15]).replicate(16)))
            with m.Default():
                m.d.comb += loaded.eq(word)
        return loaded

    def _merge(self, m, word, part, offset, half):
        """A word with a byte or a half word of it replaced."""
        merged = Signal(32)
        m.d.comb += merged.eq(word)
        with m.If(half):
            with m.If(offset[1]):
                m.d.comb += merged[16:].eq(part[:16])
            with m.Else():
                m.d.comb += merged[:16].eq(part[:16])
        with m.Else():
            for n in range(4):
                with m.If(offset == n):
                    m.d.comb += merged[8 * n : 8 * n + 8].eq(part[:8])
        return merged
