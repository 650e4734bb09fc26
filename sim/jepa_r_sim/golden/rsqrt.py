"""Golden model of :mod:`jepa_r.numeric.rsqrt`."""

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
    value = np.maximum(np.asarray(variance).astype(np.int64), 1)
    # The float has one bit more where rounding took it to the next power of two.
    bits = np.frexp(value.astype(np.float64))[1].astype(np.int64)
    bits = bits - (value >> (bits - 1) == 0)
    half = (bits - 31) // 2
    normal = np.where(
        half >= 0, value >> 2 * np.maximum(half, 0), value << 2 * np.maximum(-half, 0)
    )
    # Roots of numbers below 2**52 are exact once rounded down.
    mantissa = np.sqrt(((1 << 62) // normal).astype(np.float64)).astype(np.int64)
    return np.minimum(mantissa, 65535), half
