"""Actions of candidates, two dimensions at a time."""

from amaranth import *
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..fabric.delay import delay
from ..fabric.taps import taps
from ..memory.sram import Sram
from ..numeric.multiplier import PipelinedMultiplier
from ..platform import Macro
from .gaussian import Gaussian
from .layouts import DIMENSIONS, FINE, DistributionLayout, number
from .threefry import Threefry

__all__ = ["Draw"]


class Draw(Macro):
    """``clip(round((mean << 12) + deviation * normal, 20))`` of two dimensions of a step.

    The golden model is :func:`jepa_r_sim.golden.planner.candidates`. Half 0 of a step is x and y,
    half 1 is z and the gripper. The two random words of a draw follow each other through one
    pipeline, while the next draw's words are already made.

    Parameters
    ----------
    steps : :class:`int`, positive
        Steps that there are distributions for.

    Members
    -------
    start : ``In(1)``
        Draw; at most every :attr:`period` cycles.
    key : ``In(ArrayLayout(32, 2))``
        Seed and number of the plan.
    iteration, candidate, step, half : ``In(8)``, ``In(16)``, ``In(range(steps))``, ``In(1)``
        What is drawn, in the cycle of ``start``.
    clip : ``In(ArrayLayout(16, 4))``
        Largest magnitudes; steady.
    r_en, r_addr : ``Out(1)``, ``Out(range(4 * steps))``
        Read the distribution of dimension ``addr % 4`` of step ``addr // 4``.
    r_data : ``In(DistributionLayout())``
        The distribution, :attr:`Sram.READ_LATENCY` cycles later.
    valid : ``Out(1)``
        For one cycle, :attr:`latency` cycles after ``start``.
    valid_step, valid_half : ``Out(range(steps))``, ``Out(1)``
        What was drawn, with ``valid``.
    actions : ``Out(ArrayLayout(signed(16), 2))``
        Actions, with ``valid``.
    """

    # A register takes what is drawn: the planner chooses it late in a cycle.
    # Cycles from the first word to its normal number, the product, the sum, its comparison with
    # the clip, the action; the second word is a cycle later.
    _NORMAL = Gaussian.latency
    _PRODUCT = _NORMAL + PipelinedMultiplier.latency_of(16)
    _SUM = _PRODUCT + 1
    _ACTION = _SUM + 2

    period = Threefry.latency
    latency = 1 + Threefry.latency + _ACTION + 1

    def __init__(self, *, steps):
        self._steps = steps
        super().__init__(
            {
                "start": In(1),
                "key": In(data.ArrayLayout(32, 2)),
                "iteration": In(8),
                "candidate": In(16),
                "step": In(number(steps)),
                "half": In(1),
                "clip": In(data.ArrayLayout(16, DIMENSIONS)),
                "r_en": Out(1),
                "r_addr": Out(range(DIMENSIONS * steps)),
                "r_data": In(DistributionLayout()),
                "valid": Out(1),
                "valid_step": Out(number(steps)),
                "valid_half": Out(1),
                "actions": Out(data.ArrayLayout(signed(16), 2)),
            },
            macro_name=f"draw_{steps}",
        )

    def build(self, platform):
        m = Module()
        m.submodules.threefry = threefry = Threefry()
        # What is asked for, what the words being made are for, and what those in the pipeline
        # below are for.
        asked_step, asked_half = Signal(number(self._steps)), Signal()
        made_step, made_half = Signal(number(self._steps)), Signal()
        iteration, candidate = Signal(8, reset_less=True), Signal(16, reset_less=True)
        started = delay(m, self.start, 1, reset_less=False, name="started")
        with m.If(self.start):
            m.d.sync += [
                asked_step.eq(self.step),
                asked_half.eq(self.half),
                iteration.eq(self.iteration),
                candidate.eq(self.candidate),
            ]
        with m.If(started):
            m.d.sync += [made_step.eq(asked_step), made_half.eq(asked_half)]
        counter = Cat(candidate, iteration, C(0, 8), asked_half, asked_step)
        m.d.comb += [
            threefry.start.eq(started),
            threefry.key.eq(self.key),
            threefry.counter.as_value().eq(counter),
        ]

        second = Signal(32, reset_less=True)
        with m.If(threefry.valid):
            m.d.sync += [
                self.valid_step.eq(made_step),
                self.valid_half.eq(made_half),
                second.eq(threefry.words[1]),
            ]
        # Position n: the first word is n cycles into the pipeline, the second n - 1.
        at = taps(m, threefry.valid, self._ACTION + 1, reset_less=False, name="valid")

        m.submodules.gaussian = gaussian = Gaussian()
        m.d.comb += gaussian.word.eq(Mux(at[1], second, threefry.words[0]))

        read = self._NORMAL - Sram.READ_LATENCY
        m.d.comb += [
            self.r_en.eq(at[read] | at[read + 1]),
            self.r_addr.eq(Cat(at[read + 1], self.valid_half, self.valid_step)),
        ]
        m.submodules.multiplier = multiplier = PipelinedMultiplier(a_width=25, b_width=16)
        m.d.comb += [multiplier.a.eq(self.r_data.deviation), multiplier.b.eq(gaussian.normal)]

        # One half of the last place, which rounds: it is bit FINE - 1 of the mean.
        mean = Signal(signed(25), reset_less=True)
        m.d.sync += mean.eq(self.r_data.mean + (1 << (FINE - 1)))
        fraction = Gaussian.FRACTION
        waited = delay(m, mean, self._PRODUCT - self._NORMAL - 1, name="mean")
        total = Signal(signed(42))
        value = Signal(signed(42 - fraction - FINE), reset_less=True)
        m.d.comb += total.eq(multiplier.product + (waited << fraction))
        m.d.sync += value.eq(total >> (fraction + FINE))

        limit, lowest = Signal(16, reset_less=True), Signal(signed(17), reset_less=True)
        m.d.sync += limit.eq(self.clip[Cat(at[self._SUM], self.valid_half)])
        above, below = Signal(reset_less=True), Signal(reset_less=True)
        kept = Signal(signed(16), reset_less=True)
        highest = Signal(signed(17), reset_less=True)
        m.d.sync += [
            above.eq(value > limit),
            below.eq(value < -limit),
            kept.eq(value),
            highest.eq(limit),
            lowest.eq(-limit),
        ]
        action = Signal(signed(16), reset_less=True)
        m.d.sync += action.eq(Mux(above, highest, Mux(below, lowest, kept)))
        m.d.comb += [
            self.valid.eq(at[self._ACTION + 1]),
            self.actions.as_value().eq(Cat(delay(m, action, 1, name="action"), action)),
        ]
        return m
