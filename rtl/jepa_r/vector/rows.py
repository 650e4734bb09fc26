"""What the lanes learn about a whole row: maximum, moments, sum, and the distance of all rows."""

from amaranth import *
from amaranth.lib import data
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..fabric.delay import delay
from ..fabric.taps import taps
from ..memory.sram import Sram
from ..numeric.multiplier import PipelinedMultiplier
from ..numeric.reciprocal import Reciprocal
from ..numeric.rounding import RoundShift
from ..numeric.rsqrt import Rsqrt
from ..platform import Macro
from .layouts import ROW_BITS, NormProfileLayout, RowParams, Stat

__all__ = ["PROFILES", "RowUnit"]

#: LayerNorms that an image can tell apart.
PROFILES = 4

# A row has at most 8191 elements of INT16: its sum is signed 29 bits, and the sum of their squares
# below 2**43. `width` times that, minus the square of the sum, plus a floor of 48 bits: 58 bits.
_SUM_BITS = 29
_SQUARE_BITS = 43
_VARIANCE_BITS = Rsqrt.VARIANCE_BITS
_LOW_BITS = _VARIANCE_BITS // 2


class RowUnit(Macro):
    """Reduce the lanes' results to parameters of their rows; a segment of a row a cycle.

    The golden model is :mod:`jepa_r_sim.golden.rows`. A segment is reduced over the lanes by
    registered trees and added to its row. The segments of a row follow each other, with or without
    pauses; the next row may begin in the next cycle. A row that goes over several operations waits
    in the running memory between them, and comes back no sooner than :attr:`latency` cycles after
    it was left. Finished rows come out in the order in which they ended, all kinds after the same
    time: the maximum waits, the sum goes through :class:`~jepa_r.numeric.reciprocal.Reciprocal`,
    and the moments, ``width * squares - sum**2 + floor``, exactly, through
    :class:`~jepa_r.numeric.rsqrt.Rsqrt`.

    Parameters
    ----------
    lanes : :class:`int`, positive
        Elements of a segment.
    rows : :class:`int`, at least 2
        Rows that may be in the running memory: ``row`` of an operation that does not both start
        and end its rows is less.

    Members
    -------
    valid : ``In(1)``
        There is a segment.
    stat : ``In(Stat)``
        What is gathered.
    first_seg, last_seg, stat_first, stat_last, row, profile : ``In(...)``
        As in :class:`~jepa_r.vector.layouts.VectorStep`.
    z, other : ``In(data.ArrayLayout(signed(16), lanes))``
        Results, and what ``Stat.L1`` compares them with.
    profiles : ``In(data.ArrayLayout(NormProfileLayout(), 4))``
        Constants; they stay while anything is under way.
    row_en, row_addr, row_data : ``Out(1)``, ``Out(16)``, ``Out(RowParams())``
        A finished row, :attr:`latency` cycles after its last segment.
    distance : ``Out(48)``
        Sum of ``abs(z - other)``, complete :attr:`distance_latency` cycles after the last segment.
    distance_clear : ``In(1)``
        Begin again with what comes after this cycle into the sum.

    Raises
    ------
    :exc:`ValueError`
        If there are no lanes.
    """

    # Finishing, from a row's totals: when each result is there, and how long the others wait.
    _VARIANCE_STAGE = PipelinedMultiplier.latency_of(_SUM_BITS) + 3
    _ROOT_STAGE = _VARIANCE_STAGE + Rsqrt.latency
    _SCALED_STAGE = _ROOT_STAGE + PipelinedMultiplier.latency_of(14)
    _FINISHED_STAGE = _SCALED_STAGE + RoundShift.latency_of(4)
    _RECIPROCAL_STAGE = _FINISHED_STAGE - Reciprocal.latency
    _MEAN_STAGE = _FINISHED_STAGE - PipelinedMultiplier.latency_of(17) - RoundShift.latency_of(6)

    def __init__(self, *, lanes, rows):
        if lanes < 1:
            raise ValueError(f"lanes {lanes} is not 1 or more")
        self._lanes = lanes
        self._rows = rows
        super().__init__(
            {
                "valid": In(1),
                "stat": In(Stat),
                "first_seg": In(1),
                "last_seg": In(1),
                "stat_first": In(1),
                "stat_last": In(1),
                "row": In(ROW_BITS),
                "profile": In(range(PROFILES)),
                "z": In(data.ArrayLayout(signed(16), lanes)),
                "other": In(data.ArrayLayout(signed(16), lanes)),
                "profiles": In(data.ArrayLayout(NormProfileLayout(), PROFILES)),
                "row_en": Out(1),
                "row_addr": Out(ROW_BITS),
                "row_data": Out(RowParams()),
                "distance": Out(48),
                "distance_clear": In(1),
            },
            macro_name=f"row_unit_{lanes}x{rows}",
        )

    @staticmethod
    def _segment_stage_of(lanes):
        """Cycles from a segment to its sums: squares, and a tree."""
        return PipelinedMultiplier.latency_of(16) + ceil_log2(lanes)

    @staticmethod
    def latency_of(lanes):
        """Cycles from a row's last segment to ``row_en``."""
        # Segment, row, choice, merge, finish, output.
        return RowUnit._segment_stage_of(lanes) + 3 + RowUnit._FINISHED_STAGE + 1

    @staticmethod
    def distance_latency_of(lanes):
        """Cycles from a segment to a ``distance`` that has it."""
        # Difference, magnitude, tree, low half, high half.
        return 2 + ceil_log2(lanes) + 2

    @property
    def latency(self):
        return self.latency_of(self._lanes)

    @property
    def distance_latency(self):
        return self.distance_latency_of(self._lanes)

    def build(self, platform):
        m = Module()
        self._distance(m)

        peak, total, squares = self._segment(m)
        segment_stage = self._segment_stage_of(self._lanes)

        gathers = Signal()
        with m.Switch(self.stat):
            with m.Case(Stat.MAX, Stat.MOMENTS, Stat.SUM):
                m.d.comb += gathers.eq(self.valid)
        value_stage = segment_stage + 2
        merged_stage = value_stage + 1
        finished = merged_stage + self._FINISHED_STAGE
        active = delay(m, gathers, segment_stage, reset_less=False, name="active")
        ends = taps(m, gathers & self.last_seg, merged_stage, reset_less=False, name="ends")
        first = delay(m, self.first_seg, segment_stage, name="first")
        stat = taps(m, self.stat, finished, name="stat")
        starts = delay(m, self.stat_first, value_stage, name="starts")
        finishes = delay(m, self.stat_last, merged_stage, name="finishes")
        row = taps(m, self.row, finished, name="row")
        profile = taps(m, self.profile, finished, name="profile")

        # The row so far, within this operation.
        row_peak = Signal(signed(16), reset_less=True)
        row_total = Signal(signed(_SUM_BITS), reset_less=True)
        row_squares = Signal(_SQUARE_BITS, reset_less=True)
        with m.If(active):
            with m.If(first):
                m.d.sync += [
                    row_peak.eq(peak),
                    row_total.eq(total),
                    row_squares.eq(squares),
                ]
            with m.Else():
                m.d.sync += [
                    row_total.eq(row_total + total),
                    row_squares.eq(row_squares + squares),
                ]
                with m.If(peak > row_peak):
                    m.d.sync += row_peak.eq(peak)

        # What the row has from earlier operations comes in while this one's value is chosen.
        m.submodules.running = running = Sram(width=_SUM_BITS + _SQUARE_BITS, depth=self._rows)
        value = Signal(signed(_SUM_BITS), reset_less=True)
        value_squares = delay(m, row_squares, 1, name="value_squares")
        m.d.sync += value.eq(Mux(stat[value_stage - 1] == Stat.MAX, row_peak, row_total))
        m.d.comb += [
            running.r_en.eq(ends[value_stage - Sram.READ_LATENCY]),
            running.r_addr.eq(row[value_stage - Sram.READ_LATENCY]),
        ]

        earlier = running.r_data[:_SUM_BITS].as_signed()
        earlier_squares = running.r_data[_SUM_BITS:]
        merged = Signal(signed(_SUM_BITS), reset_less=True)
        merged_squares = Signal(_SQUARE_BITS, reset_less=True)
        with m.If(starts):
            m.d.sync += [merged.eq(value), merged_squares.eq(value_squares)]
        with m.Else():
            m.d.sync += merged_squares.eq(value_squares + earlier_squares)
            with m.If(stat[value_stage] != Stat.MAX):
                m.d.sync += merged.eq(value + earlier)
            with m.Elif(value > earlier):
                m.d.sync += merged.eq(value)
            with m.Else():
                m.d.sync += merged.eq(earlier)
        m.d.comb += [
            running.w_en.eq(ends[merged_stage] & ~finishes),
            running.w_addr.eq(row[merged_stage]),
            running.w_data.eq(Cat(merged, merged_squares)),
        ]

        merged = taps(m, merged, self._FINISHED_STAGE, name="merged")
        mean, root, root_shift = self._moments(
            m, merged, merged_squares, profile[merged_stage - 1 :]
        )
        mantissa, reciprocal_shift = self._reciprocal(m, merged)
        done = delay(
            m, ends[merged_stage] & finishes, self._FINISHED_STAGE, reset_less=False, name="done"
        )

        m.d.sync += [
            self.row_en.eq(done),
            self.row_addr.eq(row[finished]),
            self.row_data.eq(0),
        ]
        with m.Switch(stat[finished]):
            with m.Case(Stat.MAX):
                m.d.sync += self.row_data.offset.eq(merged[self._FINISHED_STAGE])
            with m.Case(Stat.MOMENTS):
                m.d.sync += [
                    self.row_data.offset.eq(mean),
                    self.row_data.mul.eq(root),
                    self.row_data.shift.eq(root_shift),
                ]
            with m.Case(Stat.SUM):
                m.d.sync += [
                    self.row_data.mul.eq(mantissa),
                    self.row_data.shift.eq(reciprocal_shift),
                ]
        return m

    def _segment(self, m):
        """Maximum, sum and sum of squares of a segment, all in the same cycle."""
        elements = [self.z[n] for n in range(self._lanes)]
        squared = []
        for n, element in enumerate(elements):
            square = PipelinedMultiplier(a_width=16, b_width=16)
            m.submodules[f"square_{n}"] = square
            m.d.comb += [square.a.eq(element), square.b.eq(element)]
            squared.append(square.product[:31])
        waits = PipelinedMultiplier.latency_of(16)
        return (
            delay(m, _tree(m, elements, _larger, name="peak"), waits, name="peak_waits"),
            delay(m, _tree(m, elements, _sum, name="sum"), waits, name="sum_waits"),
            _tree(m, squared, _sum, name="squares"),
        )

    def _moments(self, m, merged, merged_squares, profile):
        """Mean, and factor and shift of the reciprocal standard deviation.

        ``profile`` is that of the row a cycle before each stage of finishing.
        """

        def constant(name, stage):
            """Field of the profile of the row that is in ``stage`` of finishing, in a register."""
            choices = [self.profiles[n][name] for n in range(PROFILES)]
            value = Signal(len(choices[0]), reset_less=True, name=f"{name}_{stage}")
            m.d.sync += value.eq(Array(choices)[profile[stage]])
            return value

        # width * squares - sum**2 + floor: one addition without carries, one with, in two halves.
        m.submodules.width_squares = width_squares = PipelinedMultiplier(
            a_width=_SQUARE_BITS + 1, b_width=14
        )
        m.submodules.total_squared = total_squared = PipelinedMultiplier(
            a_width=_SUM_BITS, b_width=_SUM_BITS
        )
        m.d.comb += [
            width_squares.a.eq(merged_squares),
            width_squares.b.eq(constant("width", 0)),
            total_squared.a.eq(merged[0]),
            total_squared.b.eq(merged[0]),
        ]
        ready = total_squared.latency
        plus = Signal(_VARIANCE_BITS)
        minus = Signal(_VARIANCE_BITS)
        floor = Signal(_VARIANCE_BITS)
        m.d.comb += [
            plus.eq(
                delay(m, width_squares.product, ready - width_squares.latency, name="width_squares")
            ),
            minus.eq(~total_squared.product),
            floor.eq(constant("floor", ready)),
        ]
        sums = Signal(_VARIANCE_BITS, reset_less=True)
        carries = Signal(_VARIANCE_BITS, reset_less=True)
        m.d.sync += [
            sums.eq(plus ^ minus ^ floor),
            # The complement's missing one comes in at the bottom.
            carries.eq(Cat(Const(1, 1), (plus & minus) | (plus & floor) | (minus & floor))),
        ]
        low = Signal(_LOW_BITS + 1, reset_less=True)
        m.d.sync += low.eq(sums[:_LOW_BITS] + carries[:_LOW_BITS])
        high_sums = delay(m, sums[_LOW_BITS:], 1, name="high_sums")
        high_carries = delay(m, carries[_LOW_BITS:], 1, name="high_carries")
        variance = Signal(_VARIANCE_BITS, reset_less=True)
        m.d.sync += variance.eq(Cat(low[:_LOW_BITS], high_sums + high_carries + low[-1]))

        m.submodules.rsqrt = rsqrt = Rsqrt()
        m.submodules.scale_root = scale = PipelinedMultiplier(a_width=17, b_width=14)
        m.submodules.round_root = round_root = RoundShift(width=30, shift_width=4, out_width=17)
        m.d.comb += [
            rsqrt.variance.eq(variance),
            scale.a.eq(rsqrt.mantissa),
            scale.b.eq(constant("width", self._ROOT_STAGE)),
            round_root.value.eq(scale.product),
            round_root.shift.eq(constant("width_log", self._SCALED_STAGE)),
        ]
        half = delay(m, rsqrt.half, self._FINISHED_STAGE - self._ROOT_STAGE, name="half")
        shift = Signal(6)
        m.d.comb += shift.eq(half + constant("shift_base", self._FINISHED_STAGE))

        m.submodules.scale_mean = scale_mean = PipelinedMultiplier(a_width=_SUM_BITS, b_width=17)
        m.submodules.round_mean = round_mean = RoundShift(width=46, shift_width=6, out_width=32)
        m.d.comb += [
            scale_mean.a.eq(merged[self._MEAN_STAGE]),
            scale_mean.b.eq(constant("inv_mul", self._MEAN_STAGE)),
            round_mean.value.eq(scale_mean.product),
            round_mean.shift.eq(constant("inv_shift", self._MEAN_STAGE + scale_mean.latency)),
        ]
        return round_mean.result, round_root.result, shift

    def _reciprocal(self, m, merged):
        """Factor and shift of the reciprocal of a row's sum."""
        m.submodules.reciprocal = reciprocal = Reciprocal()
        total = merged[self._RECIPROCAL_STAGE]
        m.d.comb += reciprocal.total.eq(Mux(total[-1], 0, total))
        return reciprocal.mantissa, 31 - reciprocal.lead

    def _distance(self, m):
        """Sum of magnitudes, in two halves of 24 bits a cycle apart."""
        magnitudes = []
        for n in range(self._lanes):
            difference = Signal(signed(17), reset_less=True, name=f"difference_{n}")
            magnitude = Signal(16, reset_less=True, name=f"magnitude_{n}")
            m.d.sync += [
                difference.eq(self.z[n] - self.other[n]),
                magnitude.eq(Mux(difference[-1], -difference, difference)),
            ]
            magnitudes.append(magnitude)
        total = _tree(m, magnitudes, _sum, name="magnitudes")

        active = delay(
            m,
            self.valid & (self.stat == Stat.L1),
            2 + ceil_log2(self._lanes),
            reset_less=False,
            name="compares",
        )
        low, high, carry = Signal(24), Signal(24), Signal()
        m.d.comb += self.distance.eq(Cat(low, high))
        m.d.sync += [carry.eq(0), high.eq(high + carry)]
        with m.If(active):
            m.d.sync += Cat(low, carry).eq(low + total)
        with m.If(self.distance_clear):
            m.d.sync += [low.eq(0), high.eq(0), carry.eq(0)]


def _larger(a, b):
    return Mux(a > b, a, b)


def _sum(a, b):
    return a + b


def _tree(m, values, combine, *, name):
    """Combine all values, pair by pair, with a register after each level."""
    level = 0
    while len(values) > 1:
        level += 1
        pairs = [values[n : n + 2] for n in range(0, len(values), 2)]
        values = []
        for n, pair in enumerate(pairs):
            result = combine(*pair) if len(pair) == 2 else pair[0]
            # All of a level are equally wide: what is left over goes on as a pair would.
            register = Signal(result.shape(), reset_less=True, name=f"{name}_{level}_{n}")
            m.d.sync += register.eq(result)
            values.append(register)
    return values[0]
