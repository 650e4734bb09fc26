"""Golden model of :class:`jepa_r.vector.rows.RowUnit`: what the lanes learn about a whole row."""

import numpy as np
import numpy.typing as npt
from attrs import frozen

from .reciprocal import reciprocal
from .rounding import round_shift
from .rsqrt import rsqrt

__all__ = ["NormProfile", "RowScale", "maximum", "moments", "total"]


@frozen
class NormProfile:
    """Constants of one LayerNorm over ``width`` channels.

    Attributes
    ----------
    width
        Channels, 1..8191.
    inv_mul, inv_shift
        ``256 / width = inv_mul * 2**-inv_shift``, with the 16th bit of ``inv_mul`` set.
    width_log
        Smallest power of two that holds ``width``.
    floor
        ``eps * width**2`` in units of the stream's LSB squared, 1..2**48 - 1: what keeps a row of
        zero variance defined.
    shift_base
        ``39 - width_log - fraction``: normalised values have ``fraction`` fractional bits.
    """

    width: int
    inv_mul: int
    inv_shift: int
    width_log: int
    floor: int
    shift_base: int

    @classmethod
    def of(cls, width: int, *, eps: float, lsb: float) -> "NormProfile":
        """Profile for a stream whose least significant bit is worth ``lsb``."""
        log = (width - 1).bit_length()
        inv_shift = 7 + width.bit_length()
        inv_mul = round((256 << inv_shift) / width)
        while inv_mul > 65535:
            inv_shift -= 1
            inv_mul = round((256 << inv_shift) / width)
        while inv_mul < 32768:
            inv_shift += 1
            inv_mul = round((256 << inv_shift) / width)
        floor = min(max(1, round(eps * width * width / (lsb * lsb))), (1 << 48) - 1)
        return cls(width, inv_mul, inv_shift, log, floor, 39 - log - cls.fraction_of(width))

    @staticmethod
    def fraction_of(width: int) -> int:
        """Fractional bits of normalised values, which are at most ``sqrt(width - 1)``: 16 bits."""
        return 15 - ((width - 1).bit_length() + 1) // 2

    @property
    def fraction(self) -> int:
        """Fractional bits of normalised values with this profile."""
        return 39 - self.width_log - self.shift_base


@frozen
class RowScale:
    """What a row's first pass leaves for its second: the parameters of ``lane.normalise``."""

    offset: npt.NDArray[np.int64]
    mul: npt.NDArray[np.int64]
    shift: npt.NDArray[np.int64]


def moments(z: npt.ArrayLike, profile: NormProfile) -> RowScale:
    """Mean (in 1/256) and reciprocal standard deviation of every row of INT16."""
    z = np.asarray(z, np.int64)
    sums, squares = z.sum(1), (z * z).sum(1)
    offset = round_shift(sums * profile.inv_mul, profile.inv_shift)
    # Below 2**57: a width has 13 bits, a square 30, the floor 48.
    mantissa, half = rsqrt(profile.width * squares - sums * sums + profile.floor)
    mul = round_shift(mantissa * profile.width, profile.width_log)
    return RowScale(offset, mul, half + profile.shift_base)


def total(z: npt.ArrayLike) -> RowScale:
    """Reciprocal of every row's sum of exponentials; the context then has 8 fractional bits."""
    mantissa, lead = reciprocal(np.asarray(z, np.int64).sum(1))
    return RowScale(np.zeros_like(lead), mantissa, 31 - lead)


def maximum(z: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Every row's maximum: the ``offset`` of the exponentials."""
    return np.asarray(z, np.int64).max(1)
