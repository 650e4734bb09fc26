"""Mean and standard deviation of the elites."""

from amaranth import *
from amaranth.lib import data
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..numeric.multiplier import PipelinedMultiplier
from ..platform import Macro
from .layouts import FINE, MAX_ELITES, ONE, DistributionLayout
from .serial import SerialDivider, SerialRoot

__all__ = ["Refit"]


class Refit(Macro):
    """Fit the distributions of two dimensions to their elites' actions.

    The golden model is :func:`jepa_r_sim.golden.planner.refit`. With ``S1`` and ``S2`` the sums of
    K actions and of their squares,

    - mean: ``round(S1 * 256 / K)``, as ``floor((2 * 256 * S1 + K) / (2 * K))``;
    - deviation: ``isqrt(floor((K * S2 - S1**2) * 2**16 / (K * (K - 1))))``, 0 for K = 1;
    - each is ``round((1 - momentum) * new + momentum * old)``.

    One multiplier, one divider and one root do everything in turn; nothing can overflow.

    Members
    -------
    clear : ``In(1)``
        Begin new sums.
    add, actions : ``In(1)``, ``In(ArrayLayout(signed(16), 2))``
        Add an elite; at most every second cycle, the last :attr:`settle` cycles before ``start``.
    start : ``In(1)``
        Fit both dimensions.
    elites : ``In(8)``
        K; steady.
    momentum_mean, momentum_deviation : ``In(16)``
        At most 32768; steady.
    r_en, r_data : ``Out(1)``, ``In(DistributionLayout())``
        Read the old distribution of ``word``; it stays after two cycles.
    word : ``Out(1)``
        Dimension of the two that is read or written.
    w_en, w_data : ``Out(1)``, ``Out(DistributionLayout())``
        Write the new distribution of ``word``.
    done : ``Out(1)``
        For one cycle, :attr:`latency` cycles after ``start``.
    """

    _COUNT = ceil_log2(MAX_ELITES)
    # Magnitudes of actions are below 2**15.
    _SUM_BITS = 16 + _COUNT
    _SQUARES_BITS = 30 + _COUNT
    _SPREAD_BITS = _SQUARES_BITS + _COUNT
    _DIVIDEND_BITS = _SPREAD_BITS + 2 * FINE
    # A deviation is below 32639 * sqrt(2) * 256.
    _DEVIATION_BITS = 24

    # The wider factor in chunks: fewer columns to add up in a cycle, and two cycles more.
    _PRODUCT = 1 + PipelinedMultiplier.latency_of(_SQUARES_BITS + 1)
    _DIVIDE = _DIVIDEND_BITS + 1

    #: Cycles from the last elite to ``start``.
    settle = _PRODUCT + 2

    # Products and their difference; mean, deviation, root; four products, two sums, the word.
    _MOMENTS, _MEAN, _VARIANCE, _ROOT, _BLEND = (
        _PRODUCT + 3,
        _DIVIDE + 1,
        _DIVIDE + 1,
        _DEVIATION_BITS + 2,
        _PRODUCT + 6,
    )

    latency = 2 * (_MOMENTS + _MEAN + _VARIANCE + _ROOT + _BLEND) + 1

    def __init__(self):
        super().__init__(
            {
                "clear": In(1),
                "add": In(1),
                "actions": In(data.ArrayLayout(signed(16), 2)),
                "start": In(1),
                "elites": In(8),
                "momentum_mean": In(16),
                "momentum_deviation": In(16),
                "r_en": Out(1),
                "r_data": In(DistributionLayout()),
                "word": Out(1),
                "w_en": Out(1),
                "w_data": Out(DistributionLayout()),
                "done": Out(1),
            },
            macro_name="refit",
        )

    def build(self, platform):
        m = Module()
        m.submodules.multiplier = multiplier = PipelinedMultiplier(
            a_width=self._SUM_BITS + 1, b_width=self._SQUARES_BITS + 1
        )
        m.submodules.divider = divider = SerialDivider(
            width=self._DIVIDEND_BITS, divisor_width=2 * self._COUNT
        )
        m.submodules.root = root = SerialRoot(width=2 * self._DEVIATION_BITS)
        a = Signal(signed(self._SQUARES_BITS + 1), reset_less=True)
        b = Signal(signed(self._SUM_BITS + 1), reset_less=True)
        m.d.comb += [multiplier.a.eq(b), multiplier.b.eq(a)]
        product = multiplier.product

        sums = [Signal(signed(self._SUM_BITS), name=f"sum_{n}") for n in range(2)]
        squares = [Signal(self._SQUARES_BITS, name=f"squares_{n}") for n in range(2)]
        total, total_squares = Signal(signed(self._SUM_BITS)), Signal(self._SQUARES_BITS)
        m.d.comb += [
            total.eq(Mux(self.word, sums[1], sums[0])),
            total_squares.eq(Mux(self.word, squares[1], squares[0])),
        ]
        self._accumulate(m, a, b, product, sums, squares)

        count = Signal(self._COUNT + 1)
        m.d.comb += count.eq(self.elites)
        # Above zero, so that the unsigned quotient rounds down as it should.
        shifted = Signal(self._SUM_BITS + 1, reset_less=True)
        m.d.sync += shifted.eq(total + (count << 15))
        scaled = Signal(signed(self._SPREAD_BITS + 2), reset_less=True)
        spread = Signal(self._SPREAD_BITS, reset_less=True)
        pairs = Signal(2 * self._COUNT, reset_less=True)
        mean = Signal(signed(24), reset_less=True)
        deviation = Signal(self._DEVIATION_BITS, reset_less=True)

        time = Signal(range(self._MEAN))
        m.d.sync += [time.eq(time + 1), self.done.eq(0)]
        with m.FSM(name="phase"):
            with m.State("IDLE"):
                m.d.sync += [self.word.eq(0), time.eq(0)]
                with m.If(self.start):
                    m.next = "MOMENTS"
            with m.State("MOMENTS"):
                m.d.comb += self.r_en.eq(time == 0)
                with m.Switch(time):
                    with m.Case(0):
                        m.d.sync += [a.eq(total_squares), b.eq(count)]
                    with m.Case(1):
                        m.d.sync += [a.eq(total), b.eq(total)]
                    with m.Case(2):
                        m.d.sync += [a.eq(count), b.eq(count - 1)]
                    with m.Case(self._PRODUCT):
                        m.d.sync += scaled.eq(product)
                    with m.Case(self._PRODUCT + 1):
                        m.d.sync += spread.eq(scaled - product)
                    with m.Case(self._PRODUCT + 2):
                        m.d.sync += [pairs.eq(product), time.eq(0)]
                        m.next = "MEAN"
            with m.State("MEAN"):
                m.d.comb += [
                    divider.start.eq(time == 0),
                    divider.dividend.eq(Cat(count, C(0, FINE + 1 - len(count)), shifted)),
                    divider.divisor.eq(count << 1),
                ]
                with m.If(time == self._MEAN - 1):
                    m.d.sync += [mean.eq(divider.quotient - (1 << (15 + FINE))), time.eq(0)]
                    m.next = "VARIANCE"
            with m.State("VARIANCE"):
                m.d.comb += [
                    divider.start.eq(time == 0),
                    divider.dividend.eq(spread << 2 * FINE),
                    divider.divisor.eq(pairs),
                ]
                with m.If(time == self._VARIANCE - 1):
                    m.d.sync += time.eq(0)
                    m.next = "ROOT"
            with m.State("ROOT"):
                m.d.comb += [
                    root.start.eq(time == 0),
                    root.radicand.eq(divider.quotient),
                ]
                with m.If(time == self._ROOT - 1):
                    m.d.sync += [deviation.eq(Mux(count == 1, 0, root.root)), time.eq(0)]
                    m.next = "BLEND"
            with m.State("BLEND"):
                self._blend(m, time, a, b, product, mean, deviation)
                with m.If(time == self._BLEND - 1):
                    m.d.comb += self.w_en.eq(1)
                    m.d.sync += [time.eq(0), self.word.eq(1)]
                    m.next = "MOMENTS"
                    with m.If(self.word):
                        m.d.sync += self.done.eq(1)
                        m.next = "IDLE"
        return m

    def _accumulate(self, m, a, b, product, sums, squares):
        """Add actions and their squares; the second of two comes a cycle after the first."""
        second = Signal(signed(16), reset_less=True)
        at = [self.add]
        for n in range(self._PRODUCT + 1):
            later = Signal(name=f"add_{n + 1}")
            m.d.sync += later.eq(at[-1])
            at.append(later)
        with m.If(self.add):
            m.d.sync += [a.eq(self.actions[0]), b.eq(self.actions[0]), second.eq(self.actions[1])]
        with m.If(at[1]):
            m.d.sync += [a.eq(second), b.eq(second)]
        for n in range(2):
            with m.If(self.clear):
                m.d.sync += [sums[n].eq(0), squares[n].eq(0)]
            with m.Else():
                with m.If(self.add):
                    m.d.sync += sums[n].eq(sums[n] + self.actions[n])
                with m.If(at[self._PRODUCT + n]):
                    m.d.sync += squares[n].eq(squares[n] + product)

    def _blend(self, m, time, a, b, product, mean, deviation):
        """Mix what is new with what was, mean first, and round half up."""
        momenta = self.momentum_mean, self.momentum_deviation
        operands = [
            (mean, ONE - momenta[0]),
            (self.r_data.mean, momenta[0]),
            (deviation, ONE - momenta[1]),
            (self.r_data.deviation, momenta[1]),
        ]
        part = Signal(signed(42), reset_less=True)
        mixed = Signal(signed(42), reset_less=True)
        blended = Signal(signed(24), reset_less=True)
        half = ONE >> 1
        with m.Switch(time):
            for n, (value, weight) in enumerate(operands):
                with m.Case(n):
                    m.d.sync += [a.eq(value), b.eq(weight)]
            with m.Case(self._PRODUCT, self._PRODUCT + 2):
                m.d.sync += part.eq(product + half)
            with m.Case(self._PRODUCT + 1, self._PRODUCT + 3):
                m.d.sync += mixed.eq(part + product)
        with m.If(time == self._PRODUCT + 2):
            m.d.sync += blended.eq(mixed >> 15)
        new = Signal(24, reset_less=True)
        m.d.sync += new.eq(mixed >> 15)
        m.d.comb += self.w_data.as_value().eq(Cat(blended, new))
