"""What goes into a plan and what comes out of it."""

from amaranth import *
from amaranth.lib import data, enum

__all__ = [
    "DIMENSIONS",
    "FEATURES",
    "FINE",
    "LIMIT",
    "MAX_ELITES",
    "ONE",
    "DistributionLayout",
    "EliteLayout",
    "EliteTrace",
    "PlannerFault",
    "PlannerSettings",
    "number",
]

#: Features of actions and poses: x, y, z, three angles, gripper.
FEATURES = 7

#: Features that are planned: x, y, z and gripper, in this order.
DIMENSIONS = 4

#: Fraction bits of means and deviations below an action's last place.
FINE = 8

#: Largest magnitude of an action and of a pose: what two balanced bytes hold.
LIMIT = 32639

#: A momentum of one.
ONE = 1 << 15

#: Most elites that the widths of sums and quotients allow.
MAX_ELITES = 64


def number(count):
    """Shape of numbers below ``count``; of one bit even if there is one alone.

    Verilog has no signals of no bits.
    """
    return range(max(2, count))


class PlannerFault(enum.Enum, shape=4):
    """Why a plan has no action; of several reasons the first."""

    NONE = 0
    #: No samples.
    SAMPLES = 1
    #: No elites, more than the hardware has, or more than samples.
    ELITES = 2
    #: No iterations.
    ITERATIONS = 3
    #: No steps, or more than the hardware has.
    HORIZON = 4
    #: A momentum above one.
    MOMENTUM = 5
    #: A clip above what an action holds.
    CLIP = 6
    #: Other steps than those of the loaded program.
    STEPS = 7
    #: A fault of the predictor's cluster.
    PREDICTOR = 8


class PlannerSettings(data.StructLayout):
    """Registers of a plan.

    Members
    -------
    samples : ``unsigned(16)``
        Candidates of an iteration.
    elites, iterations, horizon : ``unsigned(8)``
        Candidates that are kept, how often the distribution is fitted, steps.
    warm : ``unsigned(1)``
        Begin with the means of the last plan, a step later.
    seed, plan : ``unsigned(32)``
        Key of the random numbers.
    momentum_mean, momentum_deviation : ``unsigned(16)``
        Weights of the last means and deviations, in 1/32768.
    deviation, clip : ``ArrayLayout(16, 4)``
        First deviations and largest magnitudes of x, y, z and gripper, in an action's last place.
    threshold : ``unsigned(16)``
        Smallest gripper move that is not taken for none.
    """

    def __init__(self):
        super().__init__({
            "samples": 16,
            "elites": 8,
            "iterations": 8,
            "horizon": 8,
            "warm": 1,
            "seed": 32,
            "plan": 32,
            "momentum_mean": 16,
            "momentum_deviation": 16,
            "deviation": data.ArrayLayout(16, DIMENSIONS),
            "clip": data.ArrayLayout(16, DIMENSIONS),
            "threshold": 16,
        })


class DistributionLayout(data.StructLayout):
    """Mean and standard deviation of one dimension of one step, with ``FINE`` more fraction bits.

    Members
    -------
    mean : ``signed(24)``
        Clipped actions have means of at most 32639 * 256.
    deviation : ``unsigned(24)``
        Of two actions, one at each clip: 32639 * sqrt(2) * 256.
    """

    def __init__(self):
        super().__init__({"mean": signed(24), "deviation": 24})


class EliteLayout(data.StructLayout):
    """One of the best candidates.

    Members
    -------
    valid : ``unsigned(1)``
        There is one.
    candidate : ``unsigned(16)``
        Its index.
    cost : ``unsigned(48)``
        Its distance.
    """

    def __init__(self):
        super().__init__({"valid": 1, "candidate": 16, "cost": 48})


class EliteTrace(data.StructLayout):
    """An elite as it is told to the outside.

    Members
    -------
    valid : ``unsigned(1)``
        This cycle tells of one.
    iteration, rank : ``unsigned(8)``
        Of which iteration, and its place; 0 is the best.
    candidate, cost : ``unsigned(16)``, ``unsigned(48)``
        As of :class:`EliteLayout`.
    """

    def __init__(self):
        super().__init__({"valid": 1, "iteration": 8, "rank": 8, "candidate": 16, "cost": 48})
