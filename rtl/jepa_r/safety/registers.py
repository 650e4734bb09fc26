"""The 31 registers of the processor."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RegisterFile"]


class RegisterFile(wiring.Component):
    """Flip-flops with reset: two cores that leave reset together hold the same from then on.

    Reads have no latency; a write is seen from the next cycle.

    Members
    -------
    first_addr, second_addr : ``In(5)``
        Registers to read.
    first, second : ``Out(32)``
        Their contents; of ``x0`` it is 0.
    w_en : ``In(1)``
        Write. A write to ``x0`` does nothing.
    w_addr, w_data : ``In(5)``, ``In(32)``
        Register, and its new contents.
    """

    first_addr: In(5)
    second_addr: In(5)
    first: Out(32)
    second: Out(32)
    w_en: In(1)
    w_addr: In(5)
    w_data: In(32)

    def elaborate(self, platform):
        m = Module()
        registers = [Signal(32, name=f"x{n}") for n in range(1, 32)]
        every = Array([C(0, 32), *registers])
        m.d.comb += [self.first.eq(every[self.first_addr]), self.second.eq(every[self.second_addr])]
        for n, register in enumerate(registers, 1):
            with m.If(self.w_en & (self.w_addr == n)):
                m.d.sync += register.eq(self.w_data)
        return m
