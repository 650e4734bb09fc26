"""The golden planner against brute force in fractions, and against the float planner."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from jepa_r_sim.golden import planner
from jepa_r_sim.golden.planner import FINE, LIMIT, LSB, PLANNED, PlannerError, Settings
from jepa_r_sim.model import planner as floating

POSE = np.array([3000, -2000, 12000, 100, -200, 300, 8000], np.int16)
GOAL = np.array([900, -700, 300, 0, 0, 0, 9000])


def reach(actions, states):
    """Cost: distance of where the last action leads from a place."""
    end = states[:, -1].astype(np.int64) + actions[:, -1]
    return np.abs(end - POSE - GOAL).sum(1)


def half_up(value):
    return floor(value + Fraction(1, 2))


def whole_root(value):
    """Largest whole number whose square is not above a fraction, bit by bit."""
    root = 0
    for bit in reversed(range(40)):
        if (root + (1 << bit)) ** 2 <= value:
            root += 1 << bit
    return root


def test_defaults_are_the_published_settings():
    assert Settings() == Settings.of()
    assert Settings.of(move=0.05).clip == (819, 819, 819, 12288)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("samples", 65536, "samples is 65536; it must be a whole number from 0 to 65535"),
        ("warm", 2, "warm is 2; it must be a whole number from 0 to 1"),
        ("elites", -1, "elites is -1; it must be a whole number from 0 to 255"),
        ("seed", 1.5, "seed is 1.5; it must be a whole number from 0 to 4294967295"),
        ("clip", (1, 2, 3, 65536), "clip is 65536; it must be"),
        ("clip", (1, 2), "clip has 2 values; it must have 4: x, y, z and gripper"),
    ],
)
def test_what_no_register_holds_is_refused(name, value, message):
    with pytest.raises(ValueError, match=message):
        Settings(**{name: value})


@pytest.mark.parametrize(
    ("fault", "wrong", "message"),
    [
        ("SAMPLES", {"samples": 0}, "samples is 0; it must be 1 or more"),
        ("ELITES", {"elites": 0}, "elites is 0; it must be from 1 to 16, and at most samples, 800"),
        ("ELITES", {"elites": 17}, "elites is 17; it must be"),
        ("ELITES", {"elites": 9, "samples": 8}, "elites is 9; .* at most samples, 8"),
        ("ITERATIONS", {"iterations": 0}, "iterations is 0; it must be 1 or more"),
        ("HORIZON", {"horizon": 0}, "horizon is 0; it must be from 1 to 3"),
        ("HORIZON", {"horizon": 4}, "horizon is 4; it must be from 1 to 3"),
        ("MOMENTUM", {"momentum_mean": 32769}, "momenta are 32769 and 4915; they must be 32768"),
        ("MOMENTUM", {"momentum_deviation": 32769}, "momenta are 4915 and 32769; they must"),
        ("CLIP", {"clip": (1, 1, 32640, 1)}, "clip is .* it must be 32639 or less"),
        ("STEPS", {"horizon": 2}, "horizon is 2; it must be the steps of the loaded program"),
    ],
)
def test_what_no_plan_can_use_is_a_named_fault(fault, wrong, message):
    chosen = Settings(**wrong)
    sizes = {"elites": 16, "steps": 3, "program_steps": 1}
    assert chosen.fault(**sizes) == fault
    with pytest.raises(PlannerError, match=message) as error:
        planner.plan(chosen, POSE, reach, **sizes)
    assert error.value.fault == fault


def test_faults_of_several_settings_are_told_in_order():
    every = {"samples": 0, "elites": 0, "iterations": 0, "horizon": 0, "momentum_mean": 40000}
    repair = {"samples": 8, "elites": 2, "iterations": 1, "horizon": 2, "momentum_mean": 0}
    clip = {"clip": (LIMIT + 1,) * 4}
    for name in every:
        assert Settings(**every, **clip).fault(program_steps=1) == name.partition("_")[0].upper()
        every[name] = repair[name]
    assert Settings(**every, **clip).fault(program_steps=1) == "CLIP"
    assert Settings(**every).fault(program_steps=1) == "STEPS"
    assert Settings(**every).fault(program_steps=2) == "NONE"


actions = st.integers(1, 12).flatmap(
    lambda count: st.lists(
        st.sampled_from([-LIMIT, LIMIT, 0, 1]) | st.integers(-LIMIT, LIMIT),
        min_size=count,
        max_size=count,
    )
)


@examples(max_examples=200, deadline=None)
@given(
    actions,
    st.integers(-LIMIT << FINE, LIMIT << FINE),
    st.integers(0, (1 << 24) - 1),
    st.integers(0, 32768),
    st.integers(0, 32768),
)
def test_refit_by_fractions(elites, mu, sd, mean_weight, deviation_weight):
    chosen = Settings(momentum_mean=mean_weight, momentum_deviation=deviation_weight)
    got = planner.refit(chosen, np.array(elites)[:, None, None], [[mu]], [[sd]])
    count = len(elites)
    mean = Fraction(sum(elites), count)
    deviation = 0
    if count > 1:
        variance = sum((value - mean) ** 2 for value in elites) / (count - 1)
        deviation = whole_root(floor(variance * 4**FINE))
    weights = Fraction(mean_weight, 32768), Fraction(deviation_weight, 32768)
    assert got[0] == half_up((1 - weights[0]) * half_up(mean * 2**FINE) + weights[0] * mu)
    assert got[1] == half_up((1 - weights[1]) * deviation + weights[1] * sd)
    assert abs(got[0]) <= LIMIT << FINE
    assert 0 <= got[1] < 1 << 24


@pytest.mark.parametrize("horizon", [1, 2, 3])
def test_candidates_one_by_one(horizon):
    rng = np.random.default_rng(horizon)
    chosen = Settings(horizon=horizon, seed=99, plan=5, clip=(LIMIT, 500, 70, 12288))
    mu = rng.integers(-LIMIT << FINE, LIMIT << FINE, (horizon, 4))
    sd = rng.integers(0, 1 << 24, (horizon, 4)) >> rng.integers(0, 24, (horizon, 4))
    indices = [0, 1, 7, 65535]
    drawn = planner.candidates(chosen, mu, sd, 3, indices)
    for row, index in enumerate(indices):
        for step in range(horizon):
            words = [
                int(word)
                for half in range(2)
                for word in planner.threefry((99, 5), (3 << 16 | index, step << 1 | half))
            ]
            for dim, word in enumerate(words):
                value = Fraction(int(mu[step, dim])) + Fraction(
                    int(sd[step, dim]) * int(planner.gaussian(word)), 4096
                )
                limit = chosen.clip[dim]
                right = max(-limit, min(limit, half_up(value / 2**FINE)))
                assert drawn[row, step, PLANNED[dim]] == right
    assert not drawn[..., 3:6].any()


def test_states_saturate_and_the_gripper_stays_in_its_way():
    pose = [32767, -32768, 5, 6, 7, 8, 16000]
    steps = [[100, -100, 1, 0, 0, 0, 500], [-5, 5, 1, 0, 0, 0, -20000], [0] * 7]
    states = planner.trajectory(pose, np.array([steps], np.int16))[0].tolist()
    assert states == [
        [32639, -32639, 5, 6, 7, 8, 16000],
        [32639, -32639, 6, 6, 7, 8, 16384],
        [32634, -32634, 7, 6, 7, 8, 0],
    ]


def test_elites_are_the_best_by_cost_then_index():
    chosen = Settings(samples=50, elites=9, iterations=3)
    rng = np.random.default_rng(1)
    result = planner.plan(chosen, POSE, lambda actions, states: rng.integers(0, 6, len(actions)))
    for cost, best, best_cost in zip(result.costs, result.elites, result.elite_costs, strict=True):
        ranked = sorted((int(value), index) for index, value in enumerate(cost))[:9]
        assert ranked == list(zip(best_cost.tolist(), best.tolist(), strict=True))


@pytest.mark.parametrize("batch", [1, 3, 4, 64])
def test_batches_do_not_change_the_plan(batch):
    chosen = Settings(samples=64, elites=5, iterations=4, horizon=2)
    whole, parts = (planner.plan(chosen, POSE, reach, batch=b) for b in (None, batch))
    assert (whole.means == parts.means).all()
    assert (whole.costs == parts.costs).all()


def test_a_warm_plan_begins_a_step_later():
    chosen = Settings(samples=20, elites=4, iterations=1, horizon=3, warm=1, momentum_mean=32768)
    previous = np.arange(12).reshape(3, 4) * 1000
    result = planner.plan(chosen, POSE, reach, previous=previous)
    assert (result.mu == previous[[1, 2, 2]]).all()
    for other in (previous[:2], None):
        assert not planner.plan(chosen, POSE, reach, previous=other).mu.any()
    cold = Settings(samples=20, elites=4, iterations=1, horizon=3, momentum_mean=32768)
    assert not planner.plan(cold, POSE, reach, previous=previous).mu.any()


@pytest.mark.parametrize(
    ("gripper", "answer"), [(4095, 0), (-4095, 0), (4096, 4096), (-5000, -5000)]
)
def test_small_gripper_moves_are_none(gripper, answer):
    mu = [[(300 << FINE) + 127, (300 << FINE) + 128, -128, (gripper << FINE) - 128]]
    assert planner.answer(Settings(), mu).tolist() == [300, 301, 0, 0, 0, 0, answer]


@pytest.mark.parametrize("horizon", [1, 3])
def test_agrees_with_the_float_planner(horizon):
    """The same numbers and the same elites: means and deviations within the units' rounding."""
    chosen = Settings(samples=100, elites=10, iterations=6, horizon=horizon, seed=4)
    result = planner.plan(chosen, POSE, reach)
    costs = iter(result.costs)

    def normals(iteration, samples, horizon):
        return planner.normals(chosen, iteration, range(samples)) / 4096

    like = floating.FloatSettings(samples=100, elites=10, iterations=6, horizon=horizon)
    right = floating.plan(like, POSE * LSB, lambda actions, states: next(costs), normals)
    assert (right.elites == result.elites).all()
    # Each candidate is rounded to a unit, the first deviation and the clip by a fifth of one.
    fine = LSB / 2**FINE
    assert np.abs(result.means * fine - right.means).max() < 1.5 * LSB
    assert np.abs(result.deviations * fine - right.deviations).max() < 1.5 * LSB
    turned = [3, 4, 5]
    assert np.abs(result.action * LSB - right.action).max() < 2 * LSB
    assert not result.action[turned].any()


def test_both_planners_reach_the_goal():
    goal = np.array([0.02, -0.03, 0.01, 0, 0, 0, 0.5])

    def far(actions, states):
        return np.abs(states[:, -1] + actions[:, -1] - POSE * LSB - goal).sum(1)

    def integer(actions, states):
        return far(actions * LSB, states * LSB) * 2**20

    found = planner.plan(Settings(), POSE, integer).action * LSB
    assert np.abs(found - goal).max() < 0.02
    found = floating.plan(
        floating.FloatSettings(), POSE * LSB, far, floating.random_normals(3)
    ).action
    assert np.abs(found - goal).max() < 0.02
