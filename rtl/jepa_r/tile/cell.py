"""The multiply-accumulate cell of the systolic array."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..platform import Macro

__all__ = ["Cell", "sum_width"]


def sum_width(rows):
    """Bits of a partial sum of ``rows`` INT8 products.

    A product is at most (-128)² = 2^14, so ``rows`` of them are at most rows * 2^14, which
    14 + floor(log2 rows) bits and one more hold, and a sign: 16 + floor(log2 rows).
    """
    return 16 + rows.bit_length() - 1


class Cell(Macro):
    """One cell: ``sum_o = sum_i + a * w`` with a stationary, double-buffered ``w``.

    A and B move right, control and partial sums move down. ``take_i`` says that the ``b_i`` of this
    cycle is this cell's next operand: it goes to a shadow register, and on from there. ``swap_i``
    comes with the ``a_i`` it is first meant for, and makes the shadow the operand in use.

    Multiplier and adder are in different cycles, each from register to register with nothing else
    on the way: ``a_i`` is registered in cycle 1, the product in 2, the sum in 3. ``sum_i`` is
    therefore expected two cycles after its ``a_i``, and the cell below, which sees its A one cycle
    later, is fed directly.

    Both are left to synthesis as operators, so that a simulator has two instructions where gates
    would be hundreds. ``scripts/yosys`` makes full adders of a library of them, or, with operand
    and product registers, a multiplier of the ECP5; its README has what was tried. With 23-bit sums
    the cell is 65 um2 and 482 ps in ASAP7, where yosys' own structure is 114 um2 and 485 ps; with
    20-bit sums 7,536 um2 and 3.4 ns, or 7,947 um2 and 2.9 ns, in SG13G2.

    Parameters
    ----------
    width : :class:`int`
        Width of a partial sum.

    Members
    -------
    a_i, a_o : ``signed(8)``
        A, from the left and, a cycle later, to the right.
    b_i, b_o : ``signed(8)``
        B on its way to the cells on the right, likewise.
    take_i, take_o : 1
        Keep ``b_i`` in the shadow; to the cell below a cycle later.
    swap_i, swap_o : 1
        Use the shadow from ``a_i`` on; to the cell below a cycle later.
    sum_i, sum_o : ``signed(width)``
        Partial sum, from above and to below.
    """

    def __init__(self, *, width):
        super().__init__(
            {
                "a_i": In(signed(8)),
                "a_o": Out(signed(8)),
                "b_i": In(signed(8)),
                "b_o": Out(signed(8)),
                "take_i": In(1),
                "take_o": Out(1),
                "swap_i": In(1),
                "swap_o": Out(1),
                "sum_i": In(signed(width)),
                "sum_o": Out(signed(width)),
            },
            macro_name=f"cell_{width}",
        )

    def build(self, platform):
        m = Module()
        a = Signal(signed(8), reset_less=True)
        b = Signal(signed(8), reset_less=True)
        shadow = Signal(signed(8), reset_less=True)
        stationary = Signal(signed(8), reset_less=True)
        product = Signal(signed(16), reset_less=True)
        total = Signal.like(self.sum_o, reset_less=True)
        m.d.sync += [
            a.eq(self.a_i),
            b.eq(self.b_i),
            self.take_o.eq(self.take_i),
            self.swap_o.eq(self.swap_i),
            product.eq(a * stationary),
            total.eq(self.sum_i + product),
        ]
        with m.If(self.take_i):
            m.d.sync += shadow.eq(self.b_i)
        with m.If(self.swap_i):
            m.d.sync += stationary.eq(shadow)
        m.d.comb += [self.a_o.eq(a), self.b_o.eq(b), self.sum_o.eq(total)]
        return m
