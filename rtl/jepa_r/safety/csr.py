"""Control and status registers of machine mode, and what enters and leaves a trap."""

from amaranth import *
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Cause", "Csr", "CsrFile", "Interrupt", "TrapCause"]


class Csr(enum.IntEnum):
    """Numbers of the registers that exist (volume II, machine level 1.12; debug 0.13 for 7A0)."""

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


class Cause(enum.IntEnum):
    """Codes of ``mcause`` for synchronous traps."""

    FETCH_MISALIGNED = 0
    FETCH_FAULT = 1
    ILLEGAL = 2
    BREAKPOINT = 3
    LOAD_MISALIGNED = 4
    LOAD_FAULT = 5
    STORE_MISALIGNED = 6
    STORE_FAULT = 7
    ECALL = 11


class Interrupt(enum.IntEnum):
    """Codes of ``mcause`` for interrupts, whose bit 31 is set, and their bits in mie and mip."""

    TIMER = 7
    EXTERNAL = 11


class TrapCause(data.Struct):
    """What ``mcause`` holds: a code, and whether it is of an interrupt."""

    code: 5
    interrupt: 1


#: misa: 32 bits, I and M.
_MISA = 1 << 30 | 1 << 12 | 1 << 8


class CsrFile(wiring.Component):
    """The registers of :class:`Csr`.

    ``mtvec`` has direct mode only. ``mstatus`` has MIE and MPIE; its MPP is always machine mode.
    The identifiers, ``mstatush``, ``mconfigptr``, and the triggers, of which there is none, read 0;
    ``misa`` reads RV32IM; writes to all of these are ignored. An access reads before it writes. A
    write to a count takes precedence over the counting of its cycle.

    Members
    -------
    address, mode, operand : ``In(12)``, ``In(2)``, ``In(32)``
        Register, how its new value comes about (1: ``operand``, 2: its bits set, 3: cleared), and
        from what.
    modifies : ``In(1)``
        The access writes.
    legal : ``Out(1)``
        The register exists and may be accessed so.
    r_data : ``Out(32)``
        Its value.
    execute : ``In(1)``
        For one cycle: the access takes place. Only if it is legal.
    enter : ``In(1)``
        For one cycle: a trap is entered, with ``pc``, ``cause`` and ``value`` for ``mepc``,
        ``mcause`` and ``mtval``.
    pc : ``In(30)``
        Address in words.
    cause, value : ``In(TrapCause)``, ``In(32)``
        As above.
    leave : ``In(1)``
        For one cycle: ``mret``.
    retire : ``In(1)``
        An instruction retires: ``minstret`` counts.
    irq_timer, irq_external : ``In(1)``
        Levels; ``mip`` has them a cycle later.
    vector, resume : ``Out(30)``
        ``mtvec`` and ``mepc``, in words.
    interrupt, interrupt_code : ``Out(1)``, ``Out(5)``
        One is pending and enabled, and its code; the external one comes first.
    """

    address: In(12)
    mode: In(2)
    operand: In(32)
    modifies: In(1)
    legal: Out(1)
    r_data: Out(32)
    execute: In(1)
    enter: In(1)
    pc: In(30)
    cause: In(TrapCause)
    value: In(32)
    leave: In(1)
    retire: In(1)
    irq_timer: In(1)
    irq_external: In(1)
    vector: Out(30)
    resume: Out(30)
    interrupt: Out(1)
    interrupt_code: Out(5)

    def elaborate(self, platform):
        m = Module()

        enable, previous = Signal(), Signal()
        timer_enable, external_enable = Signal(), Signal()
        timer, external = Signal(), Signal()
        scratch, value, cause = Signal(32), Signal(32), Signal(TrapCause)
        cycles, retired = Signal(64), Signal(64)

        m.d.sync += [timer.eq(self.irq_timer), external.eq(self.irq_external)]
        pending_timer, pending_external = Signal(), Signal()
        m.d.comb += [
            pending_timer.eq(timer & timer_enable),
            pending_external.eq(external & external_enable),
            self.interrupt.eq(enable & (pending_timer | pending_external)),
            self.interrupt_code.eq(Mux(pending_external, Interrupt.EXTERNAL, Interrupt.TIMER)),
        ]

        def bits(places):
            """A word with these bits in their places."""
            return Cat(places.get(n, C(0, 1)) for n in range(max(places) + 1))

        readable = {
            Csr.MSTATUS: bits({3: enable, 7: previous, 11: C(1, 1), 12: C(1, 1)}),
            Csr.MISA: C(_MISA, 32),
            Csr.MIE: bits({Interrupt.TIMER: timer_enable, Interrupt.EXTERNAL: external_enable}),
            Csr.MTVEC: Cat(C(0, 2), self.vector),
            Csr.MSCRATCH: scratch,
            Csr.MEPC: Cat(C(0, 2), self.resume),
            Csr.MCAUSE: Cat(cause.code, C(0, 26), cause.interrupt),
            Csr.MTVAL: value,
            Csr.MIP: bits({Interrupt.TIMER: timer, Interrupt.EXTERNAL: external}),
            Csr.MCYCLE: cycles[:32],
            Csr.MCYCLEH: cycles[32:],
            Csr.MINSTRET: retired[:32],
            Csr.MINSTRETH: retired[32:],
            Csr.CYCLE: cycles[:32],
            Csr.CYCLEH: cycles[32:],
            Csr.INSTRET: retired[:32],
            Csr.INSTRETH: retired[32:],
        }
        exists = Signal()
        with m.Switch(self.address):
            for number in Csr:
                with m.Case(number):
                    m.d.comb += [self.r_data.eq(readable.get(number, 0)), exists.eq(1)]
        # Numbers whose two high bits are set belong to registers that are only read.
        m.d.comb += self.legal.eq(exists & ~(self.modifies & self.address[10:].all()))

        new = Signal(32)
        with m.Switch(self.mode):
            with m.Case(2):
                m.d.comb += new.eq(self.r_data | self.operand)
            with m.Case(3):
                m.d.comb += new.eq(self.r_data & ~self.operand)
            with m.Default():
                m.d.comb += new.eq(self.operand)

        m.d.sync += [cycles.eq(cycles + 1), retired.eq(retired + self.retire)]
        with m.If(self.execute & self.modifies):
            with m.Switch(self.address):
                with m.Case(Csr.MSTATUS):
                    m.d.sync += [enable.eq(new[3]), previous.eq(new[7])]
                with m.Case(Csr.MIE):
                    m.d.sync += [
                        timer_enable.eq(new[Interrupt.TIMER]),
                        external_enable.eq(new[Interrupt.EXTERNAL]),
                    ]
                with m.Case(Csr.MTVEC):
                    m.d.sync += self.vector.eq(new[2:])
                with m.Case(Csr.MSCRATCH):
                    m.d.sync += scratch.eq(new)
                with m.Case(Csr.MEPC):
                    m.d.sync += self.resume.eq(new[2:])
                with m.Case(Csr.MCAUSE):
                    m.d.sync += [cause.code.eq(new[:5]), cause.interrupt.eq(new[31])]
                with m.Case(Csr.MTVAL):
                    m.d.sync += value.eq(new)
                with m.Case(Csr.MCYCLE):
                    m.d.sync += cycles.eq(Cat(new, cycles[32:]))
                with m.Case(Csr.MCYCLEH):
                    m.d.sync += cycles.eq(Cat(cycles[:32], new))
                with m.Case(Csr.MINSTRET):
                    m.d.sync += retired.eq(Cat(new, retired[32:]))
                with m.Case(Csr.MINSTRETH):
                    m.d.sync += retired.eq(Cat(retired[:32], new))
        with m.If(self.enter):
            m.d.sync += [
                enable.eq(0),
                previous.eq(enable),
                self.resume.eq(self.pc),
                cause.eq(self.cause),
                value.eq(self.value),
            ]
        with m.If(self.leave):
            m.d.sync += [enable.eq(previous), previous.eq(1)]
        return m
