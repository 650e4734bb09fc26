"""Channel A goes where its diagram says; from a word that is no state it trips, and never runs."""

import pytest
from amaranth import *
from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Assume, Cover

from jepa_r.safety.state import REQUESTS, StateMachine
from jepa_r_sim.formal import ProofError, mutant, prove
from jepa_r_sim.golden.state import STATES

from .specs import Spec, first_is_fast, past

#: Numbers of the states in the model.
NUMBERS = {name: number for number, name in enumerate(STATES)}


def was_good(m):
    """Whether there was a cycle before, without a reset."""
    return past(m, ~ResetSignal())


class StateSpec(Spec):
    """The diagram as numbers, and what shows as a function of number and time."""

    def specify(self, m, dut):
        ask = {name: dut.request[n] for n, name in enumerate(REQUESTS)}
        at, held, periods, unconfirmed = Signal(range(7)), Signal(range(128)), Signal(32), Signal()
        state = {name: at == number for name, number in NUMBERS.items()}
        hold = state["RESET"] | (state["SELFTEST"] & (held <= dut.HOLD))
        may = {
            "locked": state["SELFTEST"] & ~hold & dut.settings_locked & dut.comparator_good,
            "run": state["LOCKED"] & dut.estop_released & ~dut.fallback,
            "fallback": state["RUN"] | state["FALLBACK"],
            "stop": state["LOCKED"] | state["RUN"] | state["FALLBACK"],
            "trip": ~state["RESET"],
            "restart": state["STOP"],
        }
        edges = [
            (dut.trip | (may["trip"] & ask["trip"]), "TRIP"),
            (may["stop"] & ask["stop"], "STOP"),
            (state["RESET"] & dut.load_failed, "TRIP"),
            (state["RESET"] & dut.loaded, "SELFTEST"),
            (may["locked"] & ask["locked"], "LOCKED"),
            (may["run"] & ask["run"], "RUN"),
            (state["RUN"] & (dut.fallback | ask["fallback"]), "FALLBACK"),
            (state["FALLBACK"] & dut.period & (periods == dut.limit), "STOP"),
            (may["restart"] & ask["restart"], "SELFTEST"),
            (state["TRIP"] & dut.rearm, "SELFTEST"),
        ]
        goes = Signal.like(at)
        m.d.comb += goes.eq(at)
        for condition, name in reversed(edges):
            with m.If(condition):
                m.d.comb += goes.eq(NUMBERS[name])
        m.d.sync += [at.eq(goes), periods.eq(0), held.eq(0), unconfirmed.eq(0)]
        falls = goes == NUMBERS["FALLBACK"]
        with m.If(goes == NUMBERS["SELFTEST"]):
            m.d.sync += held.eq(Mux(held > dut.HOLD, held, held + 1))
        with m.If(falls & state["FALLBACK"]):
            m.d.sync += periods.eq(periods + dut.period)
        m.d.sync += unconfirmed.eq(
            falls & (state["RUN"] | (unconfirmed & ~(state["FALLBACK"] & ask["fallback"])))
        )
        self.at = state

        enabled = state["RUN"] | state["FALLBACK"]
        m.d.comb += [
            Assert((dut.state == word) == state[name], f"{name} exactly when it is due")
            for name, word in STATES.items()
        ]
        m.d.comb += [
            Assert(dut.allowed[n] == may[name], f"{name} is allowed exactly when it may be")
            for n, name in enumerate(REQUESTS)
        ]
        m.d.comb += [
            Assert(dut.enable_p == enabled, "the enable's first rail"),
            Assert(dut.enable_n == ~enabled, "the enable's second rail"),
            Assert(dut.hold == hold, "a session begins with a reset of its length"),
            Assert(dut.interrupt == unconfirmed, "the interrupt until it is confirmed"),
            Assert(dut.open == (state["RUN"] & ~past(m, state["RUN"])), "open begins RUN"),
            Assert(dut.selftest == state["SELFTEST"], "SELFTEST shows"),
            Assert(dut.running == state["RUN"], "RUN shows"),
            Assert(at < len(STATES), "link: number"),
            Assert(dut.periods == periods, "link: periods"),
            Assert(dut.held + (held > dut.HOLD) == held, "link: held"),
            Assert(held <= dut.HOLD + 1, "link: most"),
            Assert(~state["SELFTEST"] | (held > 0), "link: the first cycle of SELFTEST"),
            Assert(state["SELFTEST"] | (held == 0), "link: no other state is held"),
            Assert(state["FALLBACK"] | (periods == 0), "link: only FALLBACK counts"),
        ]


