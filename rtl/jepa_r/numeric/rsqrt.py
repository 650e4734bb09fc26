"""Reciprocal square root of a variance, a bit a stage."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..fabric.delay import delay
from ..fabric.taps import taps
from ..platform import Macro

__all__ = ["Rsqrt"]


class Rsqrt(Macro):
    """``1 / sqrt(variance) = mantissa * 2**-(31 + half)`` by digit recurrence.

    The golden model is :func:`jepa_r_sim.golden.rsqrt.rsqrt`. A result a cycle, :attr:`latency`
    cycles later. The variance is normalised to ``v`` in 2**30..2**32 - 1, an even number of bits,
    in five stages. The mantissa is the largest ``q`` of 16 bits with ``v * q * q <= 2**62``; its
    top bit is always set, and each other is decided in a stage:

    With ``q`` the bits found so far, seen as a whole number, and ``e`` what is left of ``2**62`` in
    units of the square of the last bit, the next bit is set if ``4e >= d``, where ``d = v * (4q +
    1)``. The next ``d`` is ``2d + 3v`` if it was, else ``2d - v``; both are computed while the
    comparison runs, so that a stage is one addition of 52 bits and a multiplexer.

    Members
    -------
    variance : ``In(58)``
        Variance; 0 counts as 1.
    mantissa : ``Out(16)``
        0x8000..0xFFFF.
    half : ``Out(signed(5))``
        -15..13.
    """

    VARIANCE_BITS = 58
    BITS = 16
    NORMALISE = (16, 8, 4, 2, 1)

    # Normalisation, the remainder after the top bit, the other fifteen bits.
    latency = len(NORMALISE) + 1 + BITS - 1

    def __init__(self):
        super().__init__(
            {
                "variance": In(self.VARIANCE_BITS),
                "mantissa": Out(self.BITS),
                "half": Out(signed(5)),
            },
            macro_name="rsqrt",
        )

    def build(self, platform):
        m = Module()

        value, pairs = self.variance, None
        for step in self.NORMALISE:
            shifted = Signal(self.VARIANCE_BITS, reset_less=True, name=f"normal_{step}")
            count = Signal(
                1 if pairs is None else len(pairs) + 1, reset_less=True, name=f"z_{step}"
            )
            empty = Signal(name=f"empty_{step}")
            m.d.comb += empty.eq(~value[self.VARIANCE_BITS - 2 * step :].any())
            m.d.sync += [
                shifted.eq(Mux(empty, value << (2 * step), value)),
                count.eq(empty if pairs is None else Cat(empty, pairs)),
            ]
            value, pairs = shifted, count

        # 2**62 - v * 2**30 in units of 4**15 is 2**32 - v; q = 1, so d = 5v.
        v = value[self.VARIANCE_BITS - 32 :]
        largest_half = (self.VARIANCE_BITS - 32) // 2
        radicand = Signal(32, reset_less=True, name="v_15")
        triple = Signal(34, reset_less=True, name="triple_15")
        left = Signal(33, reset_less=True, name="left_15")
        trial_15 = Signal(35, reset_less=True)
        half = Signal(signed(5), reset_less=True, name="half_15")
        with m.If(value[-2:].any()):
            m.d.sync += [
                radicand.eq(v),
                triple.eq(v + (v << 1)),
                left.eq((1 << 32) - v),
                trial_15.eq(v + (v << 2)),
                half.eq(largest_half - pairs),
            ]
        with m.Else():
            one = 1 << 30
            m.d.sync += [
                radicand.eq(one),
                triple.eq(3 * one),
                left.eq((1 << 32) - one),
                trial_15.eq(5 * one),
                half.eq(-15),
            ]

        radicands = taps(m, radicand, self.BITS - 3, name="v")
        triples = taps(m, triple, self.BITS - 3, name="triple")
        d, bits = trial_15, None
        for n in range(self.BITS - 1):
            # q has n + 1 bits and v * q * q <= 2**(32 + 2n), so v * q <= 2**(32 + n): d is below
            # 2**(35 + n). What is left is less than one more in q would take, v * (2q + 1): four
            # times that is below 2**(36 + n).
            bit, width = 14 - n, 36 + n
            remainder = Signal(width, name=f"remainder_{bit}")
            difference = Signal(signed(width + 1), name=f"difference_{bit}")
            found = Signal(n + 1, reset_less=True, name=f"bits_{bit}")
            fits = ~difference[-1]
            m.d.comb += [
                remainder.eq(left << 2),
                difference.eq(remainder - d),
            ]
            m.d.sync += found.eq(fits if bits is None else Cat(fits, bits))
            if bit > 0:
                rest = Signal(width, reset_less=True, name=f"left_{bit}")
                next_d = Signal(width, reset_less=True, name=f"d_{bit}")
                m.d.sync += [
                    rest.eq(Mux(fits, difference, remainder)),
                    next_d.eq((d << 1) + Mux(fits, triples[n], -radicands[n])),
                ]
                left, d = rest, next_d
            bits = found

        m.d.comb += [
            self.mantissa.eq(Cat(bits, Const(1, 1))),
            self.half.eq(delay(m, half, self.BITS - 1, name="half")),
        ]
        return m
