"""The golden models of lanes and rows against exact and floating-point arithmetic."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_r_sim.golden import lane, rows

int32 = st.integers(-(2**31), 2**31 - 1) | st.sampled_from([-(2**31), 2**31 - 1, 0])
int16 = st.integers(-(2**15), 2**15 - 1) | st.sampled_from([-(2**15), 2**15 - 1, 0])
shifts = st.integers(0, 63)


def rounded(value, shift, bits):
    """``value / 2**shift``, to the nearest, ties up, in the range of so many bits."""
    nearest = floor(Fraction(value, 2**shift) + Fraction(1, 2))
    return max(-(2 ** (bits - 1)), min(2 ** (bits - 1) - 1, nearest))


class TestLane:
    @given(src=int32, add=int32, mul=int16, shift=shifts)
    def test_requantise(self, src, add, mul, shift):
        total = (src + add + 2**31) % 2**32 - 2**31
        assert lane.requantise([[src]], [add], [mul], [shift]) == rounded(total * mul, shift, 16)

    @given(src=int16, offset=st.integers(-(2**23), 2**23), mul=st.integers(0, 65535), shift=shifts)
    def test_normalise(self, src, offset, mul, shift):
        expected = rounded((256 * src - offset) * mul, shift, 16)
        assert lane.normalise([[src]], [offset], [mul], [shift], pre=8) == expected

    @given(src=int32, mul=st.integers(0, 65535), shift=shifts)
    def test_normalise_context(self, src, mul, shift):
        expected = rounded(src * mul, shift, 16)
        assert lane.normalise([[src]], [0], [mul], [shift], pre=0) == expected

    @given(y=int16, mul=int16, add=int32, shift=shifts, bits=st.sampled_from([8, 16]))
    def test_scale(self, y, mul, add, shift, bits):
        expected = rounded(y * mul + add, shift, bits)
        assert lane.scale([[y]], [mul], [add], shift, bits=bits) == expected

    @given(y=int16, other=int16, bits=st.sampled_from([8, 16]))
    def test_residual(self, y, other, bits):
        assert lane.residual([[y]], [other], bits=bits) == rounded(y + other, 0, bits)

    @given(
        y=st.tuples(int16, int16),
        cos=st.tuples(int16, int16),
        sin=st.tuples(int16, int16),
        shift=shifts,
        bits=st.sampled_from([8, 16]),
    )
    def test_rotate(self, y, cos, sin, shift, bits):
        expected = [
            rounded(y[0] * cos[0] + y[1] * sin[0], shift, bits),
            rounded(y[1] * cos[1] + y[0] * sin[1], shift, bits),
        ]
        assert lane.rotate([y], cos, sin, shift, bits=bits).tolist() == [expected]

    @given(src=int32, maximum=int32)
    def test_exponential(self, src, maximum):
        result = int(lane.exponential([[src]], [maximum])[0, 0])
        exact = 127 * 2.0 ** (-min(max(maximum - src, 0), 255) / 16)
        assert abs(result - exact) <= 0.51

    def test_lookup_takes_the_bits_of_the_value(self):
        table = list(range(128)) + list(range(-128, 0))
        values = np.arange(-128, 128)
        assert lane.lookup(values, table).tolist() == values.tolist()


def row_values(width, seed):
    rng = np.random.default_rng(seed)
    scale = rng.integers(16)
    return ((rng.integers(-(2**15), 2**15, width) >> scale) + rng.integers(-100, 101)).clip(
        -(2**15), 2**15 - 1
    )


class TestRows:
    @given(
        width=st.integers(2, 2000) | st.sampled_from([2, 3, 4095, 4096, 4097, 8191]),
        seed=st.integers(0, 2**32 - 1),
        eps=st.sampled_from([1e-6, 1e-5]),
        lsb_log=st.integers(-14, -4),
    )
    def test_moments_normalise_a_row(self, width, seed, eps, lsb_log):
        z = row_values(width, seed)
        lsb = 2.0**lsb_log
        profile = rows.NormProfile.of(width, eps=eps, lsb=lsb)
        scale = rows.moments(z[None], profile)
        mean, variance = z.mean(), z.var()
        # The factor of the mean has 16 bits.
        assert abs(scale.offset[0] - 256 * mean) <= 0.501 + abs(256 * mean) * 2.0**-16

        exact = 2.0**profile.fraction / np.sqrt(variance + max(eps / lsb**2, 1 / width**2))
        # Half a unit of a factor of at least 2**14, a whole one of at least 2**15, and the floor,
        # which is rounded.
        factor = float(scale.mul[0]) * 256 / 2.0 ** scale.shift[0]
        slack = 0.5 / (profile.floor + variance * width**2)
        assert abs(factor / exact - 1) < 2.0**-13.9 + slack
        assert 0 <= scale.mul[0] <= 65535
        assert 0 <= scale.shift[0] <= 63

    @pytest.mark.parametrize("width", [1, 2, 3, 48, 128, 209, 1024, 1408, 4096, 6144, 8191])
    def test_profile_fits_its_fields(self, width):
        profile = rows.NormProfile.of(width, eps=1e-6, lsb=2**-9)
        assert 0x8000 <= profile.inv_mul <= 0xFFFF
        assert 0 <= profile.inv_shift <= 63
        assert abs(profile.inv_mul * 2.0**-profile.inv_shift * width / 256 - 1) <= 2.0**-16
        assert 2 ** (profile.width_log - 1) < width <= 2**profile.width_log
        # The exponent of the root is -15..13.
        assert profile.shift_base - 15 >= 0
        assert profile.shift_base + 13 <= 63
        # The largest normalised value is that of one element apart from all others.
        assert np.sqrt(width - 1) * 2**profile.fraction < 2**15

    def test_row_of_zero_variance_is_defined(self):
        profile = rows.NormProfile.of(48, eps=1e-6, lsb=2**-9)
        scale = rows.moments(np.zeros((1, 48)), profile)
        factor = float(scale.mul[0]) * 256 / 2.0 ** scale.shift[0]
        assert factor == pytest.approx(2**profile.fraction * 1000 * 2**-9, rel=2**-9)

    @given(st.lists(st.integers(0, 127), min_size=1, max_size=600))
    def test_total_divides_by_the_sum(self, values):
        scale = rows.total([values])
        exact = 256 / max(1, sum(values))
        # Eight fractional bits on top of the division.
        assert float(scale.mul[0]) / 2.0 ** scale.shift[0] == pytest.approx(exact, rel=2**-15)
        assert scale.offset[0] == 0

    def test_maximum(self):
        assert rows.maximum([[-5, -3, -9], [4, 2, 4]]).tolist() == [-3, 4]
