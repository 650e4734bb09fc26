"""The Cross-Entropy Method in floating point, by the published formulas.

Units are metres and fractions of the gripper's way; the normal numbers and the costs come from
outside, so that the integer planner can be compared with the same ones.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from attrs import frozen

__all__ = ["FloatPlan", "FloatSettings", "advance", "plan", "random_normals"]

Float = npt.NDArray[np.float64]

#: Features that are planned (x, y, z, gripper), of seven.
PLANNED, FEATURES = (0, 1, 2, 6), 7


@frozen(kw_only=True)
class FloatSettings:
    """What a plan does; the defaults are the paper's settings and the momenta of its code.

    Attributes
    ----------
    samples, iterations, elites, horizon
        Candidates of an iteration, iterations, candidates that are kept, steps.
    move
        First deviation, and largest magnitude, of x, y and z, in metres.
    gripper_clip, threshold
        Largest magnitude of the gripper's move, and the smallest that is not taken for none.
    momentum_mean, momentum_deviation
        Weights of the last means and deviations.
    """

    samples: int = 800
    iterations: int = 10
    elites: int = 10
    horizon: int = 1
    move: float = 0.075
    gripper_clip: float = 0.75
    threshold: float = 0.25
    momentum_mean: float = 0.15
    momentum_deviation: float = 0.15


@frozen(kw_only=True, eq=False)
class FloatPlan:
    """What a plan leaves.

    Attributes
    ----------
    action
        The first step, ``[7]``, with small gripper moves taken for none.
    means, deviations
        After each iteration, ``[I, H, 4]``.
    elites
        ``[I, K]``: candidates in rank order.
    """

    action: Float
    means: Float
    deviations: Float
    elites: npt.NDArray[np.int64]


def random_normals(seed: int) -> Callable[[int, int, int], Float]:
    """Source of normal numbers from NumPy: ``(iteration, samples, horizon) -> [N, H, 4]``."""

    def draw(iteration: int, samples: int, horizon: int) -> Float:
        rng = np.random.default_rng([seed, iteration])
        return rng.standard_normal((samples, horizon, len(PLANNED)))

    return draw


def advance(pose: npt.ArrayLike, action: npt.ArrayLike) -> Float:
    """Pose after an action, both ``[..., 7]``: the sum, the gripper in 0..1."""
    moved = np.asarray(pose, np.float64) + np.asarray(action, np.float64)
    moved[..., -1] = np.clip(moved[..., -1], 0, 1)
    return moved


def plan(
    settings: FloatSettings,
    pose: npt.ArrayLike,
    rollout: Callable[[Float, Float], npt.ArrayLike],
    normals: Callable[[int, int, int], Float],
) -> FloatPlan:
    """Plan once from ``pose`` ``[7]``.

    ``rollout(actions, states)`` gives the costs of candidates, ``[N, H, 7]`` each; ``normals`` the
    numbers of an iteration as :func:`random_normals` does. Of equal costs the lower index is kept.
    """
    mu = np.zeros((settings.horizon, len(PLANNED)))
    sd = np.tile([*3 * [settings.move], 1.0], (settings.horizon, 1))
    limit = np.array([*3 * [settings.move], settings.gripper_clip])
    means, deviations, elites = [], [], []
    for iteration in range(settings.iterations):
        noise = normals(iteration, settings.samples, settings.horizon)
        drawn = np.clip(mu + sd * noise, -limit, limit)
        actions = np.zeros((*drawn.shape[:2], FEATURES))
        actions[..., PLANNED] = drawn
        states = np.empty_like(actions)
        states[:, 0] = pose
        for step in range(1, settings.horizon):
            states[:, step] = advance(states[:, step - 1], actions[:, step - 1])
        kept = np.argsort(rollout(actions, states), kind="stable")[: settings.elites]
        best = drawn[kept]
        spread = best.std(0, ddof=1) if len(best) > 1 else np.zeros_like(sd)
        mu = (1 - settings.momentum_mean) * best.mean(0) + settings.momentum_mean * mu
        sd = (1 - settings.momentum_deviation) * spread + settings.momentum_deviation * sd
        means.append(mu)
        deviations.append(sd)
        elites.append(kept)
    action = np.zeros(FEATURES)
    action[list(PLANNED)] = mu[0]
    if abs(action[-1]) < settings.threshold:
        action[-1] = 0
    return FloatPlan(
        action=action,
        means=np.array(means),
        deviations=np.array(deviations),
        elites=np.array(elites),
    )
