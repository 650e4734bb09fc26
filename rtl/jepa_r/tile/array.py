"""The systolic array: cells in blocks, blocks in an array."""

from amaranth import *
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..platform import Macro
from .cell import Cell, sum_width

__all__ = ["SystolicArray", "block_size"]

TYPICAL_BLOCK = 16  # edge of a block; 128 = 8 x 16 needs the fewest instances with it, or with 8


def block_size(size):
    """Edge of a block: the divisor of ``size`` that is nearest to 16, the larger of two."""
    divisors = [n for n in range(1, size + 1) if size % n == 0]
    return min(divisors, key=lambda n: (abs(n - TYPICAL_BLOCK), -n))


class SystolicArray(Macro):
    """``rows`` x ``columns`` cells: column n sums ``a[k] * b_n[k]`` over the rows k.

    Row ``k`` of A and B is expected ``k`` cycles after row 0, control of column ``n`` ``n`` cycles
    after column 0. The sum of column ``n`` leaves the last row ``rows + n + 2`` cycles after row 0
    of its A came.

    An array larger than a block is an array of equal blocks, each a macro of cells, so that the
    Verilog is one cell, one block and one array of instances.

    Parameters
    ----------
    rows, columns : :class:`int`
        Size in cells.
    width : :class:`int`
        Width of a partial sum; by default what ``rows`` rows need.
    block : pair of :class:`int`, optional
        Rows and columns of a block; (1, 1) for an array of cells. By default
        :func:`block_size` of each edge.

    Members
    -------
    a_i, a_o : ``ArrayLayout(signed(8), rows)``
        A, from the left and to the right, ``columns`` cycles later.
    b_i, b_o : ``ArrayLayout(signed(8), rows)``
        B, likewise.
    take_i, take_o : ``columns``
        Per column: this B is for this column. To the bottom ``rows`` cycles later.
    swap_i, swap_o : ``columns``
        Per column: use the B taken last. Likewise.
    sum_i, sum_o : ``ArrayLayout(signed(width), columns)``
        Partial sums, from above and to below.

    Raises
    ------
    :exc:`ValueError`
        If a size is not positive, or not a multiple of its block.
    """

    def __init__(self, rows, columns, *, width=None, block=None):
        if rows < 1 or columns < 1:
            raise ValueError(f"array of {rows} x {columns} cells is not at least 1 x 1")
        if width is None:
            width = sum_width(rows)
        if block is None:
            block = block_size(rows), block_size(columns)
            if block == (rows, columns):
                block = 1, 1
        for size, part in zip((rows, columns), block, strict=True):
            if size % part:
                raise ValueError(f"array size {size} is not a multiple of block size {part}")
        self._rows, self._columns, self._width, self._block = rows, columns, width, block
        lanes, sums = data.ArrayLayout(signed(8), rows), data.ArrayLayout(signed(width), columns)
        name = f"array_{rows}x{columns}_{width}"
        if block != (1, 1):
            name += f"_of_{block[0]}x{block[1]}"
        super().__init__(
            {
                "a_i": In(lanes),
                "a_o": Out(lanes),
                "b_i": In(lanes),
                "b_o": Out(lanes),
                "take_i": In(columns),
                "take_o": Out(columns),
                "swap_i": In(columns),
                "swap_o": Out(columns),
                "sum_i": In(sums),
                "sum_o": Out(sums),
            },
            macro_name=name,
        )

    def _part(self):
        if self._block == (1, 1):
            return Cell(width=self._width)
        return SystolicArray(*self._block, width=self._width, block=(1, 1))

    def build(self, platform):
        m = Module()
        rows, columns = self._rows // self._block[0], self._columns // self._block[1]

        def split(port, count):
            bits = Value.cast(port)
            return [bits.word_select(n, len(bits) // count) for n in range(count)]

        takes, swaps = split(self.take_i, columns), split(self.swap_i, columns)
        sums = split(self.sum_i, columns)
        a_out, b_out = [], []
        for row, (a, b) in enumerate(
            zip(split(self.a_i, rows), split(self.b_i, rows), strict=True)
        ):
            for column in range(columns):
                m.submodules[f"part_{row}_{column}"] = part = self._part()
                m.d.comb += [
                    Value.cast(part.a_i).eq(a),
                    Value.cast(part.b_i).eq(b),
                    part.take_i.eq(takes[column]),
                    part.swap_i.eq(swaps[column]),
                    Value.cast(part.sum_i).eq(sums[column]),
                ]
                a, b = Value.cast(part.a_o), Value.cast(part.b_o)
                takes[column], swaps[column] = part.take_o, part.swap_o
                sums[column] = Value.cast(part.sum_o)
            a_out.append(a)
            b_out.append(b)
        m.d.comb += [
            self.a_o.as_value().eq(Cat(a_out)),
            self.b_o.as_value().eq(Cat(b_out)),
            self.take_o.eq(Cat(takes)),
            self.swap_o.eq(Cat(swaps)),
            self.sum_o.as_value().eq(Cat(sums)),
        ]
        return m
