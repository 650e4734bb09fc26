"""One lane: the element operations, as one pipeline."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..fabric.delay import delay
from ..fabric.taps import taps
from ..memory.sram import SramArray
from ..numeric.exp2 import Exp2
from ..numeric.multiplier import PipelinedMultiplier
from ..numeric.rounding import RoundShift
from ..platform import Macro
from .layouts import ColumnParams, RopeEntry, RowParams, Second

__all__ = ["Lane"]


class Lane(Macro):
    """One column's ``z`` of every step; an element a cycle, always :attr:`latency` cycles later.

    The golden model is :mod:`jepa_r_sim.golden.lane`. What each number is called, and in which
    cycle after the step it is in a register:

    ===== ==========================================================================
    cycle
    ===== ==========================================================================
    1     what comes in
    2     operands of the first addition
    3     ``x``: ``src + column.add`` (wrapped) or ``(src << 8 * pre) - row.offset``
    6     ``x * mul``, 50 bits; exponentials go their own way from 3
    11    shifted, rounded, saturated to 16 bits
    12    ``y``; the partner's ``y`` comes in
    15    ``y * c0`` and ``partner * c1``
    16    their sum, or the first plus ``other`` or ``column.add``
    21    shifted, rounded, saturated to 16 or 8 bits
    22    the table's word
    23    ``z``, and ``other`` again beside it
    ===== ==========================================================================

    Control comes in from a pipeline that all lanes of a unit share, a cycle before it is needed: a
    lane keeps it in a register of its own, so that nothing shared has a load that grows with what
    it selects. The members say in which cycle, counted like above, 0 being the step itself.

    Members
    -------
    src : ``In(signed(32))``
        Element, in cycle 0.
    other : ``In(signed(16))``
        Element of the residual stream, or of what is compared, in cycle 0.
    column, rope, row : ``In(...)``
        Parameters, in cycle 0.
    requantise, pre, second : ``In(1)``, ``In(1)``, ``In(Second)``
        Choice of operands, in cycle 0. ``pre`` only without ``requantise``.
    exponential : ``In(1)``
        Take the exponential, in cycle :attr:`Y_STAGE` - 2.
    add_second : ``In(Second)``
        ``second`` again, in cycle :attr:`PRODUCT_STAGE` - 1.
    shift2 : ``In(6)``
        Shift of the second stage, in cycle :attr:`SUM_STAGE` - 1.
    narrow : ``In(1)``
        Saturate to INT8, in cycle :attr:`NARROW_STAGE` - 1.
    look_up : ``In(1)``
        Take the table's entry, in cycle :attr:`TABLE_STAGE` - 1.
    y_out, partner_in : ``Out(signed(16))``, ``In(signed(16))``
        To and from the other lane of the pair, in cycle :attr:`Y_STAGE`.
    t_en, t_addr, t_data : ``In(1)``, ``In(6)``, ``In(32)``
        Write four entries of the table: byte ``i`` of word ``w`` is entry ``4 * w + i``.
    z : ``Out(signed(16))``
        Result.
    other_out : ``Out(signed(16))``
        ``other`` of the same step.
    """

    SRC_BITS = 33  # INT32 minus INT32
    MUL_BITS = 17  # signed, or unsigned 16
    PRODUCT_BITS = SRC_BITS + MUL_BITS
    SUM_BITS = 33  # two products of INT16, or one and an INT32

    X_STAGE = 3
    ROUNDED_STAGE = X_STAGE + PipelinedMultiplier.latency_of(MUL_BITS) + RoundShift.latency_of(6)
    Y_STAGE = ROUNDED_STAGE + 1
    PRODUCT_STAGE = Y_STAGE + PipelinedMultiplier.latency_of(16)
    SUM_STAGE = PRODUCT_STAGE + 1
    NARROW_STAGE = SUM_STAGE + RoundShift.narrow_stage_of(6)
    RESULT_STAGE = SUM_STAGE + RoundShift.latency_of(6)
    TABLE_STAGE = RESULT_STAGE + 1

    latency = TABLE_STAGE + 1

    def __init__(self):
        super().__init__(
            {
                "src": In(signed(32)),
                "other": In(signed(16)),
                "column": In(ColumnParams()),
                "rope": In(RopeEntry()),
                "row": In(RowParams()),
                "requantise": In(1),
                "pre": In(1),
                "second": In(Second),
                "exponential": In(1),
                "add_second": In(Second),
                "shift2": In(6),
                "narrow": In(1),
                "look_up": In(1),
                "y_out": Out(signed(16)),
                "partner_in": In(signed(16)),
                "t_en": In(1),
                "t_addr": In(6),
                "t_data": In(32),
                "z": Out(signed(16)),
                "other_out": Out(signed(16)),
            },
            macro_name="vector_lane",
        )

    def build(self, platform):
        m = Module()
        other = taps(m, self.other, self.latency, name="other")
        m.d.comb += self.other_out.eq(other[self.latency])

        def kept(name):
            return delay(m, getattr(self, name), 1, name=f"{name}_kept")

        column = kept("column")
        x, rounded = self._first_stage(
            m, kept("src"), column, kept("row"), kept("requantise"), kept("pre")
        )
        exponential = self._exponential(m, x)
        m.d.sync += self.y_out.eq(Mux(kept("exponential"), exponential, rounded))

        control = [kept(name) for name in ("second", "add_second", "shift2", "narrow")]
        result = self._second_stage(m, column, kept("rope"), other[self.PRODUCT_STAGE], *control)
        self._table(m, result, kept("look_up"))
        return m

    def _first_stage(self, m, src, column, row, requantise, pre):
        """``x``, and its scaled, rounded and saturated product."""
        # A row's offset is subtracted by adding its complement and one.
        base = Signal(signed(32), reset_less=True)
        term = Signal(signed(32), reset_less=True)
        subtract = Signal(reset_less=True)
        factor = Signal(signed(self.MUL_BITS), reset_less=True)
        shift = Signal(6, reset_less=True)
        m.d.sync += [base.eq(src), subtract.eq(~requantise)]
        with m.If(requantise):
            m.d.sync += [
                term.eq(column.add),
                factor.eq(column.mul),
                # Any shift from 48 on makes every product 0.
                shift.eq(Mux(column.shift[6:].any(), 63, column.shift)),
            ]
        with m.Else():
            m.d.sync += [
                term.eq(~row.offset),
                factor.eq(row.mul),
                shift.eq(row.shift),
            ]
            with m.If(pre):
                m.d.sync += base.eq(src << 8)

        total = Signal(signed(self.SRC_BITS))
        x = Signal(signed(self.SRC_BITS), reset_less=True)
        m.d.comb += total.eq(base + term + subtract)
        # What is added wraps into INT32; a difference of two INT32 is kept whole.
        m.d.sync += x.eq(Cat(total[:-1], Mux(subtract, total[-1], total[-2])).as_signed())

        m.submodules.multiply_1 = multiply = PipelinedMultiplier(
            a_width=self.SRC_BITS, b_width=self.MUL_BITS
        )
        m.submodules.round_1 = rounding = RoundShift(
            width=self.PRODUCT_BITS, shift_width=6, out_width=16
        )
        m.d.comb += [
            multiply.a.eq(x),
            multiply.b.eq(delay(m, factor, 1, name="factor")),
            rounding.value.eq(multiply.product),
            rounding.shift.eq(delay(m, shift, 1 + multiply.latency, name="shift")),
        ]
        return x, rounding.result

    def _exponential(self, m, x):
        """Exponential of ``-x``, in the cycle in which the rounded product is there."""
        m.submodules.exp2 = exp2 = Exp2()
        distance = Signal(8, reset_less=True)
        with m.If(~x[-1]):
            m.d.sync += distance.eq(0)
        with m.Elif(~x[8:].all()):  # below -256
            m.d.sync += distance.eq(255)
        with m.Elif(~x[:8].any()):  # -256
            m.d.sync += distance.eq(255)
        with m.Else():
            m.d.sync += distance.eq(-x[:8])
        m.d.comb += exp2.distance.eq(distance)
        waits = self.ROUNDED_STAGE - self.X_STAGE - 1 - exp2.latency
        return delay(m, exp2.result, waits, name="exponential")

    def _second_stage(self, m, column, rope, other, second, add_second, shift2, narrow):
        """Sum of the second stage's products, rounded and saturated."""
        factor = Signal(signed(16), reset_less=True, name="c0_2")
        extra = Signal(signed(32), reset_less=True, name="c1_2")
        m.d.sync += extra.eq(column.add)
        with m.Switch(second):
            with m.Case(Second.ROTATE):
                m.d.sync += [factor.eq(rope.cos), extra.eq(rope.sin)]
            with m.Case(Second.COLUMN):
                m.d.sync += factor.eq(column.mul)
            with m.Default():
                m.d.sync += factor.eq(1)
        # `extra` is the partner's factor, and then what is added without one.
        factor = delay(m, factor, self.Y_STAGE - 2, name="c0_waits")
        extras = taps(m, extra, self.PRODUCT_STAGE - 2, name="c1")

        m.submodules.multiply_2 = multiply = PipelinedMultiplier(a_width=16, b_width=16)
        m.submodules.multiply_3 = partner = PipelinedMultiplier(a_width=16, b_width=16)
        m.submodules.round_2 = rounding = RoundShift(
            width=self.SUM_BITS, shift_width=6, out_width=16, narrow_width=8
        )
        m.d.comb += [
            multiply.a.eq(self.y_out),
            multiply.b.eq(factor),
            partner.a.eq(self.partner_in),
            partner.b.eq(extras[self.Y_STAGE - 2][:16].as_signed()),
        ]

        addend = Signal(signed(32))
        with m.Switch(add_second):
            with m.Case(Second.RESIDUAL):
                m.d.comb += addend.eq(other)
            with m.Case(Second.ROTATE):
                m.d.comb += addend.eq(partner.product)
            with m.Case(Second.COLUMN):
                m.d.comb += addend.eq(extras[self.PRODUCT_STAGE - 2])
        total = Signal(signed(self.SUM_BITS), reset_less=True)
        m.d.sync += total.eq(multiply.product + addend)

        m.d.comb += [
            rounding.value.eq(total),
            rounding.shift.eq(shift2),
            rounding.narrow.eq(narrow),
        ]
        return rounding.result

    def _table(self, m, result, look_up):
        """Replace an INT8 by its entry of the table, if wanted."""
        m.submodules.table = table = SramArray(width=32, depth=64)
        kept = delay(m, result, 1, name="result")
        m.d.comb += [
            table.w_en.eq(self.t_en),
            table.w_addr.eq(self.t_addr),
            table.w_data.eq(self.t_data),
            table.r_en.eq(1),
            table.r_addr.eq(result[2:8]),
        ]
        entry = Signal(signed(8))
        m.d.comb += entry.eq(table.r_data.word_select(kept[:2], 8))
        m.d.sync += self.z.eq(Mux(look_up, entry, kept))
