"""The one rounding mode, half up, and saturation."""

from math import ceil

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..fabric.taps import taps
from ..platform import Macro

__all__ = ["RoundShift"]


class RoundShift(Macro):
    """Divide by a power of two, round half up and saturate: ``sat(floor(value / 2**shift + 1/2))``.

    The golden model is :func:`jepa_r_sim.golden.rounding.round_shift` followed by ``saturate``. A
    result a cycle, ``latency`` cycles after its value: two levels of the shifter a stage, then
    what is out of range, then the half. The range is looked at before the half is added, so that
    no carry is longer than the result.

    Parameters
    ----------
    width : :class:`int`, 2 or more
        Width of the value.
    shift_width : :class:`int`, positive
        Width of the shift.
    out_width : :class:`int`, 2 or more, at most ``width``
        Width of the result.
    narrow_width : :class:`int`, optional, less than ``out_width``
        Narrower range that ``narrow`` selects.

    Members
    -------
    value : ``In(signed(width))``
        What is divided.
    shift : ``In(shift_width)``
        Binary logarithm of the divisor.
    narrow : ``In(1)``
        Saturate to ``narrow_width``; :attr:`narrow_stage` cycles after its value. Only with
        ``narrow_width``.
    result : ``Out(signed(out_width))``
        Quotient, :attr:`latency` cycles after its value.

    Raises
    ------
    :exc:`ValueError`
        If a width is out of its range.
    """

    def __init__(self, *, width, shift_width, out_width, narrow_width=None):
        if shift_width < 1:
            raise ValueError(f"shift_width {shift_width} is not 1 or more")
        if not 2 <= out_width <= width:
            raise ValueError(f"out_width {out_width} is not in 2..{width}, the value's width")
        if narrow_width is not None and not 2 <= narrow_width < out_width:
            raise ValueError(f"narrow_width {narrow_width} is not in 2..{out_width - 1}")
        self._width = width
        self._shift_width = shift_width
        self._out_width = out_width
        self._narrow_width = narrow_width
        members = {
            "value": In(signed(width)),
            "shift": In(shift_width),
            "result": Out(signed(out_width)),
        }
        if narrow_width is not None:
            members["narrow"] = In(1)
        super().__init__(
            members,
            macro_name=f"round_shift_{width}_{shift_width}_{out_width}"
            + (f"_{narrow_width}" if narrow_width is not None else ""),
        )

    @staticmethod
    def narrow_stage_of(shift_width):
        """Cycles from a value to its ``narrow``."""
        return ceil(shift_width / 2)

    @staticmethod
    def latency_of(shift_width):
        """Cycles from a value to its quotient."""
        return RoundShift.narrow_stage_of(shift_width) + 2

    @property
    def narrow_stage(self):
        return self.narrow_stage_of(self._shift_width)

    @property
    def latency(self):
        return self.latency_of(self._shift_width)

    def build(self, platform):
        m = Module()

        # One bit more at the bottom, so that the bit worth one half is there after any shift.
        shifted = Cat(Const(0, 1), self.value).as_signed()
        shift = taps(m, self.shift, self.narrow_stage - 1, name="shift")
        for stage, low in enumerate(reversed(range(0, self._shift_width, 2))):
            select = shift[stage][low : low + 2]
            result = Signal(signed(self._width + 1), reset_less=True, name=f"shifted_{low}")
            with m.Switch(select):
                for amount in range(1 << len(select)):
                    with m.Case(amount):
                        m.d.sync += result.eq(shifted >> (amount << low))
            shifted = result
        half, whole = shifted[0], shifted[1:].as_signed()

        # Out of range by the whole part alone. The largest value plus one half is dealt with below.
        above, below = Signal(reset_less=True), Signal(reset_less=True)
        kept, kept_half = Signal(signed(self._out_width), reset_less=True), Signal(reset_less=True)
        above_wide, below_wide = self._outside(whole, self._out_width)
        m.d.sync += [
            above.eq(above_wide),
            below.eq(below_wide),
            kept.eq(whole),
            kept_half.eq(half),
        ]
        if self._narrow_width is not None:
            above_narrow, below_narrow = self._outside(whole, self._narrow_width)
            with m.If(self.narrow):
                m.d.sync += [above.eq(above_narrow), below.eq(below_narrow)]

        def limits(width):
            return (1 << (width - 1)) - 1, -(1 << (width - 1))

        largest, smallest = Signal.like(kept), Signal.like(kept)
        wide_limits = limits(self._out_width)
        m.d.comb += [largest.eq(wide_limits[0]), smallest.eq(wide_limits[1])]
        if self._narrow_width is not None:
            narrow = Signal(reset_less=True)
            m.d.sync += narrow.eq(self.narrow)
            narrow_limits = limits(self._narrow_width)
            with m.If(narrow):
                m.d.comb += [largest.eq(narrow_limits[0]), smallest.eq(narrow_limits[1])]

        with m.If(above):
            m.d.sync += self.result.eq(largest)
        with m.Elif(below):
            m.d.sync += self.result.eq(smallest)
        with m.Else():
            m.d.sync += self.result.eq(kept + (kept_half & (kept != largest)))

        return m

    @staticmethod
    def _outside(whole, width):
        """Whether a value is above, and below, the range of a signed number of ``width``."""
        rest, sign = whole[width - 1 :], whole[-1]
        return ~sign & rest.any(), sign & ~rest.all()
