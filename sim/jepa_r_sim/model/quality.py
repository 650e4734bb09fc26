"""How far integer latents are from float ones, in the units that the planner works in."""

import numpy as np
import numpy.typing as npt
from attrs import frozen

from .predictor import predict
from .quantised import QuantisedPredictor
from .rollout import costs, rollout
from .units import from_units
from .weights import PredictorWeights

__all__ = ["LATENT_LSB", "PlannerQuality", "Quality", "compare", "planner_quality"]

#: What one unit of an INT8 latent is worth, in standard deviations.
LATENT_LSB = 1 / 16


@frozen
class Quality:
    """Distance between latents.

    Attributes
    ----------
    l1
        Mean absolute difference, in standard deviations.
    cosine
        Mean over the tokens of the cosine between rows.
    """

    l1: float
    cosine: float


def compare(latent: npt.NDArray[np.int8], reference: npt.NDArray[np.floating]) -> Quality:
    """Compare INT8 latents ``[tokens, width]`` with float ones."""
    found = latent.astype(np.float64) * LATENT_LSB
    products = (found * reference).sum(-1)
    lengths = np.linalg.norm(found, axis=-1) * np.linalg.norm(reference, axis=-1)
    cosine = products / np.maximum(lengths, 1e-12)
    return Quality(float(np.abs(found - reference).mean()), float(cosine.mean()))


@frozen
class PlannerQuality:
    """What integers change of what a planner sees.

    Attributes
    ----------
    l1
        For each step, mean absolute difference of predicted latents to float ones, in standard
        deviations.
    effect
        For each step, how far candidates' float latents are from their mean: what there is to see.
    rank
        Spearman's correlation between integer and float costs of the candidates.
    elites
        Share of the best candidates by float costs that are among the best by integer ones.
    """

    l1: tuple[float, ...]
    effect: tuple[float, ...]
    rank: float
    elites: float


def planner_quality(
    q: QuantisedPredictor,
    weights: PredictorWeights,
    latent: npt.NDArray[np.int8],
    goal: npt.NDArray[np.int8],
    actions: npt.NDArray[np.int16],
    states: npt.NDArray[np.int16],
    *,
    elites: int = 10,
) -> PlannerQuality:
    """Compare the rollouts of both predictors, and the order that a planner would bring them in.

    Parameters
    ----------
    q, weights
        The same predictor in integers and in floating point.
    latent, goal
        INT8 ``[tokens, width]`` in sixteenths, the start and what costs are distances to.
    actions, states
        INT16 ``[B, steps, 7]``.
    elites
        How many candidates are the best.

    Raises
    ------
    ValueError
        If ``elites`` is not between 1 and the number of candidates, or as :func:`rollout`.
    """
    if not 1 <= elites <= len(actions):
        raise ValueError(f"elites {elites} is not allowed: from 1 to {len(actions)} candidates")
    found = rollout(q, latent, actions, states).latents
    exact = predict(weights, latent * LATENT_LSB, from_units(actions), from_units(states))
    measured = costs(found[:, -1], goal)
    wanted = np.abs(exact[:, -1] - goal * LATENT_LSB).mean((-1, -2))
    order, reference = (np.argsort(cost, kind="stable") for cost in (measured, wanted))
    ranks = np.argsort(order), np.argsort(reference)
    best = np.intersect1d(order[:elites], reference[:elites])
    return PlannerQuality(
        l1=tuple(np.abs(found * LATENT_LSB - exact).mean((0, 2, 3)).tolist()),
        effect=tuple(np.abs(exact - exact.mean(0)).mean((0, 2, 3)).tolist()),
        rank=float(np.corrcoef(*ranks)[0, 1]) if len(actions) > 1 else 1.0,
        elites=len(best) / elites,
    )
