"""Golden model of :mod:`jepa_r.numeric.exp2`: 7-bit exponentials relative to the row maximum."""

import numpy as np
import numpy.typing as npt

__all__ = ["TABLE", "exp2"]

#: ``round(127 * 2**8 * 2**(-f/16))`` for the sixteen fractions, 15 bits each.
TABLE = np.rint(127 * 256 * 2.0 ** (-np.arange(16) / 16)).astype(np.int64)


def exp2(distance: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """``127 * 2**(-distance / 16)``, rounded half up, as the hardware does it.

    ``distance`` is how far a logit lies below its row's maximum, in sixteenths of an octave,
    0..255. The result is 0..127.
    """
    distance = np.asarray(distance, dtype=np.int64)
    octaves, fraction = distance >> 4, distance & 15
    return (TABLE[fraction] + (np.int64(1) << (7 + octaves))) >> (8 + octaves)
