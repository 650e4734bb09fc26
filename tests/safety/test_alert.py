import random
from itertools import pairwise

import pytest
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from jepa_r.safety.alert import AlertClass, AlertSender, AlertUnit
from jepa_r_sim.formal import mutant
from jepa_r_sim.golden import alert as golden

from .cycles import compare, play

INPUTS, ROUND = 3, 60
TURN = ROUND // INPUTS
FIELDS = ("classes", "log_cycles", "fallback_cycles")
OUTPUTS = [
    "alerts", "broken", "fallback_p", "fallback_n", "trip_p", "trip_n", "cause_alerts",
    "cause_broken", "cause_settings", "was_read", "heartbeat", "ping",
]  # fmt: skip


def classes(*names):
    return sum(AlertClass[name].value << 2 * n for n, name in enumerate(names))


def set_up(*names, log=10, fallback=20):
    values = (classes(*names), log, fallback)
    return [*({"w_en": 1 << n, "w_data": value} for n, value in enumerate(values)), {"lock": 1}]


class Bench(wiring.Component):
    """Unit and senders, with wires that can be held at 0 or 1."""

    def __init__(self, unit=AlertUnit):
        self.unit = unit(inputs=INPUTS, round_cycles=ROUND)
        inputs = ["w_en", "w_data", "lock", "acknowledge", "cause_read", "clear", "power_on"]
        super().__init__(
            {name: In(len(getattr(self.unit, name))) for name in inputs}
            | {"alert": In(INPUTS), "one_rail": In(INPUTS), "reset": In(1)}
            | {f"{wire}_{level}": In(INPUTS) for wire in "pn" for level in "01"}
            | {name: Out(INPUTS) for name in ("alerts", "broken", "ping")}
            | {f"cause_{name}": Out(INPUTS) for name in ("alerts", "broken", "settings")}
            | {name: Out(1) for name in ("was_read", "heartbeat")}
            | {f"{name}_{rail}": Out(1) for name in ("fallback", "trip") for rail in "pn"}
        )
        self._inputs = inputs

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = unit = ResetInserter(self.reset)(self.unit)
        unit = self.unit
        m.d.comb += [getattr(unit, name).eq(getattr(self, name)) for name in self._inputs]
        for name in OUTPUTS:
            if name.startswith("cause_"):
                m.d.comb += getattr(self, name).eq(unit.cause[name.removeprefix("cause_")])
            else:
                m.d.comb += getattr(self, name).eq(getattr(unit, name))
        for n in range(INPUTS):
            m.submodules[f"sender_{n}"] = sender = AlertSender()
            m.d.comb += [
                sender.ping.eq(unit.ping[n]),
                sender.alert_p.eq(self.alert[n]),
                sender.alert_n.eq(~self.alert[n] ^ self.one_rail[n]),
                unit.p[n].eq(sender.p & ~self.p_0[n] | self.p_1[n]),
                unit.n[n].eq(sender.n & ~self.n_0[n] | self.n_1[n]),
            ]
        return m


def run(cycles):
    seen = play(Bench(), cycles, OUTPUTS)
    for got in seen:
        assert got["fallback_p"] != got["fallback_n"]
        assert got["trip_p"] != got["trip_n"]
    return seen


def shows(seen, name):
    """First cycle in which an output is set, or ``None``."""
    return next((n for n, got in enumerate(seen) if got[name]), None)


QUIET = set_up("TRIP", "FALLBACK", "LOG")


def test_quiet_wires_are_no_alert_through_all_pings():
    seen = run([*QUIET, *[{}] * 3 * ROUND])
    assert not any(got["alerts"] or got["trip_p"] or got["fallback_p"] for got in seen)
    pings = [[n for n, got in enumerate(seen) if got["ping"] >> i & 1] for i in range(INPUTS)]
    for i, cycles in enumerate(pings):
        turns = [i * TURN + 1 + r * ROUND for r in range(4)]
        assert cycles == [t + k for t in turns for k in range(AlertUnit.PING) if t + k < len(seen)]
    beats = [n for n in range(1, len(seen)) if seen[n]["heartbeat"] != seen[n - 1]["heartbeat"]]
    assert beats == list(range(TURN, len(seen), TURN))


# Around the ping of the input that has the alert, and far from it.
@pytest.mark.parametrize("at", [40, *range(59, 68)])
def test_an_alert_is_heard_in_every_cycle_of_a_round(at):
    """Two cycles after the checker's, pinged or not: the sender's and the unit's register."""
    seen = run([*QUIET, *[{}] * (at - 4), *[{"alert": 1}] * 4])
    assert shows(seen, "trip_p") == shows(seen, "alerts") == at + 2
    assert seen[-1]["cause_alerts"] == 1
    assert (AlertSender.LATENCY, AlertUnit.LATENCY) == (1, 1)


