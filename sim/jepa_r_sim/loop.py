"""The closed loop: a frame and a goal in, an action out, the scene moves, and again.

Policies say what to do next. Two of them plan, in floating point and in the integers that the
hardware computes; a random one and one that knows where the goal is are what they are measured
against.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt
from attrs import evolve, field, frozen

from .golden import planner as golden
from .model import integer, rollout
from .model import planner as published
from .model.encoder import encode
from .model.predictor import predict
from .model.preprocess import patches_of
from .model.quality import LATENT_LSB
from .model.quantised import QuantisedEncoder, QuantisedPredictor
from .model.units import PLANNED, advance, from_units, to_units
from .model.weights import EncoderWeights, PredictorWeights
from .scene import Scene, distance

__all__ = [
    "Decision",
    "Episode",
    "FloatPolicy",
    "IntegerPolicy",
    "Policy",
    "RandomPolicy",
    "StraightPolicy",
    "episode",
]

Float = npt.NDArray[np.floating]
Int16 = npt.NDArray[np.int16]
Frame = npt.NDArray[np.uint8]


@frozen(kw_only=True, eq=False)
class Decision:
    """What a policy does next; of a plan also what led to it.

    Attributes
    ----------
    action
        INT16 ``[7]``, in units.
    elites
        First actions of the best candidates, ``[iterations, elites, 4]``, of x, y, z in metres and
        the gripper, best first.
    costs
        What the elites cost, ``[iterations, elites]``: the mean distance of the last latent from
        the goal's, in standard deviations.
    means, deviations
        Of the first action after each iteration, ``[iterations, 4]``.
    """

    action: Int16
    elites: Float = field(factory=lambda: np.zeros((0, 0, 4)))
    costs: Float = field(factory=lambda: np.zeros((0, 0)))
    means: Float = field(factory=lambda: np.zeros((0, 4)))
    deviations: Float = field(factory=lambda: np.zeros((0, 4)))


class Policy(Protocol):
    """Decides from what a robot has: frames, the goal's frame, and its own pose."""

    def begin(self, goal_frame: Frame, goal: Int16) -> None:
        """Take a new goal. Only the policy that knows the way may look at its pose."""

    def act(self, frame: Frame, pose: Int16) -> Decision:
        """Decide what to do at ``pose``."""


@frozen(kw_only=True, eq=False)
class Episode:
    """What happened on the way to a goal in ``steps`` steps.

    Attributes
    ----------
    frames
        uint8 ``[steps + 1, 3, 64, 64]``, the first one before the first step.
    goal_frame
        uint8 ``[3, 64, 64]``.
    poses, goal
        INT16 ``[steps + 1, 7]`` and ``[7]``.
    distances
        From the goal in metres, ``[steps + 1]``; the gripper's opening does not count.
    decisions
        One for each step.
    """

    frames: Frame
    goal_frame: Frame
    poses: Int16
    goal: Int16
    distances: Float
    decisions: tuple[Decision, ...]

    @property
    def actions(self) -> Int16:
        """What was done, ``[steps, 7]``."""
        return np.array([decision.action for decision in self.decisions])

    @property
    def costs(self) -> Float:
        """Mean cost of the last elites of each step's plan, ``[steps]``; NaN without a plan."""
        last = [decision.costs[-1:] for decision in self.decisions]
        return np.array([costs.mean() if costs.size else np.nan for costs in last])


def episode(scene: Scene, policy: Policy, start: Int16, goal: Int16, *, steps: int) -> Episode:
    """Let a policy act for so many steps."""
    goal_frame = scene.render(goal)
    policy.begin(goal_frame, goal)
    poses, frames, decisions = [start], [scene.render(start)], []
    for _ in range(steps):
        decisions.append(policy.act(frames[-1], poses[-1]))
        poses.append(advance(poses[-1], decisions[-1].action))
        frames.append(scene.render(poses[-1]))
    return Episode(
        frames=np.array(frames),
        goal_frame=goal_frame,
        poses=np.array(poses),
        goal=goal,
        distances=distance(np.array(poses), goal),
        decisions=tuple(decisions),
    )


class RandomPolicy:
    """Actions anywhere in the box that a planner's actions are clipped to, all equally likely."""

    def __init__(self, *, seed: int, settings: golden.Settings | None = None) -> None:
        self._random = np.random.default_rng(seed)
        self._clip = np.array((settings or golden.Settings()).clip)

    def begin(self, goal_frame: Frame, goal: Int16) -> None:
        """Whatever the goal is."""

    def act(self, frame: Frame, pose: Int16) -> Decision:
        action = np.zeros(7, np.int16)
        action[list(PLANNED)] = self._random.integers(-self._clip, self._clip + 1)
        return Decision(action=action)


