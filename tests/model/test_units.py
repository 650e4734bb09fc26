"""Fixed point of actions and states."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_r_sim.model.units import LIMIT, LSB, advance, from_units, poses, split, to_units

units = st.lists(st.integers(-LIMIT, LIMIT), min_size=7, max_size=7)


def test_a_unit_is_a_sixteen_thousandth_of_a_metre_or_twice_that_of_a_radian():
    assert LSB.tolist() == [2**-14] * 3 + [2**-13] * 3 + [2**-14]
    found = to_units([0.05, -0.05, 1.0, np.pi, -np.pi, 0.1, 1.0])
    assert found.dtype == np.int16
    assert found.tolist() == [819, -819, 16384, 25736, -25736, 819, 16384]
    assert np.abs(from_units(found) - [0.05, -0.05, 1, np.pi, -np.pi, 0.1, 1]).max() < 2**-14


def test_what_is_too_far_stops_at_the_limit():
    assert to_units(np.full(7, 9.0)).tolist() == [LIMIT] * 7
    assert to_units(np.full(7, -9.0)).tolist() == [-LIMIT] * 7


@given(units)
def test_two_bytes_make_a_unit(values):
    high, low = split(np.array(values, np.int16))
    assert high.dtype == low.dtype == np.int8
    assert (256 * high.astype(int) + low).tolist() == values


def test_bytes_of_the_limits():
    high, low = split(np.array([LIMIT, -LIMIT, 128, 127, -128, -129, 0], np.int16))
    assert high.tolist() == [127, -127, 1, 0, 0, -1, 0]
    assert low.tolist() == [127, -127, -128, 127, -128, 127, 0]


@given(units, units)
def test_a_pose_advances_by_the_action(pose, action):
    found = advance(np.array(pose, np.int16), np.array(action, np.int16))
    assert found.dtype == np.int16
    for n in range(7):
        low, high = (0, 16384) if n == 6 else (-LIMIT, LIMIT)
        assert found[n] == min(max(pose[n] + action[n], low), high)


def test_a_rollout_sees_the_pose_before_each_action():
    pose = to_units([0.1, 0.2, 0.3, 0, 0, 0, 0.9])
    actions = to_units(np.full((2, 3, 7), 0.125))
    actions[1] *= -1
    states = poses(pose, actions)
    assert states.dtype == np.int16
    assert states.shape == (2, 3, 7)
    for b in range(2):
        assert np.array_equal(states[b, 0], pose)
        for step in (1, 2):
            assert np.array_equal(
                states[b, step], advance(states[b, step - 1], actions[b, step - 1])
            )
    assert states[0, 2, 6] == 16384


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(7, np.int32), "units are int32 (7,), not int16 (..., 7) features"),
        (np.zeros((2, 6), np.int16), "units are int16 (2, 6), not int16 (..., 7) features"),
        (np.full(7, LIMIT + 1, np.int16), "units reach 32640, at most 32639"),
        (np.full(7, -32768, np.int16), "units reach 32768, at most 32639"),
    ],
)
def test_what_is_not_units_is_refused(values, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        split(values)