def test_an_alert_of_one_cycle_is_kept():
    seen = run([*QUIET, {"alert": 1}, *[{}] * 100])
    assert all(got["trip_p"] for got in seen[6:])


@pytest.mark.parametrize("wire", ["p", "n"])
@pytest.mark.parametrize("level", "01")
@pytest.mark.parametrize("which", range(INPUTS))
def test_each_stuck_wire_is_found_within_a_round(wire, level, which):
    seen = run([*QUIET, *[{f"{wire}_{level}": 1 << which}] * (ROUND + 2)])
    found = shows(seen, "trip_p")
    assert found is not None
    assert found <= 4 + ROUND
    assert seen[found]["broken"] == seen[found]["cause_broken"] == 1 << which


def test_one_rail_alone_is_a_broken_wire_and_trips_whatever_the_class():
    seen = run([*QUIET, {"one_rail": 4}, *[{}] * 5])
    assert shows(seen, "trip_p") == 6
    assert seen[-1]["broken"] == 4


def test_the_fallback_trips_when_it_lasts():
    seen = run([*QUIET, {"alert": 2}, *[{}] * 40])
    assert shows(seen, "fallback_p") == 6
    assert shows(seen, "trip_p") == 6 + 20 + 1
    assert seen[-1]["cause_alerts"] == 2


def test_a_log_that_is_not_acknowledged_becomes_the_fallback():
    seen = run([*QUIET, {"alert": 4}, *[{}] * 40])
    assert shows(seen, "alerts") == 6
    assert shows(seen, "fallback_p") == 6 + 10 + 1
    assert shows(seen, "trip_p") == 6 + 10 + 1 + 20 + 1


@pytest.mark.parametrize(("wait", "in_time"), [(9, True), (10, False)])
def test_an_acknowledgement_stops_the_escalation(wait, in_time):
    cycles = [*QUIET, {"alert": 4}, {}, *[{}] * wait, {"acknowledge": 4}, *[{}] * 60]
    assert (shows(run(cycles), "fallback_p") is None) == in_time


def test_acknowledging_does_nothing_to_other_classes_or_before_the_alert():
    seen = run([*QUIET, {"acknowledge": 7}, {"alert": 4}, *[{}] * 20])
    assert shows(seen, "fallback_p") == 7 + 10 + 1
    seen = run([*QUIET, {"alert": 2}, *[{"acknowledge": 2}] * 30])
    assert shows(seen, "trip_p") == 6 + 20 + 1


def test_the_cause_is_that_of_the_first_cycle():
    seen = run([*QUIET, {"alert": 6}, {"alert": 1}, *[{}] * 5])
    assert (seen[-1]["cause_alerts"], seen[-1]["alerts"]) == (6, 7)


def test_what_is_only_logged_is_no_cause_and_does_not_hide_one():
    logged = [*QUIET, {"alert": 4}, {"acknowledge": 4}, {"acknowledge": 4}]
    assert run([*logged, *[{}] * 5])[-1]["cause_alerts"] == 0
    # Nor does its having been read let the cause that comes go unread.
    read = [*logged, {"cause_read": 1}, {}, {"alert": 5}, *[{}] * 5]
    assert (run(read)[-1]["cause_alerts"], run(read)[-1]["was_read"]) == (5, 0)


def test_a_log_that_waited_too_long_is_a_cause():
    seen = run([*QUIET, {"alert": 4}, *[{}] * 12])
    at = shows(seen, "fallback_p")
    assert (seen[at - 1]["cause_alerts"], seen[at]["cause_alerts"]) == (0, 4)


def test_the_cause_outlives_a_reset_and_goes_when_it_was_read():
    alert = [*QUIET, {"alert": 1}, {}, {}]
    reset = [*alert, {"reset": 1}, {}]
    got = run(reset)[-1]
    assert (got["trip_p"], got["alerts"], got["cause_alerts"]) == (0, 0, 1)
    assert run([*reset, {"clear": 1}, {}])[-1]["cause_alerts"] == 1
    assert run([*reset, {"cause_read": 1}, {"clear": 1}, {}])[-1]["cause_alerts"] == 0
    assert run([*reset, {"power_on": 1}, {}])[-1]["cause_alerts"] == 0
    # Reading before the alert is not reading it.
    early = [*QUIET, {"cause_read": 1}, {"alert": 1}, {}, {}, {"clear": 1}, {}]
    assert run(early)[-1]["cause_alerts"] == 1


