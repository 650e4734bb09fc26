"""Golden model of :mod:`jepa_r.planner`: the Cross-Entropy Method, bit for bit.

Actions, poses and their units are INT16 as everywhere on the chip. Means and standard deviations
have :data:`FINE` more fraction bits. Every random number is a function of (seed, plan number,
iteration, candidate, step, dimension), so that elites are drawn again instead of being stored, and
a plan does not depend on how many candidates are rolled out at once.
"""

from collections.abc import Callable, Iterable
from math import isqrt

import numpy as np
import numpy.typing as npt
from attrs import Attribute, field, frozen

from .gaussian import FRACTION, gaussian
from .rounding import round_shift
from .threefry import threefry

__all__ = [
    "DEFAULT_MOVE",
    "FAULTS",
    "FINE",
    "LIMIT",
    "LSB",
    "MAX_ELITES",
    "MAX_STEPS",
    "ONE",
    "PLANNED",
    "Plan",
    "PlannerError",
    "Rollout",
    "Settings",
    "advance",
    "answer",
    "candidates",
    "normals",
    "plan",
    "refit",
    "start",
    "to_lsb",
    "trajectory",
]

Int = npt.NDArray[np.int64]

#: Costs of candidates: of actions and states, INT16 ``[B, H, 7]``, a whole number each.
Rollout = Callable[[npt.NDArray[np.int16], npt.NDArray[np.int16]], npt.ArrayLike]

#: Unit of the planned features: metres, and fractions of the gripper's way.
LSB = 2.0**-14

#: Largest magnitude of an action and of a pose: what two balanced bytes hold.
LIMIT = 32639

#: Fraction bits of means and deviations below an action's last place.
FINE = 8

#: A momentum of one.
ONE = 1 << 15

#: Features that are planned (x, y, z, gripper); the rotations are not.
PLANNED = (0, 1, 2, 6)

#: Features of an action and of a pose, and which of them is the gripper, which stays in 0..1.
FEATURES, GRIPPER, GRIPPER_LIMIT = 7, 6, 1 << 14

#: Largest sizes that a chip may be built with.
MAX_ELITES, MAX_STEPS = 64, 16

#: Names of the faults, in the order in which they are looked for.
FAULTS = (
    "NONE", "SAMPLES", "ELITES", "ITERATIONS", "HORIZON", "MOMENTUM", "CLIP", "STEPS", "PREDICTOR",
)  # fmt: skip

#: What is wrong, by fault.
_REASONS = {
    "SAMPLES": "samples is {s.samples}; it must be 1 or more",
    "ELITES": (
        "elites is {s.elites}; it must be from 1 to {elites}, and at most samples, {s.samples}"
    ),
    "ITERATIONS": "iterations is {s.iterations}; it must be 1 or more",
    "HORIZON": "horizon is {s.horizon}; it must be from 1 to {steps}",
    "MOMENTUM": (
        "momenta are {s.momentum_mean} and {s.momentum_deviation}; they must be 32768 or less"
    ),
    "CLIP": "clip is {s.clip}; it must be 32639 or less",
    "STEPS": "horizon is {s.horizon}; it must be the steps of the loaded program",
}

#: Farthest move of a step along an axis, in metres, as published.
DEFAULT_MOVE = 0.075


class PlannerError(ValueError):
    """Settings that the planner refuses.

    Attributes
    ----------
    fault
        Its name in :data:`FAULTS`.
    """

    def __init__(self, fault: str, message: str):
        super().__init__(message)
        self.fault = fault


def to_lsb(value: float) -> int:
    """Whole units, to the nearest, of metres or of the gripper's way."""
    return int(np.floor(value / LSB + 0.5))


