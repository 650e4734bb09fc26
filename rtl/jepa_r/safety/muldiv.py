"""Multiplication and division, a bit a cycle, in the same time for all operands."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["MulDiv"]


class MulDiv(wiring.Component):
    """RISC-V's M operations (volume I, "M" 2.0) on numbers of ``width`` bits.

    Magnitudes are multiplied by shift and add or divided by restoring division, in the same
    registers and with the same adder, and the result gets its sign in the last cycle. A divisor of
    zero gives all ones and the dividend by itself, as it must be, if the quotient is not negated;
    the quotient that overflows is its own negative.

    Parameters
    ----------
    width : :class:`int`, at least 2
        Bits W of operands and result.

    Members
    -------
    start : ``In(1)``
        Take the operands. Not while an operation runs.
    function : ``In(3)``
        ``funct3``: 0 mul, 1 mulh, 2 mulhsu, 3 mulhu, 4 div, 5 divu, 6 rem, 7 remu. Held until
        ``done``.
    a, b : ``In(W)``
        Operands, read with ``start``.
    done : ``Out(1)``
        For one cycle, ``latency(W)`` cycles after ``start``.
    result : ``Out(W)``
        Result, while ``done``.

    Raises
    ------
    :exc:`ValueError`
        If ``width`` is below 2.
    """

    def __init__(self, *, width=32):
        if width < 2:
            raise ValueError(f"width is {width}; it must be at least 2")
        self._width = width
        super().__init__({
            "start": In(1),
            "function": In(3),
            "a": In(width),
            "b": In(width),
            "done": Out(1),
            "result": Out(width),
        })

    @staticmethod
    def latency(width=32):
        """Cycles from ``start`` to ``done``: one a bit, and one for the operands."""
        return width + 1

    def elaborate(self, platform):
        m = Module()
        width = self._width
        divide = self.function[2]

        # Product, or remainder above the quotient that grows into the dividend's place.
        high, low = Signal(width), Signal(width)
        other = Signal(width)
        left = Signal(range(width + 1))
        negate, negate_rest = Signal(), Signal()

        a_negative, b_negative = Signal(), Signal()
        m.d.comb += [
            # mulhu, divu and remu take both as unsigned, mulhsu the second; of mul's product the
            # low half does not depend on it.
            a_negative.eq(self.a[-1] & Mux(divide, ~self.function[0], self.function[:2] != 3)),
            b_negative.eq(self.b[-1] & Mux(divide, ~self.function[0], ~self.function[1])),
        ]

        # One adder: high + other for a bit of the product, rest - other for one of the quotient.
        augend, total = Signal(width + 1), Signal(width + 2)
        m.d.comb += [
            augend.eq(Mux(divide, Cat(low[-1], high), high)),
            total.eq(augend + Mux(divide, ~Cat(other, C(0, 1)), Mux(low[0], other, 0)) + divide),
        ]

        with m.If(self.start):
            m.d.sync += [
                high.eq(0),
                low.eq(Mux(a_negative, -self.a, self.a)),
                other.eq(Mux(b_negative, -self.b, self.b)),
                negate.eq((a_negative ^ b_negative) & (~divide | self.b.any())),
                negate_rest.eq(a_negative),
                left.eq(width + 1),
            ]
        with m.Elif(left.any()):
            m.d.sync += left.eq(left - 1)
        with m.If(left > 1):
            with m.If(~divide):
                m.d.sync += Cat(low, high).eq(Cat(low[1:], total[: width + 1]))
            with m.Else():
                fits = total[width + 1]
                rest = Mux(fits, total[:width], augend[:width])
                m.d.sync += [high.eq(rest), low.eq(Cat(fits, low[:-1]))]

        upper, magnitude, inverted, carry = Signal(), Signal(width), Signal(), Signal()
        m.d.comb += [
            self.done.eq(left == 1),
            upper.eq(Mux(divide, self.function[1], self.function[:2].any())),
            magnitude.eq(Mux(upper, high, low)),
            inverted.eq(Mux(divide & upper, negate_rest, negate)),
            # Negating the product's upper half takes the carry out of the lower one.
            carry.eq(inverted & (divide | ~upper | ~low.any())),
            self.result.eq((magnitude ^ inverted.replicate(width)) + carry),
        ]
        return m
