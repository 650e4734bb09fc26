"""Division and square root, a bit a cycle."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..platform import Macro

__all__ = ["SerialDivider", "SerialRoot"]


class SerialDivider(Macro):
    """Whole part of a quotient of unsigned numbers, by restoring division.

    Parameters
    ----------
    width, divisor_width : :class:`int`, positive
        Widths of dividend and divisor.

    Members
    -------
    start : ``In(1)``
        Take dividend and divisor.
    dividend, divisor : ``In(width)``, ``In(divisor_width)``
        In the cycle of ``start``; a quotient by 0 means nothing.
    quotient : ``Out(width)``
        :attr:`latency` cycles after ``start``, until the next.
    """

    def __init__(self, *, width, divisor_width):
        self._width = width
        self._divisor_width = divisor_width
        super().__init__(
            {
                "start": In(1),
                "dividend": In(width),
                "divisor": In(divisor_width),
                "quotient": Out(width),
            },
            macro_name=f"divider_{width}_by_{divisor_width}",
        )

    @property
    def latency(self):
        return self._width + 1

    def build(self, platform):
        m = Module()
        divisor = Signal(self._divisor_width, reset_less=True)
        remainder = Signal(self._divisor_width, reset_less=True)
        # The dividend leaves at the top while the quotient enters at the bottom.
        value = Signal(self._width, reset_less=True)
        left = Signal(range(self._width + 1))
        trial = Signal(signed(self._divisor_width + 2))
        m.d.comb += [
            trial.eq(Cat(value[-1], remainder) - divisor),
            self.quotient.eq(value),
        ]
        with m.If(self.start):
            m.d.sync += [
                divisor.eq(self.divisor),
                remainder.eq(0),
                value.eq(self.dividend),
                left.eq(self._width),
            ]
        with m.Elif(left != 0):
            m.d.sync += [
                remainder.eq(Mux(trial < 0, Cat(value[-1], remainder), trial)),
                value.eq(Cat(trial >= 0, value)),
                left.eq(left - 1),
            ]
        return m


class SerialRoot(Macro):
    """Whole part of a square root, two bits of the radicand a cycle.

    Parameters
    ----------
    width : :class:`int`, positive and even
        Width of the radicand.

    Members
    -------
    start : ``In(1)``
        Take the radicand.
    radicand : ``In(width)``
        In the cycle of ``start``.
    root : ``Out(width // 2)``
        :attr:`latency` cycles after ``start``, until the next.
    """

    def __init__(self, *, width):
        self._width = width
        super().__init__(
            {
                "start": In(1),
                "radicand": In(width),
                "root": Out(width // 2),
            },
            macro_name=f"root_{width}",
        )

    @property
    def latency(self):
        return self._width // 2 + 1

    def build(self, platform):
        m = Module()
        bits = self._width // 2
        value = Signal(self._width, reset_less=True)
        # What is left is at most twice the root.
        remainder = Signal(bits + 1, reset_less=True)
        left = Signal(range(bits + 1))
        grown = Signal(bits + 3)
        trial = Signal(signed(bits + 4))
        m.d.comb += [
            grown.eq(Cat(value[-2:], remainder)),
            # (2r + 1)**2 - 4 * r**2 = 4r + 1
            trial.eq(grown - Cat(C(1, 2), self.root)),
        ]
        with m.If(self.start):
            m.d.sync += [
                value.eq(self.radicand),
                remainder.eq(0),
                self.root.eq(0),
                left.eq(bits),
            ]
        with m.Elif(left != 0):
            m.d.sync += [
                remainder.eq(Mux(trial < 0, grown, trial)),
                self.root.eq(Cat(trial >= 0, self.root)),
                value.eq(value << 2),
                left.eq(left - 1),
            ]
        return m
