"""The tile: an INT8 systolic array for C = A · Bᵀ, with the accumulators below it."""

from amaranth import *
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..fabric.delay import delay, deskew, skew
from ..platform import Macro
from .accumulator import Accumulator
from .array import SystolicArray
from .cell import sum_width
from .steering import Steering

__all__ = ["Tile"]


class Tile(Macro):
    """``acc[m, n] (+)= sum_k A[m, k] * B[n, k]`` for INT8 operands, both contiguous in k.

    A *pass* is up to ``rows`` of k and up to ``columns`` of n: B comes one n-row a cycle and stays
    in the array, row n in column n; then A comes one m-row (token) a cycle, ``swap`` with the
    first, and each gives a row of sums that is stored in the accumulators or added to them. B of
    the next pass may come from the cycle of the swap on, while A streams, and must be complete
    before the next swap. Gaps between rows, of A or B, are allowed anywhere.

    A row of sums is written ``rows + columns + 1`` cycles after its A came. The next pass may
    start :meth:`interval` cycles after this one, and rows of a pass are consecutive from an even
    ``acc_row``: the banks of even and odd rows then alternate, and no sum is read before it is
    written. With K < ``rows`` the rest of either A or B is zero. With N < ``columns`` only N rows
    of B need come; the other columns are meaningless.

    What ``a`` and ``b`` carry while not valid does not matter. Golden function:
    :func:`jepa_r_sim.golden.tile.matmul`.

    Parameters
    ----------
    rows, columns : :class:`int`
        Cells along k and along n.
    acc_rows : :class:`int`
        Rows of each half of the accumulators.

    Members
    -------
    a : ``In(ArrayLayout(signed(8), rows))``
        A row of A.
    a_valid : ``In(1)``
        It is one.
    swap : ``In(1)``
        It is token 0 of a pass.
    b_rows : ``In(range(columns + 1))``
        With ``swap``: rows of B that must have come since the swap before.
    acc_half, acc_row, acc_add : ``In(1)``, ``In(range(acc_rows))``, ``In(1)``
        With ``a_valid``: where the sums go, and whether they are added (1) or stored (0).
    b : ``In(ArrayLayout(signed(8), rows))``
        A row of B.
    b_valid : ``In(1)``
        It is one.
    r_en, r_half, r_row : ``In(1)``, ``In(1)``, ``In(range(acc_rows))``
        Read a row of the accumulators, in a bank that the array does not use in this cycle:
        any row of the half that is not being added to.
    r_data : ``Out(ArrayLayout(signed(32), columns))``
        The row, :attr:`READ_LATENCY` cycles later, until the next.
    fault : ``Out(1)``
        :attr:`FAULT_LATENCY` cycles later: a swap with a number of B rows other than ``b_rows``, a
        row of B that finds all columns taken, or two accesses in one bank of the accumulators.

    Raises
    ------
    :exc:`ValueError`
        If an edge is not positive, or ``acc_rows`` is odd or less than 4.
    """

    READ_LATENCY = Accumulator.READ_LATENCY
    FAULT_LATENCY = 2

    def __init__(self, *, rows, columns, acc_rows):
        self._array = SystolicArray(rows, columns)
        self._accumulator = Accumulator(columns=columns, rows=acc_rows, width=sum_width(rows))
        self._rows, self._columns, self._acc_rows = rows, columns, acc_rows
        lanes = data.ArrayLayout(signed(8), rows)
        super().__init__(
            {
                "a": In(lanes),
                "a_valid": In(1),
                "swap": In(1),
                "b_rows": In(range(columns + 1)),
                "acc_half": In(1),
                "acc_row": In(range(acc_rows)),
                "acc_add": In(1),
                "b": In(lanes),
                "b_valid": In(1),
                "r_en": In(1),
                "r_half": In(1),
                "r_row": In(range(acc_rows)),
                "r_data": Out(self._accumulator.r_data.shape()),
                "fault": Out(1),
            },
            macro_name=f"tile_{rows}x{columns}_acc{acc_rows}",
        )

    rows = property(lambda self: self._rows)
    columns = property(lambda self: self._columns)
    acc_rows = property(lambda self: self._acc_rows)

    @staticmethod
    def interval(m, n):
        """Least cycles from a swap to the next, for ``m`` tokens and then ``n`` rows of B.

        Tokens come one a cycle, and so do the rows of the next B meanwhile. An odd number of tokens
        is followed by an idle cycle, so that the next pass finds the even bank free.
        """
        return max(m + m % 2, n)

    @staticmethod
    def first_latency(rows, columns):
        """Cycles from a row of A on the port to the write of its sums."""
        return rows + columns + 1

    @classmethod
    def chain_cycles(cls, m, n, passes, *, rows, columns):
        """Cycles of a cold chain of equal passes, first row of B to last row of sums written."""
        return n + (passes - 1) * cls.interval(m, n) + m + cls.first_latency(rows, columns)

    def build(self, platform):
        m = Module()
        m.submodules.steering = steering = Steering(self._columns)
        m.submodules.array = array = self._array
        m.submodules.accumulator = accumulator = self._accumulator

        m.d.comb += [
            steering.b_valid.eq(self.b_valid),
            steering.swap.eq(self.swap),
            steering.b_rows.eq(self.b_rows),
            array.a_i.as_value().eq(Cat(skew(m, list(self.a), name="a_skew"))),
            array.b_i.as_value().eq(Cat(skew(m, list(self.b), name="b_skew"))),
            array.take_i.eq(steering.take),
            array.swap_i.eq(steering.swaps),
            accumulator.sums.as_value().eq(Cat(deskew(m, list(array.sum_o), name="sum_skew"))),
        ]

        # What a row of A is for waits beside the array: the sums are there a cycle after it.
        cycles = self.first_latency(self._rows, self._columns) - 1
        target = Cat(self.acc_half, self.acc_add, self.acc_row)
        m.d.comb += [
            accumulator.valid.eq(
                delay(m, self.a_valid, cycles, reset_less=False, name="valid_wait")
            ),
            Cat(accumulator.half, accumulator.add, accumulator.row).eq(
                delay(m, target, cycles, name="target_wait")
            ),
            accumulator.r_en.eq(self.r_en),
            accumulator.r_half.eq(self.r_half),
            accumulator.r_row.eq(self.r_row),
            self.r_data.eq(accumulator.r_data),
        ]
        # The accumulators look at their inputs a cycle late.
        steered = delay(m, steering.fault, 1, reset_less=False, name="steering_fault")
        m.d.sync += self.fault.eq(steered | accumulator.conflict)
        return m
