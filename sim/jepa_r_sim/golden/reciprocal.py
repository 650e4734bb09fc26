"""Golden model of :mod:`jepa_r.numeric.reciprocal`."""

import numpy as np
import numpy.typing as npt

__all__ = ["SUM_BITS", "reciprocal"]

#: Width of the sums whose reciprocal is taken.
SUM_BITS = 24


def reciprocal(total: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """``1 / total = mantissa * 2**-(39 - lead)``, with ``lead`` leading zeros of the 24-bit sum.

    ``mantissa = min(65535, floor(2**39 / (total << lead)))`` has its 16th bit set. A sum of 0
    counts as 1.

    Returns
    -------
    mantissa
        0x8000..0xFFFF.
    lead
        0..23.
    """
    value = np.maximum(np.asarray(total).astype(np.int64), 1)
    lead = SUM_BITS - np.frexp(value.astype(np.float64))[1].astype(np.int64)
    return np.minimum((1 << 39) // (value << lead), 65535), lead
