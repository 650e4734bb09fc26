"""The top edge of the array: which column takes which row of B."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..platform import Macro

__all__ = ["Steering"]


class Steering(Macro):
    """Control of the columns: the n-th row of B after a swap goes to column n.

    A row of B passes by one column a cycle. A column that has taken none since its last swap takes
    the first that comes, and lets the later ones pass::

        take = valid & (swap | ~full)
        full' = valid | (full & ~swap)
        valid of the next column' = valid & full & ~swap

    All rows of a column do the same, each a cycle after the one above, so the rule is carried out
    once a column and its outcome moves down with the partial sums.

    A swap makes whatever a column took last its operand: one that comes too early or too late gives
    wrong sums, and no later stage could tell. So rows of B are counted between swaps.

    Parameters
    ----------
    columns : :class:`int`
        Columns of the array.

    Members
    -------
    b_valid : ``In(1)``
        Row 0 of B is on the array's port. With ``swap`` it is the first of the next B.
    swap : ``In(1)``
        Token 0 of a pass is on the array's port.
    b_rows : ``In(range(columns + 1))``
        With ``swap``: rows of B that must have come since the last swap.
    take, swaps : ``Out(columns)``
        To the first row of the array.
    fault : ``Out(1)``
        In the same cycle: ``b_rows`` is wrong, or this row of B finds all columns taken.
    """

    def __init__(self, columns):
        self._columns = columns
        super().__init__(
            {
                "b_valid": In(1),
                "swap": In(1),
                "b_rows": In(range(columns + 1)),
                "take": Out(columns),
                "swaps": Out(columns),
                "fault": Out(1),
            },
            macro_name=f"steering_{columns}",
        )

    def build(self, platform):
        m = Module()

        passed = Signal(self._columns)
        swapped = Signal(self._columns)
        full = Signal(self._columns)
        valid = Signal(self._columns)
        m.d.comb += [
            valid.eq(Cat(self.b_valid, passed)),
            self.swaps.eq(Cat(self.swap, swapped)),
            self.take.eq(valid & (self.swaps | ~full)),
        ]
        m.d.sync += [
            passed.eq(valid & full & ~self.swaps),
            swapped.eq(self.swaps),
            full.eq(valid | (full & ~self.swaps)),
        ]

        count = Signal(range(self._columns + 1))
        overrun = Signal()
        m.d.comb += [
            overrun.eq(self.b_valid & ~self.swap & (count == self._columns)),
            self.fault.eq(overrun | (self.swap & (count != self.b_rows))),
        ]
        with m.If(self.swap):
            m.d.sync += count.eq(self.b_valid)
        with m.Elif(self.b_valid & ~overrun):
            m.d.sync += count.eq(count + 1)
        return m
