import random

import pytest

from jepa_r.safety.trip import REARM_KEYS, TripMachine, TripState
from jepa_r_sim.drivers.stream import simulate
from jepa_r_sim.formal import mutant
from jepa_r_sim.golden import trip as golden

from .cycles import bits, compare

TIMES = {
    "test_period": 40, "test_cycles": 5, "follow": 3, "discrepancy": 6, "rearm_min": 4,
    "rearm_max": 9, "heartbeat": 20,
}  # fmt: skip
FIRST, SECOND = REARM_KEYS
OUTPUTS = ["energise_a", "energise_b", "drive_a", "drive_b", "live", "sources", "cause", "rearmed"]


def run(cycles, stuck=None):
    """Outputs in each cycle, and those after the last. Drives read back one cycle later.

    Each cycle changes some inputs for itself alone; without, all is well. ``stuck`` has read-backs
    that do not follow, with their level.
    """
    dut = TripMachine(sources=2, **TIMES)
    seen = []

    async def testbench(ctx):
        names = {"alert_p", "alert_n", "stop_a", "stop_b", "heartbeat"}.union(*cycles)
        for n, cycle in enumerate(cycles):
            well = {"alert_n": 0b11, "stop_a": 1, "heartbeat": n // 10 % 2}
            for x in "ab":
                level = seen[-1][f"drive_{x}"] if seen else 0
                ctx.set(getattr(dut, f"feedback_{x}"), (stuck or {}).get(x, level))
            for name in names:
                ctx.set(getattr(dut, name), (well | cycle).get(name, 0))
            seen.append(sample(ctx))
            await ctx.tick()
        seen.append(sample(ctx))

    def sample(ctx):
        got = {name: ctx.get(getattr(dut, name)) for name in OUTPUTS}
        return got | {"cause": bits(got["cause"])}

    simulate(dut, testbench, max_cycles=len(cycles) + 10)
    return seen


def rearm(wait=TIMES["rearm_min"], read=True, keys=REARM_KEYS):
    """Cycles of a re-arm; the second key comes ``wait`` cycles after the first."""
    first, second = ({"rearm": 1, "key": key} for key in keys)
    return [{"cause_read": read}, first, *[{}] * (wait - 1), second]


def is_on(got):
    assert got["energise_a"] == got["energise_b"]
    return bool(got["energise_a"])


def test_it_comes_up_safe_and_stays_there():
    seen = run([{}] * 60)
    assert not any(is_on(got) or got["drive_a"] or got["drive_b"] for got in seen)
    assert {TripState.SAFE.value} == {TripMachine(sources=1, **TIMES).state.init}


@pytest.mark.parametrize("wait", [1, 3, 4, 9, 10])
def test_the_second_key_has_a_window(wait):
    seen = run([*rearm(wait), {}, {}])
    assert is_on(seen[-1]) == (4 <= wait <= 9)
    assert any(got["rearmed"] for got in seen) == (4 <= wait <= 9)


def test_energy_is_there_two_cycles_after_the_second_key():
    seen = run([*rearm(), {}, {}])
    at = len(rearm())
    assert [is_on(got) for got in seen[at : at + 3]] == [False, True, True]
    assert [got["live"] for got in seen[at : at + 3]] == [1, 1, 1]


@pytest.mark.parametrize(
    "cycles",
    [
        rearm(read=False),
        rearm(keys=(FIRST ^ 1, SECOND)),
        rearm(keys=(FIRST, SECOND ^ 1)),
        rearm(keys=(SECOND, FIRST)),
        rearm(keys=(FIRST, FIRST)),
        rearm()[:-1],
        [rearm()[0], *rearm()[2:]],
        # A wrong key costs the reading of the cause.
        [*rearm(keys=(FIRST, SECOND ^ 1)), *rearm(read=False)],
        [{"cause_read": 1}, {"rearm": 1, "key": 0}, *rearm(read=False)],
        # Something is wrong in between.
        [*rearm()[:3], {"alert_p": 1}, *rearm()[3:]],
        [{"stop_a": 0}, *[cycle | {"stop_a": 0, "stop_b": 1} for cycle in rearm()]],
    ],
)
def test_nothing_but_the_whole_sequence_re_arms(cycles):
    assert not any(is_on(got) for got in run([*cycles, {}, {}, {}]))


@pytest.mark.parametrize(
    ("change", "sources", "cause"),
    [
        ({"alert_p": 1}, 1, set()),
        ({"alert_p": 2}, 2, set()),
        ({"alert_n": 1}, 2, set()),
        ({"alert_n": 0}, 3, set()),
        ({"alert_p": 2, "alert_n": 1}, 2, set()),
        ({"stop_a": 0}, 0, {"stop"}),
        ({"stop_b": 1}, 0, {"stop"}),
        ({"stop_a": 0, "stop_b": 1}, 0, {"stop"}),
        ({"stop_a": 0, "alert_p": 1}, 1, {"stop"}),
    ],
)
def test_it_trips_in_the_next_cycle_and_says_why(change, sources, cause):
    before = [*rearm(), *[{}] * 6]
    seen = run([*before, change, *[{}] * 30])
    at = len(before)
    assert is_on(seen[at])
    for got in seen[at + TripMachine.LATENCY :]:
        assert not any(got[name] for name in OUTPUTS[:5])
        assert (got["sources"], got["cause"]) == (sources, cause)


def test_the_cause_is_that_of_the_first_cycle_and_goes_with_the_next_re_arm():
    trip = [*rearm(), {}, {}, {"alert_p": 1}, {"alert_p": 2}, {"stop_a": 0}, {}]
    assert run(trip)[-1]["sources"] == 1
    seen = run([*trip, *rearm(), {}, {}])
    assert is_on(seen[-1])
    assert (seen[-1]["sources"], seen[-1]["cause"]) == (0, set())
    assert not is_on(run([*trip, *rearm(read=False), {}, {}])[-1])


@pytest.mark.parametrize("cycles", [6, 7])
@pytest.mark.parametrize("level", [0, 1])
def test_contacts_that_disagree_for_long_must_be_seen_pressed(cycles, level):
    disagree = [{"stop_a": level, "stop_b": level}] * cycles
    seen = run([*disagree, {}, *rearm(), {}, {}])
    assert is_on(seen[-1]) == (cycles == 6)
    pressed = {"stop_a": 0, "stop_b": 1}
    assert is_on(run([*disagree, {}, pressed, {}, *rearm(), {}, {}])[-1])


def test_the_heartbeat_has_a_bound():
    """It changes last in cycle 20 or so; 20 cycles without an edge are allowed."""
    before = [*rearm(), *[{}] * 20]
    last = len(before) // 10 * 10
    still = [{"heartbeat": last // 10 % 2}] * 40
    seen = run([*before, *still])
    assert [is_on(got) for got in seen].index(False, last) == last + 20 + 2
    assert seen[-1]["cause"] == {"heartbeat"}


def test_drives_are_tested_one_at_a_time():
    seen = run([*rearm(), *[{}] * 100])
    on = seen[len(rearm()) + 1 :]
    assert all(is_on(got) for got in on)
    low = {x: [n for n, got in enumerate(on) if not got[f"drive_{x}"]] for x in "ab"}
    assert low["a"] == [*range(15, 20), *range(55, 60), *range(95, 100)][: len(low["a"])]
    assert low["b"] == [*range(35, 40), *range(75, 80)]
    assert len(low["a"]) > 10


@pytest.mark.parametrize("which", ["a", "b"])
def test_a_drive_that_ignores_its_test_trips(which):
    # Both read back high: one is stuck there, which shows at its first test.
    before = len(rearm()) + 1
    dut_cycles = [*rearm(), *[{}] * 60]
    seen = run(dut_cycles, stuck={which: 0})
    assert not is_on(seen[-1])
    assert seen[-1]["cause"] == {f"feedback_{which}"}
    off = [is_on(got) for got in seen].index(False, before)
    # It is on from `before`; the read-back is wrong for `follow` cycles, and one more is too long.
    assert off == before + TIMES["follow"] + 1


@pytest.mark.parametrize("which", ["a", "b"])
def test_a_drive_that_is_stuck_on_cannot_be_re_armed(which):
    seen = run([*[{}] * 5, *rearm(), *[{}] * 20], stuck={which: 1})
    assert not any(is_on(got) for got in seen)


def test_states_are_far_apart():
    codes = [state.value for state in TripState]
    for n, code in enumerate(codes):
        assert all((code ^ other).bit_count() >= 5 for other in codes[:n])
        assert 5 <= code.bit_count() <= 10 - 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": 0}, "sources is 0; it must be at least 1"),
        ({"heartbeat": 0}, "heartbeat is 0; it must be at least 1"),
        (
            {"follow": 5},
            "test_cycles is 5; it must be more than follow, which is 5: a drive that ignores its "
            "test would not be found",
        ),
        (
            {"test_period": 19},
            r"test_period is 19; it must be at least 4 \* test_cycles, which is 20",
        ),
        ({"rearm_max": 3}, "rearm_max is 3; it must be at least 4"),
    ],
)
def test_times_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        TripMachine(**({"sources": 2} | TIMES | change))


class Operator:
    """Inputs that mostly lead to a re-arm and keep the machine live, and now and then do not."""

    def __init__(self, rng, calm):
        self.rng, self.beat, self.quiet = rng, 0, 0
        self.stop, self.left, self.stuck = (1, 0), 0, {}
        # The contacts disagree for a cycle too many, and are not pressed for a while then.
        self.calm = calm
        if calm:
            self.stop, self.left = (0, 0), TIMES["discrepancy"] + 1
        self.fault = 0
        self.patience = 0

    def cycle(self, model):
        rng = self.rng
        # An edge after some cycles, seldom after one too many.
        self.quiet += 1
        if self.quiet > TIMES["heartbeat"] + (rng.random() < 0.1):
            self.beat, self.quiet = 1 - self.beat, 0
        self.calm = max(self.calm - 1, 0)
        if (
            not self.left
            and not self.calm
            and rng.random() < (0.004 if model.state == "LIVE" else 0.03)
        ):
            self.stop = rng.choice([(0, 0), (1, 1), (0, 1)])
            self.left = rng.choice([1, 6, 7, 8])
        if self.left:
            self.left -= 1
        else:
            equal = self.stop[0] == self.stop[1]
            self.stop = rng.choice([(0, 1), (1, 0)]) if equal and not self.calm else (1, 0)
        if not self.fault and rng.random() < 0.02:
            self.fault = rng.randrange(3, 9)
            self.stuck = {rng.choice("ab"): rng.randrange(2)}
        self.fault = max(self.fault - 1, 0)
        told = model.shown()
        given = {
            "alert_n": 0b11, "heartbeat": self.beat, "stop_a": self.stop[0],
            "stop_b": self.stop[1], "cause_read": rng.random() < 0.2,
            **{
                f"feedback_{x}": self.stuck.get(x) if self.fault and x in self.stuck
                else told[f"drive_{x}"] for x in "ab"
            },
        }  # fmt: skip
        if rng.random() < 0.004:
            given |= rng.choice([{"alert_p": 1}, {"alert_n": 1}, {"alert_p": 2, "alert_n": 1}])
        # The second key comes around the edges of its time, or after anything at all.
        if model.state == "SAFE":
            least, most = TIMES["rearm_min"], TIMES["rearm_max"]
            self.patience = rng.choice([least - 1, least, most, most + 1, rng.randrange(20)])
        self.patience -= model.state == "REQUESTED"
        if {"SAFE": rng.random() < 0.15, "REQUESTED": not self.patience}.get(
            model.state, rng.random() < 0.02
        ):
            right = SECOND if model.state == "REQUESTED" else FIRST
            given |= {"rearm": 1, "key": rng.choice([*[right] * 8, FIRST, SECOND, right ^ 4])}
        return given


def rehearse(seed, *, calm=0, cycles=1500):
    """Inputs of each cycle, and outputs of the golden model from the first on."""
    rng, model = random.Random(seed), golden.TripMachine(sources=2, times=TIMES)
    operator, given, expected = Operator(rng, calm), [], [model.shown()]
    for _ in range(cycles):
        given.append(operator.cycle(model))
        model.step(given[-1])
        expected.append(model.shown())
    return given, expected


def rehearsed(cls, seed, *, calm=0):
    """All outputs are those of the golden model."""
    given, expected = rehearse(seed, calm=calm)
    compare(cls(sources=2, **TIMES), given, OUTPUTS, expected)


@pytest.mark.parametrize("seed", range(3))
def test_every_cycle_is_as_the_golden_model_says(seed):
    rehearsed(TripMachine, seed)


def test_the_golden_model_meets_all_that_it_knows():
    expected = [want for seed in range(3) for want in rehearse(seed)[1]]
    causes = set().union(*(want["cause"] for want in expected))
    # A state that is none takes a flipped bit. Contacts that disagree for long have tripped before.
    assert causes == {"stop", "feedback_a", "feedback_b", "heartbeat"}
    assert any(want["sources"] for want in expected)
    assert sum(want["rearmed"] for want in expected) > 10
    assert sum(want["live"] for want in expected) > 500
    for x in "ab":
        assert any(want["energise_a"] and not want[f"drive_{x}"] for want in expected)


BUGS = {
    "a discrepancy that is forgotten": ("m.d.sync += self.discrepant.eq(1)",
                                        "m.d.sync += self.discrepant.eq(0)"),
    "contacts that may agree a cycle longer": ("(equal & (self.equal == most))", "0"),
    "the first key without the cause": ("(self.key == first) & self.was_read & good",
                                        "(self.key == first) & good"),
    "a cause that stays read": ("m.d.sync += self.was_read.eq(0)\n                    with",
                                "m.d.sync += self.was_read.eq(self.was_read)\n"
                                "                    with"),
    "a second key a cycle early": ("self.times[\"rearm_min\"] - 1) &",
                                   "self.times[\"rearm_min\"] - 2) &"),
    "a second key a cycle late": ("(self.waited < self.times[\"rearm_max\"])",
                                  "(self.waited <= self.times[\"rearm_max\"])"),
    "an edge that comes in the last cycle and does not count": (
        "(self.silent == most) & (self.heartbeat == self.beat)", "self.silent == most",
    ),
    "a drive that may follow a cycle late": ("differs & (count == most)",
                                             "differs & (count == most - 1)"),
    "a cause of what came later": ("with m.If(tripped):",
                                   "with m.If(tripped | ~good & self.was_read):"),
    "only one drive is tested": ("\"b\": self.position >= period - cycles", "\"b\": C(0)"),
    "a test a cycle long": ("(self.position >= half - cycles)", "(self.position >= half - 1)"),
    "the cause goes with the first key": ("m.d.sync += self.state.eq(TripState.REQUESTED)",
                                          "m.d.sync += [self.state.eq(TripState.REQUESTED), "
                                          "self.sources.eq(0)]"),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_differs_from_the_golden_model(bug):
    broken = mutant(TripMachine, *BUGS[bug])
    # What a discrepancy leads to shows only in a re-arm before the stop is pressed.
    contacts = "contacts" in bug or "discrepancy" in bug
    with pytest.raises(AssertionError, match=r"^cycle \d+\n"):
        rehearsed(broken, 2 if contacts else 0, calm=150 if contacts else 0)
