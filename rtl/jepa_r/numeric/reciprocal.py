"""Reciprocal of a sum, a bit a stage."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..fabric.delay import delay
from ..fabric.taps import taps
from ..platform import Macro

__all__ = ["Reciprocal"]


class Reciprocal(Macro):
    """``1 / total = mantissa * 2**-(39 - lead)`` by restoring division.

    The golden model is :func:`jepa_r_sim.golden.reciprocal.reciprocal`. A result a cycle,
    :attr:`latency` cycles later. The sum is normalised to ``d`` in 2**23..2**24 - 1 in five
    stages. The mantissa is the largest ``q`` of 16 bits with ``q * d <= 2**39``; its top bit is
    always set, the others are decided in a stage each, by a subtraction of 26 bits. A sum of 0
    counts as 1.

    Members
    -------
    total : ``In(24)``
        Sum.
    mantissa : ``Out(16)``
        0x8000..0xFFFF.
    lead : ``Out(5)``
        Leading zeros of the sum, 0..23.
    """

    SUM_BITS = 24
    BITS = 16
    NORMALISE = (16, 8, 4, 2, 1)

    # Normalisation, the remainder after the top bit, the other fifteen bits.
    latency = len(NORMALISE) + 1 + BITS - 1

    def __init__(self):
        super().__init__(
            {"total": In(self.SUM_BITS), "mantissa": Out(self.BITS), "lead": Out(5)},
            macro_name="reciprocal",
        )

    def build(self, platform):
        m = Module()

        value, lead = self.total, None
        for step in self.NORMALISE:
            shifted = Signal(self.SUM_BITS, reset_less=True, name=f"normal_{step}")
            zeros = Signal(1 if lead is None else len(lead) + 1, reset_less=True, name=f"z_{step}")
            empty = Signal(name=f"empty_{step}")
            m.d.comb += empty.eq(~value[self.SUM_BITS - step :].any())
            m.d.sync += [
                shifted.eq(Mux(empty, value << step, value)),
                zeros.eq(empty if lead is None else Cat(empty, lead)),
            ]
            value, lead = shifted, zeros

        divisor = Signal(self.SUM_BITS, reset_less=True, name="divisor_15")
        remainder = Signal(self.SUM_BITS + 1, reset_less=True, name="remainder_15")
        lead_15 = Signal(5, reset_less=True)
        with m.If(value[-1]):
            # The remainder counts in units of the bit just decided: 2**39 - 2**15 * d here.
            m.d.sync += [
                divisor.eq(value),
                remainder.eq((1 << self.SUM_BITS) - value),
                lead_15.eq(lead),
            ]
        with m.Else():
            one = 1 << (self.SUM_BITS - 1)
            m.d.sync += [divisor.eq(one), remainder.eq(one), lead_15.eq(self.SUM_BITS - 1)]

        divisors = taps(m, divisor, self.BITS - 2, name="divisor")
        bits = None
        for n in range(self.BITS - 1):
            trial = Signal(signed(self.SUM_BITS + 3), name=f"trial_{14 - n}")
            found = Signal(n + 1, reset_less=True, name=f"bits_{14 - n}")
            fits = ~trial[-1]
            m.d.comb += trial.eq((remainder << 1) - divisors[n])
            m.d.sync += found.eq(fits if bits is None else Cat(fits, bits))
            bits = found
            if n < self.BITS - 2:
                rest = Signal(self.SUM_BITS + 1, reset_less=True, name=f"remainder_{14 - n}")
                m.d.sync += rest.eq(Mux(fits, trial, remainder << 1))
                remainder = rest

        m.d.comb += [
            self.mantissa.eq(Cat(bits, Const(1, 1))),
            self.lead.eq(delay(m, lead_15, self.BITS - 1, name="lead")),
        ]
        return m
