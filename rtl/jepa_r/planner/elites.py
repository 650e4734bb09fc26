"""The best candidates, in order."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..platform import Macro
from .layouts import EliteLayout, number

__all__ = ["EliteCell", "EliteList"]


class EliteCell(Macro):
    """One place of the list.

    A candidate that is better than what is here takes its place, or lets the one above it down, if
    it is better than that one as well.

    Members
    -------
    clear : ``In(1)``
        Forget.
    insert : ``In(1)``
        A candidate takes its place; it has been steady for a cycle before.
    offered : ``In(EliteLayout())``
        The candidate.
    above, above_worse : ``In(EliteLayout())``, ``In(1)``
        ``entry`` and ``worse`` of the next better place.
    entry : ``Out(EliteLayout())``
        What is here.
    worse : ``Out(1)``
        The candidate was better than what was here in the last cycle; the older of two equals is
        the better one.
    """

    def __init__(self):
        super().__init__(
            {
                "clear": In(1),
                "insert": In(1),
                "offered": In(EliteLayout()),
                "above": In(EliteLayout()),
                "above_worse": In(1),
                "entry": Out(EliteLayout()),
                "worse": Out(1),
            },
            macro_name="elite_cell",
        )

    def build(self, platform):
        m = Module()
        m.d.sync += self.worse.eq(~self.entry.valid | (self.offered.cost < self.entry.cost))
        with m.If(self.clear):
            m.d.sync += self.entry.eq(0)
        with m.Elif(self.insert & self.worse):
            m.d.sync += self.entry.eq(
                Mux(self.above_worse, self.above.as_value(), self.offered.as_value())
            )
        return m


class EliteList(Macro):
    """Insertion into a sorted list: one cycle compares with all places, the next moves them.

    Equal costs stay in the order in which they were offered.

    Parameters
    ----------
    elites : :class:`int`, positive
        Places.

    Members
    -------
    clear : ``In(1)``
        Forget all.
    offer : ``In(1)``
        Insert a candidate; at most every :attr:`period` cycles. It counts :attr:`latency` cycles
        later.
    candidate, cost : ``In(16)``, ``In(48)``
        The candidate, in the cycle of ``offer``.
    rank : ``In(range(elites))``
        Place that is looked at.
    selected : ``Out(EliteLayout())``
        What was there in the last cycle.
    """

    period = 2
    latency = 3

    def __init__(self, *, elites):
        self._elites = elites
        super().__init__(
            {
                "clear": In(1),
                "offer": In(1),
                "candidate": In(16),
                "cost": In(48),
                "rank": In(number(elites)),
                "selected": Out(EliteLayout()),
            },
            macro_name=f"elite_list_{elites}",
        )

    def build(self, platform):
        m = Module()
        offered = Signal(EliteLayout(), reset_less=True)
        with m.If(self.offer):
            m.d.sync += offered.as_value().eq(Cat(C(1, 1), self.candidate, self.cost))
        compare, insert = Signal(), Signal()
        m.d.sync += [compare.eq(self.offer), insert.eq(compare)]

        cells = []
        for n in range(self._elites):
            m.submodules[f"cell_{n}"] = cell = EliteCell()
            m.d.comb += [
                cell.clear.eq(self.clear),
                cell.insert.eq(insert),
                cell.offered.eq(offered),
            ]
            if cells:
                m.d.comb += [cell.above.eq(cells[-1].entry), cell.above_worse.eq(cells[-1].worse)]
            cells.append(cell)
        with m.Switch(self.rank):
            for n, cell in enumerate(cells):
                with m.Case(n):
                    m.d.sync += self.selected.eq(cell.entry)
        return m
