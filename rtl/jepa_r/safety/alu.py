"""Arithmetic of one cycle: sums, comparisons, logic, shifts."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Alu"]


class Alu(wiring.Component):
    """Results of RV32I's register and immediate operations, and conditions of branches.

    No latency. Shifts to the left are shifts to the right of the mirrored word, so there is one
    shifter.

    Members
    -------
    a, b : ``In(32)``
        Operands; of a shift the low five bits of ``b`` count.
    function : ``In(3)``
        ``funct3``: 0 sum, 1 shift left, 2 and 3 less, 4 xor, 5 shift right, 6 or, 7 and. Of
        branches: 0 equal, 1 not equal, 4 and 6 less, 5 and 7 not less.
    subtract : ``In(1)``
        The sum is ``a - b``; comparisons need it.
    arithmetic : ``In(1)``
        Shift to the right with the sign.
    unsigned : ``In(1)``
        Compare unsigned numbers.
    result : ``Out(32)``
        Result.
    condition : ``Out(1)``
        Whether the branch is taken.
    """

    a: In(32)
    b: In(32)
    function: In(3)
    subtract: In(1)
    arithmetic: In(1)
    unsigned: In(1)
    result: Out(32)
    condition: Out(1)

    def elaborate(self, platform):
        m = Module()
        a, b = self.a, self.b

        total, less = Signal(33), Signal()
        m.d.comb += [
            total.eq(a + (b ^ self.subtract.replicate(32)) + self.subtract),
            # Without a carry `a - b` is below zero; signs that differ decide for themselves.
            less.eq(Mux(a[31] == b[31], ~total[32], Mux(self.unsigned, b[31], a[31]))),
            self.condition.eq(self.function[0] ^ Mux(self.function[2], less, a == b)),
        ]

        left, mirrored, shifted = Signal(), Signal(32), Signal(32)
        sign = Signal()
        m.d.comb += [
            left.eq(self.function == 1),
            mirrored.eq(Mux(left, a[::-1], a)),
            sign.eq(self.arithmetic & a[31] & ~left),
            shifted.eq(Cat(mirrored, sign).as_signed() >> b[:5]),
        ]

        with m.Switch(self.function):
            with m.Case(0):
                m.d.comb += self.result.eq(total[:32])
            with m.Case(1):
                m.d.comb += self.result.eq(shifted[::-1])
            with m.Case(2, 3):
                m.d.comb += self.result.eq(less)
            with m.Case(4):
                m.d.comb += self.result.eq(a ^ b)
            with m.Case(5):
                m.d.comb += self.result.eq(shifted)
            with m.Case(6):
                m.d.comb += self.result.eq(a | b)
            with m.Case(7):
                m.d.comb += self.result.eq(a & b)
        return m
