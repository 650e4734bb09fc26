from fractions import Fraction
from math import floor

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jepa_r.numeric.rounding import RoundShift
from jepa_r_sim.golden.rounding import round_shift, saturate, wrap32

from .pipeline import feed


def reference(value, shift, bits):
    """The definition, in exact fractions."""
    rounded = floor(Fraction(value, 2**shift) + Fraction(1, 2))
    return min(max(rounded, -(2 ** (bits - 1))), 2 ** (bits - 1) - 1)


class TestGolden:
    @given(value=st.integers(-(2**61), 2**61 - 1), shift=st.integers(0, 63))
    @example(value=0, shift=63)
    @example(value=2**61 - 1, shift=62)
    def test_rounds_half_up(self, value, shift):
        assert round_shift(value, shift) == floor(Fraction(value, 2**shift) + Fraction(1, 2))

    @pytest.mark.parametrize(("value", "expected"), [(1, 1), (3, 2), (-1, 0), (-3, -1), (-5, -2)])
    def test_ties_go_up(self, value, expected):
        assert round_shift(value, 1) == expected

    @pytest.mark.parametrize(
        ("value", "expected"), [(127, 127), (128, 127), (-128, -128), (-129, -128)]
    )
    def test_saturates(self, value, expected):
        assert saturate(value, 8) == expected

    @given(value=st.integers(-(2**40), 2**40))
    def test_wraps(self, value):
        assert wrap32(value) == (value + 2**31) % 2**32 - 2**31


class TestParameters:
    def test_shift_must_have_bits(self):
        with pytest.raises(ValueError, match=r"^shift_width 0 is not 1 or more$"):
            RoundShift(width=8, shift_width=0, out_width=4)

    def test_result_is_no_wider_than_the_value(self):
        with pytest.raises(ValueError, match=r"^out_width 9 is not in 2\.\.8, the value's width$"):
            RoundShift(width=8, shift_width=3, out_width=9)

    def test_narrow_range_is_narrower(self):
        with pytest.raises(ValueError, match=r"^narrow_width 4 is not in 2\.\.3$"):
            RoundShift(width=8, shift_width=3, out_width=4, narrow_width=4)


def cases(width, shift_width, bits):
    """Values of all sizes, and the neighbourhoods of ties and of the ends of the range."""
    shifts = st.integers(0, 2**shift_width - 1)
    lowest, highest = -(2 ** (width - 1)), 2 ** (width - 1) - 1

    def near(shift):
        edge = st.sampled_from([2 ** (bits - 1), -(2 ** (bits - 1)), 0])
        halves = st.builds(
            lambda at, offset, last: (((2 * (at + offset) + 1) << shift) >> 1) + last,
            edge, st.integers(-3, 3), st.integers(-1, 1),
        )  # fmt: skip
        sizes = st.integers(0, width - 1).flatmap(lambda n: st.integers(-(2**n), 2**n - 1))
        return st.tuples(
            (halves | sizes).map(lambda v: min(max(v, lowest), highest)), st.just(shift)
        )

    return shifts.flatmap(near)


@pytest.mark.parametrize(
    ("width", "shift_width", "out_width"),
    [(50, 6, 16), (33, 6, 16), (46, 6, 32), (30, 4, 17), (9, 3, 9)],
)
def test_agrees_with_the_definition(width, shift_width, out_width):
    dut = RoundShift(width=width, shift_width=shift_width, out_width=out_width)

    @settings(max_examples=12, deadline=None)
    @given(st.lists(cases(width, shift_width, out_width), min_size=1, max_size=60))
    def check(steps):
        results = feed(dut, [{"value": v, "shift": s} for v, s in steps], ["result"])
        assert [r["result"] for r in results] == [reference(v, s, out_width) for v, s in steps]

    check()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(cases(33, 6, 16) | cases(33, 6, 8), st.booleans()), min_size=1, max_size=60)
)
def test_range_is_chosen_by_the_value(steps):
    dut = RoundShift(width=33, shift_width=6, out_width=16, narrow_width=8)
    results = feed(
        dut,
        [{"value": v, "shift": s, "narrow": n} for (v, s), n in steps],
        ["result"],
        late={"narrow": dut.narrow_stage},
    )
    expected = [reference(v, s, 8 if n else 16) for (v, s), n in steps]
    assert [r["result"] for r in results] == expected
