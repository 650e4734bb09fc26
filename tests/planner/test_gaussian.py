from math import erfc, exp, lgamma, log, sqrt
from statistics import NormalDist

import numpy as np
import pytest

from jepa_r_sim.golden.gaussian import FRACTION, MAX_ERROR, exact, gaussian, table
from jepa_r_sim.golden.threefry import threefry

NORMAL = NormalDist()
UNIT = 2**FRACTION


def test_inverse_is_the_inverse():
    for tail in (0.5, 0.4, 0.1, 1e-3, 1e-6, 2.0**-33):
        assert erfc(exact(tail) / sqrt(2)) / 2 == pytest.approx(tail, rel=1e-12)


def words_of_every_octave(each):
    """Words near both ends of each part of each octave, and at random between."""
    rng = np.random.default_rng(5)
    edges = [
        (1 << octave) + (part << octave >> 5) + offset
        for octave in range(31)
        for part in range(33)
        for offset in range(-2, 3)
    ]
    inside = [rng.integers(1 << octave, 2 << octave, each) for octave in range(31)]
    words = np.concatenate([np.array(edges), *inside, np.arange(4096), 2**31 - 1 - np.arange(4096)])
    return words[(words >= 0) & (words < 2**31)]


def test_error_is_what_is_stated():
    words = words_of_every_octave(3000)
    right = np.array([-NORMAL.inv_cdf((2 * int(word) + 1) / 2**33) for word in words]) * UNIT
    error = np.abs(gaussian(words) - right)
    assert MAX_ERROR / 2 < error.max() <= MAX_ERROR


def test_top_bit_is_the_sign():
    words = words_of_every_octave(100)
    assert (gaussian(words | 1 << 31) == -gaussian(words)).all()


def test_ends():
    assert gaussian([0, 1 << 31, 0x7FFFFFFF, 0xFFFFFFFF]).tolist() == [25960, -25960, 0, 0]
    assert exact(2.0**-33) == pytest.approx(25960 / UNIT, abs=MAX_ERROR / UNIT)


def test_table_fits_its_registers():
    start, fall = table()
    assert 0 <= start.min() <= start.max() < 2**19
    assert 0 < fall.min() <= fall.max() < 2**11
    # The line of the part next to 1/2 does not pass zero by as much as rounds.
    assert start[0, -1] - fall[0, -1] >= -8


def survival(statistic, freedom):
    """Probability of a larger chi-square, by the series of the incomplete gamma function."""
    a, x = freedom / 2, statistic / 2
    term = total = 1 / a
    for n in range(1, 10000):
        term *= x / (a + n)
        total += term
    return 1 - total * exp(-x + a * log(x) - lgamma(a))


def test_survival():
    # From tables of the distribution.
    assert survival(18.307, 10) == pytest.approx(0.05, abs=1e-4)
    assert survival(124.342, 100) == pytest.approx(0.05, abs=1e-4)


@pytest.fixture(scope="module")
def draws():
    """Two million numbers, as the planner draws them: 16 bits of candidate, few steps."""
    candidate, step = np.arange(1 << 16)[:, None], np.arange(16)
    return gaussian(np.stack(threefry((2026, 7), (candidate, step)), -1)).reshape(-1)


def test_distribution(draws):
    """256 bins of equal probability, whose borders fall between the numbers that can be."""
    bins = 256
    borders = np.array([NORMAL.inv_cdf(n / bins) for n in range(1, bins)])
    borders = np.floor(borders * UNIT) + 0.5
    below = np.array([0, *(NORMAL.cdf(border / UNIT) for border in borders), 1])
    counted = np.bincount(np.searchsorted(borders, draws), minlength=bins)
    expected = np.diff(below) * len(draws)
    statistic = ((counted - expected) ** 2 / expected).sum()
    probability = survival(statistic, bins - 1)
    assert 0.001 < probability < 0.999


def test_moments(draws):
    z = draws / UNIT
    # Standard errors of the moments of so many numbers: of z**n, root of E z**2n - (E z**n)**2.
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < 3.5 * sqrt(variance / len(z)), power


def test_words_of_a_draw_are_independent(draws):
    first, second = draws[::2] / UNIT, draws[1::2] / UNIT
    for one, other in ((first, second), (first[:-1], first[1:]), (second[:-1], first[1:])):
        assert abs((one * other).mean()) < 4 / sqrt(len(one))
        assert abs((one**2 * other**2).mean() - 1) < 4 * sqrt(8 / len(one))
