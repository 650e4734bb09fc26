"""Golden model of :mod:`jepa_r.planner.gaussian`: a standard normal number for a random word."""

from functools import cache
from math import erfc, sqrt

import numpy as np
import numpy.typing as npt

__all__ = ["FRACTION", "MAX_ERROR", "exact", "gaussian", "table"]

#: Fraction bits of the result.
FRACTION = 12

#: Largest distance of a result from the exact number, in units of its last place; the rounding of
#: the result itself is half of one.
MAX_ERROR = 0.65

#: Octaves of the tail's probability, parts of an octave, and fraction bits inside of a part.
OCTAVES, PARTS, INSIDE = 32, 32, 12

#: Fraction bits of the table beyond those of the result.
GUARD = 4


def exact(tail: float) -> float:
    """The number that a standard normal one exceeds with probability ``tail`` (up to 1/2)."""
    low, high = 0.0, 40.0
    for _ in range(80):
        middle = (low + high) / 2
        if erfc(middle / sqrt(2)) / 2 > tail:
            low = middle
        else:
            high = middle
    return (low + high) / 2


@cache
def table() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Value at the start of each part of each octave, and how much it falls to the part's end.

    Octave ``k`` has the tails from ``2**-(k + 2)`` to ``2**-(k + 1)``. A line through both ends of
    a part is above the curve between them; it is lowered by half of what it is too high in the
    middle. Both arrays are ``[OCTAVES, PARTS]`` with ``FRACTION + GUARD`` fraction bits.
    """
    start = np.empty((OCTAVES, PARTS), np.int64)
    fall = np.empty((OCTAVES, PARTS), np.int64)
    unit = 2 ** (FRACTION + GUARD)
    for octave in range(OCTAVES):
        for part in range(PARTS):
            left, middle, right = (
                exact(2.0 ** -(octave + 2) * (1 + (part + along) / PARTS)) for along in (0, 0.5, 1)
            )
            start[octave, part] = round((left - ((left + right) / 2 - middle) / 2) * unit)
            fall[octave, part] = round((left - right) * unit)
    return start, fall


def gaussian(word: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Standard normal number, ``FRACTION`` fraction bits, of a uniform word of 32 bits.

    The top bit is the sign. The others, ``u``, stand for the tail's probability ``(2 * u + 1) /
    2**33``; its leading zeros choose the octave, the five bits after the leading one the part, and
    the twelve bits after them the place on the line, rounded half up.
    """
    word = np.asarray(word, np.int64)
    tail = (word & 0x7FFFFFFF) << 1 | 1
    # Exact: a number of 32 bits is one of FP64, whose exponent counts the bits.
    octave = 32 - np.frexp(tail.astype(np.float64))[1].astype(np.int64)
    rest = (tail << octave) & 0x7FFFFFFF
    part = rest >> 26
    inside = (rest >> (26 - INSIDE)) & ((1 << INSIDE) - 1)
    start, fall = table()
    line = (start[octave, part] << INSIDE) - fall[octave, part] * inside
    shift = INSIDE + GUARD
    size: npt.NDArray[np.int64] = (line + (1 << (shift - 1))) >> shift
    return np.where(word >> 31 & 1, -size, size)