class Bounded(StateSpec):
    """With a limit that is frozen, FALLBACK sees no more periods than that."""

    def specify(self, m, dut):
        super().specify(m, dut)
        m.d.comb += [
            Assume(dut.limit == AnyConst(32)),
            Assert(
                (dut.state != STATES["FALLBACK"]) | (dut.periods <= dut.limit),
                "FALLBACK ends by itself",
            ),
        ]


class AnyWord(Spec):
    """Whatever is in the registers: what is no state is TRIP a cycle later, and nothing is open.

    And of words that are states only the right one leads on, whatever the other registers hold.
    """

    def specify(self, m, dut):
        none = Cat(dut.state != word for word in STATES.values()).all()
        was, going = past(m, none), was_good(m)
        before = {name: past(m, dut.state == word) for name, word in STATES.items()}
        now = {name: dut.state == word for name, word in STATES.items()}
        shut = ~dut.enable_p & dut.enable_n & ~dut.open & ~dut.running
        trips = past(m, dut.trip | (dut.request[REQUESTS.index("trip")] & ~before_reset(dut)))
        asked = past(m, dut.request[REQUESTS.index("run")] & dut.estop_released & ~dut.fallback)
        energy = now["RUN"] | now["FALLBACK"]
        m.d.comb += [
            Assert(~was | now["TRIP"], "no state leads to TRIP"),
            Assert(~was | shut, "no state opens nothing"),
            Assert(~was | ~dut.hold & ~dut.interrupt, "no state begins nothing"),
            Assert(~now["RUN"] | before["RUN"] | (before["LOCKED"] & asked), "LOCKED leads to RUN"),
            Assert(~now["FALLBACK"] | before["RUN"] | before["FALLBACK"], "RUN leads to FALLBACK"),
            Assert(~going | ~trips | now["TRIP"], "a trip goes before everything else"),
            Assert(~going | (dut.enable_p == energy), "the enable's first rail is the state's"),
            Assert(~going | (dut.enable_n == ~energy), "the enable's second rail is the state's"),
            Assert(~going | Cat(now.values()).any(), "it is a state again"),
        ]


def before_reset(dut):
    """Whether it is RESET, where the firmware does not run and is not heard."""
    return dut.state == STATES["RESET"]


class SinceWrong(Spec):
    """From the cycle of a word that is no state until the re-arm: TRIP, for as long as that takes.

    By induction alone: no such word can be reached, and induction begins with any.
    """

    def specify(self, m, dut):
        none = Cat(dut.state != word for word in STATES.values()).all()
        wrong, tripped = Signal(), Signal()
        m.d.comb += tripped.eq(dut.state == STATES["TRIP"])
        with m.If(none):
            m.d.sync += wrong.eq(1)
        with m.Elif(tripped & dut.rearm):
            m.d.sync += wrong.eq(0)
        shut = ~dut.enable_p & dut.enable_n & ~dut.open & ~dut.running
        m.d.comb += [
            Assert(~wrong | tripped, "it stays in TRIP until the re-arm"),
            Assert(~wrong | shut, "it stays shut until the re-arm"),
        ]


class Hasty(StateMachine):
    """One that holds its session in reset for three cycles."""

    HOLD = 3


class StateCovers(Bounded):
    """Things that do happen."""

    def specify(self, m, dut):
        super().specify(m, dut)
        tripped = Signal()
        with m.If(self.at["TRIP"]):
            m.d.sync += tripped.eq(1)
        m.d.comb += [
            Assume(~ResetSignal()),
            Cover(dut.open & ~tripped, "it runs"),
            Cover(dut.open & tripped, "it runs after a trip"),
            Cover(self.at["FALLBACK"] & (dut.periods == 2) & (dut.limit == 2), "the last period"),
            Cover(past(m, self.at["FALLBACK"]) & self.at["STOP"] & ~past(m, dut.request.any()),
                  "FALLBACK ends by itself"),
            Cover(self.at["FALLBACK"] & ~dut.interrupt, "FALLBACK is confirmed"),
        ]  # fmt: skip


