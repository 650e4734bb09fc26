from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_r.numeric.rsqrt import Rsqrt
from jepa_r_sim.golden.rsqrt import rsqrt

from .pipeline import feed

EDGES = [0, 1, 2, 3, 4, 5, 15, 16, 17]
EDGES += [2**n + d for n in range(5, 58) for d in (-1, 0, 1)] + [2**58 - 1]
variances = st.sampled_from(EDGES) | st.integers(0, 58).flatmap(lambda n: st.integers(0, 2**n - 1))


@given(variances)
def test_golden_model_is_the_reciprocal_root(variance):
    mantissa, half = (int(v) for v in rsqrt(np.array(variance, dtype=object)))
    assert 0x8000 <= mantissa <= 0xFFFF
    assert -15 <= half <= 13
    normal = Fraction(max(variance, 1)) / Fraction(4) ** half
    assert 2**30 <= normal < 2**32
    normal = normal.numerator // normal.denominator
    assert normal * mantissa**2 <= 2**62
    assert mantissa == 65535 or normal * (mantissa + 1) ** 2 > 2**62


def agrees(values):
    results = feed(Rsqrt(), [{"variance": v} for v in values], ["mantissa", "half"])
    mantissa, half = rsqrt(np.array(values, dtype=object))
    assert [r["mantissa"] for r in results] == mantissa.tolist()
    assert [r["half"] for r in results] == half.tolist()


def test_edges():
    agrees(EDGES)


@settings(max_examples=25, deadline=None)
@given(st.lists(variances, min_size=1, max_size=60))
def test_agrees_with_golden_model(values):
    agrees(values)
