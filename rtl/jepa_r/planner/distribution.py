"""Memory of means and deviations, and what they begin with."""

from amaranth import *
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..fabric.delay import delay
from ..memory.sram import Sram
from ..platform import Macro
from .layouts import DIMENSIONS, FINE, DistributionLayout

__all__ = ["Distribution"]


class Distribution(Macro):
    """A word for each dimension of each step, at address ``4 * step + dimension``.

    The golden model is :func:`jepa_r_sim.golden.planner.start`. A warm start moves the means a step
    ahead, and the last step keeps its own; a cold one clears them. Deviations begin anew.

    Parameters
    ----------
    steps : :class:`int`, positive
        Most steps.

    Members
    -------
    start : ``In(1)``
        Begin a plan; ports rest for :meth:`latency_of` cycles.
    warm, horizon, deviation : ``In(1)``, ``In(8)``, ``In(ArrayLayout(16, 4))``
        As of the settings; steady from ``start`` to ``done``.
    done : ``Out(1)``
        For one cycle, :meth:`latency_of` cycles after ``start``: everything is written.
    r_en, r_addr, r_data : ``In(1)``, ``In(range(4 * steps))``, ``Out(DistributionLayout())``
        Read a word; it is there after :attr:`Sram.READ_LATENCY` cycles and stays.
    w_en, w_addr, w_data : ``In(1)``, ``In(range(4 * steps))``, ``In(DistributionLayout())``
        Write a word.
    """

    def __init__(self, *, steps):
        self._steps = steps
        addresses = range(DIMENSIONS * steps)
        super().__init__(
            {
                "start": In(1),
                "warm": In(1),
                "horizon": In(8),
                "deviation": In(data.ArrayLayout(16, DIMENSIONS)),
                "done": Out(1),
                "r_en": In(1),
                "r_addr": In(addresses),
                "r_data": Out(DistributionLayout()),
                "w_en": In(1),
                "w_addr": In(addresses),
                "w_data": In(DistributionLayout()),
            },
            macro_name=f"distribution_{steps}",
        )

    @staticmethod
    def latency_of(horizon):
        """Cycles from ``start`` to ``done``."""
        return DIMENSIONS * horizon + Sram.READ_LATENCY + 1

    def build(self, platform):
        m = Module()
        word = DistributionLayout()
        m.submodules.memory = memory = Sram(width=word.size, depth=DIMENSIONS * self._steps)

        # Words are read in order and written, one step lower, when they arrive: nothing is written
        # that is still to be read.
        reading = Signal()
        dimension = Signal(range(DIMENSIONS))
        step = Signal(8)
        last = Signal()
        m.d.comb += last.eq(step + 1 == self.horizon)
        with m.If(self.start):
            m.d.sync += [reading.eq(1), dimension.eq(0), step.eq(0)]
        with m.Elif(reading):
            m.d.sync += dimension.eq(dimension + 1)
            with m.If(dimension == DIMENSIONS - 1):
                m.d.sync += step.eq(step + 1)
                with m.If(last):
                    m.d.sync += reading.eq(0)

        address = Signal(range(DIMENSIONS * self._steps))
        m.d.comb += address.eq(Cat(dimension, step))
        source = Signal.like(address)
        m.d.comb += source.eq(Cat(dimension, Mux(last, step, step + 1)))
        arrives = delay(m, reading, Sram.READ_LATENCY, reset_less=False, name="arrives")
        written = delay(m, address, Sram.READ_LATENCY, name="address")
        ends = Signal()
        m.d.comb += ends.eq(reading & last & (dimension == DIMENSIONS - 1))
        m.d.comb += self.done.eq(
            delay(m, ends, Sram.READ_LATENCY + 1, reset_less=False, name="ends")
        )

        old, fresh = Signal(word), Signal(word)
        m.d.comb += [
            old.as_value().eq(memory.r_data),
            fresh.as_value().eq(
                Cat(
                    Mux(self.warm, old.mean, 0)[: len(old.mean)],
                    C(0, FINE),
                    self.deviation[written[: len(dimension)]],
                )
            ),
            memory.r_en.eq(self.r_en | reading),
            memory.r_addr.eq(Mux(reading, source, self.r_addr)),
            memory.w_en.eq(self.w_en | arrives),
            memory.w_addr.eq(Mux(arrives, written, self.w_addr)),
            memory.w_data.eq(Mux(arrives, fresh.as_value(), self.w_data.as_value())),
            self.r_data.eq(old),
        ]
        return m
