"""The deadline monitor finds each fault exactly when its model says so, at its real width."""

import pytest
from amaranth import *
from amaranth.hdl import Assert, Assume, Cover

from jepa_r.safety.deadline import DeadlineMonitor
from jepa_r_sim.formal import ProofError, mutant, prove

from .specs import Spec, follow_faults, follow_settings, past


class DeadlineSpec(Spec):
    """Model with two clocks: one since the last good action, one since the deadline."""

    def specify(self, m, dut):
        width = len(dut.count)
        settings, running = follow_settings(m, dut, dut.fields, lock=dut.start)

        since, over, expected = Signal(width), Signal(width), Signal(32)
        missed, came, any_good = Signal(), Signal(), Signal()
        right = running & dut.action & dut.good & (dut.sequence == expected)
        fresh = dut.age <= settings["max_age"]
        early = right & ~missed & any_good & (since < settings["open"])
        accepted = right & fresh & ~early & ~missed
        late = running & ~missed & ~accepted & (since == settings["deadline"])
        never = missed & ~came & ~right & (over == settings["grace"])
        with m.If(~running):
            m.d.sync += expected.eq(settings["first_sequence"])
            with m.If(dut.w_en[4]):
                m.d.sync += expected.eq(dut.w_data)
        with m.Elif(accepted):
            m.d.sync += [since.eq(0), expected.eq(expected + 1), any_good.eq(1)]
        with m.Elif(~missed):
            m.d.sync += [missed.eq(late), since.eq(since + ~late)]
        with m.Elif(over != settings["grace"]):
            m.d.sync += over.eq(over + 1)
        with m.If(missed & right):
            m.d.sync += came.eq(1)
        m.d.comb += [
            Assert(dut.running == running, "it runs from the start on"),
            Assert(dut.expected == expected, "link: number"),
            Assert(dut.accepted == accepted, "an action is accepted when all of it is good"),
            Assert(dut.count == Mux(missed, over, since), "link: count"),
            Assert((dut.overdue == missed) & (dut.came == came), "link: overdue"),
            Assert(dut.accepted_before == any_good, "link: first"),
            Assert(running | ~(since.any() | any_good | missed | dut.passed.any()), "link: start"),
            Assert(since <= settings["deadline"], "the count stops at the deadline"),
            Assert(over <= settings["grace"], "and at the end of the grace"),
            Assert(missed | ~(over.any() | came), "link: grace"),
        ]
        follow_faults(
            m,
            dut,
            {
                "check": running & dut.action & ~dut.good,
                "sequence": running & dut.action & dut.good & (dut.sequence != expected),
                "early": early,
                "stale": right & ~fresh,
                "late": late,
                "never": never,
                "misuse": running & (dut.start | dut.w_en.any()),
                "settings": 0,
            },
        )


class DeadlineCovers(DeadlineSpec):
    """Things that do happen."""

    def specify(self, m, dut):
        super().specify(m, dut)
        m.d.comb += [
            Assume(~ResetSignal()),
            Cover((dut.passed == 2) & (dut.open == 2) & ~dut.alert_p, "two actions in their time"),
            Cover(dut.faults.never & (dut.grace == 1) & dut.first.late, "late, then never"),
            Cover(dut.came & (dut.first.as_value().as_unsigned() == 16), "late, then it came"),
        ]
        m.d.comb += [
            Cover(past(m, ~dut.first.as_value().any()) & dut.first[name], name)
            for name in ("check", "sequence", "early", "stale", "misuse")
        ]


@pytest.mark.slow
def test_it_finds_what_the_model_says_and_nothing_else(tmp_path):
    prove(DeadlineSpec(DeadlineMonitor()), depth=1, workdir=tmp_path)


@pytest.mark.slow
def test_everything_the_model_tells_apart_does_happen(tmp_path):
    prove(DeadlineCovers(DeadlineMonitor()), depth=14, workdir=tmp_path, mode="cover")


BUGS = [
    ("self.sequence == self.expected)", "self.sequence >= self.expected)", "accepted"),
    ("(self.count < self.open)", "(self.count <= self.open)", "early|accepted"),
    ("(self.age > self.max_age)", "(self.age >= self.max_age)", "stale|accepted"),
    ("due.eq(received & self.good &", "due.eq(received &", "accepted|overdue"),
    ("at_end & ~self.accepted)", "at_end & ~received)", "late"),
    ("at_end & ~self.came & ~due)", "at_end & ~self.came & ~received)", "never|cause"),
    ("Mux(self.overdue, self.grace, self.deadline)", "self.deadline", "never|count"),
    ("self.accepted_before & ", "", "early|accepted"),
    ("~raised.stale & ~self.overdue", "~raised.stale", "accepted|count|overdue"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new", "found"), BUGS)
def test_planted_bugs_are_found(tmp_path, old, new, found):
    with pytest.raises(ProofError, match=found):
        prove(DeadlineSpec(mutant(DeadlineMonitor, old, new)()), depth=1, workdir=tmp_path)
