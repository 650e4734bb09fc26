"""Writes the settings of a block, one after the other, and starts it."""

from amaranth import *
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..platform import Macro

__all__ = ["Setup"]


class Setup(Macro):
    """Give a block (:class:`~.settings.Settings`) its settings, once, and start it.

    Parameters
    ----------
    count : :class:`int`, positive
        Settings N.

    Members
    -------
    begin : ``In(1)``
        Begin in the next cycle. Only the first one counts.
    values : ``In(ArrayLayout(32, N))``
        The settings, from ``begin`` on for N + 1 cycles.
    w_en, w_data : ``Out(N)``, ``Out(32)``
        For the block: one setting a cycle.
    start : ``Out(1)``
        For one cycle, ``N + 1`` cycles after ``begin``: all are written.

    Raises
    ------
    :exc:`ValueError`
        If ``count`` is not positive.
    """

    def __init__(self, *, count):
        if count < 1:
            raise ValueError(f"count is {count}; there is at least one setting")
        self._count = count
        super().__init__(
            {
                "begin": In(1),
                "values": In(data.ArrayLayout(32, count)),
                "w_en": Out(count),
                "w_data": Out(32),
                "start": Out(1),
            },
            macro_name=f"setup_{count}",
        )

    def build(self, platform):
        m = Module()
        begun = Signal()
        left = Signal(self._count + 1)
        with m.If(self.begin):
            m.d.sync += begun.eq(1)
        m.d.sync += left.eq(Cat(self.begin & ~begun, left))
        m.d.comb += [self.w_en.eq(left), self.start.eq(left[-1])]
        with m.Switch(left):
            for n in range(self._count):
                with m.Case(1 << n):
                    m.d.comb += self.w_data.eq(self.values[n])
        return m
