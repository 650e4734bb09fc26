"""Golden model of :mod:`jepa_r.numeric.rounding`: the one rounding mode and the saturations."""

import numpy as np
import numpy.typing as npt

__all__ = ["round_shift", "saturate", "wrap32"]


def round_shift(value: npt.ArrayLike, shift: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Divide by ``2**shift`` and round half up: ``floor(value / 2**shift + 1/2)``.

    ``value`` is INT64 of at most 62 bits, ``shift`` 0..63 (broadcast).
    """
    value = np.asarray(value, dtype=np.int64)
    shift = np.asarray(shift, dtype=np.int64)
    half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0)
    # At most 2**61 and 2**62: the sum does not overflow.
    return (value + half) >> shift


def saturate(value: npt.ArrayLike, bits: int) -> npt.NDArray[np.int64]:
    """Clamp to the range of a signed number of ``bits``."""
    return np.clip(np.asarray(value, dtype=np.int64), -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def wrap32(value: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Reduce modulo ``2**32`` into the range of INT32."""
    return np.asarray(value, dtype=np.int64).astype(np.int32).astype(np.int64)