def test_a_write_after_the_lock_trips_and_changes_nothing():
    seen = run([*QUIET, {"w_en": 1, "w_data": classes("LOG", "LOG", "LOG")}, *[{}] * 3])
    assert shows(seen, "trip_p") == 5
    assert seen[-1]["cause_settings"] == 1
    again = run([*QUIET, {"w_en": 1, "w_data": classes("LOG", "LOG", "LOG")}, {"alert": 1}, {}, {}])
    assert again[-1]["alerts"] == 1


def test_without_settings_every_alert_trips():
    for which in range(INPUTS):
        assert shows(run([{"alert": 1 << which}, {}, {}]), "trip_p") == 2


def session(rng):
    """Inputs from one reset to the next: settings, the lock, and then mostly nothing."""
    codes = [rng.choice([0, 1, 1, 2, 2, 2, 3]) for _ in range(INPUTS)]
    values = [sum(code << 2 * n for n, code in enumerate(codes)), rng.randrange(12)]
    for n, value in enumerate([*values, rng.randrange(25)]):
        yield {"w_en": 1 << n, "w_data": value}
    yield {"lock": 1, "w_en": rng.choice([0, 2]), "w_data": 9}
    stuck, left = {}, 0
    for _ in range(rng.randrange(20, 120)):
        given = {name: 1 for name in ("cause_read", "clear") if rng.random() < 0.06}
        chances = {
            "alert": 0.04, "one_rail": 0.003, "acknowledge": 0.08, "power_on": 0.005, "w_en": 0.003,
        }  # fmt: skip
        given |= {
            name: 1 if name == "power_on" else rng.randrange(1, 8)
            for name, chance in chances.items()
            if rng.random() < chance
        }
        if not left and rng.random() < 0.004:
            left = rng.randrange(1, 30)
            stuck = {f"{rng.choice('pn')}_{rng.choice('01')}": 1 << rng.randrange(INPUTS)}
        left = max(left - 1, 0)
        yield given | (stuck if left else {})
    # Whatever is under way from the senders, which the bench does not reset, is over in reset.
    yield from [{"reset": 1}] * 6


def rehearse(seed, *, cycles=1200):
    """Inputs of each cycle, and outputs of the golden model from the first on."""
    rng, model = random.Random(seed), golden.AlertUnit(inputs=INPUTS, round_cycles=ROUND)
    senders, given, expected = [(0, 1)] * INPUTS, [], []
    while len(given) < cycles:
        for inputs in session(rng):
            shown = model.shown()

            def each(name, inputs=inputs):
                return [inputs.get(name, 0) >> n & 1 for n in range(INPUTS)]

            wires = [
                sum(
                    (sender[which] & ~low | high) << n
                    for n, (sender, low, high) in enumerate(
                        zip(senders, each(f"{wire}_0"), each(f"{wire}_1"), strict=True)
                    )
                )
                for which, wire in enumerate("pn")
            ]
            model.step(inputs | {"p": wires[0], "n": wires[1]})
            senders = [
                golden.wires((alert, 1 - alert ^ one), shown["ping"] == 1 << n)
                for n, (alert, one) in enumerate(zip(each("alert"), each("one_rail"), strict=True))
            ]
            given.append(inputs)
            expected.append(shown)
    return given, [*expected, model.shown()]


def rehearsed(unit, seed):
    """All outputs are those of the golden model."""
    given, expected = rehearse(seed)
    compare(Bench(unit), given, OUTPUTS, expected)


@pytest.mark.parametrize("seed", range(3))
def test_every_cycle_is_as_the_golden_model_says(seed):
    rehearsed(AlertUnit, seed)


def test_the_golden_model_meets_all_that_it_knows():
    expected = [want for seed in range(3) for want in rehearse(seed)[1]]
    for name in set(OUTPUTS):
        assert len({want[name] for want in expected}) > 1, name
    begins = {
        name: sum(b[f"{name}_p"] > a[f"{name}_p"] for a, b in pairwise(expected))
        for name in ("fallback", "trip")
    }
    assert min(begins.values()) > 20


BUGS = {
    "a class that is none is as LOG": ("code == AlertClass.LOG.value for",
                                       "code >= AlertClass.LOG.value for"),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_differs_from_the_golden_model(bug):
    with pytest.raises(AssertionError, match=r"^cycle \d+\n"):
        rehearsed(mutant(AlertUnit, *BUGS[bug]), 0)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"inputs": 0, "round_cycles": 99}, "inputs is 0; it must be from 1 to 16"),
        ({"inputs": 17, "round_cycles": 999}, "inputs is 17; it must be from 1 to 16"),
        (
            {"inputs": 3, "round_cycles": 47},
            "round_cycles is 47; it must be at least 48 for 3 inputs",
        ),
    ],
)
def test_units_that_cannot_be_are_refused(sizes, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        AlertUnit(**sizes)
