"""Settings that no plan can use."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .layouts import LIMIT, ONE, PlannerFault, PlannerSettings

__all__ = ["SettingsCheck"]


class SettingsCheck(wiring.Component):
    """The first fault of settings, without a register.

    The golden model is :meth:`jepa_r_sim.golden.planner.Settings.fault`.

    Parameters
    ----------
    elites, steps : :class:`int`
        Most elites and steps.

    Members
    -------
    settings : ``In(PlannerSettings())``
        What is asked for.
    program_steps : ``In(8)``
        Steps of the loaded program.
    fault : ``Out(PlannerFault)``
        Why it cannot be.
    """

    def __init__(self, *, elites, steps):
        self._elites = elites
        self._steps = steps
        super().__init__({
            "settings": In(PlannerSettings()),
            "program_steps": In(8),
            "fault": Out(PlannerFault),
        })

    def elaborate(self, platform):
        m = Module()
        given = self.settings
        momenta = given.momentum_mean, given.momentum_deviation
        wrong = {
            PlannerFault.SAMPLES: given.samples == 0,
            PlannerFault.ELITES: (given.elites == 0)
            | (given.elites > self._elites)
            | (given.elites > given.samples),
            PlannerFault.ITERATIONS: given.iterations == 0,
            PlannerFault.HORIZON: (given.horizon == 0) | (given.horizon > self._steps),
            PlannerFault.MOMENTUM: Cat(momentum > ONE for momentum in momenta).any(),
            PlannerFault.CLIP: Cat(clip > LIMIT for clip in given.clip).any(),
            PlannerFault.STEPS: given.horizon != self.program_steps,
        }
        # The last assignment counts, so the first fault comes last.
        for fault, found in reversed(wrong.items()):
            with m.If(found):
                m.d.comb += self.fault.eq(fault)
        return m
