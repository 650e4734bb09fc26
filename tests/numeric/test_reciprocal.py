from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_r.numeric.reciprocal import Reciprocal
from jepa_r_sim.golden.reciprocal import reciprocal

from .pipeline import feed

EDGES = [0, 1, 2, 3, 2**23 - 1, 2**23, 2**23 + 1, 2**24 - 1, 127, 65535, 65536, 65537]
totals = (
    st.sampled_from(EDGES)
    | st.integers(0, 24).flatmap(lambda n: st.integers(0, 2**n - 1))
    | st.integers(0, 23).map(lambda n: 1 << n)
)


@given(totals)
def test_golden_model_is_the_reciprocal(total):
    mantissa, lead = (int(v) for v in reciprocal(total))
    assert 0x8000 <= mantissa <= 0xFFFF
    assert 0 <= lead <= 23
    exact = Fraction(2 ** (39 - lead), max(total, 1))
    # One unit too small at most, and two where 65536 did not fit.
    assert 0 <= exact - mantissa <= 1


@settings(max_examples=30, deadline=None)
@given(st.lists(totals, min_size=1, max_size=60))
def test_agrees_with_golden_model(values):
    results = feed(Reciprocal(), [{"total": v} for v in values], ["mantissa", "lead"])
    mantissa, lead = reciprocal(values)
    assert [r["mantissa"] for r in results] == mantissa.tolist()
    assert [r["lead"] for r in results] == lead.tolist()


def test_edges():
    results = feed(Reciprocal(), [{"total": v} for v in EDGES], ["mantissa", "lead"])
    mantissa, lead = reciprocal(EDGES)
    assert [r["mantissa"] for r in results] == mantissa.tolist()
    assert [r["lead"] for r in results] == lead.tolist()
