"""The watchdog trips exactly when its model says so, for all settings, at its real width."""

import pytest
from amaranth import *
from amaranth.hdl import Assert, Assume, Cover

from jepa_r.safety.watchdog import Watchdog
from jepa_r_sim.formal import ProofError, mutant, prove

from .specs import Spec, first_is_fast, follow_faults, follow_settings

POWERS = (32, 22, 2, 1)


class WatchdogSpec(Spec):
    """Model with an age of its own, and the shift register bit by bit."""

    def specify(self, m, dut):
        width = len(dut.count)
        fields = {"open": width, "deadline": width, "path": 32}
        settings, running = follow_settings(m, dut, fields, lock=dut.start)

        age, challenge, last = Signal(width), Signal(32, init=dut.SEED), Signal(32)
        following = Cat(
            (challenge[n] if n < 32 else 0) ^ (challenge[0] if n in POWERS else 0)
            for n in range(1, 33)
        )
        due = Signal(32)
        m.d.comb += due.eq(following ^ settings["path"])
        kick = running & dut.kick
        accepted = Signal()
        m.d.comb += accepted.eq(kick & (age >= settings["open"]) & (due == dut.token))
        with m.If(accepted):
            m.d.sync += [age.eq(0), challenge.eq(following), last.eq(dut.token)]
        with m.Elif(running & (age != settings["deadline"])):
            m.d.sync += age.eq(age + 1)
        m.d.comb += [
            Assert(dut.running == running, "it runs from the start on"),
            Assert(dut.count == age, "link: count"),
            Assert(dut.challenge == challenge, "link: challenge"),
            Assert(dut.last == last, "link: last"),
            Assert(~running | (age <= settings["deadline"]), "the count stops at the deadline"),
            Assert(running | (age == 0), "link: it counts from the start"),
        ]
        follow_faults(
            m,
            dut,
            {
                "early": kick & (age < settings["open"]),
                "late": running & ~dut.kick & (age == settings["deadline"]),
                "wrong": kick & (dut.token != due) & (dut.token != last),
                "replayed": kick & (dut.token != due) & (dut.token == last),
                "misuse": running & (dut.start | dut.w_en.any()),
                "settings": 0,
            },
        )


class WatchdogCovers(WatchdogSpec):
    """Things that do happen."""

    def specify(self, m, dut):
        super().specify(m, dut)
        accepted = Signal(2)
        with m.If(dut.running & (dut.challenge != dut.SEED) & (dut.count == 0) & (accepted < 2)):
            m.d.sync += accepted.eq(accepted + 1)
        quiet = dut.running & ~dut.faults.as_value().any()
        m.d.comb += [
            Assume(~ResetSignal()),
            Cover(quiet & (accepted == 2) & (dut.open == 2), "two tokens in their windows"),
            Cover(dut.first.early & (dut.faults.as_value().as_unsigned() == 1), "early alone"),
            Cover(dut.first.late & (dut.deadline == 3), "late alone"),
            Cover(dut.first.wrong, "wrong"),
            Cover(dut.first.replayed, "replayed"),
            Cover(dut.first.misuse, "misuse"),
        ]


def test_it_trips_when_the_model_says_so_and_only_then(tmp_path):
    proof = prove(WatchdogSpec(Watchdog()), depth=1, workdir=tmp_path)
    assert len(proof.properties) >= 25


@pytest.mark.slow
def test_everything_the_model_tells_apart_does_happen(tmp_path):
    prove(WatchdogCovers(Watchdog()), depth=14, workdir=tmp_path, mode="cover")


BUGS = [
    ("self.count >= self.deadline)", "self.count > self.deadline)", "late"),
    ("self.count < self.open)", "self.count <= self.open)", "early"),
    ("0x80200003", "0x80200002", "challenge|replayed|wrong"),
    ("self.last.eq(self.token), ", "", "last"),
    ("(self.running & self.start) | ", "", "misuse"),
    ("settings.lock.eq(self.start)", "settings.lock.eq(0)", "lock"),
    ("(self.count >= self.open) & ", "", "count"),
    ("& (self.count < self.deadline)", "", "count"),
]


@pytest.mark.parametrize(("old", "new", "found"), first_is_fast(BUGS))
def test_planted_bugs_are_found(tmp_path, old, new, found):
    with pytest.raises(ProofError, match=found):
        prove(WatchdogSpec(mutant(Watchdog, old, new)()), depth=1, workdir=tmp_path)
