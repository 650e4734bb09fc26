"""The watchdog is held until it runs, dry or for good; then it is the watchdog and nothing else."""

import random

import pytest

from jepa_r.safety.map import DRY_DEADLINE, DRY_OPEN
from jepa_r.safety.watchdog_port import WatchdogPort
from jepa_r_sim.formal import mutant
from jepa_r_sim.golden import watchdog as golden

from .cycles import play

OUTPUTS = [
    "challenge", "is_open", "dry", "served", "early", "late", "wrong", "alert_p", "alert_n",
]  # fmt: skip
RESULTS = ("served", "early", "late", "wrong")
SEED = golden.Watchdog().seed
GOOD = golden.token(SEED, 0)

#: Cycles from the order to run to the first one of the window: hold, two settings, start.
BEGIN = 4
WINDOW = {"open": 10, "deadline": 20}


def run(cycles, cls=WatchdogPort):
    """Outputs in each cycle; the window of a run for good is always there."""
    return play(cls(), [WINDOW | cycle for cycle in cycles], OUTPUTS)


def quiet(got):
    return (got["alert_p"], got["alert_n"]) == (0, 1)


def at(cycle, **given):
    """Idle cycles, and then one with these inputs."""
    return [*[{}] * cycle, given]


def ended(seen):
    """How the dry run ended, and in which cycle ``dry`` is low again."""
    begun = next(n for n, got in enumerate(seen) if got["dry"])
    end = next((n for n in range(begun, len(seen)) if not seen[n]["dry"]), None)
    if end is None:
        return None, None
    # The result is there in the last cycle of the run, and it stays.
    assert [seen[end - 1][name] for name in RESULTS] == [seen[-1][name] for name in RESULTS]
    return {name for name in RESULTS if seen[end][name]}, end


@pytest.mark.parametrize(
    ("count", "result"),
    [
        (0, "early"), (DRY_OPEN - 1, "early"), (DRY_OPEN, "served"), (DRY_DEADLINE, "served"),
        (DRY_DEADLINE + 1, "late"),
    ],
)  # fmt: skip
def test_a_dry_run_has_the_window_of_the_map(count, result):
    kick = {"kick": 1, "token": GOOD}
    seen = run([{"test": 1}, *at(BEGIN - 1 + count, **kick), *[{}] * 12])
    found, end = ended(seen)
    assert found == {result}
    # Known soon, and without an alert.
    assert end <= BEGIN + min(count, DRY_DEADLINE + 1) + 4
    assert all(map(quiet, seen))
    assert seen[-1]["challenge"] == SEED


def test_a_dry_run_without_a_token_ends_late():
    found, end = ended(run([{"test": 1}, *[{}] * (DRY_DEADLINE + 20)]))
    assert (found, end) == ({"late"}, BEGIN + DRY_DEADLINE + 3)


@pytest.mark.parametrize("bit", [0, 13, 31])
def test_a_dry_run_finds_a_wrong_token(bit):
    cycles = [{"test": 1}, *at(BEGIN + DRY_OPEN, kick=1, token=GOOD ^ 1 << bit), *[{}] * 8]
    assert ended(run(cycles))[0] == {"wrong"}


def test_the_window_is_shown_to_be_open():
    seen = run([{"test": 1}, *[{}] * (DRY_DEADLINE + 20)])
    shown = [n for n, got in enumerate(seen) if got["is_open"]]
    assert BEGIN + DRY_OPEN <= shown[0] <= BEGIN + DRY_OPEN + 2
    assert shown == list(range(shown[0], shown[-1] + 1))
    # What is shown to be open takes a token.
    cycles = [{"test": 1}, *at(shown[0] - 1, kick=1, token=GOOD), *[{}] * 8]
    assert ended(run(cycles))[0] == {"served"}


def test_each_dry_run_begins_anew():
    one = [{"test": 1}, *at(BEGIN + 3, kick=1, token=GOOD), *[{}] * 8]
    two = [{"test": 1}, *at(BEGIN + DRY_OPEN + 3, kick=1, token=GOOD), *[{}] * 8]
    seen = run([*one, *two])
    assert {name for name in RESULTS if seen[len(one) - 1][name]} == {"early"}
    assert ended(seen[len(one) :])[0] == {"served"}