def test_it_goes_where_its_diagram_says(tmp_path):
    prove(StateSpec(StateMachine()), depth=1, workdir=tmp_path)


def test_fallback_ends_by_itself(tmp_path):
    prove(Bounded(StateMachine()), depth=1, workdir=tmp_path)


def test_every_word_that_is_no_state_is_a_trip_a_cycle_later(tmp_path):
    prove(AnyWord(StateMachine()), depth=2, workdir=tmp_path, mode="settle")


def test_a_word_that_is_no_state_never_leads_to_run_without_the_rearm(tmp_path):
    prove(SinceWrong(StateMachine()), depth=1, workdir=tmp_path)


@pytest.mark.slow
def test_it_runs_and_trips_and_runs_again(tmp_path):
    prove(StateCovers(Hasty()), depth=20, workdir=tmp_path, mode="cover")


BUGS = [
    (AnyWord, "m.Default():\n                m.d.comb += following.eq(State.TRIP)",
     "m.Default():\n                m.d.comb += following.eq(self.state)", "no state leads"),
    (AnyWord, "m.Default():\n                m.d.comb += following.eq(State.TRIP)",
     "m.Default():\n                m.d.comb += following.eq(State.RUN)", "no state leads"),
    (AnyWord, "with m.Case(State.RUN):", 'with m.Case("0000111100001---"):', "no state leads"),
    (AnyWord, "m.d.comb += opens.eq(Cat(whole == state for state in _OPEN).any())",
     "m.d.comb += opens.eq(self.state == State.RUN)", "rail"),
    (AnyWord, "with m.If(self.trip | asked", "with m.If(asked", "before everything"),
    (AnyWord, "run.eq(self.estop_released & ~self.fallback)", "run.eq(~self.fallback)",
     "LOCKED leads"),
    (SinceWrong, "m.Default():\n                m.d.comb += following.eq(State.TRIP)",
     "m.Default():\n                m.d.comb += following.eq(State.LOCKED)", "stays"),
    (SinceWrong, "following.eq(Mux(self.rearm, State.SELFTEST, State.TRIP))",
     "following.eq(Mux(self.rearm | self.loaded, State.SELFTEST, State.TRIP))", "stays in TRIP"),
    (StateSpec, "self.comparator_good & ~self.hold)", "self.comparator_good)", "locked|LOCKED"),
    (StateSpec, "self.settings_locked & self.comparator_good", "self.comparator_good",
     "locked|LOCKED"),
    (StateSpec, "with m.Elif(asked", "with m.If(asked", "TRIP|STOP"),
    (StateSpec, "self.interrupt & ~asked", "self.interrupt | ~asked", "interrupt"),
    (StateSpec, "self.enable_n.eq(~opens)", "self.enable_n.eq(~self.running)", "second rail"),
    (StateSpec, "held != self.HOLD))", "held != self.HOLD - 1))", "its length"),
    (StateSpec, "Mux(whole != State.SELFTEST, 0,", "Mux(self.hold & ~self.selftest, 0,", "held"),
    (StateSpec, "with m.If(self.load_failed):", "with m.If(self.load_failed & ~self.loaded):",
     "TRIP"),
    (StateSpec, "trip.eq(self.state != RESET)", "trip.eq(1)", "trip is allowed"),
    (StateSpec, "(whole == State.RUN) & ~self.running", "whole == State.RUN", "open begins"),
    (Bounded, "self.period & (periods == self.limit)", "self.period & (periods > self.limit)",
     "by itself"),
    (Bounded, "with m.If(whole != State.FALLBACK):", "with m.If(~self.period):", "periods"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "old", "new", "found"), first_is_fast(BUGS))
def test_planted_bugs_are_found(tmp_path, spec, old, new, found):
    mode = {"depth": 2, "mode": "settle"} if spec is AnyWord else {"depth": 1}
    with pytest.raises(ProofError, match=found):
        prove(spec(mutant(StateMachine, old, new)()), workdir=tmp_path, **mode)
