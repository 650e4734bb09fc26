"""The trip machine is safe in the next cycle after anything, and leaves by the re-arm alone."""

import pytest
from amaranth import *
from amaranth.hdl import Assert, Assume, Cover

from jepa_r.safety.trip import REARM_KEYS, TripMachine, TripState
from jepa_r_sim.formal import ProofError, mutant, prove

from .specs import Spec, first_is_fast, past

#: At 32 MHz: a test of 100 us every 10 ms, half a second for the contacts, keys 0.1 to 3 s apart.
REAL = {
    "test_period": 320_000, "test_cycles": 3_200, "follow": 640, "discrepancy": 16_000_000,
    "rearm_min": 3_200_000, "rearm_max": 96_000_000, "heartbeat": 320_000,
}  # fmt: skip
SHORT = {
    "test_period": 8, "test_cycles": 2, "follow": 1, "discrepancy": 2, "rearm_min": 2,
    "rearm_max": 3, "heartbeat": 4,
}  # fmt: skip


def lasts(m, condition, cycles):
    """Whether a condition holds and did so in the ``cycles`` cycles before; and how long it did."""
    count = Signal(range(cycles + 1))
    with m.If(~condition):
        m.d.sync += count.eq(0)
    with m.Elif(count != cycles):
        m.d.sync += count.eq(count + 1)
    return condition & (count == cycles), count