class StraightPolicy:
    """Knows where the goal is, and takes the way that no policy with the same reach can better."""

    def __init__(self, *, settings: golden.Settings | None = None) -> None:
        self._clip = np.array((settings or golden.Settings()).clip)

    def begin(self, goal_frame: Frame, goal: Int16) -> None:
        self._goal = goal

    def act(self, frame: Frame, pose: Int16) -> Decision:
        index = list(PLANNED)
        action = np.zeros(7, np.int16)
        wanted = self._goal.astype(np.int64) - pose
        action[index] = np.clip(wanted[index], -self._clip, self._clip)
        return Decision(action=action)


class _Seen:
    """Candidates of a plan and their costs, an iteration at a time."""

    def __init__(self, elites: int) -> None:
        self._count = elites
        self.elites: list[Float] = []
        self.costs: list[Float] = []

    def note(self, actions: Float, costs: Float) -> None:
        """``actions [N, H, 7]`` in metres, ``costs [N]`` in standard deviations."""
        best = np.argsort(costs, kind="stable")[: self._count]
        self.elites.append(actions[best, 0][:, PLANNED])
        self.costs.append(costs[best])

    def decision(self, action: Int16, means: Float, deviations: Float) -> Decision:
        return Decision(
            action=action,
            elites=np.array(self.elites),
            costs=np.array(self.costs),
            means=means,
            deviations=deviations,
        )


class FloatPolicy:
    """Plans in floating point (FP32), as published.

    Parameters
    ----------
    encoder, predictor
        The model.
    settings
        Of the planner.
    seed
        Of its random numbers.
    """

    def __init__(
        self,
        encoder: EncoderWeights,
        predictor: PredictorWeights,
        *,
        settings: published.FloatSettings | None = None,
        seed: int,
    ) -> None:
        self._encoder, self._predictor = encoder, predictor
        self._settings = settings or published.FloatSettings()
        self._seed, self._plans = seed, 0

    def _latent(self, frame: Frame) -> npt.NDArray[np.floating]:
        patches = patches_of(frame, self._encoder.config)
        return encode(self._encoder, patches, dtype=np.float32).latent

    def begin(self, goal_frame: Frame, goal: Int16) -> None:
        self._goal = self._latent(goal_frame)

    def act(self, frame: Frame, pose: Int16) -> Decision:
        latent, seen = self._latent(frame), _Seen(self._settings.elites)

        def costs(actions: Float, states: Float) -> Float:
            last = predict(self._predictor, latent, actions, states, dtype=np.float32)[:, -1]
            found = np.abs(last - self._goal).mean((-2, -1)).astype(np.float64)
            seen.note(actions, found)
            return found

        normals = published.random_normals(self._seed * 65537 + self._plans)
        self._plans += 1
        plan = published.plan(self._settings, from_units(pose), costs, normals)
        return seen.decision(to_units(plan.action), plan.means[:, 0], plan.deviations[:, 0])


class IntegerPolicy:
    """Plans in the integers that the hardware computes, bit for bit.

    Parameters
    ----------
    encoder, predictor
        The quantised model.
    settings
        The planner's registers; the plan number counts up from the one given.
    """

    def __init__(
        self,
        encoder: QuantisedEncoder,
        predictor: QuantisedPredictor,
        *,
        settings: golden.Settings | None = None,
    ) -> None:
        self._encoder, self._predictor = encoder, predictor
        self._settings = settings or golden.Settings()
        self._previous: npt.NDArray[np.int64] | None = None

    def _latent(self, frame: Frame) -> npt.NDArray[np.int8]:
        return integer.encode(self._encoder, patches_of(frame, self._encoder.config)).latent

    def begin(self, goal_frame: Frame, goal: Int16) -> None:
        self._goal, self._previous = self._latent(goal_frame), None

    def act(self, frame: Frame, pose: Int16) -> Decision:
        seen = _Seen(self._settings.elites)
        latent = self._latent(frame)

        def costs(actions: Int16, states: Int16) -> npt.NDArray[np.int64]:
            last = rollout.rollout(self._predictor, latent, actions, states).latents[:, -1]
            found = rollout.costs(last, self._goal)
            seen.note(from_units(actions), found * (LATENT_LSB / self._goal.size))
            return found

        plan = golden.plan(self._settings, pose, costs, previous=self._previous)
        self._previous = plan.mu
        self._settings = evolve(self._settings, plan=self._settings.plan + 1)
        fine = golden.LSB * 2.0**-golden.FINE
        return seen.decision(plan.action, plan.means[:, 0] * fine, plan.deviations[:, 0] * fine)
