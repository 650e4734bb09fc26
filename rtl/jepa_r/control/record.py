"""The last plan, as the host and the arm see it."""

from amaranth import *
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..platform import Macro
from .state_in import FEATURES

__all__ = ["PlanRecord"]


class PlanRecord(Macro):
    """Keep all of a plan that is known at its end, until the next one is complete.

    Members
    -------
    begin, next_plan : ``In(1)``, ``In(32)``
        A plan begins, and this is its number.
    elite_valid, elite_rank, elite_cost : ``In(1)``, ``In(8)``, ``In(48)``
        Its elites as they are told.
    done, moves, length : ``In(1)``, ``In(ArrayLayout(signed(16), 7))``, ``In(32)``
        It is complete, with this action, after so many cycles.
    plan, action, cycles : ``Out(32)``, ``Out(ArrayLayout(signed(16), 7))``, ``Out(32)``
        The last plan that was completed, from the cycle after ``done``.
    best_cost : ``Out(48)``
        Lowest cost of its last iteration.
    """

    def __init__(self):
        features = data.ArrayLayout(signed(16), FEATURES)
        super().__init__(
            {
                "begin": In(1),
                "next_plan": In(32),
                "elite_valid": In(1),
                "elite_rank": In(8),
                "elite_cost": In(48),
                "done": In(1),
                "moves": In(features),
                "length": In(32),
                "plan": Out(32),
                "action": Out(features),
                "cycles": Out(32),
                "best_cost": Out(48),
            },
            macro_name="plan_record",
        )

    def build(self, platform):
        m = Module()
        number, cost = Signal(32), Signal(48)
        with m.If(self.begin):
            m.d.sync += number.eq(self.next_plan)
        with m.If(self.elite_valid & (self.elite_rank == 0)):
            m.d.sync += cost.eq(self.elite_cost)
        with m.If(self.done):
            m.d.sync += [
                self.plan.eq(number),
                self.action.eq(self.moves),
                self.cycles.eq(self.length),
                self.best_cost.eq(cost),
            ]
        return m
