"""A standard normal number for a random word."""

from statistics import NormalDist

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..fabric.delay import delay
from ..fabric.taps import taps
from ..numeric.multiplier import PipelinedMultiplier
from ..platform import Macro

__all__ = ["Gaussian"]


class Gaussian(Macro):
    """Inverse of the normal distribution, by lines between points of a table.

    The golden model is :func:`jepa_r_sim.golden.gaussian.gaussian`. The top bit of the word is the
    sign; the other 31, ``u``, stand for the tail's probability ``(2 * u + 1) / 2**33``. Its leading
    zeros are the octave, the five bits after the leading one choose one of 32 lines, the
    twelve after them the place on it. No result is farther from the exact number than 0.65 units in
    its last place, 2**-12, where rounding alone makes 0.5; the largest is 6.34.

    A result a cycle, :attr:`latency` cycles later: five stages find the octave, then come the
    table, the product, the difference, the sign.

    Members
    -------
    word : ``In(32)``
        Uniform.
    normal : ``Out(signed(16))``
        Standard normal, :attr:`FRACTION` fraction bits.
    """

    WORD_BITS = 32
    FRACTION = 12
    NORMALISE = (16, 8, 4, 2, 1)

    #: Bits that choose a line in an octave, and the place on it.
    PART_BITS, INSIDE_BITS = 5, 12

    #: Fraction bits of the table beyond those of the result.
    GUARD = 4

    #: Widths of a line's start and of its fall: 6.34 and 0.025, with all fraction bits.
    START_BITS, FALL_BITS = 19, 11

    latency = len(NORMALISE) + 1 + PipelinedMultiplier.latency_of(INSIDE_BITS + 1) + 2

    def __init__(self):
        super().__init__(
            {"word": In(self.WORD_BITS), "normal": Out(signed(16))}, macro_name="gaussian"
        )

    @classmethod
    def lines(cls):
        """Start and fall of the line of each part of each octave, octaves first.

        Octave ``k`` has the tails from ``2**-(k + 2)`` to ``2**-(k + 1)``. A line through both ends
        of a part is above the curve between them; it is lowered by half of what it is too high in
        the middle. The starts contain the half that rounds the result.
        """
        inverse, parts, unit = NormalDist().inv_cdf, 1 << cls.PART_BITS, 1 << cls.FRACTION
        unit <<= cls.GUARD
        for octave in range(cls.WORD_BITS):
            for part in range(parts):
                left, middle, right = (
                    -inverse(2.0 ** -(octave + 2) * (1 + (part + along) / parts))
                    for along in (0, 0.5, 1)
                )
                high = (left + right) / 2 - middle
                half = 1 << (cls.GUARD - 1)
                yield round((left - high / 2) * unit) + half, round((left - right) * unit)

    def build(self, platform):
        m = Module()

        # The bit below u makes its leading zeros countable, and is the half of the formula.
        value, octave = Cat(C(1, 1), self.word[:-1]), None
        for step in self.NORMALISE:
            shifted = Signal(self.WORD_BITS, reset_less=True, name=f"normal_{step}")
            zeros = Signal(
                1 if octave is None else len(octave) + 1, reset_less=True, name=f"z_{step}"
            )
            empty = Signal(name=f"empty_{step}")
            m.d.comb += empty.eq(~value[self.WORD_BITS - step :].any())
            m.d.sync += [
                shifted.eq(Mux(empty, value << step, value)),
                zeros.eq(empty if octave is None else Cat(empty, octave)),
            ]
            value, octave = shifted, zeros
        below = value[: self.WORD_BITS - 1]
        part = below[-self.PART_BITS :]
        inside = below[-self.PART_BITS - self.INSIDE_BITS : -self.PART_BITS]

        start = Signal(self.START_BITS, reset_less=True)
        fall = Signal(self.FALL_BITS, reset_less=True)
        place = Signal(self.INSIDE_BITS, reset_less=True)
        m.d.sync += place.eq(inside)
        with m.Switch(Cat(part, octave)):
            for n, (entry, slope) in enumerate(self.lines()):
                with m.Case(n):
                    m.d.sync += Cat(start, fall).eq(entry | slope << self.START_BITS)

        m.submodules.multiplier = multiplier = PipelinedMultiplier(
            a_width=self.FALL_BITS + 1, b_width=self.INSIDE_BITS + 1
        )
        m.d.comb += [multiplier.a.eq(fall), multiplier.b.eq(place)]
        begins = delay(m, start, multiplier.latency, name="start")

        # Not negative: even the line that ends at zero ends less than the half below it.
        line = Signal(self.START_BITS + self.INSIDE_BITS)
        size = Signal(15, reset_less=True)
        m.d.comb += line.eq((begins << self.INSIDE_BITS) - multiplier.product)
        m.d.sync += size.eq(line >> (self.INSIDE_BITS + self.GUARD))

        negative = taps(m, self.word[-1], self.latency - 1, name="negative")[-1]
        m.d.sync += self.normal.eq(Mux(negative, -size, size))
        return m
