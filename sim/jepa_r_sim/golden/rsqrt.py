"""Golden model of :mod:`jepa_r.numeric.rsqrt`."""

from math import isqrt

import numpy as np
import numpy.typing as npt

__all__ = ["VARIANCE_BITS", "rsqrt"]

#: Width of the (scaled) variances whose root is taken.
VARIANCE_BITS = 58


def rsqrt(variance: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """``1 / sqrt(variance) = mantissa * 2**-(31 + half)``.

    The variance (1..2**58 - 1) is brought to ``v = floor(variance / 4**half)`` in 2**30..2**32 - 1,
    where ``half`` may be negative (then the shift is exact), and ``mantissa`` is the largest number
    whose square times ``v`` is at most ``2**62``, but at most 65535.

    Returns
    -------
    mantissa
        0x8000..0xFFFF.
    half
        -15..13.
    """
    mantissas, halves = [], []
    for value in (max(1, int(v)) for v in np.asarray(variance, dtype=object).reshape(-1)):
        half = (
            (value.bit_length() - 31) // 2
            if value.bit_length() % 2
            else (value.bit_length() - 32) // 2
        )
        normal = value >> (2 * half) if half >= 0 else value << (-2 * half)
        mantissas.append(min(65535, isqrt((1 << 62) // normal)))
        halves.append(half)
    shape = np.shape(variance)
    return np.array(mantissas, np.int64).reshape(shape), np.array(halves, np.int64).reshape(shape)
