import random

import pytest

from jepa_r.safety.limiter import Limiter
from jepa_r_sim.golden import limiter as golden

from .cycles import play

NAN = -(2**31)


def set_up(limits, steps, max_age):
    writes = [*limits, *steps, max_age]
    return [*({"w_en": 1 << n, "w_data": value} for n, value in enumerate(writes)), {"lock": 1}]


def run(samples, *, limits, steps, max_age=100):
    """What is released after each sample, and the faults that it leaves; samples are apart."""
    before = set_up(limits, steps, max_age)
    cycles = []
    for sample in samples:
        cycles += [{"i_valid": 1, "age": 0} | sample, {}, {}, {}]
    outputs = ["released", "o_valid", "faults", "alert_p", "alert_n"]
    seen = play(Limiter(joints=len(limits)), [*before, *cycles], outputs)[len(before) :]
    assert [n for n, got in enumerate(seen) if got["o_valid"]] == list(
        range(Limiter.LATENCY, len(cycles), 4)
    )
    for got in seen:
        assert (got["alert_p"], got["alert_n"]) == ((1, 0) if got["faults"] else (0, 1))
    return [(list(got["released"]), got["faults"]) for got in seen[4::4]]


@pytest.mark.parametrize(
    ("torque", "released", "faults"),
    [
        (1000, 1000, set()), (-1000, -1000, set()),
        (1001, 1000, {"range"}), (-1001, -1000, {"range"}),
        (2**31 - 1, 1000, {"range"}), (NAN + 1, -1000, {"range"}), (NAN, 0, {"invalid"}),
    ],
)  # fmt: skip
def test_ranges_have_sharp_edges(torque, released, faults):
    assert run([{"torque": [torque]}], limits=[1000], steps=[5000]) == [([released], faults)]


@pytest.mark.parametrize(("change", "faults"), [(10, set()), (11, {"slew"})])
@pytest.mark.parametrize("sign", [1, -1])
def test_steps_have_sharp_edges(change, faults, sign):
    first, second = {"torque": [5 * sign]}, {"torque": [(5 + change) * sign]}
    assert run([first, second], limits=[1000], steps=[10])[1] == ([15 * sign], faults)


@pytest.mark.parametrize(("age", "released", "faults"), [(100, 5, set()), (101, 0, {"stale"})])
def test_ages_have_sharp_edges(age, released, faults):
    assert run([{"torque": [5], "age": age}], limits=[9], steps=[9]) == [([released], faults)]


def test_a_stop_goes_to_zero_in_steps():
    samples = [{"torque": [25, -7], "stop": n > 0} for n in range(5)]
    got = run(samples, limits=[1000, 1000], steps=[25, 3])
    assert [released for released, _faults in got] == [[25, -3], [0, 0], [0, 0], [0, 0], [0, 0]]


def test_the_largest_settings_do_not_overflow():
    big = 2**31 - 1
    samples = [{"torque": [big]}, {"torque": [-big]}, {"torque": [big]}]
    got = run(samples, limits=[big], steps=[big])
    assert got == [([big], set()), ([0], {"slew"}), ([big], {"slew"})]


def test_nothing_is_taken_before_the_lock():
    cycles = [*set_up([9], [9], 100)[:-1], {"i_valid": 1, "torque": [5]}, {}, {}, {}]
    assert {got["o_valid"] for got in play(Limiter(joints=1), cycles, ["o_valid"])} == {0}


def test_a_write_after_the_lock_is_a_fault_and_changes_nothing():
    cycles = [*set_up([9], [9], 100), {"w_en": 1, "w_data": 99}, {"i_valid": 1, "torque": [50]}, {}]
    got = play(Limiter(joints=1), cycles, ["faults", "released"])[-1]
    assert (got["faults"], list(got["released"])) == ({"misuse", "range"}, [9])


@pytest.mark.parametrize("seed", range(2))
def test_seven_joints_are_as_the_golden_model_says(seed):
    rng = random.Random(seed)
    joints = 7
    limits = [rng.choice([0, 1, 50, 2 ** rng.randrange(32) - 1]) for _ in range(joints)]
    steps = [rng.choice([0, 7, 2**31 - 1, 2 ** rng.randrange(32) - 1]) for _ in range(joints)]
    model = golden.Limiter(limits=limits, steps=steps, max_age=100)

    def torque(limit):
        edge = rng.choice([-limit, 0, limit]) + rng.randrange(-2, 3)
        return rng.choice([edge, rng.randrange(-(2**31), 2**31), NAN])

    samples, expected, faults = [], [], set()
    for _ in range(80):
        sample = {
            "torque": [max(NAN, min(2**31 - 1, torque(limit))) for limit in limits],
            "age": rng.choices([0, 100, 101], [5, 5, 1])[0],
            "stop": rng.random() < 0.05,
        }
        samples.append(sample)
        faults |= model.step(sample["torque"], age=sample["age"], stop=sample["stop"])
        expected.append((list(model.released), set(faults)))
    assert run(samples, limits=limits, steps=steps) == expected


def test_samples_may_come_every_cycle():
    before = set_up([100], [10], 100)
    cycles = [{"i_valid": 1, "torque": [50]} for _ in range(7)]
    seen = play(Limiter(joints=1), [*before, *cycles], ["released"])[len(before) :]
    assert [got["released"][0] for got in seen] == [0, 0, 10, 20, 30, 40, 50, 50]


@pytest.mark.parametrize("joints", [0, 16])
def test_arms_that_cannot_be_are_refused(joints):
    with pytest.raises(ValueError, match=rf"^joints is {joints}; it must be from 1 to 15$"):
        Limiter(joints=joints)
