"""How far integer latents are from float ones, in the units that the planner works in."""

import numpy as np
import numpy.typing as npt
from attrs import frozen

__all__ = ["LATENT_LSB", "Quality", "compare"]

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