def test_a_second_test_and_tokens_outside_of_a_run_are_nothing():
    """A test that comes while one goes on neither ends it nor makes it longer."""
    again = [{"test": 1}, *at(20, test=1), *[{}] * (DRY_DEADLINE + 20)]
    assert ended(run(again)) == ({"late"}, BEGIN + DRY_DEADLINE + 3)
    seen = run([*[{"kick": 1, "token": GOOD}] * 4, *[{}] * 30])
    assert all(quiet(got) and not got["dry"] for got in seen)


def test_begin_ends_a_dry_run_and_tests_are_over():
    seen = run([{"test": 1}, *at(10, begin=1), *at(6, test=1), *[{}] * 40])
    assert not any(got["dry"] for got in seen[13:])
    assert quiet(seen[12])
    # For good: nobody serves it.
    assert not quiet(seen[-1])


def test_only_restart_ends_a_run_for_good():
    seen = run([{"begin": 1}, *at(3, begin=1), *[{}] * 30, {"restart": 1}, *[{}] * 40])
    assert not quiet(seen[34])
    assert all(map(quiet, seen[36:]))
    assert seen[-1]["challenge"] == SEED


class Kicker:
    """Tokens of a run for good, in the golden model's time: good ones mostly."""

    def __init__(self, rng):
        self.rng, self.model = rng, golden.Watchdog()
        self.model.step(writes=WINDOW | {"path": 0}, start=True)

    def cycle(self):
        rng, model = self.rng, self.model
        age = model.now - model.began
        due = golden.token(model.challenge, 0)
        value = rng.choices([due, model.last, due ^ 1 << rng.randrange(32)], [40, 1, 1])[0]
        chance = 0.3 if age >= WINDOW["open"] else 0.004
        given = {"kick": rng.random() < chance or age == WINDOW["deadline"], "token": value}
        model.step(**given)
        return given


def compare(cls, seed, *, runs=6):
    """Runs for good, one after the other, are as the golden model says; how each ended."""
    rng, cycles, expected, ends = random.Random(seed), [], {}, []
    for _ in range(runs):
        cycles += [{"begin": 1}, *[{}] * (BEGIN - 1)]
        kicker = Kicker(rng)
        for _ in range(150):
            cycles.append(kicker.cycle())
            expected[len(cycles)] = (kicker.model.challenge, bool(kicker.model.faults))
        ends.append(frozenset(kicker.model.first))
        cycles += [{"restart": 1}, {}, {}]
    seen = run(cycles, cls)
    for n, (challenge, alert) in expected.items():
        assert (seen[n]["challenge"], quiet(seen[n])) == (challenge, not alert), f"cycle {n}"
        assert seen[n]["alert_p"] != seen[n]["alert_n"], f"cycle {n}"
    return ends


@pytest.mark.parametrize("seed", range(2))
def test_a_run_for_good_is_as_the_golden_model_says(seed):
    ends = compare(WatchdogPort, seed)
    assert frozenset() in ends
    assert len(set(ends)) > 1


BUGS = {
    "the window of dry runs stays": ("first.eq(Mux(dry, DRY_OPEN, self.open))",
                                     "first.eq(DRY_OPEN)"),
    "an alert that does not leave": ("(live & watchdog.alert_p)", "(dry & watchdog.alert_p)"),
    "restart leaves the watchdog": ("with m.If(self.restart):\n            m.d.sync += [\n"
                                    "                held.eq(1),",
                                    "with m.If(self.restart):\n            m.d.sync += [\n"
                                    "                held.eq(0),"),
    "another token": ("watchdog.token.eq(self.token)", "watchdog.token.eq(self.token | 1)"),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_differs_from_the_golden_model(bug):
    with pytest.raises(AssertionError, match=r"^cycle \d+\n"):
        compare(mutant(WatchdogPort, *BUGS[bug]), 0)
