from math import floor

import numpy as np

from jepa_r.numeric.exp2 import Exp2
from jepa_r_sim.golden.exp2 import exp2

from .pipeline import feed


def test_golden_model_is_the_rounded_exponential():
    exact = [127 * 2 ** (-d / 16) for d in range(256)]
    result = exp2(np.arange(256))
    assert result[0] == 127
    # The table has a fraction of 8 bits, so a result is off by at most half a unit and a little.
    assert all(abs(r - e) <= 0.5 + 2**-8 for r, e in zip(result, exact, strict=True))
    assert sum(int(r) != floor(e + 0.5) for r, e in zip(result, exact, strict=True)) <= 1


def test_every_distance():
    distances = [*range(256), *range(255, -1, -3)]
    results = feed(Exp2(), [{"distance": d} for d in distances], ["result"])
    assert [r["result"] for r in results] == exp2(distances).tolist()