class TripSpec(Spec):
    """What is wrong, from the inputs; and the way back as steps that were done."""

    def specify(self, m, dut):
        times = dut.times
        rails = Cat(dut.stop_a, dut.stop_b)
        apart, equal = lasts(m, (rails == 0) | (rails == 3), times["discrepancy"])
        discrepant = Signal()
        with m.If(rails == 0b10):
            m.d.sync += discrepant.eq(0)
        with m.Elif(apart):
            m.d.sync += discrepant.eq(1)
        wrong_a, differs_a = lasts(m, dut.feedback_a != dut.drive_a, times["follow"])
        wrong_b, differs_b = lasts(m, dut.feedback_b != dut.drive_b, times["follow"])
        beat = past(m, dut.heartbeat)
        silence, silent = lasts(m, dut.heartbeat == beat, times["heartbeat"])
        sources = Signal(len(dut.sources))
        m.d.comb += sources.eq(dut.alert_p | ~dut.alert_n)
        causes = {
            "stop": rails != 0b01,
            "discrepancy": apart | discrepant,
            "feedback_a": wrong_a,
            "feedback_b": wrong_b,
            "heartbeat": silence,
            "state": 0,
        }
        wrong = Signal()
        m.d.comb += wrong.eq(sources.any() | Cat(causes.values()).any())

        # Steps done: none, cause read, first key, second key.
        steps, since = Signal(2), Signal(range(times["rearm_max"] + 2))
        first, second = (dut.rearm & (dut.key == key) for key in REARM_KEYS)
        with m.If((steps == 3) & wrong):
            m.d.sync += steps.eq(0)
        with m.Elif(steps == 0):
            m.d.sync += steps.eq(dut.cause_read & ~dut.rearm)
        with m.Elif((steps == 1) & dut.rearm):
            m.d.sync += [steps.eq(Mux(first & ~wrong, 2, 0)), since.eq(1)]
        with m.Elif(steps == 2):
            m.d.sync += since.eq(since + 1)
            early = since < times["rearm_min"]
            with m.If(wrong | (dut.rearm & (~second | early)) | (since > times["rearm_max"])):
                m.d.sync += steps.eq(0)
            with m.Elif(dut.rearm):
                m.d.sync += steps.eq(3)
        self.steps, self.wrong = steps, wrong

        on = past(m, (steps == 3) & ~wrong)
        was_reset = past(m, ResetSignal())
        kept_sources, kept = Signal(len(sources)), {}
        with m.If((steps == 3) & wrong):
            m.d.sync += kept_sources.eq(sources)
        with m.Elif((steps == 2) & second & ~wrong & ~early & (since <= times["rearm_max"])):
            m.d.sync += kept_sources.eq(0)
        for name, now in causes.items():
            kept[name] = Signal(name=f"kept_{name}")
            with m.If((steps == 3) & wrong):
                m.d.sync += kept[name].eq(now)
            with m.Elif((steps == 2) & second & ~wrong & ~early & (since <= times["rearm_max"])):
                m.d.sync += kept[name].eq(0)
            m.d.comb += Assert(dut.cause[name] == kept[name], f"cause {name}")
        outputs = Cat(dut.energise_a, dut.energise_b, dut.drive_a, dut.drive_b)
        m.d.comb += [
            Assert(
                ~past(m, wrong) | (outputs == 0), "wrong means all outputs low in the next cycle"
            ),
            Assert(~past(m, wrong) | ~dut.live | was_reset, "and another state than LIVE"),
            Assert(on | (outputs == 0), "without the sequence all outputs are low"),
            Assert((dut.energise_a == on) & (dut.energise_b == on), "energy after the sequence"),
            Assert(~on | dut.drive_a | dut.drive_b, "never both drives tested at once"),
            Assert(dut.sources == kept_sources, "cause: sources"),
            Assert(dut.live == (steps == 3), "live after the sequence"),
            Assert(~dut.rearmed | (past(m, steps) == 2), "rearmed after the second key"),
        ]
        # Tests come as they should: each drive is low for the whole of its test, and only then.
        place = Signal(range(times["test_period"]))
        with m.If((steps != 3) | wrong | (place == times["test_period"] - 1)):
            m.d.sync += place.eq(0)
        with m.Else():
            m.d.sync += place.eq(place + 1)
        for drive, end in (
            (dut.drive_a, times["test_period"] // 2),
            (dut.drive_b, times["test_period"]),
        ):
            before = past(m, place)
            tested = (before >= end - times["test_cycles"]) & (before < end)
            m.d.comb += Assert(drive == (on & ~tested), f"{drive.name} is low for its test")

        state = TripState
        m.d.comb += [
            Assert((dut.state == state.SAFE.value) == (steps < 2), "link: SAFE"),
            Assert((dut.state == state.REQUESTED.value) == (steps == 2), "link: REQUESTED"),
            Assert((dut.state == state.LIVE.value) == (steps == 3), "link: LIVE"),
            Assert((steps > 1) | (dut.was_read == (steps == 1)), "link: read"),
            Assert((steps < 2) | ~dut.was_read, "link: not read"),
            Assert((steps != 2) | (dut.waited + 1 == since), "link: waited"),
            Assert((steps != 2) | ((since > 0) & (since <= times["rearm_max"] + 1)), "link: since"),
            Assert((dut.equal == equal) & (dut.discrepant == discrepant), "link: contacts"),
            Assert(dut.differs["a"] == differs_a, "link: differs a"),
            Assert(dut.differs["b"] == differs_b, "link: differs b"),
            Assert((dut.silent == silent) & (dut.beat == beat), "link: heartbeat"),
            Assert(dut.position == place, "link: test"),
            Assert(place < times["test_period"], "link: period"),
            Assert((equal <= times["discrepancy"]) & (silent <= times["heartbeat"]), "link: most"),
            Assert((differs_a <= times["follow"]) & (differs_b <= times["follow"]), "link: follow"),
        ]


class AnyState(Spec):
    """Whatever is in the registers: what is no state is SAFE a cycle later, outputs low."""

    def specify(self, m, dut):
        none = Cat(dut.state != state.value for state in TripState).all()
        was = past(m, none)
        outputs = Cat(dut.energise_a, dut.energise_b, dut.drive_a, dut.drive_b)
        m.d.comb += [
            Assert(~was | (dut.state == TripState.SAFE.value), "no state leads to SAFE"),
            Assert(~was | (outputs == 0), "no state has no energy"),
            Assert(~was | dut.cause.state | past(m, ResetSignal()), "no state is a cause"),
            Assert(~was | ~dut.was_read, "the cause must be read again"),
        ]


class TripCovers(TripSpec):
    """It goes live, trips and goes live again."""

    def specify(self, m, dut):
        super().specify(m, dut)
        trips = Signal(2)
        with m.If(past(m, dut.live) & ~dut.live & ~past(m, ResetSignal()) & (trips != 3)):
            m.d.sync += trips.eq(trips + 1)
        m.d.comb += [
            Assume(~ResetSignal()),
            Cover(dut.energise_a & (trips == 0) & ~dut.drive_b, "on, through the test of a"),
            Cover(dut.energise_a & (trips == 1), "on again"),
            Cover((trips == 1) & (dut.sources == 2), "tripped by a source"),
        ]
        m.d.comb += [
            Cover((trips == 1) & dut.cause[name], f"tripped by {name}")
            for name in ("stop", "discrepancy", "feedback_a", "feedback_b", "heartbeat")
            if name != "discrepancy"
        ]


def test_any_fault_is_safe_in_a_cycle_and_only_the_sequence_leads_back(tmp_path):
    prove(TripSpec(TripMachine(sources=4, **REAL)), depth=1, workdir=tmp_path)


def test_every_encoding_that_is_no_state_is_safe_a_cycle_later(tmp_path):
    prove(AnyState(TripMachine(sources=4, **REAL)), depth=2, workdir=tmp_path, mode="settle")


@pytest.mark.slow
def test_it_goes_live_and_trips_and_goes_live_again(tmp_path):
    spec = TripCovers(TripMachine(sources=2, **SHORT))
    prove(spec, depth=18, workdir=tmp_path, mode="cover")


BUGS = [
    (TripSpec, "self.alert_p | ~self.alert_n", "self.alert_p", "wrong means|cause: sources"),
    (TripSpec, "~(self.stop_a & ~self.stop_b)", "~self.stop_a", "wrong means|cause stop"),
    (TripSpec, "(self.key == first) & self.was_read & good", "(self.key == first) & good", "link"),
    (TripSpec, "(self.key == second) & in_time & good", "(self.key == second) & good", "link"),
    (TripSpec, "first, second = REARM_KEYS", "second, first = REARM_KEYS", "link"),
    (TripSpec, "LIVE.value) & good),", "LIVE.value)),", "low"),
    (TripSpec, "self.discrepant | (equal", "(equal", "discrepancy|wrong"),
    (TripSpec, "differs & (count == most)", "0", "wrong|feedback"),
    (TripSpec, "self.position >= period - cycles", "self.position >= half", "drive_b|once"),
    (AnyState, "self.was_read.eq(0),\n                self.sources", "self.sources", "read again"),
    (AnyState, "m.d.comb += [illegal.eq(1), tripped.eq(1)]", "pass", "SAFE"),
    (AnyState, "[illegal.eq(1), tripped.eq(1)]", "tripped.eq(1)", "cause"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "old", "new", "found"), first_is_fast(BUGS))
def test_planted_bugs_are_found(tmp_path, spec, old, new, found):
    mode = {"depth": 2, "mode": "settle"} if spec is AnyState else {"depth": 1}
    with pytest.raises(ProofError, match=found):
        prove(spec(mutant(TripMachine, old, new)(sources=2, **REAL)), workdir=tmp_path, **mode)
