"""Control period: what the processor's timer interrupt comes from."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..platform import Macro

__all__ = ["PeriodTimer"]


class PeriodTimer(Macro):
    """Counts periods, and interrupts once in each.

    Parameters
    ----------
    period : :class:`int`, at least 2
        Cycles of a period.

    Members
    -------
    begin : ``Out(1)``
        The first cycle of a period. The first one begins ``period`` cycles after reset.
    tick, phase : ``Out(32)``
        Periods that have begun; cycles since the last of them began, or since reset: 0 in its first
        cycle.
    done : ``In(1)``
        Ends the interrupt; what begins in this very cycle is not ended.
    interrupt : ``Out(1)``
        From the cycle after ``begin`` until ``done``.
    overrun : ``Out(1)``
        For one cycle, that of ``begin``: the period before it was never done.

    Raises
    ------
    :exc:`ValueError`
        If ``period`` is below 2.
    """

    def __init__(self, *, period):
        if period < 2:
            raise ValueError(f"period is {period}; it must be at least 2")
        self._period = period
        super().__init__(
            {
                "begin": Out(1),
                "tick": Out(32),
                "phase": Out(32),
                "done": In(1),
                "interrupt": Out(1),
                "overrun": Out(1),
            },
            macro_name=f"period_timer_{period}",
        )

    def build(self, platform):
        m = Module()
        last = Signal()
        m.d.comb += [
            last.eq(self.phase == self._period - 1),
            self.overrun.eq(self.begin & self.interrupt),
        ]
        m.d.sync += [self.begin.eq(last), self.phase.eq(Mux(last, 0, self.phase + 1))]
        with m.If(last):
            m.d.sync += self.tick.eq(self.tick + 1)
        with m.If(self.begin):
            m.d.sync += self.interrupt.eq(1)
        with m.Elif(self.done):
            m.d.sync += self.interrupt.eq(0)
        return m
