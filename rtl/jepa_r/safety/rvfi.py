"""What every instruction did, on RISC-V Formal Interface's terms. For verification only."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .decoder import Kind

__all__ = ["Rvfi", "RvfiLayout"]


class RvfiLayout(data.StructLayout):
    """Fields and widths of the interface of riscv-formal for one 32-bit hart.

    ``valid`` is one for a cycle for each instruction that retired or trapped; of one that trapped
    ``trap`` is set, it wrote nothing, and ``pc_wdata`` is the handler. ``intr`` marks the first
    instruction of a handler. ``insn`` is 0 where the fetch was refused. ``mem_addr`` is the address
    of a word; of ``mem_rdata`` and ``mem_wdata`` the bytes of the masks count.
    """

    def __init__(self):
        super().__init__({
            "valid": 1,
            "order": 64,
            "insn": 32,
            "trap": 1,
            "intr": 1,
            "rs1_addr": 5,
            "rs1_rdata": 32,
            "rs2_addr": 5,
            "rs2_rdata": 32,
            "rd_addr": 5,
            "rd_wdata": 32,
            "pc_rdata": 32,
            "pc_wdata": 32,
            "mem_addr": 32,
            "mem_rmask": 4,
            "mem_wmask": 4,
            "mem_rdata": 32,
            "mem_wdata": 32,
        })


class Rvfi(wiring.Component):
    """Gather :class:`RvfiLayout` from the core's insides.

    Members
    -------
    read, first, second : ``In(1)``, ``In(32)``, ``In(32)``
        The operands are read, and their values.
    retire, trap, interrupt : ``In(1)``
        For one cycle: the instruction retires; it traps; an interrupt is taken in its place.
    refused : ``In(1)``
        It traps because its fetch was refused.
    insn, kind, rd : ``In(32)``, ``In(Kind)``, ``In(5)``
        The instruction, its kind, and the register that it writes.
    rd_data : ``In(32)``
        With ``retire``: what it writes.
    pc, next_pc : ``In(32)``
        With ``retire`` and ``trap``: its address and that of the next.
    address, loaded, stored : ``In(32)``
        Of its access: address of the byte, the word that was read, the word on the bus.
    o : ``Out(RvfiLayout())``
        The interface, a cycle later; between instructions only ``valid`` is of meaning.
    """

    read: In(1)
    first: In(32)
    second: In(32)
    retire: In(1)
    trap: In(1)
    interrupt: In(1)
    refused: In(1)
    insn: In(32)
    kind: In(Kind)
    rd: In(5)
    rd_data: In(32)
    pc: In(32)
    next_pc: In(32)
    address: In(32)
    loaded: In(32)
    stored: In(32)
    o: Out(RvfiLayout())

    def elaborate(self, platform):
        m = Module()
        o, handler = self.o, Signal()
        order = Signal(64)
        first, second = Signal(32), Signal(32)
        with m.If(self.read):
            m.d.sync += [first.eq(self.first), second.eq(self.second)]

        mask, loads, stores = Signal(4), Signal(), Signal()
        with m.Switch(self.insn[12:14]):
            with m.Case(0):
                m.d.comb += mask.eq(1 << self.address[:2])
            with m.Case(1):
                m.d.comb += mask.eq(Mux(self.address[1], 0b1100, 0b0011))
            with m.Default():
                m.d.comb += mask.eq(0b1111)
        m.d.comb += [
            loads.eq(self.retire & (self.kind == Kind.LOAD)),
            stores.eq(self.retire & ((self.kind == Kind.STORE) | (self.kind == Kind.STORE_PART))),
        ]

        rd = Signal(5)
        m.d.comb += rd.eq(Mux(self.retire, self.rd, 0))
        m.d.sync += o.valid.eq(self.retire | self.trap)
        with m.If(self.retire | self.trap):
            m.d.sync += [
                order.eq(order + 1),
                handler.eq(self.trap),
                o.order.eq(order),
                o.insn.eq(Mux(self.refused, 0, self.insn)),
                o.trap.eq(self.trap),
                o.intr.eq(handler),
                # Of a word that was never fetched no operands were read either.
                o.rs1_addr.eq(Mux(self.refused, 0, self.insn[15:20])),
                o.rs1_rdata.eq(Mux(self.refused, 0, first)),
                o.rs2_addr.eq(Mux(self.refused, 0, self.insn[20:25])),
                o.rs2_rdata.eq(Mux(self.refused, 0, second)),
                o.rd_addr.eq(rd),
                o.rd_wdata.eq(Mux(rd.any(), self.rd_data, 0)),
                o.pc_rdata.eq(self.pc),
                o.pc_wdata.eq(self.next_pc),
                o.mem_addr.eq(Cat(C(0, 2), self.address[2:])),
                o.mem_rmask.eq(mask & loads.replicate(4)),
                o.mem_wmask.eq(mask & stores.replicate(4)),
                o.mem_rdata.eq(self.loaded),
                o.mem_wdata.eq(self.stored),
            ]
        with m.If(self.interrupt):
            m.d.sync += handler.eq(1)
        return m
