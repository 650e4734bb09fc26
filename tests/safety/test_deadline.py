import random

import pytest

from jepa_r.safety.deadline import DeadlineMonitor
from jepa_r_sim.golden import deadline as golden

from .cycles import play

FIELDS = ("open", "deadline", "grace", "max_age", "first_sequence")
FIRST = 2**32 - 1


def write(**settings):
    """Cycles that write settings."""
    return [{"w_en": 1 << FIELDS.index(name), "w_data": value} for name, value in settings.items()]


SET_UP = [
    *write(open=10, deadline=20, grace=30, max_age=1000, first_sequence=FIRST),
    {"start": 1},
]


def act(number, **change):
    """Cycle of the action with this number, from 0."""
    sequence = (FIRST + number) % 2**32
    return {"action": 1, "good": 1, "age": 1000, "sequence": sequence} | change


def after(count, cycle):
    """Cycles up to one in which the count is ``count``."""
    return [{}] * count + [cycle]


def run(cycles):
    """Faults in the order in which they show: (cycles after the start's, names)."""
    outputs = ("faults", "first", "alert_p", "alert_n")
    seen = play(DeadlineMonitor(), [*SET_UP, *cycles], outputs)[len(SET_UP) :]
    shown, before = [], set()
    for n, got in enumerate(seen):
        assert (got["alert_p"], got["alert_n"]) == ((1, 0) if got["faults"] else (0, 1))
        assert got["first"] == (shown[0][1] if shown else got["faults"])
        if got["faults"] != before:
            shown.append((n, got["faults"] - before))
            before = got["faults"]
    return shown


@pytest.mark.parametrize("count", [0, 1, 19, 20, 21])
def test_the_first_action_may_come_up_to_the_deadline(count):
    shown = run(after(count, act(0)))
    assert shown == ([(21, {"late"})] if count > 20 else [])


@pytest.mark.parametrize("count", [0, 9, 10, 19, 20, 21])
def test_the_window_of_the_others_has_sharp_edges(count):
    shown = run([act(0), *after(count, act(1))])
    # Counts begin anew in the cycle after the first action.
    if count < 10:
        assert shown == [(1 + count + 1, {"early"})]
    else:
        assert shown == ([(1 + 21, {"late"})] if count > 20 else [])


def test_an_early_action_does_not_stand_in_for_the_one_that_is_due():
    assert run([act(0), *after(5, act(1)), *[{}] * 30]) == [(7, {"early"}), (22, {"late"})]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"sequence": FIRST}, "sequence"),
        ({"sequence": 1}, "sequence"),
        ({"good": 0}, "check"),
        ({"good": 0, "sequence": 5, "age": 1001}, "check"),
        ({"age": 1001}, "stale"),
    ],
)
def test_each_bad_action_is_a_fault_of_its_own(change, fault):
    assert run([act(0), *after(12, act(1, **change))]) == [(14, {fault})]
    # Nor does it stand in for the one that is due.
    assert run([act(0), *after(12, act(1, **change)), *[{}] * 10])[1:] == [(22, {"late"})]


def test_numbers_go_on_after_the_last():
    assert run([act(0), *after(12, act(1)), *after(12, act(2))]) == []


def test_two_actions_at_once_are_a_wrong_number_or_early():
    assert run([act(0), act(0)]) == [(2, {"sequence"})]
    assert run([act(0), act(1)]) == [(2, {"early"})]


@pytest.mark.parametrize("more", [0, 29, 30, 31])
def test_late_is_not_never(more):
    """The count is 0 in cycle 21, in which ``late`` shows; ``grace`` is 30."""
    shown = run([*[{}] * 21, *after(more, act(0)), *[{}] * 5])
    assert shown == [(21, {"late"}), *([(52, {"never"})] if more > 30 else [])]


def test_a_wrong_action_in_the_grace_does_not_count():
    assert run([*[{}] * 25, act(1), *[{}] * 30]) == [
        (21, {"late"}), (26, {"sequence"}), (52, {"never"}),
    ]  # fmt: skip


@pytest.mark.parametrize("cycle", [{"start": 1}, *write(deadline=500), *write(max_age=5000)])
def test_a_second_start_or_a_write_after_it_is_a_fault_and_changes_nothing(cycle):
    assert run([act(0), cycle]) == [(2, {"misuse"})]
    assert run([act(0), cycle, *[{}] * 25])[1:] == [(22, {"late"})]


def test_without_settings_it_is_late_at_once():
    seen = play(DeadlineMonitor(), [{"start": 1}, {}], ["first"])
    assert [got["first"] for got in seen] == [set(), set(), {"late"}]


@pytest.mark.parametrize("seed", range(2))
def test_every_cycle_is_as_the_golden_model_says(seed):
    rng = random.Random(seed)
    model = golden.DeadlineMonitor()
    opening = rng.randrange(6)
    settings = {
        "open": opening, "deadline": opening + rng.randrange(8), "grace": rng.randrange(9),
        "max_age": rng.randrange(50), "first_sequence": FIRST - rng.randrange(3),
    }  # fmt: skip
    cycles, expected = [], []

    def step(inputs, **arguments):
        accepted = model.step(**arguments)
        cycles.append(inputs)
        expected.append((set(model.faults), set(model.first), model.expected, accepted))

    for name, value in settings.items():
        step(*write(**{name: value}), writes={name: value})
    for n in range(500):
        elapsed = 0 if model.began is None else n + 5 - model.began
        inputs = {
            "action": rng.random() < (0.6 if opening <= elapsed else 0.01),
            "good": rng.random() < 0.995,
            "sequence": (model.expected + rng.choices([0, 1, -1], [300, 1, 1])[0]) % 2**32,
            "age": rng.randrange(settings["max_age"] + 1) + (rng.random() < 0.005) * 50,
            "start": n == 2 or rng.random() < 0.001,
        }
        step(inputs, **inputs)
    seen = play(DeadlineMonitor(width=8), cycles, ["faults", "first", "expected", "accepted"])
    for n, want in enumerate(expected):
        got = seen[n + 1]
        assert (got["faults"], got["first"], got["expected"]) == want[:3], n
        assert seen[n]["accepted"] == want[3], n


@pytest.mark.parametrize("width", [1, 33])
def test_times_that_cannot_be_are_refused(width):
    with pytest.raises(ValueError, match=rf"^width is {width}; it must be from 2 to 32$"):
        DeadlineMonitor(width=width)
