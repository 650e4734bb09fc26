"""Golden model of :class:`jepa_r.vector.lane.Lane`: every element operation of the chip.

A lane computes ``z = sat(round(y * c0 + q, shift2))`` of
``y = sat16(round((src + a) * m, shift1))``. The functions below are that datapath's settings under
the names of what they do. Arrays are ``[rows, columns]``; ``columns`` parameters broadcast over
rows and ``rows`` parameters over columns.
"""

import numpy as np
import numpy.typing as npt

from .exp2 import exp2
from .rounding import round_shift, saturate, wrap32

__all__ = ["Int", "exponential", "lookup", "normalise", "requantise", "residual", "rotate", "scale"]

Int = npt.NDArray[np.int64]


def requantise(
    src: npt.ArrayLike, add: npt.ArrayLike, mul: npt.ArrayLike, shift: npt.ArrayLike
) -> Int:
    """First stage from accumulators (INT32) to INT16: ``sat16(round((src + add) * mul, shift))``.

    ``add`` INT32 (the sum wraps), ``mul`` INT16, ``shift`` 0..63, a value for each column.
    INT8 results are ``saturate(requantise(...), 8)``.
    """
    return saturate(
        round_shift(
            wrap32(np.asarray(src, np.int64) + np.asarray(add, np.int64))
            * np.asarray(mul, np.int64),
            np.minimum(shift, 62),
        ),
        16,
    )


def normalise(
    src: npt.ArrayLike, offset: npt.ArrayLike, mul: npt.ArrayLike, shift: npt.ArrayLike, *, pre: int
) -> Int:
    """First stage with a value a row: ``sat16(round(((src << pre) - offset) * mul, shift))``.

    ``pre`` is 8 for LayerNorm (INT16 source, ``offset`` the mean in 1/256) and 0 for the context
    (INT32 source, ``offset`` 0); ``mul`` is unsigned 16 bit, ``shift`` 0..63.
    """
    centred = (np.asarray(src, np.int64) << pre) - np.asarray(offset, np.int64)[:, None]
    return saturate(
        round_shift(centred * np.asarray(mul)[:, None], np.minimum(np.asarray(shift), 62)[:, None]),
        16,
    )


def scale(
    y: npt.ArrayLike, mul: npt.ArrayLike, add: npt.ArrayLike, shift: int, *, bits: int
) -> Int:
    """Second stage with a gain (INT16) and an offset (INT32) for each column."""
    return saturate(
        round_shift(
            np.asarray(y, np.int64) * np.asarray(mul, np.int64) + np.asarray(add, np.int64), shift
        ),
        bits,
    )


def residual(y: npt.ArrayLike, other: npt.ArrayLike, *, bits: int = 16) -> Int:
    """Second stage that adds the residual stream (INT16)."""
    return saturate(np.asarray(y, np.int64) + np.asarray(other, np.int64), bits)


def rotate(
    y: npt.ArrayLike, cos: npt.ArrayLike, sin: npt.ArrayLike, shift: int, *, bits: int = 8
) -> Int:
    """Second stage that rotates pairs of columns.

    ``z[2j] = y[2j] * cos[2j] + y[2j+1] * sin[2j]`` and ``z[2j+1] = y[2j+1] * cos[2j+1] + y[2j] *
    sin[2j+1]``, then rounded by ``shift``: the tables (INT16, ``[rows, columns]``) carry the signs.
    """
    y = np.asarray(y, np.int64)
    partner = y.reshape(*y.shape[:-1], -1, 2)[..., ::-1].reshape(y.shape)
    return saturate(round_shift(y * cos + partner * sin, shift), bits)


def exponential(src: npt.ArrayLike, maximum: npt.ArrayLike) -> Int:
    """``exp2`` of how far logits (INT16, sixteenths of an octave) lie below their row's maximum."""
    distance = np.asarray(maximum, np.int64)[:, None] - np.asarray(src, np.int64)
    return exp2(np.clip(distance, 0, 255))


def lookup(z: npt.ArrayLike, table: npt.ArrayLike) -> Int:
    """Pointwise function of INT8 by a table of 256 INT8, indexed by the value's bits (0..255)."""
    return np.asarray(table, np.int64)[np.asarray(z, np.int64) & 255]
