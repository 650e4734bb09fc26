"""Time, and what the loop measures with it: plan period, plan deadline, age of the plan."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..platform import Macro

__all__ = ["Timers"]


class Timers(Macro):
    """Timers of the loop.

    Parameters
    ----------
    width : :class:`int`, at least 2
        Bits W of all numbers but ``time``.

    Members
    -------
    time : ``Out(2 * W)``
        Cycles since reset.
    periodic : ``In(1)``
        Whether plans are to be made by themselves.
    plan_period : ``In(W)``
        Cycles from ``tick`` to ``tick``; 0 counts as 1. Read with each ``tick``.
    tick : ``Out(1)``
        One in the first cycle of ``periodic`` and every ``plan_period`` cycles from there on.
    trigger : ``In(1)``
        For one cycle: the making of a plan begins. The deadline counts anew.
    done : ``In(1)``
        For one cycle: a plan is complete.
    plan_deadline : ``In(W)``
        A plan must be complete so many cycles after its trigger, or earlier; 0: at any time.
    missed : ``Out(1)``
        One in cycle ``plan_deadline + 1`` after a trigger, and only there, if nothing was done in
        the cycles between.
    planned : ``Out(1)``
        A plan was completed: from the cycle after ``done``.
    age : ``Out(W)``
        Cycles since then: 0 in the cycle after ``done``. Stays at ``2**W - 2``; all ones if there
        is no plan.
    max_age : ``In(W)``
        Cycles that a plan is good for.
    stale : ``Out(1)``
        There is a plan, and its age is more than ``max_age``.

    Raises
    ------
    :exc:`ValueError`
        If ``width`` is below 2.
    """

    def __init__(self, *, width=32):
        if width < 2:
            raise ValueError(f"width is {width}; it must be at least 2")
        self._width = width
        super().__init__(
            {
                "time": Out(2 * width),
                "periodic": In(1),
                "plan_period": In(width),
                "tick": Out(1),
                "trigger": In(1),
                "done": In(1),
                "plan_deadline": In(width),
                "missed": Out(1),
                "planned": Out(1),
                "age": Out(width, init=(1 << width) - 1),
                "max_age": In(width),
                "stale": Out(1),
            },
            macro_name=f"timers_{width}",
        )

    def build(self, platform):
        m = Module()
        self._time(m)
        self._period(m)
        self._deadline(m)
        self._age(m)
        return m

    def _time(self, m):
        low, high = Signal(self._width), Signal(self._width)
        # High goes on after low's last value; that it comes is known one cycle earlier, so that no
        # carry runs through both.
        carry = Signal()
        m.d.sync += [low.eq(low + 1), carry.eq(low == (1 << self._width) - 2)]
        with m.If(carry):
            m.d.sync += high.eq(high + 1)
        m.d.comb += self.time.eq(Cat(low, high))

    def _period(self, m):
        left = Signal(self._width)
        m.d.comb += self.tick.eq(self.periodic & (left == 0))
        with m.If(~self.periodic):
            m.d.sync += left.eq(0)
        with m.Elif(self.tick):
            m.d.sync += left.eq(self.plan_period - self.plan_period.any())
        with m.Else():
            m.d.sync += left.eq(left - 1)

    def _deadline(self, m):
        left, running = Signal(self._width), Signal()
        m.d.comb += self.missed.eq(running & (left == 0))
        m.d.sync += left.eq(left - 1)
        with m.If(self.missed | self.done):
            m.d.sync += running.eq(0)
        with m.If(self.trigger):
            m.d.sync += [left.eq(self.plan_deadline), running.eq(self.plan_deadline.any())]

    def _age(self, m):
        oldest = Signal()
        m.d.comb += [
            oldest.eq(self.age == (1 << self._width) - 2),
            self.stale.eq(self.planned & (self.age > self.max_age)),
        ]
        with m.If(self.done):
            m.d.sync += [self.planned.eq(1), self.age.eq(0)]
        with m.Elif(self.planned & ~oldest):
            m.d.sync += self.age.eq(self.age + 1)
