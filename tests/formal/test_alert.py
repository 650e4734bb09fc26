"""Every alert is heard and leads to what its class says; every wire is tested in each round."""

import pytest
from amaranth import *
from amaranth.hdl import Assert, Assume, Cover

from jepa_r.safety.alert import AlertUnit
from jepa_r_sim.formal import ProofError, mutant, prove

from .specs import Spec, follow_settings, past

#: 10 ms at 100 MHz, for eight checkers.
REAL = {"inputs": 8, "round_cycles": 1_000_000}
SHORT = {"inputs": 2, "round_cycles": 32}


def outlives_reset(m, value):
    """Value of the cycle before, whether there was a reset or not."""
    held = Signal.like(Value.cast(value), reset_less=True, name="held")
    m.d.sync += held.eq(value)
    return held


class AlertSpec(Spec):
    """What each input says, by cases; and one counter for the whole round."""

    def specify(self, m, dut):
        count, turn = len(dut.p), dut.turn_cycles
        settings, locked = follow_settings(m, dut, dut.fields, lock=dut.lock)

        place = Signal(range(count * turn))
        with m.If(place == count * turn - 1):
            m.d.sync += place.eq(0)
        with m.Else():
            m.d.sync += place.eq(place + 1)
        m.d.comb += [
            Assert(dut.turn * turn + dut.position == place, "link: place"),
            Assert((dut.turn < count) & (dut.position < turn), "link: turn"),
            Assert(place < count * turn, "link: round"),
        ]
        beat = Signal()
        with m.If(Cat(place == n * turn - 1 for n in range(1, count + 1)).any()):
            m.d.sync += beat.eq(~beat)
        m.d.comb += Assert(dut.heartbeat == beat, "the heartbeat changes with each turn")

        trips, falls, logs, broken = [], [], [], []
        for n in range(count):
            pinged = past(m, (place >= n * turn) & (place < n * turn + dut.PING))
            expected = past(m, pinged)
            m.d.comb += [
                Assert(dut.ping[n] == pinged, f"input {n} is pinged once a round"),
                Assert(dut.expected[n] == expected, f"link: expected {n}"),
            ]
            wires = Cat(dut.p[n], dut.n[n])
            equal = (wires == 0b00) | (wires == 0b11)
            alert = wires != Mux(expected, 0b01, 0b10)
            kind = settings["classes"].word_select(n, 2)
            trips.append(equal | (alert & (kind != 1) & (kind != 2)))
            falls.append(alert & (kind == 1))
            logs.append(kind == 2)
            broken.append(equal)
            heard, was_equal, seen = Signal(), Signal(), Signal()
            m.d.sync += [heard.eq(heard | alert), was_equal.eq(was_equal | equal)]
            m.d.sync += seen.eq(seen | (dut.acknowledge[n] & heard & (kind == 2)))
            m.d.comb += [
                Assert(dut.alerts[n] == heard, f"alert {n} is heard, and kept"),
                Assert(dut.broken[n] == was_equal, f"broken {n} is found, and kept"),
                Assert(dut.acknowledged[n] == seen, f"link: acknowledged {n}"),
            ]
            logs[-1] = heard & (kind == 2) & ~seen

        def timer(runs, most, time):
            since = Signal(32)
            with m.If(~runs):
                m.d.sync += since.eq(0)
            with m.Elif(since < most):
                m.d.sync += since.eq(since + 1)
            m.d.comb += Assert(time == since, f"link: {time.name}")
            return runs & (since >= most)

        fallback, trip = Signal(), Signal()
        log_late = timer(Cat(logs).any(), settings["log_cycles"], dut.log_time)
        fall_late = timer(fallback, settings["fallback_cycles"], dut.fallback_time)
        written = locked & dut.w_en.any()
        with m.If(Cat(falls).any() | log_late):
            m.d.sync += fallback.eq(1)
        with m.If(Cat(trips).any() | fall_late | written):
            m.d.sync += trip.eq(1)
        m.d.comb += [
            Assert((dut.fallback_p == fallback) & (dut.fallback_n == ~fallback), "fallback"),
            Assert((dut.trip_p == trip) & (dut.trip_n == ~trip), "trip"),
        ]

        alert_now = Cat(
            (Cat(dut.p[n], dut.n[n]) != Mux(dut.expected[n], 0b01, 0b10)) | (log_late & logs[n])
            for n in range(count)
        )
        matters = Cat(trips, falls).any() | log_late | written
        reasons = Mux(matters, Cat(alert_now, Cat(broken), written), 0)
        cause = dut.cause.as_value()
        before = outlives_reset(m, cause)
        had = outlives_reset(m, Cat(reasons, dut.power_on, dut.clear & dut.was_read))
        was, cleared = had[:-2], had[-2:].any()
        # The first cycle has no cycle before it.
        later = outlives_reset(m, Const(1))
        m.d.comb += [
            Assert(
                ~later | ~cleared | (cause == 0), "power and the clear after a reading empty it"
            ),
            Assert(~later | cleared | ~before.any() | (cause == before), "the cause is frozen"),
            Assert(
                ~later | cleared | before.any() | (cause == was), "the cause is that of its cycle"
            ),
        ]


class AlertCovers(AlertSpec):
    """Things that do happen."""

    def specify(self, m, dut):
        super().specify(m, dut)
        m.d.comb += [
            Assume(~ResetSignal()),
            Cover(~dut.alerts.any() & dut.ping[1], "a ping is answered"),
            Cover(dut.trip_p & ~dut.broken.any() & dut.fallback_p, "the fallback trips"),
            Cover((dut.acknowledged == 1) & ~dut.fallback_p, "acknowledged"),
            Cover(dut.was_read & (dut.cause.alerts == 2), "read"),
        ]


def test_every_alert_leads_to_what_its_class_says(tmp_path):
    prove(AlertSpec(AlertUnit(**REAL)), depth=1, workdir=tmp_path)


@pytest.mark.slow
def test_everything_does_happen(tmp_path):
    prove(AlertCovers(AlertUnit(**SHORT)), depth=22, workdir=tmp_path, mode="cover")


BUGS = [
    ("| ~(self.n ^ self.expected)", "", "heard"),
    ("self.position < self.PING", "self.position < 0", "pinged"),
    ("self.expected.eq(self.ping)", "self.expected.eq(0)", "expected"),
    ("            | now.broken.any()\n", "", "trip"),
    ("now.alerts & ~(falls | logs)", "now.alerts & (falls & logs)", "trip"),
    ("self.acknowledge & self.alerts & logs", "self.acknowledge & logs", "acknowledged"),
    ("runs & (time >= most)", "runs & (time > most)", "fallback|trip|cause"),
    ("self.clear & was_read", "self.clear", "frozen"),
    ("~cause.as_value().any() & counts", "counts", "frozen"),
    ("now.alerts & ~logs", "now.alerts", "that of its cycle"),
    ('Mux(late["log"], waiting, 0)', "0", "that of its cycle"),
    ("shape(), reset_less=True)", "shape())", "frozen"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new", "found"), BUGS)
def test_planted_bugs_are_found(tmp_path, old, new, found):
    with pytest.raises(ProofError, match=found):
        prove(AlertSpec(mutant(AlertUnit, old, new)(**SHORT)), depth=1, workdir=tmp_path)
