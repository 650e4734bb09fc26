"""A rate that is kept exactly."""

from fractions import Fraction

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..platform import Macro

__all__ = ["Pacer"]


class Pacer(Macro):
    """Say when the next thing may pass, if each takes its time.

    Thing k, which is there from cycle a on, begins at S = max(a, E) and takes ``amount * interval``
    cycles, so that E = S + ``amount * interval`` for the next one. It passes in the first cycle not
    before S. S is a fraction, and none of it is lost: only time in which nothing was there is. (A
    thing that comes in the very cycle of a fractional E begins at E: less than a cycle before it is
    there.)

    Parameters
    ----------
    interval : :class:`fractions.Fraction`
        Cycles for an amount of one.
    most : :class:`int`
        Greatest amount.

    Members
    -------
    open : ``Out(1)``
        What is there now may pass. A register: it is the ``ready`` of what comes.
    go, amount : ``In(1)``, ``In(range(most + 1))``
        It does, which it may only where ``open``.
    """

    def __init__(self, *, interval, most):
        self._interval = Fraction(interval)
        self._most = most
        super().__init__(
            {"open": Out(1, init=1), "go": In(1), "amount": In(range(most + 1))},
            macro_name=f"pacer_{self._interval.numerator}_{self._interval.denominator}_{most}",
        )

    def build(self, platform):
        m = Module()
        cycle, one = self._interval.denominator, self._interval.numerator
        # E less the time now, in parts of a cycle.
        left = Signal(range(-cycle, self._most * one + 1))
        passed, waited = left + self.amount * one - cycle, left - cycle
        m.d.sync += [
            left.eq(Mux(self.go, passed, Mux(self.open, 0, waited))),
            self.open.eq(Mux(self.go, passed <= 0, self.open | (waited <= 0))),
        ]
        return m
