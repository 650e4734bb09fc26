"""Exponentials of seven bits."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..fabric.taps import taps
from ..platform import Macro

__all__ = ["Exp2"]


class Exp2(Macro):
    """``127 * 2**(-distance / 16)``, rounded half up, from a table of sixteen fractions.

    The golden model is :func:`jepa_r_sim.golden.exp2.exp2`. A result a cycle, :attr:`latency`
    cycles later: the table, two levels of the shifter, two more, the half.

    Members
    -------
    distance : ``In(8)``
        How far below the row's maximum, in sixteenths of an octave.
    result : ``Out(7)``
        0..127.
    """

    latency = 4

    # The table's numbers have 8 fractional bits, and its last place is 8 + octaves bits below the
    # result's. Only one of the bits that are shifted out counts, the half, so 7 never matter.
    TABLE = tuple(round(127 * 256 * 2.0 ** (-fraction / 16)) >> 7 for fraction in range(16))

    def __init__(self):
        super().__init__({"distance": In(8), "result": Out(7)}, macro_name="exp2")

    def build(self, platform):
        m = Module()
        fraction, octaves = self.distance[:4], taps(m, self.distance[4:], 2, name="octaves")

        looked_up = Signal(8, reset_less=True)
        with m.Switch(fraction):
            for n, entry in enumerate(self.TABLE):
                with m.Case(n):
                    m.d.sync += looked_up.eq(entry)

        by_four = Signal(8, reset_less=True)
        by_one = Signal(8, reset_less=True)
        with m.Switch(octaves[1][2:]):
            for n in range(4):
                with m.Case(n):
                    m.d.sync += by_four.eq(looked_up >> (4 * n))
        with m.Switch(octaves[2][:2]):
            for n in range(4):
                with m.Case(n):
                    m.d.sync += by_one.eq(by_four >> n)
        m.d.sync += self.result.eq(by_one[1:] + by_one[0])

        return m