def _register(bits: int) -> Callable[[object, "Attribute[int]", int], None]:
    """Validator: what fits a register of so many bits."""

    def check(instance: object, attribute: "Attribute[int]", value: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << bits:
            raise ValueError(
                f"{attribute.name} is {value!r}; it must be a whole number from 0 to {2**bits - 1}"
            )

    return check


def _registers(
    instance: object, attribute: "Attribute[tuple[int, ...]]", value: tuple[int, ...]
) -> None:
    """Validator: four registers of 16 bits."""
    if len(value) != len(PLANNED):
        raise ValueError(
            f"{attribute.name} has {len(value)} values; it must have {len(PLANNED)}: "
            "x, y, z and gripper"
        )
    check = _register(16)
    for one in value:
        check(instance, attribute, one)  # type: ignore[arg-type]


def _ints(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


@frozen(kw_only=True)
class Settings:
    """Registers of the planner; the defaults are the published settings.

    A value that its register cannot hold is a :exc:`ValueError`. What a register can hold and a
    plan cannot use is found by :meth:`fault`, as the hardware does.

    Attributes
    ----------
    samples
        Candidates of an iteration, 1..65535.
    elites
        Best candidates that are kept, 1..``samples`` and what the hardware has.
    iterations
        How often the distribution is fitted, 1..255.
    horizon
        Steps of a plan, 1..what the hardware has, and those of the loaded program.
    warm
        1: begin with the means of the last plan, a step later.
    seed, plan
        Key of the random numbers: 32 bits each.
    momentum_mean, momentum_deviation
        Weight of the last means and deviations, in 1/32768, 0..32768.
    deviation
        First standard deviations of x, y, z and gripper, LSB.
    clip
        Largest magnitudes of an action's x, y, z and gripper, LSB, 0..32639.
    threshold
        Smallest gripper move that is not taken for none, LSB.
    """

    samples: int = field(default=800, validator=_register(16))
    elites: int = field(default=10, validator=_register(8))
    iterations: int = field(default=10, validator=_register(8))
    horizon: int = field(default=1, validator=_register(8))
    warm: int = field(default=0, validator=_register(1))
    seed: int = field(default=0, validator=_register(32))
    plan: int = field(default=0, validator=_register(32))
    momentum_mean: int = field(default=4915, validator=_register(16))
    momentum_deviation: int = field(default=4915, validator=_register(16))
    deviation: tuple[int, ...] = field(
        default=(1229, 1229, 1229, 16384), converter=_ints, validator=_registers
    )
    clip: tuple[int, ...] = field(
        default=(1229, 1229, 1229, 12288), converter=_ints, validator=_registers
    )
    threshold: int = field(default=4096, validator=_register(16))

    @classmethod
    def of(
        cls,
        *,
        move: float = DEFAULT_MOVE,
        gripper_deviation: float = 1.0,
        gripper_clip: float = 0.75,
        threshold: float = 0.25,
        momentum_mean: float = 0.15,
        momentum_deviation: float = 0.15,
        **registers: int,
    ) -> "Settings":
        """Registers from metres (``move``: first deviation and clip of x, y and z) and fractions.

        Raises
        ------
        ValueError
            If a value does not fit its register.
        """
        return cls(
            deviation=(*3 * (to_lsb(move),), to_lsb(gripper_deviation)),
            clip=(*3 * (to_lsb(move),), to_lsb(gripper_clip)),
            threshold=to_lsb(threshold),
            momentum_mean=int(momentum_mean * ONE + 0.5),
            momentum_deviation=int(momentum_deviation * ONE + 0.5),
            **registers,
        )

    def fault(
        self,
        *,
        elites: int = MAX_ELITES,
        steps: int = MAX_STEPS,
        program_steps: int | None = None,
    ) -> str:
        """Name of the first fault of these settings on hardware of so many elites and steps.

        ``program_steps`` are the steps of the loaded rollout program; ``None``: the right ones.
        """
        wrong = {
            "SAMPLES": self.samples == 0,
            "ELITES": not 1 <= self.elites <= min(elites, self.samples),
            "ITERATIONS": self.iterations == 0,
            "HORIZON": not 1 <= self.horizon <= steps,
            "MOMENTUM": max(self.momentum_mean, self.momentum_deviation) > ONE,
            "CLIP": max(self.clip) > LIMIT,
            "STEPS": program_steps is not None and self.horizon != program_steps,
        }
        return next((name for name in FAULTS if wrong.get(name)), "NONE")


@frozen(kw_only=True, eq=False)
class Plan:
    """What a plan leaves, and what led to it.

    Attributes
    ----------
    action
        The first step, INT16 ``[7]``.
    mu, sd
        Last means and deviations, ``[H, 4]``, with :data:`FINE` more fraction bits; ``mu`` is what
        the next plan begins with if it is warm.
    means, deviations
        The same after each iteration, ``[I, H, 4]``.
    costs
        ``[I, N]``, of each iteration's candidates.
    elites
        ``[I, K]``: candidates in rank order.
    elite_costs
        ``[I, K]``: their costs.
    """

    action: npt.NDArray[np.int16]
    mu: Int
    sd: Int
    means: Int
    deviations: Int
    costs: Int
    elites: Int
    elite_costs: Int


def normals(settings: Settings, iteration: int, indices: npt.ArrayLike) -> Int:
    """Standard normal numbers of candidates, ``[B, H, 4]``, 12 fraction bits."""
    candidate = np.asarray(indices, np.int64)[:, None, None]
    step, half = np.arange(settings.horizon)[:, None], np.arange(2)
    words = threefry(
        (settings.seed, settings.plan), (iteration << 16 | candidate, step << 1 | half)
    )
    # Words of half 0 are x and y, of half 1 z and gripper.
    return gaussian(np.stack(words, -1)).reshape(len(candidate), settings.horizon, len(PLANNED))


def candidates(
    settings: Settings, mu: npt.ArrayLike, sd: npt.ArrayLike, iteration: int, indices: npt.ArrayLike
) -> npt.NDArray[np.int16]:
    """Actions of candidates, INT16 ``[B, H, 7]``: ``clip(round(mu + sd * normal))``."""
    fine = np.asarray(mu, np.int64) << FRACTION
    drawn = round_shift(
        fine + np.asarray(sd, np.int64) * normals(settings, iteration, indices), FINE + FRACTION
    )
    limit = np.array(settings.clip)
    actions = np.zeros((*drawn.shape[:2], FEATURES), np.int16)
    actions[..., PLANNED] = np.clip(drawn, -limit, limit)
    return actions


def advance(pose: npt.ArrayLike, action: npt.ArrayLike) -> npt.NDArray[np.int16]:
    """Pose after an action, both ``[..., 7]``: the saturated sum, the gripper in 0..1."""
    moved = np.clip(np.asarray(pose, np.int64) + np.asarray(action, np.int64), -LIMIT, LIMIT)
    moved[..., GRIPPER] = np.clip(moved[..., GRIPPER], 0, GRIPPER_LIMIT)
    return moved.astype(np.int16)


def trajectory(pose: npt.ArrayLike, actions: npt.ArrayLike) -> npt.NDArray[np.int16]:
    """Poses before each action, INT16 ``[B, H, 7]``, the first of them saturated."""
    actions = np.asarray(actions)
    states = np.empty(actions.shape, np.int16)
    states[:, 0] = np.clip(np.asarray(pose, np.int64), -LIMIT, LIMIT)
    for step in range(1, actions.shape[1]):
        states[:, step] = advance(states[:, step - 1], actions[:, step - 1])
    return states


def refit(
    settings: Settings, elites: npt.ArrayLike, mu: npt.ArrayLike, sd: npt.ArrayLike
) -> tuple[Int, Int]:
    """Means and deviations after an iteration, ``[H, 4]``.

    With ``S1`` and ``S2`` the sums of the elites' K actions and of their squares, the mean is
    ``S1 * 256 / K``, rounded half up, and the sample deviation the whole part of the root of
    ``floor((K * S2 - S1**2) * 2**16 / (K * (K - 1)))``, or 0 of a single elite. Both are mixed with
    what was before and rounded half up. Nothing saturates: clipped actions have means of at most
    24 bits with the sign, and deviations of at most 24 bits without.

    ``elites`` are INT16 actions ``[K, H, 4]``, planned features only.
    """
    actions = np.asarray(elites, np.int64)
    count = len(actions)
    first, second = actions.sum(0), (actions * actions).sum(0)
    mean = (first * (2 << FINE) + count) // (2 * count)
    if count > 1:
        variance = ((count * second - first * first) << 2 * FINE) // (count * (count - 1))
        deviation = np.vectorize(isqrt, otypes=[np.int64])(variance)
    else:
        deviation = np.zeros_like(mean)

    def mix(new: Int, old: npt.ArrayLike, momentum: int) -> Int:
        return round_shift((ONE - momentum) * new + momentum * np.asarray(old, np.int64), 15)

    return (
        mix(mean, mu, settings.momentum_mean),
        mix(deviation, sd, settings.momentum_deviation),
    )


def start(settings: Settings, previous: npt.ArrayLike | None) -> tuple[Int, Int]:
    """Means and deviations that a plan begins with, ``[H, 4]``.

    ``previous`` are the means of the last plan. They count if ``warm`` is set and that plan had the
    same horizon: each step begins with the mean of the one after it, the last with its own.
    """
    mu = np.zeros((settings.horizon, len(PLANNED)), np.int64)
    if settings.warm and previous is not None and np.shape(previous) == mu.shape:
        mu = np.asarray(previous, np.int64)
        mu = np.concatenate([mu[1:], mu[-1:]])
    return mu, np.tile(np.array(settings.deviation, np.int64) << FINE, (settings.horizon, 1))


def answer(settings: Settings, mu: npt.ArrayLike) -> npt.NDArray[np.int16]:
    """First step of means ``[H, 4]`` as an action, INT16 ``[7]``; a small gripper move is none."""
    action = np.zeros(FEATURES, np.int16)
    action[list(PLANNED)] = round_shift(np.asarray(mu)[0], FINE)
    if abs(int(action[GRIPPER])) < settings.threshold:
        action[GRIPPER] = 0
    return action


def plan(
    settings: Settings,
    pose: npt.ArrayLike,
    rollout: Rollout,
    *,
    previous: npt.ArrayLike | None = None,
    batch: int | None = None,
    elites: int = MAX_ELITES,
    steps: int = MAX_STEPS,
    program_steps: int | None = None,
) -> Plan:
    """Plan once.

    Parameters
    ----------
    settings
        Registers.
    pose
        Where the arm is, INT16 ``[7]``.
    rollout
        Costs (at most 48 bits) of actions and the states before them.
    previous
        ``mu`` of the last plan; see :func:`start`.
    batch
        Most candidates that ``rollout`` is given at once; all of them if ``None``. It does not
        change the plan.
    elites, steps, program_steps
        As of :meth:`Settings.fault`.

    Raises
    ------
    PlannerError
        If the settings are refused.
    """
    fault = settings.fault(elites=elites, steps=steps, program_steps=program_steps)
    if fault != "NONE":
        raise PlannerError(fault, _REASONS[fault].format(s=settings, steps=steps, elites=elites))
    batch = batch or settings.samples
    mu, sd = start(settings, previous)
    means, deviations, costs, best = [], [], [], []
    for iteration in range(settings.iterations):
        parts = []
        for first in range(0, settings.samples, batch):
            indices = range(first, min(first + batch, settings.samples))
            actions = candidates(settings, mu, sd, iteration, indices)
            parts.append(np.asarray(rollout(actions, trajectory(pose, actions)), np.int64))
        cost = np.concatenate(parts)
        # Stable: of equal costs, the lower index is the better one.
        kept = np.argsort(cost, kind="stable")[: settings.elites]
        drawn = candidates(settings, mu, sd, iteration, kept)[..., PLANNED]
        mu, sd = refit(settings, drawn, mu, sd)
        means.append(mu)
        deviations.append(sd)
        costs.append(cost)
        best.append(kept)
    return Plan(
        action=answer(settings, mu),
        mu=mu,
        sd=sd,
        means=np.array(means),
        deviations=np.array(deviations),
        costs=np.array(costs),
        elites=np.array(best),
        elite_costs=np.take_along_axis(np.array(costs), np.array(best), 1),
    )
