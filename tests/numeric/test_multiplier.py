import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_r.numeric.multiplier import PipelinedMultiplier

from .pipeline import feed


def factors(width):
    edge = 2 ** (width - 1)
    return st.sampled_from([-edge, -edge + 1, -1, 0, 1, edge - 1]) | st.integers(-edge, edge - 1)


@pytest.mark.parametrize(
    ("a_width", "b_width", "latency"),
    [
        (33, 17, 3),
        (16, 16, 3),
        (29, 29, 5),
        (44, 14, 3),
        (29, 17, 3),
        (9, 9, 1),
        (2, 2, 1),
        (5, 10, 3),
        (8, 25, 4),
    ],
)
def test_product_is_exact_and_on_time(a_width, b_width, latency):
    dut = PipelinedMultiplier(a_width=a_width, b_width=b_width)
    assert dut.latency == PipelinedMultiplier.latency_of(b_width) == latency

    @settings(max_examples=12, deadline=None)
    @given(st.lists(st.tuples(factors(a_width), factors(b_width)), min_size=1, max_size=50))
    def check(pairs):
        results = feed(dut, [{"a": a, "b": b} for a, b in pairs], ["product"])
        assert [r["product"] for r in results] == [a * b for a, b in pairs]

    check()


@pytest.mark.parametrize(("name", "widths"), [("a_width", (1, 8)), ("b_width", (8, 1))])
def test_factors_have_a_sign(name, widths):
    with pytest.raises(ValueError, match=rf"^{name} 1 is not 2 or more$"):
        PipelinedMultiplier(a_width=widths[0], b_width=widths[1])
