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
    flat = [max(1, int(v)) for v in np.asarray(total).reshape(-1)]
    lead = [SUM_BITS - v.bit_length() for v in flat]
    mantissa = [min(65535, (1 << 39) // (v << z)) for v, z in zip(flat, lead, strict=True)]
    shape = np.shape(total)
    return np.array(mantissa, np.int64).reshape(shape), np.array(lead, np.int64).reshape(shape)
